//! What training asks of a loader.

use super::{Batch, Cursor, Loader, Split};
use crate::error::{Error, Result};
use serde_json::Value;
use std::fmt::Debug;

/// Gives out batches of a training part without end, and a fixed set of a validation part.
pub trait Batches: Debug + Send {
    /// The next `rows` rows of the training part.
    ///
    /// # Errors
    /// When the data cannot be read, or a text cannot be tokenized.
    fn next_batch(&mut self, rows: usize) -> Result<Batch>;

    /// At most `count` batches of the validation part, of `rows` rows each: always the same ones.
    ///
    /// # Errors
    /// As [`Batches::next_batch`].
    fn validation_batches(&self, rows: usize, count: usize) -> Result<Vec<Batch>>;

    /// All that is needed, with the data, to give out what comes next.
    fn place(&self) -> Value;

    /// Goes on from a place: the next batches are those that would have followed.
    ///
    /// # Errors
    /// [`Error::Place`] when it is the place of another kind of loader, [`Error::Cursor`] when the data have
    /// changed, and those of reading them.
    fn resume(&mut self, place: &Value) -> Result<()>;

    /// Lets [`Batches::resume`] take another validation part than that of the place.
    fn judge_anew(&mut self);

    /// Tokens of a part; an estimate where they are not all there.
    fn tokens(&self, split: Split) -> u64;

    /// Cross entropy, in nats per token, of the validation part under the frequencies of tokens in the
    /// training part (see [`Loader::unigram_entropy`]); an estimate where not all are there.
    ///
    /// # Errors
    /// [`Error::TokenId`] for an id that is not below `vocab_size`.
    fn unigram_entropy(&self, vocab_size: u32) -> Result<f64>;

    /// The first `count` tokens of the validation part, or fewer.
    ///
    /// # Errors
    /// As [`Batches::next_batch`].
    fn beginning(&self, count: usize) -> Result<Vec<u32>>;
}

impl Batches for Loader {
    fn next_batch(&mut self, rows: usize) -> Result<Batch> {
        Ok(Loader::next_batch(self, rows))
    }

    fn validation_batches(&self, rows: usize, count: usize) -> Result<Vec<Batch>> {
        Ok(Loader::validation_batches(self, rows, count))
    }

    fn place(&self) -> Value {
        serde_json::to_value(self.cursor()).expect("plain data")
    }

    fn resume(&mut self, place: &Value) -> Result<()> {
        let cursor: Cursor = serde_json::from_value(place.clone()).map_err(Error::Place)?;
        Loader::resume(self, &cursor)
    }

    fn judge_anew(&mut self) {
        Loader::judge_anew(self);
    }

    fn tokens(&self, split: Split) -> u64 {
        Loader::tokens(self, split)
    }

    fn unigram_entropy(&self, vocab_size: u32) -> Result<f64> {
        Loader::unigram_entropy(self, vocab_size)
    }

    fn beginning(&self, count: usize) -> Result<Vec<u32>> {
        let mut tokens = vec![0; count.min(Loader::tokens(self, Split::Validation) as usize)];
        self.read(Split::Validation, 0, &mut tokens);
        Ok(tokens)
    }
}

impl From<Loader> for Box<dyn Batches> {
    fn from(loader: Loader) -> Self {
        Box::new(loader)
    }
}
