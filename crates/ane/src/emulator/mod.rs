//! The emulator.
pub mod gemm;
pub mod simd;
