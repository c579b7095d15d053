//! Muon: its update beside the formulas in f64, with plain loops, and beside numbers of nanochat; runs with
//! it.

mod common;
mod twin;

use ane::Emulator;
use chip::Profile;
use common::{NOTHING, SEQ, finish, loader, model};
use cpu::Numerics;
use data::loader::{Loader, LoaderConfig};
use gpt::{Edition, GptConfig, Group, Layout, Param, initialise};
use train::checkpoint::newest;
use train::optim::Update;
use train::schedule::Progress;
use train::{
    Decay, Fade, LrSchedule, Momentum, Multipliers, Muon, Optimizer, OptimizerConfig, Recipe, Run,
    RunConfig,
};
use twin::{Matrix, Twin};

/// A matrix of a layer, [rows, columns].
fn matrix(rows: usize, columns: usize) -> Param {
    let layout = Layout::new(&GptConfig::preset("tiny").unwrap());
    let found = layout.params().iter().find(|p| p.group == Group::Matrix).unwrap();
    Param { shape: vec![rows, columns], ..found.clone() }
}

/// The weights of a matrix and the state of their optimizer.
struct Own {
    muon: Muon,
    param: Param,
    w: Vec<f32>,
    state: Vec<Vec<f32>>,
}

const MOMENTUM: f64 = 0.95;
const RATE: f32 = 0.02;
const DECAY: f32 = 0.28;

impl Own {
    fn new(w: &Matrix) -> Own {
        let muon =
            Muon { momentum: Momentum::Constant(MOMENTUM), weight_decay: DECAY, ..Muon::default() };
        let param = matrix(w.rows, w.columns);
        let zeros = |(_, shape): (_, Vec<usize>)| vec![0.0; shape.iter().product()];
        let state = muon.state_of(&param).into_iter().map(zeros).collect();
        Own { muon, param, w: w.values.iter().map(|&v| v as f32).collect(), state }
    }

    fn step(&mut self, g: &Matrix) {
        self.step_at(g, Progress::default());
    }

    /// One update with gradients that are stored 8 times too large.
    fn step_at(&mut self, g: &Matrix, progress: Progress) {
        let g: Vec<f32> = g.values.iter().map(|&v| 8.0 * v as f32).collect();
        let update = Update { t: 1, lr: RATE, scale: 0.125, progress };
        let mut state: Vec<&mut [f32]> = self.state.iter_mut().map(Vec::as_mut_slice).collect();
        self.muon.step(&update, &self.param, &mut self.w, &g, &mut state);
    }
}

/// The settings of [`Own`] as its f32 has them.
fn settings() -> [f64; 4] {
    [MOMENTUM, f64::from(RATE), f64::from(0.9f32), f64::from(DECAY)]
}

/// Two steps with g(i, j) = sin(1 + 3i + j + 0.37ij) and twice that, from p = cos(2i + j + 0.21ij)/2: the
/// first row after the first step, and the sums of all weights after each.
#[test]
fn follows_the_published_numbers() {
    type Case<'a> = (usize, usize, &'a [f64], [f64; 2]);
    let cases: [Case<'_>; 3] = [
        (6, 4, &[0.48734897, 0.25342796, -0.2173296, -0.4887455], [-0.48375126, -0.50808748]),
        (
            4,
            6,
            &[0.48709984, 0.25735483, -0.21194066, -0.48366638, -0.31730757, 0.14886274],
            [0.08269764, 0.07826721],
        ),
        (4, 4, &[0.48875255, 0.2531718, -0.21748977, -0.4913525], [-0.13021162, -0.14389766]),
    ];
    for (rows, columns, first_row, sums) in cases {
        let wave =
            |i: usize, j: usize, [a, b]: [f64; 2]| a * i as f64 + j as f64 + b * (i * j) as f64;
        let g = Matrix::of(rows, columns, |i, j| (1.0 + wave(i, j, [3.0, 0.37])).sin());
        let p = Matrix::of(rows, columns, |i, j| 0.5 * wave(i, j, [2.0, 0.21]).cos());
        let (mut own, mut twin) = (Own::new(&p), Twin::new(p));
        for (step, sum) in sums.into_iter().enumerate() {
            let g = g.map(|_, _, v| v * (1 + step) as f64);
            own.step(&g);
            twin.step(&g, settings());
            if step == 0 {
                for ((&own, twin), want) in own.w.iter().zip(&twin.w.values).zip(first_row) {
                    assert!((twin - want).abs() < 1e-7, "{twin} {want}");
                    assert!((f64::from(own) - want).abs() < 1e-6 * want.abs(), "{own} {want}");
                }
            }
            let twin_sum: f64 = twin.w.values.iter().sum();
            let own_sum: f64 = own.w.iter().map(|&w| f64::from(w)).sum();
            // Of up to 24 weights of at most 1/2, rounded to 24 bits in each step.
            assert!((twin_sum - sum).abs() < 1e-7, "{rows}x{columns}: {twin_sum} {sum}");
            assert!((own_sum - sum).abs() < 1e-6, "{rows}x{columns}: {own_sum} {sum}");
        }
    }
}

fn noise(rows: usize, columns: usize, seed: u64) -> Matrix {
    // splitmix64 (Steele, Lea and Flood 2014).
    let number = |i: usize| {
        let mut z = (seed << 32 | i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    // What an f32 holds.
    Matrix::of(rows, columns, |i, j| f64::from(number(i * columns + j) as f32))
}

/// Largest distance of two sets of weights.
fn distance(own: &[f32], twin: &Matrix) -> f64 {
    own.iter().zip(&twin.values).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max)
}

/// The distance that three updates of a matrix [r, c] may make.
///
/// Near a singular value of 0 an iteration multiplies errors, as it does values, by a: 990 in all. Those of a
/// product over k are about √k·2⁻²⁴ of the largest singular value, 1; elements of X, and with them their
/// errors, are smaller than that, but a line far below the others is made as large as they are.
fn bound(r: usize, c: usize) -> f64 {
    let step = f64::from(RATE) * (r as f64 / c as f64).max(1.0).sqrt();
    3.0 * (step * 990.0 * (r.max(c) as f64).sqrt() + 1.0) * 2f64.powi(-24)
}

/// Full rank, rank 1, a zero row, single rows and columns, sides that no vector divides.
#[test]
fn follows_the_formulas_in_f64() {
    let rank_1 = |r, c| Matrix::of(r, c, |i, j| (1.0 + i as f64).sin() * (2.0 + j as f64).cos());
    let mut no_row = noise(7, 9, 3);
    no_row.values[9..18].fill(0.0);
    for g in [
        noise(33, 33, 1),
        noise(20, 65, 2),
        noise(65, 20, 3),
        noise(96, 256, 4),
        noise(3, 12, 5),
        noise(1, 17, 6),
        noise(17, 1, 7),
        rank_1(12, 8),
        rank_1(8, 12),
        no_row,
    ] {
        let (r, c) = (g.rows, g.columns);
        let w = noise(r, c, 99);
        let (mut own, mut twin) = (Own::new(&w), Twin::new(w));
        stay_together(&mut own, &mut twin, &g);
    }
}

/// Factors of the gradients of three steps: momentum and gradient never cancel, as what is left of that would
/// have fewer digits.
const FACTORS: [f64; 3] = [1e-3, -2e-3, -3e-3];

/// Three steps of both with multiples of `g`: the weights agree after each.
fn stay_together(own: &mut Own, twin: &mut Twin, g: &Matrix) {
    for factor in FACTORS {
        let g = g.map(|_, _, v| v * factor);
        own.step(&g);
        twin.step(&g, settings());
        let (r, c, found) = (g.rows, g.columns, distance(&own.w, &twin.w));
        assert!(found < bound(r, c), "{r}x{c}, factor {factor}: {found}");
    }
}

/// February's formulas: rows are not made alike, and the iterations' result keeps its norm.
#[test]
fn follows_the_formulas_of_february() {
    for (g, w) in [(noise(20, 65, 2), noise(20, 65, 9)), (noise(65, 20, 3), noise(65, 20, 9))] {
        let (r, c) = (g.rows, g.columns);
        let (mut own, mut twin) = (Own::new(&w), Twin::new(w));
        let recipe = Recipe::of(Edition::February2026).muon;
        let Muon { momentum, weight_decay, fade, .. } = own.muon;
        own.muon = Muon { momentum, weight_decay, fade, beta2: 0.9, ..recipe };
        twin.february = true;
        stay_together(&mut own, &mut twin, &g);
        // The formulas differ by more than rounding.
        let mut july = Twin::new(noise(r, c, 9));
        FACTORS.iter().for_each(|f| july.step(&g.map(|_, _, v| v * f), settings()));
        assert!(distance(&own.w, &july.w) > 100.0 * bound(r, c), "{r}x{c}");
    }
}

/// Nothing but decay, in weights as in state, before and after a gradient.
#[test]
fn a_gradient_of_zeros_only_decays() {
    for (r, c) in [(6, 4), (4, 6)] {
        let (zeros, w) = (Matrix::of(r, c, |_, _| 0.0), noise(r, c, 1));
        let mut own = Own::new(&w);
        own.step(&zeros);
        for (own, before) in own.w.iter().zip(&w.values) {
            let lr = f64::from(RATE) * (r as f64 / c as f64).max(1.0).sqrt();
            let want = before * (1.0 - lr * f64::from(DECAY));
            assert!((f64::from(*own) - want).abs() < 2f64.powi(-23), "{own} {want}");
        }
        assert!(own.state.iter().flatten().all(|&v| v == 0.0));
        own.step(&noise(r, c, 2));
        let second = own.state[1].clone();
        own.step(&zeros);
        assert!(own.w.iter().chain(own.state.iter().flatten()).all(|v| v.is_finite()));
        assert!(own.state[1].iter().zip(&second).all(|(new, old)| new > &0.0 && old > &0.0));
    }
}

/// 140 x 300: products that threads share.
#[test]
fn bits_do_not_depend_on_threads() {
    for (r, c) in [(140, 300), (300, 140), (257, 257)] {
        let result = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut own = Own::new(&noise(r, c, 8));
                (0..2).for_each(|seed| own.step(&noise(r, c, seed)));
                (own.w, own.state)
            })
        };
        let one = result(1);
        assert!([2, 3, 7].into_iter().all(|threads| result(threads) == one), "{r}x{c}");
    }
}

/// The momentum and the decay of an update are those of its place in the run.
#[test]
fn momentum_and_decay_follow_the_run() {
    let (g, w) = (noise(5, 8, 1), noise(5, 8, 2));
    let mut own = Own::new(&w);
    (own.muon.momentum, own.muon.fade) = (Momentum::NANOCHAT, Fade::Cosine);
    let mut twin = Twin::new(w);
    for (step, total, warm_down, mu, share) in [
        (0, 1000, 0.0, 0.85, 1.0),
        (200, 800, 0.0, 0.91, 0.853_553_390_593_273_8),
        (600, 1200, 0.5, 0.935, 0.5),
    ] {
        let progress = Progress { step, total, warm_down };
        own.step_at(&g, progress);
        let [_, lr, beta2, wd] = settings();
        twin.step(&g, [mu, lr, beta2, share * wd]);
        let found = distance(&own.w, &twin.w);
        assert!(found < bound(5, 8), "step {step}: {found}");
    }
}

/// Small models of each kind: Llama, Qwen3, GPT-2.
fn models() -> [GptConfig; 3] {
    let llama = model(2, false);
    let gpt2 = GptConfig {
        n_layer: 2,
        n_head: 2,
        n_kv_head: 2,
        n_embd: 16,
        head_dim: 8,
        hidden: 64,
        vocab_size: 40,
        seq_len: SEQ,
        ..GptConfig::preset("gpt2-tiny").unwrap()
    };
    [llama.clone(), GptConfig { qk_norm: true, tied: true, ..llama }, gpt2]
}

/// Momentum, decay and rate of nanochat on a run of 12 steps.
fn run_settings(model: GptConfig) -> RunConfig {
    let momentum = Momentum::Trapezoid { first: 0.8, peak: 0.95, last: 0.9, rise: 5 };
    let multipliers =
        Multipliers { embedding: 0.5, classifier: 0.2, vector: 0.1, ..Multipliers::default() };
    let decay = Decay::Linear { share: 0.5 };
    RunConfig {
        model,
        optimizer: OptimizerConfig::Muon(Muon { momentum, fade: Fade::Cosine, ..Muon::default() }),
        schedule: LrSchedule { decay, multipliers, ..LrSchedule::cosine(0.05, 0.05, 2, 12) },
        batch: 2,
        accum: 1,
        seq: SEQ,
        clip: 1.0,
        seed: 5,
        plan: &gpt::plan::BASELINE,
        dial: None,
    }
}

/// Goes on from a checkpoint in the middle of the warm-down, with the settings that it holds.
#[test]
fn a_resumed_run_computes_the_same_bits() {
    for model in models() {
        let device = Emulator::engine(Profile::default(), Numerics::Fast);
        let new_run = |config: RunConfig| {
            let params = initialise(&config.model, 3);
            Run::pretrain(config, params, loader(), &device, Numerics::Fast).unwrap()
        };
        let (out, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let intervals = train::Intervals { checkpoint: 7, keep: 9, ..NOTHING };
        let mut whole = new_run(run_settings(model.clone()));
        finish(&mut whole, &device, out.path(), intervals);
        let (middle, _) = newest(&out.path().join("step-00000007")).unwrap();
        let (settings, _) = train::run::saved(&middle).unwrap();
        assert_eq!(settings, run_settings(model.clone()));
        let mut rest = new_run(settings);
        rest.resume(&middle).unwrap();
        finish(&mut rest, &device, elsewhere.path(), intervals);
        for file in ["model.safetensors", "optimizer.safetensors"] {
            let read = |out: &tempfile::TempDir| {
                std::fs::read(out.path().join("step-00000012").join(file)).unwrap()
            };
            assert!(read(&out) == read(&elsewhere), "{file} of {model}");
        }
        let state = rest.trainer().state();
        for param in Layout::new(&model).params() {
            let names = ["m", "v", "momentum", "second"];
            let tensors = state.tensors();
            let has = names.map(|name| {
                tensors.iter().any(|(found, ..)| *found == format!("{}.{name}", param.name))
            });
            let muon = param.group == Group::Matrix;
            assert_eq!(has, [!muon, !muon, muon, muon], "{}", param.name);
        }
    }
}

/// Every token has the same successor.
#[test]
fn a_model_learns() {
    let tokens: Vec<u32> = (0..1200u32).map(|i| i * 7 % 40).collect();
    let loader = Loader::new(tokens.into(), LoaderConfig::new(SEQ, 5)).unwrap();
    for model in models() {
        let device = Emulator::cpu(Numerics::F32);
        let mut config = run_settings(model.clone());
        config.schedule.total = 60;
        let params = initialise(&config.model, 3);
        let mut run =
            Run::pretrain(config, params, loader.clone(), &device, Numerics::F32).unwrap();
        let first = run.evaluate(4).unwrap();
        (0..60).for_each(|_| assert!(!run.step().unwrap().skipped));
        let last = run.evaluate(4).unwrap();
        assert!(last < 0.5 * first, "{model}: {first} {last}");
    }
}
