//! The step on one thread, two, four … up to all.

use super::spread::Spread;
use super::step::Trained;
use super::{Effort, host};
use anyhow::{Context, Result};
use serde::Serialize;
use std::time::Instant;

/// The step on some threads.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Threads {
    pub(super) threads: usize,
    pub(super) ms: Spread,
    /// Time on one thread divided by this time.
    pub(super) speedup: f64,
}

/// Least and most rounds.
const ROUNDS: std::ops::RangeInclusive<usize> = 3..=15;

/// Steps of one run, on pools of different sizes in turn: all see the same model and the same
/// machine, whatever changes with time.
pub(super) fn measure(trained: &mut Trained, effort: &Effort) -> Result<Vec<Threads>> {
    let counts = thread_counts(host::cores());
    let pools = (counts.iter())
        .map(|&n| rayon::ThreadPoolBuilder::new().num_threads(n).build())
        .collect::<Result<Vec<_>, _>>()
        .context("cannot start the threads that compute")?;
    let mut ms: Vec<Vec<f64>> = vec![vec![]; pools.len()];
    for pool in &pools {
        // Each pool's threads have workspaces of their own, which grow in the first step.
        pool.install(|| trained.step())?;
    }
    let started = Instant::now();
    let least = (*ROUNDS.start()).min(effort.rounds);
    for round in 0..*ROUNDS.end() {
        if round >= least && started.elapsed() > effort.limit {
            break;
        }
        for (pool, ms) in pools.iter().zip(&mut ms) {
            let start = Instant::now();
            pool.install(|| trained.step())?;
            ms.push(1e3 * start.elapsed().as_secs_f64());
        }
    }
    let spreads: Vec<Spread> = ms.into_iter().map(Spread::of).collect();
    let one = spreads[0].median;
    let row = |(threads, ms): (usize, Spread)| Threads { threads, ms, speedup: one / ms.median };
    Ok(counts.into_iter().zip(spreads).map(row).collect())
}

/// 1, 2, 4 … and all.
fn thread_counts(cores: usize) -> Vec<usize> {
    let mut counts: Vec<usize> =
        std::iter::successors(Some(1), |n| Some(2 * n)).take_while(|&n| n < cores).collect();
    counts.push(cores);
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_one_to_all() {
        assert_eq!(thread_counts(1), [1]);
        assert_eq!(thread_counts(2), [1, 2]);
        assert_eq!(thread_counts(10), [1, 2, 4, 8, 10]);
    }
}
