//! Pretraining: every token of a stream predicts the one after it, and all count the same.

use super::{Objective, ResumeError};
use crate::config::RunConfig;
use crate::error::TrainError;
use crate::stop::Stop;
use crate::trainer::Trainer;
use data::loader::{Batch, Cursor, Loader};
use gpt::TokenWeights;

/// Next-token prediction on the windows of a [`Loader`].
#[derive(Debug)]
pub struct Pretrain {
    loader: Loader,
    batch: usize,
    accum: usize,
}

impl Pretrain {
    /// Reads `config.accum` micro-batches of `config.batch` windows for each step.
    pub fn new(loader: Loader, config: &RunConfig) -> Self {
        Pretrain { loader, batch: config.batch, accum: config.accum }
    }

    /// The data.
    pub fn loader(&self) -> &Loader {
        &self.loader
    }
}

impl Objective for Pretrain {
    /// The loaders of all ranks stand at the same place: of the next windows, the first `batch` are
    /// rank 0's micro-batch, those after them rank 1's, and so on.
    fn accumulate(&mut self, trainer: &mut Trainer) -> Result<(), TrainError> {
        let (rank, ranks) = (trainer.ranks().rank(), trainer.ranks().size());
        for _ in 0..self.accum {
            let Batch { inputs, targets, seq, .. } = self.loader.next_batch(self.batch * ranks);
            let own = rank * self.batch * seq..(rank + 1) * self.batch * seq;
            let weight = 1.0 / (self.accum * inputs.len()) as f32;
            let (inputs, targets) = (&inputs[own.clone()], &targets[own]);
            trainer.accumulate(inputs, targets, TokenWeights::Even(weight))?;
        }
        Ok(())
    }

    fn validate(
        &self,
        trainer: &mut Trainer,
        batches: usize,
        stop: &Stop,
    ) -> Result<Option<f64>, TrainError> {
        let set = self.loader.validation_batches(self.batch, batches.max(1));
        let mut total = 0.0;
        for Batch { inputs, targets, .. } in &set {
            if stop.requested() {
                return Ok(None);
            }
            total += trainer.loss(inputs, targets)?;
        }
        Ok(Some(total / set.len() as f64))
    }

    fn place(&self) -> serde_json::Value {
        serde_json::to_value(self.loader.cursor()).expect("plain data")
    }

    fn resume(&mut self, place: &serde_json::Value) -> Result<(), ResumeError> {
        let cursor: Cursor = serde_json::from_value(place.clone())?;
        Ok(self.loader.resume(&cursor)?)
    }
}
