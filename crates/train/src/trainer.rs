//! The trainer: weights, gradients, moments and the place in the data; one step and one measurement.
//! [`crate::run`] decides when to do which.

use crate::background::{Arenas, Writer};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::event::Best;
use crate::optim::{AdamW, global_norm};
use crate::scale::LossScale;
use crate::schedule::Schedule;
use crate::stop::Stop;
use ane::{Device, Numerics, Sgemm};
use data::loader::{Batch, Cursor, Loader};
use gpt::{GptConfig, Layout, MicroBatch, Model, ModelError};
use infer::InferError;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// Everything that decides what a run computes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Shape of the model.
    pub model: GptConfig,
    /// The optimizer.
    pub optimizer: AdamW,
    /// Learning rate and number of steps.
    pub schedule: Schedule,
    /// Sequences of a micro-batch.
    pub batch: usize,
    /// Micro-batches of a step.
    pub accum: usize,
    /// Tokens of a sequence.
    pub seq: usize,
    /// Largest global norm of the gradients; larger ones are scaled down. 0 switches it off.
    pub clip: f64,
    /// Seed of the initial weights and of the order of the data.
    pub seed: u64,
}

/// Where a run stands, besides weights and moments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Progress {
    /// Steps done, left-out ones included.
    pub(crate) step: u64,
    /// Updates done: the optimizer's count.
    updates: u64,
    pub(crate) tokens: u64,
    scale: LossScale,
    loader: Cursor,
    pub(crate) val_loss: Option<f64>,
    /// The checkpoint with the lowest validation loss; runs from before it was kept have none.
    #[serde(default)]
    pub(crate) best: Option<Best>,
}

/// What `state.json` holds for this module.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Saved {
    pub(crate) run: RunConfig,
    pub(crate) progress: Progress,
    /// The caller's own notes, such as where the data came from.
    pub(crate) extra: serde_json::Value,
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum TrainError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Device(#[from] ane::AneError),
    #[error(transparent)]
    Data(#[from] data::Error),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Sample(#[from] InferError),
    #[error("{path}: the state is not one of a training run: {reason}")]
    State { path: PathBuf, reason: String },
    #[error(
        "the gradients of {0} steps in a row were not finite: the run has diverged; resume from an \
         earlier checkpoint with a lower --lr"
    )]
    Diverged(u32),
    #[error(
        "the validation loss after step {step} is {val_loss}: the run has diverged and this state is \
         not kept; resume from an earlier checkpoint with a lower --lr"
    )]
    NotFinite { step: u64, val_loss: f64 },
    #[error("a sequence of {seq} tokens is longer than the model reads ({limit})")]
    Sequence { seq: usize, limit: usize },
}

/// Steps in a row that may be left out before the run counts as diverged: enough for the loss
/// scale to fall from its largest value to 1.
const PATIENCE: u32 = 30;

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Mean loss in nats per token.
    pub loss: f64,
    /// Learning rate.
    pub lr: f64,
    /// Global norm of the gradients before clipping.
    pub grad_norm: f64,
    /// Loss scale used.
    pub loss_scale: f32,
    /// Whether the update was left out.
    pub skipped: bool,
}

/// A run: owner of weights, gradients, moments and the place in the data.
#[derive(Debug)]
pub struct Pretrain {
    pub(crate) config: RunConfig,
    pub(crate) model: Model,
    /// Shared with the writer between updates.
    pub(crate) arenas: Arc<Arenas>,
    grads: Vec<f32>,
    pub(crate) writer: Writer,
    loader: Loader,
    pub(crate) progress: Progress,
    pub(crate) overflows: u32,
    pub(crate) numerics: Numerics,
    pub(crate) optimizer_seconds: f64,
    /// Time in steps that was spent waiting for a checkpoint.
    pub(crate) waited_seconds: f64,
}

impl Pretrain {
    /// A run from `params` (see [`gpt::initialise`]) at the beginning of `loader`.
    ///
    /// # Errors
    /// When the model cannot be compiled for the device.
    pub fn new(
        config: RunConfig,
        params: Vec<f32>,
        loader: Loader,
        device: &dyn Device,
        numerics: Numerics,
    ) -> Result<Self, TrainError> {
        if config.seq > config.model.seq_len {
            return Err(TrainError::Sequence { seq: config.seq, limit: config.model.seq_len });
        }
        let mut model = Model::new(&config.model, config.batch, config.seq, device, numerics)?;
        model.write_weights(&params)?;
        let n = model.layout().count();
        let scale = match numerics {
            Numerics::F32 => LossScale::none(),
            Numerics::Fast | Numerics::Exact => LossScale::dynamic(),
        };
        let progress = Progress {
            step: 0,
            updates: 0,
            tokens: 0,
            scale,
            loader: loader.cursor().clone(),
            val_loss: None,
            best: None,
        };
        Ok(Pretrain {
            config,
            model,
            arenas: Arc::new(Arenas { params, m: vec![0.0; n], v: vec![0.0; n] }),
            grads: vec![0.0; n],
            writer: Writer::default(),
            loader,
            progress,
            overflows: 0,
            numerics,
            optimizer_seconds: 0.0,
            waited_seconds: 0.0,
        })
    }

    /// The settings and the caller's notes of a checkpoint.
    ///
    /// # Errors
    /// When the checkpoint is of something else.
    pub fn saved(checkpoint: &Checkpoint) -> Result<(RunConfig, serde_json::Value), TrainError> {
        let saved = read_saved(checkpoint)?;
        Ok((saved.run, saved.extra))
    }

    /// Takes weights, moments and place from a checkpoint of a run of the same shape.
    ///
    /// # Errors
    /// When the checkpoint is of another model or of other data.
    pub fn resume(&mut self, checkpoint: &Checkpoint) -> Result<(), TrainError> {
        let saved = read_saved(checkpoint)?;
        let layout = Layout::new(&self.config.model);
        self.writer.wait()?;
        let arenas = exclusive(&mut self.arenas);
        read_arena(checkpoint, "model.safetensors", "", &layout, &mut arenas.params)?;
        read_arena(checkpoint, "optimizer.safetensors", ".m", &layout, &mut arenas.m)?;
        read_arena(checkpoint, "optimizer.safetensors", ".v", &layout, &mut arenas.v)?;
        self.loader.resume(&saved.progress.loader)?;
        self.progress = saved.progress;
        self.model.write_weights(&self.arenas.params)?;
        Ok(())
    }

    /// Has the host's products computed by `library` from now on; `None` for our own kernel. Two
    /// runs give the same bytes only with the same choice.
    pub fn multiply_with(&mut self, library: Option<&Arc<dyn Sgemm>>) {
        self.model.multiply_with(library);
    }

    /// Steps done.
    pub fn step_count(&self) -> u64 {
        self.progress.step
    }

    /// The settings.
    pub fn config(&self) -> &RunConfig {
        &self.config
    }

    /// The compiled model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The master weights.
    pub fn params(&self) -> &[f32] {
        &self.arenas.params
    }

    /// The data.
    pub fn loader(&self) -> &Loader {
        &self.loader
    }

    /// Validation loss, when it was last measured.
    pub fn val_loss(&self) -> Option<f64> {
        self.progress.val_loss
    }

    /// The checkpoint with the lowest validation loss.
    pub fn best(&self) -> Option<Best> {
        self.progress.best
    }

    /// Forward and backward over `accum` micro-batches, then one update.
    ///
    /// # Errors
    /// When the device fails, a token is not of the vocabulary, or the run has diverged.
    pub fn step(&mut self) -> Result<StepReport, TrainError> {
        let RunConfig { batch, accum, seq, clip, .. } = self.config;
        let scale = self.progress.scale.get();
        let weight = scale / (accum * batch * seq) as f32;
        let mut loss = 0.0;
        for i in 0..accum {
            let Batch { inputs, targets, .. } = self.loader.next_batch(batch);
            let micro_batch = if i == 0 { MicroBatch::First } else { MicroBatch::Later };
            loss += self.model.loss_and_grads(
                &self.arenas.params,
                &inputs,
                &targets,
                weight,
                micro_batch,
                &mut self.grads,
            )?;
        }
        let start = Instant::now();
        self.waited_seconds = 0.0;
        let grad_norm = global_norm(&self.grads) / f64::from(scale);
        let skipped = !grad_norm.is_finite();
        let lr = self.config.schedule.rate(self.progress.step);
        if skipped {
            self.overflows += 1;
        } else {
            let shrink = if clip > 0.0 && grad_norm > clip { clip / grad_norm } else { 1.0 };
            self.progress.updates += 1;
            let waiting = Instant::now();
            self.writer.wait()?;
            self.waited_seconds = waiting.elapsed().as_secs_f64();
            self.update(lr as f32, (shrink / f64::from(scale)) as f32);
            self.overflows = 0;
        }
        self.progress.scale.record(!skipped);
        self.progress.step += 1;
        self.progress.tokens += (accum * batch * seq) as u64;
        self.progress.loader = self.loader.cursor().clone();
        self.optimizer_seconds += start.elapsed().as_secs_f64() - self.waited_seconds;
        if !skipped {
            self.model.write_weights(&self.arenas.params)?;
        }
        if self.overflows >= PATIENCE {
            return Err(TrainError::Diverged(self.overflows));
        }
        Ok(StepReport { loss: loss / accum as f64, lr, grad_norm, loss_scale: scale, skipped })
    }

    fn update(&mut self, lr: f32, scale: f32) {
        let Pretrain { model, arenas, grads, config, progress, .. } = self;
        let Arenas { params, m, v } = exclusive(arenas);
        for param in model.layout().params() {
            let r = param.range();
            config.optimizer.update(
                progress.updates,
                lr,
                scale,
                param.decays(),
                &mut params[r.clone()],
                &grads[r.clone()],
                &mut m[r.clone()],
                &mut v[r],
            );
        }
    }

    /// Mean loss over (at most) `batches` batches of the validation part, always the same ones.
    ///
    /// # Errors
    /// When the device fails or a token is not of the vocabulary.
    pub fn evaluate(&mut self, batches: usize) -> Result<f64, TrainError> {
        let loss = self.evaluate_until(batches, &Stop::default())?;
        Ok(loss.expect("nobody asked to stop"))
    }

    /// As [`Pretrain::evaluate`]; `None` if the run is to end before it is done.
    pub(crate) fn evaluate_until(
        &mut self,
        batches: usize,
        stop: &Stop,
    ) -> Result<Option<f64>, TrainError> {
        let set = self.loader.validation_batches(self.config.batch, batches.max(1));
        let mut total = 0.0;
        for Batch { inputs, targets, .. } in &set {
            if stop.requested() {
                return Ok(None);
            }
            total += self.model.loss(&self.arenas.params, inputs, targets)?;
        }
        let loss = total / set.len() as f64;
        self.progress.val_loss = Some(loss);
        Ok(Some(loss))
    }

    /// Forgets what was measured on another validation part.
    pub fn forget_validation(&mut self) {
        (self.progress.val_loss, self.progress.best) = (None, None);
    }
}

/// The arenas, which nothing else holds once the writer has ended.
fn exclusive(arenas: &mut Arc<Arenas>) -> &mut Arenas {
    Arc::get_mut(arenas).expect("the writer has ended")
}

fn read_saved(checkpoint: &Checkpoint) -> Result<Saved, TrainError> {
    serde_json::from_value(checkpoint.state().clone()).map_err(|e| TrainError::State {
        path: checkpoint.path().to_owned(),
        reason: e.to_string(),
    })
}

fn read_arena(
    checkpoint: &Checkpoint,
    file: &str,
    suffix: &str,
    layout: &Layout,
    arena: &mut [f32],
) -> Result<(), CheckpointError> {
    let mut rest = arena;
    let mut wanted = vec![];
    for p in layout.params() {
        let (part, tail) = rest.split_at_mut(p.count());
        wanted.push((format!("{}{suffix}", p.name), p.shape.clone(), part));
        rest = tail;
    }
    checkpoint.read_tensors(file, wanted)
}
