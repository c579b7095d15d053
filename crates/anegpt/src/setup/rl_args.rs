//! The flags of `anegpt rl` that say what is computed.

use super::args::{MachineArgs, OutputArgs, SampleArgs};
use super::talks::TasksArgs;
use crate::generation::{PythonArgs, ToolArgs};
use crate::number;
use clap::ValueEnum;
use std::path::PathBuf;
use train::objective::rl::Advantage;

/// Flags that a resumed run cannot change.
const FROM_THE_BEGINNING: [&str; 22] = [
    "model",
    "tasks",
    "tokenizer",
    "questions",
    "samples",
    "max_tokens",
    "temperature",
    "top_k",
    "advantage_norm",
    "epochs",
    "ratio_clip",
    "held_out",
    "held_out_samples",
    "no_tools",
    "python",
    "tool_int_format",
    "seq",
    "lr",
    "init_lr_frac",
    "batch",
    "clip",
    "seed",
];

/// By what the difference to the mean reward is divided.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Norm {
    /// Nothing, as nanochat does (REINFORCE)
    None,
    /// The standard deviation of the rewards to a question, as GRPO does
    Std,
}

impl From<Norm> for Advantage {
    fn from(norm: Norm) -> Self {
        match norm {
            Norm::None => Advantage::Mean,
            Norm::Std => Advantage::Std,
        }
    }
}

/// Flags of `anegpt rl`.
#[derive(Debug, clap::Args)]
pub(crate) struct RlArgs {
    /// Model to finetune: a run, a directory, a file or an address, as generate takes it
    #[arg(short, long, value_name = "MODEL", required_unless_present = "resume")]
    #[arg(help_heading = "Model")]
    pub(crate) model: Option<PathBuf>,
    /// Tokenizer file, if the model comes without one
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    pub(crate) tokenizer: Option<PathBuf>,
    /// Resume from the newest checkpoint of a run of rl, or from this one (DIR/best)
    #[arg(long, value_name = "DIR", conflicts_with_all = FROM_THE_BEGINNING)]
    #[arg(help_heading = "Model")]
    pub(crate) resume: Option<PathBuf>,
    /// Tasks whose questions are asked, built in or published: arithmetic,gsm8k*4 comes once and
    /// four times
    #[arg(long, value_name = "NAMES", value_delimiter = ',', help_heading = "Questions")]
    #[arg(required_unless_present = "resume")]
    pub(crate) tasks: Vec<String>,
    /// Directory of the Parquet files of published tasks; missing files are fetched [default: task_data]
    #[arg(long, value_name = "DIR", help_heading = "Questions")]
    pub(crate) task_data: Option<PathBuf>,
    /// Questions of a round
    #[arg(long, value_name = "N", default_value_t = 16, help_heading = "Questions")]
    #[arg(value_parser = number::whole(1usize))]
    pub(crate) questions: usize,
    /// Answers to each question
    #[arg(long, value_name = "N", default_value_t = 16, help_heading = "Questions")]
    #[arg(value_parser = number::whole(2usize))]
    pub(crate) samples: usize,
    /// Held-out questions that measure pass@k; 0 = none
    #[arg(long, value_name = "N", default_value_t = 64, help_heading = "Questions")]
    #[arg(value_parser = number::whole(0usize))]
    pub(crate) held_out: usize,
    /// Answers to each of them, for pass@1 to pass@N
    #[arg(long, value_name = "N", default_value_t = 8, help_heading = "Questions")]
    #[arg(value_parser = number::whole(1usize))]
    pub(crate) held_out_samples: usize,
    /// Longest answer, in tokens
    #[arg(short = 'n', long, value_name = "N", default_value_t = 256, help_heading = "Answers")]
    #[arg(value_parser = number::whole(1usize))]
    pub(crate) max_tokens: usize,
    /// Sampling temperature; it must be above 0, for equal answers teach nothing
    #[arg(long, value_name = "T", default_value_t = 1.0, help_heading = "Answers")]
    pub(crate) temperature: f32,
    /// Sample from the K most likely tokens; 0 = all
    #[arg(long, value_name = "K", default_value_t = 50, help_heading = "Answers")]
    #[arg(value_parser = number::whole(0usize))]
    pub(crate) top_k: usize,
    /// Answers that are written at once; changes the speed only
    #[arg(long, value_name = "N", default_value_t = 16, help_heading = "Answers")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) slots: u16,
    #[command(flatten)]
    pub(crate) tools: ToolArgs,
    #[command(flatten)]
    pub(crate) programs: PythonArgs,
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
    /// Updates, counted from the start of the run [default: one pass over the questions]
    #[arg(long, value_name = "N", help_heading = "Optimizer")]
    #[arg(value_parser = number::whole(1u64))]
    pub(crate) steps: Option<u64>,
    /// Learning rate of the first step, from which it falls to 0 on a line; rates of groups follow in
    /// proportion [default: by --init-lr-frac]
    #[arg(long, value_name = "RATE", help_heading = "Optimizer")]
    pub(crate) lr: Option<f64>,
    /// The same as a share of the peak of the model's run [default: 0.05]
    #[arg(long, value_name = "SHARE", conflicts_with = "lr", help_heading = "Optimizer")]
    pub(crate) init_lr_frac: Option<f64>,
    /// What the difference between a reward and the mean of its question is divided by
    #[arg(
        long,
        value_enum,
        value_name = "NORM",
        default_value = "none",
        help_heading = "Optimizer"
    )]
    pub(crate) advantage_norm: Norm,
    /// Updates of a round; with more than 1, all but the first are clipped by --ratio-clip
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Optimizer")]
    #[arg(value_parser = number::whole(1usize))]
    pub(crate) epochs: usize,
    /// How far the probability of a token may move in a round before it counts no more (PPO)
    #[arg(long, value_name = "E", default_value_t = 0.2, help_heading = "Optimizer")]
    pub(crate) ratio_clip: f64,
    /// Answers per micro-batch [default: that of the model's run, else by width]
    #[arg(long, value_name = "N", help_heading = "Optimizer")]
    #[arg(value_parser = number::whole(1usize))]
    pub(crate) batch: Option<usize>,
    /// Tokens of a question with its answer [default: the longest question and --max-tokens, or what
    /// the model reads]
    #[arg(long, value_name = "N", help_heading = "Optimizer")]
    #[arg(value_parser = number::whole(1usize))]
    pub(crate) seq: Option<usize>,
    /// Gradient clipping: maximum global norm; 0 = off [default: that of the model's run, else 1]
    #[arg(long, value_name = "NORM", help_heading = "Optimizer")]
    pub(crate) clip: Option<f64>,
    /// Random seed of the answers [default: 42]
    #[arg(long, value_name = "N", help_heading = "Optimizer")]
    #[arg(value_parser = number::whole(0u64))]
    pub(crate) seed: Option<u64>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) shown: SampleArgs,
    #[command(flatten)]
    pub(crate) measured: TasksArgs,
}
