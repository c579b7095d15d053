//! The objective of a run: where its micro-batches come from, what their tokens count, and how what
//! was learned is measured.

mod pretrain;

pub use pretrain::Pretrain;

use crate::error::TrainError;
use crate::stop::Stop;
use crate::trainer::Trainer;

/// An objective and its place in its data.
pub trait Objective {
    /// Accumulates the micro-batches of the next step.
    ///
    /// # Errors
    /// When the device fails, or a token is not of the vocabulary.
    fn accumulate(&mut self, trainer: &mut Trainer) -> Result<(), TrainError>;

    /// Returns the loss, in nats per token, over (at most) `batches` batches that are never trained
    /// on, always the same ones; `None` if the run is to end before it is measured.
    ///
    /// # Errors
    /// As [`Objective::accumulate`].
    fn validate(
        &self,
        trainer: &mut Trainer,
        batches: usize,
        stop: &Stop,
    ) -> Result<Option<f64>, TrainError>;

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
