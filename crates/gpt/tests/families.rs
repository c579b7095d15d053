//! Models of every family and mixture against formulas written token by token in f64, without MIL:
//! losses, gradients (by central differences), and decoding.

use ane::Emulator;
use chip::Profile;
use cpu::{Matrix, Numerics};
use gpt::block::Memory;
use gpt::plan::{BASELINE, GRADIENTS, LAYERS, OFFLOAD, PLANS, Plan, PlanError, Programs};
use gpt::slots::WeightFormat;
use gpt::{
    Column, Decoder, Dims, Family, FeedForward, GptConfig, Layout, MicroBatch, Model, Norm,
    Parameters, SlotDecoder, SlotOptions, TokenWeights, initialise,
};
use mil::DType;

/// The formulas, in f64.
struct Reference<'a> {
    c: &'a GptConfig,
    layout: Layout,
    w: Vec<f64>,
}

impl Reference<'_> {
    fn get(&self, port: &str, layer: Option<usize>) -> Option<&[f64]> {
        self.layout.find(port, layer).map(|p| &self.w[p.range()])
    }

    /// W·x + b
    fn project(&self, [weight, bias]: [&str; 2], layer: usize, x: &[f64]) -> Vec<f64> {
        let w = self.get(weight, Some(layer)).unwrap();
        let b = self.get(bias, Some(layer));
        let row = |o: usize| w[o * x.len()..][..x.len()].iter().zip(x).map(|(w, x)| w * x);
        let out = w.len() / x.len();
        (0..out).map(|o| row(o).sum::<f64>() + b.map_or(0.0, |b| b[o])).collect()
    }

    fn norm(&self, suffix: &str, layer: Option<usize>, x: &[f64]) -> Vec<f64> {
        let n = x.len() as f64;
        let layered = self.c.norm == Norm::Layer;
        let mean = if layered { x.iter().sum::<f64>() / n } else { 0.0 };
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        let scale = 1.0 / (variance + self.c.norm_eps).sqrt();
        let kind = if layered { "ln" } else { "rms" };
        let gain = self.get(&format!("{kind}{suffix}"), layer);
        let bias = self.get(&format!("{kind}{suffix}_bias"), layer);
        assert_eq!((gain.is_some(), bias.is_some()), (self.c.norm != Norm::Plain, layered));
        let [gain, bias] = [(gain, 1.0), (bias, 0.0)]
            .map(|(values, without)| move |i: usize| values.map_or(without, |values| values[i]));
        (0..x.len()).map(|i| (x[i] - mean) * scale * gain(i) + bias(i)).collect()
    }

    fn rotated(&self, x: &[f64], position: usize) -> Vec<f64> {
        let (e, Some(theta)) = (self.c.head_dim, self.c.rope_theta) else { return x.to_vec() };
        let mut y = x.to_vec();
        for head in y.chunks_mut(e) {
            for i in 0..e / 2 {
                let angle = position as f64 * theta.powf(-2.0 * i as f64 / e as f64);
                let (a, b) = (head[i], head[i + e / 2]);
                head[i] = a * angle.cos() - b * angle.sin();
                head[i + e / 2] = b * angle.cos() + a * angle.sin();
            }
        }
        y
    }

    fn attention(&self, layer: usize, x: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let (c, e) = (self.c, self.c.head_dim);
        let n: Vec<_> = x.iter().map(|x| self.norm("1", Some(layer), x)).collect();
        let still = c.no_rope.contains(&layer);
        let of = |ports, turned: bool| -> Vec<Vec<f64>> {
            let all = n.iter().enumerate().map(|(t, n)| {
                let y = self.project(ports, layer, n);
                if turned && !still { self.rotated(&y, t) } else { y }
            });
            all.collect()
        };
        let (q, k, v) = (of(["wq", "bq"], true), of(["wk", "bk"], true), of(["wv", "bv"], false));
        let window = c.windows.get(layer % c.windows.len().max(1)).copied().unwrap_or(0);
        let mixed = |t: usize| -> Vec<f64> {
            let first = if window == 0 { 0 } else { (t + 1).saturating_sub(window) };
            let head = |h: usize| {
                let (own, shared) = (h * e, h / (c.n_head / c.n_kv_head) * e);
                let score = |s: usize| {
                    let products = (0..e).map(|i| q[t][own + i] * k[s][shared + i]);
                    (products.sum::<f64>() / (e as f64).sqrt()).exp()
                };
                let scores: Vec<f64> = (first..=t).map(score).collect();
                let sum: f64 = scores.iter().sum();
                let v = &v;
                (0..e).map(move |i| {
                    let terms = scores.iter().zip(first..).map(|(p, s)| p * v[s][shared + i]);
                    terms.sum::<f64>() / sum
                })
            };
            (0..c.n_head).flat_map(head).collect()
        };
        (0..x.len()).map(|t| self.project(["wo", "bo"], layer, &mixed(t))).collect()
    }

    fn feed_forward(&self, layer: usize, x: &[f64]) -> Vec<f64> {
        let n = self.norm("2", Some(layer), x);
        let h1 = self.project(["w1", "b1"], layer, &n);
        let gate: Vec<f64> = match self.c.feed_forward {
            FeedForward::Gelu => {
                let root = (2.0 / std::f64::consts::PI).sqrt();
                let gelu = |x: f64| 0.5 * x * (1.0 + (root * (x + 0.044_715 * x.powi(3))).tanh());
                h1.into_iter().map(gelu).collect()
            }
            FeedForward::Relu2 => h1.into_iter().map(|h| h.max(0.0).powi(2)).collect(),
            FeedForward::SwiGlu => {
                let h3 = self.project(["w3", "b3"], layer, &n);
                h1.iter().zip(h3).map(|(a, b)| a / (1.0 + (-a).exp()) * b).collect()
            }
        };
        self.project(["w2", "b2"], layer, &gate)
    }

    /// Logits after each token of a sequence.
    fn logits(&self, tokens: &[u32]) -> Vec<Vec<f64>> {
        let d = self.c.n_embd;
        let embedding = self.get("embedding", None).unwrap();
        let positions = self.get("positions", None);
        assert_eq!(positions.is_some(), self.c.learned_positions);
        let start = |(t, &token): (usize, &u32)| -> Vec<f64> {
            let row = &embedding[token as usize * d..][..d];
            (0..d).map(|i| row[i] + positions.map_or(0.0, |p| p[t * d + i])).collect()
        };
        let mut x: Vec<Vec<f64>> = tokens.iter().enumerate().map(start).collect();
        for layer in 0..self.c.n_layer {
            let attention = self.attention(layer, &x);
            for (x, y) in x.iter_mut().zip(attention) {
                x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
                let y = self.feed_forward(layer, x);
                x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
            }
        }
        let classifier = self.get("classifier", None).unwrap_or(embedding);
        let head = |x: &Vec<f64>| -> Vec<f64> {
            let xf = self.norm("", None, x);
            classifier.chunks(d).map(|row| row.iter().zip(&xf).map(|(w, x)| w * x).sum()).collect()
        };
        x.iter().map(head).collect()
    }

    /// Σ weight·loss over the tokens of a batch.
    fn loss(&self, inputs: &[u32], targets: &[u32], weights: &[f64], seq: usize) -> f64 {
        let rows = inputs.chunks(seq).flat_map(|tokens| self.logits(tokens));
        let losses = rows.zip(targets).map(|(row, &target)| {
            row.iter().map(|l| l.exp()).sum::<f64>().ln() - row[target as usize]
        });
        losses.zip(weights).map(|(loss, weight)| weight * loss).sum()
    }
}

fn small(family: &str) -> GptConfig {
    let base = Family::named(family).unwrap().presets().remove(0).1;
    GptConfig {
        n_layer: 2,
        n_head: 4,
        n_kv_head: 4,
        n_embd: 16,
        head_dim: 4,
        hidden: 24,
        vocab_size: 30,
        seq_len: 12,
        ..base
    }
}

fn mixtures() -> Vec<(&'static str, GptConfig)> {
    let (llama, gpt2) = (small("llama"), small("gpt2"));
    let windows = vec![3, 0];
    vec![
        ("gpt2", gpt2.clone()),
        ("gpt2, classifier of its own", GptConfig { tied: false, ..gpt2.clone() }),
        (
            "gpt2, grouped queries, rotary",
            GptConfig {
                n_kv_head: 2,
                learned_positions: false,
                rope_theta: Some(1e4),
                ..gpt2.clone()
            },
        ),
        ("gpt2, RMSNorm, no bias", GptConfig { norm: Norm::Rms, bias: false, ..gpt2 }),
        ("llama, layer norm", GptConfig { norm: Norm::Layer, ..llama.clone() }),
        ("llama, GELU", GptConfig { feed_forward: FeedForward::Gelu, ..llama.clone() }),
        (
            "llama, norms without gains, relu²",
            GptConfig { norm: Norm::Plain, feed_forward: FeedForward::Relu2, ..llama.clone() },
        ),
        ("llama, second layer not rotated", GptConfig { no_rope: vec![1], ..llama.clone() }),
        (
            "llama, first layer not rotated, grouped queries",
            GptConfig { no_rope: vec![0], n_kv_head: 2, ..llama.clone() },
        ),
        ("llama, biases, windows", GptConfig { bias: true, windows, ..llama.clone() }),
        (
            "llama, learned positions",
            GptConfig { rope_theta: None, learned_positions: true, ..llama },
        ),
    ]
}

const SEQ: usize = 9;
const BATCH: usize = 2;

/// Weights with gains and biases that are not what they begin with, and scores that differ.
fn weights(c: &GptConfig) -> Vec<f32> {
    let mut values = initialise(c, 11);
    for (i, value) in values.iter_mut().enumerate() {
        *value = *value * 3.0 + ((i * 37 % 101) as f32 - 50.0) / 800.0;
    }
    values
}

fn batch(c: &GptConfig) -> [Vec<u32>; 2] {
    let token = |i: usize, step: usize| ((i * step + i * i / 3) % c.vocab_size) as u32;
    [7, 5].map(|step| (0..BATCH * SEQ).map(|i| token(i, step)).collect())
}

/// Not even, some 0, one negative.
fn token_weights() -> Vec<f32> {
    (0..BATCH * SEQ).map(|i| [0.5, 0.0, 1.0, -0.25][i % 4]).collect()
}

/// Errors of a parameter's gradient: the largest one relative to the largest element, and the norm of all
/// relative to the gradient's.
struct Errors {
    name: String,
    largest: f64,
    norm: f64,
}

/// Error of the loss, relative, and those of the gradients.
fn errors(plan: &Plan, c: &GptConfig, numerics: Numerics, scale: f32) -> (f64, Vec<Errors>) {
    let (values, [inputs, targets]) = (weights(c), batch(c));
    let device = Emulator::engine(Profile::default(), numerics);
    let parameters = Parameters::new(c, values.clone());
    let mut model = Model::new(plan, &parameters, BATCH, SEQ, &device, numerics).unwrap();
    let mut grads = vec![f32::NAN; values.len()];
    let counts: Vec<f64> = token_weights().into_iter().map(f64::from).collect();
    let scaled: Vec<f32> = token_weights().iter().map(|weight| weight * scale).collect();
    let each = TokenWeights::Each(&scaled);
    let losses =
        model.loss_and_grads(&inputs, &targets, each, MicroBatch::First, &mut grads).unwrap();
    let got = losses.iter().zip(&counts).map(|(loss, weight)| loss * weight).sum::<f64>();

    let w = values.iter().map(|&v| f64::from(v)).collect();
    let mut reference = Reference { c, layout: Layout::new(c), w };
    let want = reference.loss(&inputs, &targets, &counts, SEQ);
    let mut tensors = vec![];
    for param in Layout::new(c).params() {
        let (mut largest, mut error, mut norms) = (0.0f64, 0.0f64, [0.0, 0.0]);
        // A prime stride reaches every row and column of a large matrix.
        let stride = if param.count() > 128 { 7 } else { 1 };
        for i in param.range().step_by(stride) {
            let (at, h) = (reference.w[i], 1e-5);
            let mut side = |w: f64| {
                reference.w[i] = w;
                reference.loss(&inputs, &targets, &counts, SEQ)
            };
            let want = (side(at + h) - side(at - h)) / (2.0 * h);
            reference.w[i] = at;
            largest = largest.max(want.abs());
            let off = (f64::from(grads[i]) / f64::from(scale) - want).abs();
            error = error.max(off);
            norms = [norms[0] + off * off, norms[1] + want * want];
        }
        assert!(largest > 1e-6 || vanishes(c, param.port), "{} has a gradient", param.name);
        let norm = (norms[0] / norms[1].max(1e-12)).sqrt();
        tensors.push(Errors { name: param.name.clone(), largest: error / largest.max(1e-6), norm });
    }
    ((got - want).abs() / want.abs(), tensors)
}

/// A bias of keys moves all scores of a query alike, unless keys are turned afterwards.
fn vanishes(c: &GptConfig, port: &str) -> bool {
    port == "bk" && c.rope_theta.is_none()
}

/// Every mixture with the plans that train it.
fn every() -> impl Iterator<Item = (&'static Plan, (&'static str, GptConfig))> {
    let all = PLANS.iter().copied();
    let all = all.flat_map(|plan| mixtures().into_iter().map(move |mixture| (plan, mixture)));
    all.filter(|(plan, (_, c))| {
        let dims = Dims { config: c, batch: BATCH, seq: SEQ, dtype: DType::Fp16 };
        let programs = Programs::new(plan, &dims, Memory::Sequence);
        let refused = c.nanochat.softcap.is_some() || (0..c.n_layer).any(|l| c.embeds_values(l));
        let unfit = matches!(programs, Err(PlanError::Unfit { .. }));
        assert_eq!(
            unfit,
            [&OFFLOAD, &GRADIENTS, &LAYERS].contains(plan) && refused,
            "{}",
            plan.name
        );
        !unfit
    })
}

/// Differences of second order leave 1e-10/h ≈ 1e-5 of rounding; a gradient that should vanish is held
/// against 1e-6.
#[test]
fn f32_agrees_with_the_formulas() {
    for (plan, (name, c)) in every() {
        let name = format!("{name} by {}", plan.name);
        let (loss, tensors) = errors(plan, &c, Numerics::F32, 1.0);
        assert!(loss < 1e-5, "{name}: loss {loss:e}");
        for Errors { name: tensor, largest, .. } in tensors {
            assert!(largest < 1e-4 || tensor.contains("[bk]"), "{name}: {tensor} {largest:e}");
        }
    }
}

/// As for Llama in `parity.rs`: some 60 roundings forward and as many backward give √120·2^-12 = 2.7e-3 if
/// they are independent, and sums over tokens whose weights differ in sign cancel a part of what they add
/// up: four times that.
#[test]
fn fast_agrees_within_binary16() {
    for (plan, (name, c)) in every() {
        let name = format!("{name} by {}", plan.name);
        let (loss, tensors) = errors(plan, &c, Numerics::Fast, 256.0);
        assert!(loss < 1.1e-3, "{name}: loss {loss:e}");
        for Errors { name: tensor, norm, .. } in tensors {
            assert!(norm < 1.1e-2 || tensor.contains("[bk]"), "{name}: {tensor} {norm:e}");
        }
    }
}

/// Chunks of any size, one token at a time among them.
#[test]
fn decoding_gives_the_logits_of_the_formulas() {
    for (name, c) in mixtures() {
        let values = weights(&c);
        let w = values.iter().map(|&v| f64::from(v)).collect();
        let reference = Reference { c: &c, layout: Layout::new(&c), w };
        let [tokens, _] = batch(&c);
        let want = reference.logits(&tokens[..c.seq_len]);
        let parameters = Parameters::new(&c, values);
        let device = Emulator::cpu(Numerics::F32);
        for chunk in [1, 5] {
            let mut decoder = Decoder::new(&parameters, chunk, &device, Numerics::F32).unwrap();
            for (t, tokens) in tokens[..c.seq_len].chunks(chunk).enumerate() {
                let got = decoder.feed(tokens).unwrap();
                let want = &want[t * chunk + tokens.len() - 1];
                let gap = got.iter().zip(want).map(|(g, w)| (f64::from(*g) - w).abs());
                let gap = gap.fold(0.0, f64::max);
                assert!(gap < 1e-4, "{name}, chunk {chunk}, token {t}: {gap:e}");
            }
        }
    }
}

/// Two texts in passes of several sizes, alone and together; f16 and int8 are held against the formulas
/// over the rounded weights. With int8, a product also rounds its columns in steps of 1/127 of the largest of 32
/// elements, about 2.1 times their root mean square: an error of 2.1/127/√12 = 4.8e-3 of it. Two layers and the head
/// are nine products, one after the other, √9·4.8e-3 = 1.4e-2 if they are independent; three times that.
#[test]
fn slots_give_the_logits_of_the_formulas() {
    for ((name, c), format) in
        mixtures().into_iter().flat_map(|mixture| WeightFormat::ALL.map(|f| (mixture.clone(), f)))
    {
        let parameters = Parameters::new(&c, weights(&c));
        let mut w: Vec<f64> = parameters.read().iter().map(|&v| f64::from(v)).collect();
        for param in parameters.layout().params().iter().filter(|p| p.port != "positions") {
            if let [rows, columns] = param.shape[..] {
                let matrix = Matrix::new(format, rows, &parameters.read()[param.range()]);
                let at = |i: usize| matrix.get(i / columns, i % columns);
                w[param.range()].iter_mut().enumerate().for_each(|(i, w)| *w = f64::from(at(i)));
            }
        }
        let reference = Reference { c: &c, layout: Layout::new(&c), w };
        let texts = batch(&c).map(|tokens| tokens[..c.seq_len].to_vec());
        let want = texts.clone().map(|tokens| reference.logits(&tokens));
        let options = SlotOptions { slots: 2, context: 100, weights: format };
        let mut decoder = SlotDecoder::new(&parameters, options).unwrap();
        for ranges in [[0..3, 0..1], [3..4, 1..2], [4..4, 2..8], [4..9, 8..9], [9..12, 9..12]] {
            let columns = |slot: usize| {
                let tokens = texts[slot][ranges[slot].clone()].iter();
                tokens.map(move |&token| Column { slot, token, logits: true })
            };
            let all: Vec<Column> = columns(0).chain(columns(1)).collect();
            let got = decoder.forward(&all).unwrap();
            let want = (0..2).flat_map(|slot| &want[slot][ranges[slot].clone()]);
            for (i, (got, want)) in got.chunks(c.vocab_size).zip(want).enumerate() {
                let gaps = got.iter().zip(want).map(|(g, w)| (f64::from(*g) - w).abs());
                let at = format!("{name}, {format:?}, {ranges:?}, column {i}");
                if format == WeightFormat::Int8 {
                    let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
                    let gap = norm(&gaps.collect::<Vec<f64>>()) / norm(want);
                    assert!(gap < 4.3e-2, "{at}: {gap:e}");
                } else {
                    let gap = gaps.fold(0.0, f64::max);
                    assert!(gap < 1e-4, "{at}: {gap:e}");
                }
            }
        }
    }
}

/// The same weights, trained and read token by token, are one set of numbers.
#[test]
fn a_decoder_takes_up_changed_weights() {
    let c = small("gpt2");
    let parameters = Parameters::new(&c, weights(&c));
    let device = Emulator::cpu(Numerics::F32);
    let mut decoder = Decoder::new(&parameters, 4, &device, Numerics::F32).unwrap();
    let [inputs, targets] = batch(&c);
    let mut last_loss = || {
        let logits = decoder.feed(&inputs[..SEQ]).unwrap();
        let sum: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
        sum.ln() - f64::from(logits[targets[SEQ - 1] as usize])
    };
    let before = last_loss();
    parameters.update(|values| values.iter_mut().for_each(|value| *value *= 0.5));
    let after = last_loss();
    assert_eq!(decoder.position(), SEQ, "what was read with other weights is forgotten");
    let mut model = Model::new(&BASELINE, &parameters, 1, SEQ, &device, Numerics::F32).unwrap();
    let loss = model.token_losses(&inputs[..SEQ], &targets[..SEQ]).unwrap()[SEQ - 1];
    assert!((after - loss).abs() < 1e-5 && (before - loss).abs() > 1e-2, "{before} {after} {loss}");
}
