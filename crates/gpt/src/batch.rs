//! What models, heads and the interpreter of plans exchange: micro-batches, weights of tokens, timings,
//! errors.

use crate::config::ConfigError;
use crate::plan::{Part, PlanError};
use ane::AneError;
use cpu::{CpuError, Numerics, OutputMut};
use mil::DType;
use std::ops::Range;

/// Why a model could not be built or run.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ModelError {
    /// The configuration is no model.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The programs could not be derived.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The device refused.
    #[error(transparent)]
    Device(#[from] AneError),
    /// A program of the host could not be compiled.
    #[error(transparent)]
    Host(#[from] CpuError),
    /// A token is not of the vocabulary.
    #[error("token {token} at position {position} is not below the vocabulary of {vocab_size}")]
    Token {
        /// The token.
        token: u32,
        /// Where in the batch.
        position: usize,
        /// Size of the vocabulary.
        vocab_size: usize,
    },
    /// A batch has the wrong size.
    #[error("a batch has {expected} tokens, got {got}")]
    BatchSize {
        /// B·S.
        expected: usize,
        /// The value given.
        got: usize,
    },
    /// There is room for nothing.
    #[error("{slots} slots of {context} tokens hold no text: there must be at least 1 of each")]
    NoRoom {
        /// Texts at once.
        slots: usize,
        /// Tokens of a text.
        context: usize,
    },
    /// There is no such slot.
    #[error("there is no slot {slot}: there are {slots}, numbered from 0")]
    Slot {
        /// Its number.
        slot: usize,
        /// How many there are.
        slots: usize,
    },
    /// A text is as long as it may become.
    #[error("the text in slot {slot} is full: it has {context} tokens")]
    ContextFull {
        /// The slot.
        slot: usize,
        /// Longest text.
        context: usize,
    },
}

/// Wall time of the parts of a step, in seconds, summed since the last [`Timings::take`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timings([f64; Part::ALL.len()]);

impl Timings {
    /// The sums so far; they start again from zero.
    pub fn take(&mut self) -> Timings {
        std::mem::take(self)
    }

    /// The sum of a part.
    pub(crate) fn of(&mut self, part: Part) -> &mut f64 {
        &mut self.0[part as usize]
    }

    /// Names and values, in a fixed order.
    pub fn parts(&self) -> [(&'static str, f64); Part::ALL.len()] {
        Part::ALL.map(|part| (part.name(), self.0[part as usize]))
    }
}

/// The place of a micro-batch in its step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MicroBatch {
    /// Its gradients replace what is there.
    First,
    /// Its gradients are added to what is there.
    Later,
}

impl MicroBatch {
    pub(crate) fn into_gradient(self, data: &mut [f32]) -> OutputMut<'_> {
        OutputMut::F32 { data, accumulate: self == MicroBatch::Later }
    }
}

/// The weight of each token's loss in a micro-batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TokenWeights<'a> {
    /// All the same.
    Even(f32),
    /// Each its own: 0 for tokens that are not to be learned, an advantage in reinforcement learning.
    Each(&'a [f32]),
}

impl TokenWeights<'_> {
    /// Returns the weight of token `t`.
    pub(crate) fn of(self, t: usize) -> f32 {
        match self {
            TokenWeights::Even(weight) => weight,
            TokenWeights::Each(weights) => weights[t],
        }
    }

    /// Returns the weights of some of the tokens.
    pub(crate) fn section(self, tokens: Range<usize>) -> Self {
        match self {
            TokenWeights::Even(weight) => TokenWeights::Even(weight),
            TokenWeights::Each(weights) => TokenWeights::Each(&weights[tokens]),
        }
    }
}

/// Mean of the losses of tokens.
pub fn mean(losses: &[f64]) -> f64 {
    losses.iter().sum::<f64>() / losses.len() as f64
}

/// Precision of the programs on a device of these numerics.
pub fn precision(numerics: Numerics) -> DType {
    if numerics == Numerics::F32 { DType::Fp32 } else { DType::Fp16 }
}

/// Refuses a token that is not of the vocabulary.
pub(crate) fn check_vocabulary(tokens: &[u32], vocab_size: usize) -> Result<(), ModelError> {
    match tokens.iter().position(|&token| token as usize >= vocab_size) {
        Some(position) => Err(ModelError::Token { token: tokens[position], position, vocab_size }),
        None => Ok(()),
    }
}
