//! The flags of `anegpt sft` that say what is computed.

use super::args::{MachineArgs, OutputArgs, SampleArgs};
use super::talks::TasksArgs;
use crate::number;
use crate::settings::TrainSection;
use std::path::PathBuf;
use std::str::FromStr;
use train::Targets;

/// Flags that a resumed run cannot change.
const FROM_THE_BEGINNING: [&str; 18] = [
    "lora",
    "prompt",
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
    pub(crate) tasks: Vec<String>,
    /// Directory of the Parquet files of published tasks; missing files are fetched [default: task_data]
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
    /// Train factors of low rank beside frozen matrices in place of all weights: rank=8,
    /// alpha=16,targets=q_proj,v_proj [default: twice the rank, all matrices of the layers]
    #[arg(long, value_name = "SETTINGS", help_heading = "Model")]
    #[arg(conflicts_with_all = ["load_optimizer", "init_lr_frac"])]
    pub(crate) lora: Option<LoraChoice>,
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
    #[command(flatten)]
    pub(crate) shown: SampleArgs,
    /// Question to answer as a sample; may be repeated [default: three validation questions]
    #[arg(long, value_name = "TEXT", help_heading = "Output")]
    pub(crate) prompt: Vec<String>,
    #[command(flatten)]
    pub(crate) measured: TasksArgs,
}

/// Settings of LoRA as they are typed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LoraChoice {
    pub(crate) rank: usize,
    pub(crate) alpha: f64,
    pub(crate) targets: Targets,
}

impl FromStr for LoraChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mut rank, mut alpha, mut targets) = (None, None, None::<Vec<&str>>);
        for entry in text.split(',').map(str::trim) {
            match (entry.split_once('='), &mut targets) {
                (Some(("rank", value)), _) => {
                    let whole = value.parse().ok().filter(|&rank: &usize| rank > 0);
                    rank = Some(whole.ok_or("rank must be a whole number of at least 1")?);
                }
                (Some(("alpha", value)), _) => {
                    let number = value.parse().ok().filter(|a: &f64| a.is_finite() && *a > 0.0);
                    alpha = Some(number.ok_or("alpha must be a number above 0")?);
                }
                (Some(("targets", name)), None) => targets = Some(vec![name]),
                // Names go on behind the first one.
                (None, Some(targets)) => targets.push(entry),
                _ => return Err(format!("`{entry}` is none of rank=N, alpha=X, targets=NAME,...")),
            }
        }
        let rank = rank.ok_or("there is no rank=N")?;
        let targets = targets.map_or(Ok(Targets::ALL), Targets::named)?;
        Ok(LoraChoice { rank, alpha: alpha.unwrap_or(2.0 * rank as f64), targets })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_lora_are_read() {
        let read = |text: &str| text.parse::<LoraChoice>();
        let targets = Targets::named(["q_proj", "v_proj"]).unwrap();
        let whole = LoraChoice { rank: 4, alpha: 3.0, targets };
        assert_eq!(read("rank=4,alpha=3,targets=q_proj,v_proj"), Ok(whole));
        assert_eq!(read("targets=q_proj,v_proj, rank=4, alpha=3"), Ok(whole));
        let short = LoraChoice { rank: 8, alpha: 16.0, targets: Targets::ALL };
        assert_eq!(read("rank=8"), Ok(short));
        for (text, says) in [
            ("alpha=3", "there is no rank=N"),
            ("rank=0", "at least 1"),
            ("rank=2,alpha=-1", "above 0"),
            ("rank=2,q_proj", "`q_proj` is none of"),
            ("rank=2,targets=query", "no matrix of a layer is called `query`"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
