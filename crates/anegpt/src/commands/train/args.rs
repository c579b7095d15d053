//! The flags of `anegpt train`.

use crate::setup::{CoreNotes, RunArgs};
use crate::training::ProcessArgs;
use crate::{files, number, usage};
use anyhow::Result;
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
  anegpt train --optimizer muon                  Muon for the layers' matrices
  anegpt train --resume out/run-1 --steps 2000   go on, to 2000 steps in all"
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) run: RunArgs,
    #[command(flatten)]
    pub(super) core: CoreArgs,
    #[command(flatten)]
    pub(crate) process: ProcessArgs,
}

/// CORE while a model is trained.
#[derive(Debug, clap::Args)]
pub(crate) struct CoreArgs {
    /// Steps between measurements of CORE, which then also is at the end
    ///
    /// A checkpoint is saved before. Answers are kept in DIR/core; a resumed run
    /// goes on with those that are missing, and measures as before unless it is told
    /// otherwise (0 = no more).
    #[arg(long, value_name = "N", help_heading = "Output")]
    #[arg(value_parser = number::whole(0u64))]
    core_every: Option<u64>,
    /// Directory of CORE's tasks (anegpt eval --help says where it comes from)
    #[arg(long, value_name = "DIR", requires = "core_every", help_heading = "Output")]
    bundle: Option<PathBuf>,
    /// Ask at most N questions of each task of CORE
    #[arg(
        long,
        value_name = "N",
        default_value_t = 500,
        requires = "core_every",
        help_heading = "Output"
    )]
    #[arg(value_parser = number::whole(1usize))]
    core_max_per_task: usize,
}

impl CoreArgs {
    /// What of CORE is to be measured: what the flags say, else what was measured `before` the run was resumed.
    pub(super) fn or(&self, before: Option<CoreNotes>) -> Result<Option<CoreNotes>> {
        match (self.core_every, &self.bundle) {
            (None, _) => Ok(before),
            (Some(0), _) => Ok(None),
            (Some(_), None) => {
                Err(usage("--core-every asks the questions of a bundle: add --bundle DIR"))
            }
            (Some(every), Some(bundle)) => {
                let (bundle, most) = (files::absolute(bundle)?, self.core_max_per_task);
                Ok(Some(CoreNotes { every, bundle, most }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings;
    use crate::setup::run_config;

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
        let train::OptimizerConfig::AdamW(adamw) = run.optimizer else { panic!("{run:?}") };
        for (flag, value) in [
            ("steps", run.schedule.total as f64),
            ("lr", run.schedule.peak),
            ("batch", run.batch as f64),
            ("accum", run.accum as f64),
            ("seq", run.seq as f64),
            ("clip", run.clip),
            ("weight-decay", f64::from(adamw.weight_decay)),
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
