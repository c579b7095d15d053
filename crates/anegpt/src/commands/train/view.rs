//! What a person (or a program) sees of a run.

use super::args::{Args, LogFormat};
use super::report::shares;
use crate::progress;
use anyhow::{Context, Result};
use gpt::forecast::StepEstimate;
use indicatif::ProgressBar;
use std::cell::RefCell;
use std::io::Write;
use std::path::Path;
use std::time::Instant;
use train::{Checkpoint, Event};

/// What a person (or a program) sees of a run.
pub(super) struct View {
    pub(super) format: LogFormat,
    pub(super) bar: ProgressBar,
    pub(super) log: std::fs::File,
    pub(super) started: Instant,
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
            LogFormat::Human => progress::steps("training", 0),
            LogFormat::Json => ProgressBar::hidden(),
        };
        Ok(View {
            format: args.log_format,
            bar,
            log,
            started: Instant::now(),
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

    pub(super) fn describe(&self, data: &str, args: &Args, resumed: Option<&Checkpoint>) {
        self.line(&format!("data       {data}"));
        if let Some(found) = resumed {
            self.line(&format!("resumed    {} at step {}", found.path().display(), found.step()));
        }
        if let Some(init) = &args.init {
            self.line(&format!("weights    {}", init.display()));
        }
    }

    /// What the cost model says of a step on the chip.
    pub(super) fn forecast(&mut self, chip: ane::Chip, forecast: StepEstimate) {
        let ms = |seconds: f64| 1e3 * seconds;
        self.line(&format!(
            "forecast   {:.1} ms/step ({:.1} to {:.1}) on {chip}, not confirmed on hardware",
            ms(forecast.seconds),
            ms(forecast.low),
            ms(forecast.high)
        ));
        let parts = shares(forecast.parts().into_iter(), forecast.seconds);
        self.line(&format!("           of which {parts}\n"));
        self.forecast = Some((chip, forecast));
    }

    pub(super) fn show(&mut self, event: &Event) -> Result<()> {
        let json = serde_json::to_string(event)?;
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
            } => {
                (self.compile_s, self.tokens_per_step, self.total) =
                    (*compile_s, *tokens_per_step, *steps);
                self.bar.set_length(*steps);
                self.bar.set_position(*step);
                self.line(&format!("device     {device}"));
                self.line(&format!("           chosen because: {reason}"));
                if !host_gemm_reason.is_empty() {
                    self.line(&format!("host       products: {host_gemm}, {host_gemm_reason}"));
                }
                self.line(&format!(
                    "model      {} parameters: {model}",
                    progress::count(*params as f64)
                ));
                self.line(&format!(
                    "programs   {programs} ready in {:.0} ms, shared by all layers",
                    compile_s * 1e3
                ));
                self.line(&format!(
                    "tokens     {} to train, {} to validate, {tokens_per_step} per step",
                    progress::count(*train_tokens as f64),
                    progress::count(*val_tokens as f64)
                ));
                self.line(&format!("baseline   {unigram_entropy:.4} nats per token, knowing only how often each occurs"));
            }
            Event::Step { step, loss, lr, ms, skipped, parts, .. } => {
                self.show_step(*step, *loss, *lr, *ms, *skipped, parts)
            }
            Event::Eval { step, val_loss } => {
                self.val_loss = Some(*val_loss);
                self.line(&format!("step {step:>6}  validation loss {val_loss:.4}"));
            }
            Event::Sample { text, .. } => self.line(&format!("\n{}\n", indent(text))),
            Event::Checkpoint { path, ms, .. } => {
                self.line(&format!("checkpoint {} ({ms:.0} ms)", path.display()));
            }
            Event::Warning { message } => self.line(&format!("warning: {message}")),
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
        let speed = 1e3 * self.tokens_per_step as f64 / ms;
        let validation = self.val_loss.map_or(String::new(), |v| format!(" val {v:.3}"));
        self.bar.set_message(format!(
            "loss {loss:.3}{validation} {} tok/s {ms:.0} ms/step",
            progress::count(speed)
        ));
        self.bar.set_position(step);
        let every = (self.total / 20).max(1);
        if skipped {
            self.line(&format!(
                "step {step:>6}  left out: a gradient overflowed, the loss scale is halved"
            ));
        } else if step.is_multiple_of(every) || self.shown == 0 {
            self.shown += 1;
            self.line(&format!(
                "step {step:>6}  loss {loss:.4}  lr {lr:.2e}  {} tok/s  {ms:.0} ms  ({})",
                progress::count(speed),
                shares(parts.iter().map(|(n, v)| (n.as_str(), *v)), ms)
            ));
        }
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// A text as a block of lines of at most 90 characters.
pub(super) fn indent(text: &str) -> String {
    let mut lines = vec![];
    for paragraph in text.trim().lines() {
        let mut line = String::from("  │");
        for word in paragraph.split(' ') {
            if line.chars().count() + word.chars().count() > 90 {
                lines.push(std::mem::replace(&mut line, String::from("  │")));
            }
            line.push(' ');
            line.push_str(word);
        }
        lines.push(line);
    }
    lines.join("\n")
}
