//! Why a run ends early.

use crate::checkpoint::CheckpointError;
use crate::evaluate::{ChatError, CoreError, JournalError};
use crate::ranks::RanksError;
use gpt::ModelError;
use infer::InferError;
use std::path::PathBuf;

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum TrainError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Device(#[from] ane::AneError),
    #[error(transparent)]
    Data(#[from] data::Error),
    #[error(transparent)]
    Task(#[from] tasks::TaskError),
    #[error(
        "a question of {tokens} tokens leaves no room for an answer in sequences of {seq}: give a longer --seq"
    )]
    Question { tokens: usize, seq: usize },
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Sample(#[from] InferError),
    #[error(transparent)]
    Ranks(#[from] RanksError),
    #[error(transparent)]
    Core(#[from] CoreError),
    #[error(transparent)]
    Chat(#[from] ChatError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("{path}: the state is not one of a training run: {reason}")]
    State { path: PathBuf, reason: String },
    #[error(
        "the gradients of {0} steps in a row were not finite: the run has diverged; use a lower --lr, \
         from an earlier checkpoint or from the start"
    )]
    Diverged(u32),
    #[error(
        "the validation loss after step {step} is {val_loss}: the run has diverged and this state is \
         not kept; use a lower --lr, from an earlier checkpoint or from the start"
    )]
    NotFinite { step: u64, val_loss: f64 },
    #[error("a sequence of {seq} tokens is longer than the model reads ({limit})")]
    Sequence { seq: usize, limit: usize },
}
