//! The form of a rule.

use super::context::{Found, Scope, Site};
use crate::confidence::Confidence;
use mil::ValueId;
use std::fmt;

/// The consequence of a breach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The machine refuses the program or the request.
    Error,
    /// The machine runs it and gives wrong numbers: refused here.
    Silent,
    /// It depends on the data or on which source is right: reported only.
    Warning,
}

/// How the machine words a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refusal {
    /// Caught when the program is validated.
    InvalidMilProgram,
    /// Caught when code is generated.
    CompilationFailure,
    /// Caught when the compiled program is loaded.
    LoadFailure,
    /// No source gives its words.
    Unreported,
}

/// How breaches are found.
#[derive(Clone, Copy)]
pub(super) enum Check {
    /// By reading the program's structure and resolving its operations.
    Language,
    /// By looking at a function as a whole.
    Function(fn(&Scope<'_>) -> Vec<Found>),
    /// By looking at each value: what is wrong with it, if anything.
    Value(fn(&Scope<'_>, ValueId) -> Option<String>),
    /// By looking at each operation: what is wrong with it, if anything.
    Operation(fn(&Scope<'_>, &Site<'_>) -> Option<String>),
    /// By looking at the text, whose form the program does not hold.
    Text,
    /// By reading the weight files.
    Weights,
    /// By the device, when a request is made or a program loaded.
    Request,
}

/// One fact of the machine, as a rule.
pub struct Rule {
    /// `ANE` and a number that never changes its meaning.
    pub id: &'static str,
    /// The rule in a few words.
    pub title: &'static str,
    /// Profiles on which it holds, in words.
    pub applies: &'static str,
    /// The programs that it refuses.
    pub does: &'static str,
    /// The machine's behaviour.
    pub why: &'static str,
    /// The advice.
    pub instead: &'static str,
    /// Sources, with the abbreviations of docs/ane-facts.md.
    pub evidence: &'static str,
    /// Sources that say otherwise, and which reading is in force; empty if none do.
    pub conflict: &'static str,
    /// The consequence of a breach.
    pub severity: Severity,
    /// How sure the fact is.
    pub confidence: Confidence,
    /// The machine's words, for rules that it enforces when compiling or loading.
    pub refusal: Option<Refusal>,
    pub(super) check: Check,
}

impl Rule {
    /// True if a program is checked against it by [`violations`](super::violations); the other
    /// rules are for its text, its weight files and requests.
    pub fn is_static(&self) -> bool {
        !matches!(self.check, Check::Text | Check::Weights | Check::Request)
    }

    pub(super) fn is_language(&self) -> bool {
        matches!(self.check, Check::Language)
    }
}

/// Rules are equal if their ids are.
impl PartialEq for Rule {
    fn eq(&self, other: &Rule) -> bool {
        self.id == other.id
    }
}

impl Eq for Rule {}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id)
    }
}
