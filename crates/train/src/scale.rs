//! The loss scale: gradients are multiplied by a power of two so that binary16 holds them.

use serde::{Deserialize, Serialize};

/// A dynamic loss scale: halved when a gradient overflows (the step is then left out), doubled
/// after a run of good steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossScale {
    scale: f32,
    good: u32,
    patience: u32,
}

/// Largest scale; beyond it the scaled loss itself would leave the range of f32 in long sums.
const LARGEST: f32 = 16_777_216.0;

impl LossScale {
    /// Starts at 2^12 and doubles after 200 good steps.
    pub fn dynamic() -> Self {
        LossScale { scale: 4096.0, good: 0, patience: 200 }
    }

    /// Always 1: for reference precision, which needs none.
    pub fn none() -> Self {
        LossScale { scale: 1.0, good: 0, patience: u32::MAX }
    }

    /// The scale now.
    pub fn get(&self) -> f32 {
        self.scale
    }

    /// Records whether the step's gradients were finite.
    pub fn record(&mut self, finite: bool) {
        if !finite {
            self.scale = (self.scale / 2.0).max(1.0);
            self.good = 0;
        } else if self.patience < u32::MAX {
            self.good += 1;
            if self.good >= self.patience {
                self.scale = (self.scale * 2.0).min(LARGEST);
                self.good = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_and_doubles() {
        let mut s = LossScale::dynamic();
        s.record(false);
        assert_eq!(s.get(), 2048.0);
        (0..199).for_each(|_| s.record(true));
        assert_eq!(s.get(), 2048.0);
        s.record(true);
        assert_eq!(s.get(), 4096.0);
        (0..60).for_each(|_| s.record(false));
        assert_eq!(s.get(), 1.0);
        (0..200 * 40).for_each(|_| s.record(true));
        assert_eq!(s.get(), LARGEST);
        let mut none = LossScale::none();
        (0..10_000).for_each(|_| none.record(true));
        assert_eq!(none.get(), 1.0);
    }
}
