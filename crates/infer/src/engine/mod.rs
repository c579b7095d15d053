//! Many texts at once: jobs wait in a queue, take a slot of a [`SlotDecoder`], and are continued together.
//!
//! A step is one forward pass. It takes the next token of every text that is being continued, and parts
//! of prompts that are still to be read: as many of their tokens as leave the pass short, so that long
//! prompts delay the others little. A text that ends stays in its slot's cache until the slot is needed;
//! a prompt that begins like any text in a cache goes on from there. Neither changes a text: see
//! [`gpt::slots`].
//!
//! A text that is continued alone may be drafted ([`Draft`]): the step's pass then takes guesses of the next tokens too,
//! and the text gets all tokens up to the first wrong one. They are drawn from the logits of the pass, so they are those
//! that it has without drafts.

mod draft;
mod job;
mod one;
mod sequence;
mod slots;

pub use draft::Draft;
pub use gpt::slots::WeightFormat;
pub use job::{Event, Job, JobId, TokenLogprob, Usage};

use crate::{Finish, InferError, check_tokenizer};
use gpt::slots::MOST_COLUMNS;
use gpt::{Column, GptConfig, Parameters, SlotDecoder, SlotOptions};
use rayon::prelude::*;
use sequence::{Next, Sequence};
use slots::Place;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;
use tokenizer::Tokenizer;

/// The most columns of a pass whose logits a prompt asks for.
const MOST_REPORTED: usize = 32;
/// A prompt waits for another that is being read, if that saves it this many tokens.
const WORTH_WAITING: usize = 32;

/// The size of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// Texts that are continued at once.
    pub slots: usize,
    /// Longest text, in tokens; the model's own limit if that is less.
    pub context: usize,
    /// How weights are stored.
    pub weights: WeightFormat,
    /// Whether a copy of the weights in int8 guesses tokens ahead.
    pub draft: Draft,
    /// Bytes for texts that ended, besides those that lie in slots: whole slots are added for them.
    pub prefix_cache: usize,
    /// Jobs that may wait for a slot.
    pub queue: usize,
    /// Tokens of a pass, where texts are being continued: a prompt is read in parts that leave it so short.
    pub chunk: usize,
}

impl Default for EngineOptions {
    /// 8 texts of any length that the model can read, weights in f32, no drafts, 256 jobs waiting.
    fn default() -> Self {
        EngineOptions {
            slots: 8,
            context: usize::MAX,
            weights: WeightFormat::F32,
            draft: Draft::Off,
            prefix_cache: 0,
            queue: 256,
            chunk: 64,
        }
    }
}

/// What an engine has done.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stats {
    /// Jobs that ended, failures and cancellations included.
    pub jobs: u64,
    /// Tokens of prompts, and of what tools gave, that were read.
    pub prompt_tokens: u64,
    /// Tokens of prompts that were in a cache already.
    pub cached_tokens: u64,
    /// Tokens drawn.
    pub generated_tokens: u64,
    /// Tokens that were guessed.
    pub drafted_tokens: u64,
    /// Those of them that were drawn.
    pub accepted_tokens: u64,
    /// Forward passes, those that guess not counted.
    pub steps: u64,
    /// Seconds in steps that read prompts.
    pub prompt_seconds: f64,
    /// Seconds in the other steps.
    pub decode_seconds: f64,
}

/// Continues many texts at once; see the module.
#[derive(Debug)]
pub struct Engine {
    decoder: SlotDecoder,
    tokenizer: Arc<Tokenizer>,
    options: EngineOptions,
    places: Vec<Place>,
    /// One per slot.
    sequences: Vec<Option<Sequence>>,
    queue: VecDeque<Sequence>,
    next: u64,
    stats: Stats,
}

/// A token of a pass, and where it lies in its text.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    at: usize,
    column: Column,
}

/// What became of a text in a pass.
#[derive(Debug)]
struct Taken {
    slot: usize,
    /// Its tokens that the model has read, wrong guesses not among them.
    read: usize,
    events: Vec<Event>,
    next: Next,
}

impl Engine {
    /// An engine for these weights as they are now. The tokenizer may have fewer tokens than the model.
    ///
    /// # Errors
    /// When the tokenizer has tokens that the model does not know, or the options leave room for nothing.
    pub fn new(
        parameters: &Parameters,
        tokenizer: Arc<Tokenizer>,
        options: EngineOptions,
    ) -> Result<Self, InferError> {
        let config = parameters.config();
        check_tokenizer(&tokenizer, config.vocab_size)?;
        let EngineOptions { slots, context, weights, .. } = options;
        let spare = options.prefix_cache / SlotDecoder::bytes_of_slot(config, context).max(1);
        let all = if slots == 0 { 0 } else { slots.saturating_add(spare) };
        let decoder = SlotDecoder::new(parameters, SlotOptions { slots: all, context, weights })?;
        let decoder = match options.draft.pays(weights, decoder.weight_bytes()) {
            true => decoder.with_draft(parameters),
            false => decoder,
        };
        Ok(Engine {
            decoder,
            tokenizer,
            options,
            places: vec![Place::default(); all],
            sequences: (0..all).map(|_| None).collect(),
            queue: VecDeque::new(),
            next: 0,
            stats: Stats::default(),
        })
    }

    /// Shape of the model.
    pub fn config(&self) -> &GptConfig {
        self.decoder.config()
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// Longest text, in tokens.
    pub fn context(&self) -> usize {
        self.decoder.context()
    }

    /// Bytes of weights and caches, all of which may come to be used.
    pub fn bytes(&self) -> usize {
        self.decoder.weight_bytes() + self.decoder.slots() * self.decoder.slot_bytes()
    }

    /// True if texts that are continued alone are drafted.
    pub fn drafts(&self) -> bool {
        self.decoder.drafts()
    }

    /// Jobs that are not done: those in slots and those that wait.
    pub fn active(&self) -> usize {
        self.running() + self.queue.len()
    }

    /// Jobs that wait for a slot.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Slots that wait for a job.
    pub fn free_slots(&self) -> usize {
        self.options.slots - self.running()
    }

    /// What the engine has done so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    fn running(&self) -> usize {
        self.sequences.iter().flatten().count()
    }

    /// Takes a job; later steps continue it.
    ///
    /// # Errors
    /// When a setting is out of range, a token is not of the vocabulary, the prompt is empty or does not
    /// fit, or too many jobs wait.
    pub fn submit(&mut self, job: Job) -> Result<JobId, InferError> {
        self.check(&job)?;
        let waiting = self.queue.len();
        if waiting >= self.options.queue.saturating_add(self.free_slots()) {
            return Err(InferError::QueueFull { waiting });
        }
        let id = JobId(self.next);
        self.next += 1;
        self.queue.push_back(Sequence::new(id, job, &self.tokenizer));
        Ok(id)
    }

    fn check(&self, job: &Job) -> Result<(), InferError> {
        job.sampling.validate()?;
        let (vocab_size, limit) = (self.config().vocab_size, self.context());
        let biased = job.logit_bias.iter().map(|(token, _)| token);
        if let Some(&token) =
            job.prompt.iter().chain(biased).find(|token| **token as usize >= vocab_size)
        {
            return Err(InferError::Token { token, vocab_size });
        }
        if let Some(&(token, bias)) = job.logit_bias.iter().find(|(_, bias)| !bias.is_finite()) {
            return Err(InferError::Bias { token, bias });
        }
        match job.prompt.len() {
            0 => Err(InferError::Empty),
            tokens if tokens > limit => Err(InferError::TooLong { tokens, limit }),
            _ => Ok(()),
        }
    }

    /// Ends a job without further events. False if it is not active.
    pub fn cancel(&mut self, id: JobId) -> bool {
        let before = self.queue.len();
        self.queue.retain(|sequence| sequence.id != id);
        let of = |sequence: &Option<Sequence>| sequence.as_ref().is_some_and(|s| s.id == id);
        let slot = self.sequences.iter().position(of);
        if let Some(slot) = slot {
            self.leave(slot);
        } else if self.queue.len() < before {
            self.stats.jobs += 1;
        }
        slot.is_some() || self.queue.len() < before
    }

    /// Gives a slot free; its text stays in the cache.
    fn leave(&mut self, slot: usize) {
        self.sequences[slot] = None;
        self.places[slot].busy = false;
        self.stats.jobs += 1;
    }

    /// One forward pass over all jobs in slots, after jobs that wait have taken free ones. Without jobs,
    /// nothing happens.
    ///
    /// # Errors
    /// When the model cannot be computed at all. A fault of one job is an event of its own.
    pub fn step(&mut self) -> Result<Vec<(JobId, Event)>, InferError> {
        let start = Instant::now();
        let mut events = vec![];
        self.admit(&mut events);
        let (mut pass, prompts) = self.compose();
        if pass.is_empty() {
            return Ok(events);
        }
        let asked = pass.len();
        if let ([alone], 0) = (&pass[..], prompts) {
            pass.extend(self.guess(*alone)?);
        }
        let columns: Vec<Column> = pass.iter().map(|wanted| wanted.column).collect();
        let (vocab_size, context) = (self.config().vocab_size, self.context());
        let logits = self.decoder.forward(&columns)?;
        for Column { slot, token, .. } in columns {
            self.places[slot].tokens.push(token);
        }
        let wanted = pass.iter().filter(|wanted| wanted.column.logits);
        let rows = wanted.zip(logits.chunks_exact(vocab_size));
        let all = take(&mut self.sequences, rows.collect(), context);
        if let (guesses @ [_, ..], [taken]) = (&pass[asked..], &all[..]) {
            self.judge(guesses, taken);
        }
        self.follow(all, &mut events);
        self.count(&pass, prompts, start.elapsed().as_secs_f64());
        Ok(events)
    }

    /// Brings waiting jobs into free slots.
    fn admit(&mut self, events: &mut Vec<(JobId, Event)>) {
        while let Some(front) = self.queue.front() {
            if front.asks_nothing() {
                let mut sequence = self.queue.pop_front().expect("there is a front");
                let mut ends = vec![];
                sequence.end(Finish::MaxTokens, &mut ends);
                events.extend(ends.into_iter().map(|event| (sequence.id, event)));
                self.stats.jobs += 1;
                continue;
            }
            if self.free_slots() == 0 {
                return;
            }
            let most = front.cacheable();
            let choice = slots::choose(&self.places, &self.decoder, &front.text, most);
            let Some(choice) = choice else { return };
            if self.is_worth_waiting(&front.text, choice.cached, most) {
                return;
            }
            let mut sequence = self.queue.pop_front().expect("there is a front");
            sequence.usage.cached = choice.cached;
            self.enter(choice, sequence);
        }
    }

    /// True if a prompt that is being read begins like `prompt` far beyond what is in a cache by now.
    fn is_worth_waiting(&self, prompt: &[u32], cached: usize, most: usize) -> bool {
        let gain = |(sequence, place): (&Option<Sequence>, &Place)| {
            let text = sequence.as_ref().filter(|s| s.text.len() > place.tokens.len() + 1);
            text.map_or(0, |s| slots::common(&s.text, prompt).min(most))
        };
        let most = self.sequences.iter().zip(&self.places).map(gain).max().unwrap_or(0);
        most >= cached + WORTH_WAITING
    }

    fn enter(&mut self, choice: slots::Choice, sequence: Sequence) {
        let slots::Choice { slot, from, cached } = choice;
        self.decoder.copy(from, slot, cached);
        let tokens = sequence.text[..cached].to_vec();
        self.places[slot] = Place { tokens, busy: true, used: self.stats.steps };
        self.stats.cached_tokens += cached as u64;
        self.sequences[slot] = Some(sequence);
    }

    /// The tokens of the next pass, and how many of them are of prompts: one of each text that is being
    /// continued, and parts of prompts in the order of their slots' jobs.
    fn compose(&self) -> (Vec<Wanted>, usize) {
        let unread = |slot: usize| {
            let sequence = self.sequences[slot].as_ref();
            sequence.map_or(0, |s| s.text.len() - self.places[slot].tokens.len())
        };
        let mut pass: Vec<Wanted> = vec![];
        let add = |pass: &mut Vec<Wanted>, slot: usize, count: usize| {
            let first = self.places[slot].tokens.len();
            let sequence = self.sequences[slot].as_ref().expect("a job of the pass");
            let column = |at| Column { slot, token: sequence.text[at], logits: sequence.wants(at) };
            pass.extend((first..first + count).map(|at| Wanted { at, column: column(at) }));
        };
        let mut reading: Vec<usize> = (0..self.places.len()).filter(|&s| unread(s) > 1).collect();
        for slot in (0..self.places.len()).filter(|&slot| unread(slot) == 1) {
            add(&mut pass, slot, 1);
        }
        reading.sort_by_key(|&slot| self.sequences[slot].as_ref().map(|s| s.id));
        let (continued, mut reported) = (pass.len(), MOST_REPORTED);
        let limit = if continued == 0 { MOST_COLUMNS } else { self.options.chunk };
        let mut left = limit.clamp(1, MOST_COLUMNS).saturating_sub(continued).max(1);
        for slot in reading {
            let mut count = unread(slot).min(left);
            if self.sequences[slot].as_ref().is_some_and(Sequence::reports_prompt) {
                count = count.min(reported);
                reported -= count;
            }
            add(&mut pass, slot, count);
            left -= count;
        }
        let prompts = pass.len() - continued;
        (pass, prompts)
    }

    /// Does what follows from what became of each text.
    fn follow(&mut self, all: Vec<Taken>, to: &mut Vec<(JobId, Event)>) {
        for Taken { slot, read, events, next } in all {
            let sequence = self.sequences[slot].as_mut().expect("a job of the pass");
            let drawn =
                events.iter().filter(|event| matches!(event, Event::Token { forced: false, .. }));
            self.stats.generated_tokens += drawn.count() as u64;
            to.extend(events.into_iter().map(|event| (sequence.id, event)));
            if read < self.places[slot].tokens.len() {
                self.decoder.truncate(slot, read);
                self.places[slot].tokens.truncate(read);
            }
            match next {
                Next::Read => {}
                Next::End => self.leave(slot),
                Next::Slide => {
                    sequence.slide((self.decoder.context() / 2).max(1));
                    self.decoder.truncate(slot, 0);
                    self.places[slot].tokens.clear();
                }
            }
        }
    }

    fn count(&mut self, pass: &[Wanted], prompts: usize, seconds: f64) {
        self.stats.steps += 1;
        for wanted in pass {
            self.places[wanted.column.slot].used = self.stats.steps;
        }
        self.stats.prompt_tokens += prompts as u64;
        match prompts {
            0 => self.stats.decode_seconds += seconds,
            _ => self.stats.prompt_seconds += seconds,
        }
    }
}

/// Has every text take its logits, several at once: drawing from a large vocabulary takes a while.
fn take(
    sequences: &mut [Option<Sequence>],
    rows: Vec<(&Wanted, &[f32])>,
    context: usize,
) -> Vec<Taken> {
    let each = |(slot, sequence): (usize, &mut Option<Sequence>)| {
        let own = || rows.iter().filter(|(wanted, _)| wanted.column.slot == slot);
        let (sequence, first) = (sequence.as_mut()?, own().next()?);
        let mut taken = Taken { slot, read: first.0.at, events: vec![], next: Next::Read };
        for &(&Wanted { at, column }, logits) in own() {
            // A guess counts if the text has the token by now.
            if taken.next != Next::Read || sequence.text.get(at) != Some(&column.token) {
                break;
            }
            taken.read = at + 1;
            if sequence.wants(at) {
                taken.next = sequence.take(at, logits, context - at - 1, &mut taken.events);
            }
        }
        Some(taken)
    };
    let first = rows.first().map(|(wanted, _)| wanted.column.slot);
    match rows.iter().all(|(wanted, _)| Some(wanted.column.slot) == first) {
        true => sequences.iter_mut().enumerate().filter_map(each).collect(),
        false => sequences.par_iter_mut().enumerate().filter_map(each).collect(),
    }
}
