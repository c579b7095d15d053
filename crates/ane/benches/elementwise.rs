//! Chains that are no matrix products, as compiled programs on the emulator:
//! `cargo bench -p ane --bench elementwise [-- FILTER…]`.
//!
//! The gate of SwiGLU, softmax, RMSNorm and rotary embedding in the shapes of stories110m, for 256
//! tokens and for 2048. GB/s of inputs read once and results written once, median and best of rounds
//! that alternate with the triad of the machine; above 100 % of it the data stay in a cache. FILTER:
//! words that a line must have, such as `softmax F32`.
#![allow(clippy::print_stdout, reason = "a benchmark tells its results")]

use ane::{Device, Emulator, Executable, Surface};
use cpu::Numerics;
use cpu::peak::Streams;
use mil::{Builder, DType, Function, Program, TensorType, Weights};
use std::time::{Duration, Instant};

const ROUNDS: usize = 9;
/// Time of one round of one chain, and of the triad.
const SPAN: Duration = Duration::from_millis(15);
/// Bytes of each array that is streamed.
const STREAM_BYTES: usize = 128 << 20;

/// Width, hidden width, heads, width of a head.
const D: usize = 768;
const F: usize = 2048;
const HEADS: usize = 12;
const E: usize = 64;

/// A chain for some tokens.
type Chain = fn(&Builder, DType, usize) -> Function;

const CHAINS: [(&str, Chain); 4] =
    [("silu gate", gate), ("softmax", softmax), ("rmsnorm", rms_norm), ("rope", rope)];

/// h1·sigmoid(h1)·h3 [1, F, 1, T].
fn gate(b: &Builder, dtype: DType, tokens: usize) -> Function {
    let ty = TensorType::new(dtype, [1, F, 1, tokens]);
    let (h1, h3) = (b.input("h1", ty.clone()), b.input("h3", ty));
    let y = h1 * h1.sigmoid() * h3;
    b.finish(&[y.named("y")]).expect("shapes agree")
}

/// softmax(x + mask) over the last axis: x [1, heads, 256, T], mask [1, 1, 256, T].
fn softmax(b: &Builder, dtype: DType, tokens: usize) -> Function {
    let x = b.input("x", TensorType::new(dtype, [1, HEADS, 256, tokens]));
    let mask = b.input("mask", TensorType::new(dtype, [1, 1, 256, tokens]));
    let y = (x * (1.0 / (E as f64).sqrt()) + mask).softmax(-1);
    b.finish(&[y.named("y")]).expect("shapes agree")
}

/// x / √(mean x² + ε) · gain over the channels of x [1, D, 1, T].
fn rms_norm(b: &Builder, dtype: DType, tokens: usize) -> Function {
    let x = b.input("x", TensorType::new(dtype, [1, D, 1, tokens]));
    let gain = b.input("gain", TensorType::new(dtype, [1, D, 1, 1]));
    let scaled = x * 0.125;
    let sum = (scaled * scaled).reduce_sum(&[1]);
    let y = x * (sum * (64.0 / D as f64) + 1e-5).pow(-0.5) * gain;
    b.finish(&[y.named("y")]).expect("shapes agree")
}

/// Rotation of the halves of every head of x [1, D, 1, T]; tables [1, 1, E/2, T].
fn rope(b: &Builder, dtype: DType, tokens: usize) -> Function {
    let x = b.input("x", TensorType::new(dtype, [1, D, 1, tokens]));
    let table = TensorType::new(dtype, [1, 1, E / 2, tokens]);
    let (cos, sin) = (b.input("cos", table.clone()), b.input("sin", table));
    let pairs = x.reshape(&[HEADS, 2, E / 2, tokens]);
    let halves = pairs.split(1, 2);
    let (left, right) = (halves[0], halves[1]);
    let turned = b.concat(1, &[left * cos - right * sin, right * cos + left * sin]);
    b.finish(&[turned.reshape(&[1, D, 1, tokens]).named("y")]).expect("shapes agree")
}

/// A compiled chain with its surfaces.
struct Bench {
    executable: Box<dyn Executable>,
    inputs: Vec<Surface>,
    output: Surface,
    bytes: f64,
}

impl Bench {
    fn new(chain: Chain, numerics: Numerics, tokens: usize) -> Self {
        let dtype = if numerics == Numerics::F32 { DType::Fp32 } else { DType::Fp16 };
        let function = chain(&Builder::new("main"), dtype, tokens);
        let device = Emulator::cpu(numerics);
        let executable =
            device.compile(&Program::new(function), &Weights::new()).expect("the program is legal");
        let surface = |port: &ane::Port| {
            let surface = device.surface(&port.ty, 0).expect("there is memory");
            let value = |i: usize| (i * 7919 % 2003) as f32 / 1001.5 - 1.0;
            let values: Vec<f32> = (0..port.ty.count()).map(value).collect();
            surface.write(&values).expect("one size");
            surface
        };
        let ports = executable.inputs().iter().chain(executable.outputs());
        Bench {
            bytes: ports.map(|port| port.ty.bytes()).sum::<usize>() as f64,
            inputs: executable.inputs().iter().map(surface).collect(),
            output: surface(&executable.outputs()[0]),
            executable,
        }
    }

    fn run(&mut self) {
        let inputs: Vec<&Surface> = self.inputs.iter().collect();
        self.executable.run(&inputs, &[&self.output]).expect("the request is legal");
    }

    /// GB/s over [`SPAN`].
    fn rate(&mut self) -> f64 {
        let (start, mut calls) = (Instant::now(), 0.0);
        while start.elapsed() < SPAN {
            self.run();
            calls += 1.0;
        }
        self.bytes * calls / start.elapsed().as_secs_f64() / 1e9
    }
}

/// Median and best.
fn summary(mut samples: Vec<f64>) -> (f64, f64) {
    samples.sort_by(f64::total_cmp);
    (samples[samples.len() / 2], samples[samples.len() - 1])
}

fn main() {
    let filter: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let threads = rayon::current_num_threads();
    let mut streams = Streams::new(STREAM_BYTES / size_of::<f32>(), threads);
    println!(
        "{threads} threads, GB/s, {ROUNDS} alternating rounds: triad (best) | chain median, best, share"
    );
    for numerics in [Numerics::F32, Numerics::Fast] {
        for (name, chain) in CHAINS {
            for tokens in [256, 2048] {
                let line = format!("{name} {numerics:?} {tokens}");
                if !filter.iter().all(|word| line.contains(word.as_str())) {
                    continue;
                }
                let mut bench = Bench::new(chain, numerics, tokens);
                bench.run();
                let (mut triad, mut rates) = (vec![], vec![]);
                for _ in 0..ROUNDS {
                    triad.push(streams.triad(threads, SPAN) / 1e9);
                    rates.push(bench.rate());
                }
                let ((_, triad), (median, best)) = (summary(triad), summary(rates));
                println!(
                    "{name:10} {numerics:>5?} {tokens:>5} tokens {:>7.2} MB {triad:>7.1} | {median:>7.1} \
                     {best:>7.1} {:>5.0} %",
                    bench.bytes / 1e6,
                    100.0 * median / triad
                );
            }
        }
    }
}
