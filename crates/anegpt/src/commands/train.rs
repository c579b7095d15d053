//! `anegpt train`.

mod args;

pub(crate) use args::Args;

use crate::setup::{self, CoreNotes, Place};
use crate::training;
use anyhow::Result;
use std::time::Instant;

pub(crate) fn run(args: Args) -> Result<()> {
    let started = Instant::now();
    let run = &args.run;
    let place = Place::claim(run.resume.as_deref(), run.output.out.as_deref())?;
    // A bundle that is missing is told before anything is read.
    let asked = args.core.or(None)?.as_ref().map(CoreNotes::read).transpose()?;
    let mut setup = setup::open(run)?;
    setup.core = args.core.or(setup.core)?;
    let core = match asked {
        Some(core) => Some(core),
        None => setup.core.as_ref().map(CoreNotes::read).transpose()?,
    };
    let ready = setup.ready(args.process.inject_faults.as_deref())?;
    training::to_end(ready, core, place, &args.process, started)
}
