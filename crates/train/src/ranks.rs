//! The processes that train one model together.
//!
//! Every rank holds all weights and computes the gradients of its own micro-batches; the sums over
//! ranks are the same bits on each of them, so all make the same update and stay equal without being
//! told. [`Solo`] is the one process of a run that is alone.

use std::fmt::Debug;

/// Why ranks could not exchange numbers: in words, with the rank that failed if it is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ranks of this run cannot exchange numbers: {0}")]
pub struct RanksError(pub String);

/// The processes of a run. All of them make the same calls in the same order.
pub trait Ranks: Debug + Send {
    /// This process, from 0.
    fn rank(&self) -> usize;

    /// Number of processes.
    fn size(&self) -> usize;

    /// Replaces each element by its sum over all ranks, added in their order: ((r₀ + r₁) + r₂) + …
    ///
    /// # Errors
    /// When a rank does not answer.
    fn sum_in_order(&self, values: &mut [f32]) -> Result<(), RanksError>;

    /// As [`Ranks::sum_in_order`], of one number in f64.
    ///
    /// # Errors
    /// When a rank does not answer.
    fn sum(&self, value: f64) -> Result<f64, RanksError>;

    /// Replaces `values` by those of rank 0.
    ///
    /// # Errors
    /// When a rank does not answer.
    fn broadcast(&self, values: &mut [f32]) -> Result<(), RanksError>;
}

/// One process alone: sums over ranks are what it has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Solo;

impl Ranks for Solo {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn sum_in_order(&self, _values: &mut [f32]) -> Result<(), RanksError> {
        Ok(())
    }

    fn sum(&self, value: f64) -> Result<f64, RanksError> {
        Ok(value)
    }

    fn broadcast(&self, _values: &mut [f32]) -> Result<(), RanksError> {
        Ok(())
    }
}
