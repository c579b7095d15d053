//! The learning rate over the run.

use serde::{Deserialize, Serialize};

/// Linear warm-up, then a cosine down to a share of the peak.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Largest learning rate.
    pub peak: f64,
    /// Last learning rate as a share of the largest.
    pub floor: f64,
    /// Steps of warm-up.
    pub warmup: u64,
    /// Steps of the whole run.
    pub total: u64,
}

impl Schedule {
    /// Rate of `step` (from 0): peak·(step+1)/warmup during warm-up, then
    /// peak·(floor + (1−floor)·(1+cos πp)/2) with p going from 0 to 1 at the last step.
    pub fn rate(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.peak * (step + 1) as f64 / self.warmup as f64;
        }
        let span = self.total.saturating_sub(self.warmup + 1).max(1);
        let p = ((step - self.warmup) as f64 / span as f64).min(1.0);
        let cosine = (1.0 + (std::f64::consts::PI * p).cos()) / 2.0;
        self.peak * (self.floor + (1.0 - self.floor) * cosine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corners() {
        let s = Schedule { peak: 1.0, floor: 0.1, warmup: 4, total: 105 };
        assert_eq!(s.rate(0), 0.25);
        assert_eq!(s.rate(3), 1.0);
        assert_eq!(s.rate(4), 1.0);
        assert!((s.rate(54) - 0.55).abs() < 1e-12, "half way down");
        assert!((s.rate(104) - 0.1).abs() < 1e-12);
        assert!((s.rate(1000) - 0.1).abs() < 1e-12);
        assert_eq!(Schedule { warmup: 0, ..s }.rate(0), 1.0);
        assert_eq!(Schedule { warmup: 9, total: 5, ..s }.rate(8), 1.0);
    }
}
