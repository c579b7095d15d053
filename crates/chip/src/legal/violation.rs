//! A breach of a rule.

use super::place::Place;
use super::rule::{Rule, Severity};
use std::fmt;

/// A breach of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: &'static Rule,
    /// Name of the function; empty if the program has none.
    pub function: String,
    /// Where in the function.
    pub place: Place,
    /// The expectation and the finding.
    pub message: String,
    /// General advice.
    pub hint: String,
    /// The rewrite of this very place, with the program's names and numbers.
    pub rewrite: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.function)?;
        match &self.place {
            Place::Whole => {}
            Place::Parameter(name) => write!(f, ", parameter `{name}`")?,
            Place::Output(name) => write!(f, ", output `{name}`")?,
            Place::Operation { index, name } => write!(f, ", operation {index} `{name}`")?,
        }
        let severity = match self.rule.severity {
            Severity::Error => "",
            Severity::Silent => "silently wrong: ",
            Severity::Warning => "warning: ",
        };
        write!(f, ": {} {severity}{}", self.rule.id, self.message)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, "\n  hint: {}", self.hint) }
    }
}
