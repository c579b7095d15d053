//! The parts that a trainer takes from outside: another optimizer, several ranks, learning rates by
//! group.

mod common;

use ane::Emulator;
use chip::Profile;
use common::{NOTHING, SEQ, finish, loader, model, on_two_ranks};
use cpu::Numerics;
use gpt::{Layout, Param, TokenWeights, initialise};
use train::checkpoint::newest;
use train::objective::Pretrain;
use train::optim::Update;
use train::{
    LrSchedule, Multipliers, Objective, Optimizer, OptimizerConfig, Ranks, Run, RunConfig, Solo,
    StepReport, Trainer,
};

fn settings(accum: usize) -> RunConfig {
    RunConfig {
        model: model(1, false),
        optimizer: OptimizerConfig::default(),
        schedule: LrSchedule::cosine(1e-2, 0.1, 2, 6),
        batch: 2,
        accum,
        seq: SEQ,
        clip: 1.0,
        seed: 5,
        plan: &gpt::plan::BASELINE,
        dial: None,
    }
}

fn device() -> Emulator {
    Emulator::engine(Profile::default(), Numerics::F32)
}

/// Momentum, its steps divided by a running size of each row's gradients: state of two shapes, and
/// none for vectors.
#[derive(Debug)]
struct Rows;

impl Optimizer for Rows {
    fn state_of(&self, param: &Param) -> Vec<(&'static str, Vec<usize>)> {
        match param.shape[..] {
            [rows, columns] => vec![("buf", vec![rows, columns]), ("size", vec![rows, 1])],
            _ => vec![],
        }
    }

    fn step(
        &self,
        update: &Update,
        param: &Param,
        w: &mut [f32],
        g: &[f32],
        state: &mut [&mut [f32]],
    ) {
        let [buf, size] = state else { return };
        for (row, size) in size.iter_mut().enumerate() {
            let width = param.shape[1];
            for i in row * width..(row + 1) * width {
                let g = g[i] * update.scale;
                buf[i] = 0.9 * buf[i] + g;
                *size = 0.99 * *size + g.abs();
            }
            let rate = update.lr / (*size + 1e-3);
            (row * width..(row + 1) * width).for_each(|i| w[i] -= rate * buf[i]);
        }
    }
}

/// Its state is written, read and gone on from by its names, which nothing else knows.
#[test]
fn another_optimizer_is_saved_and_resumed_by_its_names() {
    let (config, device) = (settings(1), device());
    let new_run = || {
        let params = initialise(&config.model, 3);
        let ranks = Box::new(Solo);
        let trainer =
            Trainer::new(&config, params, Box::new(Rows), &device, Numerics::F32, ranks).unwrap();
        Run::new(config.clone(), trainer, Pretrain::new(loader(), &config))
    };
    let (out, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let intervals = train::Intervals { checkpoint: 3, keep: 9, ..NOTHING };
    let mut whole = new_run();
    finish(&mut whole, &device, out.path(), intervals);
    let file = std::fs::read(out.path().join("step-00000003/optimizer.safetensors")).unwrap();
    let header = String::from_utf8_lossy(&file);
    for name in ["lm_head.weight.buf", "lm_head.weight.size"] {
        assert!(header.contains(name), "{name}");
    }
    assert!(!header.contains("norm.weight.") && !header.contains("weight.m\""));
    let mut rest = new_run();
    rest.resume(&newest(&out.path().join("step-00000003")).unwrap().0).unwrap();
    finish(&mut rest, &device, elsewhere.path(), intervals);
    assert_eq!(*rest.params(), *whole.params());
    assert_eq!(rest.trainer().state().arena("buf"), whole.trainer().state().arena("buf"));
    // AdamW finds none of its own there.
    let params = initialise(&config.model, 3);
    let mut adamw =
        Run::pretrain(config.clone(), params, loader(), &device, Numerics::F32).unwrap();
    let error = adamw.resume(&newest(out.path()).unwrap().0).unwrap_err().to_string();
    assert!(error.contains("has no tensor `model.embed_tokens.weight.m`"), "{error}");
}

/// Steps of a run, its weights at the end and the tokens it has seen.
fn steps(config: &RunConfig, seed: u64, ranks: Box<dyn Ranks>) -> (Vec<StepReport>, Vec<f32>, u64) {
    let params = initialise(&config.model, seed);
    let optimizer = config.optimizer.build();
    let mut trainer =
        Trainer::new(config, params, optimizer, &device(), Numerics::F32, ranks).unwrap();
    let mut objective = Pretrain::new(loader(), config);
    let reports = (0..config.schedule.total)
        .map(|_| {
            objective.accumulate(&mut trainer).unwrap();
            trainer.apply().unwrap()
        })
        .collect();
    (reports, trainer.params().to_vec(), trainer.counts().tokens)
}

/// One weight for all tokens, or the same one for each, beside a loss scale that is not 1.
#[test]
fn a_weight_for_each_token_is_scaled_as_an_even_one() {
    let config = settings(1);
    let tokens: Vec<u32> = (0..(config.batch * config.seq) as u32).map(|i| i * 7 % 40).collect();
    let each = vec![1.0 / tokens.len() as f32; tokens.len()];
    let step = |weights: TokenWeights<'_>| {
        let device = Emulator::cpu(Numerics::Fast);
        let (params, optimizer) = (initialise(&config.model, 3), config.optimizer.build());
        let (numerics, ranks) = (Numerics::Fast, Box::new(Solo));
        let mut trainer =
            Trainer::new(&config, params, optimizer, &device, numerics, ranks).unwrap();
        assert!(trainer.scale().get() > 1.0);
        trainer.accumulate(&tokens, &tokens, weights).unwrap();
        (trainer.apply().unwrap(), trainer.params().to_vec())
    };
    let even = step(TokenWeights::Even(each[0]));
    assert!(!even.0.skipped && even.0.grad_norm > 0.0);
    let (report, params) = step(TokenWeights::Each(&each));
    // A mean is one division in f64, a weighted sum has a weight of f32.
    assert!((report.loss / even.0.loss - 1.0).abs() < 1e-7, "{report:?} {even:?}");
    assert_eq!((StepReport { loss: even.0.loss, ..report }, params), even);
}

/// Two ranks with a micro-batch each make the steps of one process with two.
#[test]
fn ranks_share_a_step() {
    let [first, second] = on_two_ranks(|ranks| {
        // Rank 1 begins with other weights, and is given those of rank 0.
        let seed = 3 + ranks.rank() as u64;
        steps(&settings(1), seed, ranks)
    });
    assert_eq!(first, second, "the same bits on both");
    let (reports, params, tokens) = steps(&settings(2), 3, Box::new(Solo));
    assert_eq!(first.2, tokens);
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-5 * b.abs();
    for (got, want) in first.0.iter().zip(&reports) {
        assert!(
            close(got.loss, want.loss) && close(got.grad_norm, want.grad_norm),
            "{got:?} {want:?}"
        );
        assert_eq!((got.lr, got.skipped), (want.lr, false));
    }
    // AdamW's first steps follow the signs of gradients, however small.
    let far = first.1.iter().zip(&params).filter(|(a, b)| (**a - **b).abs() > 1e-4).count();
    assert!(far * 100 < params.len(), "{far} of {} weights differ", params.len());
}

/// A group whose rate is zero stays where it was; the others do not notice.
#[test]
fn multipliers_reach_the_parameters_of_their_group() {
    let one_rate = RunConfig { clip: 0.0, ..settings(1) };
    let multipliers = Multipliers { embedding: 0.0, vector: 2.0, ..Multipliers::default() };
    let schedule = LrSchedule { multipliers, ..one_rate.schedule };
    let by_group = RunConfig { schedule, ..one_rate.clone() };
    let first = initialise(&one_rate.model, 3);
    let step = |config: &RunConfig| {
        let total =
            RunConfig { schedule: LrSchedule { total: 1, ..config.schedule }, ..config.clone() };
        steps(&total, 3, Box::new(Solo)).1
    };
    let (one, grouped) = (step(&one_rate), step(&by_group));
    for param in Layout::new(&one_rate.model).params() {
        let [first, one, grouped] = [&first, &one, &grouped].map(|all| &all[param.range()]);
        if param.name.contains("embed") {
            assert!(one != first && grouped == first, "{}", param.name);
        } else if param.decays() {
            assert_eq!(grouped, one, "{}", param.name);
        } else {
            let moved = first.iter().zip(one).zip(grouped);
            assert!(moved.into_iter().all(|((f, o), g)| ((g - f) - 2.0 * (o - f)).abs() < 1e-6));
        }
    }
}
