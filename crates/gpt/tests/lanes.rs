//! Engine and host side by side: the same bits as in turn, in less time.

use ane::{AneError, Device, Emulator, Faults, Faulty, Paced, Packed};
use chip::Profile;
use cpu::Numerics;
use gpt::block::Memory;
use gpt::plan::{BASELINE, Lanes, OFFLOAD, PLANS, Part, Plan, Schedule, Step, TimedStep};
use gpt::{Dims, GptConfig, MicroBatch, Model, ModelError, Parameters, TokenWeights, initialise};
use mil::DType;

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
            let plans = PLANS.iter().filter(|plan| **plan != &OFFLOAD || preset != "nanochat-d6");
            for plan in plans {
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
        // The norm's gradient goes to the next program, those of the weights to none.
        let norm = named(if *plan == &OFFLOAD { "wv_grad" } else { "norm2Bwd" }, 1);
        let [before, weights] = [norm, named("w1_grad", 1)].map(place);
        assert_eq!(before < weights, *plan != &OFFLOAD, "{}", plan.name);
        // The surfaces of these are the next layer's, too.
        let next = lanes.engine.iter().find(|&&s| s > named("w1_grad", 1));
        assert!(lanes.after[named("ffnBwd", 0)].contains(&named("w1_grad", 1)), "{next:?}");
    }
}

#[test]
fn a_fault_beside_other_work_is_reported_and_the_next_step_is_whole() {
    let config = small("tiny");
    let expected =
        trained(&mut model(&BASELINE, &config, &*emulator(Numerics::Fast), Numerics::Fast));
    // Requests of a micro-batch: two forward, four backward, of three layers.
    for runs in [0, 5, 7, 17] {
        let faults = Faults::parse(&format!("hang-after:{runs},hang-limit:0.001"), 1).unwrap();
        let device = Paced::new(Box::new(Faulty::new(emulator(Numerics::Fast), faults)), 0.0);
        let mut faulty = model(&BASELINE, &config, &device, Numerics::Fast);
        let error = trained(&mut faulty).unwrap_err();
        assert_eq!(error, ModelError::Device(AneError::Timeout), "after {runs}");
        // What the host keeps is whole: without faults the same arrays give the same bits.
        assert_eq!(trained(&mut faulty).unwrap_err(), ModelError::Device(AneError::Timeout));
    }
    let wrong = Faults::parse("zeros-at:40", 1).unwrap();
    let device = Paced::new(Box::new(Faulty::new(emulator(Numerics::Fast), wrong)), 0.0);
    let mut model = model(&BASELINE, &config, &device, Numerics::Fast);
    assert_eq!(trained(&mut model).unwrap(), *expected.as_ref().unwrap());
    assert_ne!(trained(&mut model).unwrap(), *expected.as_ref().unwrap());
    assert_eq!(trained(&mut model).unwrap(), *expected.as_ref().unwrap());
}

/// Seconds of all steps that count to `part`.
fn busy(steps: &[TimedStep], part: Part) -> f64 {
    steps.iter().filter(|step| step.part == part).map(|step| step.seconds).sum()
}

/// Requests of the backward pass asleep for as long as the host works on weight gradients: most of both happens
/// at the same time. Threads wake up late where others use the cores, so that the wall time proves nothing
/// here; `gpt::lanes` holds it against that of two lanes, with steps that all sleep.
#[test]
fn weight_gradients_are_computed_while_requests_run() {
    let preset = GptConfig::preset("stories15m").unwrap();
    let config = GptConfig { n_layer: 3, vocab_size: 64, seq_len: 256, ..preset };
    let parameters = Parameters::new(&config, initialise(&config, 5));
    let mut grads = vec![0.0; parameters.layout().count()];
    let mut run = |pace: f64| {
        let device = Paced::asleep(emulator(Numerics::Fast), pace);
        let mut model =
            Model::new(&BASELINE, &parameters, 1, 256, &device, Numerics::Fast).unwrap();
        let (tokens, weights) = ([7; 256], TokenWeights::Even(1.0));
        for _ in 0..2 {
            let first = MicroBatch::First;
            model.loss_and_grads(&tokens, &tokens, weights, first, &mut grads).unwrap();
        }
        model.timeline()
    };
    let known = run(1.0);
    let pace = busy(&known, Part::WeightGradients) / busy(&known, Part::EngineBackward);
    let steps = run(pace);
    let of = |part: Part| steps.iter().filter(move |step| step.part == part);
    let common = |a: &TimedStep, b: &TimedStep| {
        let end = (a.start + a.seconds).min(b.start + b.seconds);
        (end - a.start.max(b.start)).max(0.0)
    };
    let both: f64 = of(Part::EngineBackward)
        .flat_map(|request| of(Part::WeightGradients).map(move |other| common(request, other)))
        .sum();
    let [engine, host] =
        [Part::EngineBackward, Part::WeightGradients].map(|part| busy(&steps, part));
    assert!(both > 0.4 * engine.min(host), "{both} of {engine} and {host}");
}
