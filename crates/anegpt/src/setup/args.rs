//! The flags that say what a run computes, on what, and what it writes.

use super::sources::Packing;
use crate::host_gemm::HostGemmChoice;
use crate::machine::{DeviceChoice, NumericsChoice};
use crate::number;
use crate::plan_choice::{PlanChoice, PlanParser};
use crate::settings::{
    ConfigFile, EditionChoice, MomentumChoice, OptimizerChoice, ScheduleChoice, Switch,
};
use std::path::PathBuf;

/// Flags from which the shape of a model of nanochat follows.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct ShapeArgs {
    /// Layers of a nanochat from which all else follows: width, tokens, steps, batch,
    /// rates, decay. In train, any other flag sets its number itself
    #[arg(long, value_name = "N", conflicts_with = "preset")]
    #[arg(help_heading = "Model", value_parser = number::whole(1usize))]
    pub(crate) depth: Option<usize>,
    /// State of nanochat's model and rules for --depth [default: 2026-07]
    #[arg(long, value_enum, value_name = "DATE", help_heading = "Model")]
    pub(crate) edition: Option<EditionChoice>,
    /// Width per layer, rounded up to whole heads, of a nanochat [default: 64]
    #[arg(long, value_name = "N", help_heading = "Model", value_parser = number::whole(1usize))]
    pub(crate) aspect_ratio: Option<usize>,
    /// Width of a head of a nanochat [default: 128]
    #[arg(long, value_name = "N", help_heading = "Model", value_parser = number::whole(1usize))]
    pub(crate) head_dim: Option<usize>,
    /// Windows of a nanochat's layers, repeated: Short or Long, the last one always long
    /// [default: SSSL]
    #[arg(long, value_name = "LETTERS", help_heading = "Model")]
    pub(crate) window_pattern: Option<String>,
    /// Tables of a nanochat that values are read from, about half of its parameters
    /// [default: full]
    #[arg(long, value_enum, value_name = "WHICH", help_heading = "Model")]
    pub(crate) value_embeds: Option<Switch>,
}

impl ShapeArgs {
    /// Puts what the flags say above what `file` says. `preset` is the flag's.
    pub(crate) fn onto(&self, file: &mut ConfigFile, preset: Option<&str>) {
        if self.depth.is_some() || preset.is_some() {
            (file.depth, file.preset) = (self.depth, preset.map(str::to_owned));
        }
        let section = &mut file.model;
        section.edition = self.edition.or(section.edition);
        section.aspect_ratio = self.aspect_ratio.or(section.aspect_ratio);
        section.head_dim = self.head_dim.or(section.head_dim);
        section.window_pattern = self.window_pattern.clone().or(section.window_pattern.take());
        section.value_embeds = self.value_embeds.or(section.value_embeds);
    }
}

/// Flags of the rules by which the numbers of a run follow from `--depth`.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct BudgetArgs {
    /// Tokens to train on for each weight of the layers and the classifier, with --depth
    /// [default: 12; 10.5 in 2026-02]
    #[arg(long, value_name = "RATIO", help_heading = "Optimizer")]
    pub(crate) token_param_ratio: Option<f64>,
    /// Tokens per step, with --depth [default: by the tokens of the run]
    #[arg(long, value_name = "N", help_heading = "Optimizer")]
    #[arg(value_parser = number::whole(1u64))]
    pub(crate) batch_tokens: Option<u64>,
    /// Floating-point operations of the run, which give its steps, with --depth
    #[arg(long, value_name = "FLOPS", help_heading = "Optimizer")]
    pub(crate) target_flops: Option<f64>,
}

/// Flags that say where a run computes, and how.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct MachineArgs {
    /// Where to compute; auto: the Neural Engine if it works, else its emulator [default:
    /// auto, or the device of the resumed run]
    #[arg(long, value_enum, help_heading = "Device")]
    pub(crate) device: Option<DeviceChoice>,
    /// Chip to emulate (list: anegpt devices) [default: m4, or the chip of the resumed run]
    #[arg(long, help_heading = "Device")]
    pub(crate) chip: Option<chip::Chip>,
    /// Arithmetic of the emulator [default: fast]
    #[arg(long, value_enum, help_heading = "Device")]
    pub(crate) numerics: Option<NumericsChoice>,
    /// How the model is split into programs; auto: the cheapest by forecast on an engine,
    /// else baseline [default: auto, or that of the resumed run]
    #[arg(long, value_parser = PlanParser, help_heading = "Device")]
    pub(crate) plan: Option<PlanChoice>,
    /// Matrix products on the CPU: ours, accelerate, auto [default: auto, or that
    /// of the resumed run]
    #[arg(long, value_enum, value_name = "WHICH", hide_possible_values = true)]
    #[arg(help_heading = "Device")]
    pub(crate) host_gemm: Option<HostGemmChoice>,
}

/// Flags that say what a run writes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct OutputArgs {
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
}

/// How often a run shows what its model writes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SampleArgs {
    /// Steps between samples; 0 = none [default: a fifth of the run]
    #[arg(long, value_name = "N", help_heading = "Output")]
    #[arg(value_parser = number::whole(0u64))]
    pub(crate) sample_every: Option<u64>,
}

/// Flags that a resumed run cannot change.
const FROM_THE_BEGINNING: [&str; 8] = [
    "edition",
    "aspect_ratio",
    "head_dim",
    "window_pattern",
    "value_embeds",
    "token_param_ratio",
    "batch_tokens",
    "target_flops",
];

/// Flags of `anegpt train` that say what is computed.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// Model size: tiny, stories260k, stories15m, stories42m, stories110m,
    /// qwen3-0.6b, gpt2-tiny, gpt2-mini, gpt2, gpt2-medium, nanochat-dN or
    /// nanochat-2026-02-dN with N layers [default: tiny]
    #[arg(long, value_name = "NAME", conflicts_with_all = ["resume", "init"], help_heading = "Model")]
    pub(crate) preset: Option<String>,
    #[command(flatten)]
    pub(crate) shape: ShapeArgs,
    /// Configuration file (TOML): preset or depth, and tables `[model]` and `[train]`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["resume", "preset"], help_heading = "Model")]
    pub(crate) config: Option<PathBuf>,
    /// Resume from the newest checkpoint of a run, or from this one (DIR/best)
    #[arg(long, value_name = "DIR", conflicts_with_all = ["init", "depth"], help_heading = "Model")]
    #[arg(conflicts_with_all = FROM_THE_BEGINNING)]
    pub(crate) resume: Option<PathBuf>,
    /// Initial weights: a model as generate takes it
    #[arg(long, value_name = "PATH", conflicts_with = "depth", help_heading = "Model")]
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
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
    /// Training steps, counted from the start of the run [default: 800; by --depth]
    #[arg(long, value_name = "N", help_heading = "Optimizer")]
    #[arg(value_parser = number::whole(1u64))]
    pub(crate) steps: Option<u64>,
    /// Peak learning rate; with muon, of the matrices, and other groups in proportion
    /// [default: 4e-3; by width, a tenth of that with --init; 0.02 with muon, by
    /// --depth also by the batch]
    #[arg(long, value_name = "RATE", help_heading = "Optimizer")]
    pub(crate) lr: Option<f64>,
    /// Final learning rate [default: a tenth of the peak; a twentieth with --depth]
    #[arg(long, value_name = "RATE", help_heading = "Optimizer")]
    pub(crate) min_lr: Option<f64>,
    /// Warm-up steps [default: a twentieth of the run, a tenth with --init; 40 with
    /// --depth]
    #[arg(long, value_name = "N", help_heading = "Optimizer")]
    #[arg(value_parser = number::whole(0u64))]
    pub(crate) warmup: Option<u64>,
    /// Sequences per micro-batch [default: 4; with --depth what the memory holds]
    #[arg(long, value_name = "N", help_heading = "Optimizer")]
    #[arg(value_parser = number::whole(1usize))]
    pub(crate) batch: Option<usize>,
    /// Gradient accumulation: micro-batches per step [default: 1; with --depth what the
    /// batch takes]
    #[arg(long, value_name = "N", help_heading = "Optimizer")]
    #[arg(value_parser = number::whole(1usize))]
    pub(crate) accum: Option<usize>,
    /// Sequence length in tokens [default: 256; 2048 with --depth]
    #[arg(long, value_name = "N", help_heading = "Data")]
    #[arg(value_parser = number::whole(1usize))]
    pub(crate) seq: Option<usize>,
    #[command(flatten)]
    pub(crate) budget: BudgetArgs,
    /// Gradient clipping: maximum global norm; 0 = off [default: 1; 0 with --depth]
    #[arg(long, value_name = "NORM", help_heading = "Optimizer")]
    pub(crate) clip: Option<f64>,
    /// Optimizer [default: adamw; muon with --depth]
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
    /// Peak rate of value embeddings [default: as --embedding-lr, half of it in a
    /// nanochat with muon]
    #[arg(long, value_name = "RATE", help_heading = "Optimizer")]
    pub(crate) value_embedding_lr: Option<f64>,
    /// Peak rate of the factors of the first stream, 100 times that of the stream's own
    /// [default: 0.5 with muon]
    #[arg(long, value_name = "RATE", help_heading = "Optimizer")]
    pub(crate) scalar_lr: Option<f64>,
    /// Peak rate of smear and backout [default: 0.2 with muon]
    #[arg(long, value_name = "RATE", help_heading = "Optimizer")]
    pub(crate) smear_lr: Option<f64>,
    /// Muon's momentum: a number, or FIRST,PEAK,LAST: up over 400 steps, down with the rate
    /// on --schedule linear [default: 0.95; 0.85,0.97,0.9 with --depth]
    #[arg(long, value_name = "SHARE", help_heading = "Optimizer")]
    pub(crate) momentum: Option<MomentumChoice>,
    /// How the rate falls after the warm-up [default: cosine; linear with --depth]
    #[arg(long, value_enum, value_name = "NAME", help_heading = "Optimizer")]
    pub(crate) schedule: Option<ScheduleChoice>,
    /// Last share of the run in which the rate falls on a line [default: 0.65 with
    /// --schedule linear]
    #[arg(long, value_name = "SHARE", help_heading = "Optimizer")]
    pub(crate) warmdown: Option<f64>,
    /// Weight decay; with muon, of the matrices [default: 0.1; by --depth]
    #[arg(long, value_name = "DECAY", help_heading = "Optimizer")]
    pub(crate) weight_decay: Option<f32>,
    /// Random seed of weights, data order and samples [default: 42]
    #[arg(long, value_name = "N", help_heading = "Optimizer")]
    #[arg(value_parser = number::whole(0u64))]
    pub(crate) seed: Option<u64>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) shown: SampleArgs,
    /// Prompt of the samples [default: "Once upon a time", or the beginning of the
    /// validation data where the tokenizer cannot encode that]
    #[arg(long, value_name = "TEXT", help_heading = "Output")]
    pub(crate) prompt: Option<String>,
}
