//! Ten steps of training beside nanochat's own: model and optimizer together.

#[path = "../../gpt/tests/nanochat/golden.rs"]
mod golden;
#[path = "../../gpt/tests/nanochat/reference.rs"]
mod reference;
mod twin;

use ane::Emulator;
use chip::Profile;
use cpu::Numerics;
use golden::{SEQ, arena, golden, golden_batch, golden_weights, waves};
use gpt::params::Stored;
use gpt::plan::BASELINE;
use gpt::{Edition, Group, Layout, MicroBatch, Model, TokenWeights};
use reference::{Reference, Tensors};
use std::collections::BTreeMap;
use train::{
    Decay, Fade, LrSchedule, Momentum, Muon, OptimizerConfig, Recipe, RunConfig, Solo, Trainer,
};
use twin::{Matrix, Twin};

/// Losses before the first step and after each, in float64, by nanochat's own formulas.
const LOSSES: [f64; 11] = [
    5.384896, 5.020274, 4.548436, 4.148696, 3.815468, 3.594212, 3.447078, 3.357374, 3.179379,
    3.036102, 2.900280,
];
const STEPS: u64 = 10;

/// Rate, betas and weight decay of a group's AdamW at the width of 32.
fn adamw(group: Group) -> [f64; 4] {
    let table = (32.0f64 / 768.0).powf(-0.5);
    match group {
        Group::Classifier => [0.008 * table, 0.8, 0.96, 0.01],
        Group::Embedding => [0.3 * table, 0.8, 0.995, 0.001],
        Group::ValueEmbedding => [0.15 * table, 0.8, 0.995, 0.01],
        Group::ResidualScale => [0.005, 0.8, 0.95, 0.05],
        Group::SkipScale => [0.5, 0.96, 0.95, 0.0],
        Group::Smear => [0.2, 0.8, 0.95, 0.0],
        Group::Matrix | Group::Vector => unreachable!("AdamW has none"),
    }
}

/// A parameter with its optimizer, in f64.
enum Own {
    Muon(Twin),
    AdamW { w: Vec<f64>, m: Vec<f64>, v: Vec<f64>, settings: [f64; 4] },
}

impl Own {
    fn new(layout: &Layout, tensor: &Stored, w: Vec<f64>) -> Own {
        let group = layout.params()[tensor.parts[0]].group;
        match (group, &tensor.shape[..]) {
            (Group::Matrix, &[rows, columns]) => {
                Own::Muon(Twin::new(Matrix { rows, columns, values: w }))
            }
            _ => {
                let zeros = vec![0.0; w.len()];
                Own::AdamW { w, m: zeros.clone(), v: zeros, settings: adamw(group) }
            }
        }
    }

    fn values(&self) -> &[f64] {
        match self {
            Own::Muon(twin) => &twin.w.values,
            Own::AdamW { w, .. } => w,
        }
    }

    /// The update of step `it`, from 0.
    fn step(&mut self, g: &[f64], it: u64) {
        let done = it as f64;
        let share = 0.1 * ((done + 1.0) / 4.0).min(1.0);
        match self {
            Own::Muon(twin) => {
                let Matrix { rows, columns, .. } = twin.w;
                let g = Matrix { rows, columns, values: g.to_vec() };
                let decay = 0.28 * 0.5 * (1.0 + (std::f64::consts::PI * done / STEPS as f64).cos());
                twin.step(&g, [0.85 + 0.012 * done, 0.02 * share, 0.9, decay]);
            }
            Own::AdamW { w, m, v, settings: [lr, b1, b2, wd] } => {
                let (lr, t) = (*lr * share, done as i32 + 1);
                for (i, g) in g.iter().enumerate() {
                    w[i] *= 1.0 - lr * *wd;
                    m[i] += (1.0 - *b1) * (g - m[i]);
                    v[i] += (1.0 - *b2) * (g * g - v[i]);
                    let (mean, square) = (m[i] / (1.0 - b1.powi(t)), v[i] / (1.0 - b2.powi(t)));
                    w[i] -= lr * mean / (square.sqrt() + 1e-10);
                }
            }
        }
    }
}

/// Loss and gradients in f64.
fn exact(w: Tensors) -> (f64, Tensors) {
    let ([inputs, targets], weights) = (golden_batch(), golden_weights());
    let mut reference = Reference::new(&golden(), w);
    let sequences = inputs.chunks(SEQ).zip(targets.chunks(SEQ)).zip(weights.chunks(SEQ));
    let loss = sequences
        .map(|((tokens, targets), weights)| reference.sequence(tokens, targets, weights).1)
        .sum();
    (loss, reference.g)
}

/// The whole run in f64 gives the recorded losses, to the digits that are recorded.
#[test]
fn the_formulas_follow_nanochat() {
    let layout = Layout::new(&golden());
    let mut w = waves(&golden());
    let mut own: BTreeMap<String, Own> = layout
        .tensors()
        .iter()
        .map(|t| (t.name.clone(), Own::new(&layout, t, w.remove(&t.name).unwrap())))
        .collect();
    for (it, want) in (0..).zip(LOSSES) {
        let w = own.iter().map(|(name, own)| (name.clone(), own.values().to_vec())).collect();
        let (loss, g) = exact(w);
        assert!((loss - want).abs() < 1e-6, "step {it}: {loss} {want}");
        own.iter_mut().for_each(|(name, own)| own.step(&g[name], it));
    }
}

/// The settings of the recorded run.
fn settings() -> RunConfig {
    let (model, recipe) = (golden(), Recipe::of(Edition::July2026));
    // 0.85 + 0.012 per step.
    let momentum = Momentum::Trapezoid { first: 0.85, peak: 0.97, last: 0.97, rise: STEPS };
    let muon = Muon { momentum, fade: Fade::Cosine, ..recipe.muon };
    let multipliers = recipe.multipliers(model.n_embd, 1.0);
    let schedule = LrSchedule::cosine(0.1 * train::recipe::MATRIX_RATE, 1.0, 4, STEPS);
    RunConfig {
        model,
        optimizer: OptimizerConfig::Muon(muon),
        schedule: LrSchedule { decay: Decay::Constant, multipliers, ..schedule },
        batch: 2,
        accum: 1,
        seq: SEQ,
        clip: 0.0,
        seed: 1,
        plan: &BASELINE,
        dial: None,
    }
}

/// The losses of a run on a device.
fn losses(numerics: Numerics) -> Vec<f64> {
    let (config, device) = (settings(), Emulator::engine(Profile::default(), numerics));
    let params = arena(&config.model, &waves(&config.model));
    let mut scratch = vec![0.0; params.len()];
    let optimizer = config.optimizer.build();
    let mut trainer =
        Trainer::new(&config, params, optimizer, &device, numerics, Box::new(Solo)).unwrap();
    let shared = trainer.model().parameters().clone();
    let mut probe = Model::new(&BASELINE, &shared, 2, SEQ, &device, numerics).unwrap();
    let ([inputs, targets], weights) = (golden_batch(), golden_weights());
    let each: Vec<f32> = weights.iter().map(|&weight| weight as f32).collect();
    let each = TokenWeights::Each(&each);
    let mut loss = || {
        let first = MicroBatch::First;
        let all = probe.loss_and_grads(&inputs, &targets, each, first, &mut scratch).unwrap();
        all.iter().zip(&weights).map(|(loss, weight)| loss * weight).sum()
    };
    let mut found: Vec<f64> = vec![loss()];
    for _ in 0..STEPS {
        trainer.accumulate(&inputs, &targets, each).unwrap();
        assert!(!trainer.apply().unwrap().skipped);
        found.push(loss());
    }
    found
}

/// In f32 the first four steps stay within a hundred-thousandth. Later, AdamW makes whole steps of what
/// rounding leaves of gradients near zero: nanochat's own code in f32 is up to 4e-4 off after ten.
#[test]
fn ten_steps_in_f32_are_nanochats() {
    for (step, (got, want)) in losses(Numerics::F32).into_iter().zip(LOSSES).enumerate() {
        let bound = if step <= 4 { 1e-5 } else { 1e-3 };
        let error = (got / want - 1.0).abs();
        assert!(error < bound, "after step {step}: {got} {want}, {error:e}");
    }
}

/// In binary16 a loss is off by up to 1.2e-3 of itself and a gradient by e = 1.2e-2 of its norm
/// (`fast_agrees_within_binary16` of `gpt`). AdamW's first update follows the sign of each element: those smaller
/// than their error may go the wrong way, which loses twice their share of the decrease, at most 2e in all. Muon
/// makes all singular values alike: those below e of the largest are noise, and add no more than e each to a
/// decrease that is the sum of all. Four times e of what the loss has fallen bounds both.
#[test]
fn ten_steps_in_binary16_stay_near() {
    for (step, (got, want)) in losses(Numerics::Fast).into_iter().zip(LOSSES).enumerate() {
        let bound = 1.2e-3 * want + 4.0 * 1.2e-2 * (LOSSES[0] - want);
        assert!((got - want).abs() < bound, "after step {step}: {got} {want}");
    }
}
