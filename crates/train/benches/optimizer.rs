//! AdamW and the norm of the gradients: `cargo bench -p train --bench optimizer`.
//!
//! Gparam/s and GB/s on one thread and on all, for parameters that fit a cache and for as many as
//! stories15m and stories110m have, medians of rounds that alternate with the triad of the machine.
//! An update reads weight, gradient and two moments and writes all but the gradient (28 bytes per
//! parameter); the norm reads the gradient (4 bytes). Above 100 % of the triad the data stay in a cache.
#![allow(clippy::print_stdout, reason = "a benchmark tells its results")]

use cpu::peak::Streams;
use std::hint::black_box;
use std::time::{Duration, Instant};
use train::AdamW;
use train::optim::global_norm;

const ROUNDS: usize = 9;
/// Time of one round of the triad.
const SPAN: Duration = Duration::from_millis(30);
/// Bytes of each array that is streamed.
const STREAM_BYTES: usize = 128 << 20;
/// Parameters of one that stays in a cache, of stories15m, of stories110m.
const SIZES: [usize; 3] = [100_000, 15_191_712, 109_529_856];

/// Weights, gradients, moments.
struct Arenas {
    w: Vec<f32>,
    g: Vec<f32>,
    m: Vec<f32>,
    v: Vec<f32>,
    updates: u64,
}

impl Arenas {
    fn new(n: usize) -> Self {
        let wave = |i: usize| ((i * 7919) % 2003) as f32 / 1001.5 - 1.0;
        Arenas {
            w: (0..n).map(wave).collect(),
            g: (0..n).map(|i| wave(i + 5) * 1e-3).collect(),
            m: vec![0.0; n],
            v: vec![0.0; n],
            updates: 0,
        }
    }

    fn update(&mut self) {
        self.updates += 1;
        let Arenas { w, g, m, v, updates } = self;
        AdamW::default().update(*updates, 1e-4, 1.0, true, w, g, m, v, &|_, _| ());
    }
}

/// Seconds of one call, of as many as take some milliseconds.
fn time(mut f: impl FnMut()) -> f64 {
    let (start, mut calls) = (Instant::now(), 0.0);
    loop {
        f();
        calls += 1.0;
        let elapsed = start.elapsed();
        if elapsed > Duration::from_millis(5) {
            return elapsed.as_secs_f64() / calls;
        }
    }
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

fn report(n: usize, threads: usize, streams: &mut Streams) {
    let mut arenas = Arenas::new(n);
    arenas.update();
    let (mut triad, mut update, mut norm) = (vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        triad.push(streams.triad(threads, SPAN) / 1e9);
        update.push(time(|| arenas.update()));
        norm.push(time(|| {
            black_box(global_norm(&arenas.g));
        }));
    }
    let triad = median(triad);
    for (name, bytes, seconds) in [("AdamW", 28.0, median(update)), ("norm", 4.0, median(norm))] {
        let rate = n as f64 * bytes / seconds / 1e9;
        println!(
            "{threads}T {:>9} parameters {name:>5} {:>9.3} ms {:>6.2} Gparam/s {rate:>7.1} GB/s {:>4.0} % \
             of {triad:.1}",
            n,
            1e3 * seconds,
            n as f64 / seconds / 1e9,
            100.0 * rate / triad
        );
    }
}

fn main() {
    let all = rayon::current_num_threads();
    println!("medians of {ROUNDS} rounds that alternate with the triad");
    let mut streams = Streams::new(STREAM_BYTES / size_of::<f32>(), all);
    for threads in if all > 1 { vec![1, all] } else { vec![1] } {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.expect("threads can be started");
        for n in SIZES {
            pool.install(|| report(n, threads, &mut streams));
        }
    }
}
