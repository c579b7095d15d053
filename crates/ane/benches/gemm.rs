//! Throughput of matrix products: `cargo bench -p ane --bench gemm [-- FILTER]`.
//!
//! Prints GFLOP/s, best and median of interleaved rounds, beside the `gemm` crate in f32 and the
//! multiply-add peak of the machine measured in the same rounds. Left operands rotate over several
//! copies, as the weights of layers do. Two threads and one.
#![allow(clippy::print_stdout, reason = "a benchmark reports on standard output")]
#![allow(unsafe_code, reason = "the measured peak uses intrinsics; the peer's interface is raw")]

use ane::emulator::gemm::{Elements, Offsets, Operand, Output, Shape, gemm};
use ane::emulator::simd::{self, Round};
use half::f16;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// A product and how its operands are stored: `T` means transposed.
struct Case {
    name: &'static str,
    m: usize,
    n: usize,
    k: usize,
    left_transposed: bool,
    right_transposed: bool,
    batch: usize,
}

const fn case(name: &'static str, m: usize, n: usize, k: usize, l: bool, r: bool) -> Case {
    Case { name, m, n, k, left_transposed: l, right_transposed: r, batch: 1 }
}

const CASES: [Case; 15] = [
    case("NN", 768, 256, 768, false, false),
    case("NN", 2048, 256, 768, false, false),
    case("NN", 768, 256, 2048, false, false),
    case("TN", 768, 256, 768, true, false),
    case("TN", 768, 256, 2048, true, false),
    case("NT", 768, 768, 256, false, true),
    case("NT", 768, 2048, 256, false, true),
    case("NN", 128, 768, 128, false, false),
    case("NN", 512, 768, 128, false, false),
    Case { batch: 48, ..case("NN", 64, 64, 32, false, false) },
    Case { batch: 12, ..case("TN", 256, 256, 64, true, false) },
    case("NN", 32000, 256, 768, false, false),
    case("TN", 768, 256, 32000, true, false),
    case("NN", 768, 1, 2048, false, false),
    case("NT", 1, 32000, 768, false, true),
];

/// Copies of the left operand.
const COPIES: usize = 4;

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

/// Seconds per call, repeated for about 20 ms.
fn time(mut f: impl FnMut(usize)) -> f64 {
    let start = Instant::now();
    let mut calls = 0;
    while start.elapsed() < Duration::from_millis(20) {
        f(calls);
        calls += 1;
    }
    start.elapsed().as_secs_f64() / calls as f64
}

/// Floating-point operations of `n` steps of 16 independent vector multiply-adds.
#[cfg(target_arch = "x86_64")]
fn peak(n: usize) -> f64 {
    use std::arch::x86_64::*;
    #[target_feature(enable = "avx512f")]
    fn wide(n: usize) -> f64 {
        let mut sums = [_mm512_set1_ps(1.0); 16];
        let (x, y) = (_mm512_set1_ps(black_box(0.999)), _mm512_set1_ps(black_box(1e-3)));
        for _ in 0..n {
            for s in &mut sums {
                *s = _mm512_fmadd_ps(*s, x, y);
            }
        }
        black_box(sums);
        (n * 16 * 32) as f64
    }
    #[target_feature(enable = "avx2,fma")]
    fn narrow(n: usize) -> f64 {
        let mut sums = [_mm256_set1_ps(1.0); 12];
        let (x, y) = (_mm256_set1_ps(black_box(0.999)), _mm256_set1_ps(black_box(1e-3)));
        for _ in 0..n {
            for s in &mut sums {
                *s = _mm256_fmadd_ps(*s, x, y);
            }
        }
        black_box(sums);
        (n * 12 * 16) as f64
    }
    match simd::Level::best() {
        // SAFETY: the level was detected.
        simd::Level::Avx512 => unsafe { wide(n) },
        // SAFETY: the level was detected.
        simd::Level::Avx2 => unsafe { narrow(n) },
        simd::Level::Portable => f64::NAN,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn peak(_: usize) -> f64 {
    f64::NAN
}

fn measure_peak(threads: usize) -> f64 {
    const STEPS: usize = 200_000;
    let start = Instant::now();
    let run = || peak(black_box(STEPS));
    let flops = if threads == 1 {
        run()
    } else {
        let (x, y) = rayon::join(run, run);
        x + y
    };
    flops / start.elapsed().as_secs_f64() / 1e9
}

/// A case with its operands.
struct Bench<'a> {
    case: &'a Case,
    a: Vec<Vec<f32>>,
    a_half: Vec<Vec<f16>>,
    b: Vec<f32>,
    b_half: Vec<f16>,
    c: Vec<f32>,
    c_half: Vec<f16>,
    batch: Vec<Offsets>,
}

impl<'a> Bench<'a> {
    fn new(case: &'a Case) -> Self {
        let size = |x: usize, y: usize| x * y * case.batch;
        let a: Vec<_> = (0..COPIES).map(|i| values(size(case.m, case.k), i as u32 + 1)).collect();
        let b = values(size(case.k, case.n), 99);
        let (m, n, k) = (case.m, case.n, case.k);
        let at = |i| Offsets { a: i * m * k, b: i * k * n, c: i * m * n };
        Self {
            case,
            batch: (0..case.batch).map(at).collect(),
            a_half: a.iter().map(|a| halves(a)).collect(),
            b_half: halves(&b),
            a,
            b,
            c: vec![0.0; size(case.m, case.n)],
            c_half: vec![f16::ZERO; size(case.m, case.n)],
        }
    }

    fn own(&mut self, copy: usize, half: bool) {
        let Case { m, n, k, left_transposed, right_transposed, .. } = *self.case;
        let copy = copy % COPIES;
        let operand = |data, x: usize, y: usize, transposed: bool| {
            let (rs, cs) = if transposed { (1, x) } else { (y, 1) };
            Operand { data, rs, cs }
        };
        let (a, b, c, round) = if half {
            let (a, b) = (Elements::F16(&self.a_half[copy]), Elements::F16(&self.b_half));
            (a, b, Output::F16(&mut self.c_half), Some(Round::PRODUCT))
        } else {
            let (a, b) = (Elements::F32(&self.a[copy]), Elements::F32(&self.b));
            (a, b, Output::F32 { data: &mut self.c, accumulate: false }, None)
        };
        let (a, b) = (operand(a, m, k, left_transposed), operand(b, k, n, right_transposed));
        gemm(Shape { m, n, k, rs_c: n, cs_c: 1 }, a, b, &self.batch, c, round);
    }

    fn peer(&mut self, copy: usize, threads: usize) {
        let Case { m, n, k, left_transposed, right_transposed, batch, .. } = *self.case;
        let stride =
            |x: usize, y: usize, t: bool| if t { (1, x as isize) } else { (y as isize, 1) };
        let ((a_rs, a_cs), (b_rs, b_cs)) =
            (stride(m, k, left_transposed), stride(k, n, right_transposed));
        let parallelism = match threads {
            1 => ::gemm::Parallelism::None,
            n => ::gemm::Parallelism::Rayon(n),
        };
        for i in 0..batch {
            // SAFETY: the buffers hold `batch` matrices of these extents and strides.
            unsafe {
                ::gemm::gemm(
                    m,
                    n,
                    k,
                    self.c.as_mut_ptr().add(i * m * n),
                    1,
                    n as isize,
                    false,
                    self.a[copy % COPIES].as_ptr().add(i * m * k),
                    a_cs,
                    a_rs,
                    self.b.as_ptr().add(i * k * n),
                    b_cs,
                    b_rs,
                    0.0,
                    1.0,
                    false,
                    false,
                    false,
                    parallelism,
                );
            }
        }
    }
}

/// Median and best of samples.
fn summary(mut samples: Vec<f64>) -> (f64, f64) {
    samples.sort_by(f64::total_cmp);
    (samples[samples.len() / 2], samples[samples.len() - 1])
}

fn report(case: &Case, threads: usize, rounds: usize) {
    let mut bench = Bench::new(case);
    let flops = 2.0 * (case.m * case.n * case.k * case.batch) as f64;
    let mut samples: [Vec<f64>; 4] = std::array::from_fn(|_| Vec::new());
    for _ in 0..rounds {
        samples[0].push(measure_peak(threads));
        samples[1].push(flops / time(|i| bench.peer(i, threads)) / 1e9);
        samples[2].push(flops / time(|i| bench.own(i, false)) / 1e9);
        samples[3].push(flops / time(|i| bench.own(i, true)) / 1e9);
    }
    let [peak, peer, own, half] = samples.map(summary);
    let shape = format!("{} {}x{}x{}x{}", case.name, case.m, case.n, case.k, case.batch);
    println!(
        "{threads}T {shape:22} {:6.0} {:6.0} | {:6.1} {:6.1} | {:6.1} {:6.1} | {:6.1} {:6.1}",
        peak.0, peak.1, peer.0, peer.1, own.0, own.1, half.0, half.1
    );
}

fn main() {
    let filter: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    println!("GFLOP/s           median and best of: peak | gemm crate f32 | f32 | f16 to f16");
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.expect("two threads can be started");
        for case in &CASES {
            let key = format!("{threads}T {} {}x{}x{}", case.name, case.m, case.n, case.k);
            if filter.iter().all(|f| key.contains(f.as_str())) {
                // From a thread of the pool, as the emulator runs.
                pool.install(|| report(case, threads, 9));
            }
        }
    }
}
