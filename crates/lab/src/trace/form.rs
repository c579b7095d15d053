//! The contents of a trace.

use crate::array::{Array, ArrayError};
use ane::Port;
use mil::Weights;
use serde::{Deserialize, Serialize};

/// The manifest's `format`.
pub const FORMAT: &str = "anetrace";

/// Newest version of the format.
pub const VERSION: u32 = 1;

/// Where a trace was recorded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MachineInfo {
    /// The device's description of itself.
    pub device: String,
    /// True if it is the emulator and not an engine.
    pub emulated: bool,
    /// Chip, for instance `m4-pro`.
    #[serde(default)]
    pub chip: Option<String>,
    /// System, for instance `macos26`.
    #[serde(default)]
    pub os: Option<String>,
    /// Call path, `in-memory` or `e5rt`.
    #[serde(default)]
    pub path: Option<String>,
    /// Arithmetic, of an emulator.
    #[serde(default)]
    pub numerics: Option<String>,
    /// Version of the program that recorded.
    pub recorder: String,
}

/// One run of a program.
#[derive(Clone, Debug, PartialEq)]
pub struct RunTrace {
    /// How the request was sent, where not in the usual way.
    pub call: Option<String>,
    /// Time by the device's own account, in seconds.
    pub seconds: f64,
    /// Inputs in binding order.
    pub inputs: Vec<Array>,
    /// Outputs in binding order.
    pub outputs: Vec<Array>,
}

/// A program and its runs.
#[derive(Clone, Debug, PartialEq)]
pub struct ProgramTrace {
    /// MIL text; its first function ran.
    pub text: String,
    /// Weight files that it names.
    pub weights: Weights,
    /// Time of compiling and loading, in seconds.
    pub compile_seconds: f64,
    /// Input ports in binding order.
    pub inputs: Vec<Port>,
    /// Output ports in binding order.
    pub outputs: Vec<Port>,
    /// Runs in order.
    pub runs: Vec<RunTrace>,
}

/// Everything recorded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// Where.
    pub machine: MachineInfo,
    /// Programs in the order in which they were compiled.
    pub programs: Vec<ProgramTrace>,
}

/// Why bytes are no trace, or a trace cannot be replayed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum TraceError {
    #[error("not a trace: {0}")]
    Array(#[from] ArrayError),
    #[error("not a trace: its manifest {0}")]
    Manifest(String),
    #[error("a trace of version {0}, but versions up to {VERSION} are read: use a newer anegpt")]
    Version(u32),
    #[error("not a trace: the array `{entry}` holds {got}, but the manifest says {expected}")]
    Shape { entry: String, expected: String, got: String },
    #[error("program {index} of the trace is not valid: {message}")]
    Program { index: usize, message: String },
}
