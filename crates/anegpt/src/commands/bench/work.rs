//! What the parts of a step have to do: floating-point operations of their products, and bytes that
//! must move if each input is read and each result written once.

use ane::Numerics;
use anyhow::Result;
use gpt::block::Dims;
use gpt::kernels::LayerKernels;
use gpt::{GptConfig, Layout};
use mil::{DType, Function};
use std::collections::BTreeMap;
use train::RunConfig;

/// A matrix product [m, k] · [k, n] of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Product {
    /// Part of the step that it belongs to.
    pub(super) part: &'static str,
    /// What it computes.
    pub(super) what: &'static str,
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) k: usize,
    /// Whether the left and the right operand are stored transposed.
    pub(super) transposed: [bool; 2],
    /// Products of this shape that run together: heads of attention.
    pub(super) together: usize,
    /// How often in one micro-batch.
    pub(super) count: usize,
}

impl Product {
    /// Floating-point operations of one of its runs.
    pub(super) fn flops(&self) -> f64 {
        2.0 * self.m as f64 * self.n as f64 * self.k as f64 * self.together as f64
    }
}

/// All products of one micro-batch of `batch` sequences of `seq` tokens.
pub(super) fn products(c: &GptConfig, batch: usize, seq: usize) -> Vec<Product> {
    let (d, q, kv, f, t) = (c.n_embd, c.q_dim(), c.kv_dim(), c.hidden, batch * seq);
    let (e, heads) = (c.head_dim, batch * c.n_head);
    const PLAIN: [bool; 2] = [false, false];
    const LEFT: [bool; 2] = [true, false];
    const RIGHT: [bool; 2] = [false, true];
    let one = |part, what, [m, n, k]: [usize; 3], transposed, per_layer: usize| Product {
        part,
        what,
        m,
        n,
        k,
        transposed,
        together: 1,
        count: per_layer * c.n_layer,
    };
    let scores = |part, what, [m, n, k]: [usize; 3], transposed, per_layer: usize| Product {
        together: heads,
        ..one(part, what, [m, n, k], transposed, per_layer)
    };
    let head = |what, [m, n, k]: [usize; 3], transposed| Product {
        count: 1,
        ..one("head", what, [m, n, k], transposed, 1)
    };
    vec![
        one("engine_fwd", "queries", [q, t, d], PLAIN, 1),
        one("engine_fwd", "keys, values", [kv, t, d], PLAIN, 2),
        scores("engine_fwd", "scores", [seq, seq, e], LEFT, 1),
        scores("engine_fwd", "attention", [e, seq, seq], RIGHT, 1),
        one("engine_fwd", "output", [d, t, q], PLAIN, 1),
        one("engine_fwd", "gate, up", [f, t, d], PLAIN, 2),
        one("engine_fwd", "down", [d, t, f], PLAIN, 1),
        one("engine_bwd", "d gate", [f, t, d], LEFT, 1),
        one("engine_bwd", "d ffn input", [d, t, f], LEFT, 2),
        one("engine_bwd", "d attention", [q, t, d], LEFT, 1),
        scores("engine_bwd", "scores, d probs", [seq, seq, e], LEFT, 2),
        scores("engine_bwd", "d values, d keys", [e, seq, seq], PLAIN, 2),
        scores("engine_bwd", "d queries", [e, seq, seq], RIGHT, 1),
        one("engine_bwd", "d input by queries", [d, t, q], LEFT, 1),
        one("engine_bwd", "d input by k and v", [d, t, kv], LEFT, 2),
        one("dw", "query weights", [q, d, t], RIGHT, 1),
        one("dw", "key, value weights", [kv, d, t], RIGHT, 2),
        one("dw", "output weights", [d, q, t], RIGHT, 1),
        one("dw", "gate, up weights", [f, d, t], RIGHT, 2),
        one("dw", "down weights", [d, f, t], RIGHT, 1),
        head("logits", [c.vocab_size, t, d], PLAIN),
        head("d head input", [d, t, c.vocab_size], LEFT),
        head("classifier weights", [c.vocab_size, d, t], RIGHT),
    ]
}

/// What a part of a step has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Work {
    pub(super) flops: f64,
    pub(super) bytes: f64,
}

/// Per parameter: the norm squares and adds; the update scales the gradient, takes two moments, and
/// moves the weight (multiplications, additions, a root and a division of [`train::AdamW::update`]).
const OPTIMIZER_FLOPS: f64 = 2.0 + 1.0 + 3.0 + 4.0 + 7.0;
/// Per parameter: the norm reads the gradient; the update reads weight, gradient and two moments, and
/// writes all but the gradient.
const OPTIMIZER_BYTES: f64 = 4.0 + 4.0 * 4.0 + 3.0 * 4.0;

/// Precision of programs on a device of these numerics.
pub(super) fn precision(numerics: Numerics) -> DType {
    if numerics == Numerics::F32 { DType::Fp32 } else { DType::Fp16 }
}

/// What each part of a step has to do, for the parts of which that is known.
pub(super) fn of_step(
    config: &RunConfig,
    numerics: Numerics,
) -> Result<BTreeMap<&'static str, Work>> {
    let model = &config.model;
    let dtype = precision(numerics);
    let dims = Dims { config: model, batch: config.batch, seq: config.seq, dtype };
    let accum = config.accum as f64;
    let mut work: BTreeMap<&str, Work> = (bytes(&dims, accum)?.into_iter())
        .map(|(part, bytes)| (part, Work { flops: 0.0, bytes }))
        .collect();
    for product in products(model, config.batch, config.seq) {
        let part = work.get_mut(product.part).expect("parts with products have bytes");
        part.flops += accum * product.count as f64 * product.flops();
    }
    let params = Layout::new(model).count() as f64;
    let optimizer = Work { flops: OPTIMIZER_FLOPS * params, bytes: OPTIMIZER_BYTES * params };
    work.insert("optimizer", optimizer);
    Ok(work)
}

/// Bytes that enter and leave the parts with products, in a step of `accum` micro-batches. What stays
/// within a part, such as the logits, is not counted.
fn bytes(dims: &Dims<'_>, accum: f64) -> Result<BTreeMap<&'static str, f64>> {
    let kernels = LayerKernels::new(dims)?;
    let c = dims.config;
    let layers = c.n_layer as f64;
    let ports = |functions: &[&Function]| -> f64 {
        functions.iter().map(|f| (inputs(f) + outputs(f)) as f64).sum()
    };
    let [fwd_attn, fwd_ffn, backward @ ..] = kernels.engine();
    // Operands of weight gradients have the device's precision. The first micro-batch writes
    // gradients, the others add to them.
    let narrow = dims.dtype.bytes(1) as f64 / DType::Fp32.bytes(1) as f64;
    let added = 2.0 * accum - 1.0;
    let gradients = kernels.weight_gradients.iter().map(|w| {
        let f = &w.function;
        accum * narrow * inputs(f) as f64 + added * outputs(f) as f64
    });
    // The stream and its cotangent; the classifier and its gradient.
    let (stream, classifier) = (c.n_embd * dims.tokens(), c.vocab_size * c.n_embd);
    let head = 4.0 * (2.0 * accum * stream as f64 + (accum + added) * classifier as f64);
    Ok(BTreeMap::from([
        ("engine_fwd", accum * layers * ports(&[fwd_attn, fwd_ffn])),
        ("engine_bwd", accum * layers * ports(&backward)),
        ("dw", layers * gradients.sum::<f64>()),
        ("head", head),
    ]))
}

fn inputs(f: &Function) -> usize {
    f.inputs().map(|id| f.ty(id).bytes()).sum()
}

fn outputs(f: &Function) -> usize {
    f.outputs.iter().map(|&id| f.ty(id).bytes()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ane::Profile;
    use chip::estimate;

    fn config(n_kv_head: usize) -> RunConfig {
        RunConfig {
            model: GptConfig { n_kv_head, ..GptConfig::preset("tiny").unwrap() },
            optimizer: train::AdamW::default(),
            schedule: train::Schedule::cosine(1.0, 1.0, 0, 1),
            batch: 2,
            accum: 3,
            seq: 48,
            clip: 1.0,
            seed: 1,
        }
    }

    /// The cost model counts products operation by operation in the programs themselves.
    #[test]
    fn flops_are_those_of_the_programs() {
        for n_kv_head in [4, 2] {
            let config = config(n_kv_head);
            let work = of_step(&config, Numerics::Fast).unwrap();
            let dims = Dims { config: &config.model, batch: 2, seq: 48, dtype: mil::DType::Fp16 };
            let kernels = LayerKernels::new(&dims).unwrap();
            let count = |functions: &[&Function], times: usize| -> f64 {
                let one = |f: &&Function| -> f64 {
                    estimate(f, &Profile::default()).operations.iter().map(|o| o.flops).sum()
                };
                (3 * times) as f64 * functions.iter().map(one).sum::<f64>()
            };
            let layers = config.model.n_layer;
            let [fwd_attn, fwd_ffn, backward @ ..] = kernels.engine();
            let dw: Vec<&Function> = kernels.weight_gradients.iter().map(|w| &w.function).collect();
            for (part, expected) in [
                ("engine_fwd", count(&[fwd_attn, fwd_ffn], layers)),
                ("engine_bwd", count(&backward, layers)),
                ("dw", count(&dw, layers)),
            ] {
                assert_eq!(work[part].flops, expected, "{part}, {n_kv_head} key heads");
            }
        }
    }

    /// Backward computes the scores again; but for that, a step is what the formula says.
    #[test]
    fn flops_are_those_of_the_formula_and_the_scores_again() {
        let config = config(4);
        let work = of_step(&config, Numerics::F32).unwrap();
        let parts = ["engine_fwd", "engine_bwd", "dw", "head"];
        let counted: f64 = parts.iter().map(|part| work[part].flops).sum();
        let c = &config.model;
        let scores = 2.0 * (c.n_layer * c.q_dim() * 48 * 48 * 2) as f64;
        assert_eq!(counted, 3.0 * (c.step_flops(2, 48) + scores));
    }

    #[test]
    fn half_the_precision_is_half_the_bytes_of_the_device() {
        let config = config(4);
        let (half, full) =
            (of_step(&config, Numerics::Fast).unwrap(), of_step(&config, Numerics::F32).unwrap());
        for part in ["engine_fwd", "engine_bwd"] {
            assert_eq!(2.0 * half[part].bytes, full[part].bytes);
        }
        assert_eq!(half["optimizer"], full["optimizer"]);
        assert_eq!(half["head"], full["head"]);
        assert!(half["dw"].bytes < full["dw"].bytes && full["dw"].bytes < 2.0 * half["dw"].bytes);
    }
}
