//! Batches of training rows in an order that can be resumed anywhere.
//!
//! There are two ways of packing documents into rows, both [`Batches`]: [`Loader`] cuts windows out of all
//! documents one after the other, as told here, and [`BestFit`] fills rows with whole documents. [`examples`] packs
//! tokens of which only some are learned.
//!
//! The stream of tokens is cut once, into a front part for training and a back part for
//! validation, where possible at the start of a document; the parts never overlap. An epoch goes
//! through the training part in windows of `seq + 1` tokens (inputs and, one further, targets)
//! that start `seq` apart, so each token is a target at most once per epoch. The grid of windows
//! begins at a random phase in `0..seq`, drawn anew for each epoch, so that the cuts between
//! windows move; what lies before the phase and after the last whole window (fewer than `2 seq`
//! tokens) is left out of that epoch. The order of the windows is a pseudo-random bijection of
//! `0..windows` computed on the fly (`order`), so that no list of windows is kept.
//!
//! Everything follows from [`Cursor`], which a checkpoint stores: a loader resumed from it
//! continues with exactly the windows that would have come.

mod batches;
mod best_fit;
pub mod examples;
mod feed;
mod order;
mod packer;
mod source;

use crate::error::{Error, Result};
pub use batches::Batches;
pub use best_fit::{BUFFER, BestFit, BestFitConfig};
pub use feed::{Part, Tokenize};
use order::Permutation;
use serde::{Deserialize, Serialize};
pub use source::{TokenSource, is_token_file};
use std::ops::Range;

/// The two parts of a token stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// The part that the model learns from.
    Train,
    /// The part that it is judged by.
    Validation,
}

/// How to cut and read a stream of tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoaderConfig {
    /// Sequence length `S`: tokens per row of a batch.
    pub seq: usize,
    /// Seed of the order.
    pub seed: u64,
    /// Part of the tokens kept for validation, above 0 and at most 0.5. At least four sequences
    /// are kept, as long as that is not more than half of the tokens.
    pub validation_fraction: f64,
    /// The token that begins each document (BOS), if there is one. The cut is moved back to the
    /// document that it falls into, if that begins in the last tenth of the training part.
    pub document_start: Option<u32>,
}

impl LoaderConfig {
    /// 10 % validation and no document marks.
    pub fn new(seq: usize, seed: u64) -> LoaderConfig {
        LoaderConfig { seq, seed, validation_fraction: 0.1, document_start: None }
    }
}

/// Where a loader stands: all that is needed, with the data, to continue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Seed of the order.
    pub seed: u64,
    /// Sequence length.
    pub seq: usize,
    /// Passes over the training part that are complete.
    pub epoch: u64,
    /// Windows of this epoch that have been given out.
    pub index: u64,
    /// Tokens in the training part.
    pub train_tokens: u64,
    /// Checksums of the parts, to notice other data; checkpoints from before they were taken of every
    /// token have none.
    #[serde(default)]
    pub train_checksum: Option<u64>,
    /// The checksum of the validation part.
    #[serde(default)]
    pub validation_checksum: Option<u64>,
}

/// One batch, row-major `[batch, seq]`. `targets[b, s]` is the token that follows `inputs[b, s]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Token ids that the model reads.
    pub inputs: Vec<u32>,
    /// Token ids that it should predict.
    pub targets: Vec<u32>,
    /// Rows.
    pub batch: usize,
    /// Tokens per row.
    pub seq: usize,
}

/// A range of a source.
#[derive(Debug, Clone)]
struct Region {
    source: TokenSource,
    range: Range<usize>,
}

impl Region {
    fn len(&self) -> usize {
        self.range.len()
    }

    /// Appends the window that starts at `offset`: `seq` inputs and `seq` targets.
    fn push_window(&self, offset: usize, window: &mut [u32], batch: &mut Batch) {
        self.source.read(self.range.start + offset, window);
        batch.inputs.extend_from_slice(&window[..window.len() - 1]);
        batch.targets.extend_from_slice(&window[1..]);
    }

    /// A checksum of every token and of their number, certain to change where one token does. (Each
    /// step maps sums one to one, so two sums that differ stay apart while what is added is the same.)
    /// A billion tokens take a few seconds.
    fn checksum(&self) -> u64 {
        let mut sum = self.len() as u64;
        let mut chunk = vec![0u32; self.len().min(1 << 14)];
        let mut at = self.range.start;
        while at < self.range.end {
            let n = chunk.len().min(self.range.end - at);
            self.source.read(at, &mut chunk[..n]);
            for pair in chunk[..n].chunks(2) {
                let upper = pair.get(1).copied().unwrap_or(0);
                sum = (sum ^ (u64::from(pair[0]) | u64::from(upper) << 32))
                    .wrapping_mul(crate::mix::GOLDEN);
                sum ^= sum >> 32;
            }
            at += n;
        }
        sum
    }
}

/// Gives out batches of the training part, and a fixed set of the validation part.
#[derive(Debug, Clone)]
pub struct Loader {
    train: Region,
    validation: Region,
    cursor: Cursor,
    epoch: Epoch,
    judged_anew: bool,
}

/// The windows of one epoch.
#[derive(Debug, Clone)]
struct Epoch {
    phase: usize,
    order: Permutation,
}

impl Epoch {
    fn new(cursor: &Cursor) -> Epoch {
        let key = crate::mix::mix(cursor.seed ^ crate::mix::mix(cursor.epoch));
        // At least one window fits whatever the phase.
        let tokens = cursor.train_tokens as usize;
        let phases = cursor.seq.min(tokens - cursor.seq) as u128;
        let phase = ((u128::from(crate::mix::mix(key)) * phases) >> 64) as usize;
        let windows = (tokens - 1 - phase) / cursor.seq;
        Epoch { phase, order: Permutation::new(windows as u64, key) }
    }
}

impl Loader {
    /// Cuts `source` into training and validation parts and stands at the beginning.
    ///
    /// # Errors
    /// [`Error::TooShort`] when not even one sequence fits into each part, [`Error::Setting`] for
    /// a setting out of range.
    pub fn new(source: TokenSource, config: LoaderConfig) -> Result<Loader> {
        let train = training_range(&source, &config)?;
        let all = source.len();
        let validation = Region { source: source.clone(), range: train.end..all };
        Loader::start(Region { source, range: train }, validation, &config)
    }

    /// Takes the parts from two sources, such as the training and validation files of TinyStories.
    /// `validation_fraction` and `document_start` are not used.
    pub fn with_validation(
        train: TokenSource,
        validation: TokenSource,
        config: LoaderConfig,
    ) -> Result<Loader> {
        check_seq(config.seq)?;
        for source in [&train, &validation] {
            if source.len() <= config.seq {
                return Err(too_short(source, config.seq, config.seq as u64 + 1));
            }
        }
        let train = Region { range: 0..train.len(), source: train };
        let validation = Region { range: 0..validation.len(), source: validation };
        Loader::start(train, validation, &config)
    }

    fn start(train: Region, validation: Region, config: &LoaderConfig) -> Result<Loader> {
        let cursor = Cursor {
            seed: config.seed,
            seq: config.seq,
            epoch: 0,
            index: 0,
            train_tokens: train.len() as u64,
            train_checksum: Some(train.checksum()),
            validation_checksum: Some(validation.checksum()),
        };
        let epoch = Epoch::new(&cursor);
        Ok(Loader { train, validation, cursor, epoch, judged_anew: false })
    }

    /// Where the loader stands; store it with the checkpoint.
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// Lets [`Loader::resume`] take another validation part than that of the cursor.
    pub fn judge_anew(&mut self) {
        self.judged_anew = true;
    }

    /// Moves to a stored cursor: the next batches are those that would have followed.
    ///
    /// # Errors
    /// [`Error::Cursor`] when the data or the sequence length are not those of the cursor. The
    /// seed is taken from the cursor.
    pub fn resume(&mut self, cursor: &Cursor) -> Result<()> {
        let differs = |what, expected: String, got: String| {
            if expected == got { Ok(()) } else { Err(Error::Cursor { what, expected, got }) }
        };
        let here = &self.cursor;
        differs("the sequence length", cursor.seq.to_string(), here.seq.to_string())?;
        let tokens = (cursor.train_tokens.to_string(), here.train_tokens.to_string());
        differs("the number of training tokens", tokens.0, tokens.1)?;
        for (what, was, is) in [
            ("the checksum of the training part", cursor.train_checksum, here.train_checksum),
            (
                "the checksum of the validation part",
                cursor.validation_checksum.filter(|_| !self.judged_anew),
                here.validation_checksum,
            ),
        ] {
            let hex = |sum: Option<u64>| format!("{:016x}", sum.unwrap_or_default());
            if was.is_some() {
                differs(what, hex(was), hex(is))?;
            }
        }
        let epoch = Epoch::new(cursor);
        if cursor.index > epoch.order.len() {
            let expected = "at most ".to_owned() + &epoch.order.len().to_string();
            let got = cursor.index.to_string();
            return Err(Error::Cursor { what: "the window of the epoch", expected, got });
        }
        self.cursor = Cursor {
            train_checksum: here.train_checksum,
            validation_checksum: here.validation_checksum,
            ..cursor.clone()
        };
        self.epoch = epoch;
        Ok(())
    }

    /// Tokens of a part.
    pub fn tokens(&self, split: Split) -> u64 {
        self.region(split).len() as u64
    }

    /// Where a part lies in its source, in tokens.
    pub fn range(&self, split: Split) -> Range<usize> {
        self.region(split).range.clone()
    }

    /// Copies tokens of a part, from `start` in it on.
    ///
    /// # Panics
    /// When the range goes past the end of the part.
    pub fn read(&self, split: Split, start: usize, out: &mut [u32]) {
        let region = self.region(split);
        assert!(start + out.len() <= region.len(), "within the part");
        region.source.read(region.range.start + start, out);
    }

    /// Windows, and so rows of batches, in the present epoch.
    pub fn windows_per_epoch(&self) -> u64 {
        self.epoch.order.len()
    }

    fn region(&self, split: Split) -> &Region {
        match split {
            Split::Train => &self.train,
            Split::Validation => &self.validation,
        }
    }

    /// The next `batch` windows of the training part; goes on into the next epoch without end.
    pub fn next_batch(&mut self, batch: usize) -> Batch {
        let seq = self.cursor.seq;
        let mut out = Batch::with_capacity(batch, seq);
        let mut window = vec![0; seq + 1];
        for _ in 0..batch {
            let offset = self.next_window();
            self.train.push_window(offset, &mut window, &mut out);
        }
        out
    }

    /// Offset of the next training window from the start of the training part.
    fn next_window(&mut self) -> usize {
        if self.cursor.index >= self.epoch.order.len() {
            self.cursor.epoch += 1;
            self.cursor.index = 0;
            self.epoch = Epoch::new(&self.cursor);
        }
        let window = self.epoch.order.at(self.cursor.index) as usize;
        self.cursor.index += 1;
        self.epoch.phase + window * self.cursor.seq
    }

    /// At most `count` full batches of the validation part: always the same windows, evenly
    /// spread, none twice. Fewer when the part is short; when it has not even `batch` windows,
    /// one batch in which they repeat.
    pub fn validation_batches(&self, batch: usize, count: usize) -> Vec<Batch> {
        let seq = self.cursor.seq;
        let windows = (self.validation.len() - 1) / seq;
        if batch == 0 || count == 0 {
            return Vec::new();
        }
        let count = count.min((windows / batch).max(1));
        let rows = batch * count;
        let mut window = vec![0; seq + 1];
        let mut row = 0;
        let mut out = Vec::with_capacity(count);
        for _ in 0..count {
            let mut one = Batch::with_capacity(batch, seq);
            for _ in 0..batch {
                let place = if rows <= windows {
                    (row as u128 * windows as u128 / rows as u128) as usize
                } else {
                    row % windows
                };
                self.validation.push_window(place * seq, &mut window, &mut one);
                row += 1;
            }
            out.push(one);
        }
        out
    }

    /// Cross entropy, in nats per token, of the validation part under the token frequencies of
    /// the training part: what a model reaches that knows how often each token is used and
    /// nothing else. With add-one smoothing, for counts `c` of `N` training tokens and a
    /// vocabulary of `V`: `H = -1/|val| · Σ_{t in val} ln((c(t) + 1) / (N + V))`.
    ///
    /// # Errors
    /// [`Error::TokenId`] for an id that is not below `vocab_size`.
    pub fn unigram_entropy(&self, vocab_size: u32) -> Result<f64> {
        let train = self.counts(Split::Train, vocab_size)?;
        let validation = self.counts(Split::Validation, vocab_size)?;
        let denominator = (self.train.len() as f64 + f64::from(vocab_size)).ln();
        let sum: f64 = train
            .iter()
            .zip(&validation)
            .filter(|&(_, &n)| n > 0)
            .map(|(&c, &n)| n as f64 * (denominator - (c as f64 + 1.0).ln()))
            .sum();
        Ok(sum / self.validation.len() as f64)
    }

    /// How often each id occurs in a part; `counts[id]`, `vocab_size` entries.
    pub fn counts(&self, split: Split, vocab_size: u32) -> Result<Vec<u64>> {
        let region = self.region(split);
        let mut counts = vec![0u64; vocab_size as usize];
        let mut chunk = vec![0u32; region.len().min(1 << 14)];
        let mut at = region.range.start;
        while at < region.range.end {
            let n = chunk.len().min(region.range.end - at);
            region.source.read(at, &mut chunk[..n]);
            for (i, &id) in chunk[..n].iter().enumerate() {
                match counts.get_mut(id as usize) {
                    Some(count) => *count += 1,
                    None => return Err(region.source.bad_id(at + i, id, vocab_size)),
                }
            }
            at += n;
        }
        Ok(counts)
    }
}

impl Batch {
    fn with_capacity(batch: usize, seq: usize) -> Batch {
        let size = batch * seq;
        Batch { inputs: Vec::with_capacity(size), targets: Vec::with_capacity(size), batch, seq }
    }
}

/// Refuses a length of sequences that is out of range.
fn check_seq(seq: usize) -> Result<()> {
    if seq == 0 || seq > 1 << 24 {
        let value = seq.to_string();
        return Err(Error::Setting { name: "seq", value, expected: "between 1 and 16777216" });
    }
    Ok(())
}

fn too_short(source: &TokenSource, seq: usize, needed: u64) -> Error {
    Error::TooShort { place: source.place(0), tokens: source.len() as u64, seq, needed }
}

/// The part of `source` that [`Loader::new`] trains on; validation is the rest.
///
/// # Errors
/// As [`Loader::new`].
pub fn training_range(source: &TokenSource, config: &LoaderConfig) -> Result<Range<usize>> {
    check_seq(config.seq)?;
    let fraction = config.validation_fraction;
    if !(fraction > 0.0 && fraction <= 0.5) {
        return Err(Error::Setting {
            name: "validation_fraction",
            value: fraction.to_string(),
            expected: "above 0 and at most 0.5",
        });
    }
    let (all, window) = (source.len(), config.seq + 1);
    if all < 2 * window {
        return Err(too_short(source, config.seq, 2 * window as u64));
    }
    let few = (4 * config.seq + 1).min(all / 2).max(window);
    let validation = ((all as f64 * fraction) as usize).max(few);
    let at = all - validation;
    Ok(0..document_before(source, at, config).unwrap_or(at))
}

/// The start of the document that `at` falls into, unless the cut would move by more than a tenth
/// of the training part or leave it without a window.
fn document_before(source: &TokenSource, at: usize, config: &LoaderConfig) -> Option<usize> {
    let mark = config.document_start?;
    let floor = (at - at / 10).max(config.seq + 1);
    let mut token = [0];
    (floor..=at).rev().find(|&i| {
        source.read(i, &mut token);
        token[0] == mark
    })
}

#[cfg(test)]
mod tests;
