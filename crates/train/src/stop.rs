//! Asking a run to end early.

use serde::{Deserialize, Serialize};
use std::sync::OnceLock;

/// Why a run is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// All steps are done.
    #[default]
    Finished,
    /// Ctrl-C (SIGINT).
    Interrupted,
    /// SIGTERM.
    Terminated,
    /// The terminal went away (SIGHUP).
    Hangup,
    /// The program itself wanted no more steps, as when its output cannot be written.
    Stopped,
}

/// A request to end a run after the step under way. Set once, from any thread.
#[derive(Debug, Default)]
pub struct Stop(OnceLock<Reason>);

impl Stop {
    /// Asks for the end. Returns false if somebody has asked before, whose reason stands.
    pub fn request(&self, reason: Reason) -> bool {
        self.0.set(reason).is_ok()
    }

    /// Why the run is to end, if it is.
    pub fn reason(&self) -> Option<Reason> {
        self.0.get().copied()
    }

    /// True if the run is to end.
    pub fn requested(&self) -> bool {
        self.0.get().is_some()
    }
}
