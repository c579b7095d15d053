//! The trainer: owner of the model, its weights and gradients, the optimizer's state, the loss scale
//! and the counts of a run. It knows no source of data.
//!
//! [`Trainer::accumulate`] adds the gradients of a micro-batch; [`Trainer::apply`] sums them over the
//! ranks, clips them, has the optimizer make one update and brings the new weights to the device, or
//! skips the update where a gradient overflowed.
//!
//! Where requests leave the CPU free ([`gpt::Model::overlaps`]), the optimizer's pass over the weights is left to the next
//! micro-batch, whose first requests run beside it. Whoever reads weights or state before has it made first
//! ([`gpt::Parameters::defer`]); results are the same to the bit.

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::config::RunConfig;
use crate::error::TrainError;
use crate::optim::{Optimizer, State, global_norm};
use crate::ranks::Ranks;
use crate::scale::LossScale;
use crate::schedule::LrSchedule;
use crate::update::{Decided, Descent};
use ane::Device;
use cpu::{Numerics, Sgemm};
use gpt::params::Stored;
use gpt::{
    Deferred, Layout, MicroBatch, Model, ModelError, Parameters, Timings, TokenWeights, mean,
};
use std::sync::{Arc, RwLockReadGuard};
use std::time::Instant;

/// Skipped steps in a row after which the run counts as diverged: enough for the loss scale to fall
/// from its largest value to 1.
const PATIENCE: u32 = 30;

/// The outcome of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// The step's objective: mean loss in nats per token, or the weighted sum of the tokens' losses.
    pub loss: f64,
    /// Learning rate, before the multipliers of groups.
    pub lr: f64,
    /// Global norm of the gradients before clipping.
    pub grad_norm: f64,
    /// Loss scale used.
    pub loss_scale: f32,
    /// True if the update was skipped because a gradient overflowed.
    pub skipped: bool,
}

/// How far a run has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Steps done, skipped ones included.
    pub step: u64,
    /// Updates done: the optimizer's count.
    pub updates: u64,
    /// Tokens trained on.
    pub tokens: u64,
}

/// Micro-batches since the last update.
#[derive(Clone, Copy, Debug, Default)]
struct Accumulated {
    micro_batches: usize,
    /// Sum of the mean losses of those whose tokens weigh the same.
    means: f64,
    /// Sum of weight times loss over the tokens of the others.
    weighted: f64,
    tokens: usize,
}

/// A model in training.
#[derive(Debug)]
pub struct Trainer {
    model: Model,
    descent: Arc<Descent>,
    schedule: LrSchedule,
    clip: f64,
    scale: LossScale,
    counts: Counts,
    ranks: Box<dyn Ranks>,
    accumulated: Accumulated,
    /// Skipped steps in a row.
    overflows: u32,
    numerics: Numerics,
    optimizer_seconds: f64,
}

impl Trainer {
    /// A trainer of a fresh model: `params` (see [`gpt::initialise`]) are those of rank 0 on all
    /// `ranks`.
    ///
    /// # Errors
    /// When the model cannot be compiled for the device, or ranks do not answer.
    pub fn new(
        config: &RunConfig,
        params: Vec<f32>,
        optimizer: Box<dyn Optimizer>,
        device: &dyn Device,
        numerics: Numerics,
        ranks: Box<dyn Ranks>,
    ) -> Result<Self, TrainError> {
        if config.seq > config.model.seq_len {
            return Err(TrainError::Sequence { seq: config.seq, limit: config.model.seq_len });
        }
        let parameters = Parameters::new(&config.model, params);
        parameters.update(|values| ranks.broadcast(values))?;
        let mut model =
            Model::new(config.plan, &parameters, config.batch, config.seq, device, numerics)?;
        model.take_parameters()?;
        let descent = Descent::new(optimizer, model.layout(), &parameters.read());
        let scale = match numerics {
            Numerics::F32 => LossScale::none(),
            Numerics::Fast | Numerics::Exact => LossScale::dynamic(),
        };
        Ok(Trainer {
            model,
            descent: Arc::new(descent),
            schedule: config.schedule,
            clip: config.clip,
            scale,
            counts: Counts::default(),
            ranks,
            accumulated: Accumulated::default(),
            overflows: 0,
            numerics,
            optimizer_seconds: 0.0,
        })
    }

    /// Adds the gradients of one micro-batch (`inputs` and `targets` are [B, S]), the loss of each
    /// token counting its weight in the step's objective. For the mean over a step, the weight is even, 1
    /// over its tokens, those of all micro-batches and ranks. Where each token has its own weight, the step's
    /// loss is the sum of weight times loss.
    ///
    /// # Errors
    /// When the device fails, or a token is not of the vocabulary.
    pub fn accumulate(
        &mut self,
        inputs: &[u32],
        targets: &[u32],
        weights: TokenWeights<'_>,
    ) -> Result<(), TrainError> {
        let micro_batch = match self.accumulated.micro_batches {
            0 => MicroBatch::First,
            _ => MicroBatch::Later,
        };
        let scale = self.scale.get();
        let scaled: Vec<f32>;
        let scaled = match weights {
            TokenWeights::Even(weight) => TokenWeights::Even(scale * weight),
            TokenWeights::Each(weights) => {
                scaled = weights.iter().map(|weight| scale * weight).collect();
                TokenWeights::Each(&scaled)
            }
        };
        // Before the gradients: whoever else makes the update takes both in this order.
        let parameters = self.model.parameters().clone();
        let (update, mut grads) = (parameters.pending(), self.descent.grads());
        let model = &mut self.model;
        let losses = model.updated_loss_and_grads(
            update,
            inputs,
            targets,
            scaled,
            micro_batch,
            &mut grads,
        )?;
        let sums = &mut self.accumulated;
        match weights {
            TokenWeights::Even(_) => sums.means += mean(losses),
            TokenWeights::Each(weights) => sums.weighted += weighted(weights, losses),
        }
        sums.micro_batches += 1;
        sums.tokens += inputs.len();
        Ok(())
    }

    /// One update with the accumulated gradients, skipped if they are not finite. If nothing was accumulated, the
    /// step counts and changes nothing. An update waits for the checkpoint that is being written.
    ///
    /// # Errors
    /// When the run has diverged, or ranks do not answer.
    pub fn apply(&mut self) -> Result<StepReport, TrainError> {
        let Accumulated { micro_batches, means, weighted, tokens } =
            std::mem::take(&mut self.accumulated);
        if micro_batches == 0 {
            let (lr, loss_scale) = (self.schedule.rate(self.counts.step), self.scale.get());
            self.counts.step += 1;
            return Ok(StepReport { loss: 0.0, lr, grad_norm: 0.0, loss_scale, skipped: false });
        }
        let ranks = self.ranks.size();
        let loss = means / micro_batches as f64 / ranks as f64 + weighted;
        let loss = self.ranks.sum(loss)?;
        let start = Instant::now();
        // An update that a micro-batch failed to make goes by these gradients.
        self.model.parameters().settle();
        let mut grads = self.descent.grads();
        self.ranks.sum_in_order(&mut grads)?;
        self.descent.reduce(&mut grads);
        let scale = self.scale.get();
        let grad_norm = global_norm(&grads) / f64::from(scale);
        drop(grads);
        let skipped = !grad_norm.is_finite();
        let lr = self.schedule.rate(self.counts.step);
        if !skipped {
            self.update((self.shrink(grad_norm) / f64::from(scale)) as f32);
        }
        self.scale.record(!skipped);
        self.counts.step += 1;
        // Ranks of an objective with lessons of its own may have had different numbers of them.
        self.counts.tokens += self.ranks.sum(tokens as f64)? as u64;
        self.optimizer_seconds += start.elapsed().as_secs_f64();
        if skipped {
            self.overflows += 1;
        } else {
            self.overflows = 0;
            if !self.model.overlaps() {
                self.model.take_parameters()?;
            }
        }
        match self.overflows >= PATIENCE {
            true => Err(TrainError::Diverged(self.overflows)),
            false => Ok(StepReport { loss, lr, grad_norm, loss_scale: scale, skipped }),
        }
    }

    /// Factor that clipping asks for.
    fn shrink(&self, grad_norm: f64) -> f64 {
        if self.clip > 0.0 && grad_norm > self.clip { self.clip / grad_norm } else { 1.0 }
    }

    /// Has the optimizer update every parameter, with gradients times `scale`: now, or beside the next micro-batch.
    fn update(&mut self, scale: f32) {
        self.counts.updates += 1;
        let Counts { step, updates, .. } = self.counts;
        let mut update = Decided::new(&self.descent, self.schedule, step, updates, scale);
        let parameters = self.model.parameters();
        match self.model.overlaps() {
            true => parameters.defer(Box::new(update)),
            false => parameters.update(|values| update.finish(values)),
        }
    }

    /// Mean loss in nats per token of one batch ([B, S] as in training), without gradients.
    ///
    /// # Errors
    /// When the device fails or a token is not of the vocabulary.
    pub fn loss(&mut self, inputs: &[u32], targets: &[u32]) -> Result<f64, ModelError> {
        self.model.loss(inputs, targets)
    }

    /// As [`Trainer::loss`], of each token.
    ///
    /// # Errors
    /// As [`Trainer::loss`].
    pub fn token_losses(&mut self, inputs: &[u32], targets: &[u32]) -> Result<&[f64], ModelError> {
        self.model.token_losses(inputs, targets)
    }

    /// Takes weights, optimizer state, loss scale and counts of a checkpoint.
    ///
    /// # Errors
    /// When the checkpoint is of another model or optimizer, or damaged.
    pub fn resume(
        &mut self,
        checkpoint: &Checkpoint,
        counts: Counts,
        scale: LossScale,
    ) -> Result<(), TrainError> {
        let parameters = self.model.parameters();
        parameters.update(|values| read_weights(checkpoint, parameters.layout(), values))?;
        let mut state = self.descent.state_mut();
        checkpoint.read_tensors("optimizer.safetensors", state.tensors_mut())?;
        drop(state);
        self.model.take_parameters()?;
        (self.counts, self.scale) = (counts, scale);
        Ok(())
    }

    /// Takes the optimizer's state of another run's checkpoint, which made `updates` updates: the first updates of
    /// this run are as if that run went on.
    ///
    /// # Errors
    /// When the checkpoint is of another model or optimizer, or damaged.
    pub fn warm_start(
        &mut self,
        checkpoint: &Checkpoint,
        updates: u64,
    ) -> Result<(), CheckpointError> {
        self.model.parameters().settle();
        let mut state = self.descent.state_mut();
        checkpoint.read_tensors("optimizer.safetensors", state.tensors_mut())?;
        self.counts.updates = updates;
        Ok(())
    }

    /// Has the host's products computed by `library` from now on; `None` for our own kernel. Two
    /// runs give the same bytes only with the same choice.
    pub fn multiply_with(&mut self, library: Option<&Arc<dyn Sgemm>>) {
        self.model.multiply_with(library);
    }

    /// The compiled model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The master weights. An update waits until the guard is dropped.
    pub fn params(&self) -> RwLockReadGuard<'_, Vec<f32>> {
        self.model.parameters().read()
    }

    /// The optimizer's state. An update waits until the guard is dropped.
    pub fn state(&self) -> RwLockReadGuard<'_, State> {
        self.model.parameters().settle();
        self.descent.state()
    }

    /// How far the run has come.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The loss scale.
    pub fn scale(&self) -> LossScale {
        self.scale
    }

    /// Arithmetic of the device.
    pub fn numerics(&self) -> Numerics {
        self.numerics
    }

    /// The processes that train together.
    pub fn ranks(&self) -> &dyn Ranks {
        &*self.ranks
    }

    /// Skipped steps since the last update.
    pub fn overflows(&self) -> u32 {
        self.overflows
    }

    /// The optimizer with its state after all updates, to be read by another thread until the next one.
    pub(crate) fn share(&self) -> Arc<Descent> {
        self.model.parameters().settle();
        Arc::clone(&self.descent)
    }

    /// Seconds by part since the last call: the model's, and those of [`Trainer::apply`].
    pub(crate) fn take_timings(&mut self) -> (Timings, f64) {
        (self.model.timings().take(), std::mem::take(&mut self.optimizer_seconds))
    }
}

/// Σ weight·loss over the tokens that count: where a weight is 0, the loss may be anything.
fn weighted(weights: &[f32], losses: &[f64]) -> f64 {
    let counted = weights.iter().zip(losses).filter(|(weight, _)| **weight != 0.0);
    counted.map(|(&weight, loss)| f64::from(weight) * loss).sum()
}

fn read_weights(
    checkpoint: &Checkpoint,
    layout: &Layout,
    values: &mut [f32],
) -> Result<(), CheckpointError> {
    layout.fill(values, |tensors| {
        let named = |(tensor, to): (&Stored, _)| (tensor.name.clone(), tensor.shape.clone(), to);
        checkpoint.read_tensors("model.safetensors", tensors.into_iter().map(named))
    })
}
