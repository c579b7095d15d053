//! The flags of `anegpt train`.

use crate::engine::EngineArgs;
use crate::host_gemm::HostGemmChoice;
use crate::machine::{DeviceChoice, NumericsChoice};
use clap::ValueEnum;
use std::path::PathBuf;

/// Train a GPT
///
/// Without options, a small model learns to tell stories from built-in data, in a
/// few minutes, on the best device of this machine. Defaults below are those of
/// that run. --preset, --config and --init change steps, rate, batch and sequence
/// with the size of the model; a resumed run keeps its own.
///
/// Ctrl-C, SIGTERM and a closed terminal save a checkpoint and end the run; a
/// second request ends it at once. A resumed run computes the same bits as one
/// that was never interrupted.
#[derive(Debug, clap::Args)]
#[command(
    mut_arg("hardware_time", |arg| arg.hide(true)),
    after_help = "\
Examples:
  anegpt train                                   a small model, built-in stories
  anegpt train --data shakespeare.txt --tokenizer char
  anegpt train --init stories15M.bin --tokenizer tokenizer.bin --data my.txt
  anegpt train --config runs/shakespeare.toml    your own shape and settings
  anegpt train --resume out/run-1 --steps 2000   go on, to 2000 steps in all"
)]
pub(crate) struct Args {
    /// Model size: tiny, stories260k, stories15m, stories42m, stories110m,
    /// qwen3-0.6b [default: tiny]
    #[arg(long, value_name = "NAME", conflicts_with_all = ["resume", "init"], help_heading = "Model")]
    pub(super) preset: Option<String>,
    /// Configuration file (TOML): preset, and tables `[model]` and `[train]`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["resume", "preset"], help_heading = "Model")]
    pub(super) config: Option<PathBuf>,
    /// Resume from the newest checkpoint of a run, or from this one (DIR/best)
    #[arg(long, value_name = "DIR", conflicts_with = "init", help_heading = "Model")]
    pub(super) resume: Option<PathBuf>,
    /// Initial weights: a llama2.c .bin file or a model directory
    #[arg(long, value_name = "PATH", help_heading = "Model")]
    pub(super) init: Option<PathBuf>,
    /// Training data: synthetic, a text file, a directory of text, or token
    /// files (*.bin) [default: synthetic]
    #[arg(long, value_name = "PATH", help_heading = "Data")]
    pub(super) data: Option<String>,
    /// Validation data, as --data [default: the last tenth of --data]
    #[arg(long, value_name = "PATH", help_heading = "Data")]
    pub(super) val_data: Option<String>,
    /// Tokenizer: bpe, bpe:SIZE, char, or a file [default: bpe:2048, or the one of --init]
    #[arg(long, value_name = "SPEC", help_heading = "Data")]
    pub(super) tokenizer: Option<String>,
    /// Where to compute [default: auto, or the device of the resumed run]
    #[arg(long, value_enum, help_heading = "Device")]
    pub(super) device: Option<DeviceChoice>,
    /// Chip to emulate (list: anegpt devices) [default: m4, or the chip of the resumed run]
    #[arg(long, help_heading = "Device")]
    pub(super) chip: Option<ane::Chip>,
    /// Arithmetic of the emulator [default: fast]
    #[arg(long, value_enum, help_heading = "Device")]
    pub(super) numerics: Option<NumericsChoice>,
    /// Training steps, counted from the start of the run [default: 800]
    #[arg(long, value_name = "N", help_heading = "Optimizer")]
    pub(super) steps: Option<u64>,
    /// Peak learning rate [default: 4e-3; by width, a tenth of that with --init]
    #[arg(long, value_name = "RATE", help_heading = "Optimizer")]
    pub(super) lr: Option<f64>,
    /// Final learning rate [default: a tenth of the peak]
    #[arg(long, value_name = "RATE", help_heading = "Optimizer")]
    pub(super) min_lr: Option<f64>,
    /// Warm-up steps [default: a twentieth of the run, a tenth with --init]
    #[arg(long, value_name = "N", help_heading = "Optimizer")]
    pub(super) warmup: Option<u64>,
    /// Sequences per micro-batch [default: 4]
    #[arg(long, value_name = "N", help_heading = "Optimizer")]
    pub(super) batch: Option<usize>,
    /// Gradient accumulation: micro-batches per step [default: 1]
    #[arg(long, value_name = "N", help_heading = "Optimizer")]
    pub(super) accum: Option<usize>,
    /// Sequence length in tokens [default: 256]
    #[arg(long, value_name = "N", help_heading = "Data")]
    pub(super) seq: Option<usize>,
    /// Gradient clipping: maximum global norm; 0 = off [default: 1]
    #[arg(long, value_name = "NORM", help_heading = "Optimizer")]
    pub(super) clip: Option<f64>,
    /// AdamW weight decay [default: 0.1]
    #[arg(long, value_name = "DECAY", help_heading = "Optimizer")]
    pub(super) weight_decay: Option<f32>,
    /// Random seed of weights, data order and samples [default: 42]
    #[arg(long, value_name = "N", help_heading = "Optimizer")]
    pub(super) seed: Option<u64>,
    /// Output directory [default: the next free out/run-N]
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    pub(super) out: Option<PathBuf>,
    /// Steps between checkpoints, besides the best; 0 = only at the end [default: a quarter of the run]
    #[arg(long, value_name = "N", help_heading = "Output")]
    pub(super) checkpoint_every: Option<u64>,
    /// Number of checkpoints to keep, besides the best [default: 3]
    #[arg(long, value_name = "N", help_heading = "Output")]
    pub(super) keep: Option<usize>,
    /// Steps between validations; 0 = only at the end [default: a tenth of the run]
    #[arg(long, value_name = "N", help_heading = "Output")]
    pub(super) eval_every: Option<u64>,
    /// Steps between samples; 0 = none [default: a fifth of the run]
    #[arg(long, value_name = "N", help_heading = "Output")]
    pub(super) sample_every: Option<u64>,
    /// Prompt of the samples [default: "Once upon a time", or the beginning of the
    /// validation data where the tokenizer cannot encode that]
    #[arg(long, value_name = "TEXT", help_heading = "Output")]
    pub(super) prompt: Option<String>,
    /// Matrix products on the CPU: ours, accelerate, auto [default: auto, or that
    /// of the resumed run]
    #[arg(long, value_enum, value_name = "WHICH", hide_possible_values = true)]
    #[arg(help_heading = "Device")]
    pub(super) host_gemm: Option<HostGemmChoice>,
    /// Output format
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        default_value = "human",
        help_heading = "Output"
    )]
    pub(super) log_format: LogFormat,
    /// Show the parts of each step and of the forecast
    #[arg(short, long, help_heading = "Output")]
    pub(super) verbose: bool,
    /// Steps between checks that the device still computes correctly; 0 = none
    /// [default: 100 on an engine, 0 on the emulator]
    ///
    /// The check also runs before the first step and before each checkpoint. A wrong
    /// answer ends the run.
    #[arg(long, value_name = "N", help_heading = "Advanced")]
    pub(super) doctor_every: Option<u64>,
    /// How the model is split into programs
    #[arg(long, value_enum, default_value = "baseline", help_heading = "Advanced")]
    pub(super) plan: PlanChoice,
    /// Inject device faults, for tests: flaky-compile:3,hang-after:100, ...
    #[arg(
        long,
        value_name = "SPEC",
        help_heading = "Advanced",
        long_help = format!(
            "Inject device faults, to test how a run copes. Any of these, separated by commas: {}",
            ane::faults::KNOWN
        )
    )]
    pub(super) inject_faults: Option<String>,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// Lines, and a progress bar on a terminal
    Human,
    /// One JSON object per event, and nothing else on standard output
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum PlanChoice {
    /// Six programs per layer on the engine; weight gradients and head on the CPU
    Baseline,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::train::run_config;
    use crate::settings;

    #[test]
    fn flags_are_grouped_and_show_the_defaults_of_the_default_run() {
        let train = <Args as clap::Args>::augment_args(clap::Command::new("train"));
        for arg in train.get_arguments().filter(|arg| !arg.is_hide_set()) {
            assert!(arg.get_help_heading().is_some(), "{} stands alone", arg.get_id());
        }
        let model = gpt::GptConfig::preset("tiny").unwrap();
        let nothing = settings::TrainSection::default();
        let chosen = settings::suited(&model, &nothing, settings::Weights::Fresh).settings;
        let run = run_config(model, &chosen, 42).unwrap();
        for (flag, value) in [
            ("steps", run.schedule.total as f64),
            ("lr", run.schedule.peak),
            ("batch", run.batch as f64),
            ("accum", run.accum as f64),
            ("seq", run.seq as f64),
            ("clip", run.clip),
            ("weight-decay", f64::from(run.optimizer.weight_decay)),
            ("seed", run.seed as f64),
        ] {
            let arg = train.get_arguments().find(|arg| arg.get_long() == Some(flag)).unwrap();
            let help = arg.get_help().unwrap().to_string();
            let shown = help.split_once("[default: ").expect("a default").1;
            let shown = shown.split([']', ';']).next().unwrap();
            let shown: f64 = shown.parse().unwrap_or_else(|_| panic!("{help}"));
            assert!((shown - value).abs() <= 1e-6 * value, "--{flag}: {help}, but {value}");
        }
    }
}
