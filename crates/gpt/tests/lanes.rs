//! Engine and host side by side: the same bits as in turn, with steps of both lanes at the same time.

use ane::{
    AneError, Device, Emulator, Executable, Faults, Faulty, Paced, Packed, Port, RunReport, Surface,
};
use chip::Profile;
use cpu::Numerics;
use gpt::block::Memory;
use gpt::plan::TimedStep;
use gpt::plan::{BASELINE, GRADIENTS, LAYERS, Lanes, OFFLOAD, PLANS, Part, Plan, Schedule, Step};
use gpt::{
    Deferred, Dims, Done, GptConfig, Layout, MicroBatch, Model, ModelError, Parameters,
    TokenWeights, initialise,
};
use mil::{DType, Program, Weights};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn small(preset: &str) -> GptConfig {
    GptConfig { vocab_size: 50, seq_len: 16, n_layer: 3, ..GptConfig::preset(preset).unwrap() }
}

fn emulator(numerics: Numerics) -> Box<dyn Device> {
    Box::new(Emulator::engine(Profile::default(), numerics))
}

fn model(plan: &Plan, config: &GptConfig, device: &dyn Device, numerics: Numerics) -> Model {
    let parameters = Parameters::new(config, initialise(config, 5));
    Model::new(plan, &parameters, 2, 16, device, numerics).unwrap()
}

/// Losses of two micro-batches and the sum of their gradients.
fn trained(model: &mut Model) -> Result<(Vec<f64>, Vec<f32>), ModelError> {
    let tokens: Vec<u32> = (0..=64).map(|n| n * 7 % 50).collect();
    let (mut losses, mut grads) = (vec![], vec![0.0; model.layout().count()]);
    for (n, micro_batch) in [MicroBatch::First, MicroBatch::Later].into_iter().enumerate() {
        let (inputs, targets) = (&tokens[32 * n..][..32], &tokens[32 * n + 1..][..32]);
        let weights = TokenWeights::Even(1.0);
        let of = model.loss_and_grads(inputs, targets, weights, micro_batch, &mut grads)?;
        losses.extend_from_slice(of);
    }
    Ok((losses, grads))
}

fn bits(grads: &[f32]) -> Vec<u32> {
    grads.iter().map(|g| g.to_bits()).collect()
}

#[test]
fn side_by_side_gives_the_bits_of_in_turn() {
    for preset in ["tiny", "gpt2-tiny", "nanochat-d6"] {
        let mut config = small(preset);
        if preset == "nanochat-d6" {
            (config.n_embd, config.hidden, config.head_dim) = (48, 96, 8);
            config.windows.truncate(config.n_layer);
        }
        for numerics in [Numerics::F32, Numerics::Fast] {
            // Value embeddings are not for every plan.
            let fits = |plan: &&&Plan| ![&OFFLOAD, &GRADIENTS, &LAYERS].contains(*plan);
            for plan in PLANS.iter().filter(|plan| preset != "nanochat-d6" || fits(plan)) {
                let of = |device: &dyn Device| {
                    let (losses, grads) =
                        trained(&mut model(plan, &config, device, numerics)).unwrap();
                    (losses, bits(&grads))
                };
                let in_turn = of(&*emulator(numerics));
                assert!(in_turn.1.iter().any(|&g| g != 0), "{preset}");
                // Slow requests, quick ones, and those with one surface in and one out.
                let devices = [
                    Paced::new(emulator(numerics), 0.0),
                    Paced::new(emulator(numerics), 3.0),
                    Paced::new(Box::new(Packed::new(emulator(numerics))), 0.0),
                ];
                for device in devices {
                    let what = format!("{preset} {} {numerics:?} {device:?}", plan.name);
                    assert!(of(&device) == in_turn, "{what}");
                }
            }
        }
    }
}

/// Every step waits for the last one before it that wrote what it reads or writes: in turn is one of the
/// orders that the lanes allow, and so is theirs.
#[test]
fn the_order_of_both_lanes_keeps_what_steps_wait_for() {
    let config = small("tiny");
    let dims = Dims { config: &config, batch: 2, seq: 16, dtype: DType::Fp16 };
    for plan in PLANS {
        let schedule = Schedule::new(plan, &dims, Memory::Sequence).unwrap();
        let lanes = Lanes::new(&schedule);
        assert!(lanes.after.iter().enumerate().all(|(i, after)| after.iter().all(|&b| b < i)));
        let mut both = [&lanes.engine[..], &lanes.host[..]].concat();
        both.sort_unstable();
        assert_eq!(both, (0..schedule.steps().count()).collect::<Vec<_>>());
        assert!(lanes.engine.is_sorted());
        let place = |step| lanes.host.iter().position(|&s| s == step).unwrap();
        let named = |name: &str, layer| {
            let is = |step: &&Step| schedule.describe(step) == (name.to_owned(), Some(layer));
            let steps: Vec<_> = schedule.steps().collect();
            steps.iter().position(is).unwrap()
        };
        if plan.joined.is_some() {
            // Gradients of two runs lie apart, those of the third where those of the first were.
            let plan = Plan::named("layers:1+1").unwrap();
            let schedule = Schedule::new(plan, &dims, Memory::Sequence).unwrap();
            let steps: Vec<_> = schedule.steps().map(|step| schedule.describe(step).0).collect();
            let places = |name: &str| -> Vec<usize> {
                (0..steps.len()).filter(|&i| steps[i] == name).collect()
            };
            let (runs, copies) = (places("bwdLayers"), places("accumulate d_w1"));
            let lanes = Lanes::new(&schedule);
            let waits = |run: usize, copy: usize| lanes.after[runs[run]].contains(&copies[copy]);
            assert_eq!([waits(1, 0), waits(2, 1), waits(2, 0)], [false, false, true]);
            continue;
        }
        if *plan == &GRADIENTS {
            // The last layer's gradients come first, and lie where those of the next one will.
            let is = |step: &&Step| schedule.describe(step).0 == "accumulate d_w1";
            let accumulate = schedule.steps().position(|step| is(&step)).unwrap();
            assert!(lanes.after[named("ffnBwd", 1)].contains(&accumulate));
            continue;
        }
        // The norm's gradient goes to the next program, those of the weights to none.
        let norm = named(if *plan == &OFFLOAD { "wv_grad" } else { "norm2Bwd" }, 1);
        let [before, weights] = [norm, named("w1_grad", 1)].map(place);
        assert_eq!(before < weights, *plan != &OFFLOAD, "{}", plan.name);
        // The surfaces of these are the next layer's, too.
        let next = lanes.engine.iter().find(|&&s| s > named("w1_grad", 1));
        assert!(lanes.after[named("ffnBwd", 0)].contains(&named("w1_grad", 1)), "{next:?}");
    }
}

/// Gradient descent, by the gradients of the step before: a part at a time.
#[derive(Debug)]
struct Descent {
    layout: Layout,
    grads: Vec<f32>,
    left: Vec<bool>,
}

impl Descent {
    fn new(model: &Model, grads: &[f32]) -> Self {
        let layout = model.layout().clone();
        let left = vec![true; layout.params().len()];
        Descent { layout, grads: grads.to_vec(), left }
    }
}

impl Deferred for Descent {
    fn update(&mut self, param: usize, w: &mut [f32], g: &[f32], done: &Done<'_>) {
        assert!(!self.left[param] || *g == self.grads[self.layout.params()[param].range()]);
        let rate = if self.left[param] { 0.01 } else { 0.0 };
        self.left[param] = false;
        for (n, (w, g)) in w.chunks_mut(100).zip(g.chunks(100)).enumerate() {
            w.iter_mut().zip(g).for_each(|(w, g)| *w -= rate * g);
            done(100 * n, w);
        }
    }

    fn finish(&mut self, values: &mut [f32]) {
        let grads = self.grads.clone();
        for param in 0..self.left.len() {
            let range = self.layout.params()[param].range();
            if self.left[param] {
                self.update(param, &mut values[range.clone()], &grads[range], &|_, _| ());
            }
        }
    }
}

/// What is left of an update and the micro-batch after it.
#[derive(Debug, PartialEq)]
struct Updated {
    losses: Vec<f64>,
    grads: Vec<u32>,
    weights: Vec<u32>,
    /// By the weights that the device has then.
    loss: f64,
}

/// Makes an update `beside` a micro-batch, or whole before it.
fn updated(model: &mut Model, beside: bool) -> Result<Updated, ModelError> {
    let tokens: Vec<u32> = (0..=64).map(|n| n * 7 % 50).collect();
    let (weights, first) = (TokenWeights::Even(1.0), MicroBatch::First);
    let mut grads = vec![0.0; model.layout().count()];
    model.loss_and_grads(&tokens[..32], &tokens[1..33], weights, first, &mut grads)?;
    let parameters = model.parameters().clone();
    parameters.defer(Box::new(Descent::new(model, &grads)));
    if !beside {
        parameters.settle();
    }
    let (inputs, targets) = (&tokens[32..64], &tokens[33..]);
    let update = parameters.pending();
    let losses =
        model.updated_loss_and_grads(update, inputs, targets, weights, first, &mut grads)?.to_vec();
    let (grads, weights) = (bits(&grads), bits(&parameters.read()));
    Ok(Updated { losses, grads, weights, loss: model.loss(inputs, targets)? })
}

#[test]
fn an_update_beside_the_forward_pass_gives_the_bits_of_one_before_it() {
    for preset in ["tiny", "gpt2-tiny", "nanochat-d6"] {
        let mut config = small(preset);
        if preset == "nanochat-d6" {
            (config.n_embd, config.hidden, config.head_dim) = (48, 96, 8);
            config.windows.truncate(config.n_layer);
        }
        for plan in PLANS.iter() {
            let parameters = Parameters::new(&config, initialise(&config, 5));
            let compiled =
                |device: &dyn Device| Model::new(plan, &parameters, 2, 16, device, Numerics::Fast);
            if compiled(&*emulator(Numerics::Fast)).is_err() {
                // Value embeddings are not for every plan.
                assert_eq!(preset, "nanochat-d6");
                continue;
            }
            let of = |device: &dyn Device, beside: bool| {
                let mut model = model(plan, &config, device, Numerics::Fast);
                let got = updated(&mut model, beside).unwrap();
                (got, model.timeline(true))
            };
            let (before, _) = of(&*emulator(Numerics::Fast), false);
            let untouched = initialise(&config, 5);
            assert!(before.weights != bits(&untouched));
            let (beside, steps) = of(&Paced::new(emulator(Numerics::Fast), 0.0), true);
            assert!(beside == before, "{preset} {}", plan.name);
            let updates = steps.iter().filter(|step| step.part == Part::Update).count();
            assert_eq!(updates, parameters.layout().params().len());
            // In turn, too.
            assert!(of(&*emulator(Numerics::Fast), true).0 == before, "{preset} {}", plan.name);
        }
    }
}

/// What an update writes waits for nobody, who reads it waits for the update, and a new gradient for the update
/// by the old one.
#[test]
fn steps_wait_for_the_updates_of_what_they_read() {
    let config = GptConfig { tied: false, ..small("tiny") };
    let dims = Dims { config: &config, batch: 2, seq: 16, dtype: DType::Fp16 };
    for &plan in PLANS {
        // With one layer in a program.
        let plan = if plan == &LAYERS { Plan::named("layers:1+1").unwrap() } else { plan };
        let schedule = Schedule::new(plan, &dims, Memory::Sequence).unwrap();
        let lanes = Lanes::after_update(&schedule);
        let steps: Vec<&Step> = schedule.steps_after_update().collect();
        let named = |name: &str, layer| {
            let is = |step: &&Step| schedule.describe(step) == (name.to_owned(), layer);
            steps.iter().position(is).unwrap_or_else(|| panic!("{}: no {name}", plan.name))
        };
        // Directly, or because a step in between does.
        let mut waits: Vec<Vec<usize>> = vec![];
        for after in &lanes.after {
            let further = after.iter().flat_map(|&step: &usize| waits[step].clone());
            waits.push(further.chain(after.iter().copied()).collect());
        }
        let waits = |step: usize, other: usize| waits[step].contains(&other);
        let updates = schedule.updates.len();
        assert!((0..updates).all(|update| lanes.after[update].is_empty()));
        if plan.joined.is_some() {
            let second = named("fwdLayers", Some(1));
            assert!(waits(second, named("update wq", Some(1))));
            assert!(!waits(second, named("update wq", Some(2))));
        } else {
            let attention = named("fwdAttn", Some(1));
            assert!(waits(attention, named("update wq", Some(1))));
            let later = [("update wq", 2), ("update w1", 1)];
            assert!(later.iter().all(|&(name, l)| !waits(attention, named(name, Some(l)))));
        }
        assert!(waits(named("embedding", None), named("update embedding", None)));
        // The layers one after the other, then the head.
        let place = |step| lanes.host.iter().position(|&s| s == step).unwrap();
        let of = |name: &str, layer| place(named(name, layer));
        let order = [
            of("update embedding", None),
            of("update wv", Some(0)),
            of("update w2", Some(0)),
            of("update wv", Some(1)),
            of("update w2", Some(2)),
            of("update rms", None),
        ];
        assert!(order.is_sorted(), "{}: {order:?}", plan.name);
        assert!(of("update w2", Some(2)) < of("update classifier", None), "{}", plan.name);
        // Gradients.
        for (i, step) in steps.iter().enumerate().skip(updates) {
            let gradient = match step {
                Step::Accumulate { gradient, .. } => gradient,
                Step::Scatter { table, .. } => table,
                _ => continue,
            };
            let is = |step: &Step| matches!(step, Step::Update { range, .. } if range.start == gradient.start);
            assert!(waits(i, schedule.updates.iter().position(is).unwrap()));
        }
    }
}

/// A device whose request of this number fails, and no other.
#[derive(Debug)]
struct FailsOnce {
    device: Box<dyn Device>,
    at: usize,
    requests: Arc<AtomicUsize>,
}

impl Device for FailsOnce {
    fn describe(&self) -> String {
        format!("{}, whose request {} fails", self.device.describe(), self.at)
    }

    ane::as_inside!(device);

    fn compile(
        &self,
        program: &Program,
        weights: &Weights,
    ) -> Result<Box<dyn Executable>, AneError> {
        let executable = self.device.compile(program, weights)?;
        Ok(Box::new(FailsOnceExecutable {
            executable,
            at: self.at,
            requests: Arc::clone(&self.requests),
        }))
    }
}

#[derive(Debug)]
struct FailsOnceExecutable {
    executable: Box<dyn Executable>,
    at: usize,
    requests: Arc<AtomicUsize>,
}

impl Executable for FailsOnceExecutable {
    fn inputs(&self) -> &[Port] {
        self.executable.inputs()
    }

    fn outputs(&self) -> &[Port] {
        self.executable.outputs()
    }

    fn run(&mut self, inputs: &[&Surface], outputs: &[&Surface]) -> Result<RunReport, AneError> {
        match self.requests.fetch_add(1, Ordering::Relaxed) == self.at {
            true => Err(AneError::Timeout),
            false => self.executable.run(inputs, outputs),
        }
    }
}

#[test]
fn a_fault_beside_other_work_is_reported_and_the_next_step_is_whole() {
    let config = small("tiny");
    let expected =
        trained(&mut model(&BASELINE, &config, &*emulator(Numerics::Fast), Numerics::Fast))
            .unwrap();
    // Requests of a micro-batch: two forward, four backward, of three layers.
    for at in [0, 5, 7, 17, 18, 30] {
        let (device, requests) = (emulator(Numerics::Fast), Arc::default());
        let device = Paced::new(Box::new(FailsOnce { device, at, requests }), 0.0);
        let mut model = model(&BASELINE, &config, &device, Numerics::Fast);
        let error = trained(&mut model).unwrap_err();
        assert_eq!(error, ModelError::Device(AneError::Timeout), "request {at}");
        assert!(trained(&mut model).unwrap() == expected, "after a fault of request {at}");
    }
    let wrong = Faults::parse("zeros-at:40", 1).unwrap();
    let device = Paced::new(Box::new(Faulty::new(emulator(Numerics::Fast), wrong)), 0.0);
    let mut model = model(&BASELINE, &config, &device, Numerics::Fast);
    assert!(trained(&mut model).unwrap() == expected);
    assert!(trained(&mut model).unwrap() != expected);
    assert!(trained(&mut model).unwrap() == expected);
}

#[test]
fn a_fault_leaves_an_update_that_can_be_finished() {
    let config = small("tiny");
    let device = emulator(Numerics::Fast);
    let whole = updated(&mut model(&BASELINE, &config, &*device, Numerics::Fast), false).unwrap();
    // Of the second micro-batch: its first request, one in each pass, and the last.
    for at in [18, 21, 30, 35] {
        let (device, requests) = (emulator(Numerics::Fast), Arc::default());
        let device = Paced::new(Box::new(FailsOnce { device, at, requests }), 0.0);
        let mut model = model(&BASELINE, &config, &device, Numerics::Fast);
        let error = updated(&mut model, true).unwrap_err();
        assert_eq!(error, ModelError::Device(AneError::Timeout), "request {at}");
        assert!(bits(&model.parameters().read()) == whole.weights, "after a fault of request {at}");
        let tokens: Vec<u32> = (32..=64).map(|n| n * 7 % 50).collect();
        assert_eq!(model.loss(&tokens[..32], &tokens[1..]).unwrap(), whole.loss);
    }
}

/// Requests of the backward pass sleep for several milliseconds. In turn, no step would overlap another; how much
/// does depends on what else the cores do. `gpt::lanes` holds the order of both lanes without a clock.
#[test]
fn weight_gradients_are_computed_while_requests_run() {
    let config = GptConfig { vocab_size: 64, ..small("tiny") };
    let device = Paced::asleep(emulator(Numerics::Fast), 50.0);
    let mut model = model(&BASELINE, &config, &device, Numerics::Fast);
    trained(&mut model).unwrap();
    let steps = model.timeline(false);
    let of = |part: Part| steps.iter().filter(move |step| step.part == part);
    let common = |a: &TimedStep, b: &TimedStep| {
        (a.start + a.seconds).min(b.start + b.seconds) - a.start.max(b.start)
    };
    let overlap = of(Part::EngineBackward)
        .flat_map(|request| of(Part::WeightGradients).map(move |other| common(request, other)))
        .fold(f64::NEG_INFINITY, f64::max);
    assert!(overlap > 1e-6, "{overlap}");
}
