//! The model of nanochat's recorded values, its weights and its batch.

#![allow(dead_code, reason = "each test uses its part")]

use crate::reference::Tensors;
use gpt::{Depth, Edition, GptConfig, Layout};

/// The model of the recorded values: 4 layers, grouped queries, windows of 3, 3, 5 and 8 tokens before each
/// token, 50 tokens in tables of 64 rows.
pub(crate) fn golden() -> GptConfig {
    let shape = Depth { vocab_size: 50, seq_len: 8, ..Depth::new(Edition::July2026, 4) };
    GptConfig {
        n_head: 2,
        n_kv_head: 1,
        n_embd: 32,
        head_dim: 16,
        hidden: 128,
        windows: vec![4, 4, 6, 9],
        ..shape.config()
    }
}

/// Tokens of a sequence.
pub(crate) const SEQ: usize = 8;

/// Inputs and targets, [2, 8] each; the model is not trained on two of the targets.
pub(crate) fn golden_batch() -> [Vec<u32>; 2] {
    let all = |f: fn(usize, usize) -> usize| -> Vec<u32> {
        (0..2).flat_map(|b| (0..SEQ).map(move |t| (f(b, t) % 50) as u32)).collect()
    };
    [all(|b, t| 7 * t * t + 13 * b + 3 * t + 1), all(|b, t| 11 * t * t + 17 * b + 5 * t + 2)]
}

/// The weights of the tokens' losses: their mean over the 14 targets that are learned.
pub(crate) fn golden_weights() -> Vec<f64> {
    (0..2 * SEQ).map(|i| if i == 2 || i == 15 { 0.0 } else { 1.0 / 14.0 }).collect()
}

/// Values without randomness: waves, whose phase is the place of the tensor in the order of the names.
pub(crate) fn waves(c: &GptConfig) -> Tensors {
    let layout = Layout::new(c);
    let mut shapes: Vec<(String, usize)> =
        layout.tensors().iter().map(|t| (t.name.clone(), t.shape.iter().product())).collect();
    shapes.sort();
    let tensor = |(p, (name, count)): (usize, (String, usize))| {
        let large = if name.contains("wte") || name.contains("value") { 4.0 } else { 1.0 };
        let value = |i: usize| match &name[..] {
            "resid_lambdas" => 1.1 - 0.05 * i as f64,
            "x0_lambdas" => 0.2 - 0.05 * i as f64,
            "smear_lambda" => 0.5,
            "backout_lambda" => 0.2,
            _ => large * 0.25 * (0.7391 * i as f64 + 1.234 * p as f64).sin(),
        };
        (name.clone(), (0..count).map(value).collect())
    };
    shapes.into_iter().enumerate().map(tensor).collect()
}

/// An arena with these tensors.
pub(crate) fn arena(c: &GptConfig, tensors: &Tensors) -> Vec<f32> {
    let layout = Layout::new(c);
    let mut arena = vec![0.0; layout.count()];
    for tensor in layout.tensors() {
        let values: Vec<f32> = tensors[&tensor.name].iter().map(|&v| v as f32).collect();
        layout.restore(tensor, &values, &mut arena);
    }
    arena
}

/// The tensors of an arena.
pub(crate) fn tensors(c: &GptConfig, arena: &[f32]) -> Tensors {
    let layout = Layout::new(c);
    let tensor = |t| layout.stored(t, arena).iter().map(|&v| f64::from(v)).collect();
    layout.tensors().iter().map(|t| (t.name.clone(), tensor(t))).collect()
}

/// The Euclidean norm.
pub(crate) fn norm(values: &[f64]) -> f64 {
    values.iter().map(|v| v * v).sum::<f64>().sqrt()
}
