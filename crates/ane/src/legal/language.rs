//! Rules of the program as a text: that it is well formed, and how it is written.

use super::context::{Found, Scope};
use super::rule::{Check, Confidence, Refusal, Rule, Severity};
use super::{Place, Violation};
use mil::{Arg, DType, Function, Op, OpError, Payload, Program, Resolved};
use std::collections::BTreeSet;

pub(super) static RULES: [Rule; 6] = [
    Rule {
        id: "ANE001",
        title: "operations keep the rules of the language",
        applies: "everywhere",
        does: "Refuses operations with missing, unknown or unfitting arguments, results whose \
               declared type is not the one that follows, and values used before they are defined.",
        why: "The compiler reports InvalidMILProgram. Arguments that other tools treat as optional \
              are needed: `mode` of gelu, `epsilon` of log, rsqrt and inverse, `axis` and \
              `interleave` of concat.",
        instead: "write the program with the builder, which infers types",
        evidence: "A.2 (AF:aneforge/_compile.py, AF:docs/mil-primer.md), A.7 (GUIDE:22-compiler.md)",
        conflict: "ORI says that gelu does not exist and others that rsqrt fails; both are most \
                   likely a missing argument.",
        severity: Severity::Error,
        confidence: Confidence::High,
        refusal: Some(Refusal::InvalidMilProgram),
        check: Check::Language,
    },
    Rule {
        id: "ANE002",
        title: "names are unique",
        applies: "everywhere",
        does: "Refuses two values of a function, or two functions of a program, with one name.",
        why: "The compiler reports InvalidMILProgram.",
        instead: "rename one of them",
        evidence: "A.2 (ORI:README)",
        conflict: "IMP lists names such as `x`, `mul` or `var` that break programs; programs of MAD \
                   and AF use them, so no name is refused.",
        severity: Severity::Error,
        confidence: Confidence::High,
        refusal: Some(Refusal::InvalidMilProgram),
        check: Check::Language,
    },
    Rule {
        id: "ANE003",
        title: "outputs are defined, once each",
        applies: "everywhere",
        does: "Refuses a function that returns nothing, a value that no statement defines, or one \
               value twice.",
        why: "A returned name that is dead or undefined gives InvalidMILProgram; surfaces are bound \
              by name, so that a name can stand for one port only.",
        instead: "return each result of an operation once",
        evidence: "A.2 (ORI:README); the part about duplicates follows from C.1",
        conflict: "",
        severity: Severity::Error,
        confidence: Confidence::High,
        refusal: Some(Refusal::InvalidMilProgram),
        check: Check::Language,
    },
    Rule {
        id: "ANE004",
        title: "an output is not an input",
        applies: "everywhere",
        does: "Refuses a function that returns one of its parameters as it is.",
        why: "The Espresso front end fails with `unordered_map::at: key not found`.",
        instead: "return mul(x, 1.0)",
        evidence: "A.2 (AF#116, AF:aneforge/_compile.py)",
        conflict: "",
        severity: Severity::Error,
        confidence: Confidence::High,
        refusal: Some(Refusal::CompilationFailure),
        check: Check::Function(output_is_input),
    },
    Rule {
        id: "ANE005",
        title: "M1 and M2 read the older text",
        applies: "M1, M2; in memory",
        does: "Warns of programs that are not program(1.0) for ios16.",
        why: "The parsers of that time accept this header and the long form of constants, \
              `tensor<string, []>(\"x\")`.",
        instead: "print the program with version (1, 0), opset ios16 and long constants",
        evidence: "A.1, A.2 (MAD#6)",
        conflict: "The parser belongs to the system, not to the chip; newer systems on M1 were \
                   seen to take 1.3 (MAD#28). Hence a warning.",
        severity: Severity::Warning,
        confidence: Confidence::Medium,
        refusal: None,
        check: Check::Function(old_text),
    },
    Rule {
        id: "ANE006",
        title: "attributes are named constants",
        applies: "in memory",
        does: "Warns of typed literals written in place of an argument, such as \
               `transpose_x = bool(false)`.",
        why: "They are known to compile by e5rt; in memory two sources saw InvalidMILProgram.",
        instead: "define the literal with const() and name it, as the builder does",
        evidence: "A.2 (ORI:README, LUE)",
        conflict: "AF writes typed literals in place everywhere, by e5rt. What fails is probably \
                   the untyped literal only. Hence a warning.",
        severity: Severity::Warning,
        confidence: Confidence::Low,
        refusal: None,
        check: Check::Function(literals_in_place),
    },
];

const SYNTAX: &Rule = &RULES[0];
const NAMES: &Rule = &RULES[1];
const OUTPUTS: &Rule = &RULES[2];

fn output_is_input(scope: &Scope<'_>) -> Vec<Found> {
    let f = scope.function;
    (f.outputs.iter().filter(|id| id.index() < f.params))
        .map(|&id| Found {
            place: Place::Output(f.value(id).name.clone()),
            message: "expected the result of an operation, got a parameter".to_owned(),
        })
        .collect()
}

fn old_text(scope: &Scope<'_>) -> Vec<Found> {
    let (version, opset) = (scope.program.version, &scope.function.opset);
    if !scope.before_m3() || !scope.in_memory() || (version == (1, 0) && opset == "ios16") {
        return vec![];
    }
    let message = format!(
        "{} expects program(1.0) for ios16, got program({}.{}) for {opset}",
        scope.profile.chip, version.0, version.1
    );
    vec![Found { place: Place::Whole, message }]
}

fn literals_in_place(scope: &Scope<'_>) -> Vec<Found> {
    if !scope.in_memory() {
        return vec![];
    }
    let message =
        |key| format!("argument `{key}` is a literal in place, expected a named constant");
    (scope.sites.iter())
        .filter_map(|site| {
            let literal = |(_, arg): &&(&str, Arg)| matches!(arg, Arg::Literal(_));
            let (key, _) = site.op.args.iter().find(literal)?;
            Some(Found { place: site.place(), message: message(key) })
        })
        .collect()
}

// ---- structure: what all other rules rely on ----

/// Breaches of ANE001 to ANE003 that can be found without resolving operations.
pub(super) fn structure(program: &Program) -> Vec<Violation> {
    let mut found = Vec::new();
    if program.functions.is_empty() {
        let message = "expected at least one function".to_owned();
        let hint = SYNTAX.instead.to_owned();
        let function = String::new();
        found.push(Violation { rule: SYNTAX, function, place: Place::Whole, message, hint });
    }
    let mut names = BTreeSet::new();
    for f in &program.functions {
        if !names.insert(&f.name) {
            let message = format!("two functions are called `{}`", f.name);
            found.push(Found { place: Place::Whole, message }.of(NAMES, f));
        }
        unique_values(f, &mut found);
        if let Some(defined) = definitions(f, &mut found) {
            outputs(f, &defined, &mut found);
        }
    }
    found
}

fn unique_values(f: &Function, found: &mut Vec<Violation>) {
    let mut names = BTreeSet::new();
    for value in f.values.iter().filter(|value| !names.insert(&value.name)) {
        let message = format!("two values are called `{}`", value.name);
        found.push(Found { place: Place::Whole, message }.of(NAMES, f));
    }
}

/// Which values are defined; `None` if ids do not number the values in order of definition.
fn definitions(f: &Function, found: &mut Vec<Violation>) -> Option<Vec<bool>> {
    let mut fail = |place, message: String| {
        found.push(Found { place, message }.of(SYNTAX, f));
    };
    if f.params > f.values.len() {
        fail(Place::Whole, format!("{} parameters of {} values", f.params, f.values.len()));
        return None;
    }
    let mut defined = vec![false; f.values.len()];
    defined[..f.params].fill(true);
    let mut next = f.params;
    for (index, op) in f.ops.iter().enumerate() {
        let place = || Place::Operation { index, name: op.name.clone() };
        for id in op.operands().filter(|id| !defined.get(id.index()).is_some_and(|&d| d)) {
            match f.values.get(id.index()) {
                Some(value) => {
                    fail(place(), format!("`{}` is used before it is defined", value.name))
                }
                None => fail(place(), format!("{id} is not a value of the function")),
            }
        }
        for id in &op.results {
            if id.index() < next || id.index() >= f.values.len() {
                fail(place(), format!("result {id} is out of order"));
                return None;
            }
            (defined[id.index()], next) = (true, id.index() + 1);
        }
        if op.results.is_empty() || op.value.is_some() != (op.op == Op::Const) {
            fail(place(), "expected results, and a literal for const() only".to_owned());
        }
        if let Some(message) = op.value.as_ref().and_then(broken_literal) {
            fail(place(), message);
        }
    }
    Some(defined)
}

fn broken_literal(literal: &mil::Literal) -> Option<String> {
    let Payload::Inline(data) = &literal.payload else { return None };
    let count = literal.ty.count();
    (data.len() != count).then(|| {
        format!("literal of {}: expected {count} elements, got {}", literal.ty, data.len())
    })
}

fn outputs(f: &Function, defined: &[bool], found: &mut Vec<Violation>) {
    if f.outputs.is_empty() {
        let message = "expected at least one output".to_owned();
        found.push(Found { place: Place::Whole, message }.of(OUTPUTS, f));
    }
    let mut seen = BTreeSet::new();
    for id in &f.outputs {
        let name = f.values.get(id.index()).map_or(id.to_string(), |value| value.name.clone());
        let message = if !defined.get(id.index()).is_some_and(|&d| d) {
            "expected a value that a statement defines, got one that none does"
        } else if !seen.insert(*id) {
            "expected to be returned once, got twice"
        } else {
            continue;
        };
        let message = message.to_owned();
        found.push(Found { place: Place::Output(name), message }.of(OUTPUTS, f));
    }
}

/// ANE001 for an operation that does not resolve.
pub(super) fn unresolved(f: &Function, index: usize, error: &OpError) -> Violation {
    let place = Place::Operation { index, name: f.ops[index].name.clone() };
    let mut violation = Found { place, message: error.to_string() }.of(SYNTAX, f);
    if !error.hint.is_empty() {
        violation.hint = error.hint.clone();
    }
    violation
}

/// ANE001 for an operation whose declared types do not follow.
pub(super) fn mistyped(f: &Function, index: usize, resolved: &Resolved<'_>) -> Option<Violation> {
    let op = &f.ops[index];
    let place = || Place::Operation { index, name: op.name.clone() };
    let (declared, inferred) = (op.results.len(), resolved.results.len());
    let message = if declared != inferred {
        format!("expected {inferred} results, got {declared}")
    } else {
        let (&id, ty) =
            (op.results.iter().zip(&resolved.results)).find(|(id, ty)| f.ty(**id) != *ty)?;
        format!("expected `{}` to be declared {ty}, got {}", f.value(id).name, f.ty(id))
    };
    Some(Found { place: place(), message }.of(SYNTAX, f))
}

/// Whether values of this type can be data of the engine, not only attributes.
pub(super) fn is_data(dtype: DType) -> bool {
    !matches!(dtype, DType::String | DType::Int64 | DType::UInt64)
}
