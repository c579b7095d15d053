//! One training step against an independent model in f64, written token by token without MIL.

#![allow(
    clippy::needless_range_loop,
    clippy::unnecessary_to_owned,
    clippy::type_complexity,
    reason = "the reference reads as the formulas do"
)]

use ane::Emulator;
use chip::Profile;
use cpu::Numerics;
use cpu::blas::{Sgemm, Stored};
use gpt::plan::{BASELINE, OFFLOAD, PLANS, Plan};
use gpt::{GptConfig, Layout, MicroBatch, Model, Parameters, TokenWeights, initialise, mean};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Plain f64 Llama: row-major [T, C], hand-written backward.
struct Reference<'a> {
    c: &'a GptConfig,
    /// Key head of each query head.
    key_head: fn(usize, &GptConfig) -> usize,
    layout: Layout,
    w: Vec<f64>,
    g: Vec<f64>,
}

fn mat_t(w: &[f64], x: &[f64], out: usize) -> Vec<f64> {
    let n = x.len();
    (0..out).map(|o| (0..n).map(|i| w[o * n + i] * x[i]).sum()).collect()
}

/// Gradients of y = W·x: adds dy·xᵀ to gw and returns Wᵀ·dy.
fn mat_back(w: &[f64], x: &[f64], dy: &[f64], gw: &mut [f64]) -> Vec<f64> {
    let n = x.len();
    let mut dx = vec![0.0; n];
    for (o, &d) in dy.iter().enumerate() {
        for i in 0..n {
            gw[o * n + i] += d * x[i];
            dx[i] += d * w[o * n + i];
        }
    }
    dx
}

fn rms(x: &[f64], eps: f64) -> f64 {
    (x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64 + eps).sqrt().recip()
}

fn norm(x: &[f64], gain: &[f64], eps: f64) -> Vec<f64> {
    let r = rms(x, eps);
    x.iter().zip(gain).map(|(v, g)| v * r * g).collect()
}

/// r·(g·dy − x·r²/n·Σ g·dy·x); the seed's trainers have w_i outside the sum's subtraction.
fn norm_back(x: &[f64], gain: &[f64], dy: &[f64], eps: f64, ggain: &mut [f64]) -> Vec<f64> {
    let (r, n) = (rms(x, eps), x.len() as f64);
    let dot: f64 = (0..x.len()).map(|i| gain[i] * dy[i] * x[i]).sum();
    for i in 0..x.len() {
        ggain[i] += dy[i] * x[i] * r;
    }
    (0..x.len()).map(|i| r * (gain[i] * dy[i] - x[i] * r * r / n * dot)).collect()
}

/// Query heads that follow each other share a key head, as in every published model.
fn consecutive(head: usize, c: &GptConfig) -> usize {
    head / (c.n_head / c.n_kv_head)
}

impl<'a> Reference<'a> {
    fn new(c: &'a GptConfig, params: &[f32]) -> Self {
        let layout = Layout::new(c);
        let w = params.iter().map(|&v| f64::from(v)).collect();
        Reference { c, key_head: consecutive, g: vec![0.0; layout.count()], layout, w }
    }

    fn range(&self, port: &str, layer: Option<usize>) -> std::ops::Range<usize> {
        self.layout.find(port, layer).unwrap().range()
    }

    fn rotate(&self, x: &mut [f64], heads: usize, position: usize, sign: f64) {
        let Some(theta) = self.c.rope_theta else { return };
        let e = self.c.head_dim;
        for h in 0..heads {
            for i in 0..e / 2 {
                let angle = sign * position as f64 * theta.powf(-2.0 * i as f64 / e as f64);
                let (a, b) = (x[h * e + i], x[h * e + i + e / 2]);
                x[h * e + i] = a * angle.cos() - b * angle.sin();
                x[h * e + i + e / 2] = b * angle.cos() + a * angle.sin();
            }
        }
    }

    /// Mean loss over a batch; gradients of the mean go to `g`.
    fn step(&mut self, inputs: &[u32], targets: &[u32], seq: usize) -> f64 {
        let even = vec![1.0 / inputs.len() as f64; inputs.len()];
        self.weighted_step(inputs, targets, seq, &even)
    }

    /// Σ weight·loss, whose gradient is added to what there is.
    fn weighted_step(
        &mut self,
        inputs: &[u32],
        targets: &[u32],
        seq: usize,
        weights: &[f64],
    ) -> f64 {
        let sequences = inputs.chunks(seq).zip(targets.chunks(seq)).zip(weights.chunks(seq));
        sequences.map(|((x, y), weights)| self.sequence(x, y, weights)).sum()
    }

    fn sequence(&mut self, inputs: &[u32], targets: &[u32], weights: &[f64]) -> f64 {
        let c = self.c;
        let (d, e, eps) = (c.n_embd, c.head_dim, c.norm_eps);
        let scale = 1.0 / (e as f64).sqrt();
        let s = inputs.len();
        let emb = self.range("embedding", None);
        let cls = self.layout.classifier();
        let mut x: Vec<Vec<f64>> =
            (inputs.iter()).map(|&t| self.w[emb.start + t as usize * d..][..d].to_vec()).collect();
        struct Saved {
            x: Vec<Vec<f64>>,
            n: Vec<Vec<f64>>,
            q0: Vec<Vec<f64>>,
            k0: Vec<Vec<f64>>,
            q: Vec<Vec<f64>>,
            k: Vec<Vec<f64>>,
            v: Vec<Vec<f64>>,
            p: Vec<Vec<Vec<f64>>>,
            o: Vec<Vec<f64>>,
            x2: Vec<Vec<f64>>,
            n2: Vec<Vec<f64>>,
            h1: Vec<Vec<f64>>,
            h3: Vec<Vec<f64>>,
            gate: Vec<Vec<f64>>,
        }
        let mut saved: Vec<Saved> = vec![];
        for l in 0..c.n_layer {
            let w = |role| self.w[self.range(role, Some(l))].to_vec();
            let n: Vec<_> = x.iter().map(|x| norm(x, &w("rms1"), eps)).collect();
            let q0: Vec<_> = n.iter().map(|n| mat_t(&w("wq"), n, c.q_dim())).collect();
            let k0: Vec<_> = n.iter().map(|n| mat_t(&w("wk"), n, c.kv_dim())).collect();
            let v: Vec<_> = n.iter().map(|n| mat_t(&w("wv"), n, c.kv_dim())).collect();
            let finish = |raw: &Vec<Vec<f64>>, heads: usize, role| -> Vec<Vec<f64>> {
                let mut out = raw.clone();
                for (t, row) in out.iter_mut().enumerate() {
                    if c.qk_norm {
                        let gain = w(role);
                        *row = row.chunks(e).flat_map(|h| norm(h, &gain, eps)).collect();
                    }
                    self.rotate(row, heads, t, 1.0);
                }
                out
            };
            let q = finish(&q0, c.n_head, "q_gain");
            let k = finish(&k0, c.n_kv_head, "k_gain");
            let mut p = vec![vec![vec![0.0; s]; s]; c.n_head];
            let mut o = vec![vec![0.0; c.q_dim()]; s];
            for h in 0..c.n_head {
                let kh = (self.key_head)(h, c);
                for t in 0..s {
                    let score = |u: usize| -> f64 {
                        (0..e).map(|i| q[t][h * e + i] * k[u][kh * e + i]).sum::<f64>() * scale
                    };
                    let scores: Vec<f64> = (0..=t).map(score).collect();
                    let max = scores.iter().copied().fold(f64::MIN, f64::max);
                    let sum: f64 = scores.iter().map(|v| (v - max).exp()).sum();
                    for u in 0..=t {
                        p[h][t][u] = (scores[u] - max).exp() / sum;
                        for i in 0..e {
                            o[t][h * e + i] += p[h][t][u] * v[u][kh * e + i];
                        }
                    }
                }
            }
            let x2: Vec<Vec<f64>> = (0..s)
                .map(|t| x[t].iter().zip(mat_t(&w("wo"), &o[t], d)).map(|(a, b)| a + b).collect())
                .collect();
            let n2: Vec<_> = x2.iter().map(|x| norm(x, &w("rms2"), eps)).collect();
            let h1: Vec<_> = n2.iter().map(|n| mat_t(&w("w1"), n, c.hidden)).collect();
            let h3: Vec<_> = n2.iter().map(|n| mat_t(&w("w3"), n, c.hidden)).collect();
            let gate: Vec<Vec<f64>> = (0..s)
                .map(|t| {
                    (0..c.hidden).map(|i| h1[t][i] / (1.0 + (-h1[t][i]).exp()) * h3[t][i]).collect()
                })
                .collect();
            let next = (0..s)
                .map(|t| {
                    x2[t].iter().zip(mat_t(&w("w2"), &gate[t], d)).map(|(a, b)| a + b).collect()
                })
                .collect();
            saved.push(Saved {
                x: std::mem::replace(&mut x, next),
                n,
                q0,
                k0,
                q,
                k,
                v,
                p,
                o,
                x2,
                n2,
                h1,
                h3,
                gate,
            });
        }
        let gf = self.range("rms", None);
        let (wf, wc) = (self.w[gf.clone()].to_vec(), self.w[cls.clone()].to_vec());
        let mut loss = 0.0;
        let mut dx: Vec<Vec<f64>> = vec![];
        for t in 0..s {
            let n = norm(&x[t], &wf, eps);
            let logits = mat_t(&wc, &n, c.vocab_size);
            let max = logits.iter().copied().fold(f64::MIN, f64::max);
            let sum: f64 = logits.iter().map(|v| (v - max).exp()).sum();
            loss += weights[t] * (sum.ln() + max - logits[targets[t] as usize]);
            let dl: Vec<f64> = (logits.iter().enumerate())
                .map(|(i, v)| {
                    weights[t]
                        * ((v - max).exp() / sum - f64::from(u8::from(i == targets[t] as usize)))
                })
                .collect();
            let dn = mat_back(&wc, &n, &dl, &mut self.g[cls.clone()]);
            dx.push(norm_back(&x[t], &wf, &dn, eps, &mut self.g[gf.clone()]));
        }
        for (l, z) in saved.iter().enumerate().rev() {
            let ranges = |role| self.layout.find(role, Some(l)).unwrap().range();
            let (r1, rq, rk, rv, ro) =
                (ranges("rms1"), ranges("wq"), ranges("wk"), ranges("wv"), ranges("wo"));
            let (r2, rg, ru, rd) = (ranges("rms2"), ranges("w1"), ranges("w3"), ranges("w2"));
            for t in 0..s {
                let dgate = mat_back(
                    &self.w[rd.clone()].to_vec(),
                    &z.gate[t],
                    &dx[t],
                    &mut self.g[rd.clone()],
                );
                let (mut d1, mut d3) = (vec![0.0; c.hidden], vec![0.0; c.hidden]);
                for i in 0..c.hidden {
                    let (h1, h3) = (z.h1[t][i], z.h3[t][i]);
                    let sig = 1.0 / (1.0 + (-h1).exp());
                    d1[i] = dgate[i] * h3 * sig * (1.0 + h1 * (1.0 - sig));
                    d3[i] = dgate[i] * h1 * sig;
                }
                let a =
                    mat_back(&self.w[rg.clone()].to_vec(), &z.n2[t], &d1, &mut self.g[rg.clone()]);
                let b =
                    mat_back(&self.w[ru.clone()].to_vec(), &z.n2[t], &d3, &mut self.g[ru.clone()]);
                let dn: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
                let through = norm_back(
                    &z.x2[t],
                    &self.w[r2.clone()].to_vec(),
                    &dn,
                    eps,
                    &mut self.g[r2.clone()],
                );
                dx[t].iter_mut().zip(through).for_each(|(a, b)| *a += b);
            }
            let (mut dq, mut dk, mut dv) = (
                vec![vec![0.0; c.q_dim()]; s],
                vec![vec![0.0; c.kv_dim()]; s],
                vec![vec![0.0; c.kv_dim()]; s],
            );
            for t in 0..s {
                let d_o = mat_back(
                    &self.w[ro.clone()].to_vec(),
                    &z.o[t],
                    &dx[t],
                    &mut self.g[ro.clone()],
                );
                for h in 0..c.n_head {
                    let kh = (self.key_head)(h, c);
                    let dp: Vec<f64> = (0..=t)
                        .map(|u| (0..e).map(|i| d_o[h * e + i] * z.v[u][kh * e + i]).sum())
                        .collect();
                    let dot: f64 = (0..=t).map(|u| dp[u] * z.p[h][t][u]).sum();
                    for u in 0..=t {
                        let ds = z.p[h][t][u] * (dp[u] - dot) * scale;
                        for i in 0..e {
                            dv[u][kh * e + i] += z.p[h][t][u] * d_o[h * e + i];
                            dq[t][h * e + i] += ds * z.k[u][kh * e + i];
                            dk[u][kh * e + i] += ds * z.q[t][h * e + i];
                        }
                    }
                }
            }
            for t in 0..s {
                for (row, heads, raw, role) in [
                    (&mut dq[t], c.n_head, &z.q0[t], "q_gain"),
                    (&mut dk[t], c.n_kv_head, &z.k0[t], "k_gain"),
                ] {
                    self.rotate(row, heads, t, -1.0);
                    if c.qk_norm {
                        let gain = ranges(role);
                        let w = self.w[gain.clone()].to_vec();
                        *row = (row.chunks(e).zip(raw.chunks(e)))
                            .flat_map(|(dy, x)| {
                                norm_back(x, &w, dy, eps, &mut self.g[gain.clone()])
                            })
                            .collect();
                    }
                }
                let parts = [(rq.clone(), &dq[t]), (rk.clone(), &dk[t]), (rv.clone(), &dv[t])];
                let mut dn = vec![0.0; d];
                for (range, dy) in parts {
                    let part =
                        mat_back(&self.w[range.clone()].to_vec(), &z.n[t], dy, &mut self.g[range]);
                    dn.iter_mut().zip(part).for_each(|(a, b)| *a += b);
                }
                let through = norm_back(
                    &z.x[t],
                    &self.w[r1.clone()].to_vec(),
                    &dn,
                    eps,
                    &mut self.g[r1.clone()],
                );
                dx[t].iter_mut().zip(through).for_each(|(a, b)| *a += b);
            }
        }
        for (t, &token) in inputs.iter().enumerate() {
            let row = emb.start + token as usize * d;
            self.g[row..row + d].iter_mut().zip(&dx[t]).for_each(|(g, v)| *g += v);
        }
        loss
    }
}

/// Weights with gains away from 1 (a norm's wrong gradient is invisible at 1) and activations of
/// order one.
fn weights(c: &GptConfig) -> Vec<f32> {
    let layout = Layout::new(c);
    let mut w = initialise(c, 11);
    for p in layout.params() {
        let part = &mut w[p.range()];
        if p.decays() {
            part.iter_mut().for_each(|v| *v *= 5.0);
        } else {
            part.iter_mut().enumerate().for_each(|(i, v)| *v = 0.4 + (i % 7) as f32 * 0.25);
        }
    }
    w
}

fn variants() -> Vec<(&'static str, GptConfig, usize, usize)> {
    let base = GptConfig {
        n_layer: 2,
        n_head: 4,
        n_kv_head: 4,
        n_embd: 24,
        head_dim: 6,
        hidden: 40,
        vocab_size: 50,
        seq_len: 16,
        rope_theta: Some(1e4),
        norm_eps: 1e-5,
        tied: true,
        ..GptConfig::default()
    };
    vec![
        ("plain", base.clone(), 2, 16),
        ("grouped queries, odd sequence", GptConfig { n_kv_head: 2, ..base.clone() }, 3, 7),
        (
            "one head, one layer, one sequence",
            GptConfig { n_head: 1, n_kv_head: 1, n_layer: 1, head_dim: 10, ..base.clone() },
            1,
            13,
        ),
        ("one key head", GptConfig { n_kv_head: 1, tied: false, ..base.clone() }, 2, 5),
        ("without rotation", GptConfig { rope_theta: None, ..base.clone() }, 2, 9),
        (
            "query and key norms",
            GptConfig { qk_norm: true, n_kv_head: 2, head_dim: 8, ..base.clone() },
            2,
            6,
        ),
        ("odd extents", GptConfig { n_embd: 19, hidden: 33, vocab_size: 41, ..base }, 2, 11),
    ]
}

/// Inputs and targets of the `index`-th batch of `n` tokens; no two batches have the same targets.
fn batch_of(index: usize, n: usize, vocab: usize) -> [Vec<u32>; 2] {
    let token = |i: usize| (((i + 1009 * index) * 2_654_435_761) >> 7) as u32 % vocab as u32;
    [0, 1].map(|further| (0..n).map(|i| token(i + further)).collect())
}

/// Errors of `numerics` over two batches through one model: the largest of a loss, relative, and
/// of each tensor's gradient, relative to the tensor's largest gradient.
fn errors(
    plan: &Plan,
    c: &GptConfig,
    batch: usize,
    seq: usize,
    numerics: Numerics,
    scale: f32,
    library: Option<Arc<dyn Sgemm>>,
) -> (f64, Vec<(String, f64)>) {
    let params = weights(c);
    let n = batch * seq;
    let device = Emulator::engine(Profile::default(), numerics);
    let parameters = Parameters::new(c, params.clone());
    let mut model = Model::new(plan, &parameters, batch, seq, &device, numerics).unwrap();
    model.multiply_with(library.as_ref());
    // What the first micro-batch finds must not matter.
    let mut grads = vec![f32::NAN; model.layout().count()];
    let mut reference = Reference::new(c, &params);
    let (mut worst, mut tensors) = (0.0f64, BTreeMap::new());
    let mut last = (0.0, [vec![], vec![]]);
    for (index, micro_batch) in [MicroBatch::First, MicroBatch::Later].into_iter().enumerate() {
        let [inputs, targets] = batch_of(index, n, c.vocab_size);
        let weight = TokenWeights::Even(scale / n as f32);
        let losses = model.loss_and_grads(&inputs, &targets, weight, micro_batch, &mut grads);
        let loss = mean(losses.unwrap());
        let expected = reference.step(&inputs, &targets, seq);
        worst = worst.max((loss - expected).abs() / expected);
        for p in model.layout().params() {
            let want = &reference.g[p.range()];
            let largest = want.iter().fold(0.0f64, |m, v| m.max(v.abs()));
            assert!(largest > 0.0, "{} has a gradient", p.name);
            let got = grads[p.range()].iter().map(|&v| f64::from(v) / f64::from(scale));
            let error = got.zip(want).map(|(g, w)| (g - w).abs()).fold(0.0, f64::max) / largest;
            let entry = tensors.entry(p.name.clone()).or_insert(0.0f64);
            *entry = if error.is_finite() { entry.max(error) } else { f64::INFINITY };
        }
        last = (loss, [inputs, targets]);
    }
    let (loss, [inputs, targets]) = last;
    assert_eq!(loss, model.loss(&inputs, &targets).unwrap(), "evaluation is the same forward pass");
    (worst, tensors.into_iter().collect())
}

/// Every plan with every variant.
fn every() -> impl Iterator<Item = (&'static Plan, (&'static str, GptConfig, usize, usize))> {
    PLANS.iter().flat_map(|&plan| variants().into_iter().map(move |variant| (plan, variant)))
}

#[test]
fn f32_agrees_to_1e_5() {
    for (plan, (name, c, batch, seq)) in every() {
        let (loss, tensors) = errors(plan, &c, batch, seq, Numerics::F32, 1.0, None);
        assert!(loss < 1e-5, "{} {name}: loss {loss:e}", plan.name);
        for (tensor, error) in tensors {
            assert!(error < 1e-5, "{} {name}: {tensor} {error:e}", plan.name);
        }
    }
}

/// A head of ten parts with two tiles of 64 rows each, of which the last part has one, of 28 rows.
/// 4096 tokens have targets in every row of the vocabulary.
#[test]
fn a_head_of_many_tiles_agrees() {
    let (_, base, ..) = variants().remove(0);
    let (batch, seq) = (1024, 4);
    for tied in [true, false] {
        let c = GptConfig {
            n_layer: 1,
            n_head: 1,
            n_kv_head: 1,
            n_embd: 8,
            hidden: 8,
            vocab_size: 18 * 64 + 28,
            tied,
            ..base.clone()
        };
        for index in 0..2 {
            let [_, targets] = batch_of(index, batch * seq, c.vocab_size);
            let tiles: BTreeSet<u32> = targets.iter().map(|id| id / 64).collect();
            assert_eq!(tiles.len(), 19, "targets in every tile");
        }
        let (loss, tensors) = errors(&BASELINE, &c, batch, seq, Numerics::F32, 1.0, None);
        assert!(loss < 1e-5, "loss {loss:e}");
        for (tensor, error) in tensors {
            assert!(error < 1e-5, "{tensor} {error:e}");
        }
    }
}

/// Vocabularies of two tiles, of 1025 rows, and of more rows than a chip accepts channels.
#[test]
fn a_classifier_in_tiles_on_the_engine_agrees() {
    let (_, base, ..) = variants().remove(0);
    for (vocab_size, tied) in [(2050, true), (65_540, false)] {
        let c = GptConfig { n_layer: 1, vocab_size, tied, ..base.clone() };
        for (numerics, scale, bounds) in
            [(Numerics::F32, 1.0, [1e-5, 1e-5]), (Numerics::Fast, 256.0, [1.1e-3, 1.1e-2])]
        {
            let (loss, tensors) = errors(&OFFLOAD, &c, 2, 5, numerics, scale, None);
            assert!(loss < bounds[0], "{vocab_size} {numerics:?}: loss {loss:e}");
            for (tensor, error) in tensors {
                assert!(error < bounds[1], "{vocab_size} {numerics:?}: {tensor} {error:e}");
            }
        }
    }
}

/// Sums from the end, in f32.
#[derive(Debug, Default)]
struct Backwards(AtomicUsize);

impl Sgemm for Backwards {
    fn name(&self) -> &'static str {
        "backwards"
    }

    fn multiply(
        &self,
        [m, n, k]: [usize; 3],
        a: Stored<'_>,
        b: Stored<'_>,
        (c, stride): (&mut [f32], usize),
        accumulate: bool,
    ) {
        self.0.fetch_add(1, Ordering::Relaxed);
        for i in 0..m {
            for j in 0..n {
                let sum: f32 = (0..k).rev().map(|p| a.at(i, p) * b.at(p, j)).sum();
                let to = &mut c[i * stride + j];
                *to = if accumulate { *to + sum } else { sum };
            }
        }
    }
}

/// Another order of summation moves results by less than what the reference allows ours.
#[test]
fn products_by_a_library_agree_too() {
    for (name, c, batch, seq) in variants() {
        let library = Arc::new(Backwards::default());
        let (loss, tensors) =
            errors(&BASELINE, &c, batch, seq, Numerics::F32, 1.0, Some(library.clone()));
        assert!(loss < 1e-5, "{name}: loss {loss:e}");
        for (tensor, error) in tensors {
            assert!(error < 1e-5, "{name}: {tensor} {error:e}");
        }
        // Two passes with gradients and one without, of one tile: logits, their cotangent, the
        // classifier's gradient, and seven weights per layer.
        let expected = 3 + 2 * (2 + 7 * c.n_layer);
        assert_eq!(library.0.load(Ordering::Relaxed), expected, "{name}");
    }
}

/// A value that passes n rounded operations carries a relative error of about √n·2^-12 if the
/// roundings are independent (half a unit of 2^-11 each), n·2^-11 at worst. A gradient of the first
/// layer passes some 30 operations of each layer forward and 30 backward; with √120 ≈ 11 and a
/// largest-of-a-tensor factor of 4 the bound is 44·2^-12 ≈ 1.1e-2, and the loss, a mean over
/// tokens, stays an order below.
#[test]
fn fast_agrees_within_binary16() {
    for (plan, (name, c, batch, seq)) in every() {
        let (loss, tensors) = errors(plan, &c, batch, seq, Numerics::Fast, 256.0, None);
        assert!(loss < 1.1e-3, "{} {name}: loss {loss:e}", plan.name);
        for (tensor, error) in tensors {
            assert!(error < 1.1e-2, "{} {name}: {tensor} {error:e}", plan.name);
        }
    }
}

#[test]
fn tokens_outside_the_vocabulary_are_refused() {
    let (_, c, batch, seq) = variants().remove(0);
    let device = Emulator::engine(Profile::default(), Numerics::F32);
    let parameters = Parameters::new(&c, weights(&c));
    let mut model = Model::new(&BASELINE, &parameters, batch, seq, &device, Numerics::F32).unwrap();
    let mut tokens = vec![0; batch * seq];
    tokens[3] = 50;
    let error = model.loss(&tokens, &vec![0; batch * seq]).unwrap_err().to_string();
    assert_eq!(error, "token 50 at position 3 is not below the vocabulary of 50");
    assert!(model.loss(&tokens[1..], &tokens).unwrap_err().to_string().contains("has 32 tokens"));
}

/// Logits of the cached decoder, in chunks of any size, are those of the full forward pass: both
/// give the same loss for the same tokens.
#[test]
fn decoding_agrees_with_the_full_pass() {
    for (name, c, _, seq) in variants() {
        let parameters = Parameters::new(&c, weights(&c));
        let device = Emulator::engine(Profile::default(), Numerics::F32);
        let mut model = Model::new(&BASELINE, &parameters, 1, seq, &device, Numerics::F32).unwrap();
        let tokens: Vec<u32> = (0..=seq).map(|i| (i * 37 % c.vocab_size) as u32).collect();
        let full = model.loss(&tokens[..seq], &tokens[1..]).unwrap();
        for chunk in [1, 4] {
            let mut decoder =
                gpt::Decoder::new(&parameters, chunk, &device, Numerics::F32).unwrap();
            let mut total = 0.0;
            for t in 0..seq {
                let logits = decoder.feed(&tokens[t..=t]).unwrap();
                let max = logits.iter().copied().fold(f32::MIN, f32::max);
                let sum: f64 = logits.iter().map(|l| f64::from(l - max).exp()).sum();
                total += sum.ln() + f64::from(max - logits[tokens[t + 1] as usize]);
            }
            let loss = total / seq as f64;
            assert!((loss - full).abs() < 1e-5 * full, "{name}, chunk {chunk}: {loss} {full}");
            decoder.reset();
            let at_once = decoder.feed(&tokens[..seq.min(9)]).unwrap();
            decoder.reset();
            let mut one_by_one = vec![];
            for t in &tokens[..seq.min(9)] {
                one_by_one = decoder.feed(std::slice::from_ref(t)).unwrap();
            }
            let gap =
                at_once.iter().zip(&one_by_one).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(gap < 1e-4, "{name}, chunk {chunk}: {gap}");
        }
        assert!(model.loss(&tokens[..seq], &tokens[1..]).is_ok());
    }
}

/// The cache is made larger twice on the way; what it holds stays.
#[test]
fn a_cache_that_grows_keeps_what_it_holds() {
    let (_, c, _, _) = variants().remove(0);
    let (seq, c) = (600, GptConfig { seq_len: 1 << 20, ..c });
    let parameters = Parameters::new(&c, weights(&c));
    let device = Emulator::cpu(Numerics::F32);
    let mut model = Model::new(&BASELINE, &parameters, 1, seq, &device, Numerics::F32).unwrap();
    let tokens: Vec<u32> = (0..=seq).map(|i| (i * 37 % c.vocab_size) as u32).collect();
    let full = model.loss(&tokens[..seq], &tokens[1..]).unwrap();
    let mut decoder = gpt::Decoder::new(&parameters, 1, &device, Numerics::F32).unwrap();
    assert_eq!(decoder.room(), 1 << 20);
    let mut one_by_one = || -> Vec<Vec<f32>> {
        decoder.reset();
        (0..seq).map(|t| decoder.feed(&tokens[t..=t]).unwrap()).collect()
    };
    let first = one_by_one();
    let loss = |(logits, &target): (&Vec<f32>, &u32)| {
        let sum: f64 = logits.iter().map(|l| f64::from(*l).exp()).sum();
        sum.ln() - f64::from(logits[target as usize])
    };
    let loss = first.iter().zip(&tokens[1..]).map(loss).sum::<f64>() / seq as f64;
    assert!((loss - full).abs() < 1e-5 * full, "{loss} {full}");
    assert_eq!(one_by_one(), first, "a second text has the bits of the first, whatever has grown");
    decoder.reset();
    decoder.feed(&tokens[..300]).unwrap();
    let last = decoder.feed(&tokens[300..seq]).unwrap();
    let gap = last.iter().zip(&first[seq - 1]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(gap < 1e-4, "however the text is fed: {gap}");
}

// ---- defects of earlier trainers for this engine, and that these tests would have seen them ----

/// Other trainers compute w_i·r·(dy_i − x_i·r²/n·Σ w·dy·x), right only for gains of 1.
#[test]
fn a_norm_gradient_that_is_right_only_for_gains_of_one_is_seen() {
    let wrong = |x: &[f64], gain: &[f64], dy: &[f64], eps: f64| -> Vec<f64> {
        let (r, n) = (rms(x, eps), x.len() as f64);
        let dot: f64 = (0..x.len()).map(|i| gain[i] * dy[i] * x[i]).sum();
        (0..x.len()).map(|i| gain[i] * r * (dy[i] - x[i] * r * r / n * dot)).collect()
    };
    let n = 24;
    let x: Vec<f64> = (0..n).map(|i| (i as f64 * 0.7).sin()).collect();
    let dy: Vec<f64> =
        x.iter().enumerate().map(|(i, x)| x + (i as f64 * 1.3).cos() / 2.0).collect();
    let gap = |gain: &[f64]| -> f64 {
        let right = norm_back(&x, gain, &dy, 1e-5, &mut vec![0.0; n]);
        let largest = right.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        let error = right.iter().zip(wrong(&x, gain, &dy, 1e-5)).map(|(a, b)| (a - b).abs());
        error.fold(0.0, f64::max) / largest
    };
    let gains: Vec<f64> = (0..n).map(|i| 0.4 + (i % 7) as f64 * 0.25).collect();
    assert!(gap(&vec![1.0; n]) < 1e-12, "invisible at 1");
    assert!(
        gap(&gains) > 1e-2,
        "a thousand times the tolerance of the step's test: {}",
        gap(&gains)
    );
}

/// Advantages of reinforcement learning: weights of both signs, and zero for what is not learned.
#[test]
fn weighted_losses_agree_to_1e_5() {
    for (name, c, batch, seq) in variants() {
        let params = weights(&c);
        let n = batch * seq;
        let each: Vec<f32> =
            (0..n).map(|i| [0.75, -0.25, 0.0, -1.5, 0.0][i % 5] / n as f32).collect();
        let device = Emulator::engine(Profile::default(), Numerics::F32);
        let parameters = Parameters::new(&c, params.clone());
        let mut model =
            Model::new(&BASELINE, &parameters, batch, seq, &device, Numerics::F32).unwrap();
        let mut grads = vec![f32::NAN; model.layout().count()];
        let [inputs, targets] = batch_of(3, n, c.vocab_size);
        let (given, first) = (TokenWeights::Each(&each), MicroBatch::First);
        model.loss_and_grads(&inputs, &targets, given, first, &mut grads).unwrap();
        let mut reference = Reference::new(&c, &params);
        let exact: Vec<f64> = each.iter().map(|&weight| f64::from(weight)).collect();
        reference.weighted_step(&inputs, &targets, seq, &exact);
        for p in model.layout().params() {
            let want = &reference.g[p.range()];
            let largest = want.iter().fold(0.0f64, |m, v| m.max(v.abs()));
            let got = grads[p.range()].iter().map(|&v| f64::from(v));
            let error = got.zip(want).map(|(g, w)| (g - w).abs()).fold(0.0, f64::max);
            assert!(largest > 0.0 && error < 1e-5 * largest, "{name}: {} {error:e}", p.name);
        }
    }
}

/// Other trainers give query head h the key head h mod n_kv forward and h div share backward.
#[test]
fn mismatched_heads_are_seen() {
    let (_, c, batch, seq) = variants().remove(1);
    assert!(c.n_kv_head < c.n_head);
    let params = weights(&c);
    let tokens: Vec<u32> = (0..batch * seq).map(|i| (i * 31 % c.vocab_size) as u32).collect();
    let targets: Vec<u32> = tokens.iter().map(|t| (t + 1) % c.vocab_size as u32).collect();
    let step = |key_head: fn(usize, &GptConfig) -> usize| {
        let mut reference = Reference::new(&c, &params);
        reference.key_head = key_head;
        (reference.step(&tokens, &targets, seq), reference.g)
    };
    let (loss, g) = step(consecutive);
    let (other_loss, other_g) = step(|head, c| head % c.n_kv_head);
    assert!((loss - other_loss).abs() > 1e-3 * loss, "{loss} {other_loss}");
    let largest = g.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let gap = g.iter().zip(&other_g).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(gap > 1e-2 * largest, "{gap} of {largest}");
}

/// Without a loss scale small gradients vanish below 2^-24; with one they agree.
#[test]
fn a_missing_loss_scale_is_seen() {
    let (_, c, batch, seq) = variants().remove(0);
    let worst = |scale: f32| {
        let (_, tensors) = errors(&BASELINE, &c, batch, seq, Numerics::Fast, scale, None);
        tensors.into_iter().map(|t| t.1).fold(0.0, f64::max)
    };
    assert!(worst(4096.0) < 1.1e-2, "{}", worst(4096.0));
    // As small as the gradients of a large batch are without a scale.
    assert!(worst(2f32.powi(-16)) > 0.1, "{}", worst(2f32.powi(-16)));
}

/// A norm whose plain sum of squares overflows binary16 (seed: from a root mean square of 9.2 on).
#[test]
fn large_activations_do_not_overflow_the_norm() {
    let (_, c, batch, seq) = variants().remove(0);
    let mut params = weights(&c);
    let layout = Layout::new(&c);
    let embedding = layout.find("embedding", None).unwrap().range();
    params[embedding].iter_mut().for_each(|v| *v *= 300.0);
    let tokens: Vec<u32> = (0..batch * seq).map(|i| (i * 31 % c.vocab_size) as u32).collect();
    let loss = |numerics| {
        let device = Emulator::engine(Profile::default(), numerics);
        // Tied weights would make the logits as large.
        let untied = GptConfig { tied: false, ..c.clone() };
        let mut all = params.clone();
        all.extend(weights(&c)[..c.vocab_size * c.n_embd].iter());
        let parameters = Parameters::new(&untied, all.clone());
        let mut model = Model::new(&BASELINE, &parameters, batch, seq, &device, numerics).unwrap();
        model.loss(&tokens, &tokens).unwrap()
    };
    let (exact, half) = (loss(Numerics::F32), loss(Numerics::Fast));
    assert!((exact - half).abs() < 1e-2 * exact, "{exact} {half}");
}
