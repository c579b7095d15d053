//! The flags of `anegpt train`.

use crate::host_gemm::HostGemmChoice;
use crate::machine::{DeviceChoice, NumericsChoice};
use clap::ValueEnum;
use std::path::PathBuf;

/// Train a GPT.
///
/// Without arguments: learns to tell small stories from built-in data, in a few minutes, on the
/// best device there is. Every run writes checkpoints and can be resumed to the bit; Ctrl-C, SIGTERM
/// (kill, launchd, systemd) and a terminal that is closed make it write one more and end, a second
/// request ends it at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anegpt train                                        a small model, built-in stories
  anegpt train --data shakespeare.txt --tokenizer char
  anegpt train --init stories15M.bin --tokenizer tokenizer.bin --data my-stories/
  anegpt train --config runs/shakespeare.toml         every number your own
  anegpt train --resume out/run-1 --steps 2000        go on, to 2000 steps in all")]
pub(crate) struct Args {
    /// Shape of the model [default: tiny].
    #[arg(long, value_name = "NAME", conflicts_with_all = ["resume", "init"])]
    pub(super) preset: Option<String>,
    /// TOML file with any of: preset, and the tables model and train.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["resume", "preset"])]
    pub(super) config: Option<PathBuf>,
    /// Go on with the newest checkpoint of a run.
    #[arg(long, value_name = "DIR", conflicts_with = "init")]
    pub(super) resume: Option<PathBuf>,
    /// Start from existing weights: a llama2.c .bin file or a model directory.
    #[arg(long, value_name = "PATH")]
    pub(super) init: Option<PathBuf>,
    /// synthetic, a text file, a directory of text, or token files (*.bin) [default: synthetic].
    #[arg(long)]
    pub(super) data: Option<String>,
    /// bpe, bpe:SIZE, char, or a tokenizer file [default: bpe:2048, or that of --init].
    #[arg(long)]
    pub(super) tokenizer: Option<String>,
    /// Where to compute [default: auto, or that of the resumed run].
    #[arg(long, value_enum)]
    pub(super) device: Option<DeviceChoice>,
    /// Chip whose rules the emulator keeps, m1 … m6 [default: m4, or that of the resumed run].
    #[arg(long)]
    pub(super) chip: Option<ane::Chip>,
    /// Arithmetic of the emulator [default: fast].
    #[arg(long, value_enum)]
    pub(super) numerics: Option<NumericsChoice>,
    /// How the model is cut into programs.
    #[arg(long, value_enum, default_value = "baseline")]
    pub(super) plan: PlanChoice,
    /// Steps of the whole run, resumed or not.
    #[arg(long)]
    pub(super) steps: Option<u64>,
    /// Largest learning rate.
    #[arg(long)]
    pub(super) lr: Option<f64>,
    /// Last learning rate [default: a tenth of the largest].
    #[arg(long)]
    pub(super) min_lr: Option<f64>,
    /// Steps over which the learning rate rises [default: a twentieth of the run].
    #[arg(long)]
    pub(super) warmup: Option<u64>,
    /// Sequences of a micro-batch.
    #[arg(long)]
    pub(super) batch: Option<usize>,
    /// Micro-batches of a step.
    #[arg(long)]
    pub(super) accum: Option<usize>,
    /// Tokens of a sequence.
    #[arg(long)]
    pub(super) seq: Option<usize>,
    /// Largest norm of the gradients; 0 for no limit.
    #[arg(long)]
    pub(super) clip: Option<f64>,
    /// Share of each weight removed per step and learning rate.
    #[arg(long)]
    pub(super) weight_decay: Option<f32>,
    /// Seed of weights, data order and samples.
    #[arg(long)]
    pub(super) seed: Option<u64>,
    /// Directory of checkpoints [default: the next free out/run-N].
    #[arg(long)]
    pub(super) out: Option<PathBuf>,
    /// Steps between checkpoints; 0 for one at the end [default: a quarter of the run].
    #[arg(long)]
    pub(super) checkpoint_every: Option<u64>,
    /// Checkpoints kept.
    #[arg(long, default_value_t = 3)]
    pub(super) keep: usize,
    /// Steps between validations; 0 for one at the end [default: a tenth of the run].
    #[arg(long)]
    pub(super) eval_every: Option<u64>,
    /// Steps between samples; 0 for none [default: a fifth of the run].
    #[arg(long)]
    pub(super) sample_every: Option<u64>,
    /// What samples begin with [default: Once upon a time].
    #[arg(long)]
    pub(super) prompt: Option<String>,
    /// Steps between questions to the device whose answers are known, besides one before the first step
    /// and one before each checkpoint; a wrong answer ends the run. 0 for none [default: 100 on an engine, 0 on the emulator].
    #[arg(long, value_name = "N", help_heading = "Advanced")]
    pub(super) doctor_every: Option<u64>,
    /// What computes the products that stay on the CPU [default: auto, or what the resumed run had].
    #[arg(long, value_enum, help_heading = "Advanced")]
    pub(super) host_gemm: Option<HostGemmChoice>,
    /// human, or json: one event per line on standard output and nothing else.
    #[arg(long, value_enum, default_value = "human")]
    pub(super) log_format: LogFormat,
    /// Show the parts of a step in step lines and in the forecast
    #[arg(short, long)]
    pub(super) verbose: bool,
    /// Make the device fail on purpose, to see how a run copes: flaky-compile:3,hang-after:100, …
    #[arg(
        long,
        value_name = "SPEC",
        help_heading = "Advanced",
        long_help = format!(
            "Make the device fail on purpose, to see how a run copes. Any of these, separated by \
             commas: {}",
            ane::faults::KNOWN
        )
    )]
    pub(super) inject_faults: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// Lines and a progress bar.
    Human,
    /// One JSON object per event.
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum PlanChoice {
    /// Six kernels per layer on the engine; weight gradients, norms' gradients and the head on the host.
    Baseline,
}
