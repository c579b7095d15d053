//! Rows of examples: tokens of which only some are to be learned, such as conversations.
//!
//! A row of `seq + 1` tokens is filled with the longest waiting example that fits into what is left of it, again and
//! again; if none fits, the rest is padding, which is not learned (nanochat's way of packing conversations). Of
//! equally long ones the first is taken. [`Packed`] gives every example out once in a pass: a pass ends with rows
//! of what still waits, and the next one begins with a row of its own.
//!
//! An example that is longer than a row would never fit, wait for ever, and with others like it leave no room for those that
//! fit. So it is cut to the length of a row. One that has nothing left to learn is left out. [`Survey`] counts both
//! before the first row.

mod survey;

use super::order::Permutation;
use super::packer::Packer;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt::Debug;
use std::sync::Arc;
pub use survey::{Survey, unigram_entropy};

/// Examples that wait at most, for a good fit (nanochat).
pub const WAITING: usize = 100;
/// The name of this way of packing, in places.
const NAME: &str = "examples";

/// Tokens, and which of them are to be learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// The tokens.
    pub tokens: Vec<u32>,
    /// For each token: true if it is to be predicted from those before it.
    pub learned: Vec<bool>,
}

impl Example {
    /// The example as it is packed into rows of `seq + 1` tokens: cut to one, and without its first token to learn,
    /// before which nothing comes.
    fn packed(mut self, seq: usize) -> Example {
        self.tokens.truncate(seq + 1);
        self.learned.truncate(seq + 1);
        self.learned.iter_mut().take(1).for_each(|first| *first = false);
        self
    }

    /// Tokens to learn.
    fn to_learn(&self) -> impl Iterator<Item = u32> {
        let all = self.tokens.iter().zip(&self.learned);
        all.filter(|(_, learned)| **learned).map(|(token, _)| *token)
    }
}

/// A list of examples, always the same ones in the same order.
pub trait Examples: Debug + Send + Sync {
    /// Returns the number of examples.
    fn len(&self) -> usize;

    /// Returns an example.
    ///
    /// # Errors
    /// [`Error::Example`] when it cannot be read, or cannot be written in tokens.
    fn get(&self, index: usize) -> Result<Example>;

    /// True if there is no example.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How examples are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedConfig {
    /// Sequence length `S`: a row has `S + 1` tokens, `S` inputs and, one further, `S` targets.
    pub seq: usize,
    /// Examples that wait at most.
    pub waiting: usize,
    /// The token that rows are padded with.
    pub pad: u32,
    /// Seed of the order, another one in each pass; the order of the list if there is none.
    pub shuffle: Option<u64>,
}

impl PackedConfig {
    /// The order in which a pass takes examples out of a list of `len`.
    fn order(&self, pass: u64, len: usize) -> Order {
        let key = |seed| crate::mix::mix(seed ^ crate::mix::mix(pass));
        Order(self.shuffle.map(|seed| Permutation::new(len as u64, key(seed))))
    }
}

/// The order of a pass.
#[derive(Debug, Clone, Copy)]
struct Order(Option<Permutation>);

impl Order {
    fn at(&self, place: usize) -> usize {
        self.0.as_ref().map_or(place, |order| order.at(place as u64) as usize)
    }
}

/// An error of an example whose source does not say where it stands.
fn fault(index: usize, reason: &str) -> Error {
    Error::Example { place: format!("conversation {}", index + 1), reason: reason.to_owned() }
}

/// A batch, row-major `[batch, seq]`, of whose targets only some are learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Masked {
    /// Token ids that the model reads.
    pub inputs: Vec<u32>,
    /// Token ids that it should predict.
    pub targets: Vec<u32>,
    /// For each target: true if it counts.
    pub learned: Vec<bool>,
}

impl Masked {
    fn of(rows: &[Example], seq: usize) -> Masked {
        let tokens = |from: usize| {
            rows.iter().flat_map(move |row| row.tokens[from..from + seq].iter().copied())
        };
        let learned = rows.iter().flat_map(|row| row.learned[1..].iter().copied());
        Masked {
            inputs: tokens(0).collect(),
            targets: tokens(1).collect(),
            learned: learned.collect(),
        }
    }
}

/// All that is needed, with the examples, to go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    packing: String,
    seq: usize,
    waiting: usize,
    shuffle: Option<u64>,
    /// Passes that are complete.
    pass: u64,
    /// Examples of this pass that were packed, wait, or were left out.
    next: usize,
    /// The examples that wait, in their order.
    held: Vec<usize>,
    /// Of all examples.
    checksum: String,
}

/// Gives out rows of examples, pass after pass without end.
#[derive(Debug)]
pub struct Packed {
    examples: Arc<dyn Examples>,
    survey: Survey,
    config: PackedConfig,
    pass: u64,
    order: Order,
    next: usize,
    packer: Packer<(usize, Example)>,
}

impl Packed {
    /// Packs `examples`, of which `survey` is one.
    ///
    /// # Errors
    /// [`Error::NothingToLearn`] if no example is left in the survey.
    ///
    /// # Panics
    /// If the survey is of another length of sequences or of another number of examples.
    pub fn new(
        examples: Arc<dyn Examples>,
        survey: Survey,
        config: PackedConfig,
    ) -> Result<Packed> {
        assert_eq!((survey.seq(), survey.len()), (config.seq, examples.len()), "one survey");
        if survey.kept() == 0 {
            return Err(Error::NothingToLearn { examples: examples.len(), seq: config.seq });
        }
        let order = config.order(0, examples.len());
        let packer = Packer::default();
        Ok(Packed { examples, survey, config, pass: 0, order, next: 0, packer })
    }

    /// Returns what is known of the examples.
    pub fn survey(&self) -> &Survey {
        &self.survey
    }

    /// Returns how the examples are packed.
    pub fn config(&self) -> &PackedConfig {
        &self.config
    }

    /// Returns the number of rows that `passes` passes take, from the first on.
    pub fn rows(&self, passes: u64) -> u64 {
        (0..passes).map(|pass| self.rows_of(pass)).sum()
    }

    /// Packs the lengths of a pass.
    fn rows_of(&self, pass: u64) -> u64 {
        let (order, len) = (self.config.order(pass, self.examples.len()), self.examples.len());
        let lengths = (0..len).map(|place| self.survey.length(order.at(place)));
        let mut lengths = lengths.filter(|&length| length > 0);
        let (mut packer, mut rows) = (Packer::default(), 0);
        loop {
            let mut room = self.config.seq + 1;
            loop {
                let missing = self.config.waiting.max(1) - packer.len();
                lengths.by_ref().take(missing).for_each(|length| packer.push(length, length));
                let Some(length) = packer.take_longest(room) else { break };
                room -= length;
            }
            if room == self.config.seq + 1 {
                return rows;
            }
            rows += 1;
        }
    }

    /// Returns the next `rows` rows.
    ///
    /// # Errors
    /// Those of [`Examples::get`].
    pub fn next_batch(&mut self, rows: usize) -> Result<Masked> {
        let rows: Vec<Example> = (0..rows).map(|_| self.row()).collect::<Result<_>>()?;
        Ok(Masked::of(&rows, self.config.seq))
    }

    /// Returns the first rows of the first pass, at most `count` batches of `rows` each. The last one may end with
    /// rows of padding.
    ///
    /// # Errors
    /// As [`Packed::next_batch`].
    pub fn beginning(&self, rows: usize, count: usize) -> Result<Vec<Masked>> {
        if rows == 0 {
            return Ok(vec![]);
        }
        let mut fresh = Packed::new(Arc::clone(&self.examples), self.survey.clone(), self.config)?;
        let mut all = vec![];
        while all.len() < rows * count {
            let row = fresh.row()?;
            if fresh.pass > 0 {
                break;
            }
            all.push(row);
        }
        all.resize(all.len().next_multiple_of(rows), self.padding());
        Ok(all.chunks(rows).map(|rows| Masked::of(rows, self.config.seq)).collect())
    }

    /// A row of `seq + 1` tokens.
    fn row(&mut self) -> Result<Example> {
        if self.packer.len() == 0 && !self.refill()? {
            self.pass += 1;
            self.next = 0;
            self.order = self.config.order(self.pass, self.examples.len());
        }
        let mut row = Example { tokens: vec![], learned: vec![] };
        loop {
            self.refill()?;
            let room = self.config.seq + 1 - row.tokens.len();
            let Some((_, example)) = self.packer.take_longest(room) else { break };
            row.tokens.extend_from_slice(&example.tokens);
            row.learned.extend_from_slice(&example.learned);
        }
        row.tokens.resize(self.config.seq + 1, self.config.pad);
        row.learned.resize(self.config.seq + 1, false);
        Ok(row)
    }

    fn padding(&self) -> Example {
        let length = self.config.seq + 1;
        Example { tokens: vec![self.config.pad; length], learned: vec![false; length] }
    }

    /// Lets as many examples of this pass wait as may; true if any waits.
    fn refill(&mut self) -> Result<bool> {
        while self.packer.len() < self.config.waiting.max(1) && self.next < self.examples.len() {
            let index = self.order.at(self.next);
            self.hold(index)?;
            self.next += 1;
        }
        Ok(self.packer.len() > 0)
    }

    /// Lets an example wait, unless it is left out.
    fn hold(&mut self, index: usize) -> Result<()> {
        let length = self.survey.length(index);
        if length > 0 {
            let example = self.examples.get(index)?.packed(self.config.seq);
            if example.tokens.len() != length {
                return Err(fault(index, "it has changed since the run began"));
            }
            self.packer.push(length, (index, example));
        }
        Ok(())
    }

    fn stored(&self) -> Stored {
        Stored {
            packing: NAME.to_owned(),
            seq: self.config.seq,
            waiting: self.config.waiting,
            shuffle: self.config.shuffle,
            pass: self.pass,
            next: self.next,
            held: self.packer.in_order().into_iter().map(|(index, _)| *index).collect(),
            checksum: self.survey.checksum(),
        }
    }

    /// Returns all that is needed, with the examples, to give out what comes next.
    pub fn place(&self) -> Value {
        serde_json::to_value(self.stored()).expect("plain data")
    }

    /// Goes on from a place: the next rows are those that would have followed.
    ///
    /// # Errors
    /// [`Error::Place`] when it is the place of another kind of loader, [`Error::Cursor`] when the examples have
    /// changed, and those of [`Examples::get`].
    pub fn resume(&mut self, place: &Value) -> Result<()> {
        let stored: Stored = serde_json::from_value(place.clone()).map_err(Error::Place)?;
        let here = self.stored();
        let differs = |what, expected: String, got: String| match expected == got {
            true => Ok(()),
            false => Err(Error::Cursor { what, expected, got }),
        };
        differs("the way of packing", stored.packing, here.packing)?;
        differs("the sequence length", stored.seq.to_string(), here.seq.to_string())?;
        let waiting = (stored.waiting.to_string(), here.waiting.to_string());
        differs("the number of examples that wait", waiting.0, waiting.1)?;
        let order = |shuffle| format!("{shuffle:?}");
        differs("the order of the examples", order(stored.shuffle), order(here.shuffle))?;
        differs("the checksum of the examples", stored.checksum, here.checksum)?;
        let len = self.examples.len();
        if stored.next > len || stored.held.iter().any(|&index| index >= len) {
            let expected = format!("at most {len}");
            return Err(Error::Cursor {
                what: "the example",
                expected,
                got: stored.next.to_string(),
            });
        }
        self.packer = Packer::default();
        self.order = self.config.order(stored.pass, len);
        (self.pass, self.next) = (stored.pass, stored.next);
        stored.held.into_iter().try_for_each(|index| self.hold(index))
    }
}

#[cfg(test)]
mod tests;
