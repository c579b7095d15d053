//! The flags that say what a run computes, on what, and what it writes.

use super::sources::Packing;
use crate::host_gemm::HostGemmChoice;
use crate::machine::{DeviceChoice, NumericsChoice};
use crate::number;
use crate::plan_choice::PlanChoice;
use crate::settings::{MomentumChoice, OptimizerChoice, ScheduleChoice};
use std::path::PathBuf;

/// Flags of every command that trains.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// Model size: tiny, stories260k, stories15m, stories42m, stories110m,
    /// qwen3-0.6b, gpt2-tiny, gpt2-mini, gpt2, gpt2-medium, nanochat-dN or
    /// nanochat-2026-02-dN with N layers [default: tiny]
    #[arg(long, value_name = "NAME", conflicts_with_all = ["resume", "init"], help_heading = "Model")]
    pub(crate) preset: Option<String>,
    /// Configuration file (TOML): preset, and tables `[model]` and `[train]`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["resume", "preset"], help_heading = "Model")]
    pub(crate) config: Option<PathBuf>,
    /// Resume from the newest checkpoint of a run, or from this one (DIR/best)
    #[arg(long, value_name = "DIR", conflicts_with = "init", help_heading = "Model")]
    pub(crate) resume: Option<PathBuf>,
    /// Initial weights: a model as generate takes it
    #[arg(long, value_name = "PATH", help_heading = "Model")]
    pub(crate) init: Option<PathBuf>,
    /// Training data: synthetic, a file or directory of text (*.txt, *.md,
    /// *.jsonl, *.parquet), or token files (*.bin) [default: synthetic]
    #[arg(long, value_name = "PATH", help_heading = "Data")]
    pub(crate) data: Option<String>,
    /// Validation data, as --data [default: the last file of a directory of *.parquet,
    /// else the last tenth of --data]
    #[arg(long, value_name = "PATH", help_heading = "Data")]
    pub(crate) val_data: Option<String>,
    /// Field of *.jsonl, or column of *.parquet, that holds the text [default: text, or that
    /// of the resumed run]
    #[arg(long, value_name = "NAME", help_heading = "Data")]
    pub(crate) text_field: Option<String>,
    /// How documents are packed into sequences [default: concat, or that of the resumed run]
    #[arg(long, value_enum, value_name = "HOW", help_heading = "Data")]
    pub(crate) packing: Option<Packing>,
    /// Tokenizer: bpe, bpe:SIZE, char, or a file [default: bpe:2048, or the one of --init]
    #[arg(long, value_name = "SPEC", help_heading = "Data")]
    pub(crate) tokenizer: Option<String>,
    /// Where to compute [default: auto, or the device of the resumed run]
    #[arg(long, value_enum, help_heading = "Device")]
    pub(crate) device: Option<DeviceChoice>,
    /// Chip to emulate (list: anegpt devices) [default: m4, or the chip of the resumed run]
    #[arg(long, help_heading = "Device")]
    pub(crate) chip: Option<chip::Chip>,
    /// Arithmetic of the emulator [default: fast]
    #[arg(long, value_enum, help_heading = "Device")]
    pub(crate) numerics: Option<NumericsChoice>,
    /// How the model is split into programs; auto: the fastest by forecast that the chip
    /// accepts [default: auto, or that of the resumed run]
    #[arg(long, value_parser = PlanChoice::parser(), help_heading = "Device")]
    pub(crate) plan: Option<PlanChoice>,
    /// Training steps, counted from the start of the run [default: 800]
    #[arg(long, value_name = "N", help_heading = "Optimizer")]
    #[arg(value_parser = number::whole(1u64))]
    pub(crate) steps: Option<u64>,
    /// Peak learning rate; with muon, of the matrices, and other groups in proportion
    /// [default: 4e-3; by width, a tenth of that with --init; 0.02 with muon]
    #[arg(long, value_name = "RATE", help_heading = "Optimizer")]
    pub(crate) lr: Option<f64>,
    /// Final learning rate [default: a tenth of the peak]
    #[arg(long, value_name = "RATE", help_heading = "Optimizer")]
    pub(crate) min_lr: Option<f64>,
    /// Warm-up steps [default: a twentieth of the run, a tenth with --init]
    #[arg(long, value_name = "N", help_heading = "Optimizer")]
    #[arg(value_parser = number::whole(0u64))]
    pub(crate) warmup: Option<u64>,
    /// Sequences per micro-batch [default: 4]
    #[arg(long, value_name = "N", help_heading = "Optimizer")]
    #[arg(value_parser = number::whole(1usize))]
    pub(crate) batch: Option<usize>,
    /// Gradient accumulation: micro-batches per step [default: 1]
    #[arg(long, value_name = "N", help_heading = "Optimizer")]
    #[arg(value_parser = number::whole(1usize))]
    pub(crate) accum: Option<usize>,
    /// Sequence length in tokens [default: 256]
    #[arg(long, value_name = "N", help_heading = "Data")]
    #[arg(value_parser = number::whole(1usize))]
    pub(crate) seq: Option<usize>,
    /// Gradient clipping: maximum global norm; 0 = off [default: 1]
    #[arg(long, value_name = "NORM", help_heading = "Optimizer")]
    pub(crate) clip: Option<f64>,
    /// Optimizer [default: adamw]
    #[arg(long, value_enum, value_name = "NAME", help_heading = "Optimizer")]
    pub(crate) optimizer: Option<OptimizerChoice>,
    /// Peak rate of the embedding, the classifier if they share weights [default: --lr; with
    /// muon, AdamW's]
    #[arg(long, value_name = "RATE", help_heading = "Optimizer")]
    pub(crate) embedding_lr: Option<f64>,
    /// Peak rate of a classifier of its own [default: as --embedding-lr]
    #[arg(long, value_name = "RATE", help_heading = "Optimizer")]
    pub(crate) classifier_lr: Option<f64>,
    /// Peak rate of gains and biases [default: as --embedding-lr]
    #[arg(long, value_name = "RATE", help_heading = "Optimizer")]
    pub(crate) vector_lr: Option<f64>,
    /// Muon's momentum: a number, or FIRST,PEAK,LAST: up over 400 steps, down with the rate
    /// on --schedule linear [default: 0.95]
    #[arg(long, value_name = "SHARE", help_heading = "Optimizer")]
    pub(crate) momentum: Option<MomentumChoice>,
    /// How the rate falls after the warm-up [default: cosine]
    #[arg(long, value_enum, value_name = "NAME", help_heading = "Optimizer")]
    pub(crate) schedule: Option<ScheduleChoice>,
    /// Last share of the run in which the rate falls on a line [default: 0.65 with
    /// --schedule linear]
    #[arg(long, value_name = "SHARE", help_heading = "Optimizer")]
    pub(crate) warmdown: Option<f64>,
    /// Weight decay; with muon, of the matrices [default: 0.1]
    #[arg(long, value_name = "DECAY", help_heading = "Optimizer")]
    pub(crate) weight_decay: Option<f32>,
    /// Random seed of weights, data order and samples [default: 42]
    #[arg(long, value_name = "N", help_heading = "Optimizer")]
    #[arg(value_parser = number::whole(0u64))]
    pub(crate) seed: Option<u64>,
    /// Output directory [default: the next free out/run-N]
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    pub(crate) out: Option<PathBuf>,
    /// Steps between checkpoints, besides the best; 0 = only at the end [default: a quarter of the run]
    #[arg(long, value_name = "N", help_heading = "Output")]
    #[arg(value_parser = number::whole(0u64))]
    pub(crate) checkpoint_every: Option<u64>,
    /// Number of checkpoints to keep, besides the best [default: 3]
    #[arg(long, value_name = "N", help_heading = "Output")]
    #[arg(value_parser = number::whole(0usize))]
    pub(crate) keep: Option<usize>,
    /// Steps between validations; 0 = only at the end [default: a tenth of the run]
    #[arg(long, value_name = "N", help_heading = "Output")]
    #[arg(value_parser = number::whole(0u64))]
    pub(crate) eval_every: Option<u64>,
    /// Steps between samples; 0 = none [default: a fifth of the run]
    #[arg(long, value_name = "N", help_heading = "Output")]
    #[arg(value_parser = number::whole(0u64))]
    pub(crate) sample_every: Option<u64>,
    /// Prompt of the samples [default: "Once upon a time", or the beginning of the
    /// validation data where the tokenizer cannot encode that]
    #[arg(long, value_name = "TEXT", help_heading = "Output")]
    pub(crate) prompt: Option<String>,
    /// Matrix products on the CPU: ours, accelerate, auto [default: auto, or that
    /// of the resumed run]
    #[arg(long, value_enum, value_name = "WHICH", hide_possible_values = true)]
    #[arg(help_heading = "Device")]
    pub(crate) host_gemm: Option<HostGemmChoice>,
}
