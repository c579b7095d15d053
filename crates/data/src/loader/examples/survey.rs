//! A look at all examples before the first row: how long they are, and what there is to learn.

use super::Examples;
use crate::error::{Error, Result};
use crate::mix::{GOLDEN, mix};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Examples that are looked at between two reports of progress.
const CHUNK: usize = 1024;

/// What is known of a list of examples, in rows of `seq + 1` tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    seq: usize,
    /// Tokens of each example, cut to a row; 0 for those that are left out.
    lengths: Vec<u32>,
    cut: usize,
    tokens: u64,
    /// How often each token is to be learned in a pass.
    counts: BTreeMap<u32, u64>,
    checksum: u64,
}

/// What is known of one example.
struct Seen {
    length: usize,
    to_learn: Vec<u32>,
    was_cut: bool,
    checksum: u64,
}

impl Survey {
    /// Looks at every example, with all cores; `progress` is told how many were seen.
    ///
    /// # Errors
    /// Those of [`Examples::get`], for the first example that has one.
    pub fn of(
        examples: &dyn Examples,
        seq: usize,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Survey> {
        super::super::check_seq(seq)?;
        let mut survey = Survey {
            seq,
            lengths: Vec::with_capacity(examples.len()),
            cut: 0,
            tokens: 0,
            counts: BTreeMap::new(),
            checksum: 0,
        };
        for start in (0..examples.len()).step_by(CHUNK) {
            let chunk = start..examples.len().min(start + CHUNK);
            let seen = chunk.into_par_iter().map(|index| see(examples, index, seq));
            for one in seen.collect::<Vec<Result<Seen>>>() {
                survey.note(one?);
            }
            progress(survey.lengths.len());
        }
        Ok(survey)
    }

    fn note(&mut self, seen: Seen) {
        self.checksum = mix(self.checksum ^ seen.checksum);
        if seen.to_learn.is_empty() {
            return self.lengths.push(0);
        }
        self.lengths.push(seen.length as u32);
        self.cut += usize::from(seen.was_cut);
        self.tokens += seen.length as u64;
        seen.to_learn.into_iter().for_each(|token| *self.counts.entry(token).or_default() += 1);
    }

    /// Returns the number of examples.
    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    /// True if there is no example.
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Returns the sequence length.
    pub fn seq(&self) -> usize {
        self.seq
    }

    /// Returns the tokens of an example as it is packed; 0 if it is left out.
    pub fn length(&self, index: usize) -> usize {
        self.lengths[index] as usize
    }

    /// Returns how many examples are packed.
    pub fn kept(&self) -> usize {
        self.lengths.iter().filter(|&&length| length > 0).count()
    }

    /// Returns how many of these are cut to a row.
    pub fn cut(&self) -> usize {
        self.cut
    }

    /// Returns how many examples are left out: a row of their tokens has nothing to learn.
    pub fn left_out(&self) -> usize {
        self.len() - self.kept()
    }

    /// Returns the tokens of a pass, without padding.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Returns how many of them are to be learned.
    pub fn learned(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Returns a checksum of all tokens and of which are learned, in hexadecimal.
    pub fn checksum(&self) -> String {
        format!("{:016x}", self.checksum)
    }
}

fn see(examples: &dyn Examples, index: usize, seq: usize) -> Result<Seen> {
    let example = examples.get(index)?;
    if example.tokens.len() != example.learned.len() {
        return Err(super::fault(index, "not every token is said to be learned or not"));
    }
    let was_cut = example.tokens.len() > seq + 1;
    // Of all tokens: a longer sequence would learn more of them.
    let checksum = example.tokens.iter().zip(&example.learned);
    let checksum = checksum.fold(example.tokens.len() as u64, |sum, (&token, &learned)| {
        let sum = (sum ^ (u64::from(token) << 1 | u64::from(learned))).wrapping_mul(GOLDEN);
        sum ^ sum >> 32
    });
    let example = example.packed(seq);
    let to_learn = example.to_learn().collect();
    Ok(Seen { length: example.tokens.len(), to_learn, was_cut, checksum })
}

/// Returns the cross entropy, in nats per token, of what is to be learned of `validation` under the frequencies of
/// what is to be learned of `train`, with add-one smoothing over a vocabulary of `vocab_size`: what a model reaches
/// that knows how often each token is said and nothing else.
///
/// # Errors
/// [`Error::TokenId`] for an id that is not below `vocab_size`.
pub fn unigram_entropy(train: &Survey, validation: &Survey, vocab_size: u32) -> Result<f64> {
    let ids = train.counts.keys().chain(validation.counts.keys());
    if let Some(&id) = ids.max().filter(|&&id| id >= vocab_size) {
        let place = "a conversation".to_owned();
        return Err(Error::TokenId { place, position: 0, id, vocab_size });
    }
    let denominator = (train.learned() as f64 + f64::from(vocab_size)).ln();
    let count = |token| train.counts.get(token).copied().unwrap_or(0);
    let nats = (validation.counts.iter())
        .map(|(token, &n)| n as f64 * (denominator - (count(token) as f64 + 1.0).ln()));
    Ok(nats.sum::<f64>() / validation.learned().max(1) as f64)
}
