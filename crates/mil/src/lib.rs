//! MIL, the language of Apple's Neural Engine compiler: programs as values.
//!
//! A [`Program`] holds [`Function`]s of [`Operation`]s in single-assignment form. Programs are
//! written with the [`Builder`] or read from [`text`], checked by [`verify()`], differentiated by
//! [`mod@grad`], cut into kernels by [`passes::slice`], and given their meaning by [`interp`], a small
//! f64 interpreter that everything faster is compared with.
//!
//! Nothing here knows a device, a file or a clock. A program is a plain value.

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
