//! The flags of `anegpt sft` that say what is computed.

use super::args::{MachineArgs, OutputArgs};
use crate::number;
use crate::settings::TrainSection;
use std::path::PathBuf;

/// Flags that a resumed run cannot change.
const FROM_THE_BEGINNING: [&str; 16] = [
    "model",
    "tasks",
    "tokenizer",
    "epochs",
    "seq",
    "lr",
    "init_lr_frac",
    "warmup",
    "warmdown",
    "batch",
    "accum",
    "clip",
    "weight_decay",
    "load_optimizer",
    "seed",
    "val_data",
];

/// Flags of `anegpt sft`.
#[derive(Debug, clap::Args)]
pub(crate) struct SftArgs {
    /// Model to finetune: a run, a directory, a file or an address, as generate takes it
    #[arg(short, long, value_name = "MODEL", required_unless_present = "resume")]
    #[arg(help_heading = "Model")]
    pub(crate) model: Option<PathBuf>,
    /// Tokenizer file, if the model comes without one
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    pub(crate) tokenizer: Option<PathBuf>,
    /// Resume from the newest checkpoint of a run of sft, or from this one (DIR/best)
    #[arg(long, value_name = "DIR", conflicts_with_all = FROM_THE_BEGINNING)]
    #[arg(help_heading = "Model")]
    pub(crate) resume: Option<PathBuf>,
    /// Tasks to learn, built in or published: spelling,gsm8k*4 comes once and four times
    #[arg(long, value_name = "NAMES", value_delimiter = ',', help_heading = "Data")]
    #[arg(required_unless_present_any = ["resume", "data"])]
    pub(crate) tasks: Vec<String>,
    /// Directory of the Parquet files of published tasks [default: task_data]
    #[arg(long, value_name = "DIR", help_heading = "Data")]
    pub(crate) task_data: Option<PathBuf>,
    /// Conversations: a file of JSON lines, mixed with those of --tasks
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    pub(crate) data: Option<PathBuf>,
    /// Conversations to validate with, as --data [default: test parts of --tasks, every tenth of
    /// --data]
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    pub(crate) val_data: Option<PathBuf>,
    /// Passes over the conversations [default: 1, or 3 if that is less than 100 steps]
    #[arg(long, value_name = "N", conflicts_with = "steps", help_heading = "Data")]
    #[arg(value_parser = number::whole(1u64))]
    pub(crate) epochs: Option<u64>,
    /// Tokens of a row, into which conversations are packed, and longer ones cut [default: that
    /// of the model's run, else 512]
    #[arg(long, value_name = "N", help_heading = "Data")]
    #[arg(value_parser = number::whole(1usize))]
    pub(crate) seq: Option<usize>,
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
    /// Training steps, counted from the start of the run [default: by --epochs, at least 20]
    #[arg(long, value_name = "N", help_heading = "Optimizer")]
    #[arg(value_parser = number::whole(1u64))]
    pub(crate) steps: Option<u64>,
    /// Peak learning rate; rates of groups follow in proportion [default: by --init-lr-frac; by
    /// width, where no run of the model is known]
    #[arg(long, value_name = "RATE", help_heading = "Optimizer")]
    pub(crate) lr: Option<f64>,
    /// Peak learning rate as a share of that of the model's run [default: 0.8]
    #[arg(long, value_name = "SHARE", conflicts_with = "lr", help_heading = "Optimizer")]
    pub(crate) init_lr_frac: Option<f64>,
    /// Warm-up steps [default: 0; a tenth where no run of the model is known]
    #[arg(long, value_name = "N", help_heading = "Optimizer")]
    #[arg(value_parser = number::whole(0u64))]
    pub(crate) warmup: Option<u64>,
    /// Last share of the run in which the rate falls to 0 on a line [default: 0.5]
    #[arg(long, value_name = "SHARE", help_heading = "Optimizer")]
    pub(crate) warmdown: Option<f64>,
    /// Rows per micro-batch [default: that of the model's run, else by width]
    #[arg(long, value_name = "N", help_heading = "Optimizer")]
    #[arg(value_parser = number::whole(1usize))]
    pub(crate) batch: Option<usize>,
    /// Gradient accumulation: micro-batches per step [default: that of the model's run, fewer
    /// where that would be less than 20 steps]
    #[arg(long, value_name = "N", help_heading = "Optimizer")]
    #[arg(value_parser = number::whole(1usize))]
    pub(crate) accum: Option<usize>,
    /// Gradient clipping: maximum global norm; 0 = off [default: that of the model's run, else 1]
    #[arg(long, value_name = "NORM", help_heading = "Optimizer")]
    pub(crate) clip: Option<f64>,
    /// Weight decay; with muon, of the matrices [default: 0]
    #[arg(long, value_name = "DECAY", help_heading = "Optimizer")]
    pub(crate) weight_decay: Option<f32>,
    /// Go on with the moments of the optimizer of the model's run [default: true, if it is a
    /// checkpoint of one]
    #[arg(long, value_name = "BOOL", help_heading = "Optimizer")]
    pub(crate) load_optimizer: Option<bool>,
    /// Random seed of the order of the conversations [default: 42]
    #[arg(long, value_name = "N", help_heading = "Optimizer")]
    #[arg(value_parser = number::whole(0u64))]
    pub(crate) seed: Option<u64>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

impl SftArgs {
    /// Settings given by flags.
    pub(super) fn asked(&self) -> TrainSection {
        TrainSection {
            steps: self.steps,
            lr: self.lr,
            warmup: self.warmup,
            warmdown: self.warmdown,
            batch: self.batch,
            accum: self.accum,
            seq: self.seq,
            clip: self.clip,
            weight_decay: self.weight_decay,
            seed: self.seed,
            ..TrainSection::default()
        }
    }
}
