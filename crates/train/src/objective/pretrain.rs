//! Pretraining: every token of a stream predicts the one after it, and all count the same.

use super::{Objective, ResumeError, Validation};
use crate::config::RunConfig;
use crate::error::TrainError;
use crate::stop::Stop;
use crate::trainer::Trainer;
use data::loader::{Batch, Batches};
use gpt::{TokenWeights, mean};
use std::time::Instant;
use tasks::bpb::BitsPerByte;

/// Next-token prediction on the rows of a loader.
#[derive(Debug)]
pub struct Pretrain {
    loader: Box<dyn Batches>,
    batch: usize,
    accum: usize,
    /// Seconds that were spent waiting for rows.
    waited: f64,
}

impl Pretrain {
    /// Reads `config.accum` micro-batches of `config.batch` rows for each step.
    pub fn new(loader: impl Into<Box<dyn Batches>>, config: &RunConfig) -> Self {
        let loader = loader.into();
        Pretrain { loader, batch: config.batch, accum: config.accum, waited: 0.0 }
    }

    /// The data.
    pub fn loader(&self) -> &dyn Batches {
        &*self.loader
    }

    fn next_batch(&mut self, rows: usize) -> Result<Batch, TrainError> {
        let start = Instant::now();
        let batch = self.loader.next_batch(rows);
        self.waited += start.elapsed().as_secs_f64();
        Ok(batch?)
    }
}

impl Objective for Pretrain {
    /// The loaders of all ranks stand at the same place: of the next rows, the first `batch` are
    /// rank 0's micro-batch, those after them rank 1's, and so on.
    fn accumulate(&mut self, trainer: &mut Trainer) -> Result<(), TrainError> {
        let (rank, ranks) = (trainer.ranks().rank(), trainer.ranks().size());
        for _ in 0..self.accum {
            let Batch { inputs, targets, seq, .. } = self.next_batch(self.batch * ranks)?;
            let own = rank * self.batch * seq..(rank + 1) * self.batch * seq;
            let weight = 1.0 / (self.accum * inputs.len()) as f32;
            let (inputs, targets) = (&inputs[own.clone()], &targets[own]);
            trainer.accumulate(inputs, targets, TokenWeights::Even(weight))?;
        }
        Ok(())
    }

    fn validate(
        &mut self,
        trainer: &mut Trainer,
        batches: usize,
        token_bytes: Option<&[u32]>,
        stop: &Stop,
    ) -> Result<Option<Validation>, TrainError> {
        let set = self.loader.validation_batches(self.batch, batches.max(1))?;
        let (mut total, mut sums) = (0.0, BitsPerByte::default());
        for Batch { inputs, targets, .. } in &set {
            if stop.requested() {
                return Ok(None);
            }
            let losses = trainer.token_losses(inputs, targets)?;
            total += mean(losses);
            for (&target, &loss) in targets.iter().zip(losses) {
                let bytes = token_bytes.and_then(|bytes| bytes.get(target as usize));
                sums.add(loss, bytes.map_or(0, |&bytes| bytes as usize));
            }
        }
        Ok(Some(Validation {
            loss: total / set.len() as f64,
            bits_per_byte: sums.value(),
            pass: None,
        }))
    }

    fn place(&self) -> serde_json::Value {
        self.loader.place()
    }

    fn resume(&mut self, place: &serde_json::Value) -> Result<(), ResumeError> {
        match self.loader.resume(place) {
            Err(data::Error::Place(error)) => Err(ResumeError::Place(error)),
            other => Ok(other?),
        }
    }

    fn take_waited(&mut self) -> f64 {
        std::mem::take(&mut self.waited)
    }
}
