//! What becomes of a run's events: lines of a log, lines of JSON, or what a person sees.

mod curve;
mod human;
mod report;

pub(crate) use report::resume;

use anyhow::{Context, Result};
use clap::ValueEnum;
use human::Human;
use indicatif::ProgressBar;
use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use train::Event;

/// Flags that say how a run is shown.
#[derive(Debug, clap::Args)]
pub(crate) struct ViewArgs {
    /// Output format
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        default_value = "human",
        help_heading = "Output"
    )]
    log_format: LogFormat,
    /// Show the parts of each step and of the forecast
    #[arg(short, long, help_heading = "Output")]
    verbose: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// Lines, and a progress bar on a terminal
    Human,
    /// One JSON object per event, and nothing else on standard output
    Json,
}

/// An event as it is written.
#[derive(serde::Serialize)]
struct Timed<'e> {
    #[serde(flatten)]
    event: &'e Event,
    /// Seconds since 1970 (UTC), to the millisecond.
    time: f64,
}

fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as f64 / 1e3
}

/// The readers of a run's events.
pub(crate) struct View {
    log: std::fs::File,
    /// `None` where standard output is JSON.
    human: Option<Human>,
}

impl View {
    pub(crate) fn new(args: &ViewArgs, out: &Path) -> Result<Self> {
        let path = out.join("log.jsonl");
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        let human = (args.log_format == LogFormat::Human).then(|| Human::new(args.verbose));
        Ok(View { log, human })
    }

    /// Passes an event on.
    ///
    /// # Errors
    /// When it cannot be written, as when nobody reads any more.
    pub(crate) fn show(&mut self, event: &Event) -> Result<()> {
        let json = serde_json::to_string(&Timed { event, time: now() })?;
        writeln!(self.log, "{json}").context("cannot write log.jsonl")?;
        match &mut self.human {
            Some(human) => human.show(event)?,
            None => {
                let mut out = std::io::stdout().lock();
                writeln!(out, "{json}")?;
                out.flush()?;
            }
        }
        Ok(())
    }

    /// The progress bar, above which others write.
    pub(crate) fn bar(&self) -> ProgressBar {
        self.human.as_ref().map_or_else(ProgressBar::hidden, Human::bar)
    }

    /// Removes the progress bar.
    pub(crate) fn finish(&self) {
        self.bar().finish_and_clear();
    }

    /// A line for people.
    pub(crate) fn line(&mut self, text: &str) -> Result<()> {
        self.human.as_mut().map_or(Ok(()), |human| Ok(human.line(text)?))
    }
}
