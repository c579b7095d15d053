//! MIL, the language of Apple's Neural Engine compiler: programs as values.
//!
//! A [`Program`] holds [`Function`]s of [`Operation`]s in single-assignment form. The [`Builder`] writes
//! programs and [`text`] parses and prints them; [`verify()`] checks them, [`mod@grad`] differentiates
//! them, [`passes::slice`] cuts them into kernels. [`interp`] defines what they compute: a small f64
//! interpreter that every faster implementation is compared with.
//!
//! ```
//! use mil::interp::{Array, evaluate};
//! use mil::{Builder, TensorType, Weights, grad, passes};
//!
//! let b = Builder::new("main");
//! let x = b.input("x", TensorType::fp32([1, 3]));
//! let w = b.input("w", TensorType::fp32([2, 3]));
//! let f = b.finish(&[x.matmul(w, false, true).named("y")])?;
//! let x = Array::new([1, 3], vec![1.0, 2.0, 3.0]);
//! let w = Array::new([2, 3], vec![1.0, 0.0, 0.0, 0.0, 1.0, 1.0]);
//! let y = evaluate(&f, &[x.clone(), w], &Weights::new())?;
//! assert_eq!(y[0].data, [1.0, 5.0]);
//!
//! // The gradient of w, as a function of its own: the slice of the joint function that computes it.
//! let joint = grad(&f)?;
//! let [x_id, w_id] = ["x", "w"].map(|name| joint.find(name).unwrap());
//! let d_w = joint.cotangent(w_id).unwrap();
//! let backward = passes::slice(&joint.function, "backward", &[x_id, joint.seeds[0]], &[d_w])?;
//! let d_y = Array::new([1, 2], vec![1.0, 10.0]);
//! let d_w = evaluate(&backward, &[x, d_y], &Weights::new())?;
//! assert_eq!(d_w[0].data, [1.0, 2.0, 3.0, 10.0, 20.0, 30.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Limits: shapes are static; an operation that is not in the table [`Op`] is refused by name. Nothing
//! here knows a device, a file or a clock.

#![warn(missing_docs)]

pub mod blob;
pub mod builder;
pub mod diagnostic;
pub mod diff;
mod formula;
pub mod grad;
pub mod interp;
pub mod ir;
pub mod op;
pub mod passes;
pub mod resolve;
pub mod rewrite;
pub mod text;
pub mod types;
pub mod verify;
pub mod weights;
pub mod work;

pub use blob::Weights;
pub use builder::{Builder, Tensor};
pub use diagnostic::Diagnostic;
pub use diff::{Change, Diff, diff};
pub use grad::{GradError, Joint, grad};
pub use ir::{Arg, Function, Operation, Program, Value, ValueId};
pub use op::Op;
pub use resolve::{Kind, OpError, Resolved, resolve};
pub use rewrite::Rewrite;
pub use text::{TextError, check_text, parse};
pub use types::{DType, Data, Literal, Payload, TensorType};
pub use verify::verify;
pub use work::{Product, Work, work};
