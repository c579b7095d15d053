//! Views of a run's events: lines of a log, lines of JSON, or text for people.

mod curve;
mod human;
mod json;
mod report;
mod tokens;

pub(crate) use human::{accuracies, passed};
pub(crate) use json::{Skipped, read as events_of};
pub(crate) use report::{of_log, resume};
pub(crate) use tokens::StepTokens;

use anyhow::{Context, Result};
use clap::ValueEnum;
use human::Human;
use indicatif::ProgressBar;
use std::io::Write;
use std::path::Path;
use train::{Event, Range};

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

/// The readers of a run's events.
pub(crate) struct View {
    log: std::fs::File,
    /// `None` where standard output is JSON.
    human: Option<Human>,
}

impl View {
    pub(crate) fn new(args: &ViewArgs, out: &Path) -> Result<Self> {
        let log = json::open_log(out)?;
        let human = (args.log_format == LogFormat::Human).then(|| Human::new(args.verbose));
        Ok(View { log, human })
    }

    /// Passes an event on.
    ///
    /// # Errors
    /// When it cannot be written, as when nobody reads any more.
    pub(crate) fn show(&mut self, event: &Event) -> Result<()> {
        let json = json::line(event)?;
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

/// The products that limit a run, in words.
pub(crate) fn limits(products: &[Range]) -> String {
    let (near, losing) = Range::limits(products);
    let near = near.map(|range| match range.headroom {
        Some(headroom) => format!(
            "closest to 2^15: {}, {headroom:.1} powers of two below it (layer {})",
            range.tensor, range.layer
        ),
        None => format!("beyond 2^15: {} (layer {})", range.tensor, range.layer),
    });
    let losing = match losing {
        Some(range) => format!(
            "most products lost below 2^-16: {}, {:.0} % of {} x {} (layer {})",
            range.tensor,
            100.0 * range.lost,
            range.operands[0],
            range.operands[1],
            range.lost_layer
        ),
        None => "no product loses 1 % below 2^-16".to_owned(),
    };
    near.into_iter().chain([losing]).collect::<Vec<_>>().join("; ")
}

/// Training and validation losses by step, drawn with characters; `None` if there is too little to draw.
pub(crate) fn draw_losses(
    training: &[(u64, f64)],
    validation: &[(u64, f64)],
    width: usize,
) -> Option<String> {
    curve::draw(training, validation, width, true)
}
