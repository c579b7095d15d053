//! AdamW on f32 master weights.

use super::{CHUNK, Optimizer, Update};
use gpt::{Done, Param};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Adam with decoupled weight decay (Kingma and Ba 2015; Loshchilov and Hutter 2019).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdamW {
    /// Decay of the mean of gradients.
    pub beta1: f32,
    /// Decay of the mean of squared gradients.
    pub beta2: f32,
    /// Added to the root of the latter.
    pub epsilon: f32,
    /// Share of a weight that a step of rate 1 removes; 0 is plain Adam.
    pub weight_decay: f32,
}

impl Default for AdamW {
    /// The settings of GPT-3 and llama2.c: 0.9, 0.95, 1e-8, 0.1.
    fn default() -> Self {
        AdamW { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.1 }
    }
}

/// Operations per element of [`AdamW::update`]: it scales the gradient, takes two moments, and moves the weight
/// (multiplications, additions, a root and a division).
pub(super) const FLOPS: f64 = 1.0 + 3.0 + 4.0 + 7.0;

impl AdamW {
    /// One update, the `t`-th (from 1), of weights `w` with gradients `g` scaled by `scale`:
    ///
    /// m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g²,
    /// w ← w − lr·(m/(1−β₁ᵗ) / (√(v/(1−β₂ᵗ)) + ε) + λw).
    ///
    /// `decay` tells whether λ applies; `done` is told of each part of `w` that is new ([`Optimizer::step_by_parts`]).
    ///
    /// # Panics
    /// If the slices differ in length.
    #[allow(clippy::too_many_arguments, reason = "the update's formula has these terms")]
    pub fn update(
        &self,
        t: u64,
        lr: f32,
        scale: f32,
        decay: bool,
        w: &mut [f32],
        g: &[f32],
        m: &mut [f32],
        v: &mut [f32],
        done: &Done<'_>,
    ) {
        assert!(w.len() == g.len() && w.len() == m.len() && w.len() == v.len(), "one length");
        let correction = |beta: f32| (1.0 - f64::from(beta).powi(t.min(1 << 30) as i32)) as f32;
        let (c1, c2) = (correction(self.beta1), correction(self.beta2));
        let shrink = if decay { 1.0 - lr * self.weight_decay } else { 1.0 };
        let (b1, b2, eps) = (self.beta1, self.beta2, self.epsilon);
        let (rate, root) = (lr / c1, c2.sqrt().recip());
        w.par_chunks_mut(CHUNK)
            .zip(g.par_chunks(CHUNK))
            .zip(m.par_chunks_mut(CHUNK).zip(v.par_chunks_mut(CHUNK)))
            .enumerate()
            .for_each(|(chunk, ((w, g), (m, v)))| {
                for (((w, g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
                    let grad = *g * scale;
                    *m = b1 * *m + (1.0 - b1) * grad;
                    *v = b2 * *v + (1.0 - b2) * grad * grad;
                    *w = shrink * *w - rate * *m / (v.sqrt() * root + eps);
                }
                done(chunk * CHUNK, w);
            });
    }
}

/// State: `m`, the mean of gradients, and `v`, that of their squares, of every element.
impl Optimizer for AdamW {
    fn state_of(&self, param: &Param) -> Vec<(&'static str, Vec<usize>)> {
        ["m", "v"].map(|name| (name, param.shape.clone())).into()
    }

    fn step(
        &self,
        update: &Update,
        param: &Param,
        w: &mut [f32],
        g: &[f32],
        state: &mut [&mut [f32]],
    ) {
        self.step_by_parts(update, param, w, g, state, &|_, _| ());
    }

    fn step_by_parts(
        &self,
        update: &Update,
        param: &Param,
        w: &mut [f32],
        g: &[f32],
        state: &mut [&mut [f32]],
        done: &Done<'_>,
    ) {
        let [m, v] = state else { unreachable!("every parameter has two tensors") };
        self.update(update.t, update.lr, update.scale, param.decays(), w, g, m, v, done);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_formula_in_f64() {
        let adam = AdamW { beta1: 0.8, beta2: 0.9, epsilon: 1e-3, weight_decay: 0.2 };
        let n = CHUNK + 17;
        let start: Vec<f32> = (0..n).map(|i| (i as f32 * 0.37).sin()).collect();
        let (mut w, mut m, mut v) = (start.clone(), vec![0.0; n], vec![0.0; n]);
        let mut exact: Vec<(f64, f64, f64)> =
            start.iter().map(|&w| (f64::from(w), 0.0, 0.0)).collect();
        for t in 1..=5u64 {
            let gradient = |i: usize| (i as f32 * 0.11 + t as f32).cos() * 4.0;
            let g: Vec<f32> = (0..n).map(gradient).collect();
            adam.update(t, 0.01, 0.25, true, &mut w, &g, &mut m, &mut v, &|_, _| ());
            for (i, (w, m, v)) in exact.iter_mut().enumerate() {
                let g = f64::from(gradient(i)) * 0.25;
                *m = 0.8f32 as f64 * *m + (1.0 - 0.8f32 as f64) * g;
                *v = 0.9f32 as f64 * *v + (1.0 - 0.9f32 as f64) * g * g;
                let (mh, vh) = (
                    *m / (1.0 - (0.8f32 as f64).powi(t as i32)),
                    *v / (1.0 - (0.9f32 as f64).powi(t as i32)),
                );
                *w -= 0.01f32 as f64 * (mh / (vh.sqrt() + 1e-3f32 as f64) + 0.2f32 as f64 * *w);
            }
        }
        // A dozen roundings per step on values of order one, five steps.
        let bound = 60.0 * 2f64.powi(-24);
        for (got, (want, ..)) in w.iter().zip(&exact) {
            assert!((f64::from(*got) - want).abs() < bound, "{got} {want}");
        }
    }

    #[test]
    fn gains_do_not_decay() {
        let adam = AdamW::default();
        let (mut w, g, mut m, mut v) = ([2.0f32], [0.0f32], [0.0f32], [0.0f32]);
        adam.update(1, 0.1, 1.0, false, &mut w, &g, &mut m, &mut v, &|_, _| ());
        assert_eq!(w, [2.0]);
        adam.update(2, 0.1, 1.0, true, &mut w, &g, &mut m, &mut v, &|_, _| ());
        assert_eq!(w, [2.0 * (1.0 - 0.1 * 0.1)]);
    }
}
