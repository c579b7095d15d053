//! A run: a trainer, an objective and a writer of checkpoints; its session decides when each of them is
//! asked.

mod divergence;
mod session;

pub use session::{CoreEvery, Listener, RunOutput, Session, Talks};

use crate::background::{Snapshot, Writer};
use crate::checkpoint::Checkpoint;
use crate::config::RunConfig;
use crate::error::TrainError;
use crate::event::{Best, Event};
use crate::objective::{Objective, Pretrain, ResumeError, Validation};
use crate::ranks::Solo;
use crate::scale::LossScale;
use crate::stop::Stop;
use crate::trainer::{Counts, StepReport, Trainer};
use ane::Device;
use cpu::Numerics;
use data::loader::Batches;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::RwLockReadGuard;
use std::time::Instant;

/// Where a run stands, besides weights and the optimizer's state.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Progress {
    step: u64,
    updates: u64,
    tokens: u64,
    scale: LossScale,
    /// The objective's place in its data; called as it was when there was one objective.
    #[serde(rename = "loader")]
    place: serde_json::Value,
    val_loss: Option<f64>,
    /// Runs from before it was kept have none.
    #[serde(default)]
    best: Option<Best>,
}

/// This module's part of `state.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    run: RunConfig,
    progress: Progress,
    /// The caller's own notes, such as where the data came from.
    extra: serde_json::Value,
}

/// Returns the settings and the caller's notes of a checkpoint.
///
/// # Errors
/// When the checkpoint is of something else.
pub fn saved(checkpoint: &Checkpoint) -> Result<(RunConfig, serde_json::Value), TrainError> {
    let saved = read_saved(checkpoint)?;
    Ok((saved.run, saved.extra))
}

/// Returns the number of updates of a checkpoint of a run.
///
/// # Errors
/// When the checkpoint is of something else.
pub fn updates(checkpoint: &Checkpoint) -> Result<u64, TrainError> {
    Ok(read_saved(checkpoint)?.progress.updates)
}

fn read_saved(checkpoint: &Checkpoint) -> Result<Saved, TrainError> {
    serde_json::from_value(checkpoint.state().clone()).map_err(|e| not_a_run(checkpoint, &e))
}

fn not_a_run(checkpoint: &Checkpoint, error: &serde_json::Error) -> TrainError {
    TrainError::State { path: checkpoint.path().to_owned(), reason: error.to_string() }
}

/// A trainer with its objective, its best checkpoint so far and the writer of the next one.
#[derive(Debug)]
pub struct Run<O = Pretrain> {
    config: RunConfig,
    trainer: Trainer,
    objective: O,
    /// Validation loss, when it was last measured.
    val_loss: Option<f64>,
    best: Option<Best>,
    writer: Writer,
}

impl Run {
    /// Pretraining, in one process, from `params` (see [`gpt::initialise`]) and the beginning of
    /// `loader`.
    ///
    /// # Errors
    /// When the model cannot be compiled for the device.
    pub fn pretrain(
        config: RunConfig,
        params: Vec<f32>,
        loader: impl Into<Box<dyn Batches>>,
        device: &dyn Device,
        numerics: Numerics,
    ) -> Result<Self, TrainError> {
        let optimizer = config.optimizer.build();
        let trainer = Trainer::new(&config, params, optimizer, device, numerics, Box::new(Solo))?;
        let objective = Pretrain::new(loader, &config);
        Ok(Run::new(config, trainer, objective))
    }
}

impl<O: Objective> Run<O> {
    /// A run that has done no step.
    pub fn new(config: RunConfig, trainer: Trainer, objective: O) -> Self {
        let writer = Writer::default();
        Run { config, trainer, objective, val_loss: None, best: None, writer }
    }

    /// Takes weights, optimizer state and place from a checkpoint of a run of the same shape.
    ///
    /// # Errors
    /// When the checkpoint is of another model or of other data.
    pub fn resume(&mut self, checkpoint: &Checkpoint) -> Result<(), TrainError> {
        let Progress { step, updates, tokens, scale, place, val_loss, best } =
            read_saved(checkpoint)?.progress;
        self.writer.wait()?;
        self.trainer.resume(checkpoint, Counts { step, updates, tokens }, scale)?;
        self.objective.resume(&place).map_err(|error| match error {
            ResumeError::Place(error) => not_a_run(checkpoint, &error),
            ResumeError::Data(error) => error.into(),
        })?;
        (self.val_loss, self.best) = (val_loss, best);
        Ok(())
    }

    /// The settings.
    pub fn config(&self) -> &RunConfig {
        &self.config
    }

    /// The trainer.
    pub fn trainer(&self) -> &Trainer {
        &self.trainer
    }

    /// As [`Run::trainer`], to choose what computes.
    pub fn trainer_mut(&mut self) -> &mut Trainer {
        &mut self.trainer
    }

    /// The objective.
    pub fn objective(&self) -> &O {
        &self.objective
    }

    /// Steps done.
    pub fn step_count(&self) -> u64 {
        self.trainer.counts().step
    }

    /// The master weights. An update waits until the guard is dropped.
    pub fn params(&self) -> RwLockReadGuard<'_, Vec<f32>> {
        self.trainer.params()
    }

    /// Validation loss, when it was last measured.
    pub fn val_loss(&self) -> Option<f64> {
        self.val_loss
    }

    /// The state with the lowest validation loss: a checkpoint, or what the run began with (step 0).
    pub fn best(&self) -> Option<Best> {
        self.best
    }

    /// Forgets what was measured on another validation part.
    pub fn forget_validation(&mut self) {
        (self.val_loss, self.best) = (None, None);
    }

    /// Forward and backward over the micro-batches of a step, then one update.
    ///
    /// # Errors
    /// When the device fails, a token is not of the vocabulary, or the run has diverged.
    pub fn step(&mut self) -> Result<StepReport, TrainError> {
        Ok(self.step_after_writing()?.0)
    }

    /// As [`Run::step`]; also the seconds in it that were spent waiting for a checkpoint, which is
    /// written while forward and backward passes run and must not see the update.
    fn step_after_writing(&mut self) -> Result<(StepReport, f64), TrainError> {
        self.objective.accumulate(&mut self.trainer)?;
        let waiting = Instant::now();
        self.writer.wait()?;
        let waited = waiting.elapsed().as_secs_f64();
        Ok((self.trainer.apply()?, waited))
    }

    /// Mean loss over (at most) `batches` batches of the validation part, always the same ones.
    ///
    /// # Errors
    /// When the device fails or a token is not of the vocabulary.
    pub fn evaluate(&mut self, batches: usize) -> Result<f64, TrainError> {
        let measured = self.evaluate_until(batches, None, &Stop::default())?;
        Ok(measured.expect("nobody asked to stop").loss)
    }

    /// As [`Run::evaluate`]; `None` if the run is to end before it is done.
    fn evaluate_until(
        &mut self,
        batches: usize,
        token_bytes: Option<&[u32]>,
        stop: &Stop,
    ) -> Result<Option<Validation>, TrainError> {
        let measured = self.objective.validate(&mut self.trainer, batches, token_bytes, stop)?;
        self.val_loss = measured.as_ref().map(|measured| measured.loss).or(self.val_loss);
        Ok(measured)
    }

    fn snapshot(&self, keep: usize, output: &RunOutput) -> Snapshot {
        let Counts { step, updates, tokens } = self.trainer.counts();
        let progress = Progress {
            step,
            updates,
            tokens,
            scale: self.trainer.scale(),
            place: self.objective.place(),
            val_loss: self.val_loss,
            best: self.best,
        };
        let (run, extra) = (self.config.clone(), output.extra.clone());
        let saved = Saved { run, progress, extra };
        Snapshot {
            step,
            best: self.best.map(|best| best.step),
            parameters: self.trainer.model().parameters().clone(),
            descent: self.trainer.share(),
            texts: output.texts.clone(),
            state: serde_json::to_value(saved).expect("plain data"),
            directory: output.directory.clone(),
            keep,
        }
    }

    /// True if a state measured at `val_loss` would be the best of all checkpoints.
    fn improves(&self, val_loss: f64, batches: usize) -> bool {
        let comparable = self.best.filter(|best| best.batches == batches);
        val_loss.is_finite() && comparable.is_none_or(|best| val_loss < best.val_loss)
    }

    fn step_event(&mut self, report: StepReport, seconds: f64) -> Event {
        let (model, optimizer) = self.trainer.take_timings();
        let others = [("optimizer", optimizer), ("data", self.objective.take_waited())];
        let mut parts: BTreeMap<String, f64> = BTreeMap::new();
        // An update takes its time at the end of a step or in the forward pass of the next one.
        for (name, seconds) in model.parts().into_iter().chain(others) {
            *parts.entry(name.to_owned()).or_default() += seconds * 1e3;
        }
        let Counts { step, tokens, .. } = self.trainer.counts();
        Event::Step {
            step,
            loss: report.loss,
            lr: report.lr,
            tokens,
            ms: seconds * 1e3,
            grad_norm: report.grad_norm,
            loss_scale: report.loss_scale,
            skipped: report.skipped,
            parts,
        }
    }
}
