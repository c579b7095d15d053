//! Rules of ports, and those that devices enforce when a request is made or a program is loaded.

use super::context::{Found, Scope};
use super::place::Place;
use super::rule::{Check, Refusal, Rule, Severity};
use crate::confidence::Confidence;

/// Input buffers of one trigger of the firmware (GUIDE:29-firmware.md).
const MAX_INPUTS: usize = 16;

/// Inputs of a request, and outputs (DEC:-[_ANERequest validate]).
pub(super) const MAX_PORTS: usize = 255;

/// Elements to which widths of surfaces should be a multiple (ELA:docs/MIL-CONSTRAINTS.md).
pub(super) const WIDTH_STEP: usize = 32;

pub(super) static RULES: [Rule; 8] = [
    Rule {
        id: "ANE070",
        title: "widths of ports are multiples of 32",
        applies: "in memory",
        does: "Warns of inputs and outputs whose last axis is not a multiple of 32.",
        why: "Programs compile and then fail, or run and give wrong numbers: rows lie at the next multiple \
              of 32 elements while the description of the port has the width asked for, so that row k is \
              read where row k + 1 begins.",
        instead: "pad the width to a multiple of 32 and use the first part",
        evidence: "C.1 (ELA:docs/MIL-CONSTRAINTS.md on M5, SKY:README on M3 Max, ncdrone/ane's least width \
                   of 64; LUE, ORI #4)",
        conflict: "RUS asks for 16, and ORI runs 16; gains of shape [1, C, 1, 1] are common inputs (MAD#22), \
                   and AF uses any width, by e5rt. Hence a warning.",
        severity: Severity::Warning,
        confidence: Confidence::Medium,
        refusal: None,
        check: Check::Function(widths),
    },
    Rule {
        id: "ANE071",
        title: "at most 16 inputs",
        applies: "in memory",
        does: "Warns of functions with more than 16 parameters.",
        why: "The firmware maps at most 16 input buffers per trigger.",
        instead: "pack several tensors into one input and slice them apart",
        evidence: "C.1 (GUIDE:29-firmware.md)",
        conflict: "IMP ran 98 inputs on M1. Hence a warning.",
        severity: Severity::Warning,
        confidence: Confidence::Low,
        refusal: None,
        check: Check::Function(inputs),
    },
    Rule {
        id: "ANE072",
        title: "at most 255 inputs and 255 outputs",
        applies: "in memory",
        does: "Refuses functions with more inputs or more outputs.",
        why: "A request with more does not pass its own validation.",
        instead: "cut the program in two",
        evidence: "C.1 (DEC:-[_ANERequest validate])",
        conflict: "",
        severity: Severity::Error,
        confidence: Confidence::Medium,
        refusal: Some(Refusal::Unreported),
        check: Check::Function(ports),
    },
    Rule {
        id: "ANE080",
        title: "surfaces bound together have one size",
        applies: "in memory",
        does: "Refuses requests whose input surfaces, or output surfaces, differ in allocation.",
        why: "The request fails with status 0x1d.",
        instead: "allocate all of them at the largest size; data stay packed from byte 0",
        evidence: "C.1 (ORI #2, #12), I.4",
        conflict: "IMP: sizes may grow over inputs and shrink over outputs, or zeros come out. One \
                   size satisfies both.",
        severity: Severity::Error,
        confidence: Confidence::High,
        refusal: None,
        check: Check::Request,
    },
    Rule {
        id: "ANE081",
        title: "surfaces have a smallest size",
        applies: "in memory; macOS 15: 49152 bytes; macOS 26: 2048 bytes",
        does: "Refuses requests with smaller surfaces.",
        why: "The program compiles, and the request fails with status 0x1d.",
        instead: "allocate more; data stay packed from byte 0",
        evidence: "C.1 (ORI #4, LUE, ESP), I.4",
        conflict: "8192 bytes work on M5 with macOS 26 (MAD:training/m5result.md); IMP gives 2048 on \
                   M1. The true rule may be a smallest width of 16 (see ANE070).",
        severity: Severity::Error,
        confidence: Confidence::Medium,
        refusal: None,
        check: Check::Request,
    },
    Rule {
        id: "ANE082",
        title: "one surface per port, in alphabetical order",
        applies: "in memory",
        does: "Refuses requests with another number of surfaces than ports. The order cannot be \
               checked when types are equal.",
        why: "A wrong number fails with status 0x1d; a wrong order gives permuted data without a \
              word.",
        instead: "bind inputs and outputs in alphabetical order of their names",
        evidence: "C.1 (ORI #3, #13: all six orders of three inputs), I.4",
        conflict: "",
        severity: Severity::Error,
        confidence: Confidence::High,
        refusal: None,
        check: Check::Request,
    },
    Rule {
        id: "ANE083",
        title: "119 compiles per process",
        applies: "in memory",
        does: "Refuses the 120th compile of a process.",
        why: "The compiler leaks and fails from then on.",
        instead: "give weights as inputs, so that programs are compiled once; or start anew from a \
                  checkpoint",
        evidence: "D (MAD:training/stories_config.h, ORI #5, ESP, OMLX#2781), I.5",
        conflict: "AF compiles thousands when programs are released, by e5rt; the figure may be that \
                   of ANE084. The stricter reading is in force in memory.",
        severity: Severity::Error,
        confidence: Confidence::Medium,
        refusal: Some(Refusal::CompilationFailure),
        check: Check::Request,
    },
    Rule {
        id: "ANE084",
        title: "128 programs loaded at once",
        applies: "everywhere",
        does: "Refuses to load the 129th program of a process.",
        why: "The load fails; nothing is unloaded to make room.",
        instead: "drop executables that are not in use; share one program between equal layers",
        evidence: "D (AF:docs/e5rt-dispatch-reference.md, MID), I.5",
        conflict: "",
        severity: Severity::Error,
        confidence: Confidence::High,
        refusal: Some(Refusal::LoadFailure),
        check: Check::Request,
    },
];

fn widths(scope: &Scope<'_>) -> Vec<Found> {
    if !scope.in_memory() {
        return vec![];
    }
    scope.at_ports(|ty| {
        let width = ty.shape.last().copied().unwrap_or(1);
        (!width.is_multiple_of(WIDTH_STEP))
            .then(|| format!("expected a width that is a multiple of {WIDTH_STEP}, got {ty}"))
    })
}

fn ports(scope: &Scope<'_>) -> Vec<Found> {
    let counts = [("inputs", scope.function.params), ("outputs", scope.function.outputs.len())];
    let many = |&(_, got): &(&str, usize)| scope.in_memory() && got > MAX_PORTS;
    let found = |(what, got): (&str, usize)| Found {
        place: Place::Whole,
        message: format!("expected at most {MAX_PORTS} {what}, got {got}"),
    };
    counts.into_iter().filter(many).map(found).collect()
}

fn inputs(scope: &Scope<'_>) -> Vec<Found> {
    let got = scope.function.params;
    if !scope.in_memory() || got <= MAX_INPUTS {
        return vec![];
    }
    let message = format!("expected at most {MAX_INPUTS} inputs, got {got}");
    vec![Found { place: Place::Whole, message }]
}
