//! Muon's update of a matrix: `cargo bench -p train --bench muon`.
//!
//! GFLOP/s of whole updates and their share of the machine's multiply-add peak, on one thread and on all,
//! medians and best of rounds that alternate with the peak. Counted are whole products, as other programs
//! compute them ([`Muon::flops_of_whole_products`]), and in brackets what is computed ([`Muon::flops`]): half
//! of each symmetric one. Their time includes everything else that an update does.
#![allow(clippy::print_stdout, reason = "a benchmark tells its results")]

use cpu::peak::multiply_adds;
use cpu::simd::Level;
use std::time::{Duration, Instant};
use train::Muon;
use train::optim::Update;
use train::schedule::Progress;

const ROUNDS: usize = 9;
/// Time of one round of updates, and of the peak.
const SPAN: Duration = Duration::from_millis(60);
/// Extents [out, in]: nanochat's depths 4 and 12, and Llama's projections to 2048.
const MATRICES: [[usize; 2]; 8] = [
    [256, 256],
    [256, 1024],
    [1024, 256],
    [768, 768],
    [768, 3072],
    [3072, 768],
    [768, 2048],
    [6, 12],
];

/// A matrix with its gradients and state.
struct Bench {
    extents: [usize; 2],
    w: Vec<f32>,
    g: Vec<f32>,
    momentum: Vec<f32>,
    second: Vec<f32>,
}

impl Bench {
    fn new(extents @ [rows, columns]: [usize; 2]) -> Self {
        let wave = |i: usize| ((i * 7919) % 2003) as f32 / 1001.5 - 1.0;
        let n = rows * columns;
        Bench {
            extents,
            w: (0..n).map(wave).collect(),
            g: (0..n).map(|i| wave(i * i % 65_537) * 1e-3).collect(),
            momentum: vec![0.0; n],
            second: vec![0.0; rows.max(columns)],
        }
    }

    fn update(&mut self) {
        let Bench { extents, w, g, momentum, second } = self;
        let update = Update { t: 1, lr: 1e-3, scale: 1.0, progress: Progress::default() };
        Muon::default().update(&update, *extents, w, g, momentum, second);
    }

    /// Seconds of one update, over [`SPAN`].
    fn seconds(&mut self) -> f64 {
        let (start, mut updates) = (Instant::now(), 0.0);
        while start.elapsed() < SPAN {
            self.update();
            updates += 1.0;
        }
        start.elapsed().as_secs_f64() / updates
    }
}

/// Median and best, where more is better.
fn summary(mut samples: Vec<f64>) -> (f64, f64) {
    samples.sort_by(f64::total_cmp);
    (samples[samples.len() / 2], samples[samples.len() - 1])
}

fn report(extents: [usize; 2], threads: usize) {
    let (mut bench, flops) = (Bench::new(extents), Muon::flops_of_whole_products(extents));
    let computed = Muon::flops(extents) / flops;
    bench.update();
    let (mut peaks, mut rates) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        // Short ones, of which some go by undisturbed.
        peaks.extend((0..5).map(|_| multiply_adds(Level::best(), threads, SPAN / 10) / 1e9));
        rates.push(flops / bench.seconds() / 1e9);
    }
    let ((_, peak), (median, best)) = (summary(peaks), summary(rates));
    let [rows, columns] = extents;
    println!(
        "{threads}T {rows:>5} x {columns:<5} {:>9.3} ms {median:>7.1} GFLOP/s (best {best:>7.1}), {:>3.0} % \
         (computed {:>3.0} %) of {peak:.0}",
        1e-6 * flops / median,
        100.0 * median / peak,
        100.0 * computed * median / peak
    );
}

fn main() {
    let all = rayon::current_num_threads();
    println!("{ROUNDS} rounds that alternate with the peak (best)");
    for threads in if all > 1 { vec![1, all] } else { vec![1] } {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.expect("threads can be started");
        for extents in MATRICES {
            // From a thread of the pool, as a trainer's products run.
            pool.install(|| report(extents, threads));
        }
    }
}
