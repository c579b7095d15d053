//! The trainer beside an independent loop: AdamW, clipping, loss scale, schedule and counts in f64,
//! with gradients of one pass over all micro-batches at once. Every field of every step event is
//! compared.

mod common;

use ane::faults::{Faults, Faulty};
use ane::{Device, Emulator};
use chip::Profile;
use common::{Around, NOTHING, SEQ, finish, loader, to_end};
use cpu::Numerics;
use cpu::blas::{Sgemm, Stored};
use data::loader::{Batch, Loader, LoaderConfig};
use gpt::plan::BASELINE;
use gpt::{
    GptConfig, Layout, MicroBatch, Model, ModelError, Parameters, TokenWeights, initialise, mean,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use train::evaluate::{Windows, token_losses};
use train::{
    AdamW, Checkpoint, Event, Intervals, LrSchedule, OptimizerConfig, Run, RunConfig, StepReport,
    Stop, TrainError, run::saved,
};

const STEPS: u64 = 9;

fn model() -> GptConfig {
    common::model(2, false)
}

/// ε is of the size of the gradients, so that updates depend on their scale.
fn settings(batch: usize, accum: usize, clip: f64) -> RunConfig {
    RunConfig {
        model: model(),
        optimizer: OptimizerConfig::AdamW(AdamW {
            beta1: 0.8,
            beta2: 0.9,
            epsilon: 1e-2,
            weight_decay: 0.2,
        }),
        schedule: LrSchedule::cosine(0.05, 0.1, 3, STEPS),
        batch,
        accum,
        seq: SEQ,
        clip,
        seed: 5,
        plan: &gpt::plan::BASELINE,
        dial: None,
    }
}

/// Weights of order one, and gains away from 1.
fn weights() -> Vec<f32> {
    let mut values = initialise(&model(), 3);
    for param in Layout::new(&model()).params() {
        let part = &mut values[param.range()];
        match param.decays() {
            true => part.iter_mut().for_each(|w| *w *= 8.0),
            false => part.iter_mut().enumerate().for_each(|(i, w)| *w = 0.5 + (i % 5) as f32 / 4.0),
        }
    }
    values
}

/// The rate of `step` (from 0) in words: up in equal parts to 0.05 over three steps, then half a
/// cosine down to a tenth of it at the last step.
fn rate(step: u64) -> f64 {
    match step {
        0..3 => 0.05 * (step as f64 + 1.0) / 3.0,
        _ => {
            let half_turns = (step - 3) as f64 / (STEPS - 1 - 3) as f64;
            0.05 * (0.55 + 0.45 * (std::f64::consts::PI * half_turns).cos())
        }
    }
}

/// The report that a step must give.
#[derive(Debug)]
struct Expected {
    loss: f64,
    grad_norm: f64,
    scale: f64,
    skipped: bool,
    val_loss: f64,
}

/// The loop in f64.
struct Twin {
    config: RunConfig,
    /// For all sequences of a step at once.
    model: Model,
    /// For batches of the trainer's size, as the validation loss depends on them.
    small: Model,
    loader: Loader,
    w: Vec<f64>,
    m: Vec<f64>,
    v: Vec<f64>,
    updates: i32,
    scale: f64,
}

impl Twin {
    fn new(config: &RunConfig, params: &[f32], numerics: Numerics) -> Self {
        let device = Emulator::engine(Profile::default(), numerics);
        let parameters = Parameters::new(&config.model, params.to_vec());
        let compiled =
            |batch| Model::new(&BASELINE, &parameters, batch, SEQ, &device, numerics).unwrap();
        Twin {
            model: compiled(config.batch * config.accum),
            small: compiled(config.batch),
            config: config.clone(),
            loader: loader(),
            w: params.iter().map(|&w| f64::from(w)).collect(),
            m: vec![0.0; params.len()],
            v: vec![0.0; params.len()],
            updates: 0,
            scale: if numerics == Numerics::F32 { 1.0 } else { 4096.0 },
        }
    }

    /// One step; `fails` where the device is made to spoil a gradient.
    fn step(&mut self, step: u64, fails: bool) -> Expected {
        self.write_weights();
        let rows = self.config.batch * self.config.accum;
        let Batch { inputs, targets, .. } = self.loader.next_batch(rows);
        let mut grads = vec![0.0f32; self.w.len()];
        let weight = TokenWeights::Even((self.scale / (rows * SEQ) as f64) as f32);
        let losses = (self.model)
            .loss_and_grads(&inputs, &targets, weight, MicroBatch::First, &mut grads)
            .unwrap();
        let loss = mean(losses);
        let scale = self.scale;
        let g: Vec<f64> = grads.iter().map(|&g| f64::from(g) / scale).collect();
        let grad_norm = g.iter().map(|g| g * g).sum::<f64>().sqrt();
        let skipped = fails || !grad_norm.is_finite();
        if skipped {
            self.scale = (scale / 2.0).max(1.0);
        } else {
            self.update(rate(step), &g, grad_norm);
        }
        Expected { loss, grad_norm, scale, skipped, val_loss: self.validation() }
    }

    /// Both models compute with these.
    fn write_weights(&self) {
        self.model.parameters().update(|values| {
            values.iter_mut().zip(&self.w).for_each(|(value, &w)| *value = w as f32);
        });
    }

    fn update(&mut self, lr: f64, g: &[f64], norm: f64) {
        let clip = self.config.clip;
        let shrink = if clip > 0.0 { (clip / norm).min(1.0) } else { 1.0 };
        self.updates += 1;
        let correction = |beta: f64| 1.0 - beta.powi(self.updates);
        for param in Layout::new(&self.config.model).params() {
            let decay = if param.name.contains("norm") { 0.0 } else { 0.2 };
            for i in param.range() {
                let g = g[i] * shrink;
                self.m[i] = 0.8 * self.m[i] + 0.2 * g;
                self.v[i] = 0.9 * self.v[i] + 0.1 * g * g;
                let (m, v) = (self.m[i] / correction(0.8), self.v[i] / correction(0.9));
                self.w[i] -= lr * (m / (v.sqrt() + 1e-2) + decay * self.w[i]);
            }
        }
    }

    fn validation(&mut self) -> f64 {
        self.write_weights();
        let batches = self.loader.validation_batches(self.config.batch, 2);
        let total: f64 =
            (batches.iter()).map(|b| self.small.loss(&b.inputs, &b.targets).unwrap()).sum();
        total / batches.len() as f64
    }
}

/// A device that spoils one value of its `run`-th request (from 1).
fn spoiling(run: u64) -> Box<dyn Device> {
    let device = Emulator::engine(Profile::default(), Numerics::F32);
    Box::new(Faulty::new(Box::new(device), Faults::parse(&format!("inf-at:{run}"), 1).unwrap()))
}

/// Events of a run of all steps, and its last weights.
fn run(
    config: &RunConfig,
    params: &[f32],
    device: &dyn Device,
    numerics: Numerics,
) -> (Vec<Event>, Vec<f32>) {
    let directory = tempfile::tempdir().unwrap();
    let intervals = Intervals { eval: 2, ..NOTHING };
    let mut trainer =
        Run::pretrain(config.clone(), params.to_vec(), loader(), device, numerics).unwrap();
    let events = finish(&mut trainer, device, directory.path(), intervals);
    let measured = |event: &Event| match event {
        Event::Eval { val_loss, .. } => Some(*val_loss),
        _ => None,
    };
    assert_eq!(trainer.val_loss(), events.iter().rev().find_map(measured));
    let weights = trainer.params().to_vec();
    (events, weights)
}

fn close(got: f64, want: f64, tolerance: f64) -> bool {
    (got - want).abs() <= tolerance * want.abs()
}

/// Compares a run with the twin, `tolerance` relative to losses, norms and the largest change of a
/// weight. Returns what was expected.
fn compare(
    config: &RunConfig,
    params: &[f32],
    device: &dyn Device,
    numerics: Numerics,
    tolerance: f64,
) -> Vec<Expected> {
    let (events, last) = run(config, params, device, numerics);
    let mut twin = Twin::new(config, params, numerics);
    let expected: Vec<Expected> = (0..STEPS).map(|step| twin.step(step, false)).collect();
    let steps: Vec<&Event> = events.iter().filter(|e| matches!(e, Event::Step { .. })).collect();
    assert_eq!(steps.len(), expected.len());
    for (i, (event, want)) in steps.iter().zip(&expected).enumerate() {
        compare_step(config, i as u64, event, want, tolerance);
    }
    compare_validation(&events, &expected, tolerance);
    compare_done(config, &events);
    compare_weights(&last, &twin, params, tolerance);
    expected
}

fn compare_step(config: &RunConfig, i: u64, event: &Event, want: &Expected, tolerance: f64) {
    let &Event::Step {
        step, loss, lr, tokens, ms, grad_norm, loss_scale, skipped, ref parts, ..
    } = event
    else {
        panic!("{event:?}");
    };
    assert_eq!(step, i + 1);
    assert_eq!(tokens, (i + 1) * (config.accum * config.batch * SEQ) as u64);
    compare_report(i, &StepReport { loss, lr, grad_norm, loss_scale, skipped }, want, tolerance);
    let names: Vec<&str> = parts.keys().map(String::as_str).collect();
    let all = ["data", "dw", "elementwise", "engine_bwd", "engine_fwd", "head", "io", "optimizer"];
    assert_eq!(names, all);
    // In milliseconds: were they seconds by a thousand, all would be less than a millionth of the step.
    assert!(parts.values().all(|&part| part > 1e-6 * ms), "{event:?}");
    assert!(parts.values().sum::<f64>() < ms, "{event:?}");
}

fn compare_report(step: u64, got: &StepReport, want: &Expected, tolerance: f64) {
    assert!(close(got.loss, want.loss, tolerance), "{got:?} {want:?}");
    assert!(close(got.lr, rate(step), 1e-12), "{got:?}: the rate is {}", rate(step));
    assert_eq!(got.skipped, want.skipped, "{got:?} {want:?}");
    match got.skipped {
        true => assert!(!got.grad_norm.is_finite(), "{got:?}"),
        false => assert!(close(got.grad_norm, want.grad_norm, tolerance), "{got:?} {want:?}"),
    }
    assert_eq!(f64::from(got.loss_scale), want.scale, "{got:?}");
}

fn compare_weights(got: &[f32], twin: &Twin, first: &[f32], tolerance: f64) {
    let change = twin.w.iter().zip(first).map(|(w, &first)| (w - f64::from(first)).abs());
    let largest = change.fold(0.0, f64::max);
    for (i, (&got, &want)) in got.iter().zip(&twin.w).enumerate() {
        assert!((f64::from(got) - want).abs() <= tolerance * largest, "weight {i}: {got} {want}");
    }
}

fn compare_validation(events: &[Event], expected: &[Expected], tolerance: f64) {
    let measured: Vec<(u64, f64)> = (events.iter())
        .filter_map(|event| match event {
            Event::Eval { step, val_loss, .. } if *step > 0 => Some((*step, *val_loss)),
            _ => None,
        })
        .collect();
    let steps: Vec<u64> = measured.iter().map(|m| m.0).collect();
    assert_eq!(steps, [2, 4, 6, 8, STEPS]);
    for (step, val_loss) in measured {
        let want = expected[step as usize - 1].val_loss;
        assert!(close(val_loss, want, tolerance), "step {step}: {val_loss} {want}");
    }
}

fn compare_done(config: &RunConfig, events: &[Event]) {
    let total: f64 =
        events.iter().map(|e| if let Event::Step { ms, .. } = e { *ms } else { 0.0 }).sum();
    let last_validation = events.iter().rev().find_map(|e| match e {
        Event::Eval { val_loss, .. } => Some(*val_loss),
        _ => None,
    });
    let Some(Event::Done { steps, val_loss, ms_per_step, tokens_per_s, .. }) = events.last() else {
        panic!("{:?}", events.last());
    };
    assert_eq!(*steps, STEPS);
    assert_eq!(*val_loss, last_validation);
    assert!(close(*ms_per_step, total / STEPS as f64, 1e-9), "{ms_per_step} {total}");
    let tokens = (STEPS as usize * config.accum * config.batch * SEQ) as f64;
    assert!(close(*tokens_per_s, 1e3 * tokens / total, 1e-9), "{tokens_per_s} {total}");
}

/// f32 sums in another order.
const REFERENCE: f64 = 2e-5;

#[test]
fn a_run_is_the_formulas() {
    let device = Emulator::engine(Profile::default(), Numerics::F32);
    for (batch, accum) in [(4, 1), (1, 4), (2, 2)] {
        // Without a limit, with one that is never reached, and with one that always is.
        for clip in [0.0, 1e3, 0.05] {
            let config = settings(batch, accum, clip);
            let steps = compare(&config, &weights(), &device, Numerics::F32, REFERENCE);
            assert!(steps.iter().all(|s| s.grad_norm > 0.1), "{steps:?}");
        }
    }
}

/// A micro-batch makes six requests a layer; the last of them gives a gradient that only the
/// embedding sees.
#[test]
fn a_spoilt_gradient_skips_the_update_and_is_not_counted() {
    let (config, params, requests) = (settings(2, 2, 0.5), weights(), 6 * 2);
    // The last request of the first micro-batch of the first step and of the third, and of the
    // second micro-batch of the fifth.
    for (run, failing) in [(requests, 0), (5 * requests, 2), (10 * requests, 4)] {
        let device = spoiling(run);
        let mut twin = Twin::new(&config, &params, Numerics::F32);
        let mut trainer =
            Run::pretrain(config.clone(), params.clone(), loader(), &*device, Numerics::F32)
                .unwrap();
        for step in 0..STEPS {
            let before = trainer.params().to_vec();
            let want = twin.step(step, step == failing);
            compare_report(step, &trainer.step().unwrap(), &want, REFERENCE);
            compare_weights(&trainer.params(), &twin, &params, REFERENCE);
            assert_eq!(*trainer.params() == before, step == failing, "step {step}");
        }
    }
}

/// Roundings of binary16 that fall to the other side.
const HALF: f64 = 5e-3;

#[test]
fn the_loss_scale_changes_neither_norm_nor_clipping() {
    let half = Emulator::engine(Profile::default(), Numerics::Fast);
    let full = Emulator::engine(Profile::default(), Numerics::F32);
    // Below the norms, above them though not above them times the scale.
    for clip in [0.05, 20.0] {
        let config = settings(2, 2, clip);
        let scaled = compare(&config, &weights(), &half, Numerics::Fast, HALF);
        let plain = compare(&config, &weights(), &full, Numerics::F32, REFERENCE);
        for (a, b) in scaled.iter().zip(&plain) {
            assert_eq!((a.scale, b.scale), (4096.0, 1.0));
            assert!(close(a.grad_norm, b.grad_norm, 1e-2), "{a:?} {b:?}");
        }
    }
}

/// A small residual stream under a large gain makes the last norm's gradient large: at the first
/// scales it does not fit into binary16.
#[test]
fn an_overflow_halves_the_scale_and_leaves_the_weights() {
    let mut params = weights();
    let layout = Layout::new(&model());
    for (port, factor) in [("embedding", 2e-3), ("rms", 16.0)] {
        let range = layout.find(port, None).unwrap().range();
        params[range].iter_mut().for_each(|w| *w *= factor);
    }
    let device = Emulator::engine(Profile::default(), Numerics::Fast);
    let steps = compare(&settings(2, 2, 0.5), &params, &device, Numerics::Fast, HALF);
    let good = steps.iter().position(|s| !s.skipped).unwrap();
    assert!(good > 0, "the first step overflows: {steps:?}");
    assert!(steps[good..].iter().any(|s| s.skipped), "one after an update too: {steps:?}");
    let skipped = steps.iter().filter(|s| s.skipped).count();
    let last = steps.last().unwrap();
    assert!(!last.skipped && last.scale == 4096.0 / f64::from(1 << skipped), "{steps:?}");
}

/// Windows side by side over what the validation set covers give the loss that training reports.
#[test]
fn evaluation_and_validation_agree() {
    let config = settings(3, 1, 0.0);
    let validation: Vec<u32> = (0..203u32).map(|i| (i * i / 5 + i / 2) % 40).collect();
    let train: Vec<u32> = (0..400u32).map(|i| i % 40).collect();
    let settings = LoaderConfig::new(SEQ, 5);
    let loader =
        Loader::with_validation(train.into(), validation.clone().into(), settings).unwrap();
    let device = Emulator::cpu(Numerics::F32);
    let mut trainer = Run::pretrain(config, weights(), loader, &device, Numerics::F32).unwrap();
    let reported = trainer.evaluate(1000).unwrap();
    // 203 tokens are 25 whole windows: 8 batches of 3.
    let windows = Windows { seq: SEQ, stride: SEQ };
    let losses = |tokens: &[u32], batch: usize, windows: Windows| {
        let parameters = Parameters::new(&model(), weights());
        let mut compiled =
            Model::new(&BASELINE, &parameters, batch, windows.seq, &device, Numerics::F32).unwrap();
        let mut losses = vec![];
        let each = |place, loss| {
            assert_eq!(place, losses.len() + 1, "in order");
            losses.push(loss);
            Ok::<(), ModelError>(())
        };
        token_losses(&mut compiled, tokens, windows, 0, each).unwrap();
        // Going on after any number of tokens gives the same losses.
        for done in [1, 7, losses.len() / 2, losses.len()] {
            let mut rest = vec![];
            let each = |place, loss| {
                assert_eq!(place, done + rest.len() + 1, "in order");
                rest.push(loss);
                Ok::<(), ModelError>(())
            };
            token_losses(&mut compiled, tokens, windows, done, each).unwrap();
            assert_eq!(rest, losses[done..], "after {done}");
        }
        losses
    };
    let all = losses(&validation, 4, windows);
    assert_eq!(all.len(), 202, "the rest of a window too");
    // Which of the 25 windows the 24 rows are: evenly spread, as the loader says.
    let rows = (0..24).map(|row| row * 25 / 24);
    let mean = rows.map(|w| all[w * SEQ..][..SEQ].iter().sum::<f64>()).sum::<f64>() / 192.0;
    assert!((mean - reported).abs() < 1e-9, "{mean} {reported}");
    assert_eq!(all, losses(&validation, 1, windows), "however many windows are read at once");
    // With a stride, a window's last tokens see what they see alone.
    let strided = losses(&validation[..20], 2, Windows { seq: SEQ, stride: 3 });
    let alone = losses(&validation[3..12], 1, windows);
    assert_eq!(strided[8..11], alone[5..]);
}

/// Checkpoints are written while the next step runs: each must be of its own step.
#[test]
fn every_checkpoint_goes_on_to_the_same_bits() {
    let directory = tempfile::tempdir().unwrap();
    let device = Emulator::engine(Profile::default(), Numerics::Fast);
    let config = settings(2, 2, 0.5);
    let intervals = Intervals { checkpoint: 2, eval_batches: 1, keep: 9, ..NOTHING };
    let trainer =
        || Run::pretrain(config.clone(), weights(), loader(), &device, Numerics::Fast).unwrap();
    let (mut whole, mut written, mut reports) = (trainer(), vec![], vec![]);
    let listen = |event: &Event| match event {
        Event::Checkpoint { step, path, ms, .. } => {
            assert!(*ms > 0.0);
            written.push((*step, path.clone()));
        }
        Event::Step { loss, grad_norm, .. } => reports.push((*loss, *grad_norm)),
        _ => {}
    };
    let stop = Stop::default();
    let around = Around { intervals, prompt: "a", stop: &stop, hooks: vec![] };
    to_end(&mut whole, &device, directory.path(), around, listen).unwrap();
    let out = common::output(&config.model, directory.path());
    let text = &out.texts.iter().find(|text| text.0 == "tokenizer.json").unwrap().1;
    let steps: Vec<u64> = written.iter().map(|w| w.0).collect();
    assert_eq!(steps, [2, 4, 6, 8, STEPS]);
    for (step, path) in written {
        let checkpoint = Checkpoint::open(&path).unwrap();
        assert_eq!(checkpoint.step(), step);
        assert_eq!(checkpoint.read_text("tokenizer.json").unwrap(), *text);
        let saved = saved(&checkpoint).unwrap();
        assert_eq!(saved, (config.clone(), out.extra.clone()));
        let mut later = trainer();
        later.resume(&checkpoint).unwrap();
        assert_eq!(later.step_count(), step);
        for (loss, grad_norm) in &reports[step as usize..] {
            let report = later.step().unwrap();
            assert_eq!((report.loss, report.grad_norm), (*loss, *grad_norm));
        }
        assert!(*later.params() == *whole.params(), "from step {step}");
    }
}

#[test]
fn thirty_steps_without_a_finite_gradient_are_a_diverged_run() {
    let device = Emulator::engine(Profile::default(), Numerics::Fast);
    let mut params = weights();
    // A row of the classifier.
    *params.last_mut().unwrap() = f32::NAN;
    let config = settings(2, 1, 0.5);
    let mut trainer = Run::pretrain(config, params, loader(), &device, Numerics::Fast).unwrap();
    for step in 0..29 {
        let report = trainer.step().unwrap();
        assert!(report.skipped, "step {step}");
        // Halved each time, down to 1.
        assert_eq!(report.loss_scale, (4096.0 / 2f32.powi(step)).max(1.0));
    }
    assert!(matches!(trainer.step(), Err(TrainError::Diverged(30))));
    assert_eq!(trainer.step_count(), 30);
}

/// Products by definition, counted.
#[derive(Debug, Default)]
struct Counted(AtomicUsize);

impl Sgemm for Counted {
    fn name(&self) -> &'static str {
        "counted"
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
                let sum: f32 = (0..k).map(|p| a.at(i, p) * b.at(p, j)).sum();
                let to = &mut c[i * stride + j];
                *to = if accumulate { *to + sum } else { sum };
            }
        }
    }
}

#[test]
fn a_library_multiplies_until_it_is_taken_away() {
    let config = settings(2, 2, 0.5);
    let device = Emulator::engine(Profile::default(), Numerics::F32);
    let trainer =
        || Run::pretrain(config.clone(), weights(), loader(), &device, Numerics::F32).unwrap();
    let (mut own, mut other) = (trainer(), trainer());
    let library = Arc::new(Counted::default());
    let counted: Arc<dyn Sgemm> = library.clone();
    other.trainer_mut().multiply_with(Some(&counted));
    let (want, got) = (own.step().unwrap(), other.step().unwrap());
    assert!(
        close(got.loss, want.loss, REFERENCE) && close(got.grad_norm, want.grad_norm, REFERENCE)
    );
    let products = library.0.load(Ordering::Relaxed);
    assert!(products > 0);
    other.trainer_mut().multiply_with(None);
    other.step().unwrap();
    assert_eq!(library.0.load(Ordering::Relaxed), products);
}
