//! Programs held against the rules.

use super::context::{Found, Scope};
use super::rule::{Check, Rule, Severity};
use super::violation::Violation;
use super::weights::weight_violations;
use super::{
    advice, arithmetic, convolution, language, layout, products, requests, shapes, types, weights,
};
use crate::machine::Profile;
use mil::text::Spans;
use mil::verify::MAX_FAULTS;
use mil::{Program, Weights};

/// Every rule, by subject.
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

/// Every rule, subject by subject.
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

    /// The machine it was checked for.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Bytes of the program's constants, all functions together: what loading it takes.
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
