//! What a run takes of the machine: CPU time and memory of this process.

use crate::memory;
use std::time::{Duration, Instant};
use train::{Event, Hook, TrainError};

/// Time between two readings. One takes some ten microseconds.
const INTERVAL: Duration = Duration::from_secs(5);

/// Readings during a run.
#[derive(Debug)]
pub(crate) struct Vitals {
    /// When the last reading was, and the CPU time by then.
    last: (Instant, Option<f64>),
    step: u64,
}

impl Vitals {
    pub(crate) fn new() -> Self {
        Vitals { last: (Instant::now(), memory::cpu_seconds()), step: 0 }
    }

    /// A reading, where the system tells.
    fn read(&mut self) -> Option<Event> {
        let (now, used) = (Instant::now(), memory::cpu_seconds()?);
        let (then, before) = std::mem::replace(&mut self.last, (now, Some(used)));
        let wall = (now - then).as_secs_f64();
        (wall > 0.0).then_some(Event::Usage {
            step: self.step,
            cores: (used - before?) / wall,
            memory_mib: memory::held_mib(),
        })
    }
}

impl Hook for Vitals {
    /// Reads if it is time.
    fn after_step(&mut self, step: u64, _may_save: bool) -> Result<Option<Event>, TrainError> {
        self.step = step;
        Ok(if self.last.0.elapsed() < INTERVAL { None } else { self.read() })
    }

    fn at_end(&mut self) -> Option<Event> {
        self.read()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_reading_comes_when_it_is_time_and_at_the_end() {
        let mut vitals = Vitals::new();
        assert!(vitals.after_step(7, false).unwrap().is_none());
        std::thread::sleep(Duration::from_millis(2));
        let Some(Event::Usage { step: 7, cores, memory_mib: Some(mib) }) = vitals.at_end() else {
            panic!("no reading");
        };
        assert!(cores >= 0.0 && mib > 1.0, "{cores} {mib}");
    }
}
