//! Settings: what a run computes, and what happens between its steps.

use crate::optim::AdamW;
use crate::schedule::Schedule;
use gpt::GptConfig;
use gpt::plan::{BASELINE, Plan};
use serde::{Deserialize, Serialize};

/// Everything that decides what a run computes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Shape of the model.
    pub model: GptConfig,
    /// The optimizer.
    pub optimizer: AdamW,
    /// Learning rate and number of steps.
    pub schedule: Schedule,
    /// Sequences of a micro-batch.
    pub batch: usize,
    /// Micro-batches of a step.
    pub accum: usize,
    /// Tokens of a sequence.
    pub seq: usize,
    /// Largest global norm of the gradients; larger ones are scaled down. 0 switches it off.
    pub clip: f64,
    /// Seed of the initial weights and of the order of the data.
    pub seed: u64,
    /// How the model is cut into programs; runs from before there was a choice had the baseline.
    #[serde(default = "baseline")]
    pub plan: &'static Plan,
}

fn baseline() -> &'static Plan {
    &BASELINE
}

impl RunConfig {
    /// Tokens of one step.
    pub fn tokens_per_step(&self) -> usize {
        self.batch * self.accum * self.seq
    }
}

/// How often something happens; 0 never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intervals {
    /// Steps between measurements of the validation loss (it is also measured before the first step
    /// and at the end).
    pub eval: u64,
    /// Batches of one measurement; with 0 nothing is ever measured.
    pub eval_batches: usize,
    /// Steps between samples.
    pub sample: u64,
    /// Tokens of a sample.
    pub sample_tokens: usize,
    /// Steps between checkpoints (one is always written at the end).
    pub checkpoint: u64,
    /// Checkpoints kept, besides the best.
    pub keep: usize,
}
