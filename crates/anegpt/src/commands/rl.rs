//! `anegpt rl`.

use crate::setup::{Place, RlArgs, open_rl};
use crate::training::{self, ProcessArgs};
use anyhow::Result;
use std::time::Instant;

/// Finetune a model by rewarding its right answers (reinforcement learning)
///
/// In every round, the model answers --questions questions of the tasks, --samples times each, as
/// chat would: in its own format, with the calculator in reach. The task judges each answer: 1
/// if it is right, else 0. The model then learns to give those answers that are better than
/// its mean to the same question, and to avoid the others. Questions that it always answers
/// rightly, or never, teach nothing: it must be able to answer some already, so finetune it with
/// sft first.
///
/// Held-out questions tell how far it came: pass@k is the probability that one of k answers is
/// right. The checkpoint with the highest pass@1 is kept as `best`, if it is higher than before the first
/// step.
///
/// Ctrl-C, SIGTERM and a closed terminal save a checkpoint and end the run; a second request
/// ends it at once. A resumed run computes the same bits as one that was never interrupted.
#[derive(Debug, clap::Args)]
#[command(
    mut_arg("hardware_time", |arg| arg.hide(true)),
    after_help = "\
Examples:
  anegpt rl -m out/tuned --tasks arithmetic
  anegpt rl -m out/tuned --tasks gsm8k --samples 16 --max-tokens 256
  anegpt rl -m out/tuned --tasks arithmetic --advantage-norm std --epochs 2
  anegpt rl --resume out/run-3"
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) run: RlArgs,
    #[command(flatten)]
    pub(crate) process: ProcessArgs,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let started = Instant::now();
    let run = &args.run;
    let place = Place::claim(run.resume.as_deref(), run.output.out.as_deref())?;
    let ready = open_rl(run)?.ready(args.process.inject_faults.as_deref())?;
    training::to_end(ready, None, place, &args.process, started)
}
