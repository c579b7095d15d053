//! Products of packed weights with few columns: `cargo bench -p cpu --bench matrix [-- FILTER…]`.
//!
//! The projections of stories110m, for each format of weights and numbers of columns from one (a token of
//! one text) to 256 (a prompt): GFLOP/s and GB/s of weights, best of many short runs, beside what
//! multiply-adds and memory allow. Weights rotate over copies that no cache holds. FILTER: words that a
//! line must have, such as `1T int8`.
#![allow(clippy::print_stdout, reason = "a benchmark tells its results")]

use cpu::matrix::{Columns, Target, multiply};
use cpu::peak::{Streams, multiply_adds};
use cpu::simd::Level;
use cpu::{Matrix, WeightFormat};
use std::time::{Duration, Instant};

const SPAN: Duration = Duration::from_millis(200);
const SHAPES: [[usize; 2]; 4] = [[768, 768], [2048, 768], [768, 2048], [32000, 768]];
const COLUMNS: [usize; 6] = [1, 2, 4, 8, 32, 256];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        let short = Duration::from_millis(2);
        let flops =
            (0..100).map(|_| multiply_adds(Level::best(), threads, short)).fold(0.0, f64::max);
        let mut streams = Streams::new(1 << 25, threads);
        let bytes = (0..100).map(|_| streams.read(threads, short)).fold(0.0, f64::max);
        println!("{threads}T: {:.0} GFLOP/s, {:.1} GB/s", flops / 1e9, bytes / 1e9);
        for format in WeightFormat::ALL {
            for shape in SHAPES {
                for columns in COLUMNS {
                    let [rows, k] = shape;
                    let label = format!("{threads}T {} [{rows}, {k}] x {columns}", format.name());
                    if words.iter().all(|word| label.contains(word.as_str())) {
                        let (seconds, weights) = pool.install(|| best(format, shape, columns));
                        let flop = 2.0 * (rows * k * columns) as f64;
                        println!(
                            "{label:<28} {:>7.1} GFLOP/s {:>4.0}%  {:>6.1} GB/s {:>4.0}%",
                            flop / seconds / 1e9,
                            100.0 * flop / seconds / flops,
                            weights / seconds / 1e9,
                            100.0 * weights / seconds / bytes,
                        );
                    }
                }
            }
        }
    }
}

/// Seconds of the fastest run, and bytes of the weights.
fn best(format: WeightFormat, [rows, k]: [usize; 2], count: usize) -> (f64, f64) {
    let values: Vec<f32> = (0..rows * k).map(|i| (i % 1013) as f32 / 1013.0 - 0.5).collect();
    let first = Matrix::new(format, rows, &values);
    let copies = (100_000_000 / first.bytes()).clamp(1, 64);
    let matrices = vec![first; copies];
    let x: Vec<f32> = (0..k * count).map(|i| (i % 311) as f32 / 311.0 - 0.5).collect();
    let mut y = vec![0.0; rows * count];
    let (start, mut best, mut turn) = (Instant::now(), f64::INFINITY, 0);
    while turn < copies + 5 || start.elapsed() < SPAN {
        let columns = Columns { data: &x, count, row: count, column: 1 };
        let to = Target { data: &mut y, row: count, column: 1, accumulate: false };
        let at = Instant::now();
        multiply(&matrices[turn % copies], columns, to);
        best = best.min(at.elapsed().as_secs_f64());
        turn += 1;
    }
    (best, matrices[0].bytes() as f64)
}
