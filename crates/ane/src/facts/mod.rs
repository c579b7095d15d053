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
mod limits;
mod numerics;
mod operations;
mod page;
mod paths;
mod programs;
mod speed;
mod surfaces;

pub use crate::legal::Confidence;
pub(crate) use page::links_of_rule;
pub use page::markdown;

use crate::chip::{CallPath, Chip, Family, Os, Profile};
use std::fmt;

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

/// Chips that a fact is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chips {
    /// All of them.
    All,
    /// All chips of these generations.
    Families(&'static [Family]),
    /// These.
    List(&'static [Chip]),
}

impl Chips {
    /// Whether `chip` is among them.
    pub fn covers(self, chip: Chip) -> bool {
        match self {
            Chips::All => true,
            Chips::Families(families) => families.contains(&chip.family()),
            Chips::List(chips) => chips.contains(&chip),
        }
    }
}

impl fmt::Display for Chips {
    /// Prints names with commas, `m1, m1-max`; generations by their first chips, `M1–M3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: Vec<String>| names.join(", ");
        match self {
            Chips::All => f.write_str("all"),
            Chips::Families(families) => {
                let name = |family: &Family| match family {
                    Family::A13 => "M1",
                    Family::A14 => "M2",
                    Family::A15 => "M3",
                    Family::A16 => "M4, M5",
                };
                f.write_str(&list(families.iter().map(|x| name(x).to_owned()).collect()))
            }
            Chips::List(chips) => f.write_str(&list(chips.iter().map(Chip::to_string).collect())),
        }
    }
}

/// The test that holds every rule to a program that keeps it and one that breaks it.
const EACH_RULE: &str = "crates/ane/tests/legal.rs::each_rule_finds_its_breach_and_nothing_else";

/// The test of programs in the forms that other projects write.
const PROJECTS: &str =
    "crates/ane/tests/projects.rs::programs_of_other_projects_are_judged_as_reported";

/// What a fact rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Basis {
    /// A source measured it on the hardware.
    Measured,
    /// A source read it out of binaries, headers or source code.
    Derived,
    /// A source says so without data.
    Asserted,
    /// It explains what sources saw; nobody tested it.
    Inferred,
    /// Computed anew from published inputs and results, and found to agree.
    Verified,
}

impl Basis {
    /// All of them.
    pub const ALL: [Basis; 5] =
        [Basis::Measured, Basis::Derived, Basis::Asserted, Basis::Inferred, Basis::Verified];
}

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Basis::Measured => "measured",
            Basis::Derived => "derived",
            Basis::Asserted => "asserted",
            Basis::Inferred => "inferred",
            Basis::Verified => "verified",
        })
    }
}

/// One known constraint or figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Section without its dot, a hyphen and a few words, for instance `E1-product-grid`.
    pub id: &'static str,
    /// Section of the catalogue, for instance `E.1`.
    pub section: &'static str,
    /// What is so.
    pub statement: &'static str,
    /// Chips that it is about.
    pub chips: Chips,
    /// The system that it is about, if only one.
    pub os: Option<Os>,
    /// The call path that it is about, if only one.
    pub path: Option<CallPath>,
    /// Sources, with the abbreviations of the page's last section.
    pub evidence: &'static str,
    /// What it rests on.
    pub basis: Basis,
    /// How sure it is.
    pub confidence: Confidence,
    /// Whether it is in force; a row that is not is an option.
    pub default: bool,
    /// Rows that contradict it.
    pub alternatives: &'static [&'static str],
    /// Rules that enforce it, by id.
    pub rules: &'static [&'static str],
    /// Tests that hold the code to it, `path/of/file.rs::name_of_test`.
    pub tests: &'static [&'static str],
}

impl Fact {
    /// A fact in force on every chip, system and path, without rules or tests.
    const fn new(
        id: &'static str,
        section: &'static str,
        statement: &'static str,
        evidence: &'static str,
        basis: Basis,
        confidence: Confidence,
    ) -> Fact {
        Fact {
            id,
            section,
            statement,
            chips: Chips::All,
            os: None,
            path: None,
            evidence,
            basis,
            confidence,
            default: true,
            alternatives: &[],
            rules: &[],
            tests: &[],
        }
    }

    const fn families(self, families: &'static [Family]) -> Fact {
        Fact { chips: Chips::Families(families), ..self }
    }

    const fn chips(self, chips: &'static [Chip]) -> Fact {
        Fact { chips: Chips::List(chips), ..self }
    }

    const fn os(self, os: Os) -> Fact {
        Fact { os: Some(os), ..self }
    }

    const fn in_memory(self) -> Fact {
        Fact { path: Some(CallPath::InMemory), ..self }
    }

    const fn e5rt(self) -> Fact {
        Fact { path: Some(CallPath::E5rt), ..self }
    }

    /// In force, against these rows.
    const fn against(self, alternatives: &'static [&'static str]) -> Fact {
        Fact { alternatives, ..self }
    }

    /// Not in force; these rows contradict it.
    const fn option(self, alternatives: &'static [&'static str]) -> Fact {
        Fact { default: false, alternatives, ..self }
    }

    const fn rules(self, rules: &'static [&'static str]) -> Fact {
        Fact { rules, ..self }
    }

    const fn tests(self, tests: &'static [&'static str]) -> Fact {
        Fact { tests, ..self }
    }

    /// True if it is about this machine, or about the one that stands for its chip
    /// ([`Chip::nearest`]).
    pub fn holds(&self, profile: &Profile) -> bool {
        self.chips.covers(profile.chip.measured())
            && self.os.is_none_or(|os| os == profile.os)
            && self.path.is_none_or(|path| path == profile.path)
    }
}
