//! The ceilings of this machine.

use super::spread::Spread;
use super::{Effort, host};
use cpu::peak::{Streams, multiply_adds};
use cpu::simd::Level;
use serde::Serialize;

/// The peak of one thread and of all threads. A ceiling is the best round: what disturbs a
/// measurement only ever lowers it.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Peaks {
    /// f32 multiply-adds in registers, GFLOP/s.
    pub(super) gflops: Ceiling,
    /// Reading memory, GB/s.
    pub(super) read_gbps: Ceiling,
    /// a ← b + s·c, GB/s, 12 bytes per element.
    pub(super) triad_gbps: Ceiling,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Ceiling {
    pub(super) one_thread: Spread,
    pub(super) all_threads: Spread,
}

impl Ceiling {
    /// The best that all threads did together.
    pub(super) fn best(&self) -> f64 {
        self.all_threads.max.max(self.one_thread.max)
    }
}

impl Peaks {
    /// GB/s that nothing out of cache exceeds.
    pub(super) fn memory(&self) -> f64 {
        self.read_gbps.best().max(self.triad_gbps.best())
    }

    /// How far the typical round lay below the best, of the steadiest thing there is: registers.
    pub(super) fn unsteadiness(&self) -> f64 {
        let all = self.gflops.all_threads;
        1.0 - all.median / all.max
    }
}

/// Measures the ceilings again and again, between other measurements: what disturbs the machine for a
/// while then does not lower a ceiling for good.
#[derive(Debug)]
pub(super) struct Meter {
    effort: Effort,
    /// Multiply-adds, reading, triad: with one thread and with all.
    found: [[Vec<f64>; 2]; 3],
}

impl Meter {
    pub(super) fn new(effort: &Effort) -> Self {
        Meter { effort: *effort, found: Default::default() }
    }

    /// A few rounds of all ceilings in turn.
    pub(super) fn measure(&mut self) {
        let Effort { ceiling_rounds, span, stream_bytes, .. } = self.effort;
        let (level, cores) = (Level::best(), host::cores());
        let mut streams = Streams::new(stream_bytes / size_of::<f32>(), cores);
        for _ in 0..ceiling_rounds {
            for (i, threads) in [1, cores].into_iter().enumerate() {
                self.found[0][i].push(multiply_adds(level, threads, span) / 1e9);
                self.found[1][i].push(streams.read(threads, span) / 1e9);
                self.found[2][i].push(streams.triad(threads, span) / 1e9);
            }
        }
    }

    /// Returns the findings so far; there must be some.
    pub(super) fn peaks(self) -> Peaks {
        let [gflops, read_gbps, triad_gbps] = self.found.map(|[one, all]| Ceiling {
            one_thread: Spread::of(one),
            all_threads: Spread::of(all),
        });
        Peaks { gflops, read_gbps, triad_gbps }
    }
}
