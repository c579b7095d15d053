//! `anegpt mil`.

mod check;
mod diff;
mod estimate;
mod replay;
mod run;
mod source;
mod weights;

use anyhow::{Context, Result, anyhow};
use source::read_text;
use std::path::PathBuf;

/// Check, format, forecast, run and compare MIL programs
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Check(check::Args),
    /// Print a program in canonical form
    #[command(after_help = "Example:\n  anegpt mil fmt --write program.mil")]
    Fmt {
        /// Program (MIL text)
        file: PathBuf,
        /// Replace the file instead of printing
        #[arg(long)]
        write: bool,
    },
    Estimate(estimate::Args),
    Run(run::Args),
    Replay(replay::Args),
    Diff(diff::Args),
}

pub(crate) fn run(command: Command) -> Result<()> {
    match command {
        Command::Check(args) => check::run(&args),
        Command::Fmt { file, write } => {
            let text = mil::text::format(&read_text(&file)?)
                .map_err(|e| anyhow!("{} is not a program\n{e}", file.display()))?;
            if write {
                return std::fs::write(&file, text)
                    .with_context(|| format!("cannot write {}", file.display()));
            }
            print!("{text}");
            Ok(())
        }
        Command::Estimate(args) => estimate::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Diff(args) => diff::run(&args),
    }
}
