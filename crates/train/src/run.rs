//! A run: steps, and between them validation, samples and checkpoints, told as events.

use crate::background::{Snapshot, Written};
use crate::event::{Best, Event, Spent};
use crate::stop::{Reason, Stop};
use crate::trainer::{Pretrain, Saved, StepReport, TrainError};
use ane::Device;
use gpt::Decoder;
use infer::{Finish, Generator, Request, Sampling};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use tokenizer::Tokenizer;

/// How often something happens; 0 never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intervals {
    /// Steps between measurements of the validation loss (it is also measured before the first step
    /// and at the end).
    pub eval: u64,
    /// Batches of one measurement; with 0 nothing is ever measured.
    pub eval_batches: usize,
    /// Steps between samples.
    pub sample: u64,
    /// Tokens of a sample.
    pub sample_tokens: usize,
    /// Steps between checkpoints (one is always written at the end).
    pub checkpoint: u64,
    /// Checkpoints kept, besides the best.
    pub keep: usize,
}

/// Where a run writes.
#[derive(Debug)]
pub struct RunOutput<'a> {
    /// Directory of checkpoints.
    pub directory: PathBuf,
    /// Checkpoints kept, besides the best.
    pub keep: usize,
    /// The text files of every checkpoint (see [`formats::hugging_face::files`]).
    pub texts: Vec<(&'static str, String)>,
    /// What samples begin with.
    pub prompt: &'a str,
    /// Notes of the caller, kept in `state.json`.
    pub extra: serde_json::Value,
    /// Seconds from the start of the program to the run, compiling the model included.
    pub setup_s: f64,
}

type Listener<'l> = dyn FnMut(Event) -> Result<(), TrainError> + 'l;

impl Pretrain {
    /// Runs to the last step, or until `stop` is requested, telling `listen` what happens. What
    /// `listen` fails with ends the run at once, before anything else is written.
    ///
    /// The validation loss is measured before the first step (unless the checkpoint knows it), as
    /// often as asked for, and at the end. Checkpoints are written while the next step runs, and one
    /// at the end; none of a state whose gradients were just not finite or whose last validation
    /// loss is not: it would push out a good one. A state with a new lowest validation loss is
    /// written even where no checkpoint is due, after the first tenth of the run and at most once in a
    /// twentieth of it. A sample that fails is a warning.
    ///
    /// A requested stop takes effect after the step, the batch of a measurement or the token of a sample
    /// under way; then only the checkpoint is written.
    ///
    /// # Errors
    /// As the parts.
    pub fn run(
        &mut self,
        device: &dyn Device,
        tokenizer: &Tokenizer,
        intervals: Intervals,
        out: &RunOutput<'_>,
        stop: &Stop,
        listen: &mut Listener<'_>,
    ) -> Result<(), TrainError> {
        let spent = Spent { compile_s: self.model.compile_seconds, ..Spent::default() };
        let begun = self.progress.step;
        let mut run = Run {
            trainer: self,
            intervals,
            out,
            stop,
            listen,
            sampler: None,
            spent,
            started: Instant::now(),
            begun,
            first_val_loss: None,
            newest: None,
            writing: None,
        };
        run.begin(device, tokenizer)?;
        while run.trainer.progress.step < run.total() && !stop.requested() {
            run.step()?;
            if run.trainer.progress.step < run.total() {
                run.between_steps()?;
            }
        }
        match stop.reason() {
            None => run.finish(),
            Some(reason) => run.end_early(reason),
        }
    }

    /// A generator for samples, compiled once.
    fn generator<'t>(
        &self,
        tokenizer: &'t Tokenizer,
        device: &'t dyn Device,
    ) -> Result<Generator<'t>, TrainError> {
        let decoder = Decoder::new(
            &self.config.model,
            self.arenas.params.clone(),
            device.least_width(),
            device,
            self.numerics,
        )?;
        Ok(Generator::new(decoder, tokenizer)?)
    }

    /// A text begun with `prompt`, drawn at temperature 0.8 with a seed that depends on the step; `None`
    /// if the run is to end before it is whole.
    fn sample(
        &self,
        generator: &mut Generator<'_>,
        prompt: &str,
        max_tokens: usize,
        stop: &Stop,
    ) -> Result<Option<String>, TrainError> {
        generator.decoder().replace_weights(&self.arenas.params)?;
        let (mut text, seed) = (prompt.to_owned(), self.config.seed ^ self.progress.step);
        let request = Request { max_tokens, sampling: Sampling::default(), seed, slide: true };
        let drawn = generator.generate_while(prompt, request, |piece| {
            text.push_str(piece);
            !stop.requested()
        })?;
        Ok(Some(text).filter(|_| drawn.finish != Finish::Stopped))
    }

    fn snapshot(&self, out: &RunOutput<'_>) -> Snapshot {
        let saved = Saved {
            run: self.config.clone(),
            progress: self.progress.clone(),
            extra: out.extra.clone(),
        };
        Snapshot {
            step: self.progress.step,
            best: self.progress.best.map(|best| best.step),
            layout: self.model.layout().clone(),
            arenas: Arc::clone(&self.arenas),
            texts: out.texts.clone(),
            state: serde_json::to_value(saved).expect("plain data"),
            directory: out.directory.clone(),
            keep: out.keep,
        }
    }

    /// True if a state measured at `val_loss` would be the best of all checkpoints.
    fn improves(&self, val_loss: f64, batches: usize) -> bool {
        let comparable = self.progress.best.filter(|best| best.batches == batches);
        val_loss.is_finite() && comparable.is_none_or(|best| val_loss < best.val_loss)
    }

    fn step_event(&mut self, report: StepReport, seconds: f64) -> Event {
        let parts = self.model.timings.take().parts();
        let mut parts: BTreeMap<String, f64> =
            parts.into_iter().map(|(name, s)| (name.to_owned(), s * 1e3)).collect();
        parts.insert("optimizer".to_owned(), std::mem::take(&mut self.optimizer_seconds) * 1e3);
        Event::Step {
            step: self.progress.step,
            loss: report.loss,
            lr: report.lr,
            tokens: self.progress.tokens,
            ms: seconds * 1e3,
            grad_norm: report.grad_norm,
            loss_scale: report.loss_scale,
            skipped: report.skipped,
            parts,
        }
    }
}

/// True at every `every`-th step; never for 0.
fn due(every: u64, step: u64) -> bool {
    every > 0 && step.is_multiple_of(every)
}

/// True if a new lowest validation loss at `step` is worth a checkpoint of its own: not in the first
/// tenth of a run, where every measurement is one, and at most once in a twentieth of the run. Depends on
/// nothing but counts, so that a resumed run writes what the uninterrupted one would.
fn may_keep_best(eval: u64, step: u64, total: u64) -> bool {
    let between = eval * (total / 20).div_ceil(eval.max(1)).max(1);
    10 * step > total && due(between, step)
}

/// Adds the seconds that `work` takes to `account`.
fn timed<T>(account: &mut f64, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    *account += start.elapsed().as_secs_f64();
    result
}

/// One session: from a fresh start or a checkpoint to the end.
struct Run<'r, 't> {
    trainer: &'r mut Pretrain,
    intervals: Intervals,
    out: &'r RunOutput<'r>,
    stop: &'r Stop,
    listen: &'r mut Listener<'r>,
    /// Absent where no samples are taken.
    sampler: Option<Generator<'t>>,
    spent: Spent,
    started: Instant,
    /// Steps done before.
    begun: u64,
    first_val_loss: Option<f64>,
    /// The newest checkpoint of this session.
    newest: Option<PathBuf>,
    /// Step of the last checkpoint that was begun.
    writing: Option<u64>,
}

impl<'t> Run<'_, 't> {
    fn total(&self) -> u64 {
        self.trainer.config.schedule.total
    }

    fn tell(&mut self, event: Event) -> Result<(), TrainError> {
        (self.listen)(event)
    }

    /// What comes before the first step.
    fn begin(
        &mut self,
        device: &'t dyn Device,
        tokenizer: &'t Tokenizer,
    ) -> Result<(), TrainError> {
        if self.intervals.sample > 0 && self.trainer.progress.step < self.total() {
            let trainer = &self.trainer;
            let compile = || trainer.generator(tokenizer, device);
            match timed(&mut self.spent.compile_s, compile) {
                Ok(sampler) => self.sampler = Some(sampler),
                Err(error) => self.no_sample(&error)?,
            }
        }
        if self.trainer.progress.val_loss.is_none() {
            self.first_val_loss = self.validate()?;
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), TrainError> {
        // What evaluation and samples took is not part of a step.
        self.trainer.model.timings.take();
        let start = Instant::now();
        let report = self.trainer.step()?;
        let waited = self.trainer.waited_seconds;
        let seconds = start.elapsed().as_secs_f64() - waited;
        self.spent.steps_s += seconds;
        self.spent.checkpoints_s += waited;
        let event = self.trainer.step_event(report, seconds);
        self.tell(event)?;
        let written = self.trainer.writer.finished()?;
        self.tell_written(written)
    }

    fn between_steps(&mut self) -> Result<(), TrainError> {
        let (step, total) = (self.trainer.progress.step, self.total());
        let Intervals { eval, eval_batches, .. } = self.intervals;
        let mut save = due(self.intervals.checkpoint, step);
        let mut improved = None;
        if due(eval, step)
            && let Some(val_loss) = self.validate()?
            && self.trainer.improves(val_loss, eval_batches)
        {
            improved = Some(Best { step, val_loss, batches: eval_batches });
            save |= may_keep_best(eval, step, total);
        }
        if due(self.intervals.sample, step) {
            self.sample()?;
        }
        if save && self.trainer.overflows == 0 {
            self.trainer.progress.best = improved.or(self.trainer.progress.best);
            let (trainer, out) = (&mut *self.trainer, self.out);
            timed(&mut self.spent.checkpoints_s, || {
                let snapshot = trainer.snapshot(out);
                trainer.writer.start(snapshot)
            })?;
            self.writing = Some(step);
        }
        Ok(())
    }

    /// The last validation, sample and checkpoint.
    fn finish(&mut self) -> Result<(), TrainError> {
        let (step, batches) = (self.trainer.progress.step, self.intervals.eval_batches);
        let mut val_loss = self.validate()?;
        if val_loss.is_some_and(|loss| !loss.is_finite()) {
            // A device that failed once is not a run that has diverged.
            val_loss = self.validate()?;
        }
        if let Some(val_loss) = val_loss {
            if !val_loss.is_finite() {
                return Err(TrainError::NotFinite { step, val_loss });
            }
            if self.trainer.improves(val_loss, batches) {
                self.trainer.progress.best = Some(Best { step, val_loss, batches });
            }
        }
        self.sample()?;
        self.save()?;
        // Asked to stop by now, the run is done all the same, if all of this was.
        let unmeasured = batches > 0 && val_loss.is_none();
        let reason = self.stop.reason().filter(|_| unmeasured).unwrap_or_default();
        self.done(reason)
    }

    /// Saves what was learned, and nothing else.
    fn end_early(&mut self, reason: Reason) -> Result<(), TrainError> {
        let Pretrain { progress, overflows, .. } = &self.trainer;
        let doubtful = *overflows > 0 || progress.val_loss.is_some_and(|loss| !loss.is_finite());
        if doubtful && self.intervals.eval_batches > 0 {
            // The only measurement that is not skipped: a state that diverged must not push out a good one.
            let (step, batches) = (progress.step, self.intervals.eval_batches);
            let val_loss = self.trainer.evaluate(batches)?;
            if !val_loss.is_finite() {
                return Err(TrainError::NotFinite { step, val_loss });
            }
        }
        if self.trainer.progress.step > self.begun {
            self.save()?;
        }
        self.done(reason)
    }

    /// Measures and tells the validation loss; `None` if nothing is to be measured or the run is to end.
    fn validate(&mut self) -> Result<Option<f64>, TrainError> {
        let (step, batches) = (self.trainer.progress.step, self.intervals.eval_batches);
        if batches == 0 {
            return Ok(None);
        }
        let (trainer, stop) = (&mut *self.trainer, self.stop);
        let start = Instant::now();
        let measured =
            timed(&mut self.spent.validation_s, || trainer.evaluate_until(batches, stop))?;
        if let Some(val_loss) = measured {
            self.tell(Event::Eval { step, val_loss, ms: 1e3 * start.elapsed().as_secs_f64() })?;
        }
        Ok(measured)
    }

    /// Draws and tells a sample. A failure is told as well, and ends nothing.
    fn sample(&mut self) -> Result<(), TrainError> {
        let Some(generator) = self.sampler.as_mut().filter(|_| !self.stop.requested()) else {
            return Ok(());
        };
        let (trainer, prompt, stop) = (&*self.trainer, self.out.prompt, self.stop);
        let (most, start) = (self.intervals.sample_tokens, Instant::now());
        let drawn =
            timed(&mut self.spent.samples_s, || trainer.sample(generator, prompt, most, stop));
        match drawn {
            Ok(None) => Ok(()),
            Ok(Some(text)) => self.tell(Event::Sample {
                step: self.trainer.progress.step,
                text,
                ms: 1e3 * start.elapsed().as_secs_f64(),
            }),
            Err(error) => self.no_sample(&error),
        }
    }

    fn no_sample(&mut self, error: &TrainError) -> Result<(), TrainError> {
        self.tell(Event::Warning { message: format!("no sample: {error}") })
    }

    /// Writes the state as it is, unless that is done or under way.
    fn save(&mut self) -> Result<(), TrainError> {
        let step = self.trainer.progress.step;
        let (trainer, out, begun) = (&mut *self.trainer, self.out, self.writing == Some(step));
        let written = timed(&mut self.spent.checkpoints_s, || {
            trainer.writer.wait()?;
            let mut written = trainer.writer.finished()?;
            if !begun {
                written.push(trainer.snapshot(out).write()?);
            }
            Ok::<_, TrainError>(written)
        })?;
        self.tell_written(written)
    }

    fn tell_written(&mut self, written: Vec<Written>) -> Result<(), TrainError> {
        for Written { step, path, seconds, best } in written {
            self.newest = Some(path.clone());
            self.tell(Event::Checkpoint { step, path, ms: seconds * 1e3, best })?;
        }
        Ok(())
    }

    fn done(&mut self, reason: Reason) -> Result<(), TrainError> {
        let run = &self.trainer.config;
        let (progress, spent) = (&self.trainer.progress, &mut self.spent);
        spent.setup_s = (self.out.setup_s - self.trainer.model.compile_seconds).max(0.0);
        spent.total_s = self.out.setup_s + self.started.elapsed().as_secs_f64();
        let known = spent.setup_s
            + spent.compile_s
            + spent.steps_s
            + spent.validation_s
            + spent.samples_s
            + spent.checkpoints_s;
        spent.other_s = spent.total_s - known;
        let steps = (progress.step - self.begun) as f64;
        let tokens = steps * (run.accum * run.batch * run.seq) as f64;
        let event = Event::Done {
            steps: progress.step,
            val_loss: progress.val_loss,
            ms_per_step: 1e3 * spent.steps_s / steps.max(1.0),
            tokens_per_s: if spent.steps_s > 0.0 { tokens / spent.steps_s } else { 0.0 },
            reason,
            checkpoint: self.newest.clone(),
            best: progress.best,
            first_val_loss: self.first_val_loss,
            spent: *spent,
            peak_memory_mib: None,
        };
        self.tell(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_is_kept_after_a_tenth_and_not_too_often() {
        let kept = |eval: u64, total: u64| -> Vec<u64> {
            (1..=total).filter(|&s| due(eval, s) && may_keep_best(eval, s, total)).collect()
        };
        assert_eq!(kept(80, 800), [160, 240, 320, 400, 480, 560, 640, 720, 800]);
        // Measured at every step: once in 5 of 100.
        assert_eq!(kept(1, 100), (3..=20).map(|i| 5 * i).collect::<Vec<_>>());
        assert_eq!(kept(7, 100), [14, 21, 28, 35, 42, 49, 56, 63, 70, 77, 84, 91, 98]);
        assert_eq!(kept(1, 4), [1, 2, 3, 4]);
        assert_eq!(kept(0, 100), [0; 0]);
    }
}
