//! A compiled model: a batch of tokens in, the loss and the gradients of all parameters out.

use crate::batch::{
    MicroBatch, ModelError, Timings, TokenWeights, check_vocabulary, mean, precision,
};
use crate::block::Memory;
use crate::config::GptConfig;
use crate::head::{self, Head};
use crate::ops::{Dims, causal_mask};
use crate::params::{Deferred, Layout, Parameters, Pending};
use crate::plan::{Plan, Schedule, TimedStep};
use crate::run::{Batch, Gradients, OutsideStep, Runtime, Spare};
use ane::Device;
use cpu::{HostShape, Numerics, Sgemm};
use std::sync::Arc;
use std::time::Instant;

/// Returns the host's largest products in a step with micro-batches of `tokens` tokens: a tile of
/// the classifier, its gradient, and a weight gradient of a feed-forward layer, whose operands are
/// in binary16 (`half`) unless the device computes in single precision.
pub fn host_products(config: &GptConfig, tokens: usize, half: bool) -> [HostShape; 3] {
    let [classifier, gradient] = head::products(config.vocab_size, tokens, config.n_embd);
    let (m, n) = (config.hidden, config.n_embd);
    let weights = HostShape { m, n, k: tokens, transposed: true, half, at_once: 1 };
    [classifier, gradient, weights]
}

/// A model compiled for batches of one size on one device.
#[derive(Debug)]
pub struct Model {
    parameters: Parameters,
    batch: usize,
    seq: usize,
    runtime: Runtime,
    head: Head,
    /// Seconds spent compiling.
    pub compile_seconds: f64,
}

impl Model {
    /// Derives and compiles the programs of `plan` for `batch` sequences of `seq` tokens.
    ///
    /// # Errors
    /// When the configuration is no model or the device refuses a program.
    pub fn new(
        plan: &Plan,
        parameters: &Parameters,
        batch: usize,
        seq: usize,
        device: &dyn Device,
        numerics: Numerics,
    ) -> Result<Self, ModelError> {
        let config = parameters.config();
        config.validate()?;
        let start = Instant::now();
        let dims = Dims { config, batch, seq, dtype: precision(numerics) };
        let schedule = Schedule::new(plan, &dims, Memory::Sequence)?;
        let runtime = Runtime::new(schedule, &dims, parameters, device, &mut Spare::new())?;
        let positions: Vec<usize> = (0..batch).flat_map(|_| 0..seq).collect();
        runtime.write_tables(&positions, |window| causal_mask(seq, 0, window))?;
        let head = Head::new(&dims)?;
        let parameters = parameters.clone();
        let compile_seconds = start.elapsed().as_secs_f64();
        Ok(Model { parameters, batch, seq, runtime, head, compile_seconds })
    }

    /// Shape of the model.
    pub fn config(&self) -> &GptConfig {
        self.parameters.config()
    }

    /// Names and places of the parameters.
    pub fn layout(&self) -> &Layout {
        self.parameters.layout()
    }

    /// The weights that it computes with.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Sequences of a micro-batch.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Tokens of a sequence.
    pub fn seq(&self) -> usize {
        self.seq
    }

    /// Has the host's products (classifier, weight gradients) computed by `library` from now on;
    /// `None` for our own kernel. See [`cpu::blas`] for what differs.
    pub fn multiply_with(&mut self, library: Option<&Arc<dyn Sgemm>>) {
        self.head.multiply_with(library);
        self.runtime.multiply_with(library);
    }

    /// Programs compiled for the device.
    pub fn programs(&self) -> usize {
        self.runtime.schedule().engine().count()
    }

    /// Seconds by part, since they were last taken.
    pub fn timings(&mut self) -> &mut Timings {
        &mut self.runtime.timings
    }

    /// True if requests leave the CPU free ([`Device::overlaps`]), so that steps of the host run beside them in a
    /// micro-batch; those of an update, too, if it is left for the next one ([`Model::updated_loss_and_grads`]).
    pub fn overlaps(&self) -> bool {
        self.runtime.is_side_by_side()
    }

    /// The steps of the last micro-batch, or of the last one that began with an update, as they really ran.
    pub fn timeline(&self, after_update: bool) -> Vec<TimedStep> {
        self.runtime.timeline(after_update)
    }

    /// Brings the parameters to the device, if they changed; else the next batch does.
    ///
    /// # Errors
    /// When the device fails.
    pub fn take_parameters(&mut self) -> Result<(), ModelError> {
        Ok(self.runtime.take_parameters()?)
    }

    /// Mean loss in nats of predicting `targets` from `inputs` (both [B, S]), without gradients.
    ///
    /// # Errors
    /// When a token is not of the vocabulary, the batch has the wrong size, or the device fails.
    pub fn loss(&mut self, inputs: &[u32], targets: &[u32]) -> Result<f64, ModelError> {
        self.token_losses(inputs, targets).map(mean)
    }

    /// Loss in nats of each token.
    ///
    /// # Errors
    /// As [`Model::loss`].
    pub fn token_losses(&mut self, inputs: &[u32], targets: &[u32]) -> Result<&[f64], ModelError> {
        self.check_tokens(inputs)?;
        self.check_tokens(targets)?;
        let batch = self.batch_of(inputs);
        let head = &mut self.head;
        self.runtime.forward(&batch, &mut |step| match step {
            OutsideStep::Head { stream, values } => head.forward(stream, values, targets),
            OutsideStep::Losses { probs } => head.losses_of_probabilities(probs, targets),
            _ => unreachable!("a loss alone has neither cache nor gradients"),
        })?;
        Ok(self.head.losses())
    }

    /// The loss in nats of each token, and the gradient of Σ weight·loss over the tokens for every
    /// parameter in `grads`, which has the layout of the parameters: with an even weight of loss scale /
    /// tokens of the whole batch, `grads` is the scaled gradient of its mean once all micro-batches have
    /// been added.
    ///
    /// # Errors
    /// As [`Model::loss`], and when there is not one weight for each token.
    pub fn loss_and_grads(
        &mut self,
        inputs: &[u32],
        targets: &[u32],
        weights: TokenWeights<'_>,
        micro_batch: MicroBatch,
        grads: &mut [f32],
    ) -> Result<&[f64], ModelError> {
        self.train(None, inputs, targets, weights, micro_batch, grads)?;
        Ok(self.head.losses())
    }

    /// As [`Model::loss_and_grads`], after `update` of its parameters ([`Parameters::pending`]), if there is one. It goes
    /// by the gradients that are still in `grads`, and is made parameter by parameter: a request waits for those
    /// that it reads, a new gradient for the update by the old one.
    ///
    /// # Errors
    /// As [`Model::loss_and_grads`]. What is left of the update is left for later again.
    pub fn updated_loss_and_grads(
        &mut self,
        update: Option<Pending<'_>>,
        inputs: &[u32],
        targets: &[u32],
        weights: TokenWeights<'_>,
        micro_batch: MicroBatch,
        grads: &mut [f32],
    ) -> Result<&[f64], ModelError> {
        let Some(mut update) = update else {
            return self.loss_and_grads(inputs, targets, weights, micro_batch, grads);
        };
        self.train(Some(update.update()), inputs, targets, weights, micro_batch, grads)?;
        update.made();
        Ok(self.head.losses())
    }

    fn train(
        &mut self,
        update: Option<&mut dyn Deferred>,
        inputs: &[u32],
        targets: &[u32],
        weights: TokenWeights<'_>,
        micro_batch: MicroBatch,
        grads: &mut [f32],
    ) -> Result<(), ModelError> {
        if let TokenWeights::Each(weights) = weights {
            self.check_size(weights.len())?;
        }
        self.check_tokens(inputs)?;
        self.check_tokens(targets)?;
        let batch = self.batch_of(inputs);
        let head = &mut self.head;
        let into = Gradients { micro_batch, grads };
        self.runtime.train(&batch, update, into, &mut |step| match step {
            // The head computes losses and gradients together, section by section.
            OutsideStep::Head { .. } => Ok(()),
            OutsideStep::HeadBackward(call) => head.backward(call, targets, weights, micro_batch),
            OutsideStep::Losses { probs } => head.losses_of_probabilities(probs, targets),
            OutsideStep::Cotangents { probs, to, grads } => {
                head.clear_rest(micro_batch, grads);
                head::cotangents(probs, to, targets, weights)
            }
            OutsideStep::Append { .. } => unreachable!("training has no cache"),
        })?;
        Ok(())
    }

    fn batch_of<'t>(&self, tokens: &'t [u32]) -> Batch<'t> {
        Batch { tokens, start: 0, before: None, seq: self.seq, columns: self.batch * self.seq }
    }

    fn check_size(&self, got: usize) -> Result<(), ModelError> {
        let expected = self.batch * self.seq;
        if got == expected { Ok(()) } else { Err(ModelError::BatchSize { expected, got }) }
    }

    fn check_tokens(&self, tokens: &[u32]) -> Result<(), ModelError> {
        self.check_size(tokens.len())?;
        check_vocabulary(tokens, self.config().vocab_size)
    }
}
