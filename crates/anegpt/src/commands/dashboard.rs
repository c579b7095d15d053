//! `anegpt dashboard`.

use crate::dashboard::{Look, Source, show};
use crate::{Cli, Command, record, setup, term, usage};
use anyhow::{Result, ensure};
use clap::Parser;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// Watch runs on the terminal: losses, speed, time, power, texts
///
/// RUN is the directory of a run or its log (lines of JSON), of a run that goes on or has ended. Several are
/// drawn together and told apart by letters. Without RUN, the newest run in out is shown. What stands
/// behind -- is a command that is started and shown; it goes on if the dashboard is left.
///
/// Keys: ? lists them. A run can be asked to stop, resumed, and sampled from.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anegpt dashboard                      the newest run in out
  anegpt dashboard out/run-1 out/run-2  two runs, compared
  anegpt dashboard -- train --data text.txt --steps 2000")]
pub(crate) struct Args {
    /// Directories of runs, or their logs
    #[arg(value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Command to start: `train`, `sft` or `rl` with its options
    #[arg(last = true, value_name = "COMMAND", allow_hyphen_values = true)]
    command: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    ensure!(terminal, "the dashboard needs a terminal; `anegpt report` writes pictures to a file");
    let mut runs: Vec<(String, Source)> = vec![];
    for path in &args.runs {
        // A run that is being set up has a lock before it has a log.
        if !path.join(".lock").exists() {
            let log = record::find_log(path)?;
            // One that is empty may be about to begin.
            let empty = std::fs::metadata(&log).is_ok_and(|file| file.len() == 0);
            if !empty && !record::tells_of_a_run(&log) {
                return Err(usage(format!("{}: this log has no events of a run", log.display())));
            }
        }
        runs.push((path.display().to_string(), Source::of(path)));
    }
    if !args.command.is_empty() {
        let (words, directory, reserved) = training(&args.command)?;
        let name = directory.display().to_string();
        runs.insert(0, (name, Source::start(&words, directory, reserved)?));
    }
    if runs.is_empty() {
        let path = newest(Path::new("out")).ok_or_else(|| {
            usage("no run in out: name one, or start one: anegpt dashboard -- train")
        })?;
        runs.push((path.display().to_string(), Source::of(&path)));
    }
    show(runs, Look { unicode: term::unicode(), colour: console::colors_enabled() })
}

/// Returns the words of the training that `command` asks for, the directory that it writes to, and true if that was
/// created here because none was named.
fn training(command: &[String]) -> Result<(Vec<String>, PathBuf, bool)> {
    let mut words = command.to_vec();
    let cli = Cli::try_parse_from(["anegpt".to_owned()].iter().chain(&words));
    let (resume, out) = match cli.unwrap_or_else(|error| error.exit()).command {
        Command::Train(args) => (args.run.resume, args.run.output.out),
        Command::Sft(args) => (args.run.resume, args.run.output.out),
        Command::Rl(args) => (args.run.resume, args.run.output.out),
        _ => {
            let word = &command[0];
            return Err(usage(format!(
                "`{word}` is no run to watch: the dashboard starts `train`, `sft` and `rl`, as in anegpt dashboard \
                 -- train --steps 500. Start anegpt {word} by itself"
            )));
        }
    };
    if let Some(directory) = setup::output_directory(resume.as_deref(), out.as_deref())? {
        return Ok((words, directory, false));
    }
    let directory = setup::reserve_directory()?;
    words.extend(["--out".to_owned(), directory.display().to_string()]);
    Ok((words, directory, true))
}

/// The run whose log was written to last. A log without an event is that of a run only while a process holds its
/// directory.
fn newest(out: &Path) -> Option<PathBuf> {
    let runs = std::fs::read_dir(out).ok()?.flatten().map(|entry| entry.path());
    let written = |run: &PathBuf| std::fs::metadata(run.join("log.jsonl")).ok()?.modified().ok();
    let mut runs: Vec<_> = runs.filter_map(|run| Some((written(&run)?, run))).collect();
    runs.sort();
    let is_run = |run: &PathBuf| {
        record::tells_of_a_run(&run.join("log.jsonl")) || train::Lock::holder(run).is_some()
    };
    runs.into_iter().rev().map(|(_, run)| run).find(is_run)
}
