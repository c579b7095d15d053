//! Traces: what a machine computed, in a file that anyone can check (`docs/trace-format.md`).
//!
//! A [`Recorder`] wraps a device and notes programs, weights, inputs, outputs and times; a [`Trace`]
//! is written as one file, a zip archive of a manifest, MIL text and NumPy arrays; [`replay()`] runs
//! it on the emulator, compares by units in the last place, and names the facts that explain the
//! differences.

mod compare;
mod explain;
mod form;
mod format;
mod record;
mod replay;

pub use compare::{Comparison, Difference, HISTOGRAM, compare, ulps};
pub use explain::Explanation;
pub use form::{FORMAT, MachineInfo, ProgramTrace, RunTrace, Trace, TraceError, VERSION};
pub use record::{Recorder, Recording};
pub use replay::{OutputReplay, ProgramReplay, Replay, replay};
