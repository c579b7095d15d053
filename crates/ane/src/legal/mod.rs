//! What the machine accepts: [`check`] turns a program into [`Legal`], or says everything that is
//! wrong with it.
//!
//! Each rule is one [`Rule`] in [`RULES`]: the fact, where it was published, how sure it is, and
//! the code that finds breaches. The documentation (`docs/ane-rules.md`) is written from the same
//! table. Where sources disagree the stricter reading is in force; [`check_allowing`] lifts named
//! rules for those who know better.

mod advice;
mod arithmetic;
mod context;
mod convolution;
pub mod fix;
mod language;
mod layout;
mod page;
mod products;
mod requests;
mod rule;
mod shapes;
mod types;
mod validator;
mod weights;

pub use fix::{Applied, Fixed, fix};
pub use page::markdown;
pub use rule::{Confidence, Refusal, Rule, Severity};
pub use validator::validator_message;
pub use weights::weight_violations;

use crate::chip::Profile;
use context::{Found, Scope};
use mil::text::Spans;
use mil::verify::MAX_FAULTS;
use mil::{Program, Weights};
use rule::Check;
use std::fmt;

/// Every rule, by subject, in order of id.
pub static RULES: [(&str, &[Rule]); 9] = [
    ("The program", &language::RULES),
    ("Shapes", &shapes::RULES),
    ("Weight files", &weights::RULES),
    ("Element types", &types::RULES),
    ("Convolutions", &convolution::RULES),
    ("Products and attention", &products::RULES),
    ("Arithmetic", &arithmetic::RULES),
    ("Layout", &layout::RULES),
    ("Requests and processes", &requests::RULES),
];

/// Every rule, in order of id.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    RULES.iter().flat_map(|(_, rules)| rules.iter())
}

/// The rule called `id`, for instance `ANE010`.
pub fn rule(id: &str) -> Option<&'static Rule> {
    rules().find(|rule| rule.id.eq_ignore_ascii_case(id))
}

/// Rules that were withdrawn, and why. Their ids are not given again.
pub static WITHDRAWN: [(&str, &str); 2] = [
    (
        "ANE027",
        "Quantised weights on M3: the one probe that was refused (ESP) wrote \
         constexpr_affine_dequantize with arguments, which is refused everywhere in memory, and the \
         offset of the data in place of the record's.",
    ),
    (
        "ANE063",
        "concat in memory: the programs that were refused (ORI) left out `interleave`, which ANE001 \
         asks for; complete ones run on M3 Max, M4, M4 Max and M5 (MAD, ESP, RUS).",
    ),
];

/// Why the rule called `id` was withdrawn, if it was.
pub fn withdrawn(id: &str) -> Option<&'static str> {
    WITHDRAWN.iter().find(|(rule, _)| rule.eq_ignore_ascii_case(id)).map(|(_, why)| *why)
}

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

/// A breach of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: &'static Rule,
    /// Name of the function; empty if the program has none.
    pub function: String,
    /// Where in the function.
    pub place: Place,
    /// What was expected and what was found.
    pub message: String,
    /// What to do instead, in general.
    pub hint: String,
    /// What to write in this very place, with the program's names and numbers.
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

/// A program that was checked for a profile. Only [`check`] makes one.
#[derive(Clone, Copy, Debug)]
pub struct Legal<'p> {
    program: &'p Program,
    profile: Profile,
    _private: (),
}

impl<'p> Legal<'p> {
    /// The program.
    pub fn program(&self) -> &'p Program {
        self.program
    }

    /// What it was checked for.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Bytes of the program's constants, all functions together: what loading it takes
    /// ([`crate::Budget::load`]).
    pub fn constant_bytes(&self) -> u64 {
        self.program.functions.iter().map(shapes::constant_bytes).fold(0, u64::saturating_add)
    }
}

/// A legal program and what is still worth knowing about it.
#[derive(Clone, Debug)]
pub struct Verdict<'p> {
    /// The program.
    pub legal: Legal<'p>,
    /// Warnings, and breaches of rules that were lifted.
    pub warnings: Vec<Violation>,
}

/// Checks `program` against every rule that holds on `profile`.
///
/// # Errors
/// Every breach, warnings included, when at least one is an error or silently wrong.
pub fn check<'p>(program: &'p Program, profile: &Profile) -> Result<Legal<'p>, Vec<Violation>> {
    check_allowing(program, profile, &[]).map(|verdict| verdict.legal)
}

/// Like [`check`], but breaches of the rules in `allowed` (by id) are only warnings. Rules of the
/// language, which every later stage relies on, cannot be lifted.
///
/// # Errors
/// As [`check`].
pub fn check_allowing<'p>(
    program: &'p Program,
    profile: &Profile,
    allowed: &[&str],
) -> Result<Verdict<'p>, Vec<Violation>> {
    judge(program, profile, allowed, violations(program, profile))
}

/// Like [`check_allowing`], with the rules of weight files for those that are given.
///
/// # Errors
/// As [`check`].
pub fn check_with_weights<'p>(
    program: &'p Program,
    weights: &Weights,
    profile: &Profile,
    allowed: &[&str],
) -> Result<Verdict<'p>, Vec<Violation>> {
    let mut found = violations(program, profile);
    found.extend(weight_violations(program, weights, profile));
    judge(program, profile, allowed, found)
}

fn judge<'p>(
    program: &'p Program,
    profile: &Profile,
    allowed: &[&str],
    found: Vec<Violation>,
) -> Result<Verdict<'p>, Vec<Violation>> {
    let refused = |v: &Violation| {
        let lifted = allowed.iter().any(|id| v.rule.id.eq_ignore_ascii_case(id));
        v.rule.severity != Severity::Warning && (!lifted || v.rule.is_language())
    };
    if found.iter().any(refused) {
        return Err(found);
    }
    let legal = Legal { program, profile: *profile, _private: () };
    Ok(Verdict { legal, warnings: found })
}

/// Every breach of a rule: those of the language first, then by function, rule and place. Functions
/// that are not well formed are held against the rules of the language only.
pub fn violations(program: &Program, profile: &Profile) -> Vec<Violation> {
    let faults = language::faults(program);
    let all_known = faults.len() < MAX_FAULTS;
    let sound = |i: usize| {
        let unsound =
            |(f, v): &(Option<usize>, Violation)| *f == Some(i) && !language::leaves_sound(v.rule);
        all_known && !faults.iter().any(unsound)
    };
    let mut found = Vec::new();
    for (_, function) in program.functions.iter().enumerate().filter(|(i, _)| sound(*i)) {
        let scope = Scope::new(program, function, profile);
        found.extend(rules().flat_map(|rule| apply(rule, &scope)));
    }
    faults.into_iter().map(|(_, violation)| violation).chain(found).collect()
}

/// Every breach of a rule about the form of `text`, which a program does not hold: what prints
/// programs keeps them. `program` and `spans` are what was read from it.
pub fn text_violations(
    text: &str,
    program: &Program,
    spans: &Spans,
    profile: &Profile,
) -> Vec<Violation> {
    language::text_violations(text, program, spans, profile)
}

fn apply(rule: &'static Rule, scope: &Scope<'_>) -> Vec<Violation> {
    let found: Vec<Found> = match rule.check {
        Check::Function(check) => check(scope),
        Check::Value(check) => (0..scope.function.values.len())
            .filter_map(|i| {
                let id = mil::ValueId(i as u32);
                Some(Found { place: scope.place(id), message: check(scope, id)? })
            })
            .collect(),
        Check::Operation(check) => (scope.sites.iter())
            .filter_map(|site| {
                let message = check(scope, site)?;
                Some(Found { place: site.place(), message })
            })
            .collect(),
        Check::Language | Check::Text | Check::Weights | Check::Request => vec![],
    };
    found.into_iter().map(|found| found.of(rule, scope)).collect()
}

impl Found {
    fn of(self, rule: &'static Rule, scope: &Scope<'_>) -> Violation {
        Violation {
            rule,
            function: scope.function.name.clone(),
            rewrite: advice::advice(scope, rule, &self.place),
            place: self.place,
            message: self.message,
            hint: rule.instead.to_owned(),
        }
    }
}
