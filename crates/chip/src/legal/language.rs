//! Rules of the program as a text: that it is well formed, and how it is written.

use super::context::{Found, Scope};
use super::defaults::default_of;
use super::place::Place;
use super::rule::{Check, Refusal, Rule, Severity};
use super::shapes;
use super::violation::Violation;
use crate::confidence::Confidence;
use crate::machine::{CallPath, Os, Profile};
use mil::text::Spans;
use mil::verify::{Fault, Site};
use mil::{Arg, DType, Function, Program, TensorType, ValueId};

pub(super) static RULES: [Rule; 9] = [
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
        check: Check::Language,
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
    Rule {
        id: "ANE007",
        title: "a program has a buildInfo",
        applies: "in memory",
        does: "Warns of programs without the dictionary buildInfo.",
        why: "The parser fails without `coremlc-version`; its value does not matter.",
        instead: "write [buildInfo = dict<string, string>({{\"coremlc-version\", \"3505.4.1\"}})] behind \
                  program(1.3)",
        evidence: "A.1 (SKY:README, M3 Max with macOS 26.3)",
        conflict: "It was reported from one machine; published generators all write it. Hence a warning.",
        severity: Severity::Warning,
        confidence: Confidence::Medium,
        refusal: None,
        check: Check::Function(no_build_info),
    },
    Rule {
        id: "ANE008",
        title: "buildInfo stands on one line",
        applies: "in memory",
        does: "Warns of texts that break the line inside buildInfo.",
        why: "The parser rejects the break.",
        instead: "write buildInfo on one line, as `mil fmt` does",
        evidence: "A.1 (ELA:docs/MIL-CONSTRAINTS.md, M5 with macOS 26.5)",
        conflict: "White space means nothing elsewhere (AF, by e5rt). Hence a warning.",
        severity: Severity::Warning,
        confidence: Confidence::Medium,
        refusal: None,
        check: Check::Text,
    },
    Rule {
        id: "ANE009",
        title: "nothing unused is reduced to one column",
        applies: "M5, or macOS 26; in memory",
        does: "Warns of operations whose results are not used, and which make width 1 of more.",
        why: "An unused part of a program that ends in width 1 makes the whole program fail to compile.",
        instead: "leave out what no output depends on",
        evidence: "A.2 (ELA:docs/MIL-CONSTRAINTS.md, M5 with macOS 26.5)",
        conflict: "One source; other chips and systems were not tried. Hence a warning.",
        severity: Severity::Warning,
        confidence: Confidence::Low,
        refusal: None,
        check: Check::Function(unused_columns),
    },
];

fn no_build_info(scope: &Scope<'_>) -> Vec<Found> {
    // All functions share one header, so the first one stands for all.
    let first = std::ptr::eq(scope.function, &scope.program.functions[0]);
    if !scope.in_memory() || !first || !scope.program.build_info.is_empty() {
        return vec![];
    }
    let message = "expected a buildInfo behind the version, got none".to_owned();
    vec![Found { place: Place::Whole, message }]
}

/// Breaches of the rules about the form of the text.
pub(super) fn text_violations(
    text: &str,
    program: &Program,
    spans: &Spans,
    profile: &Profile,
) -> Vec<Violation> {
    let broken = spans.build_info.and_then(|span| text.get(span.start..span.end));
    let lines = broken.map_or(1, |info| info.lines().count());
    if profile.path != CallPath::InMemory || lines == 1 {
        return vec![];
    }
    let rule = &RULES[7];
    vec![Violation {
        rule,
        function: program.functions.first().map(|f| f.name.clone()).unwrap_or_default(),
        place: Place::Whole,
        message: format!("expected buildInfo on one line, got {lines}"),
        hint: rule.instead.to_owned(),
        rewrite: rule.instead.to_owned(),
    }]
}

fn unused_columns(scope: &Scope<'_>) -> Vec<Found> {
    if !scope.in_memory() || !(scope.profile.chip.is_m5() || scope.profile.os == Os::MacOs26) {
        return vec![];
    }
    let width = |ty: &TensorType| ty.shape.last().copied().unwrap_or(1);
    let mut used = vec![false; scope.function.values.len()];
    scope.function.outputs.iter().for_each(|id| used[id.index()] = true);
    let mut found = vec![];
    for site in scope.sites.iter().rev() {
        if site.op.results.iter().any(|id| used[id.index()]) {
            site.op.operands().for_each(|id| used[id.index()] = true);
            continue;
        }
        let inputs = scope.inputs(site);
        let wide = inputs.iter().map(|ty| width(ty)).max().unwrap_or(1);
        if wide > 1 && site.resolved.results.iter().any(|ty| width(ty) == 1) {
            let message = format!("{} makes width 1 of {wide}, and nothing uses it", site.op.op);
            found.push(Found { place: site.place(), message });
        }
    }
    found.reverse();
    found
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
        // Arguments of constexpr operations are written so by coremltools.
        .filter(|site| !site.op.op.is_constexpr())
        .filter_map(|site| {
            let literal = |(_, arg): &&(&str, Arg)| matches!(arg, Arg::Literal(_));
            let (key, _) = site.op.args.iter().find(literal)?;
            Some(Found { place: site.place(), message: message(key) })
        })
        .collect()
}

// ---- the language itself ----

/// Faults that [`mil::verify()`] finds, as breaches of the rules above and of ANE011.
pub(super) fn faults(program: &Program) -> Vec<(Option<usize>, Violation)> {
    let faults = mil::verify::faults(program);
    faults.into_iter().map(|fault| (function_of(fault.site), breach(program, fault))).collect()
}

/// True if the other rules can be applied to a function that breaks `rule`.
pub(super) fn leaves_sound(rule: &Rule) -> bool {
    *rule != RULES[0] && *rule != RULES[2]
}

fn function_of(site: Site) -> Option<usize> {
    match site {
        Site::Program => None,
        Site::Function(f)
        | Site::Param(f, _)
        | Site::Output(f, _)
        | Site::Operation(f, _)
        | Site::Value(f, _)
        | Site::Arg(f, _, _)
        | Site::Result(f, _, _) => Some(f),
    }
}

fn place_of(f: &Function, site: Site) -> Place {
    let name = |id: ValueId| f.values.get(id.index()).map_or(id.to_string(), |v| v.name.clone());
    match site {
        Site::Program | Site::Function(_) => Place::Whole,
        Site::Param(_, i) => Place::Parameter(name(ValueId(i as u32))),
        Site::Output(_, i) => Place::Output(name(f.outputs[i])),
        Site::Operation(_, index)
        | Site::Value(_, index)
        | Site::Arg(_, index, _)
        | Site::Result(_, index, _) => Place::Operation { index, name: f.ops[index].name.clone() },
    }
}

/// The rule that a fault breaks. Names and empty axes are told apart by the fault's words, which the
/// cases of the rules pin.
fn rule_of(f: Option<&Function>, fault: &Fault) -> &'static Rule {
    let input = |i: usize| f.is_some_and(|f| f.outputs[i].index() < f.params);
    match fault.site {
        Site::Output(_, i) if input(i) && !fault.message.ends_with("twice") => &RULES[3],
        Site::Output(..) => &RULES[2],
        Site::Function(_) if fault.message.ends_with("returns nothing") => &RULES[2],
        _ if fault.message.ends_with("is defined twice") => &RULES[1],
        _ if fault.message.contains("has an extent of zero") => shapes::empty_axes(),
        _ => &RULES[0],
    }
}

/// The arguments that an operation leaves out, with the values that the language has for them.
fn completion(f: &Function, site: Site) -> Option<String> {
    let Site::Operation(_, index) = site else { return None };
    let op = f.ops.get(index)?;
    let dtype = match op.arg("x") {
        Some(Arg::Value(id)) => f.values.get(id.index()).map_or(DType::Fp16, |x| x.ty.dtype),
        _ => DType::Fp16,
    };
    let absent = op.op.signature().params.iter().filter(|p| p.required && op.arg(p.key).is_none());
    let values = absent.filter_map(|p| {
        let value = default_of(op.op, p.key, dtype)?;
        Some(format!("{} = {value}", p.key))
    });
    let values: Vec<String> = values.collect();
    let text = format!("write `{}` in `{}`, as the language takes it", values.join(", "), op.name);
    (!values.is_empty()).then_some(text)
}

fn breach(program: &Program, fault: Fault) -> Violation {
    let f = function_of(fault.site).and_then(|i| program.functions.get(i));
    let rule = rule_of(f, &fault);
    let hint = if fault.hint.is_empty() { rule.instead.to_owned() } else { fault.hint };
    Violation {
        rule,
        function: f.map(|f| f.name.clone()).unwrap_or_default(),
        place: f.map_or(Place::Whole, |f| place_of(f, fault.site)),
        message: fault.message,
        rewrite: f.and_then(|f| completion(f, fault.site)).unwrap_or_else(|| hint.clone()),
        hint,
    }
}

/// True if values of this type can be data of the engine, not only attributes.
pub(super) fn is_data(dtype: DType) -> bool {
    !matches!(dtype, DType::String | DType::Int64 | DType::UInt64)
}
