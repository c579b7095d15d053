//! The CPU's share of a training step: matrix products by Accelerate, passes over memory, copies to
//! and from surfaces.
//!
//! The M4's rates come from published parts of a step; generations and larger dies scale them by the
//! two factors that fit the published steps of other chips best (facts F.4; there are too few rows
//! for more).

use super::silicon::Silicon;

/// TFLOP/s of single-precision products on an M4: the classifier of 768 × 32000 × 256 takes 10.77 ms
/// (facts B.2: MAD:training/README.md).
const GEMM_TFLOPS: f64 = 1.17;

/// GB/s of copies to surfaces, conversion included, on an M4: the seed's dynamic trainer moves
/// 1.13 GB per step in 27 ms (the seed).
const COPY_GBS: f64 = 42.0;

/// GB/s of passes over arrays (residuals, norms, activations, Adam) on an M4: the seed's norms and SiLU
/// gradients take 15 ms of its step (the seed) and move about 1.1 GB, counting 40 bytes per
/// element of a norm and 120 of a SiLU gradient, which are vDSP calls one after the other.
const PASS_GBS: f64 = 75.0;

/// Seconds of a sine and a cosine in a scalar loop on an M4: recomputing the rotary angles, 4.7 M of
/// them, goes with a step of 115 instead of 91 ms (MAD; inferred).
const TRIGONOMETRIC: f64 = 5e-9;

/// Seconds to lock and unlock a surface, the lower end of what is asserted (facts C.1, TMC: 20 to
/// 50 µs); nobody published a measurement.
const LOCK: f64 = 20e-6;

/// Speed of one generation's CPU against the one before.
const PER_GENERATION: f64 = 1.1;

/// Speed of a larger die's matrix products and copies (more performance clusters) against the
/// smallest; single-threaded loops gain nothing.
const WIDE: f64 = 1.5;

/// Work that stays on the host.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HostWork {
    /// Floating-point operations of matrix products.
    pub gemm_flops: f64,
    /// Bytes read and written by passes over arrays.
    pub pass_bytes: f64,
    /// Bytes copied to or from surfaces.
    pub copied_bytes: f64,
    /// Surfaces locked.
    pub locks: f64,
    /// Sines and cosines in scalar loops.
    pub trigonometric: f64,
}

impl HostWork {
    /// Both together.
    pub fn plus(self, other: HostWork) -> HostWork {
        HostWork {
            gemm_flops: self.gemm_flops + other.gemm_flops,
            pass_bytes: self.pass_bytes + other.pass_bytes,
            copied_bytes: self.copied_bytes + other.copied_bytes,
            locks: self.locks + other.locks,
            trigonometric: self.trigonometric + other.trigonometric,
        }
    }

    /// The same, `n` times.
    pub fn times(self, n: f64) -> HostWork {
        HostWork {
            gemm_flops: n * self.gemm_flops,
            pass_bytes: n * self.pass_bytes,
            copied_bytes: n * self.copied_bytes,
            locks: n * self.locks,
            trigonometric: n * self.trigonometric,
        }
    }

    /// Seconds on the CPU beside `silicon`.
    pub fn seconds(&self, silicon: &Silicon) -> f64 {
        let one = PER_GENERATION.powi(i32::from(silicon.generation) - 4);
        let all = if silicon.wide { WIDE * one } else { one };
        self.gemm_flops / (GEMM_TFLOPS * 1e12 * all)
            + self.pass_bytes / (PASS_GBS * 1e9 * all)
            + self.copied_bytes / (COPY_GBS * 1e9 * all)
            + self.trigonometric * TRIGONOMETRIC / one
            + self.locks * LOCK
    }
}
