//! Matrix products of training steps: `cargo bench -p cpu --bench gemm [-- FILTER…]`.
//!
//! The products of stories15m and stories110m on one sequence of 256 tokens, as a step stores their
//! operands: forward, gradients of activations (dx) and of weights (dW), attention by heads,
//! classifier. GFLOP/s, median and best of rounds that alternate with the multiply-add peak of the
//! machine, in f32 and in f16 (gradients of weights: f16 operands, added to f32). Left operands
//! rotate over several copies, as the weights of layers do. FILTER: words that a line must have, such
//! as `1T 110m dW`. `ANEGPT_SIMD=avx2` measures as on a machine that has no more.
#![allow(clippy::print_stdout, reason = "a benchmark tells its results")]

use cpu::gemm::{Elements, Offsets, Operand, Output, Shape, gemm};
use cpu::peak::multiply_adds;
use cpu::simd::{self, Level, Round};
use half::f16;
use std::time::{Duration, Instant};

const ROUNDS: usize = 9;
/// Time of one round of one product, and of the peak.
const SPAN: Duration = Duration::from_millis(15);
const TOKENS: usize = 256;
/// Copies of the left operand.
const COPIES: usize = 4;

/// Width, hidden width, heads, width of a head, vocabulary.
struct Model {
    name: &'static str,
    d: usize,
    f: usize,
    heads: usize,
    e: usize,
    v: usize,
}

const MODELS: [Model; 2] = [
    Model { name: "15m", d: 288, f: 768, heads: 6, e: 48, v: 32000 },
    Model { name: "110m", d: 768, f: 2048, heads: 12, e: 64, v: 32000 },
];

/// A product [m, k] · [k, n] and which of its operands are stored transposed (T).
#[derive(Clone, Copy)]
struct Case {
    what: &'static str,
    m: usize,
    n: usize,
    k: usize,
    stored: &'static str,
    batch: usize,
}

impl Case {
    const fn new(what: &'static str, [m, n, k]: [usize; 3], stored: &'static str) -> Self {
        Case { what, m, n, k, stored, batch: 1 }
    }

    const fn heads(self, batch: usize) -> Self {
        Case { batch, ..self }
    }

    fn flops(&self) -> f64 {
        2.0 * (self.m * self.n * self.k * self.batch) as f64
    }

    /// True if results are added to f32.
    fn accumulates(&self) -> bool {
        self.what.starts_with("dW")
    }
}

fn cases(model: &Model) -> Vec<Case> {
    let &Model { d, f, heads, e, v, .. } = model;
    let t = TOKENS;
    vec![
        Case::new("forward q k v o", [d, t, d], "NN"),
        Case::new("forward gate up", [f, t, d], "NN"),
        Case::new("forward down", [d, t, f], "NN"),
        Case::new("dx q k v o", [d, t, d], "TN"),
        Case::new("dx down", [f, t, d], "TN"),
        Case::new("dx gate up", [d, t, f], "TN"),
        Case::new("dW q k v o", [d, d, t], "NT"),
        Case::new("dW gate up", [f, d, t], "NT"),
        Case::new("dW down", [d, f, t], "NT"),
        Case::new("attention scores", [t, t, e], "TN").heads(heads),
        Case::new("attention values", [e, t, t], "NT").heads(heads),
        Case::new("attention dv dk", [e, t, t], "NN").heads(heads),
        Case::new("classifier forward", [v, t, d], "NN"),
        Case::new("classifier dx", [d, t, v], "TN"),
        Case::new("dW classifier", [v, d, t], "NT"),
        Case::new("one token down", [d, 1, f], "NN"),
        Case::new("one token logits", [v, 1, d], "NN"),
    ]
}

fn values(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..n).map(|_| next()).collect()
}

fn halves(x: &[f32]) -> Vec<f16> {
    let mut y = vec![f16::ZERO; x.len()];
    simd::narrow(x, &mut y, Round::IEEE);
    y
}

/// A case with its operands.
struct Bench {
    case: Case,
    a: Vec<Vec<f32>>,
    a_half: Vec<Vec<f16>>,
    b: Vec<f32>,
    b_half: Vec<f16>,
    c: Vec<f32>,
    c_half: Vec<f16>,
    batch: Vec<Offsets>,
}

impl Bench {
    fn new(case: Case) -> Self {
        let Case { m, n, k, batch, .. } = case;
        let a: Vec<_> = (0..COPIES).map(|i| values(m * k * batch, i as u32 + 1)).collect();
        let b = values(k * n * batch, 99);
        let at = |i| Offsets { a: i * m * k, b: i * k * n, c: i * m * n };
        Bench {
            case,
            batch: (0..batch).map(at).collect(),
            a_half: a.iter().map(|a| halves(a)).collect(),
            b_half: halves(&b),
            a,
            b,
            c: vec![0.0; m * n * batch],
            c_half: vec![f16::ZERO; m * n * batch],
        }
    }

    fn run(&mut self, call: usize, half: bool) {
        let Case { m, n, k, stored, .. } = self.case;
        let copy = call % COPIES;
        let (a, b) = match half {
            true => (Elements::F16(&self.a_half[copy]), Elements::F16(&self.b_half)),
            false => (Elements::F32(&self.a[copy]), Elements::F32(&self.b)),
        };
        let accumulate = self.case.accumulates();
        let (c, round) = match half && !accumulate {
            true => (Output::F16(&mut self.c_half), Some(Round::PRODUCT)),
            false => (Output::F32 { data: &mut self.c, accumulate }, None),
        };
        let operand = |data, rows: usize, columns: usize, transposed: bool| {
            let (rs, cs) = if transposed { (1, rows) } else { (columns, 1) };
            Operand { data, rs, cs }
        };
        let a = operand(a, m, k, stored.starts_with('T'));
        let b = operand(b, k, n, stored.ends_with('T'));
        gemm(Shape { m, n, k, rs_c: n, cs_c: 1 }, a, b, &self.batch, c, round);
    }

    /// GFLOP/s over [`SPAN`].
    fn rate(&mut self, half: bool) -> f64 {
        let (start, mut calls) = (Instant::now(), 0);
        while start.elapsed() < SPAN {
            self.run(calls, half);
            calls += 1;
        }
        self.case.flops() * calls as f64 / start.elapsed().as_secs_f64() / 1e9
    }
}

/// Median and best.
fn summary(mut samples: Vec<f64>) -> (f64, f64) {
    samples.sort_by(f64::total_cmp);
    (samples[samples.len() / 2], samples[samples.len() - 1])
}

fn report(model: &Model, case: Case, threads: usize) {
    let mut bench = Bench::new(case);
    let mut samples: [Vec<f64>; 3] = std::array::from_fn(|_| Vec::new());
    bench.run(0, false);
    bench.run(0, true);
    for _ in 0..ROUNDS {
        // Short ones, of which some go by undisturbed.
        let peak = || multiply_adds(Level::best(), threads, SPAN / 5) / 1e9;
        samples[0].extend((0..5).map(|_| peak()));
        samples[1].push(bench.rate(false));
        samples[2].push(bench.rate(true));
    }
    let [(_, peak), full, half] = samples.map(summary);
    let heads = if case.batch > 1 { format!("{}·", case.batch) } else { String::new() };
    let shape = format!("{} {heads}{}×{}×{}", case.stored, case.m, case.n, case.k);
    println!(
        "{threads}T {:4} {:18} {shape:>20} {peak:7.0} | {:7.1} {:7.1} {:4.0} % | {:7.1} {:7.1} {:4.0} %",
        model.name,
        case.what,
        full.0,
        full.1,
        100.0 * full.0 / peak,
        half.0,
        half.1,
        100.0 * half.0 / peak
    );
}

fn main() {
    let filter: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let all = rayon::current_num_threads();
    println!(
        "GFLOP/s, {ROUNDS} alternating rounds: peak (best) | f32 median, best, share | f16 the same"
    );
    for threads in if all > 1 { vec![1, all] } else { vec![1] } {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.expect("threads can be started");
        for model in &MODELS {
            for case in cases(model) {
                let line = format!("{threads}T {} {} {}", model.name, case.what, case.stored);
                if filter.iter().all(|word| line.contains(word.as_str())) {
                    // From a thread of the pool, as the emulator runs.
                    pool.install(|| report(model, case, threads));
                }
            }
        }
    }
}
