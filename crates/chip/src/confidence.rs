//! How sure what is known of the machine is.

use std::fmt;

/// How sure a fact or a rule is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Confidence {
    /// By construction, or seen by several sources without contradiction.
    High,
    /// One measured source, or several with a contradiction that evidence settles.
    Medium,
    /// Sources contradict each other, or it is an inference.
    Low,
}

impl fmt::Display for Confidence {
    /// Prints `high`, `medium` or `low`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Confidence::High => "high",
            Confidence::Medium => "medium",
            Confidence::Low => "low",
        })
    }
}
