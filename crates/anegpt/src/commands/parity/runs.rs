//! The runs of a comparison: each is `anegpt train` in a process of its own, so that what ends one loses
//! nothing of the others.

use super::args::Flags;
use crate::machine::NumericsChoice;
use crate::plan_choice::PlanChoice;
use crate::stop::{self, EndedBy, Signal};
use crate::{progress, view};
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::Mutex;
use train::{Event, Reason, RunConfig, checkpoint};

/// A kind of run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Variant {
    pub(super) numerics: NumericsChoice,
    pub(super) plan: PlanChoice,
}

impl Variant {
    pub(super) fn numerics(self) -> String {
        self.numerics.to_possible_value().expect("no value is skipped").get_name().to_owned()
    }

    pub(super) fn plan(self) -> &'static str {
        match self.plan {
            PlanChoice::Auto => "auto",
            PlanChoice::Named(plan) => plan.name,
        }
    }

    /// As a person reads it: `fast, baseline`.
    pub(super) fn name(self) -> String {
        format!("{}, {}", self.numerics(), self.plan())
    }

    pub(super) fn file_name(self) -> String {
        format!("{}-{}", self.numerics(), self.plan())
    }
}

/// A run that a comparison needs.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// Index of its kind.
    pub(super) variant: usize,
    pub(super) kind: Variant,
    pub(super) seed: u64,
    /// True if its checkpoints are compared.
    pub(super) first: bool,
    pub(super) directory: PathBuf,
}

/// Losses by step.
pub(super) type Series = Vec<(u64, f64)>;

/// A step of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Step {
    pub(super) number: u64,
    pub(super) loss: f64,
    pub(super) ms: f64,
    pub(super) skipped: bool,
}

/// What a run's log tells.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    /// The steps that count, in their order.
    pub(super) steps: Vec<Step>,
    pub(super) validation: Series,
    pub(super) planned: u64,
    pub(super) finished: bool,
    /// What the run computes, and on which data.
    run: Option<(RunConfig, String)>,
}

impl Outcome {
    fn note(&mut self, event: &Event) {
        match event {
            Event::Start { step, steps, settings, .. } => {
                self.run = settings.run.clone().map(|run| (run, settings.data.clone()));
                // A session goes on from its checkpoint: what an earlier one did after it is void.
                self.steps.retain(|done| done.number <= *step);
                self.validation.retain(|point| point.0 <= *step);
                (self.planned, self.finished) = (*steps, false);
            }
            &Event::Step { step: number, loss, ms, skipped, .. } => {
                self.steps.push(Step { number, loss, ms, skipped });
            }
            Event::Eval { step, val_loss, .. } => {
                self.validation.retain(|point| point.0 < *step);
                self.validation.push((*step, *val_loss));
            }
            Event::Done { steps, reason, .. } => {
                self.finished = *reason == Reason::Finished && *steps >= self.planned;
            }
            _ => {}
        }
    }

    /// Training losses by step.
    pub(super) fn training(&self) -> impl Iterator<Item = (f64, f64)> {
        self.steps.iter().map(|step| (step.number as f64, step.loss))
    }

    /// The first step that both have whose losses are `apart`.
    pub(super) fn parts_from(
        &self,
        other: &Outcome,
        apart: impl Fn(f64, f64) -> bool,
    ) -> Option<u64> {
        let losses: HashMap<u64, f64> =
            other.steps.iter().map(|step| (step.number, step.loss)).collect();
        let parted = |step: &&Step| losses.get(&step.number).is_some_and(|&l| apart(step.loss, l));
        self.steps.iter().find(parted).map(|step| step.number)
    }

    /// True if both runs learn the same model from the same data in as many steps, whatever their seeds and
    /// arithmetic.
    pub(super) fn is_like(&self, other: &Outcome) -> bool {
        let of = |outcome: &Outcome| {
            outcome.run.clone().map(|(run, data)| {
                let RunConfig { model, batch, accum, seq, schedule, optimizer, .. } = run;
                (model, [batch, accum, seq], schedule, optimizer, data)
            })
        };
        of(self) == of(other)
    }

    /// The outcome of the run in a directory; nothing where there is no log.
    pub(super) fn read(directory: &Path) -> Result<Self> {
        let mut outcome = Outcome::default();
        let path = directory.join("log.jsonl");
        match File::open(&path) {
            Ok(log) => {
                view::events_of(BufReader::new(log), |event| outcome.note(event))
                    .with_context(|| path.display().to_string())?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        }
        // A run that was killed after its last checkpoint has done all but say so.
        let last = checkpoint::all(directory)?.last().map(|found| found.0);
        outcome.finished |= outcome.planned > 0 && last >= Some(outcome.planned);
        Ok(outcome)
    }
}

/// A job that is done.
#[derive(Clone, Debug)]
pub(super) struct Finished {
    pub(super) job: Job,
    pub(super) outcome: Outcome,
}

impl Finished {
    /// The last validation loss, in nats per token.
    pub(super) fn loss(&self) -> f64 {
        self.outcome.validation.last().map_or(f64::NAN, |point| point.1)
    }
}

/// Does all jobs that are not done yet; the first seed's runs keep a checkpoint every `compare_every` steps.
pub(super) fn to_end(
    jobs: &[Job],
    flags: &Flags,
    compare_every: Option<u64>,
) -> Result<Vec<Finished>> {
    let asked: Arc<Mutex<Option<Signal>>> = Arc::default();
    let noted = asked.clone();
    stop::on_request(move |signal| {
        if noted.lock().expect("no thread panics with it").replace(signal).is_some() {
            stop::at_once(signal.exit_code());
        }
        eprintln!("\nThe run saves a checkpoint. The same command goes on with the comparison.");
    })?;
    let asked = || *asked.lock().expect("no thread panics with it");
    let mut finished = vec![];
    for (index, job) in jobs.iter().enumerate() {
        let mut outcome = Outcome::read(&job.directory)?;
        if !outcome.finished {
            let label = format!("{}/{}", index + 1, jobs.len());
            train(job, &label, flags, compare_every, &asked)?;
            if let Some(signal) = asked() {
                return Err(EndedBy(signal).into());
            }
            outcome = Outcome::read(&job.directory)?;
        }
        if !outcome.finished {
            bail!(
                "the run in {} ended before its last step: give the same command again to go on",
                job.directory.display()
            );
        }
        let run = Finished { job: job.clone(), outcome };
        if let Some(first) =
            finished.first().filter(|first: &&Finished| !first.outcome.is_like(&run.outcome))
        {
            bail!(
                "{} and {} are runs of different models, data or settings: remove one of the two, or give another --out",
                first.job.directory.display(),
                job.directory.display()
            );
        }
        println!("{}, seed {}: validation loss {:.4}", job.kind.name(), job.seed, run.loss());
        finished.push(run);
    }
    Ok(finished)
}

/// Runs a job, or goes on with it.
fn train(
    job: &Job,
    label: &str,
    flags: &Flags,
    compare_every: Option<u64>,
    asked: &impl Fn() -> Option<Signal>,
) -> Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("train");
    match checkpoint::exists(&job.directory) {
        true => command.arg("--resume").arg(&job.directory).args(&flags.later),
        false => command
            .args(&flags.first)
            .arg("--out")
            .arg(&job.directory)
            .arg("--seed")
            .arg(job.seed.to_string()),
    };
    command.args(["--numerics", &job.kind.numerics(), "--plan", job.kind.plan()]);
    command.args(["--sample-every", "0", "--log-format", "json"]);
    match (job.first, compare_every) {
        (true, every) => {
            // All of them: none is removed.
            command.args(["--keep", &u32::MAX.to_string()]);
            command.args(every.map(|every| format!("--checkpoint-every={every}")));
        }
        (false, _) => {
            command.args(["--keep", "1"]);
        }
    }
    let errors = job.directory.with_extension("err");
    let stderr =
        File::create(&errors).with_context(|| format!("cannot write {}", errors.display()))?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .context("cannot start `anegpt train`")?;
    let events = child.stdout.take().expect("standard output is a pipe");
    let bar = progress::training(0);
    for line in BufReader::new(events).lines() {
        // Whatever is no event stands in the run's log too.
        let event = line.ok().and_then(|line| serde_json::from_str::<Event>(&line).ok());
        match event {
            Some(Event::Start { steps, step, .. }) => {
                bar.set_length(steps);
                bar.set_position(step);
            }
            Some(Event::Step { step, loss, .. }) => {
                bar.set_position(step);
                let fields = [
                    label.to_owned(),
                    job.kind.name(),
                    format!("seed {}", job.seed),
                    format!("loss {loss:.4}"),
                ];
                progress::report(&bar, &fields);
            }
            _ => {}
        }
        // Without a reader, the run saves and ends.
        if asked().is_some() {
            break;
        }
    }
    bar.finish_and_clear();
    let status = child.wait()?;
    if !status.success() && asked().is_none() {
        let said = fs::read_to_string(&errors).unwrap_or_default();
        bail!(
            "the run of {} with seed {} failed ({status}):\n{}",
            job.kind.name(),
            job.seed,
            said.trim()
        );
    }
    let _ = fs::remove_file(&errors);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use train::Settings;

    fn start(step: u64) -> Event {
        Event::Start {
            device: String::new(),
            reason: String::new(),
            model: String::new(),
            params: 0,
            tokens_per_step: 1,
            train_tokens: 0,
            val_tokens: 0,
            unigram_entropy: 0.0,
            step,
            steps: 4,
            programs: 0,
            compile_s: 0.0,
            host_gemm: String::new(),
            host_gemm_reason: String::new(),
            settings: Box::new(Settings::default()),
        }
    }

    fn step(step: u64, loss: f64, skipped: bool) -> Event {
        Event::Step {
            step,
            loss,
            lr: 0.1,
            tokens: step,
            ms: 10.0 * step as f64,
            grad_norm: 1.0,
            loss_scale: 1.0,
            skipped,
            parts: BTreeMap::new(),
        }
    }

    fn outcome(events: &[Event]) -> Outcome {
        let mut outcome = Outcome::default();
        events.iter().for_each(|event| outcome.note(event));
        outcome
    }

    #[test]
    fn steps_that_are_done_again_count_once() {
        let found = outcome(&[
            start(0),
            step(1, 4.0, false),
            step(2, 3.0, true),
            step(3, 3.0, true),
            // The checkpoint was that of step 1.
            start(1),
            step(2, 3.5, true),
            step(3, 2.5, false),
        ]);
        let expected = [(1, 4.0, false), (2, 3.5, true), (3, 2.5, false)];
        let expected = expected.map(|(number, loss, skipped)| Step {
            number,
            loss,
            ms: 10.0 * number as f64,
            skipped,
        });
        assert_eq!(found.steps, expected);
    }

    #[test]
    fn losses_are_compared_at_the_same_step() {
        let whole =
            outcome(&[start(0), step(1, 4.0, false), step(2, 3.0, false), step(3, 2.0, false)]);
        // The log of this one lost its first step.
        let other = outcome(&[start(0), step(2, 3.0, false), step(3, 9.0, false)]);
        let differ = |a: f64, b: f64| a != b;
        assert_eq!(whole.parts_from(&other, differ), Some(3));
        assert_eq!(whole.parts_from(&whole, differ), None);
    }
}
