//! `anegpt report`.

use crate::progress::counted;
use crate::record::{Record, facts, find_log};
use crate::report::{page, pipeline, write_csv, write_tensorboard};
use crate::view::Skipped;
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
/// printed as Markdown; --out writes FILE.html and FILE.md. Results of tasks come from eval/ in each run, where
/// `anegpt eval --tasks` keeps them, and from any other file with its --json output.
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
    /// Write one HTML file with pictures; - = standard output
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
    let [page_to_stdout, csv_to_stdout] = [&args.out, &args.csv].map(is_stdout);
    if page_to_stdout && csv_to_stdout {
        return Err(usage(
            "--out - and --csv - cannot both be standard output: name a file for one",
        ));
    }
    let paths = args.runs.iter().chain(&args.compare);
    let logs = paths.map(|run| Ok((name(run), find_log(run)?)));
    let logs: Vec<(String, PathBuf)> = logs.collect::<Result<_>>()?;
    let wrote = |what: String| match page_to_stdout || csv_to_stdout {
        true => eprintln!("wrote {what}"),
        false => println!("wrote {what}"),
    };
    if let Some(out) = &args.out {
        let runs = read(&logs)?;
        warn_missing(&runs);
        match page_to_stdout {
            true => print!("{}", page(&runs)),
            false => {
                write(out, |file| Ok(file.write_all(page(&runs).as_bytes())?))?;
                wrote(out.display().to_string());
            }
        }
    }
    if let Some(csv) = &args.csv {
        let skipped = match csv_to_stdout {
            true => write_csv(&logs, &mut std::io::stdout().lock())?,
            false => write(csv, |file| write_csv(&logs, file))?,
        };
        logs.iter().zip(skipped).for_each(|((name, _), skipped)| warn_of(name, skipped));
        if !csv_to_stdout {
            wrote(csv.display().to_string());
        }
    }
    if let Some(directory) = &args.tensorboard {
        for ((name, log), directory) in logs.iter().zip(apart(directory, &logs)?) {
            let (numbers, texts, skipped) = write_tensorboard(log, &directory)?;
            warn_of(name, skipped);
            let [numbers, texts] =
                [(numbers, "number"), (texts, "text")].map(|(n, noun)| counted(n, noun));
            wrote(format!("{numbers} and {texts} to {}", directory.display()));
        }
    }
    if args.out.is_some() || args.csv.is_some() || args.tensorboard.is_some() {
        return Ok(());
    }
    if !args.compare.is_empty() {
        let runs = read(&logs)?;
        warn_missing(&runs);
        print!("{}", side_by_side(&runs));
        return Ok(());
    }
    for (index, (name, log)) in logs.iter().enumerate() {
        if index > 0 {
            println!();
        }
        print!("{}", report(name, log)?);
    }
    Ok(())
}

/// True if a file stands for standard output.
fn is_stdout(file: &Option<PathBuf>) -> bool {
    file.as_ref().is_some_and(|file| file.as_os_str() == "-")
}

fn warn(run: &str, note: &str) {
    term::warn(&format!("{run}: {note}"));
}

fn warn_of(run: &str, skipped: Skipped) {
    skipped.note().iter().for_each(|note| warn(run, note));
}

/// A directory for each run below `directory`.
///
/// # Errors
/// When two runs would share one.
fn apart(directory: &Path, logs: &[(String, PathBuf)]) -> Result<Vec<PathBuf>> {
    let places: Vec<PathBuf> = logs.iter().map(|(name, _)| directory.join(inside(name))).collect();
    for (index, place) in places.iter().enumerate() {
        if let Some(other) = places[..index].iter().position(|other| other == place) {
            return Err(usage(format!(
                "{} and {} would both be written to {}: give each a --tensorboard of its own",
                logs[other].0,
                logs[index].0,
                place.display()
            )));
        }
    }
    Ok(places)
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
    if is_stdout(&args.out) {
        print!("{}", report.html());
        return Ok(());
    }
    let texts = [("html", report.html()), ("md", report.markdown())];
    for (extension, text) in texts {
        let path = with_ending(out, extension);
        write(&path, |file| Ok(file.write_all(text.as_bytes())?))?;
        println!("wrote {}", path.display());
    }
    Ok(())
}

/// A path that ends in `.extension`, in place of `.html` or `.md` if it ends in that: other dots belong to its name.
fn with_ending(path: &Path, extension: &str) -> PathBuf {
    let ours = path.extension().is_some_and(|end| end == "html" || end == "md");
    let mut whole = if ours { path.with_extension("") } else { path.to_owned() }.into_os_string();
    whole.push(format!(".{extension}"));
    whole.into()
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
        match record.is_of_a_run() {
            true => Ok((name.clone(), record)),
            false => Err(usage(format!("{}: this log has no events of a run", log.display()))),
        }
    };
    logs.iter().map(record).collect()
}

/// Warns of what the logs of runs leave out.
fn warn_missing(runs: &[(String, Record)]) {
    for (name, record) in runs {
        record.missing().iter().for_each(|note| warn(name, note));
    }
}

/// Writes a file, in a directory that is created if need be.
fn write<T>(path: &Path, fill: impl FnOnce(&mut dyn Write) -> Result<T>) -> Result<T> {
    let unwritten = || format!("cannot write {}", path.display());
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).with_context(unwritten)?;
    }
    let mut file = BufWriter::new(File::create(path).with_context(unwritten)?);
    let filled = fill(&mut file)?;
    file.flush().with_context(unwritten)?;
    Ok(filled)
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
fn report(name: &str, path: &Path) -> Result<String> {
    let log = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (report, skipped) = view::of_log(BufReader::new(log), term::text_width(), term::unicode())
        .with_context(|| path.display().to_string())?;
    warn_of(name, skipped);
    match report {
        Some(report) => Ok(report),
        None => {
            read(&[(name.to_owned(), path.to_owned())])?;
            bail!(
                "{name}: the newest session has not said how it ended, so there is no report of it; --out FILE.html \
                 shows how far the run got"
            )
        }
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

    #[test]
    fn dots_belong_to_names() {
        for (out, html) in [
            ("card", "card.html"),
            ("card.md", "card.html"),
            ("d.1/card.html", "d.1/card.html"),
            ("run-0.25", "run-0.25.html"),
        ] {
            assert_eq!(with_ending(Path::new(out), "html"), PathBuf::from(html), "{out}");
        }
    }

    #[test]
    fn runs_do_not_share_a_directory() {
        let logs = |names: &[&str]| -> Vec<(String, PathBuf)> {
            names.iter().map(|name| ((*name).to_owned(), PathBuf::new())).collect()
        };
        let places = apart(Path::new("t"), &logs(&["a", "b"])).unwrap();
        assert_eq!(places, [PathBuf::from("t/a"), PathBuf::from("t/b")]);
        let error = apart(Path::new("t"), &logs(&["b/a", "./b/a"])).unwrap_err().to_string();
        assert!(error.contains("b/a and ./b/a would both be written to t/b/a"), "{error}");
    }
}
