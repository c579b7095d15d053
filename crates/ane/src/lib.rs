//! The contract between programs and a Neural Engine, and an engine that runs anywhere.
//!
//! A [`Device`] compiles a MIL program into an [`Executable`]; an executable runs on [`Surface`]s,
//! which are bound to its ports in alphabetical order. The [`Emulator`] is a device for any CPU: it
//! enforces a machine's rules ([`Profile`](chip::Profile)), tracks per-process limits ([`Budget`]), reports errors in
//! the machine's own words ([`AneError`]) and computes with crate `cpu`. Crate `apple` drives the real
//! engine of a Mac.
//!
//! ```
//! use ane::{Device, Emulator};
//! use chip::Profile;
//! use cpu::Numerics;
//! use mil::{Builder, Program, TensorType, Weights};
//!
//! let b = Builder::new("main");
//! let x = b.input("x", TensorType::fp16([1, 8, 1, 32]));
//! let program = Program::new(b.finish(&[(x * 2.0).named("y")])?);
//!
//! let engine = Emulator::engine(Profile::default(), Numerics::Fast);
//! let mut double = engine.compile(&program, &Weights::new())?;
//! let bytes = engine.least_allocation();
//! let x = engine.surface(&double.inputs()[0].ty, bytes)?;
//! let y = engine.surface(&double.outputs()[0].ty, bytes)?;
//! x.write(&[1.5; 256])?;
//! double.run(&[&x], &[&y])?;
//! let mut doubled = [0.0; 256];
//! y.read(&mut doubled)?;
//! assert_eq!(doubled, [3.0; 256]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Four devices wrap another: [`Packed`] reduces programs to one input and one output, [`Retrying`]
//! retries failed compiles after a pause, [`Faulty`] fails on demand, [`Paced`] takes the time of its forecast. A
//! [`Request`] binds byte buffers by position, as the machine does.
//!
//! Nothing here knows Objective-C, models, tokens or training.

#![warn(missing_docs)]

pub mod binding;
pub mod budget;
pub mod bytes;
pub mod device;
pub mod emulator;
pub mod error;
pub mod faults;
pub mod paced;
pub mod packed;
pub mod power;
pub mod retry;
pub mod surface;

pub use budget::{Budget, LoadedProgram, Used};
pub use device::{Call, Device, Executable, Port, Reloaded, RunReport};
pub use emulator::Emulator;
pub use emulator::{
    BindingRules, DataLayout, Holding, LoadedModel, Procedure, RawSurface, Request, SizeRule,
    Strictness, SurfaceObject,
};
pub use error::{AneError, NsError, OwnError};
pub use faults::{FaultError, Faults, Faulty};
pub use paced::Paced;
pub use packed::{Packed, pack};
pub use power::PowerSample;
pub use retry::{Backoff, Retrying};
pub use surface::{Access, ForeignMemory, Lent, Precision, Surface};
