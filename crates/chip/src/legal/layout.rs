//! Rules of operations that move elements.

use super::context::{Scope, Site};
use super::rule::{Check, Refusal, Rule, Severity};
use crate::confidence::Confidence;
use crate::machine::{CallPath, Chip, Generation};
use mil::resolve::{Norm, PadMode};
use mil::{Kind, Op};

pub(super) static RULES: [Rule; 9] = [
    Rule {
        id: "ANE060",
        title: "mirrored padding from M2 on",
        applies: "M1",
        does: "Refuses pad with mode `reflect`.",
        why: "The engine of M1 lacks it.",
        instead: "join slices with concat",
        evidence: "B.1 (GUIDE:appendices/a-op-device-matrix.md, AF:aneforge/_op_catalog.py)",
        conflict: "",
        severity: Severity::Error,
        confidence: Confidence::High,
        refusal: Some(Refusal::CompilationFailure),
        check: Check::Operation(reflect),
    },
    Rule {
        id: "ANE061",
        title: "padding of batches and channels",
        applies: "everywhere",
        does: "Warns of pad along an axis before the last two.",
        why: "The compiler contains the message `Channel padding is not supported on ANE`; when it \
              gives it was not observed.",
        instead: "join with a constant by concat along the channels",
        evidence: "B.3 (GUIDE:17, 22; read from the compiler)",
        conflict: "AF's sweep lists pad as correct, without naming the axis. Hence a warning.",
        severity: Severity::Warning,
        confidence: Confidence::Low,
        refusal: None,
        check: Check::Operation(channel_pad),
    },
    Rule {
        id: "ANE062",
        title: "slices that start inside the width",
        applies: "M1, M2",
        does: "Warns of slice_by_size, slice_by_index and split that take a part of the last axis \
               which does not start at 0.",
        why: "The elements pass through a path scaled by 16: |x| > 4094 becomes infinite.",
        instead: "slice along the channels, or keep |x| <= 4094",
        evidence: "B.2, E.2 (GUIDE:03-numerics, AF:bench/results/rooflines; absent on M4 and M5)",
        conflict: "",
        severity: Severity::Warning,
        confidence: Confidence::High,
        refusal: None,
        check: Check::Operation(width_slice),
    },
    Rule {
        id: "ANE064",
        title: "cuts and joins along the width on M3 Ultra",
        applies: "M3 Ultra",
        does: "Warns of concat, split and slices along the last axis.",
        why: "A rotary embedding written so was rejected.",
        instead: "move the axis to the channels, or multiply by a constant permutation",
        evidence: "B.2 (RUS#9)",
        conflict: "The same program works on M4 Max (RUS). Hence a warning.",
        severity: Severity::Warning,
        confidence: Confidence::Medium,
        refusal: None,
        check: Check::Operation(width_joins),
    },
    Rule {
        id: "ANE065",
        title: "concat counts its axis from the front",
        applies: "everywhere",
        does: "Warns of concat with a negative axis.",
        why: "The compiler contains the message `ANE Concat supports only supports const positive \
              axis`; when it gives it was not observed.",
        instead: "give the axis as a number from 0",
        evidence: "B.3 (GUIDE:17, 22; read from the compiler)",
        conflict: "The front end may count it from the front itself. Hence a warning.",
        severity: Severity::Warning,
        confidence: Confidence::Low,
        refusal: None,
        check: Check::Operation(negative_axis),
    },
    Rule {
        id: "ANE066",
        title: "identity by e5rt",
        applies: "e5rt",
        does: "Refuses identity.",
        why: "It does not pass the compiler of this path.",
        instead: "leave it out, or write mul(x, 1.0)",
        evidence: "B.1 (AF:aneforge/full_mil_vocabulary_sweep.json)",
        conflict: "In memory it compiles and is right (RUS, ORI, ESP, LUE).",
        severity: Severity::Error,
        confidence: Confidence::Medium,
        refusal: Some(Refusal::CompilationFailure),
        check: Check::Operation(identity),
    },
    Rule {
        id: "ANE067",
        title: "tile spoils the process",
        applies: "in memory; measured on M3 Max with macOS 26",
        does: "Warns of tile.",
        why: "The program itself may be right; all requests after it, of this and of other programs, fail \
              with status 0x1d until the process ends.",
        instead: "repeat on the CPU, or join with concat",
        evidence: "B.2 (SKY:README, tests 13, 14 and 16)",
        conflict: "By e5rt tile is right (AF:aneforge/full_mil_vocabulary_sweep.json). Hence a warning.",
        severity: Severity::Warning,
        confidence: Confidence::Medium,
        refusal: None,
        check: Check::Operation(tile),
    },
    Rule {
        id: "ANE068",
        title: "topk of three and four",
        applies: "everywhere",
        does: "Warns of topk with k of 3 or 4.",
        why: "It fails where other k work.",
        instead: "ask for the first five and cut off the rest",
        evidence: "B.2 (AF:docs/developer/op-quirks.md; measured on M5)",
        conflict: "",
        severity: Severity::Warning,
        confidence: Confidence::Medium,
        refusal: None,
        check: Check::Operation(three_or_four),
    },
    Rule {
        id: "ANE069",
        title: "local response norms over more than 15 channels",
        applies: "everywhere",
        does: "Warns of local_response_norm with a size beyond 15.",
        why: "The engine's window of channels ends there.",
        instead: "add the squares with a convolution, and divide by a power of the sum",
        evidence: "B.2 (AF:aneforge/_capabilities.py; measured on M5)",
        conflict: "",
        severity: Severity::Warning,
        confidence: Confidence::Medium,
        refusal: None,
        check: Check::Operation(wide_response),
    },
];

fn reflect(scope: &Scope<'_>, site: &Site<'_>) -> Option<String> {
    let Kind::Pad { mode, .. } = site.kind() else { return None };
    (*mode == PadMode::Reflect && scope.generation() == Generation::A13).then(|| {
        format!("expected mode constant or replicate on {}, got reflect", scope.profile.chip)
    })
}

fn channel_pad(_: &Scope<'_>, site: &Site<'_>) -> Option<String> {
    let Kind::Pad { pads, .. } = site.kind() else { return None };
    let outer = pads.len().saturating_sub(2);
    let axis = pads[..outer].iter().position(|&p| p != (0, 0))?;
    Some(format!("expected padding of the last two axes, got {:?} for axis {axis}", pads[axis]))
}

/// First index along the last axis of a part that does not take all of it.
fn cut(site: &Site<'_>, scope: &Scope<'_>) -> Option<usize> {
    let shape = &scope.inputs(site).first()?.shape;
    let last = shape.len().checked_sub(1)?;
    match site.kind() {
        Kind::Slice { begin, sizes, .. } => (sizes[last] != shape[last]).then(|| begin[last]),
        Kind::Split { axis, sizes } => (*axis == last && sizes.len() > 1).then(|| sizes[0]),
        _ => None,
    }
}

fn width_slice(scope: &Scope<'_>, site: &Site<'_>) -> Option<String> {
    let start = cut(site, scope).filter(|&start| start > 0)?;
    scope
        .before_m3()
        .then(|| format!("expected a slice that starts at 0 of the width, got {start}"))
}

fn negative_axis(scope: &Scope<'_>, site: &Site<'_>) -> Option<String> {
    let Kind::Concat { axis, .. } = site.kind() else { return None };
    let literal = match site.op.arg("axis")? {
        mil::Arg::Value(id) => scope.function.constant(*id)?,
        mil::Arg::Literal(literal) | mil::Arg::Attribute(literal) => literal,
        mil::Arg::Values(_) => return None,
    };
    let written = *literal.data()?.to_f64()?.first()?;
    (written < 0.0).then(|| format!("expected axis {axis}, got {written}"))
}

fn identity(scope: &Scope<'_>, site: &Site<'_>) -> Option<String> {
    let refused = site.is(&[Op::Identity]) && scope.profile.path == CallPath::E5rt;
    refused.then(|| "expected no identity by e5rt".to_owned())
}

fn three_or_four(_: &Scope<'_>, site: &Site<'_>) -> Option<String> {
    let Kind::TopK { axis, .. } = site.kind() else { return None };
    let k = site.resolved.results[0].shape[*axis];
    matches!(k, 3 | 4).then(|| format!("expected another k than 3 and 4, got {k}"))
}

fn wide_response(_: &Scope<'_>, site: &Site<'_>) -> Option<String> {
    let Kind::Norm(Norm::LocalResponse { size, .. }) = site.kind() else { return None };
    (*size > 15).then(|| format!("expected a size of at most 15, got {size}"))
}

fn width_joins(scope: &Scope<'_>, site: &Site<'_>) -> Option<String> {
    let last = site.resolved.results[0].rank().checked_sub(1)?;
    let joins = matches!(site.kind(), Kind::Concat { axis, .. } if *axis == last);
    (scope.on(Chip::M3Ultra) && (joins || cut(site, scope).is_some()))
        .then(|| format!("expected {} along another axis than the width", site.op.op))
}

fn tile(scope: &Scope<'_>, site: &Site<'_>) -> Option<String> {
    let Kind::Tile { reps } = site.kind() else { return None };
    scope.in_memory().then(|| format!("tile by {reps:?} lets later requests fail"))
}
