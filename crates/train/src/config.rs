//! Settings: what a run computes, and what happens between its steps.

use crate::optim::{OptimizerConfig, named_or_adamw};
use crate::scaling::Dial;
use crate::schedule::LrSchedule;
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
    #[serde(deserialize_with = "named_or_adamw")]
    pub optimizer: OptimizerConfig,
    /// Learning rate and number of steps.
    pub schedule: LrSchedule,
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
    /// The depth that the numbers follow from, where they follow from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dial: Option<Dial>,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::AdamW;

    /// The settings of a run as checkpoints held them before there was a choice of optimizers, schedules
    /// and families.
    const BEFORE: &str = r#"{"model": {"n_layer": 2, "n_head": 2, "n_kv_head": 2, "n_embd": 32,
        "head_dim": 16, "hidden": 96, "vocab_size": 300, "seq_len": 32, "rope_theta": 10000.0,
        "norm_eps": 0.00001, "tied": true, "qk_norm": false},
        "optimizer": {"beta1": 0.8, "beta2": 0.95, "epsilon": 1e-8, "weight_decay": 0.2},
        "schedule": {"peak": 0.003, "floor": 0.1, "warmup": 1, "total": 30},
        "batch": 4, "accum": 1, "seq": 32, "clip": 1.0, "seed": 42}"#;

    #[test]
    fn runs_from_before_optimizers_had_names_have_adamw() {
        let run: RunConfig = serde_json::from_str(BEFORE).unwrap();
        let adamw = AdamW { beta1: 0.8, weight_decay: 0.2, ..AdamW::default() };
        assert_eq!(run.optimizer, OptimizerConfig::AdamW(adamw));
        assert_eq!((run.seed, run.schedule), (42, LrSchedule::cosine(3e-3, 0.1, 1, 30)));
        let text = serde_json::to_string(&run).unwrap();
        assert!(text.contains(r#""optimizer":{"name":"adamw","beta1":0.8,"#), "{text}");
        assert_eq!(serde_json::from_str::<RunConfig>(&text).unwrap(), run);
        // As a checkpoint's state is read.
        let value = serde_json::from_str::<serde_json::Value>(BEFORE).unwrap();
        assert_eq!(serde_json::from_value::<RunConfig>(value).unwrap(), run);
    }

    #[test]
    fn optimizers_and_settings_that_are_not_known_are_refused_by_name() {
        for (entry, says) in [
            (
                r#""name": "sgd", "beta1""#,
                "unknown variant `sgd`, expected one of `adamw`, `muon`, `lora`",
            ),
            (r#""momentum": 0.9, "beta1""#, "unknown field `momentum`"),
        ] {
            let text = BEFORE.replace("\"beta1\"", entry);
            let error = serde_json::from_str::<RunConfig>(&text).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
