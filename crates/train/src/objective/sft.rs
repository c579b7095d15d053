//! Supervised finetuning: of conversations, the model learns what the assistant says.

use super::{Objective, ResumeError, Validation};
use crate::config::RunConfig;
use crate::error::TrainError;
use crate::stop::Stop;
use crate::trainer::Trainer;
use data::loader::examples::{Example, Examples, Masked, Packed};
use gpt::TokenWeights;
use rayon::prelude::*;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Instant;
use tasks::Conversations;
use tasks::bpb::BitsPerByte;
use tokenizer::Tokenizer;
use tokenizer::chat::{ChatTemplate, Message, Piece};

/// Conversations of which the pieces are counted between two reports of progress.
const CHUNK: usize = 1024;

/// Conversations as a model reads them: tokens, of which the assistant's are learned.
#[derive(Debug, Clone)]
pub struct Chats {
    conversations: Arc<dyn Conversations>,
    template: ChatTemplate,
    tokenizer: Tokenizer,
    /// The pieces, each with its conversation; `None` if each conversation is one.
    pieces: Option<Vec<(u32, Piece)>>,
}

impl Chats {
    /// Conversations in the format of `template`. Where it depends on a conversation in how many pieces it is rendered
    /// ([`ChatTemplate::pieces`]), all of them are looked at, with all cores; `progress` is told how many were.
    ///
    /// # Errors
    /// [`data::Error::Example`] when a conversation cannot be read or rendered.
    pub fn new(
        conversations: Arc<dyn Conversations>,
        template: ChatTemplate,
        tokenizer: Tokenizer,
        progress: &mut dyn FnMut(usize),
    ) -> data::Result<Chats> {
        let mut chats = Chats { conversations, template, tokenizer, pieces: None };
        let len = chats.conversations.len();
        let mut all = vec![];
        for start in (0..len).step_by(CHUNK) {
            let chunk = start..len.min(start + CHUNK);
            let end = chunk.end;
            let found = chunk.clone().into_par_iter().map(|index| chats.cut(index));
            let found: Vec<data::Result<Option<Vec<Piece>>>> = found.collect();
            for (index, pieces) in chunk.zip(found) {
                let Some(pieces) = pieces? else { return Ok(chats) };
                all.extend(pieces.into_iter().map(|piece| (index as u32, piece)));
            }
            progress(end);
        }
        chats.pieces = (all.len() > len).then_some(all);
        Ok(chats)
    }

    fn cut(&self, index: usize) -> data::Result<Option<Vec<Piece>>> {
        let messages = self.messages(index)?;
        self.template.pieces(&messages).map_err(|error| self.fault(index, &error))
    }

    fn messages(&self, index: usize) -> data::Result<Vec<Message>> {
        let conversation = self.conversations.get(index);
        conversation.map(|found| found.messages).map_err(|error| self.fault(index, &error))
    }

    fn fault(&self, index: usize, error: &dyn Display) -> data::Error {
        let place = self.conversations.place(index);
        data::Error::Example { place, reason: error.to_string() }
    }
}

impl Examples for Chats {
    fn len(&self) -> usize {
        self.pieces.as_ref().map_or(self.conversations.len(), Vec::len)
    }

    fn get(&self, index: usize) -> data::Result<Example> {
        let (index, piece) = match &self.pieces {
            Some(all) => (all[index].0 as usize, Some(&all[index].1)),
            None => (index, None),
        };
        let messages = self.messages(index)?;
        let rendered = match piece {
            Some(piece) => self.template.render_piece(&messages, piece, &self.tokenizer),
            None => self.template.render(&messages, &self.tokenizer).map(|mut all| all.pop()),
        };
        let rendered = rendered.map_err(|error| self.fault(index, &error))?;
        let changed = || self.fault(index, &"it has changed since the run began");
        let rendered = rendered.ok_or_else(changed)?;
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
    /// Rows of the validation part, rendered for this number of batches.
    measured: Option<(usize, Vec<Masked>)>,
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
        Sft {
            train,
            validation,
            measured: None,
            batch: config.batch,
            accum: config.accum,
            waited: 0.0,
        }
    }

    /// Returns the conversations to train on.
    pub fn train(&self) -> &Packed {
        &self.train
    }

    /// Returns the conversations to validate with.
    pub fn validation(&self) -> &Packed {
        &self.validation
    }

    /// The first batches of the validation part, rendered once.
    fn rows(&mut self, batches: usize) -> data::Result<&[Masked]> {
        let rendered = match self.measured.take().filter(|(count, _)| *count == batches) {
            Some(rendered) => rendered,
            None => (batches, self.validation.beginning(self.batch, batches)?),
        };
        Ok(&self.measured.insert(rendered).1)
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
        &mut self,
        trainer: &mut Trainer,
        batches: usize,
        token_bytes: Option<&[u32]>,
        stop: &Stop,
    ) -> Result<Option<Validation>, TrainError> {
        let (mut nats, mut tokens, mut sums) = (0.0, 0, BitsPerByte::default());
        for Masked { inputs, targets, learned } in self.rows(batches.max(1))? {
            if stop.requested() {
                return Ok(None);
            }
            let losses = trainer.token_losses(inputs, targets)?;
            for ((&target, &loss), _) in
                targets.iter().zip(losses).zip(learned).filter(|(_, learned)| **learned)
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
