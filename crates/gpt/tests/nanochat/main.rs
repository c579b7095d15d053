//! nanochat's model against values of its own code and against formulas in f64, in training and in
//! generation.

mod golden;
mod reference;

use ane::Emulator;
use chip::Profile;
use cpu::{Matrix, Numerics};
use golden::{SEQ, arena, golden, golden_batch, golden_weights, norm, tensors, waves};
use gpt::plan::{BASELINE, FUSED, Plan};
use gpt::slots::WeightFormat;
use gpt::{
    Column, Decoder, Depth, Edition, GptConfig, Layout, MicroBatch, Model, Parameters, SlotDecoder,
    SlotOptions, TokenWeights, initialise,
};
use reference::{Reference, Tensors};
use std::collections::BTreeMap;

/// Loss and gradients of a batch by the formulas.
fn expected(
    c: &GptConfig,
    w: Tensors,
    [inputs, targets]: &[Vec<u32>; 2],
    weights: &[f64],
    seq: usize,
) -> (Vec<Vec<f64>>, f64, Tensors) {
    let mut reference = Reference::new(c, w);
    let (mut logits, mut loss) = (vec![], 0.0);
    let sequences = inputs.chunks(seq).zip(targets.chunks(seq)).zip(weights.chunks(seq));
    for ((tokens, targets), weights) in sequences {
        let (rows, sum) = reference.sequence(tokens, targets, weights);
        logits.extend(rows);
        loss += sum;
    }
    (logits, loss, reference.g)
}

/// The same by a compiled model.
fn trained(
    (plan, numerics, scale): (&Plan, Numerics, f32),
    c: &GptConfig,
    arena: &[f32],
    [inputs, targets]: &[Vec<u32>; 2],
    weights: &[f64],
    seq: usize,
) -> (f64, Tensors) {
    let device = Emulator::engine(Profile::default(), numerics);
    let parameters = Parameters::new(c, arena.to_vec());
    let mut model =
        Model::new(plan, &parameters, inputs.len() / seq, seq, &device, numerics).unwrap();
    let scaled: Vec<f32> = weights.iter().map(|&weight| weight as f32 * scale).collect();
    let each = TokenWeights::Each(&scaled);
    let mut grads = vec![f32::NAN; arena.len()];
    let losses =
        model.loss_and_grads(inputs, targets, each, MicroBatch::First, &mut grads).unwrap();
    let loss = losses.iter().zip(weights).map(|(loss, weight)| loss * weight).sum();
    grads.iter_mut().for_each(|g| *g /= scale);
    (loss, tensors(c, &grads))
}

/// Loss, logits and norms of gradients that nanochat's own code gave for this model (commit 92d63d4, torch
/// 2.9.1), to nine digits.
const LOSS: f64 = 5.384_896_231;
const LOGITS: [(usize, [f64; 4]); 2] = [
    (0, [-0.593_770_5, 0.600_433_67, 0.700_669_16, -0.475_593_65]),
    (15, [0.185_308_71, -1.930_691_99, -0.531_206_54, 1.837_447_43]),
];
const NORMS: [(&str, f64); 12] = [
    ("transformer.wte.weight", 0.250_922_666),
    ("transformer.h.0.attn.c_q.weight", 0.034_934_702),
    ("transformer.h.0.mlp.c_proj.weight", 10.527_442_269),
    ("transformer.h.1.attn.ve_gate.weight", 0.210_822_408),
    ("transformer.h.3.attn.c_k.weight", 0.514_656_965),
    ("lm_head.weight", 1.562_366_871),
    ("smear_gate.weight", 0.028_219_562),
    ("value_embeds.1.weight", 0.271_337_438),
    ("resid_lambdas", 1.892_252_831),
    ("x0_lambdas", 1.778_397_647),
    ("smear_lambda", 0.132_656_151),
    ("backout_lambda", 1.241_548_556),
];

/// The formulas give what nanochat's code gave, to the digits that are recorded.
#[test]
fn the_formulas_are_nanochats() {
    let (c, batch) = (golden(), golden_batch());
    assert_eq!(Layout::new(&c).count(), 51_258);
    let (logits, loss, g) = expected(&c, waves(&c), &batch, &golden_weights(), SEQ);
    assert!((loss - LOSS).abs() < 2e-9, "{loss}");
    for (token, want) in LOGITS {
        let gap = want.iter().zip(&logits[token]).map(|(w, l)| (w - l).abs()).fold(0.0, f64::max);
        assert!(gap < 2e-8, "token {token}: {gap:e}");
    }
    for (name, want) in NORMS {
        let got = norm(&g[name]);
        assert!((got - want).abs() < 2e-9 * want.max(1.0), "{name}: {got} and {want}");
    }
}

/// By how much the norm of each gradient changes, as a share of it, when every weight changes by up to a unit
/// of f32: the root mean square over some such changes.
fn sensitivity(c: &GptConfig, batch: &[Vec<u32>; 2]) -> BTreeMap<String, f64> {
    const CHANGES: usize = 8;
    let norms = |change: Option<usize>| -> Vec<(String, f64)> {
        let mut w = waves(c);
        for (i, value) in w.values_mut().flatten().enumerate() {
            let unit = 2f64.powi(-24);
            *value *= 1.0 + change.map_or(0.0, |n| unit * ((i * i % 997 + n * i) as f64).sin());
        }
        let (_, _, g) = expected(c, w, batch, &golden_weights(), SEQ);
        g.into_iter().map(|(name, g)| (name, norm(&g))).collect()
    };
    let exact = norms(None);
    let mut squares = vec![0.0; exact.len()];
    for n in 0..CHANGES {
        let changed = norms(Some(n));
        for (square, ((_, a), (_, b))) in squares.iter_mut().zip(exact.iter().zip(&changed)) {
            *square += (b / a - 1.0).powi(2) / CHANGES as f64;
        }
    }
    exact.into_iter().zip(squares).map(|((name, _), square)| (name, square.sqrt())).collect()
}

/// Smear's gradients cannot be had from weights in f32: to round the weights alone moves the norms of their exact
/// gradients by 1.9 and 1.5 millionths. Other norms stay within half a millionth.
#[test]
fn weights_in_f32_have_other_gradients_of_smear() {
    let (c, batch) = (golden(), golden_batch());
    let rounded = tensors(&c, &arena(&c, &waves(&c)));
    let [rounded, exact] =
        [rounded, waves(&c)].map(|w| expected(&c, w, &batch, &golden_weights(), SEQ).2);
    for (name, _) in NORMS {
        let change = (norm(&rounded[name]) / norm(&exact[name]) - 1.0).abs();
        assert_eq!(change > 1e-6, name.contains("smear"), "{name}: {change:e}");
        assert!(change < if name.contains("smear") { 3e-6 } else { 5e-7 }, "{name}: {change:e}");
    }
}

/// In f32, whose unit is 6e-8: the loss, the logits (of up to 2) and the norms of gradients stay within a
/// millionth. Some gradients are small differences of large numbers, those of smear above all: a value
/// passes some 240 roundings in four layers forward and backward, each of 0.4 units in the mean, which are
/// √240·0.4 = 6 if they are independent: as much as 8 times the change of the weights, whose mean is 0.7
/// units. nanochat's own code in f32 is up to 8e-6 off as well.
#[test]
fn the_model_gives_nanochats_values() {
    let (c, batch) = (golden(), golden_batch());
    let (logits, _, all) = expected(&c, waves(&c), &batch, &golden_weights(), SEQ);
    let values = arena(&c, &waves(&c));
    let sensitivity = sensitivity(&c, &batch);
    for plan in [&BASELINE, &FUSED] {
        let how = (plan, Numerics::F32, 1.0);
        let (loss, g) = trained(how, &c, &values, &batch, &golden_weights(), SEQ);
        assert!((loss / LOSS - 1.0).abs() < 1e-6, "{loss}");
        for (name, want) in NORMS {
            let error = (norm(&g[name]) / want - 1.0).abs();
            let bound = 1e-6 + 8.0 * sensitivity[name];
            assert!(error < bound && bound < 3e-5, "{name}: {error:e} of {bound:e}");
        }
        compare("golden", &g, &all, 2e-5);
    }
    let device = Emulator::cpu(Numerics::F32);
    let mut decoder =
        Decoder::new(&Parameters::new(&c, values), 3, &device, Numerics::F32).unwrap();
    for (start, last) in [(0, 0), (8, 15)] {
        decoder.reset();
        let got = decoder.feed(&batch[0][start..=last]).unwrap();
        let gap = gap(&got, &logits[last]);
        assert!(gap < 2e-6, "token {last}: {gap:e}");
    }
}

/// The largest difference.
fn gap(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    got.iter().zip(want).map(|(g, w)| (f64::from(*g) - w).abs()).fold(0.0, f64::max)
}

/// Every tensor's errors are small beside its largest element.
fn compare(what: &str, got: &Tensors, want: &Tensors, bound: f64) {
    assert_eq!(got.len(), want.len());
    for (name, want) in want {
        let largest = want.iter().fold(0.0, |m: f64, w| m.max(w.abs()));
        assert!(largest > 0.0, "{what}: {name} has a gradient");
        assert!(got[name].iter().all(|g| g.is_finite()), "{what}: {name} is complete");
        let errors = got[name].iter().zip(want).map(|(g, w)| (g - w).abs());
        let error = errors.fold(0.0, f64::max) / largest;
        assert!(error < bound, "{what}: {name} {error:e}");
    }
}

/// Models of odd sizes: both editions, with and without value embeddings, one to five layers, grouped and
/// single queries, windows. In July's models of less than three layers, backout has no gradient: it only
/// scales the last stream, which is then normalised.
fn variants() -> Vec<(&'static str, GptConfig)> {
    let base = |edition, depth, windows: &[usize]| GptConfig {
        n_head: 6,
        n_kv_head: 2,
        n_embd: 37,
        head_dim: 10,
        hidden: 53,
        windows: windows.to_vec(),
        ..Depth { vocab_size: 71, seq_len: 40, ..Depth::new(edition, depth) }.config()
    };
    let july = base(Edition::July2026, 3, &[4, 7, 0]);
    let mut without = base(Edition::July2026, 4, &[5, 0, 3, 0]);
    without.nanochat.value_embeds = false;
    vec![
        ("july", july.clone()),
        ("july, five layers", base(Edition::July2026, 5, &[3, 3, 3, 0, 0])),
        ("july, no groups", GptConfig { n_kv_head: 6, ..base(Edition::July2026, 3, &[9, 0, 0]) }),
        ("july, no value embeddings", without),
        ("february", base(Edition::February2026, 2, &[6, 0])),
        ("february, one layer", base(Edition::February2026, 1, &[0])),
        ("july, tables as large as the vocabulary", GptConfig { vocab_size: 64, ..july }),
    ]
}

const ODD: usize = 11;

/// Values that differ from those at the beginning, so that every gradient is one.
fn values(c: &GptConfig) -> Vec<f32> {
    let mut values = initialise(c, 5);
    let layout = Layout::new(c);
    for param in layout.params() {
        let strength = match param.port {
            "resid_lambda" | "x0_lambda" | "smear_lambda" | "backout_lambda" => 0.2,
            "smear_gate" | "value_gate" => 0.4,
            "classifier" => 0.5,
            _ => 0.15,
        };
        for (i, value) in values[param.range()].iter_mut().enumerate() {
            *value += strength * ((i * 37 + param.offset) as f32 * 0.731).sin();
        }
    }
    values
}

fn odd_batch(c: &GptConfig) -> [Vec<u32>; 2] {
    let token = |i: usize, step: usize| ((i * step + i * i / 3) % c.vocab_size) as u32;
    [7, 5].map(|step| (0..3 * ODD).map(|i| token(i, step)).collect())
}

/// Not even; some targets are not learned.
fn odd_weights() -> Vec<f64> {
    (0..3 * ODD).map(|i| [0.05, 0.0, 0.1, -0.025][i % 4]).collect()
}

/// The derivatives of the formulas are their differences: 1e-5 wide, which leaves errors of second order and
/// 1e-11 of rounding over 1e-5.
#[test]
fn gradients_of_the_formulas_are_their_differences() {
    for (name, c) in variants() {
        let (w, weights) = (tensors(&c, &values(&c)), &odd_weights()[..ODD]);
        let batch = odd_batch(&c).map(|tokens| tokens[..ODD].to_vec());
        let (_, _, g) = expected(&c, w.clone(), &batch, weights, ODD);
        for (tensor, g) in &g {
            let largest = g.iter().fold(0.0, |m: f64, g| m.max(g.abs()));
            let stride = g.len().div_ceil(4);
            let peak = g.iter().position(|g| g.abs() == largest).unwrap();
            for i in (0..g.len()).step_by(stride).chain([peak]) {
                let side = |h: f64| {
                    let mut w = w.clone();
                    w.get_mut(tensor).unwrap()[i] += h;
                    expected(&c, w, &batch, weights, ODD).1
                };
                let want = (side(1e-5) - side(-1e-5)) / 2e-5;
                assert!((g[i] - want).abs() < 1e-5 * largest, "{name}: {tensor}[{i}] {want}");
            }
        }
    }
}

/// As for the other families: some hundred roundings of 6e-8 each, and sums over tokens of either sign.
#[test]
fn f32_agrees_with_the_formulas() {
    for (name, c) in variants() {
        let (values, batch, weights) = (values(&c), odd_batch(&c), odd_weights());
        let (_, loss, want) = expected(&c, tensors(&c, &values), &batch, &weights, ODD);
        for plan in [&BASELINE, &FUSED] {
            let how = (plan, Numerics::F32, 1.0);
            let (got_loss, got) = trained(how, &c, &values, &batch, &weights, ODD);
            assert!((got_loss - loss).abs() < 1e-5 * loss.abs(), "{name}: {got_loss} {loss}");
            compare(name, &got, &want, 1e-5);
        }
    }
}

/// As for the other families (`families.rs`), with the roundings of the norms of queries and keys: some 80
/// forward in these layers and as many backward, √160·2^-12 = 3.1e-3 if they are independent, and four times
/// that for sums over tokens whose weights differ in sign.
#[test]
fn fast_agrees_within_binary16() {
    for (name, c) in variants() {
        let (values, batch, weights) = (values(&c), odd_batch(&c), odd_weights());
        let (_, loss, want) = expected(&c, tensors(&c, &values), &batch, &weights, ODD);
        let how = (&BASELINE, Numerics::Fast, 256.0);
        let (got_loss, got) = trained(how, &c, &values, &batch, &weights, ODD);
        assert!((got_loss - loss).abs() < 1.2e-3 * loss.abs(), "{name}: {got_loss} {loss}");
        for (tensor, want) in &want {
            let errors: Vec<f64> = got[tensor].iter().zip(want).map(|(g, w)| g - w).collect();
            let error = norm(&errors) / norm(want);
            assert!(error < 1.2e-2, "{name}: {tensor} {error:e}");
        }
    }
}

/// A sum over micro-batches, rows beyond the vocabulary among them.
#[test]
fn later_micro_batches_are_added() {
    let (_, c) = variants().remove(0);
    let ([inputs, targets], values) = (odd_batch(&c), values(&c));
    let device = Emulator::cpu(Numerics::F32);
    let parameters = Parameters::new(&c, values.clone());
    let mut model = Model::new(&BASELINE, &parameters, 3, ODD, &device, Numerics::F32).unwrap();
    let mut run = |micro_batch, grads: &mut [f32]| {
        let even = TokenWeights::Even(0.1);
        model.loss_and_grads(&inputs, &targets, even, micro_batch, grads).unwrap();
    };
    let (mut once, mut twice) = (vec![f32::NAN; values.len()], vec![f32::NAN; values.len()]);
    run(MicroBatch::First, &mut once);
    run(MicroBatch::First, &mut twice);
    assert!(once.iter().zip(&twice).all(|(a, b)| a.to_bits() == b.to_bits()));
    run(MicroBatch::Later, &mut twice);
    for param in parameters.layout().params() {
        let [once, twice] = [&once, &twice].map(|grads| &grads[param.range()]);
        let largest = once.iter().fold(0.0, |m: f32, g| m.max(g.abs()));
        let near = |(a, b): (&f32, &f32)| (2.0 * a - b).abs() <= 1e-5 * largest;
        assert!(once.iter().zip(twice).all(near), "{}", param.name);
    }
}

/// Chunks of any size, one token at a time among them: a token is smeared with the one before it, which may
/// have been read earlier.
#[test]
fn decoding_gives_the_logits_of_the_formulas() {
    for (name, c) in variants() {
        let (values, [tokens, targets]) = (values(&c), odd_batch(&c));
        let (tokens, targets) = (&tokens[..30], &targets[..30]);
        let mut reference = Reference::new(&c, tensors(&c, &values));
        let (want, _) = reference.sequence(tokens, targets, &[0.0; 30]);
        let parameters = Parameters::new(&c, values);
        let device = Emulator::cpu(Numerics::F32);
        for chunk in [1, 4] {
            let mut decoder = Decoder::new(&parameters, chunk, &device, Numerics::F32).unwrap();
            for text in 0..2 {
                for (i, tokens) in tokens.chunks(3).enumerate() {
                    let got = decoder.feed(tokens).unwrap();
                    let gap = gap(&got, &want[3 * i + 2]);
                    assert!(gap < 1e-5, "{name}, chunk {chunk}, text {text}, tokens {i}: {gap:e}");
                }
                decoder.reset();
            }
        }
    }
}

/// The norm of the difference, by that of what is wanted.
fn relative_gap(got: &[f32], want: &[f64]) -> f64 {
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let mut off = got.iter().zip(want).map(|(got, want)| f64::from(*got) - want);
    norm(&mut off) / norm(&mut want.iter().copied())
}

/// Two texts alone and together, in passes of several sizes, cut and copied; f16 and int8 are held against
/// the formulas over the rounded weights. With int8, each product also rounds its columns, as in `families.rs`: the
/// 21 products of five layers and the head add up to √21·4.8e-3 = 2.2e-2. Half of the columns stay within it: random
/// weights leave some keys in balance, of which little makes attention choose another.
#[test]
fn slots_give_the_logits_of_the_formulas() {
    for ((name, c), format) in
        variants().into_iter().flat_map(|variant| WeightFormat::ALL.map(|f| (variant.clone(), f)))
    {
        let parameters = Parameters::new(&c, values(&c));
        let mut rounded = parameters.read().clone();
        for param in parameters.layout().params() {
            if let [rows, columns] = param.shape[..] {
                let matrix = Matrix::new(format, rows, &parameters.read()[param.range()]);
                let at = |i: usize| matrix.get(i / columns, i % columns);
                rounded[param.range()].iter_mut().enumerate().for_each(|(i, w)| *w = at(i));
            }
        }
        let mut reference = Reference::new(&c, tensors(&c, &rounded));
        let [first, second] = odd_batch(&c).map(|tokens| tokens[..24].to_vec());
        let mixed = [&first[..7], &second[7..]].concat();
        let mut gaps = vec![];
        let mut check = |what: &str, text: &[u32], from: usize, got: &[f32]| {
            let (want, _) = reference.sequence(text, text, &vec![0.0; text.len()]);
            for (i, got) in got.chunks(c.vocab_size).enumerate() {
                if format == WeightFormat::Int8 {
                    gaps.push(relative_gap(got, &want[from + i]));
                    continue;
                }
                let gap = gap(got, &want[from + i]);
                assert!(gap < 2e-5, "{name}, {format:?}, {what}, token {}: {gap:e}", from + i);
            }
        };
        let columns = |slot: usize, tokens: &[u32]| -> Vec<Column> {
            tokens.iter().map(|&token| Column { slot, token, logits: true }).collect()
        };
        let options = SlotOptions { slots: 3, context: 40, weights: format };
        let mut decoder = SlotDecoder::new(&parameters, options).unwrap();
        for (a, b) in [(0..5, 0..1), (5..6, 1..2), (6..24, 2..24)] {
            let (a_columns, b_columns) = (&first[a.clone()], &second[b.clone()]);
            let pass = [columns(0, a_columns), columns(1, b_columns)].concat();
            let got = decoder.forward(&pass).unwrap();
            let (of_first, of_second) = got.split_at(a.len() * c.vocab_size);
            check("first", &first, a.start, of_first);
            check("second", &second, b.start, of_second);
        }
        decoder.copy(0, 2, 7);
        check("copied", &mixed, 7, decoder.forward(&columns(2, &mixed[7..])).unwrap());
        decoder.truncate(0, 7);
        check("cut", &mixed, 7, decoder.forward(&columns(0, &mixed[7..])).unwrap());
        decoder.truncate(0, 0);
        check("anew", &second, 0, decoder.forward(&columns(0, &second)).unwrap());
        gaps.sort_by(f64::total_cmp);
        let half = gaps.get(gaps.len() / 2).is_none_or(|gap| *gap < 2.2e-2);
        assert!(half, "{name}: {gaps:?}");
    }
}

/// Both projections to the stream begin with 0, so that a token's logits depend on its embedding alone, and
/// what lies before these projections has no gradient.
#[test]
fn a_new_model_looks_at_the_last_token_alone() {
    let c = golden();
    let values = initialise(&c, 3);
    let ([inputs, targets], weights) = (golden_batch(), golden_weights());
    let how = (&BASELINE, Numerics::F32, 1.0);
    let (loss, g) = trained(how, &c, &values, &[inputs.clone(), targets], &weights, SEQ);
    assert!((loss - 50f64.ln()).abs() < 1e-2, "{loss}");
    for (name, g) in &g {
        let still = ["c_q", "c_k", "c_v", "c_fc", "ve_gate", "value_embeds", "smear_gate"];
        let still = still.iter().any(|part| name.contains(part));
        assert!(g.iter().all(|&g| g == 0.0) == still, "{name}");
    }
    let parameters = Parameters::new(&c, values);
    let device = Emulator::cpu(Numerics::F32);
    let mut decoder = Decoder::new(&parameters, 4, &device, Numerics::F32).unwrap();
    let after = decoder.feed(&inputs[..7]).unwrap();
    decoder.reset();
    let alone = decoder.feed(&inputs[6..7]).unwrap();
    let alone: Vec<f64> = alone.into_iter().map(f64::from).collect();
    assert!(gap(&after, &alone) < 1e-7);
}
