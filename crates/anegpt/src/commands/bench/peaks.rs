//! The ceilings of this machine.

use super::spread::Spread;
use super::{Effort, host};
use ane::emulator::peak::{Streams, multiply_adds};
use ane::emulator::simd::Level;
use serde::Serialize;

/// What one thread and all threads do at most. A ceiling is the best round: what disturbs a
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

/// Rounds of all measurements alternate, so that what changes with time changes all alike.
pub(super) fn measure(effort: &Effort) -> Peaks {
    let cores = host::cores();
    let (level, span) = (Level::best(), effort.span);
    let mut streams = Streams::new(effort.stream_bytes / size_of::<f32>(), cores);
    let mut found: [[Vec<f64>; 2]; 3] = Default::default();
    for _ in 0..effort.rounds {
        for (i, threads) in [1, cores].into_iter().enumerate() {
            found[0][i].push(multiply_adds(level, threads, span) / 1e9);
            found[1][i].push(streams.read(threads, span) / 1e9);
            found[2][i].push(streams.triad(threads, span) / 1e9);
        }
    }
    let [gflops, read_gbps, triad_gbps] = found
        .map(|[one, all]| Ceiling { one_thread: Spread::of(one), all_threads: Spread::of(all) });
    Peaks { gflops, read_gbps, triad_gbps }
}
