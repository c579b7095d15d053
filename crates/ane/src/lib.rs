//! The machine: how it is driven ([`Device`], [`Executable`], [`Surface`]) and its bodies.
//!
//! A [`Device`] compiles a MIL program into an [`Executable`]; an executable runs on [`Surface`]s.
//! The [`Emulator`] is a device for any CPU; [`HostProgram`] runs the parts of a model that stay
//! on the CPU with the same code; [`apple`] drives the engine of a Mac. [`legal::check`] says what a [`Profile`] (chip, system, call path)
//! accepts; [`Budget`] counts what a process may use up. Nothing here knows transformers, tokens or training.

#![warn(missing_docs)]

#[cfg(unix)]
pub mod apple;
pub mod budget;
pub mod chip;
pub mod device;
pub mod emulator;
pub mod error;
pub mod legal;
pub mod surface;

pub use budget::{Budget, LoadedProgram};
pub use chip::{CallPath, Chip, Family, Limits, Os, Profile};
pub use device::{Device, Executable, Port, RunReport};
pub use emulator::{Emulator, HostInput, HostProgram, Numerics, OutputMut};
pub use error::{AneError, NsError};
pub use legal::{Legal, Rule, Violation};
pub use surface::{Access, ForeignMemory, Lent, Surface};
