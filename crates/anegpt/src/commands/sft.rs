//! `anegpt sft`.

use crate::setup::{Place, SftArgs, open_sft};
use crate::training::{self, ProcessArgs};
use anyhow::Result;
use std::time::Instant;

/// Finetune a model on conversations
///
/// Conversations come from tasks, and from a file of JSON lines. A line is {"messages":
/// [...]} or a list of messages alone; a message is {"role": "user", "content": "Hi"} or
/// one of the assistant. The model learns what the assistant says, in its own format: nanochat's
/// special tokens, or the chat template that it came with. chat, serve and export then
/// speak as it was tuned.
///
/// Conversations are packed into rows of --seq tokens; longer ones are cut, and counted. A
/// pass sees every one once. A model that this program trained goes on at 0.8 times the
/// rates of its run, with the moments of its optimizer; the rate is constant, and falls
/// to 0 over the last half.
///
/// Ctrl-C, SIGTERM and a closed terminal save a checkpoint and end the run; a
/// second request ends it at once. A resumed run computes the same bits as one
/// that was never interrupted.
#[derive(Debug, clap::Args)]
#[command(
    mut_arg("hardware_time", |arg| arg.hide(true)),
    after_help = "\
Examples:
  anegpt sft -m out/run-1 --tasks spelling,arithmetic
  anegpt sft -m out/run-1 --data conversations.jsonl
  anegpt sft -m hf://Qwen/Qwen3-0.6B --data conversations.jsonl --epochs 2
  anegpt sft --resume out/run-2
  anegpt chat out/run-2                          talk with what was tuned"
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) run: SftArgs,
    #[command(flatten)]
    pub(crate) process: ProcessArgs,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let started = Instant::now();
    let run = &args.run;
    let place = Place::claim(run.resume.as_deref(), run.output.out.as_deref())?;
    let ready = open_sft(run)?.ready(args.process.inject_faults.as_deref())?;
    training::to_end(ready, None, place, &args.process, started)
}
