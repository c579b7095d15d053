//! What a person (or a program) sees of a run.

use super::args::{Args, LogFormat};
use super::report::shares;
use crate::progress;
use crate::term::{self, Role, fit, labelled, paint};
use anyhow::{Context, Result};
use gpt::forecast::StepEstimate;
use indicatif::ProgressBar;
use std::cell::RefCell;
use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use train::{Checkpoint, Event};

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

/// What a person (or a program) sees of a run.
pub(super) struct View {
    pub(super) format: LogFormat,
    /// Whether step lines tell the parts of a step.
    pub(super) verbose: bool,
    pub(super) bar: ProgressBar,
    pub(super) log: std::fs::File,
    pub(super) compile_s: f64,
    pub(super) tokens_per_step: usize,
    pub(super) total: u64,
    pub(super) val_loss: Option<f64>,
    pub(super) parts: Vec<(String, f64)>,
    pub(super) ms: f64,
    pub(super) steps: u64,
    pub(super) shown: u64,
    pub(super) forecast: Option<(ane::Chip, StepEstimate)>,
    /// Why a line could not be written.
    pub(super) unwritten: RefCell<Option<std::io::Error>>,
}

impl View {
    pub(super) fn new(args: &Args, out: &Path) -> Result<Self> {
        let path = out.join("log.jsonl");
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        let bar = match args.log_format {
            LogFormat::Human => progress::training(0),
            LogFormat::Json => ProgressBar::hidden(),
        };
        Ok(View {
            format: args.log_format,
            verbose: args.verbose,
            bar,
            log,
            compile_s: 0.0,
            tokens_per_step: 0,
            total: 0,
            val_loss: None,
            parts: vec![],
            ms: 0.0,
            steps: 0,
            shown: 0,
            forecast: None,
            unwritten: RefCell::new(None),
        })
    }

    pub(super) fn line(&self, text: &str) {
        if self.format == LogFormat::Human {
            let written = self.bar.suspend(|| writeln!(std::io::stdout(), "{text}"));
            if let Err(error) = written {
                self.unwritten.borrow_mut().get_or_insert(error);
            }
        }
    }

    /// A line of the block at the start.
    fn label(&self, label: &str, text: &str) {
        self.line(&labelled(label, text));
    }

    pub(super) fn describe(&self, data: &str, args: &Args, resumed: Option<&Checkpoint>) {
        self.label("data", data);
        if let Some(found) = resumed {
            self.label("resumed", &format!("{} at step {}", found.path().display(), found.step()));
        }
        if let Some(init) = &args.init {
            self.label("weights", &init.display().to_string());
        }
    }

    /// What the cost model says of a step on the chip.
    pub(super) fn forecast(&mut self, chip: ane::Chip, forecast: StepEstimate) {
        let ms = |seconds: f64| 1e3 * seconds;
        self.label(
            "forecast",
            &format!(
                "{:.1} ms/step ({:.1} to {:.1}) on {chip}, not confirmed on hardware",
                ms(forecast.seconds),
                ms(forecast.low),
                ms(forecast.high)
            ),
        );
        if self.verbose {
            self.label("", &shares(forecast.parts().into_iter(), forecast.seconds));
        }
        self.line("");
        self.forecast = Some((chip, forecast));
    }

    pub(super) fn show(&mut self, event: &Event) -> Result<()> {
        let json = serde_json::to_string(&Timed { event, time: now() })?;
        writeln!(self.log, "{json}").context("cannot write log.jsonl")?;
        if self.format == LogFormat::Json {
            let mut out = std::io::stdout().lock();
            writeln!(out, "{json}")?;
            out.flush()?;
        }
        self.show_human(event);
        // A run ends with a checkpoint when nobody reads any more.
        match self.unwritten.take() {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    fn show_human(&mut self, event: &Event) {
        match event {
            Event::Start {
                device,
                reason,
                model,
                params,
                tokens_per_step,
                train_tokens,
                val_tokens,
                unigram_entropy,
                step,
                steps,
                programs,
                compile_s,
                host_gemm,
                host_gemm_reason,
                settings,
            } => {
                (self.compile_s, self.tokens_per_step, self.total) =
                    (*compile_s, *tokens_per_step, *steps);
                self.bar.set_length(*steps);
                self.bar.set_position(*step);
                self.bar.reset_eta();
                self.label("device", device);
                self.label("", &format!("chosen because: {reason}"));
                if !host_gemm_reason.is_empty() {
                    self.label("host", &format!("products: {host_gemm}, {host_gemm_reason}"));
                }
                let count = |n: &usize| progress::count(*n as f64);
                self.label("model", &format!("{} parameters: {model}", count(params)));
                let ready = compile_s * 1e3;
                self.label(
                    "programs",
                    &format!("{programs} compiled in {ready:.0} ms, shared by all layers"),
                );
                self.label(
                    "tokens",
                    &format!(
                        "{} to train, {} to validate, {tokens_per_step} per step",
                        count(train_tokens),
                        count(val_tokens)
                    ),
                );
                self.label("epochs", &format!("{:.2} in {steps} steps", settings.epochs));
                if let Some(run) = &settings.run {
                    let (peak, reason) = (run.schedule.peak, &settings.lr_reason);
                    self.label("rate", &format!("{peak:.2e} at most, {reason}"));
                }
                self.label(
                    "baseline",
                    &format!(
                        "{unigram_entropy:.4} nats per token: a unigram model, which knows only how \
                         often each token occurs"
                    ),
                );
            }
            Event::Step { step, loss, lr, ms, skipped, parts, .. } => {
                self.show_step(*step, *loss, *lr, *ms, *skipped, parts)
            }
            Event::Eval { step, val_loss, .. } => {
                self.val_loss = Some(*val_loss);
                let loss = paint(Role::Validation, &format!("validation loss {val_loss:.4}"));
                self.line(&format!("step {step:>6}  {loss}"));
            }
            Event::Sample { text, .. } => self.line(&format!("\n{}\n", sample(text))),
            Event::Checkpoint { path, ms, .. } => {
                let saved = format!("{} ({ms:.0} ms)", path.display());
                let saved =
                    term::hanging("saved", &saved, "step      1  ".len(), term::text_width());
                self.line(&paint(Role::Quiet, &saved));
            }
            Event::Warning { message } => {
                let text = term::hanging("warning:", message, 9, term::text_width());
                let (label, text) = text.split_at("warning:".len());
                self.line(&format!("{}{text}", paint(Role::Warning, label)));
            }
            Event::Power { .. } | Event::Done { .. } => {}
        }
    }

    fn show_step(
        &mut self,
        step: u64,
        loss: f64,
        lr: f64,
        ms: f64,
        skipped: bool,
        parts: &std::collections::BTreeMap<String, f64>,
    ) {
        (self.ms, self.steps) = (self.ms + ms, self.steps + 1);
        if self.parts.is_empty() {
            self.parts = parts.keys().map(|name| (name.clone(), 0.0)).collect();
        }
        self.parts.iter_mut().zip(parts.values()).for_each(|((_, sum), ms)| *sum += ms);
        let speed = format!("{} tok/s", progress::count(1e3 * self.tokens_per_step as f64 / ms));
        let ms_shown = format!("{ms:.0} ms");
        let now = [
            Some(format!("loss {loss:.3}")),
            self.val_loss.map(|loss| format!("val {loss:.3}")),
            Some(speed.clone()),
            Some(format!("{ms_shown}/step")),
        ];
        progress::report(&self.bar, &now.into_iter().flatten().collect::<Vec<_>>());
        self.bar.set_position(step);
        let every = (self.total / 20).max(1);
        let begin = format!("step {step:>6}  ");
        if skipped {
            let what = paint(Role::Warning, "skipped");
            self.line(&format!("{begin}{what}: gradient overflow; loss scale halved"));
        } else if step.is_multiple_of(every) || self.shown == 0 {
            self.shown += 1;
            let loss = format!("loss {loss:.4}");
            let fields = [loss.clone(), format!("lr {lr:.2e}"), speed, ms_shown];
            let line = fit(&fields, term::text_width() - begin.len());
            let (_, others) = line.split_at(loss.len());
            self.line(&format!("{begin}{}{others}", paint(Role::Loss, &loss)));
            if self.verbose {
                let parts = shares(parts.iter().map(|(n, v)| (n.as_str(), *v)), ms);
                let text = term::hanging("", &parts, begin.len(), term::text_width());
                self.line(&paint(Role::Quiet, &text));
            }
        }
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// A sampled text as a block with a bar at its left.
fn sample(text: &str) -> String {
    let bar = if term::unicode() { "  │ " } else { "  | " };
    term::wrap(text.trim(), term::text_width(), bar, bar)
}
