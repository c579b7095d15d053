//! The CPU's peak rates: multiply-adds that never leave registers, and words streamed through
//! memory. The ceilings that every other measurement is held against.
//!
//! Each thread repeats its loop until a span of time is over and counts what it did, so cores of
//! different speed add up to what they do together. The functions use threads of their own, none of
//! rayon's. Whatever disturbs a measurement lowers it: the best of many short ones, of a few
//! milliseconds each, is what a machine does even while others use it now and then.
//!
//! An instruction set is one row in `register_loop` and one in `stream_triad`; those without a
//! row run the portable loops, which the compiler vectorises for the build's target.
#![allow(unsafe_code, reason = "vector instructions, for instruction sets found at run time")]

use crate::simd::{BASELINE_FUSED, Level, SliceKernel, dispatch, madd};
use std::hint::black_box;
use std::ops::Range;
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// Multiply-adds of each accumulator between two looks at the clock: some microseconds.
const STEPS: usize = 4096;

/// Floating-point operations per second of f32 multiply-adds in registers, a multiply-add counting
/// as two, with the instructions of `level`, on `threads` threads together for `span`.
///
/// A level that this machine cannot run is replaced by [`Level::Portable`].
pub fn multiply_adds(level: Level, threads: usize, span: Duration) -> f64 {
    let level = if level.available() { level } else { Level::Portable };
    together(vec![|| register_loop(level); threads.max(1)], span)
}

/// Arrays that are streamed through memory.
///
/// To measure memory and no cache, each should be at least four times as large as the last level
/// of cache (McCalpin, STREAM, 1995).
#[derive(Debug)]
pub struct Streams {
    a: Vec<f32>,
    b: Vec<f32>,
    c: Vec<f32>,
    /// Measurements so far.
    turn: usize,
}

/// Elements between two looks at the clock: 1 MiB.
const CHUNK: usize = 1 << 18;

impl Streams {
    /// Three arrays of `len` elements, first written by `threads` threads, each its own part.
    pub fn new(len: usize, threads: usize) -> Self {
        let array = || vec![0.0; len];
        let mut streams = Streams { a: array(), b: array(), c: array(), turn: 0 };
        let part = part(len, threads);
        std::thread::scope(|scope| {
            let arrays = [(&mut streams.a, 1.0), (&mut streams.b, 2.0), (&mut streams.c, 0.5)];
            for (array, value) in arrays {
                for chunk in array.chunks_mut(part) {
                    scope.spawn(move || chunk.fill(value));
                }
            }
        });
        streams
    }

    /// Bytes per second of reading one array, on `threads` threads together for `span`.
    pub fn read(&mut self, threads: usize, span: Duration) -> f64 {
        let turn = self.next_turn();
        let jobs = self.b.chunks(part(self.b.len(), threads)).map(|part| {
            let mut walk = Walk::new(part.len(), turn);
            move || {
                let chunk = &part[walk.next()];
                black_box(dispatch(Read(black_box(chunk))));
                size_of_val(chunk) as f64
            }
        });
        together(jobs.collect(), span)
    }

    /// Bytes per second of a ← b + s·c, on `threads` threads together for `span`: 12 bytes per
    /// element, as STREAM counts. Where there are instructions for it (AVX) stores go past the
    /// caches, so that these bytes are all that moves; elsewhere a machine may read each line of `a`
    /// before writing it, and move a third more than is counted.
    pub fn triad(&mut self, threads: usize, span: Duration) -> f64 {
        let turn = self.next_turn();
        let part = part(self.a.len(), threads);
        let inputs = self.b.chunks(part).zip(self.c.chunks(part));
        let jobs = self.a.chunks_mut(part).zip(inputs).map(|(a, (b, c))| {
            let mut walk = Walk::new(a.len(), turn);
            move || {
                let range = walk.next();
                let a = &mut a[range.clone()];
                stream_triad(a, &b[range.clone()], &c[range], black_box(3.0));
                3.0 * size_of_val(black_box(&*a)) as f64
            }
        });
        together(jobs.collect(), span)
    }

    fn next_turn(&mut self) -> usize {
        self.turn += 1;
        self.turn
    }
}

/// The chunks of a part, round and round. Each turn begins elsewhere, so that a short one does not
/// find in a cache what the one before left there.
struct Walk {
    len: usize,
    at: usize,
}

impl Walk {
    fn new(len: usize, turn: usize) -> Self {
        // Multiples of the golden ratio are never close to each other (in whole chunks).
        let share = (turn as f64 * 0.618_033_988_749_895).fract();
        let chunks = len.div_ceil(CHUNK);
        Walk { len, at: (share * chunks as f64) as usize * CHUNK }
    }

    fn next(&mut self) -> Range<usize> {
        let end = (self.at + CHUNK).min(self.len);
        let range = self.at..end;
        self.at = if end == self.len { 0 } else { end };
        range
    }
}

/// Elements of one thread's part, in whole pages.
fn part(len: usize, threads: usize) -> usize {
    len.div_ceil(threads.max(1)).next_multiple_of(1024)
}

/// Repeats every job on a thread of its own until `span` is over; each returns how much it did.
/// The sum of what they do per second.
fn together<J: FnMut() -> f64 + Send>(jobs: Vec<J>, span: Duration) -> f64 {
    let ready = Barrier::new(jobs.len());
    std::thread::scope(|scope| {
        let repeat = |mut job: J| {
            let ready = &ready;
            move || {
                job();
                ready.wait();
                let (start, mut done) = (Instant::now(), 0.0);
                loop {
                    done += job();
                    let elapsed = start.elapsed();
                    if elapsed >= span {
                        return done / elapsed.as_secs_f64();
                    }
                }
            }
        };
        let threads: Vec<_> = jobs.into_iter().map(|job| scope.spawn(repeat(job))).collect();
        threads.into_iter().map(|t| t.join().expect("the loops do not panic")).sum()
    })
}

/// [`STEPS`] multiply-adds of every accumulator; how many floating-point operations that is.
fn register_loop(level: Level) -> f64 {
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `multiply_adds` passes a level only if the machine has it.
        Level::Avx512 => unsafe { x86::register_avx512() },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::Avx2 => unsafe { x86::register_avx2() },
        _ => register_portable(),
    }
}

/// Twelve accumulators of four lanes, as many as SSE2 and NEON have registers for.
fn register_portable() -> f64 {
    const SUMS: usize = 12;
    let mut sums = [[1.0f32; 4]; SUMS];
    let (x, y) = (black_box([0.999f32; 4]), black_box([1e-3f32; 4]));
    for _ in 0..STEPS {
        for sum in &mut sums {
            for lane in 0..4 {
                sum[lane] = madd::<BASELINE_FUSED>(sum[lane], x[lane], y[lane]);
            }
        }
    }
    black_box(sums);
    (STEPS * SUMS * 4 * 2) as f64
}

/// The sum of a slice, with enough sums under way that additions are never what is waited for.
struct Read<'a>(&'a [f32]);

impl SliceKernel for Read<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<const FUSED: bool>(self) -> f32 {
        let mut lanes = [0.0f32; 64];
        let chunks = self.0.chunks_exact(64);
        let rest: f32 = chunks.remainder().iter().sum();
        for chunk in chunks {
            for (lane, &value) in lanes.iter_mut().zip(chunk) {
                *lane += value;
            }
        }
        rest + lanes.iter().sum::<f32>()
    }
}

/// a ← b + s·c, past the caches where there are instructions for it.
fn stream_triad(a: &mut [f32], b: &[f32], c: &[f32], s: f32) {
    assert!(a.len() == b.len() && a.len() == c.len(), "one length");
    match Level::best() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the level was detected, and the slices have one length.
        Level::Avx512 | Level::Avx2 => unsafe { x86::triad_avx(a, b, c, s) },
        _ => triad_portable(a, b, c, s),
    }
}

fn triad_portable(a: &mut [f32], b: &[f32], c: &[f32], s: f32) {
    for ((a, &b), &c) in a.iter_mut().zip(b).zip(c) {
        *a = madd::<BASELINE_FUSED>(s, c, b);
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::STEPS;
    use std::arch::x86_64::*;
    use std::hint::black_box;

    /// Two multiply-adds may start per cycle and take four cycles or five: ten must be under way.
    const SUMS_AVX512: usize = 16;
    /// As above; with the two factors they fill fourteen of sixteen registers.
    const SUMS_AVX2: usize = 12;

    /// # Safety
    /// The machine has AVX-512 F.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn register_avx512() -> f64 {
        let mut sums = [_mm512_set1_ps(1.0); SUMS_AVX512];
        let (x, y) = (_mm512_set1_ps(black_box(0.999)), _mm512_set1_ps(black_box(1e-3)));
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, x, y);
            }
        }
        black_box(sums);
        (STEPS * SUMS_AVX512 * 16 * 2) as f64
    }

    /// # Safety
    /// The machine has AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn register_avx2() -> f64 {
        let mut sums = [_mm256_set1_ps(1.0); SUMS_AVX2];
        let (x, y) = (_mm256_set1_ps(black_box(0.999)), _mm256_set1_ps(black_box(1e-3)));
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, x, y);
            }
        }
        black_box(sums);
        (STEPS * SUMS_AVX2 * 8 * 2) as f64
    }

    /// # Safety
    /// The machine has AVX2 and FMA; the slices have one length.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn triad_avx(a: &mut [f32], b: &[f32], c: &[f32], s: f32) {
        // Streaming stores must be aligned; loads need not be.
        let head = a.as_ptr().align_offset(32).min(a.len());
        let whole = head + (a.len() - head) / 8 * 8;
        let scale = _mm256_set1_ps(s);
        for i in (head..whole).step_by(8) {
            // SAFETY: eight elements from `i` on lie before `whole`, in slices of one length;
            // `head` made the address in `a` a multiple of 32.
            unsafe {
                let (b, c) =
                    (_mm256_loadu_ps(b.as_ptr().add(i)), _mm256_loadu_ps(c.as_ptr().add(i)));
                _mm256_stream_ps(a.as_mut_ptr().add(i), _mm256_fmadd_ps(scale, c, b));
            }
        }
        // Streaming stores are ordered with others only by a fence.
        _mm_sfence();
        for i in (0..head).chain(whole..a.len()) {
            a[i] = s.mul_add(c[i], b[i]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSTANT: Duration = Duration::ZERO;

    #[test]
    fn every_level_counts_its_work() {
        for level in [Level::Portable, Level::Avx2, Level::Avx512] {
            if level.available() {
                let done = register_loop(level);
                let sums = done / (2 * STEPS) as f64;
                assert!(sums >= 40.0 && sums.fract() == 0.0, "{level:?}: {sums} lanes under way");
            }
            for threads in [1, 3] {
                assert!(multiply_adds(level, threads, INSTANT) > 0.0);
            }
        }
    }

    #[test]
    fn triad_gives_b_plus_s_times_c_wherever_it_begins() {
        let n = 1003;
        let b: Vec<f32> = (0..n).map(|i| i as f32).collect();
        let c: Vec<f32> = (0..n).map(|i| (i % 17) as f32 - 8.0).collect();
        for start in 0..9 {
            let mut a = vec![f32::NAN; n];
            stream_triad(&mut a[start..], &b[start..], &c[start..], 3.0);
            for i in start..n {
                assert_eq!(a[i], b[i] + 3.0 * c[i], "element {i} from {start}");
            }
            assert!(a[..start].iter().all(|x| x.is_nan()), "nothing before the slice is written");
        }
    }

    #[test]
    fn reading_sees_every_element() {
        for n in [0, 1, 63, 64, 1000] {
            let x: Vec<f32> = (1..=n).map(|i| i as f32).collect();
            assert_eq!(dispatch(Read(&x)), (n * (n + 1) / 2) as f32);
        }
    }

    #[test]
    fn a_walk_comes_to_every_element_once_a_round() {
        let len = 3 * CHUNK + 5;
        for turn in 0..20 {
            let mut walk = Walk::new(len, turn);
            let mut seen: Vec<_> = (0..4).map(|_| walk.next()).collect();
            let first = seen[0].clone();
            assert_eq!(walk.next(), first, "the next round is the same");
            seen.sort_by_key(|range| range.start);
            assert_eq!((seen[0].start, seen[3].end), (0, len));
            assert!(seen.windows(2).all(|pair| pair[0].end == pair[1].start));
        }
    }

    #[test]
    fn streams_are_moved_by_any_number_of_threads() {
        for threads in [1, 2, 5] {
            let mut streams = Streams::new(10_000, threads);
            assert!(streams.read(threads, INSTANT) > 0.0);
            assert!(streams.triad(threads, INSTANT) > 0.0);
            assert!(streams.a.iter().all(|&a| a == 2.0 + 3.0 * 0.5), "every part was written");
        }
    }
}
