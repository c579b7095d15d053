//! Budgets of a process: how many programs it may compile, and hold loaded at once.

use crate::error::AneError;
use chip::{CallPath, Limits, MAX_PROGRAM_BYTES, Profile};
use std::sync::{Arc, Mutex, MutexGuard};

/// Counts compiles and loaded programs against the limits of a profile. Clones count together.
///
/// A compile is counted for good, released or not, as the stricter reading of the sources has it
/// (docs/ane-facts.md D: the compiler leaks; AF saw thousands of compiles with releases, by e5rt, where
/// there is no limit here either). A loaded program is given back when its guard is dropped.
#[derive(Clone, Debug)]
pub struct Budget {
    limits: Limits,
    path: CallPath,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    compiles: usize,
    loaded: usize,
    /// Of the loaded ones, those that nobody can unload any more.
    leaked: usize,
}

/// The resources that a process has used up, over all its devices, for each call path.
#[derive(Clone, Debug, Default)]
pub struct Used {
    in_memory: Arc<Mutex<Counts>>,
    e5rt: Arc<Mutex<Counts>>,
}

impl Used {
    /// The budget that this leaves of the limits of `profile`.
    pub fn budget(&self, profile: &Profile) -> Budget {
        let counts = match profile.path {
            CallPath::InMemory => &self.in_memory,
            CallPath::E5rt => &self.e5rt,
        };
        Budget { limits: profile.limits(), path: profile.path, counts: Arc::clone(counts) }
    }
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Budget {
    /// A fresh budget: nothing compiled, nothing loaded.
    pub fn new(profile: &Profile) -> Self {
        Used::default().budget(profile)
    }

    /// Counts a compile.
    ///
    /// # Errors
    /// [`AneError::CompileBudget`] when all are used up; the count does not change then.
    pub fn compile(&self) -> Result<(), AneError> {
        let mut counts = lock(&self.counts);
        if let Some(limit) = self.limits.compiles.filter(|&limit| counts.compiles >= limit) {
            return Err(AneError::CompileBudget { limit });
        }
        counts.compiles += 1;
        Ok(())
    }

    /// Takes a place for a program with `bytes` of constants. Dropping the guard gives it back.
    ///
    /// # Errors
    /// [`AneError::ProgramTooLarge`]; [`AneError::TooManyPrograms`] when all places are held, and
    /// [`AneError::ResourcesExhausted`] when some of them were leaked. Nothing is taken then.
    pub fn load(&self, bytes: u64) -> Result<LoadedProgram, AneError> {
        if bytes >= MAX_PROGRAM_BYTES {
            return Err(AneError::ProgramTooLarge { bytes, limit: MAX_PROGRAM_BYTES });
        }
        let mut counts = lock(&self.counts);
        if counts.loaded >= self.limits.loaded {
            if counts.leaked > 0 {
                return Err(AneError::ResourcesExhausted);
            }
            let (limit, path) = (self.limits.loaded, self.path);
            return Err(AneError::TooManyPrograms { limit, path });
        }
        counts.loaded += 1;
        Ok(LoadedProgram { counts: Arc::clone(&self.counts) })
    }

    /// Programs compiled so far.
    pub fn compiled(&self) -> usize {
        lock(&self.counts).compiles
    }

    /// Compiles left; `None` where they are not limited.
    pub fn compiles_left(&self) -> Option<usize> {
        Some(self.limits.compiles?.saturating_sub(self.compiled()))
    }

    /// Programs loaded now.
    pub fn loaded(&self) -> usize {
        lock(&self.counts).loaded
    }
}

/// The place of one loaded program; dropping it gives the place back.
#[derive(Debug)]
pub struct LoadedProgram {
    counts: Arc<Mutex<Counts>>,
}

impl LoadedProgram {
    /// Loses the program without unloading it: its place stays taken for the life of the process
    /// (docs/ane-facts.md B.3: unreleased programs end in 0x50004).
    pub fn leak(self) {
        lock(&self.counts).leaked += 1;
        std::mem::forget(self);
    }
}

impl Drop for LoadedProgram {
    fn drop(&mut self) {
        lock(&self.counts).loaded -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(text: &str) -> Profile {
        text.parse().unwrap()
    }

    #[test]
    fn the_120th_compile_fails_in_memory() {
        let budget = Budget::new(&Profile::default());
        (0..119).for_each(|_| budget.compile().unwrap());
        assert_eq!(budget.compile(), Err(AneError::CompileBudget { limit: 119 }));
        assert_eq!((budget.compiled(), budget.compiles_left()), (119, Some(0)));
    }

    #[test]
    fn compiles_by_e5rt_are_not_limited() {
        let budget = Budget::new(&profile("e5rt"));
        (0..1000).for_each(|_| budget.compile().unwrap());
        assert_eq!(budget.compiles_left(), None);
    }

    #[test]
    fn the_129th_program_waits_for_a_free_place() {
        for path in ["in-memory", "e5rt"] {
            let profile = profile(path);
            let budget = Budget::new(&profile);
            let mut held: Vec<_> = (0..128).map(|_| budget.clone().load(1).unwrap()).collect();
            let refused = budget.load(1).unwrap_err();
            assert_eq!(refused, AneError::TooManyPrograms { limit: 128, path: profile.path });
            assert!(refused.is_retryable());
            held.pop();
            held.push(budget.load(1).unwrap());
            assert_eq!(budget.loaded(), 128);
            drop(held);
            assert_eq!(budget.loaded(), 0);
        }
    }

    #[test]
    fn a_program_beyond_the_address_window_is_not_loaded() {
        let budget = Budget::new(&Profile::default());
        assert!(budget.load(MAX_PROGRAM_BYTES - 1).is_ok());
        let refused = budget.load(MAX_PROGRAM_BYTES).unwrap_err();
        assert!(matches!(refused, AneError::ProgramTooLarge { .. }));
        assert_eq!(budget.loaded(), 0);
    }

    #[test]
    fn threads_share_one_count() {
        let budget = Budget::new(&Profile::default());
        let taken: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..60).filter(|_| budget.compile().is_ok()).count()))
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!((taken, budget.compiled()), (119, 119));
    }
}
