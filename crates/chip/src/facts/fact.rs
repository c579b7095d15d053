//! The form of a fact.

use crate::confidence::Confidence;
use crate::machine::{CallPath, Chip, Generation, Os, Profile};
use std::fmt;

/// Chips that a fact is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chips {
    /// All of them.
    All,
    /// All chips of these generations.
    Generations(&'static [Generation]),
    /// These.
    List(&'static [Chip]),
}

impl Chips {
    /// True if `chip` is among them.
    pub fn covers(self, chip: Chip) -> bool {
        match self {
            Chips::All => true,
            Chips::Generations(generations) => generations.contains(&chip.generation()),
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
            Chips::Generations(generations) => {
                let name = |generation: &Generation| match generation {
                    Generation::A13 => "M1",
                    Generation::A14 => "M2",
                    Generation::A15 => "M3",
                    Generation::A16 => "M4, M5",
                };
                f.write_str(&list(generations.iter().map(|x| name(x).to_owned()).collect()))
            }
            Chips::List(chips) => f.write_str(&list(chips.iter().map(Chip::to_string).collect())),
        }
    }
}

/// The test that holds every rule to a program that keeps it and one that breaks it.
pub(super) const EACH_RULE: &str =
    "crates/chip/tests/legal.rs::each_rule_finds_its_breach_and_nothing_else";

/// The test of programs in the forms that other projects write.
pub(super) const PROJECTS: &str =
    "crates/ane/tests/projects.rs::programs_of_other_projects_are_judged_as_reported";

/// The evidence of a fact.
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
    /// The statement.
    pub statement: &'static str,
    /// Chips that it is about.
    pub chips: Chips,
    /// The system that it is about, if only one.
    pub os: Option<Os>,
    /// The call path that it is about, if only one.
    pub path: Option<CallPath>,
    /// Sources, with the abbreviations of the page's last section.
    pub evidence: &'static str,
    /// Its evidence.
    pub basis: Basis,
    /// How sure it is.
    pub confidence: Confidence,
    /// True if it is in force; a row that is not is an option.
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
    pub(super) const fn new(
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

    pub(super) const fn generations(self, generations: &'static [Generation]) -> Fact {
        Fact { chips: Chips::Generations(generations), ..self }
    }

    pub(super) const fn chips(self, chips: &'static [Chip]) -> Fact {
        Fact { chips: Chips::List(chips), ..self }
    }

    pub(super) const fn os(self, os: Os) -> Fact {
        Fact { os: Some(os), ..self }
    }

    pub(super) const fn in_memory(self) -> Fact {
        Fact { path: Some(CallPath::InMemory), ..self }
    }

    pub(super) const fn e5rt(self) -> Fact {
        Fact { path: Some(CallPath::E5rt), ..self }
    }

    /// In force, against these rows.
    pub(super) const fn against(self, alternatives: &'static [&'static str]) -> Fact {
        Fact { alternatives, ..self }
    }

    /// Not in force; these rows contradict it.
    pub(super) const fn option(self, alternatives: &'static [&'static str]) -> Fact {
        Fact { default: false, alternatives, ..self }
    }

    pub(super) const fn rules(self, rules: &'static [&'static str]) -> Fact {
        Fact { rules, ..self }
    }

    pub(super) const fn tests(self, tests: &'static [&'static str]) -> Fact {
        Fact { tests, ..self }
    }

    /// True if it is about this machine, or about the one that stands for its chip
    /// ([`Chip::nearest`]).
    pub fn holds(&self, profile: &Profile) -> bool {
        self.chips.covers(profile.chip.measured())
            && self.os.is_none_or(|os| os == profile.os)
            && self.path.is_none_or(|path| path == profile.path)
    }

    /// Chips, system and path in words, for instance `M1, M2; macos15; in-memory`.
    pub fn scope(&self) -> String {
        let mut scope = match self.chips {
            Chips::All => "all chips".to_owned(),
            chips => chips.to_string(),
        };
        self.os.iter().for_each(|os| scope.push_str(&format!("; {os}")));
        self.path.iter().for_each(|path| scope.push_str(&format!("; {path}")));
        scope
    }
}
