//! The power that a machine draws, by part.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Mean power over some time. A part that the system does not report is `None`, never 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PowerSample {
    /// Over how long.
    pub seconds: f64,
    /// Of the Neural Engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ane_watts: Option<f64>,
    /// Of the CPU's clusters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_watts: Option<f64>,
    /// Of the GPU, without its memory on the chip.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_watts: Option<f64>,
    /// Of the memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dram_watts: Option<f64>,
}

impl PowerSample {
    /// The parts of a reading, in its order.
    pub const PARTS: [&str; 4] = ["ANE", "CPU", "GPU", "DRAM"];

    /// A reading from the parts' watts.
    pub fn new(seconds: f64, [ane, cpu, gpu, dram]: [Option<f64>; 4]) -> Self {
        PowerSample { seconds, ane_watts: ane, cpu_watts: cpu, gpu_watts: gpu, dram_watts: dram }
    }

    /// Watts by part: ANE, CPU, GPU, DRAM.
    pub fn parts(&self) -> [Option<f64>; 4] {
        [self.ane_watts, self.cpu_watts, self.gpu_watts, self.dram_watts]
    }

    /// Sum of the parts that are known; `None` where none is.
    pub fn watts(&self) -> Option<f64> {
        self.parts().into_iter().flatten().reduce(|a, b| a + b)
    }
}

impl fmt::Display for PowerSample {
    /// `ANE 0.51 W, CPU 2.10 W`: the parts that are known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Self::PARTS.iter().zip(self.parts()).filter_map(|(name, w)| Some((name, w?)));
        for (i, (name, watts)) in known.enumerate() {
            write!(f, "{}{name} {watts:.2} W", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}
