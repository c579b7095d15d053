//! Supervised finetuning: of conversations, the model learns what the assistant says.

use super::{Objective, ResumeError, Validation};
use crate::config::RunConfig;
use crate::error::TrainError;
use crate::stop::Stop;
use crate::trainer::Trainer;
use data::loader::examples::{Example, Examples, Masked, Packed};
use gpt::TokenWeights;
use std::sync::Arc;
use std::time::Instant;
use tasks::Conversations;
use tasks::bpb::BitsPerByte;
use tokenizer::Tokenizer;
use tokenizer::chat::ChatTemplate;

/// Conversations as a model reads them: tokens, of which the assistant's are learned.
#[derive(Debug, Clone)]
pub struct Chats {
    /// The conversations.
    pub conversations: Arc<dyn Conversations>,
    /// The format that they are written in.
    pub template: ChatTemplate,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
}

impl Examples for Chats {
    fn len(&self) -> usize {
        self.conversations.len()
    }

    fn get(&self, index: usize) -> data::Result<Example> {
        let place = || self.conversations.place(index);
        let fault = |reason: String| data::Error::Example { place: place(), reason };
        let conversation = self.conversations.get(index).map_err(|e| fault(e.to_string()))?;
        let rendered = self.template.render(&conversation.messages, &self.tokenizer);
        let rendered = rendered.map_err(|e| fault(e.to_string()))?;
        let learned = rendered.mask.iter().map(|&mask| mask == 1).collect();
        Ok(Example { tokens: rendered.tokens, learned })
    }
}

/// Conversations, packed into rows. The loss of a step is the mean over its tokens to learn, however these are
/// spread over its micro-batches. Every row has some ([`Packed`] leaves out conversations without), so that no mean is
/// of nothing.
#[derive(Debug)]
pub struct Sft {
    train: Packed,
    validation: Packed,
    batch: usize,
    accum: usize,
    /// Seconds that were spent waiting for rows.
    waited: f64,
}

impl Sft {
    /// Reads `config.accum` micro-batches of `config.batch` rows for each step, and measures the loss on
    /// `validation`.
    ///
    /// # Panics
    /// If the rows are not of `config.seq` tokens.
    pub fn new(train: Packed, validation: Packed, config: &RunConfig) -> Self {
        assert!([&train, &validation].iter().all(|part| part.config().seq == config.seq));
        Sft { train, validation, batch: config.batch, accum: config.accum, waited: 0.0 }
    }

    /// Returns the conversations to train on.
    pub fn train(&self) -> &Packed {
        &self.train
    }

    /// Returns the conversations to validate with.
    pub fn validation(&self) -> &Packed {
        &self.validation
    }

    fn next_batch(&mut self, rows: usize) -> Result<Masked, TrainError> {
        let start = Instant::now();
        let batch = self.train.next_batch(rows);
        self.waited += start.elapsed().as_secs_f64();
        Ok(batch?)
    }
}

fn count(learned: &[bool]) -> usize {
    learned.iter().filter(|&&learned| learned).count()
}

impl Objective for Sft {
    /// The loaders of all ranks stand at the same place, as in pretraining: each takes its share of the rows and
    /// knows how many tokens the others learn.
    fn accumulate(&mut self, trainer: &mut Trainer) -> Result<(), TrainError> {
        let (rank, ranks) = (trainer.ranks().rank(), trainer.ranks().size());
        let rows = self.batch * ranks;
        let step: Vec<Masked> =
            (0..self.accum).map(|_| self.next_batch(rows)).collect::<Result<_, _>>()?;
        let learned: usize = step.iter().map(|batch| count(&batch.learned)).sum();
        let weight = 1.0 / learned as f32;
        for Masked { inputs, targets, learned } in &step {
            let own = inputs.len() / ranks;
            let own = rank * own..(rank + 1) * own;
            let weigh = |&learned: &bool| if learned { weight } else { 0.0 };
            let weights: Vec<f32> = learned[own.clone()].iter().map(weigh).collect();
            let (inputs, targets) = (&inputs[own.clone()], &targets[own]);
            trainer.accumulate(inputs, targets, TokenWeights::Each(&weights))?;
        }
        Ok(())
    }

    /// The loss of what the assistant says.
    fn validate(
        &self,
        trainer: &mut Trainer,
        batches: usize,
        token_bytes: Option<&[u32]>,
        stop: &Stop,
    ) -> Result<Option<Validation>, TrainError> {
        let (mut nats, mut tokens, mut sums) = (0.0, 0, BitsPerByte::default());
        for Masked { inputs, targets, learned } in
            self.validation.beginning(self.batch, batches.max(1))?
        {
            if stop.requested() {
                return Ok(None);
            }
            let losses = trainer.token_losses(&inputs, &targets)?;
            for ((&target, &loss), _) in
                targets.iter().zip(losses).zip(&learned).filter(|(_, learned)| **learned)
            {
                let bytes = token_bytes.and_then(|bytes| bytes.get(target as usize));
                sums.add(loss, bytes.map_or(0, |&bytes| bytes as usize));
                nats += loss;
                tokens += 1;
            }
        }
        Ok(Some(Validation { loss: nats / tokens as f64, bits_per_byte: sums.value(), pass: None }))
    }

    fn place(&self) -> serde_json::Value {
        self.train.place()
    }

    fn resume(&mut self, place: &serde_json::Value) -> Result<(), ResumeError> {
        match self.train.resume(place) {
            Err(data::Error::Place(error)) => Err(ResumeError::Place(error)),
            other => Ok(other?),
        }
    }

    fn take_waited(&mut self) -> f64 {
        std::mem::take(&mut self.waited)
    }
}
