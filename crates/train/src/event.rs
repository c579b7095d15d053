//! What happens in a run, as one stream of events that the log, the progress bar and every other
//! reader share. Fields may be added, never renamed.

use ane::PowerSample;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The run begins (or goes on).
    Start {
        /// Which machine computes.
        device: String,
        /// Why this one.
        reason: String,
        /// The model in words.
        model: String,
        /// Number of parameters.
        params: usize,
        /// Tokens of one step.
        tokens_per_step: usize,
        /// Tokens in the training part.
        train_tokens: usize,
        /// Tokens in the validation part.
        val_tokens: usize,
        /// Loss of the best predictor that ignores context, on the validation part, in nats.
        unigram_entropy: f64,
        /// First step to come (0 unless resumed).
        step: u64,
        /// Steps of the whole run.
        steps: u64,
        /// Programs compiled, and the seconds it took.
        programs: usize,
        /// Seconds.
        compile_s: f64,
        /// What computes the products that stay on the CPU: `ours` or a library's name.
        #[serde(default)]
        host_gemm: String,
        /// Why; empty where there was nothing to choose from.
        #[serde(default)]
        host_gemm_reason: String,
    },
    /// One optimizer update.
    Step {
        /// Updates so far.
        step: u64,
        /// Mean loss of the batch, in nats per token.
        loss: f64,
        /// Learning rate.
        lr: f64,
        /// Tokens so far.
        tokens: u64,
        /// Wall time of the step.
        ms: f64,
        /// Global norm of the gradients before clipping.
        grad_norm: f64,
        /// Loss scale used.
        loss_scale: f32,
        /// Whether the update was left out because a gradient overflowed.
        skipped: bool,
        /// Milliseconds by part.
        parts: BTreeMap<String, f64>,
    },
    /// The validation loss was measured.
    Eval {
        /// Updates so far.
        step: u64,
        /// Mean loss in nats per token.
        val_loss: f64,
    },
    /// A text was sampled.
    Sample {
        /// Updates so far.
        step: u64,
        /// The text, prompt included.
        text: String,
    },
    /// A checkpoint was written.
    Checkpoint {
        /// Updates so far.
        step: u64,
        /// Its directory.
        path: PathBuf,
        /// Wall time of writing it.
        ms: f64,
    },
    /// What the machine drew since the last reading was read, where the system tells.
    Power {
        /// Updates so far.
        step: u64,
        /// What told.
        source: String,
        /// Mean power by part of the chip, of the whole machine.
        #[serde(flatten)]
        sample: PowerSample,
        /// Joules of all parts together per token trained on since the last reading.
        #[serde(skip_serializing_if = "Option::is_none")]
        joules_per_token: Option<f64>,
    },
    /// Something that a person should know.
    Warning {
        /// In words.
        message: String,
    },
    /// The run is over.
    Done {
        /// Updates of the whole run.
        steps: u64,
        /// Last validation loss in nats per token.
        val_loss: f64,
        /// Mean wall time of this session's steps.
        ms_per_step: f64,
        /// Tokens per second of this session's steps.
        tokens_per_s: f64,
    },
}
