//! Rules of convolutions.

use super::context::{Scope, Site};
use super::rule::{Check, Refusal, Rule, Severity};
use crate::confidence::Confidence;
use crate::machine::MAX_CONV_CHANNELS;
use mil::resolve::ConvGeometry;
use mil::{Kind, TensorType};

pub(super) static RULES: [Rule; 7] = [
    Rule {
        id: "ANE030",
        title: "convolutions have four axes",
        applies: "everywhere",
        does: "Refuses convolutions of rank 3 (one spatial axis).",
        why: "The compiler needs rank 4.",
        instead: "expand x and the weight to [N, C, 1, W] and [O, C, 1, kW]",
        evidence: "A.3 (AF:docs/mil-primer.md, GUIDE:22-compiler.md)",
        conflict: "",
        severity: Severity::Error,
        confidence: Confidence::High,
        refusal: Some(Refusal::InvalidMilProgram),
        check: Check::Operation(rank),
    },
    Rule {
        id: "ANE031",
        title: "kernels have a largest width",
        applies: "M1: 13; later: 15",
        does: "Refuses convolutions whose kernel is wider; its height is free.",
        why: "The validator says `Invalid conv kernel … It should be in […]`.",
        instead: "cut the kernel along the width and add the partial results, or turn the axes",
        evidence: "B.2 (AF:aneforge/_capabilities.py, AF:docs/developer/op-quirks.md), B.3",
        conflict: "M2 and M3 were not reported and are given the limit of M4 and M5.",
        severity: Severity::Error,
        confidence: Confidence::High,
        refusal: Some(Refusal::CompilationFailure),
        check: Check::Operation(width),
    },
    Rule {
        id: "ANE032",
        title: "weights given at run time need batch 1",
        applies: "everywhere",
        does: "Refuses convolutions of several batches whose weight is not a constant.",
        why: "It crashes the compiler service.",
        instead: "use matmul, or put the batches side by side along the width",
        evidence: "B.2 (GUIDE:19-pitfalls-and-limits.md, IMP, AF `dynamic_conv`), I.3",
        conflict: "",
        severity: Severity::Error,
        confidence: Confidence::High,
        refusal: Some(Refusal::CompilationFailure),
        check: Check::Operation(batch),
    },
    Rule {
        id: "ANE033",
        title: "weights given at run time need one group",
        applies: "everywhere",
        does: "Refuses grouped and depthwise convolutions whose weight is not a constant.",
        why: "The compiler reports InvalidMILProgram.",
        instead: "use one convolution per group, or a constant weight",
        evidence: "B.2 (GUIDE:19-pitfalls-and-limits.md, IMP)",
        conflict: "",
        severity: Severity::Error,
        confidence: Confidence::High,
        refusal: Some(Refusal::InvalidMilProgram),
        check: Check::Operation(groups),
    },
    Rule {
        id: "ANE034",
        title: "biases of convolutions in memory",
        applies: "in memory",
        does: "Warns of the argument `bias` of conv.",
        why: "One source saw it refused, and others add the bias apart.",
        instead: "add a bias of shape [1, C, 1, 1] to the result",
        evidence: "A.2 (ORI:README; AF emits a separate add)",
        conflict: "Constants of shape [C] are in the programs that RUS (ncdrone/ane) compiles in memory, \
                   and Apple's own tools write and compile them for h16g to h19 (751K). Hence a warning.",
        severity: Severity::Warning,
        confidence: Confidence::Low,
        refusal: None,
        check: Check::Operation(bias),
    },
    Rule {
        id: "ANE035",
        title: "convolutions have a limit of input channels",
        applies: "everywhere",
        does: "Refuses convolutions with more than 16384 input channels.",
        why: "32000 input channels are rejected, while 32000 output channels are fine. The limit \
              itself is not published; 16384 is the longest axis that every chip accepts.",
        instead: "use matmul on [1, V, S], or cut the channels and add the partial results",
        evidence: "B.2 (MAD:training/ane_classifier.h, ANEGPT:README)",
        conflict: "GUIDE gives 65536 channels as the limit. The stricter reading is in force; allow \
                   ANE035 for GUIDE's.",
        severity: Severity::Error,
        confidence: Confidence::Medium,
        refusal: Some(Refusal::CompilationFailure),
        check: Check::Operation(channels),
    },
    Rule {
        id: "ANE036",
        title: "biases of convolutions are constants",
        applies: "everywhere",
        does: "Refuses convolutions whose bias is not a constant.",
        why: "The language defines it as one; no program is known that gives it at run time.",
        instead: "add the bias, as [1, C, 1, 1], to the result",
        evidence: "A.2 (CMT:coremltools/converters/mil/mil/ops/defs/iOS15/conv.py)",
        conflict: "",
        severity: Severity::Error,
        confidence: Confidence::Medium,
        refusal: Some(Refusal::InvalidMilProgram),
        check: Check::Operation(runtime_bias),
    },
];

/// Geometry, x and weight of a convolution.
struct Conv<'p> {
    geometry: &'p ConvGeometry,
    x: &'p TensorType,
    weight: &'p TensorType,
    fixed: bool,
}

fn conv<'s, 'p: 's>(scope: &'s Scope<'p>, site: &'s Site<'p>) -> Option<Conv<'s>> {
    let Kind::Conv(geometry) = site.kind() else { return None };
    Some(view(scope, site, geometry))
}

fn view<'s, 'p: 's>(
    scope: &'s Scope<'p>,
    site: &'s Site<'p>,
    geometry: &'s ConvGeometry,
) -> Conv<'s> {
    let inputs = scope.inputs(site);
    let fixed = scope.is_constant(site.resolved.inputs[1]);
    Conv { geometry, x: inputs[0], weight: inputs[1], fixed }
}

fn any_conv<'s, 'p: 's>(scope: &'s Scope<'p>, site: &'s Site<'p>) -> Option<Conv<'s>> {
    match site.kind() {
        Kind::Conv(geometry) | Kind::ConvTranspose(geometry) => Some(view(scope, site, geometry)),
        _ => None,
    }
}

fn rank(scope: &Scope<'_>, site: &Site<'_>) -> Option<String> {
    let x = any_conv(scope, site)?.x;
    (x.rank() != 4).then(|| format!("expected x of rank 4, got {x}"))
}

fn width(scope: &Scope<'_>, site: &Site<'_>) -> Option<String> {
    let weight = any_conv(scope, site)?.weight;
    let (got, limit) = (*weight.shape.last()?, scope.generation().max_kernel_width());
    let chip = scope.profile.chip;
    (got > limit).then(|| {
        format!("expected a kernel width in [1, {limit}] on {chip}, got {got} in {weight}")
    })
}

fn batch(scope: &Scope<'_>, site: &Site<'_>) -> Option<String> {
    let conv = conv(scope, site)?;
    let got = conv.x.shape[0];
    (!conv.fixed && got != 1)
        .then(|| format!("expected batch 1 with a weight given at run time, got {got}"))
}

fn groups(scope: &Scope<'_>, site: &Site<'_>) -> Option<String> {
    let conv = conv(scope, site)?;
    let got = conv.geometry.groups;
    (!conv.fixed && got != 1)
        .then(|| format!("expected groups 1 with a weight given at run time, got {got}"))
}

fn bias(scope: &Scope<'_>, site: &Site<'_>) -> Option<String> {
    conv(scope, site)?;
    let given = scope.in_memory().then(|| site.op.arg("bias")).flatten();
    given.map(|_| "expected no argument `bias`, got one".to_owned())
}

fn runtime_bias(scope: &Scope<'_>, site: &Site<'_>) -> Option<String> {
    any_conv(scope, site)?;
    let bias = *site.resolved.inputs.get(2)?;
    let ty = scope.operand_ty(bias);
    (!scope.is_constant(bias)).then(|| format!("expected a constant bias, got a {ty} of run time"))
}

fn channels(scope: &Scope<'_>, site: &Site<'_>) -> Option<String> {
    let got = conv(scope, site)?.x.shape[1];
    (got > MAX_CONV_CHANNELS)
        .then(|| format!("expected input channels <= {MAX_CONV_CHANNELS}, got {got}"))
}
