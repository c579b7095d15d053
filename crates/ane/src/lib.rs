//! The machine: how it is driven ([`Device`], [`Executable`], [`Surface`]) and its bodies.
//!
//! A [`Device`] compiles a MIL program into an [`Executable`]; an executable runs on [`Surface`]s.
//! The [`Emulator`] is a device for any CPU; [`HostProgram`] runs the parts of a model that stay
//! on the CPU with the same code. Nothing here knows transformers, tokens or training.

#![warn(missing_docs)]

pub mod device;
pub mod emulator;
pub mod error;
pub mod surface;

pub use device::{Device, Executable, Port, RunReport};
pub use emulator::{Emulator, HostInput, HostProgram, Numerics, OutputMut, Rules};
pub use error::AneError;
pub use surface::Surface;
