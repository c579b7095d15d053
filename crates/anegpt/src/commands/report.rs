//! `anegpt report`.

use crate::record::{Record, facts};
use crate::report::{page, pipeline, write_csv, write_tensorboard};
use crate::{term, usage, view};
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Report on finished runs: on the terminal, as an HTML file, or for other programs
///
/// Everything follows from the logs of the runs. On the terminal it is what `anegpt train` printed at
/// the end of the last session. The HTML file holds its pictures itself and asks for nothing else, so that it can be
/// sent or archived; runs that have not finished are drawn as far as they got.
///
/// Of a directory with several runs in it (a base model, its finetuning, …) the report is that of the whole
/// pipeline: environment, data, a table of what each step gained, curves, texts, time, and what was left out. It is
/// printed as Markdown; --out writes FILE.html and FILE.md. Results of tasks are those that
/// `anegpt eval --json` wrote to a file beside or below the run of their model.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anegpt report out/run-1
  anegpt report out/run-1 --compare out/run-2 --out report.html
  anegpt report out/run-1 --csv run.csv --tensorboard logs
  anegpt report out/speedrun --out card.html
  anegpt train --log-format json > run.jsonl; anegpt report run.jsonl")]
pub(crate) struct Args {
    /// Directories of runs, or their logs (lines of JSON)
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Runs to compare with: side by side on the terminal, in the same pictures in a file
    #[arg(long, value_name = "RUN", num_args = 1.., help_heading = "Output")]
    compare: Vec<PathBuf>,
    /// Write one HTML file with pictures
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    out: Option<PathBuf>,
    /// Write the numbers as comma-separated values: a row for each event; - = standard output
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    csv: Option<PathBuf>,
    /// Write event files of TensorBoard, a directory for each run
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    tensorboard: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if let [directory] = &args.runs[..]
        && directory.is_dir()
        && !directory.join("log.jsonl").exists()
        && let Some(report) = pipeline::of(directory)?
    {
        return card(args, &report);
    }
    let paths = || args.runs.iter().chain(&args.compare);
    let logs: Vec<(String, PathBuf)> = paths().map(|run| (name(run), log(run))).collect();
    if let Some(out) = &args.out {
        let runs = read(&logs)?;
        write(out, |file| Ok(file.write_all(page(&runs).as_bytes())?))?;
        println!("wrote {}", out.display());
    }
    match &args.csv {
        Some(csv) if csv.as_os_str() == "-" => write_csv(&logs, &mut std::io::stdout().lock())?,
        Some(csv) => {
            write(csv, |file| write_csv(&logs, file))?;
            println!("wrote {}", csv.display());
        }
        None => {}
    }
    if let Some(directory) = &args.tensorboard {
        for (name, log) in &logs {
            let directory = directory.join(inside(name));
            let (numbers, texts) = write_tensorboard(log, &directory)?;
            println!("wrote {numbers} numbers and {texts} texts to {}", directory.display());
        }
    }
    if args.out.is_some() || args.csv.is_some() || args.tensorboard.is_some() {
        return Ok(());
    }
    if !args.compare.is_empty() {
        print!("{}", side_by_side(&read(&logs)?));
        return Ok(());
    }
    for (index, (_, log)) in logs.iter().enumerate() {
        if index > 0 {
            println!();
        }
        print!("{}", report(log)?);
    }
    Ok(())
}

/// Writes the report of a pipeline as HTML and as Markdown, or prints it as Markdown.
fn card(args: &Args, report: &pipeline::Report) -> Result<()> {
    if !args.compare.is_empty() || args.csv.is_some() || args.tensorboard.is_some() {
        return Err(usage(
            "--compare, --csv and --tensorboard are for runs: name their directories",
        ));
    }
    let Some(out) = &args.out else {
        print!("{}", report.markdown());
        return Ok(());
    };
    let texts = [("html", report.html()), ("md", report.markdown())];
    for (extension, text) in texts {
        let path = out.with_extension(extension);
        write(&path, |file| Ok(file.write_all(text.as_bytes())?))?;
        println!("wrote {}", path.display());
    }
    Ok(())
}

/// The log of a run.
fn log(run: &Path) -> PathBuf {
    if run.is_dir() { run.join("log.jsonl") } else { run.to_owned() }
}

/// The name of a run in reports: its path as it was given.
fn name(run: &Path) -> String {
    run.display().to_string()
}

/// A name as a path below a directory, never above it.
fn inside(name: &str) -> PathBuf {
    let parts = Path::new(name).components();
    let normal = parts.filter_map(|part| match part {
        std::path::Component::Normal(part) => Some(part),
        _ => None,
    });
    let path: PathBuf = normal.collect();
    if path.as_os_str().is_empty() { PathBuf::from("run") } else { path }
}

/// The records of runs.
fn read(logs: &[(String, PathBuf)]) -> Result<Vec<(String, Record)>> {
    let record = |(name, log): &(String, PathBuf)| {
        let record = Record::of(log).with_context(|| format!("cannot read {}", log.display()))?;
        match record.begun.is_some() || record.steps > 0 {
            true => Ok((name.clone(), record)),
            false => Err(usage(format!("{}: this log has no events of a run", log.display()))),
        }
    };
    logs.iter().map(record).collect()
}

/// Writes a file, in a directory that is created if need be.
fn write(path: &Path, fill: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let unwritten = || format!("cannot write {}", path.display());
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).with_context(unwritten)?;
    }
    let mut file = BufWriter::new(File::create(path).with_context(unwritten)?);
    fill(&mut file)?;
    file.flush().with_context(unwritten)
}

/// The facts of runs in a table.
fn side_by_side(runs: &[(String, Record)]) -> String {
    let columns: Vec<facts::Facts> = runs
        .iter()
        .map(|(_, record)| facts::of(record, record.last_time.unwrap_or_default()))
        .collect();
    let width =
        runs.iter().map(|run| run.0.chars().count()).max().unwrap_or(0).max(facts::COLUMN) + 2;
    let row = |label: &str, cells: Vec<&str>| {
        let cells: String = cells.into_iter().map(|cell| format!("{cell:>width$}")).collect();
        format!("{label:<0$}{cells}\n", facts::LABEL)
    };
    let mut text = row("", runs.iter().map(|run| run.0.as_str()).collect());
    for (index, label) in facts::LABELS.iter().enumerate() {
        let cells: Vec<&str> = columns.iter().map(|f| f[index].as_deref().unwrap_or("-")).collect();
        if cells.iter().any(|cell| *cell != "-") {
            text.push_str(&row(label, cells));
        }
    }
    text
}

/// The report of one run.
fn report(path: &Path) -> Result<String> {
    let log = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let report = view::of_log(BufReader::new(log), term::text_width(), term::unicode())
        .with_context(|| path.display().to_string())?;
    match report {
        Some(report) => Ok(report),
        None => bail!("{}: no session has finished, so there is no report yet", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_never_leads_out_of_the_directory() {
        for (name, expected) in [
            ("out/run-1", "out/run-1"),
            ("/tmp/x/../run", "tmp/x/run"),
            ("..", "run"),
            ("./a.jsonl", "a.jsonl"),
        ] {
            assert_eq!(inside(name), PathBuf::from(expected), "{name}");
        }
    }
}
