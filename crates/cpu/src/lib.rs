//! MIL functions on any CPU.
//!
//! A [`HostProgram`] is a function compiled for the CPU: it is lowered once to a fused plan and then
//! runs without allocating. It reads borrowed [`Elements`], f32 or binary16, and overwrites or adds to
//! [`OutputMut`]s. [`Arithmetic`] selects the rounding ([`Numerics`]): f32, fp16 at operation
//! boundaries, or the engine's own, bit for bit where it is known.
//!
//! ```
//! use cpu::{Elements, HostProgram, OutputMut};
//! use mil::{Builder, TensorType};
//!
//! let b = Builder::new("product");
//! let x = b.input("x", TensorType::fp32([2, 3]));
//! let w = b.input("w", TensorType::fp32([4, 3]));
//! let f = b.finish(&[x.matmul(w, false, true).tanh()])?;
//!
//! let mut program = HostProgram::new(&f)?;
//! let (x, w) = ([0.5; 6], [0.1; 12]);
//! let mut y = [1.0; 8];
//! let output = OutputMut::F32 { data: &mut y, accumulate: true };
//! program.run(&[Elements::F32(&x), Elements::F32(&w)], &mut [output])?;
//! assert!((y[0] - (1.0 + 0.15f32.tanh())).abs() < 1e-6);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A function becomes a plan in four steps: chains of elementwise operations become one pass over
//! tiles that fit the cache; reshapes, transposes and slices become strides; products go to one blocked
//! kernel ([`gemm`](mod@gemm)) or to the system's library ([`blas`]); temporaries with disjoint
//! lifetimes share memory. [`simd`] holds the vector arithmetic; [`peak`] measures the CPU's peak rates.
//!
//! Nothing here knows a device, a chip or a file: engine-specific behaviour is passed in as [`Quirks`].

#![warn(missing_docs)]

mod activation;
mod arithmetic;
pub mod attention;
pub mod blas;
mod constexpr;
mod error;
mod exact;
pub mod gemm;
mod lower;
mod mac;
pub mod matrix;
pub mod peak;
mod plan;
mod program;
mod run;
pub mod simd;
pub mod team;

pub use arithmetic::{Arithmetic, Numerics, Quirks};
pub use blas::{HostShape, Sgemm};
pub use error::CpuError;
pub use gemm::Elements;
pub use matrix::{Matrix, WeightFormat};
pub use program::{HostProgram, Input};
pub use run::OutputMut;
