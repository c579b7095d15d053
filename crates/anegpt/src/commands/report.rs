//! `anegpt report`.

use crate::{term, view};
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// Print the report of finished runs again
///
/// The report follows from the log of a run alone: speed, losses, and what to do next, as
/// `anegpt train` printed it at the end of the last session.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anegpt report out/run-1
  anegpt train --log-format json > run.jsonl; anegpt report run.jsonl")]
pub(crate) struct Args {
    /// Directories of runs, or their logs (lines of JSON)
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    for (index, run) in args.runs.iter().enumerate() {
        if index > 0 {
            println!();
        }
        print!("{}", report(run)?);
    }
    Ok(())
}

/// The report of one run.
fn report(run: &Path) -> Result<String> {
    let path = if run.is_dir() { run.join("log.jsonl") } else { run.to_owned() };
    let log = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let report = view::of_log(BufReader::new(log), term::text_width(), term::unicode())
        .with_context(|| path.display().to_string())?;
    match report {
        Some(report) => Ok(report),
        None => bail!("{}: no session has finished, so there is no report yet", path.display()),
    }
}
