//! The objective of a run: where its micro-batches come from, what their tokens count, and how what
//! was learned is measured.

mod pretrain;
pub mod rl;
mod sft;

pub use pretrain::Pretrain;
pub use rl::Rl;
pub use sft::{Chats, Sft};

use crate::error::TrainError;
use crate::event::Event;
use crate::stop::Stop;
use crate::trainer::Trainer;
use serde::{Deserialize, Serialize};

/// The loss on data that a model was not trained on.
#[derive(Clone, Debug, PartialEq)]
pub struct Validation {
    /// Nats per token; in reinforcement learning, the share of answers that are wrong.
    pub loss: f64,
    /// Of the tokens that stand for bytes, where these are known.
    pub bits_per_byte: Option<f64>,
    /// How many questions were answered rightly, in reinforcement learning.
    pub pass: Option<Pass>,
}

/// How many questions a model answers rightly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pass {
    /// Questions.
    pub questions: usize,
    /// Answers to each.
    pub samples: usize,
    /// The probability that one of k answers is right, for k from 1 to `samples` ([`rl::pass_at`]).
    pub at: Vec<f64>,
}

/// An objective and its place in its data.
pub trait Objective {
    /// Accumulates the micro-batches of the next step. Where it accumulates none, the step has nothing to
    /// learn and makes no update.
    ///
    /// # Errors
    /// When the device fails, or a token is not of the vocabulary.
    fn accumulate(&mut self, trainer: &mut Trainer) -> Result<(), TrainError>;

    /// Returns the loss over (at most) `batches` batches that are never trained on, always the same ones;
    /// `None` if the run is to end before it is measured. `token_bytes` has the bytes that each token
    /// stands for, where that is known.
    ///
    /// # Errors
    /// As [`Objective::accumulate`].
    fn validate(
        &mut self,
        trainer: &mut Trainer,
        batches: usize,
        token_bytes: Option<&[u32]>,
        stop: &Stop,
    ) -> Result<Option<Validation>, TrainError>;

    /// Returns the place in the data, as a checkpoint stores it.
    fn place(&self) -> serde_json::Value;

    /// Goes on from a place that [`Objective::place`] returned.
    ///
    /// # Errors
    /// When it is a place in other data, or none of this objective.
    fn resume(&mut self, place: &serde_json::Value) -> Result<(), ResumeError>;

    /// Returns the seconds that [`Objective::accumulate`] has waited for data since this was last asked.
    fn take_waited(&mut self) -> f64 {
        0.0
    }

    /// True if the loss of a step is in nats per token, so that it compares with that of the validation part.
    fn has_nats(&self) -> bool {
        true
    }

    /// Returns what [`Objective::accumulate`] has to tell since this was last asked.
    fn take_events(&mut self) -> Vec<Event> {
        vec![]
    }
}

/// Why an objective cannot go on from a place.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// It is none of this objective.
    #[error("not a place in this run's data: {0}")]
    Place(#[from] serde_json::Error),
    /// It is in other data.
    #[error(transparent)]
    Data(#[from] data::Error),
}
