//! Rules of shapes: rank, extents, size.

use super::context::{Found, Scope};
use super::language::is_data;
use super::place::Place;
use super::rule::{Check, Refusal, Rule, Severity};
use crate::confidence::Confidence;
use crate::machine::{MAX_CHANNELS, MAX_DEPTH, MAX_PROGRAM_BYTES, MAX_RANK};
use mil::{Function, ValueId};

pub(super) static RULES: [Rule; 5] = [
    Rule {
        id: "ANE010",
        title: "at most five axes",
        applies: "everywhere",
        does: "Refuses tensors of rank 6 and more, intermediate ones included.",
        why: "The validator says `Rank … must be between 0 and 5`, and `Cannot reshape a tensor of \
              rank > 5`.",
        instead: "merge axes with reshape; do the permutation in two steps",
        evidence: "A.3 (AF:docs/mil-primer.md), D, B.3",
        conflict: "",
        severity: Severity::Error,
        confidence: Confidence::High,
        refusal: Some(Refusal::InvalidMilProgram),
        check: Check::Value(rank),
    },
    Rule {
        id: "ANE011",
        title: "no empty axes",
        applies: "everywhere",
        does: "Refuses tensors with an extent of 0.",
        why: "The compiler rejects zero-sized and flexible extents.",
        instead: "leave the empty part out of the program",
        evidence: "A.3 (AF:docs/developer/op-quirks.md)",
        conflict: "",
        severity: Severity::Error,
        confidence: Confidence::High,
        refusal: Some(Refusal::InvalidMilProgram),
        check: Check::Language,
    },
    Rule {
        id: "ANE012",
        title: "width and height have a limit",
        applies: "M1–M3: 16384; M4 and M5: 65536",
        does: "Refuses tensors whose last or second last axis is longer than the limit, whatever \
               operation they belong to.",
        why: "The engine's descriptors cannot express it: ANECCompile() fails, on M1–M3 with \
              `exceeds ANE family 2's max dimension 16384`.",
        instead: "cut the tensor along the axis, or move the long axis to the channels",
        evidence: "D and B.2 (GUIDE:24-hal-gates.md), C.1 (RUS#13: M3 Ultra, width 16384 compiles, \
                   17920 does not)",
        conflict: "",
        severity: Severity::Error,
        confidence: Confidence::High,
        refusal: Some(Refusal::CompilationFailure),
        check: Check::Value(extent),
    },
    Rule {
        id: "ANE013",
        title: "batches, channels and depth have a limit",
        applies: "everywhere",
        does: "Refuses tensors with more than 65536 batches or channels (axes before the last two) \
               or, at rank 5, a middle axis longer than 16384.",
        why: "The engine's descriptors cannot express it: ANECCompile() fails.",
        instead: "cut the tensor along the axis",
        evidence: "D (GUIDE:24-hal-gates.md)",
        conflict: "",
        severity: Severity::Error,
        confidence: Confidence::Medium,
        refusal: Some(Refusal::CompilationFailure),
        check: Check::Value(outer),
    },
    Rule {
        id: "ANE014",
        title: "constants fit the address window",
        applies: "everywhere",
        does: "Refuses programs whose constants take 3.4 GB or more.",
        why: "The program compiles and does not load: `Program load failure (0x20004)`.",
        instead: "cut it into several programs, or give weights as inputs",
        evidence: "D (AF:aneforge/llm.py: 1.5 GB load, 3.4 GB do not; GUIDE:28: firmware < 4 GiB, \
                   window 3.5 GiB)",
        conflict: "OMLX#2781 loaded 7.86 GB on an M3 Max and failed at 3.75 GiB on an M1 Ultra; the \
                   smaller figure is in force.",
        severity: Severity::Error,
        confidence: Confidence::Medium,
        refusal: Some(Refusal::LoadFailure),
        check: Check::Function(constants),
    },
];

fn rank(scope: &Scope<'_>, id: ValueId) -> Option<String> {
    let ty = scope.ty(id);
    (ty.rank() > MAX_RANK)
        .then(|| format!("expected rank <= {MAX_RANK}, got {} in {ty}", ty.rank()))
}

/// ANE011, whose breaches the verifier of the language finds.
pub(super) fn empty_axes() -> &'static Rule {
    &RULES[1]
}

fn extent(scope: &Scope<'_>, id: ValueId) -> Option<String> {
    let (ty, limit) = (scope.ty(id), scope.generation().max_extent());
    let axis = (0..ty.rank()).rev().take(2).find(|&axis| ty.shape[axis] > limit)?;
    let name = if axis + 1 == ty.rank() { "width" } else { "height" };
    is_data(ty.dtype).then(|| {
        let chip = scope.profile.chip;
        format!(
            "expected {name} (axis {axis}) <= {limit} on {chip}, got {} in {ty}",
            ty.shape[axis]
        )
    })
}

fn outer(scope: &Scope<'_>, id: ValueId) -> Option<String> {
    let ty = scope.ty(id);
    let outer = ty.rank().saturating_sub(2);
    (0..outer).find_map(|axis| {
        let depth = ty.rank() == MAX_RANK && axis == 2;
        let limit = if depth { MAX_DEPTH } else { MAX_CHANNELS };
        let got = ty.shape[axis];
        (got > limit).then(|| format!("expected axis {axis} <= {limit}, got {got} in {ty}"))
    })
}

/// Bytes of all constants of a function, packed; saturates.
pub(super) fn constant_bytes(function: &Function) -> u64 {
    let literals = function.ops.iter().flat_map(|op| op.literals());
    let bytes = literals.map(|l| (l.ty.count() as u128 * l.ty.dtype.bits() as u128).div_ceil(8));
    u64::try_from(bytes.fold(0, u128::saturating_add)).unwrap_or(u64::MAX)
}

/// All functions of a program are loaded together, so the first one stands for all.
fn constants(scope: &Scope<'_>) -> Vec<Found> {
    let functions = &scope.program.functions;
    let bytes = functions.iter().map(constant_bytes).fold(0, u64::saturating_add);
    if bytes < MAX_PROGRAM_BYTES || !std::ptr::eq(scope.function, &functions[0]) {
        return vec![];
    }
    let message = format!("expected constants of < {MAX_PROGRAM_BYTES} bytes, got {bytes}");
    vec![Found { place: Place::Whole, message }]
}
