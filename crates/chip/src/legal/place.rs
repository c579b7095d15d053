//! Places in a program.

/// Where a rule is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The whole program or function.
    Whole,
    /// A parameter, by name.
    Parameter(String),
    /// A returned value, by name.
    Output(String),
    /// An operation.
    Operation {
        /// Index in the function's list.
        index: usize,
        /// Its `name` attribute.
        name: String,
    },
}
