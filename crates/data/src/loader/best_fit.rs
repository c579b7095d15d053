//! Rows of whole documents, each after its mark: nanochat's way of packing.
//!
//! A row is filled with the longest waiting document that fits into what is left of it, again and again. If none fits, the
//! shortest is cut to fill the row, and its rest is dropped: so no row is padded, every row begins with a
//! document, and about a third of the tokens is not seen. At least [`BUFFER`] documents wait, read in their
//! order, pass after pass without end. Of equally long ones the first is taken.

use super::batches::Batches;
use super::feed::{Entry, Feed, Part, Position, Reader, Refill, Sample, Tokenize};
use super::packer::Packer;
use super::{Batch, Split, check_seq};
use crate::error::{Error, Result};
use crate::text::Place;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// Documents that wait at least, for a good fit (nanochat).
pub const BUFFER: usize = 1000;
/// Refills from which numbers of tokens are estimated.
const SAMPLED: usize = 8;
/// The name of this way of packing, in places.
const NAME: &str = "bos-fit";

/// How documents are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BestFitConfig {
    /// Sequence length `S`: a row has `S + 1` tokens, `S` inputs and, one further, `S` targets.
    pub seq: usize,
    /// Documents that wait at least.
    pub buffer: usize,
    /// The token that begins each document (BOS), if there is one.
    pub document_start: Option<u32>,
}

/// All that is needed, with the texts, to go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    packing: String,
    seq: usize,
    buffer: usize,
    /// Passes that are complete.
    epoch: u64,
    /// Where the next document is read.
    next: Place,
    /// The documents that wait, in their order, each with its tokens, to notice other data.
    waiting: Vec<(Place, usize)>,
    /// Of the texts.
    train: String,
    validation: String,
}

/// Gives out rows of whole documents.
#[derive(Debug)]
pub struct BestFit {
    train: Reader,
    validation: Reader,
    config: BestFitConfig,
    packer: Packer<Entry>,
    /// After the documents that were packed or wait.
    position: Position,
    /// The first documents, which were read for the estimates; none after resuming.
    ready: VecDeque<Refill>,
    /// Reads ahead from behind these; started with the first row.
    feed: Option<Feed>,
    fingerprints: [String; 2],
    samples: [Sample; 2],
    judged_anew: bool,
    /// Rows of the validation part that were packed before.
    judges: Mutex<Vec<Vec<u32>>>,
}

impl BestFit {
    /// Packs the documents of `train`, to be judged by those of `validation`.
    ///
    /// # Errors
    /// [`Error::Setting`] for a length out of range, [`Error::NoText`] for a part without documents, and those
    /// of reading and tokenizing the first documents.
    pub fn new(
        train: Part,
        validation: Part,
        tokenize: Arc<Tokenize>,
        config: BestFitConfig,
    ) -> Result<BestFit> {
        check_seq(config.seq)?;
        let mark = config.document_start;
        let train = Reader::new(train, Arc::clone(&tokenize), mark);
        let validation = Reader::new(validation, tokenize, mark);
        let ready = train.first(SAMPLED)?;
        let samples = [train.sample(&ready)?, validation.sample(&validation.first(SAMPLED)?)?];
        Ok(BestFit {
            fingerprints: [train.fingerprint()?, validation.fingerprint()?],
            samples,
            ready: ready.into(),
            train,
            validation,
            config,
            packer: Packer::default(),
            position: Position::default(),
            feed: None,
            judged_anew: false,
            judges: Mutex::default(),
        })
    }

    /// The next row of the training part.
    fn row(&mut self) -> Result<Vec<u32>> {
        let BestFit { packer, position, ready, feed, config, train, .. } = self;
        let feed = match feed {
            Some(feed) => feed,
            none => {
                let from = ready.back().map_or(*position, |last| last.position);
                none.insert(Feed::start(train.clone(), from)?)
            }
        };
        fill(packer, config, &mut |packer| {
            let refill = ready.pop_front().map_or_else(|| feed.next(), Ok)?;
            *position = refill.position;
            refill.entries.into_iter().for_each(|entry| wait(packer, entry));
            Ok(())
        })
    }

    /// The first `count` rows of the validation part.
    fn judges(&self, count: usize) -> Result<Vec<Vec<u32>>> {
        let mut known = self.judges.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < count {
            *known = self.pack_judges(count)?;
        }
        Ok(known[..count].to_vec())
    }

    /// Packs them from the beginning: rows do not depend on how many were asked for before.
    fn pack_judges(&self, count: usize) -> Result<Vec<Vec<u32>>> {
        let mut feed = Feed::start(self.validation.clone(), Position::default())?;
        let mut packer = Packer::default();
        let mut refill = |packer: &mut Packer<Entry>| {
            feed.next()?.entries.into_iter().for_each(|entry| wait(packer, entry));
            Ok(())
        };
        (0..count).map(|_| fill(&mut packer, &self.config, &mut refill)).collect()
    }

    fn stored(&self) -> Stored {
        let [train, validation] = self.fingerprints.clone();
        let waiting = self.packer.in_order().into_iter();
        Stored {
            packing: NAME.to_owned(),
            seq: self.config.seq,
            buffer: self.config.buffer,
            epoch: self.position.epoch,
            next: self.position.next,
            waiting: waiting.map(|entry| (entry.place, entry.tokens.len())).collect(),
            train,
            validation,
        }
    }
}

/// Lets a document wait.
fn wait(packer: &mut Packer<Entry>, entry: Entry) {
    packer.push(entry.tokens.len(), entry);
}

/// A row of `seq + 1` tokens; `refill` is asked for documents while fewer wait than are to.
fn fill(
    packer: &mut Packer<Entry>,
    config: &BestFitConfig,
    refill: &mut dyn FnMut(&mut Packer<Entry>) -> Result<()>,
) -> Result<Vec<u32>> {
    let capacity = config.seq + 1;
    let mut row = Vec::with_capacity(capacity);
    while row.len() < capacity {
        while packer.len() < config.buffer.max(1) {
            refill(packer)?;
        }
        let room = capacity - row.len();
        let entry = packer.take_longest(room).or_else(|| packer.take_shortest());
        let tokens = entry.map(|entry| entry.tokens).unwrap_or_default();
        row.extend_from_slice(&tokens[..tokens.len().min(room)]);
    }
    Ok(row)
}

/// Rows as inputs and targets.
fn batch(rows: &[Vec<u32>], seq: usize) -> Batch {
    let mut batch = Batch::with_capacity(rows.len(), seq);
    for row in rows {
        batch.inputs.extend_from_slice(&row[..seq]);
        batch.targets.extend_from_slice(&row[1..]);
    }
    batch
}

impl Batches for BestFit {
    fn next_batch(&mut self, rows: usize) -> Result<Batch> {
        let rows: Vec<_> = (0..rows).map(|_| self.row()).collect::<Result<_>>()?;
        Ok(batch(&rows, self.config.seq))
    }

    /// Rows are packed from the beginning of the validation part, which is begun again where it is short.
    fn validation_batches(&self, rows: usize, count: usize) -> Result<Vec<Batch>> {
        if rows == 0 || count == 0 {
            return Ok(vec![]);
        }
        let judges = self.judges(rows * count)?;
        Ok(judges.chunks(rows).map(|rows| batch(rows, self.config.seq)).collect())
    }

    fn place(&self) -> Value {
        serde_json::to_value(self.stored()).expect("plain data")
    }

    fn resume(&mut self, place: &Value) -> Result<()> {
        let stored: Stored = serde_json::from_value(place.clone()).map_err(Error::Place)?;
        let here = self.stored();
        let differs = |what, expected: &str, got: &str| match expected == got {
            true => Ok(()),
            false => {
                let (expected, got) = (expected.to_owned(), got.to_owned());
                Err(Error::Cursor { what, expected, got })
            }
        };
        differs("the way of packing", &stored.packing, &here.packing)?;
        let of = |stored: &Stored| format!("{}, {} waiting", stored.seq, stored.buffer);
        differs("the sequence length", &of(&stored), &of(&here))?;
        differs("the checksum of the training part", &stored.train, &here.train)?;
        if !self.judged_anew {
            let what = "the checksum of the validation part";
            differs(what, &stored.validation, &here.validation)?;
        }
        let mut packer = Packer::default();
        self.train.again(&stored.waiting)?.into_iter().for_each(|entry| wait(&mut packer, entry));
        self.packer = packer;
        self.position = Position { epoch: stored.epoch, next: stored.next };
        self.ready.clear();
        self.feed = None;
        Ok(())
    }

    fn judge_anew(&mut self) {
        self.judged_anew = true;
    }

    /// By the first documents, and the bytes of all.
    fn tokens(&self, split: Split) -> u64 {
        match split {
            Split::Train => self.samples[0].all_tokens(),
            Split::Validation => self.samples[1].all_tokens(),
        }
    }

    /// Of the first documents of either part.
    fn unigram_entropy(&self, vocab_size: u32) -> Result<f64> {
        let mut counts = vec![0u64; vocab_size as usize];
        let bad = |position: usize, id| Error::TokenId {
            place: "the text".to_owned(),
            position: position as u64,
            id,
            vocab_size,
        };
        let mut all = 0u64;
        for (n, id) in self.samples[0].tokens.iter().copied().enumerate() {
            *counts.get_mut(id as usize).ok_or_else(|| bad(n, id))? += 1;
            all += 1;
        }
        let denominator = (all as f64 + f64::from(vocab_size)).ln();
        let (mut sum, mut judged) = (0.0, 0u64);
        for (n, id) in self.samples[1].tokens.iter().copied().enumerate() {
            let count = *counts.get(id as usize).ok_or_else(|| bad(n, id))?;
            sum += denominator - (count as f64 + 1.0).ln();
            judged += 1;
        }
        Ok(sum / judged.max(1) as f64)
    }

    fn beginning(&self, count: usize) -> Result<Vec<u32>> {
        Ok(self.samples[1].tokens.iter().copied().take(count).collect())
    }
}

impl From<BestFit> for Box<dyn Batches> {
    fn from(loader: BestFit) -> Self {
        Box::new(loader)
    }
}

#[cfg(test)]
mod tests;
