//! Experiments on devices: known answers, open questions, and traces that anyone can check.
//!
//! [`doctor`] checks that a [`Device`](ane::Device) computes correctly; [`probe`] runs the experiments
//! behind the facts of crate `chip`, and open questions. A [`Recorder`] wraps a device and records its
//! programs, inputs and results in a [`Trace`]; [`trace::replay()`] repeats a trace on the emulator and
//! names the facts that explain each difference. [`ranges`] measures how much of the engine's range a run uses. [`mod@array`] reads and writes arrays in NumPy's format.
//!
//! ```
//! use ane::{Device, Emulator};
//! use chip::Profile;
//! use cpu::Numerics;
//! use lab::{MachineInfo, Recorder, Trace, trace::replay};
//! use mil::{Builder, Program, TensorType, Weights};
//!
//! let b = Builder::new("main");
//! let x = b.input("x", TensorType::fp16([1, 8, 1, 32]));
//! let program = Program::new(b.finish(&[x.tanh()])?);
//!
//! let engine = Emulator::engine(Profile::default(), Numerics::Fast);
//! let recorder = Recorder::new(Box::new(engine), MachineInfo::default(), 1);
//! let mut executable = recorder.compile(&program, &Weights::new())?;
//! let bytes = recorder.least_allocation();
//! let x = recorder.surface(&executable.inputs()[0].ty, bytes)?;
//! let y = recorder.surface(&executable.outputs()[0].ty, bytes)?;
//! x.write(&[0.5; 256])?;
//! executable.run(&[&x], &[&y])?;
//!
//! let file = recorder.recording().trace().to_bytes()?;
//! let replayed = replay(&Trace::from_bytes(&file)?, Numerics::Fast)?;
//! assert_eq!(replayed.programs.len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Nothing here knows training. The caller reads and writes the files.

#![warn(missing_docs)]

pub mod array;
mod bench;
pub mod doctor;
pub mod probe;
pub mod ranges;
pub mod trace;

pub use ranges::{Ranges, Watched};
pub use trace::{MachineInfo, Recorder, Trace};
