//! What tests by mutation share: numbers to choose with, and the time that they take.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::time::{Duration, Instant};

/// xorshift64*.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// Begins anywhere in a run whose time was asked for, and else where it always begins.
    pub(crate) fn of_run() -> Self {
        Random(seconds().map_or(1, |_| u64::from(std::process::id())))
    }

    /// A number below `n`; 0 for 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545F4914F6CDD1D) >> 33) as usize % n.max(1)
    }

    /// One of `items`.
    pub(crate) fn of<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())].clone()
    }
}

/// The time that `ANEGPT_FUZZ_SECONDS` asks for.
fn seconds() -> Option<u64> {
    std::env::var("ANEGPT_FUZZ_SECONDS").ok()?.parse().ok()
}

/// Calls `f` for three seconds, or as long as the environment says; at least once.
pub(crate) fn for_a_while(mut f: impl FnMut()) {
    let end = Instant::now() + Duration::from_secs(seconds().unwrap_or(3));
    loop {
        f();
        if Instant::now() >= end {
            return;
        }
    }
}
