//! Everything known of the machine, one row per fact.
//!
//! A [`Fact`] says what is so, on which chips, by which sources and how sure it is; which rules of
//! [`crate::legal`] enforce it and which tests hold the emulator to it. Where sources contradict
//! each other both statements are rows that name each other, and exactly one of them, the strict
//! one, is in force ([`Fact::default`]). `docs/ane-facts.md` is written from this table.
//!
//! Nothing here was measured by this project.

/// A test of `crates/mil/tests/facts.rs`.
macro_rules! language {
    ($test:literal) => {
        concat!("crates/mil/tests/facts.rs::", $test)
    };
}

/// A test of `crates/ane/tests/facts_enforced.rs`.
macro_rules! enforced {
    ($test:literal) => {
        concat!("crates/ane/tests/facts_enforced.rs::", $test)
    };
}

mod emulation;
mod fact;
mod limits;
mod numerics;
mod operations;
mod paths;
mod programs;
mod speed;
mod surfaces;

pub use crate::confidence::Confidence;
pub use fact::{Basis, Chips, Fact};

/// Every fact, by subject.
pub static FACTS: [(&str, &[Fact]); 8] = [
    ("Programs and weight files", programs::FACTS),
    ("Operations and errors", operations::FACTS),
    ("Surfaces", surfaces::FACTS),
    ("Limits and budgets", limits::FACTS),
    ("Numerics", numerics::FACTS),
    ("Speed", speed::FACTS),
    ("Call paths and weight updates", paths::FACTS),
    ("What follows for an emulator", emulation::FACTS),
];

/// Every fact, in the order of the catalogue.
pub fn facts() -> impl Iterator<Item = &'static Fact> {
    FACTS.iter().flat_map(|(_, facts)| facts.iter())
}

/// The fact called `id`, for instance `E2-saturation`.
pub fn fact(id: &str) -> Option<&'static Fact> {
    facts().find(|fact| fact.id.eq_ignore_ascii_case(id))
}
