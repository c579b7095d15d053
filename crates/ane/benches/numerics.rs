//! The cost of precision: one matmul in every numerics, side by side.
//!
//! `cargo bench -p ane --bench numerics`. Rounds of all numerics alternate; medians are compared.
#![allow(clippy::print_stdout, reason = "a benchmark tells its results")]

use ane::{Device, Emulator, Surface};
use cpu::Numerics;
use mil::{Builder, DType, Program, TensorType, Weights};
use std::time::Instant;

const ROUNDS: usize = 15;

fn main() {
    println!(
        "matmul, fp16, medians of {ROUNDS} alternating rounds, {} threads",
        rayon::current_num_threads()
    );
    for n in [128, 512, 1024] {
        let all = [Numerics::F32, Numerics::Fast, Numerics::Exact];
        let mut runs: Vec<_> = all.iter().map(|&numerics| prepare(numerics, n)).collect();
        let mut times = vec![vec![]; runs.len()];
        for _ in 0..ROUNDS {
            for (run, times) in runs.iter_mut().zip(&mut times) {
                let start = Instant::now();
                run();
                times.push(start.elapsed().as_secs_f64());
            }
        }
        let medians: Vec<f64> = times.iter_mut().map(|times| median(times)).collect();
        for (numerics, t) in all.iter().zip(&medians) {
            let rate = 2e-9 * (n as f64).powi(3) / t;
            let ratio = t / medians[1];
            println!(
                "{n:>5}³ {numerics:>6?} {:>9.3} ms {rate:>7.1} GFLOP/s {ratio:>6.2} × fast",
                t * 1e3
            );
        }
    }
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn prepare(numerics: Numerics, n: usize) -> impl FnMut() {
    let b = Builder::new("main");
    let ty = TensorType::new(DType::Fp16, [1, 1, n, n]);
    let (x, y) = (b.input("x", ty.clone()), b.input("y", ty.clone()));
    let f = b.finish(&[x.matmul(y, false, false).named("z")]).expect("shapes agree");
    let device = Emulator::cpu(numerics);
    let mut exe = device.compile(&Program::new(f), &Weights::new()).expect("the program is legal");
    let surface = |seed: usize| -> Surface {
        let surface = device.surface(&ty, 0).expect("there is memory");
        let value = |i: usize| ((i * 7919 + seed) % 2003) as f32 / 1001.5 - 1.0;
        surface.write(&(0..n * n).map(value).collect::<Vec<_>>()).expect("one size");
        surface
    };
    let (x, y, z) = (surface(0), surface(1), surface(2));
    move || {
        exe.run(&[&x, &y], &[&z]).expect("the request is legal");
    }
}
