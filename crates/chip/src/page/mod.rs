//! Pages of documentation that are written from the tables.

mod facts;
mod rules;

pub use facts::markdown as facts;
pub use rules::markdown as rules;
