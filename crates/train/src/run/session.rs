//! A session of a run: steps, and between them validation, samples, checkpoints and hooks, told as
//! events. Nothing that is computed depends on a clock or on what is told.

use super::Run;
use super::divergence::Divergence;
use crate::background::Written;
use crate::config::Intervals;
use crate::error::TrainError;
use crate::evaluate::{Asked, Chat, Conversing, Core, Quiz};
use crate::event::{Best, Event, Spent};
use crate::hook::Hook;
use crate::objective::rl::Speaker;
use crate::objective::{Objective, Validation};
use crate::sample::{self, Sampler, Samples};
use crate::stop::{Reason, Stop};
use std::path::PathBuf;
use std::time::Instant;
use tokenizer::chat::Message;

/// Where a run writes.
#[derive(Debug)]
pub struct RunOutput {
    /// Directory of checkpoints.
    pub directory: PathBuf,
    /// The text files of every checkpoint (see [`formats::hugging_face::files_of`]).
    pub texts: Vec<(&'static str, String)>,
    /// Notes of the caller, kept in `state.json`.
    pub extra: serde_json::Value,
    /// Seconds from the start of the program to the run, compiling the model included.
    pub setup_s: f64,
}

/// CORE as often as asked for.
#[derive(Debug)]
pub struct CoreEvery {
    /// Steps between measurements; it is also measured at the end.
    pub steps: u64,
    /// The questions.
    pub core: Core,
}

/// Conversations with a model that is finetuned.
#[derive(Debug)]
pub struct Talks {
    /// What it answers with, besides its weights.
    pub speaker: Speaker,
    /// Conversations that end with a question. Samples are the answers to them; without any, none are drawn.
    pub questions: Vec<Vec<Message>>,
    /// Tasks whose accuracies are measured, and the steps between measurements; they are also measured at the end.
    pub tasks: Option<(u64, Chat)>,
}

/// A session of a run, from a fresh start or a checkpoint to the end.
pub struct Session<'s, 'h> {
    /// The actions between steps, and how often they happen.
    pub intervals: Intervals,
    /// Where the run writes.
    pub output: RunOutput,
    /// How samples are drawn.
    pub samples: Samples<'s>,
    /// CORE, if it is to be measured.
    pub core: Option<CoreEvery>,
    /// Conversations with the model, if it has a format for them.
    pub talks: Option<Talks>,
    /// Asks the run to end early.
    pub stop: &'s Stop,
    /// The hooks, in the order in which they are called.
    pub hooks: Vec<&'h mut (dyn Hook + 'h)>,
}

/// Told every event; its error ends the run.
pub type Listener<'l> = dyn FnMut(Event) -> Result<(), TrainError> + 'l;

impl<O: Objective> Run<O> {
    /// Runs to the last step, or until a stop is requested, telling `listen` what happens. What
    /// `listen` or a hook fails with ends the run at once, before anything else is written.
    ///
    /// The validation loss is measured before the first step (unless the checkpoint knows it), as
    /// often as asked for, and at the end. Checkpoints are written while the next step runs, none of
    /// a state whose gradients were just not finite: it would push out a good one. One is written at the
    /// end, unless the last validation loss is not finite. A state with a new lowest validation loss is
    /// written even where no checkpoint is due, after the first tenth of the run and at most once in a
    /// twentieth of it. A sample that fails is a warning.
    ///
    /// Before CORE or tasks are measured the state is written, even where no checkpoint is due. Answers are kept as they
    /// come: a resumed run asks what is left, and nothing that was told before. No checkpoint depends on it.
    ///
    /// A requested stop takes effect after the step, the batch of a measurement or the token of a sample
    /// under way; then only the checkpoint is written.
    ///
    /// # Errors
    /// As the parts.
    pub fn to_end(
        &mut self,
        session: &mut Session<'_, '_>,
        listen: &mut Listener<'_>,
    ) -> Result<(), TrainError> {
        let compile_s = self.trainer.model().compile_seconds;
        let (begun, tokens_before) = (self.step_count(), self.trainer.counts().tokens);
        let stop = session.stop;
        let divergence = Divergence::new(self.config.schedule.peak);
        let mut course = Course {
            run: self,
            session,
            listen,
            sampler: None,
            spent: Spent { compile_s, ..Spent::default() },
            started: Instant::now(),
            begun,
            tokens_before,
            first_val_loss: None,
            newest: None,
            writing: None,
            token_bytes: vec![],
            divergence,
        };
        course.begin()?;
        while course.run.step_count() < course.total() && !stop.requested() {
            course.step()?;
            if course.run.step_count() < course.total() {
                course.between_steps()?;
            }
        }
        match stop.reason() {
            None => course.finish(),
            Some(reason) => course.end_early(reason),
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

/// The course of one session.
struct Course<'c, 's, 'h, O> {
    run: &'c mut Run<O>,
    session: &'c mut Session<'s, 'h>,
    listen: &'c mut Listener<'c>,
    /// Absent where no samples are taken.
    sampler: Option<Sampler<'s>>,
    spent: Spent,
    started: Instant,
    /// Steps and tokens done before.
    begun: u64,
    tokens_before: u64,
    first_val_loss: Option<f64>,
    /// The newest checkpoint of this session.
    newest: Option<PathBuf>,
    /// Step of the last checkpoint that was begun.
    writing: Option<u64>,
    /// Of each token of the tokenizer.
    token_bytes: Vec<u32>,
    divergence: Divergence,
}

impl<O: Objective> Course<'_, '_, '_, O> {
    fn total(&self) -> u64 {
        self.run.config.schedule.total
    }

    fn tell(&mut self, event: Event) -> Result<(), TrainError> {
        (self.listen)(event)
    }

    /// The work before the first step.
    fn begin(&mut self) -> Result<(), TrainError> {
        for i in 0..self.session.hooks.len() {
            if let Some(event) = self.session.hooks[i].before_steps()? {
                self.tell(event)?;
            }
        }
        let texts = self.session.talks.is_none() && self.session.intervals.sample > 0;
        if texts && self.run.step_count() < self.total() {
            let (trainer, samples) = (&self.run.trainer, self.session.samples);
            match timed(&mut self.spent.compile_s, || Sampler::new(trainer, samples)) {
                Ok(sampler) => self.sampler = Some(sampler),
                Err(error) => self.no_sample(&error)?,
            }
        }
        let tokenizer = self.session.samples.tokenizer;
        let bytes = |id: u32| tokenizer.decode_bytes(id).len() as u32;
        self.token_bytes = (0..tokenizer.vocab_size() as u32).map(bytes).collect();
        if self.run.val_loss.is_none() {
            self.first_val_loss = self.validate()?;
            // No checkpoint is the best that is not better than what the run began with.
            let (step, batches) = (self.run.step_count(), self.session.intervals.eval_batches);
            let start = self.first_val_loss.filter(|loss| loss.is_finite());
            let start = start.map(|val_loss| Best { step, val_loss, batches });
            self.run.best = self.run.best.or(start);
        }
        self.divergence.begin(self.run.val_loss);
        // The session before may have ended while this was measured.
        let step = self.run.step_count();
        if step < self.total() && self.core_due(step) {
            self.ask_core(true)?;
        }
        if step < self.total() && self.tasks_due(step) {
            self.ask_tasks(true)?;
        }
        Ok(())
    }

    /// True if CORE is to be measured after `step`, and not only at the end.
    fn core_due(&self, step: u64) -> bool {
        step > 0 && self.session.core.as_ref().is_some_and(|core| due(core.steps, step))
    }

    /// True if tasks are to be asked after `step`, and not only at the end.
    fn tasks_due(&self, step: u64) -> bool {
        let tasks = self.session.talks.as_ref().and_then(|talks| talks.tasks.as_ref());
        step > 0 && tasks.is_some_and(|(steps, _)| due(*steps, step))
    }

    fn step(&mut self) -> Result<(), TrainError> {
        let next = self.run.step_count() + 1;
        self.session.hooks.iter_mut().for_each(|hook| hook.before_step(next));
        // What evaluation and samples took is not part of a step.
        self.run.trainer.take_timings();
        let start = Instant::now();
        let (report, waited) = self.run.step_after_writing()?;
        let seconds = start.elapsed().as_secs_f64() - waited;
        self.spent.steps_s += seconds;
        self.spent.checkpoints_s += waited;
        for event in self.run.objective.take_events() {
            self.tell(event)?;
        }
        let (loss, nats) = (report.loss, self.run.objective.has_nats());
        let event = self.run.step_event(report, seconds);
        self.tell(event)?;
        if let Some(message) = self.divergence.note(next, loss, nats) {
            self.tell(Event::Warning { message })?;
        }
        self.ask_hooks()?;
        let written = self.run.writer.finished()?;
        self.tell_written(written)
    }

    /// Lets the hooks see the step that was just done.
    fn ask_hooks(&mut self) -> Result<(), TrainError> {
        let (step, Intervals { eval, checkpoint, .. }) =
            (self.run.step_count(), self.session.intervals);
        let last = step == self.total() || self.session.stop.requested();
        let may_save = last || due(checkpoint, step) || due(eval, step);
        for i in 0..self.session.hooks.len() {
            if let Some(event) = self.session.hooks[i].after_step(step, may_save)? {
                self.tell(event)?;
            }
        }
        Ok(())
    }

    fn between_steps(&mut self) -> Result<(), TrainError> {
        let (step, total) = (self.run.step_count(), self.total());
        let Intervals { eval, eval_batches, checkpoint, sample, keep, .. } = self.session.intervals;
        let mut save = due(checkpoint, step);
        let mut improved = None;
        if due(eval, step)
            && let Some(val_loss) = self.validate()?
            && self.run.improves(val_loss, eval_batches)
        {
            improved = Some(Best { step, val_loss, batches: eval_batches });
            save |= may_keep_best(eval, step, total);
        }
        if due(sample, step) {
            self.sample()?;
        }
        let going_on = !self.session.stop.requested();
        let [core, tasks] = [self.core_due(step), self.tasks_due(step)].map(|due| due && going_on);
        if (save || core || tasks) && self.run.trainer.overflows() == 0 {
            // What is saved for a measurement alone changes nothing that a later checkpoint says.
            if save {
                self.run.best = improved.or(self.run.best);
            }
            let (run, output) = (&mut *self.run, &self.session.output);
            timed(&mut self.spent.checkpoints_s, || {
                let snapshot = run.snapshot(keep, output);
                run.writer.start(snapshot)
            })?;
            self.writing = Some(step);
        }
        if !core && !tasks {
            return Ok(());
        }
        if self.run.trainer.overflows() > 0 {
            let what = match (core, tasks) {
                (true, true) => "CORE and the accuracy of tasks are",
                (true, false) => "CORE is",
                _ => "the accuracy of tasks is",
            };
            let message =
                format!("{what} not measured after step {step}, whose update was skipped");
            return self.tell(Event::Warning { message });
        }
        self.written()?;
        if core {
            self.ask_core(false)?;
        }
        if tasks { self.ask_tasks(false) } else { Ok(()) }
    }

    /// Waits for the checkpoint that is being written.
    fn written(&mut self) -> Result<(), TrainError> {
        let run = &mut *self.run;
        let written = timed(&mut self.spent.checkpoints_s, || {
            run.writer.wait()?;
            run.writer.finished()
        })?;
        self.tell_written(written)
    }

    /// Measures and tells CORE, unless it was told for this state or the run is to end. A `resumed` run
    /// leaves answers to other questions as they are.
    fn ask_core(&mut self, resumed: bool) -> Result<(), TrainError> {
        let Some(CoreEvery { core, .. }) = &self.session.core else { return Ok(()) };
        let (spent, session) = (&mut self.spent.core_s, &*self.session);
        ask(core, self.run, session, spent, resumed, self.listen)
    }

    /// As [`Course::ask_core`], of tasks of conversations.
    fn ask_tasks(&mut self, resumed: bool) -> Result<(), TrainError> {
        let Some(Talks { speaker, tasks: Some((_, chat)), .. }) = &self.session.talks else {
            return Ok(());
        };
        let (spent, session) = (&mut self.spent.tasks_s, &*self.session);
        ask(&Conversing { chat, speaker }, self.run, session, spent, resumed, self.listen)
    }

    /// The last validation, sample and checkpoint.
    fn finish(&mut self) -> Result<(), TrainError> {
        let (step, batches) = (self.run.step_count(), self.session.intervals.eval_batches);
        let mut val_loss = self.validate()?;
        if val_loss.is_some_and(|loss| !loss.is_finite()) {
            // A device that failed once is not a run that has diverged.
            val_loss = self.validate()?;
        }
        if let Some(val_loss) = val_loss {
            if !val_loss.is_finite() {
                return Err(TrainError::NotFinite { step, val_loss });
            }
            if self.run.improves(val_loss, batches) {
                self.run.best = Some(Best { step, val_loss, batches });
            }
        }
        self.sample()?;
        self.save()?;
        self.ask_core(false)?;
        self.ask_tasks(false)?;
        // Asked to stop by now, the run is done all the same, if all of this was.
        let unmeasured = batches > 0 && val_loss.is_none();
        let reason = self.session.stop.reason().filter(|_| unmeasured).unwrap_or_default();
        self.done(reason)
    }

    /// Saves what was learned, and nothing else.
    fn end_early(&mut self, reason: Reason) -> Result<(), TrainError> {
        let not_finite = self.run.val_loss.is_some_and(|loss| !loss.is_finite());
        let doubtful = self.run.trainer.overflows() > 0 || not_finite;
        let batches = self.session.intervals.eval_batches;
        if doubtful && batches > 0 {
            // The only measurement that is not skipped: a state that diverged must not push out a good one.
            let val_loss = self.run.evaluate(batches)?;
            if !val_loss.is_finite() {
                return Err(TrainError::NotFinite { step: self.run.step_count(), val_loss });
            }
        }
        if self.run.step_count() > self.begun {
            self.save()?;
        }
        self.done(reason)
    }

    /// Measures and tells the validation loss; `None` if nothing is to be measured or the run is to end.
    fn validate(&mut self) -> Result<Option<f64>, TrainError> {
        let (step, batches) = (self.run.step_count(), self.session.intervals.eval_batches);
        if batches == 0 {
            return Ok(None);
        }
        let (run, stop, bytes) = (&mut *self.run, self.session.stop, &self.token_bytes);
        let start = Instant::now();
        let measured =
            timed(&mut self.spent.validation_s, || run.evaluate_until(batches, Some(bytes), stop))?;
        let Some(Validation { loss: val_loss, bits_per_byte, pass }) = measured else {
            return Ok(None);
        };
        let ms = 1e3 * start.elapsed().as_secs_f64();
        // Of a run that has diverged there is none.
        let bits_per_byte = bits_per_byte.filter(|bits| bits.is_finite());
        self.tell(Event::Eval { step, val_loss, bits_per_byte, pass, ms })?;
        Ok(Some(val_loss))
    }

    /// Draws and tells a sample, with a seed that depends on the step. A failure is told as well, and
    /// ends nothing.
    fn sample(&mut self) -> Result<(), TrainError> {
        let Session { stop, talks, intervals, .. } = &*self.session;
        let (step, most, start) = (self.run.step_count(), intervals.sample_tokens, Instant::now());
        let seed = self.run.config.seed ^ step;
        let talks =
            talks.as_ref().filter(|talks| intervals.sample > 0 && !talks.questions.is_empty());
        let parameters = self.run.trainer.model().parameters();
        let drawn = timed(&mut self.spent.samples_s, || match (talks, &mut self.sampler) {
            _ if stop.requested() => Ok(None),
            (Some(Talks { speaker, questions, .. }), _) => {
                sample::answers(parameters, speaker, questions, most, stop)
            }
            (None, Some(sampler)) => sampler.draw(most, seed, stop),
            (None, None) => Ok(None),
        });
        match drawn {
            Ok(None) => Ok(()),
            Ok(Some(text)) => {
                let ms = 1e3 * start.elapsed().as_secs_f64();
                self.tell(Event::Sample { step, text, ms })
            }
            Err(error) => self.no_sample(&error),
        }
    }

    fn no_sample(&mut self, error: &TrainError) -> Result<(), TrainError> {
        self.tell(Event::Warning { message: format!("no sample: {error}") })
    }

    /// Writes the state as it is, unless that is done or under way.
    fn save(&mut self) -> Result<(), TrainError> {
        let begun = self.writing == Some(self.run.step_count());
        let (run, keep, output) =
            (&mut *self.run, self.session.intervals.keep, &self.session.output);
        let written = timed(&mut self.spent.checkpoints_s, || {
            run.writer.wait()?;
            let mut written = run.writer.finished()?;
            if !begun {
                written.push(run.snapshot(keep, output).write()?);
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
        for i in 0..self.session.hooks.len() {
            if let Some(event) = self.session.hooks[i].at_end() {
                self.tell(event)?;
            }
        }
        self.account();
        let (step, spent) = (self.run.step_count(), self.spent);
        let steps = (step - self.begun) as f64;
        let tokens = (self.run.trainer.counts().tokens - self.tokens_before) as f64;
        let event = Event::Done {
            steps: step,
            val_loss: self.run.val_loss,
            ms_per_step: 1e3 * spent.steps_s / steps.max(1.0),
            tokens_per_s: if spent.steps_s > 0.0 { tokens / spent.steps_s } else { 0.0 },
            reason,
            checkpoint: self.newest.clone(),
            best: self.run.best,
            first_val_loss: self.first_val_loss,
            spent,
            peak_memory_mib: None,
        };
        self.tell(event)
    }

    /// Completes the times of the session.
    fn account(&mut self) {
        let (setup_s, spent) = (self.session.output.setup_s, &mut self.spent);
        spent.setup_s = (setup_s - self.run.trainer.model().compile_seconds).max(0.0);
        spent.total_s = setup_s + self.started.elapsed().as_secs_f64();
        let known = spent.setup_s
            + spent.compile_s
            + spent.steps_s
            + spent.validation_s
            + spent.samples_s
            + spent.core_s
            + spent.tasks_s
            + spent.checkpoints_s;
        spent.other_s = spent.total_s - known;
    }
}

/// Asks a quiz and tells its result, unless it was told for this state or the run is to end. A `resumed` run leaves
/// answers to other questions as they are. Its time is added to `spent`.
fn ask<Q: Quiz, O: Objective>(
    quiz: &Q,
    run: &Run<O>,
    session: &Session<'_, '_>,
    spent: &mut f64,
    resumed: bool,
    listen: &mut Listener<'_>,
) -> Result<(), TrainError> {
    let (step, start) = (run.step_count(), Instant::now());
    let path = session.output.directory.join(format!("{}/step-{step:08}.jsonl", Q::NAME));
    let (parameters, tokenizer) = (run.trainer.model().parameters(), session.samples.tokenizer);
    let asked = timed(spent, || {
        let mut asked = Asked::open(&path, quiz, parameters, tokenizer, resumed)?;
        if let Some(asked) = asked.as_mut().filter(|_| !session.stop.requested()) {
            asked.ask(parameters, tokenizer, session.stop)?;
        }
        Ok::<_, TrainError>(asked)
    })?;
    let Some(mut asked) = asked else { return Ok(()) };
    let Some((result, mut event)) = asked.to_tell(step) else { return Ok(()) };
    if let Event::Core { ms, .. } | Event::Tasks { ms, .. } = &mut event {
        *ms = 1e3 * start.elapsed().as_secs_f64();
    }
    listen(event)?;
    Ok(asked.told(result)?)
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
