//! `anegpt train`.

mod args;

pub(crate) use args::Args;

use crate::setup::{self, Place};
use crate::training;
use anyhow::Result;
use std::time::Instant;

pub(crate) fn run(args: Args) -> Result<()> {
    let started = Instant::now();
    let run = &args.run;
    let place = Place::claim(run.resume.as_deref(), run.output.out.as_deref())?;
    let core = args.core.read()?;
    let ready = setup::open(run)?.ready(args.process.inject_faults.as_deref())?;
    training::to_end(ready, core, place, &args.process, started)
}
