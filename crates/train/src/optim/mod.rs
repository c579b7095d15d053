//! Optimizers, and the norm of the gradients.
//!
//! An [`Optimizer`] says which tensors of state a parameter has, and updates one parameter at a time.
//! [`State`] holds those tensors in arenas by name; a checkpoint stores the one called `m` of the
//! parameter `X` as `X.m`. A new optimizer is a file beside [`AdamW`]'s, an implementation of the trait and
//! a variant of [`OptimizerConfig`]: nothing else needs to know its arenas.

mod adamw;
mod state;

pub use adamw::AdamW;
pub use state::State;

use gpt::Param;
use rayon::prelude::*;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt::Debug;

/// Elements of one task; the grid is fixed, so results do not depend on the number of threads.
const CHUNK: usize = 1 << 15;

/// The settings that all parameters of one update share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// Number of the update, from 1; skipped steps do not count.
    pub t: u64,
    /// Learning rate of the parameter's group.
    pub lr: f32,
    /// Factor that turns the gradients as they are stored (scaled, not clipped) into those to use.
    pub scale: f32,
}

/// A rule that turns gradients into new weights.
pub trait Optimizer: Debug + Send + Sync {
    /// Returns names and extents of the tensors of state that `param` has. They begin as zeros.
    fn state_of(&self, param: &Param) -> Vec<(&'static str, Vec<usize>)>;

    /// Updates the elements `w` of `param` with their gradients `g`. `state` holds the tensors of
    /// [`Optimizer::state_of`], in its order.
    fn step(
        &self,
        update: &Update,
        param: &Param,
        w: &mut [f32],
        g: &[f32],
        state: &mut [&mut [f32]],
    );
}

/// An optimizer with its settings, as a run chooses it; in a checkpoint `name` says which.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase")]
pub enum OptimizerConfig {
    /// [`AdamW`].
    AdamW(AdamW),
}

impl Default for OptimizerConfig {
    /// AdamW with its default settings.
    fn default() -> Self {
        OptimizerConfig::AdamW(AdamW::default())
    }
}

impl OptimizerConfig {
    /// Returns the optimizer with these settings.
    pub fn build(self) -> Box<dyn Optimizer> {
        match self {
            OptimizerConfig::AdamW(adamw) => Box::new(adamw),
        }
    }
}

/// Reads the optimizer of a checkpoint. Runs from before there was a choice name none and have AdamW.
pub(crate) fn named_or_adamw<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<OptimizerConfig, D::Error> {
    let mut entries = serde_json::Map::deserialize(deserializer)?;
    entries.entry("name").or_insert_with(|| "adamw".into());
    serde_json::from_value(entries.into()).map_err(D::Error::custom)
}

/// √Σg², summed in f64 over a fixed grid; not finite when any element is not.
pub fn global_norm(g: &[f32]) -> f64 {
    let parts: Vec<f64> = g.par_chunks(CHUNK).map(sum_of_squares).collect();
    parts.iter().sum::<f64>().sqrt()
}

/// Σx², in sums side by side: one after the other, each addition would wait for the one before.
fn sum_of_squares(x: &[f32]) -> f64 {
    let mut sums = [0.0; 16];
    let (whole, rest) = x.as_chunks::<16>();
    for chunk in whole {
        sums.iter_mut().zip(chunk).for_each(|(sum, &x)| *sum += f64::from(x) * f64::from(x));
    }
    sums.iter_mut().zip(rest).for_each(|(sum, &x)| *sum += f64::from(x) * f64::from(x));
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn norm_sees_every_element() {
        let mut g = vec![0.0f32; 3 * CHUNK + 5];
        g[0] = 3.0;
        g[3 * CHUNK + 4] = 4.0;
        assert_eq!(global_norm(&g), 5.0);
        g[CHUNK] = f32::NAN;
        assert!(!global_norm(&g).is_finite());
    }
}
