//! Patience with a compiler that fails now and then.

use crate::device::{Device, Executable};
use crate::error::AneError;
use mil::{Program, Weights};
use std::fmt;
use std::time::Duration;

/// How often and how soon to try again.
///
/// The default is what ESP does: five tries, pauses from 0.1 s on that double up to 1 s (docs/ane-facts.md
/// A.7). AF waits 15 s, because repeated failures wedge the compiler's service; on a machine where
/// five tries fail, start anew after such a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Tries in all.
    pub tries: u32,
    /// The first pause.
    pub first: Duration,
    /// The longest pause.
    pub most: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { tries: 5, first: Duration::from_millis(100), most: Duration::from_secs(1) }
    }
}

impl Backoff {
    /// The pause after try number `tried` (from 1); `None` after the last.
    pub fn pause(&self, tried: u32) -> Option<Duration> {
        let doubled = self.first.saturating_mul(1 << (tried.saturating_sub(1)).min(30));
        (tried < self.tries).then(|| doubled.min(self.most))
    }
}

/// Told of a failed try and of the pause before the next.
type Report = Box<dyn Fn(&AneError, Duration) + Send + Sync>;

/// A device that compiles again after [`AneError::FlakyCompile`]. Other errors are of the program
/// or of the process, and no pause mends them.
pub struct Retrying {
    device: Box<dyn Device>,
    backoff: Backoff,
    report: Report,
}

impl fmt::Debug for Retrying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retrying").field("device", &self.device).finish_non_exhaustive()
    }
}

impl Retrying {
    /// `device` with patience; `report` is called before each pause.
    pub fn new(
        device: Box<dyn Device>,
        backoff: Backoff,
        report: impl Fn(&AneError, Duration) + Send + Sync + 'static,
    ) -> Self {
        Retrying { device, backoff, report: Box::new(report) }
    }
}

impl Device for Retrying {
    fn describe(&self) -> String {
        self.device.describe()
    }

    crate::as_inside!(device, unchecked);

    fn compile(
        &self,
        program: &Program,
        weights: &Weights,
    ) -> Result<Box<dyn Executable>, AneError> {
        let mut tried = 1;
        loop {
            let error = match self.device.compile(program, weights) {
                Err(error @ AneError::FlakyCompile { .. }) => error,
                other => return other,
            };
            let Some(pause) = self.backoff.pause(tried) else { return Err(error) };
            (self.report)(&error, pause);
            std::thread::sleep(pause);
            tried += 1;
        }
    }
}
