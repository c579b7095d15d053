//! The events of a run: one stream that the log, the progress bar and every other
//! reader share. Fields may be added, never renamed.

use crate::config::{Intervals, RunConfig};
use crate::evaluate::{ChatTaskScore, TaskScore};
use crate::objective::Pass;
use crate::stop::Reason;
use ane::PowerSample;
use serde::{Deserialize, Deserializer, Serialize};
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
        /// The implementation of the products that stay on the CPU: `ours` or a library's name.
        #[serde(default)]
        host_gemm: String,
        /// Why; empty where there was nothing to choose from.
        #[serde(default)]
        host_gemm_reason: String,
        /// The settings of the run beyond the fields above.
        #[serde(flatten)]
        settings: Box<Settings>,
    },
    /// One optimizer update.
    Step {
        /// Updates so far.
        step: u64,
        /// Mean loss of the batch, in nats per token; null if it is not finite.
        #[serde(deserialize_with = "or_nan")]
        loss: f64,
        /// Learning rate.
        lr: f64,
        /// Tokens so far.
        tokens: u64,
        /// Wall time of the step, without waiting for a checkpoint to be written.
        ms: f64,
        /// Global norm of the gradients before clipping; null if it is not finite.
        #[serde(deserialize_with = "or_nan")]
        grad_norm: f64,
        /// Loss scale used.
        loss_scale: f32,
        /// True if the update was left out because a gradient overflowed.
        skipped: bool,
        /// Milliseconds by part.
        parts: BTreeMap<String, f64>,
    },
    /// Questions were answered, to learn from (reinforcement learning).
    Round {
        /// Rounds so far.
        round: u64,
        /// Questions.
        questions: usize,
        /// Answers to each.
        samples: usize,
        /// Mean reward of an answer.
        reward: f64,
        /// Mean tokens of an answer.
        answer_tokens: f64,
        /// Share of the answers that the model ended; the others were cut off.
        ended: f64,
        /// Share of the questions whose answers were all judged alike: nothing is learned from them.
        skipped: f64,
        /// Wall time.
        ms: f64,
    },
    /// The validation loss was measured.
    Eval {
        /// Updates so far.
        step: u64,
        /// Mean loss in nats per token, or the share of wrong answers (reinforcement learning); null if it is not
        /// finite.
        #[serde(deserialize_with = "or_nan")]
        val_loss: f64,
        /// Bits per byte of the tokens that stand for bytes, where there are such tokens.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bits_per_byte: Option<f64>,
        /// How many held-out questions were answered rightly (reinforcement learning).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pass: Option<Pass>,
        /// Wall time of the measurement.
        #[serde(default)]
        ms: f64,
    },
    /// CORE was measured.
    Core {
        /// Updates so far.
        step: u64,
        /// The mean of the tasks' centred accuracies.
        core: f64,
        /// The tasks.
        tasks: Vec<TaskScore>,
        /// Wall time of what was asked in this session.
        #[serde(default)]
        ms: f64,
    },
    /// Tasks of conversations were asked.
    Tasks {
        /// Updates so far.
        step: u64,
        /// The mean of the tasks' centred accuracies.
        mean: f64,
        /// ChatCORE, where all of its tasks were asked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        chatcore: Option<f64>,
        /// The tasks.
        tasks: Vec<ChatTaskScore>,
        /// Wall time of what was asked in this session.
        #[serde(default)]
        ms: f64,
    },
    /// A text was sampled.
    Sample {
        /// Updates so far.
        step: u64,
        /// The text, prompt included; of several questions, each with its answer.
        text: String,
        /// Wall time of sampling.
        #[serde(default)]
        ms: f64,
    },
    /// A checkpoint was written.
    Checkpoint {
        /// Updates so far.
        step: u64,
        /// Its directory.
        path: PathBuf,
        /// Wall time of writing it, most of which the next step hides.
        ms: f64,
        /// True if its validation loss is the lowest of all checkpoints so far.
        #[serde(default)]
        best: bool,
    },
    /// The power that the machine drew since the last reading, where the system tells.
    Power {
        /// Updates so far.
        step: u64,
        /// The source of the reading.
        source: String,
        /// Mean power by part of the chip, of the whole machine.
        #[serde(flatten)]
        sample: PowerSample,
        /// Joules of all parts together per token trained on since the last reading.
        #[serde(skip_serializing_if = "Option::is_none")]
        joules_per_token: Option<f64>,
    },
    /// What the process took of the machine since the last reading, where the system tells.
    Usage {
        /// Updates so far.
        step: u64,
        /// CPU cores that it kept busy on average.
        cores: f64,
        /// The memory that it holds, in MiB.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        memory_mib: Option<f64>,
    },
    /// The ranges of the engine's products in the first micro-batch of a step.
    Ranges {
        /// Updates so far.
        step: u64,
        /// For each product of each program, the worst of all layers.
        products: Vec<Range>,
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
        /// Last validation loss in nats per token; null if none was measured or it is not finite.
        val_loss: Option<f64>,
        /// Mean wall time of this session's steps.
        ms_per_step: f64,
        /// Tokens per second of this session's steps.
        tokens_per_s: f64,
        /// Why it is over.
        #[serde(default)]
        reason: Reason,
        /// The newest checkpoint of this session, if there is one.
        #[serde(default)]
        checkpoint: Option<PathBuf>,
        /// The state with the lowest validation loss, if one was measured: a checkpoint, or what the run began with (step
        /// 0).
        #[serde(default)]
        best: Option<Best>,
        /// Validation loss before the first step of this session, if it was measured.
        #[serde(default)]
        first_val_loss: Option<f64>,
        /// Wall time of this session by activity.
        #[serde(default)]
        spent: Spent,
        /// The most memory that the process has held, in MiB, where that is known.
        #[serde(default)]
        peak_memory_mib: Option<f64>,
    },
}

/// The range of a product of matrices on the engine, whose sums are infinite from 2^15 on and whose products of two
/// elements vanish below 2^-16 (docs/ane-facts.md E.1, E.2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Range {
    /// Program and result: `fwdAttn/q`.
    pub tensor: String,
    /// Names of the operands.
    pub operands: [String; 2],
    /// Largest magnitude of the result in any layer, computed in f32; null if it is not finite.
    #[serde(deserialize_with = "or_nan")]
    pub largest: f64,
    /// The layer that has it.
    pub layer: usize,
    /// Powers of two from there to 2^15; negative beyond it, absent where the result is 0 or not finite.
    pub headroom: Option<f64>,
    /// Largest magnitudes of the operands in any layer.
    #[serde(deserialize_with = "both_or_nan")]
    pub largest_operands: [f64; 2],
    /// Share of the products of two elements that the engine takes for 0, in the layer where it is largest; estimated
    /// on a sample.
    pub lost: f64,
    /// That layer.
    pub lost_layer: usize,
}

impl Range {
    /// Powers of two from a magnitude to 2^15.
    pub fn headroom_of(largest: f64) -> Option<f64> {
        (largest > 0.0 && largest.is_finite()).then(|| 15.0 - largest.log2())
    }

    /// The products that limit a run: the one that is closest to 2^15, and the one that loses the largest share, if
    /// any loses a hundredth.
    pub fn limits(products: &[Range]) -> (Option<&Range>, Option<&Range>) {
        let near = products.iter().filter(|range| range.largest != 0.0);
        let near = near.min_by(|a, b| {
            let left = |range: &Range| range.headroom.unwrap_or(f64::NEG_INFINITY);
            left(a).total_cmp(&left(b))
        });
        let losing = products.iter().filter(|range| range.lost >= 0.01);
        (near, losing.max_by(|a, b| a.lost.total_cmp(&b.lost)))
    }
}

fn both_or_nan<'de, D: Deserializer<'de>>(value: D) -> Result<[f64; 2], D::Error> {
    Ok(<[Option<f64>; 2]>::deserialize(value)?.map(|number| number.unwrap_or(f64::NAN)))
}

/// JSON has no number for what is not finite: null is read as NaN.
pub(crate) fn or_nan<'de, D: Deserializer<'de>>(value: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(value)?.unwrap_or(f64::NAN))
}

/// Settings of a run and where it reads and writes. A start event holds these fields beside its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// The command that makes and resumes the run; empty in logs from before there was a choice (see
    /// [`Settings::command`]).
    pub command: String,
    /// Version of the program.
    pub version: String,
    /// Directory of checkpoints and logs.
    pub out: PathBuf,
    /// Where the text or tokens come from.
    pub data: String,
    /// Where those of the validation part come from, if not from `data`.
    pub val_data: Option<String>,
    /// The tokenizer in words.
    pub tokenizer: String,
    /// Arithmetic of the device.
    pub numerics: String,
    /// The prompt of samples, or a question of the run; absent where there is none.
    pub prompt: Option<String>,
    /// Existing weights that the run began with.
    pub init: Option<PathBuf>,
    /// The checkpoint that the run goes on from.
    pub resumed: Option<PathBuf>,
    /// How often the training part is seen in the whole run.
    pub epochs: f64,
    /// Why this peak learning rate.
    pub lr_reason: String,
    /// The kind of device: `engine`, `emulator` or `cpu`.
    pub backend: String,
    /// The training text or tokens in words.
    pub text: String,
    /// The cost model's forecast of a step, where it knows the chip.
    pub forecast: Option<Forecast>,
    /// Everything that decides what is computed.
    pub run: Option<RunConfig>,
    /// The actions between steps, and how often they happen.
    pub intervals: Option<Intervals>,
}

impl Settings {
    /// Returns the command that makes and resumes the run: `train` where the log is from before there was a choice.
    pub fn command(&self) -> &str {
        if self.command.is_empty() { "train" } else { &self.command }
    }
}

/// Forecast of a step. Not confirmed on hardware.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Forecast {
    /// For which chip.
    pub chip: String,
    /// Milliseconds of a step.
    pub ms: f64,
    /// Lower end of the error bar.
    pub low_ms: f64,
    /// Upper end.
    pub high_ms: f64,
    /// Milliseconds by part, with the names of a step event's.
    pub parts: BTreeMap<String, f64>,
}

/// A state of a run and its validation loss: a checkpoint, or what the run began with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// Updates so far.
    pub step: u64,
    /// Mean loss in nats per token.
    pub val_loss: f64,
    /// Batches over which it was measured: over others it would not compare.
    pub batches: usize,
}

/// Wall time by activity, in seconds; the parts add up to `total_s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spent {
    /// From the start of the program to the run: reading, tokenizing, opening the device.
    pub setup_s: f64,
    /// Compiling programs.
    pub compile_s: f64,
    /// Steps.
    pub steps_s: f64,
    /// Measuring the validation loss.
    pub validation_s: f64,
    /// Sampling texts.
    pub samples_s: f64,
    /// Measuring CORE.
    pub core_s: f64,
    /// Asking tasks of conversations.
    pub tasks_s: f64,
    /// Waiting for checkpoints: what is written while steps run is not counted.
    pub checkpoints_s: f64,
    /// Everything else, such as the log.
    pub other_s: f64,
    /// From the start of the program to the end of the run.
    pub total_s: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skipped_step_is_read_back() {
        let step = Event::Step {
            step: 3,
            loss: f64::NAN,
            lr: 1e-3,
            tokens: 96,
            ms: 1.5,
            grad_norm: f64::INFINITY,
            loss_scale: 4096.0,
            skipped: true,
            parts: BTreeMap::new(),
        };
        let text = serde_json::to_string(&step).unwrap();
        let read: Event = serde_json::from_str(&text).unwrap();
        let Event::Step { step: 3, loss, grad_norm, skipped: true, .. } = read else {
            panic!("{read:?}");
        };
        assert!(loss.is_nan() && grad_norm.is_nan());
        let eval = r#"{"event": "eval", "step": 3, "val_loss": null}"#;
        let read: Event = serde_json::from_str(eval).unwrap();
        assert!(matches!(read, Event::Eval { val_loss, .. } if val_loss.is_nan()));
        assert!(serde_json::from_str::<Event>(r#"{"event": "eval", "step": 3}"#).is_err());
    }
}
