//! Optimizers, and the norm of the gradients.
//!
//! An [`Optimizer`] says which tensors of state a parameter has, and updates one parameter at a time.
//! [`State`] holds those tensors in arenas by name; a checkpoint stores the one called `m` of the
//! parameter `X` as `X.m`. A new optimizer is a file beside [`AdamW`]'s, an implementation of the trait and
//! a variant of [`OptimizerConfig`]: nothing else needs to know its arenas.

mod adamw;
mod groups;
mod lora;
mod muon;
mod products;
mod state;

pub use adamw::AdamW;
pub use groups::AdamWGroups;
pub use lora::{Lora, Targets};
pub use muon::Muon;
pub use state::State;

use crate::schedule::Progress;
use gpt::{Done, Layout, Param};
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
    /// Where in the run the update is, for settings that change over a run.
    pub progress: Progress,
}

/// The work of an update.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Floating-point operations of its matrix products.
    pub flops: f64,
    /// Its other floating-point operations.
    pub elementwise: f64,
    /// Bytes that its passes over arrays read and write.
    pub bytes: f64,
}

/// Elements of a tensor.
fn count(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// A rule that turns gradients into new weights.
pub trait Optimizer: Debug + Send + Sync {
    /// Returns names and extents of the tensors of state that `param` has. They begin as zeros.
    fn state_of(&self, param: &Param) -> Vec<(&'static str, Vec<usize>)>;

    /// Returns the work of an update of `param`, by default that of [`AdamW`]: reading weight, gradient and state and
    /// writing all but the gradient.
    fn work_of(&self, param: &Param) -> Work {
        let state: usize = self.state_of(param).iter().map(|(_, shape)| count(shape)).sum();
        let elementwise = adamw::FLOPS * param.count() as f64;
        Work { flops: 0.0, elementwise, bytes: 4.0 * (3 * param.count() + 2 * state) as f64 }
    }

    /// Fills the state of `param`, the `index`-th of a model, before the first update of the elements `w`.
    fn begin(&self, _index: usize, _param: &Param, _w: &[f32], _state: &mut [&mut [f32]]) {}

    /// Puts what an update needs in place of the gradients `g` of `param`, before their norm is taken: its own
    /// gradients, where it does not update the elements themselves.
    fn reduce(&self, _param: &Param, _g: &mut [f32], _state: &mut [&mut [f32]]) {}

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

    /// As [`Optimizer::step`]; tells `done` of each part of `w` that has its new elements, while they are in the cache. By
    /// default, that is at the end.
    fn step_by_parts(
        &self,
        update: &Update,
        param: &Param,
        w: &mut [f32],
        g: &[f32],
        state: &mut [&mut [f32]],
        done: &Done<'_>,
    ) {
        self.step(update, param, w, g, state);
        tell(w, done);
    }
}

/// Tells `done` of all of `w`, on all cores.
pub(crate) fn tell(w: &[f32], done: &Done<'_>) {
    w.par_chunks(CHUNK).enumerate().for_each(|(chunk, part)| done(chunk * CHUNK, part));
}

/// An optimizer with its settings, as a run chooses it; in a checkpoint `name` says which.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase")]
pub enum OptimizerConfig {
    /// [`AdamW`].
    AdamW(AdamW),
    /// [`Muon`].
    Muon(Muon),
    /// [`Lora`].
    Lora(Lora),
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
            OptimizerConfig::Muon(muon) => Box::new(muon),
            OptimizerConfig::Lora(lora) => Box::new(lora),
        }
    }

    /// Returns the weight decay; with [`Muon`], that of the matrices.
    pub fn weight_decay(mut self) -> f32 {
        *self.weight_decay_mut()
    }

    /// Returns the weight decay to be set; with [`Muon`], that of the matrices.
    pub fn weight_decay_mut(&mut self) -> &mut f32 {
        match self {
            OptimizerConfig::AdamW(adamw) => &mut adamw.weight_decay,
            OptimizerConfig::Muon(muon) => &mut muon.weight_decay,
            OptimizerConfig::Lora(lora) => &mut lora.adamw.weight_decay,
        }
    }
}

/// Elements of the state that `optimizer` keeps of a model.
pub fn state_elements(optimizer: &dyn Optimizer, layout: &Layout) -> usize {
    let tensors = layout.params().iter().flat_map(|param| optimizer.state_of(param));
    tensors.map(|(_, shape)| count(&shape)).sum()
}

/// The work of an update of a model by `optimizer`.
pub fn work(optimizer: &dyn Optimizer, layout: &Layout) -> Work {
    layout.params().iter().map(|param| optimizer.work_of(param)).fold(
        Work::default(),
        |sum, one| Work {
            flops: sum.flops + one.flops,
            elementwise: sum.elementwise + one.elementwise,
            bytes: sum.bytes + one.bytes,
        },
    )
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
