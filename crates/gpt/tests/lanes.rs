//! Engine and host side by side: the same bits as in turn, with steps of both lanes at the same time.

use ane::{
    AneError, Device, Emulator, Executable, Faults, Faulty, Paced, Packed, Port, RunReport, Surface,
};
use chip::Profile;
use cpu::Numerics;
use gpt::block::Memory;
use gpt::plan::TimedStep;
use gpt::plan::{BASELINE, GRADIENTS, LAYERS, Lanes, OFFLOAD, PLANS, Part, Plan, Schedule, Step};
use gpt::{Dims, GptConfig, MicroBatch, Model, ModelError, Parameters, TokenWeights, initialise};
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

/// Requests of the backward pass sleep for several milliseconds. In turn, no step would overlap another; how much
/// does depends on what else the cores do. `gpt::lanes` holds the order of both lanes without a clock.
#[test]
fn weight_gradients_are_computed_while_requests_run() {
    let config = GptConfig { vocab_size: 64, ..small("tiny") };
    let device = Paced::asleep(emulator(Numerics::Fast), 50.0);
    let mut model = model(&BASELINE, &config, &device, Numerics::Fast);
    trained(&mut model).unwrap();
    let steps = model.timeline();
    let of = |part: Part| steps.iter().filter(move |step| step.part == part);
    let common = |a: &TimedStep, b: &TimedStep| {
        (a.start + a.seconds).min(b.start + b.seconds) - a.start.max(b.start)
    };
    let overlap = of(Part::EngineBackward)
        .flat_map(|request| of(Part::WeightGradients).map(move |other| common(request, other)))
        .fold(f64::NEG_INFINITY, f64::max);
    assert!(overlap > 1e-6, "{overlap}");
}
