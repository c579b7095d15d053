//! The machine: how it is driven ([`Device`], [`Executable`], [`Surface`]) and its bodies.
//!
//! A [`Device`] compiles a MIL program into an [`Executable`]; an executable runs on [`Surface`]s.
//! The [`Emulator`] is a device for any CPU, on crate `cpu`; crate `apple` drives the engine of a Mac. [`legal::check`] says what a [`Profile`] (chip, system, call path)
//! accepts; [`Budget`] counts what a process may use up; [`facts`] is the table of everything known of
//! the machine, with sources. Nothing here knows transformers, tokens or training.
//!
//! [`Request`] binds bytes by position, as the machine does; [`Faulty`] fails on demand and
//! [`Retrying`] is patient; [`Recorder`] notes what a device computes in a [`Trace`] that others can
//! replay. [`doctor`] asks a device questions whose answers are known, [`probe`] those that facts rest
//! on.

#![warn(missing_docs)]

pub mod array;
mod bench;
pub mod binding;
pub mod budget;
pub mod device;
pub mod doctor;
pub mod emulator;
pub mod error;
pub mod faults;
mod host;
pub mod packed;
pub mod power;
pub mod probe;
pub mod retry;
pub mod submit;
pub mod surface;
pub mod trace;

pub use ::chip;
pub use budget::{Budget, LoadedProgram, Used};
pub use chip::{
    Applied, CallPath, Chip, ChipLimits, ChipNumerics, Estimate, Fact, Family, Legal, Limits, Os,
    Profile, Rule, Violation, cost, estimate, facts, legal,
};
pub use cpu::{CpuError, HostShape, Numerics, OutputMut, Sgemm};
pub use device::{Call, Device, Executable, Port, Reloaded, RunReport};
pub use emulator::Emulator;
pub use emulator::{
    BindingRules, DataLayout, Holding, LoadedModel, Procedure, RawSurface, Request, SizeRule,
    Strictness, SurfaceObject,
};
pub use error::{AneError, NsError};
pub use faults::{FaultError, Faults, Faulty};
pub use host::{HostInput, HostProgram};
pub use packed::{Packed, pack};
pub use power::PowerSample;
pub use retry::{Backoff, Retrying};
pub use submit::{Pending, Queue};
pub use surface::{Access, ForeignMemory, Lent, Precision, Surface};
pub use trace::{MachineInfo, Recorder, Trace};
