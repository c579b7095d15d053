//! Rules of matrix products, softmax and attention.

use super::context::{Scope, Site};
use super::rule::{Check, Refusal, Rule, Severity};
use crate::confidence::Confidence;
use crate::machine::Generation;
use mil::Kind;

pub(super) static RULES: [Rule; 6] = [
    Rule {
        id: "ANE040",
        title: "products have at most four axes",
        applies: "everywhere",
        does: "Refuses matmul with an operand of rank 5.",
        why: "The compiler says `Some ops are not supported on any of the specified backends`, and \
              `depth > 1 is not supported for MatMult`.",
        instead: "merge the batch axes with reshape",
        evidence: "A.3 (AF:docs/developer/op-quirks.md), B.3",
        conflict: "",
        severity: Severity::Error,
        confidence: Confidence::High,
        refusal: Some(Refusal::InvalidMilProgram),
        check: Check::Operation(matmul_rank),
    },
    Rule {
        id: "ANE041",
        title: "the attention operation has no mask",
        applies: "everywhere",
        does: "Refuses scaled_dot_product_attention with `attn_mask`.",
        why: "The mask is ignored without a word: every token attends to every other.",
        instead: "write softmax(q·kᵀ/√E + mask)·v with matmul, add and softmax",
        evidence: "B.2 (MAD:README, ORI #6, AF:docs/developer/op-quirks.md), I",
        conflict: "",
        severity: Severity::Silent,
        confidence: Confidence::High,
        refusal: None,
        check: Check::Operation(mask),
    },
    Rule {
        id: "ANE042",
        title: "linear takes at most four axes",
        applies: "everywhere",
        does: "Refuses `linear` on a tensor of rank 5.",
        why: "The validator says `ANE cannot support Linear with input rank >= 5`.",
        instead: "merge the leading axes with reshape",
        evidence: "B.3 (GUIDE:17, 22; read from the compiler)",
        conflict: "",
        severity: Severity::Error,
        confidence: Confidence::High,
        refusal: Some(Refusal::CompilationFailure),
        check: Check::Operation(linear_rank),
    },
    Rule {
        id: "ANE043",
        title: "inner extents of products on M1",
        applies: "M1; in memory",
        does: "Warns of matmul whose inner extent is not a multiple of 32.",
        why: "One source reports results of zero.",
        instead: "pad the inner axis of both operands with zeros",
        evidence: "B.2 (IMP)",
        conflict: "AF compiles any inner extent, by e5rt. Hence a warning.",
        severity: Severity::Warning,
        confidence: Confidence::Low,
        refusal: None,
        check: Check::Operation(inner),
    },
    Rule {
        id: "ANE044",
        title: "softmax over a power of two",
        applies: "M3; macOS 15; in memory",
        does: "Warns of softmax over an axis whose extent is not a power of two.",
        why: "One source saw InvalidMILProgram on an M3 Max with macOS 15.",
        instead: "pad the axis with a large negative number to a power of two",
        evidence: "B.2 (ESP)",
        conflict: "MAD runs softmax over 32000 and AF over any extent. Hence a warning.",
        severity: Severity::Warning,
        confidence: Confidence::Low,
        refusal: None,
        check: Check::Operation(softmax),
    },
    Rule {
        id: "ANE045",
        title: "einsum in two forms",
        applies: "everywhere",
        does: "Warns of equations other than nchw,nwhu->nchu and chw,whr->chr, whatever their letters.",
        why: "The operation is defined for these two only; what the compiler makes of others is not \
              published.",
        instead: "write transpose, reshape and matmul",
        evidence: "B.1 (CMT:iOS15/linear.py)",
        conflict: "",
        severity: Severity::Warning,
        confidence: Confidence::Medium,
        refusal: None,
        check: Check::Operation(equation),
    },
];

fn matmul_rank(scope: &Scope<'_>, site: &Site<'_>) -> Option<String> {
    let Kind::Matmul { .. } = site.kind() else { return None };
    let ty = scope.inputs(site).into_iter().find(|ty| ty.rank() > 4)?;
    Some(format!("expected operands of rank <= 4, got {ty}"))
}

fn mask(_: &Scope<'_>, site: &Site<'_>) -> Option<String> {
    let Kind::Attention { .. } = site.kind() else { return None };
    site.op.arg("attn_mask").map(|_| "expected no `attn_mask`, got one that is ignored".to_owned())
}

fn linear_rank(scope: &Scope<'_>, site: &Site<'_>) -> Option<String> {
    let Kind::Linear = site.kind() else { return None };
    let ty = scope.inputs(site)[0];
    (ty.rank() > 4).then(|| format!("expected x of rank <= 4, got {ty}"))
}

fn inner(scope: &Scope<'_>, site: &Site<'_>) -> Option<String> {
    let Kind::Matmul { transpose_x, .. } = site.kind() else { return None };
    let x = &scope.inputs(site)[0].shape;
    let k = x[x.len() - if *transpose_x { 2 } else { 1 }];
    (scope.generation() == Generation::A13 && scope.in_memory() && !k.is_multiple_of(32))
        .then(|| format!("expected an inner extent that is a multiple of 32, got {k}"))
}

fn equation(_: &Scope<'_>, site: &Site<'_>) -> Option<String> {
    let Kind::Einsum(einsum) = site.kind() else { return None };
    let form = (&einsum.x[..], &einsum.y[..], &einsum.result[..]);
    let known = [
        (&[0, 1, 2, 3][..], &[0, 3, 2, 4][..], &[0, 1, 2, 4][..]),
        (&[0, 1, 2], &[2, 1, 3], &[0, 1, 3]),
    ];
    (!known.contains(&form))
        .then(|| "expected one of the two equations that are defined".to_owned())
}

fn softmax(scope: &Scope<'_>, site: &Site<'_>) -> Option<String> {
    let Kind::Softmax { axis } = site.kind() else { return None };
    let n = site.resolved.results[0].shape[*axis];
    (scope.generation() == Generation::A15 && scope.in_memory_15() && !n.is_power_of_two())
        .then(|| format!("expected an extent that is a power of two, got {n}"))
}
