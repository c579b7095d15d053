//! Rules of elementwise operations, reductions and norms.

use super::context::{Scope, Site};
use super::rule::{Check, Refusal, Rule, Severity};
use crate::confidence::Confidence;
use crate::machine::Generation;
use mil::resolve::{Binary, Operand};
use mil::{Kind, Op};

pub(super) static RULES: [Rule; 10] = [
    Rule {
        id: "ANE050",
        title: "sine and cosine from M3 on",
        applies: "M1, M2",
        does: "Refuses sin and cos.",
        why: "These engines have no table for them.",
        instead: "give the values as an input or a constant",
        evidence: "B.1 (GUIDE:appendices/a-op-device-matrix.md, AF:aneforge/_op_catalog.py)",
        conflict: "",
        severity: Severity::Error,
        confidence: Confidence::High,
        refusal: Some(Refusal::CompilationFailure),
        check: Check::Operation(trigonometry),
    },
    Rule {
        id: "ANE051",
        title: "square beside a nonlinearity",
        applies: "everywhere",
        does: "Refuses `square` next to another elementwise function when the width modulo 128 is \
               above 64.",
        why: "The compiler fuses the two and fails at such widths.",
        instead: "write mul(x, x)",
        evidence: "B.2 (AF:aneforge/_compile.py)",
        conflict: "",
        severity: Severity::Error,
        confidence: Confidence::Medium,
        refusal: Some(Refusal::CompilationFailure),
        check: Check::Operation(square),
    },
    Rule {
        id: "ANE052",
        title: "round is wrong for large numbers",
        applies: "M5 (measured); elsewhere unknown",
        does: "Warns of `round`.",
        why: "From 1024 on whole numbers are moved: round(1024) = 1025.",
        instead: "keep |x| < 1024, or round on the CPU",
        evidence: "B.2, E.3 (AF:aneforge/_compile.py, AF#116)",
        conflict: "",
        severity: Severity::Warning,
        confidence: Confidence::Medium,
        refusal: None,
        check: Check::Operation(round),
    },
    Rule {
        id: "ANE053",
        title: "rounding beside a multiplication by a constant",
        applies: "everywhere",
        does: "Refuses floor, ceil or round next to mul with a scalar constant.",
        why: "The front end folds the factor into the rounding and loses it, without a word.",
        instead: "give the factor as an input, or a tensor that is not a scalar",
        evidence: "B.2 (AF:aneforge/_compile.py, AF#112; by e5rt)",
        conflict: "",
        severity: Severity::Silent,
        confidence: Confidence::Medium,
        refusal: None,
        check: Check::Operation(scaled_rounding),
    },
    Rule {
        id: "ANE054",
        title: "a reduction times zero",
        applies: "everywhere; measured on M5",
        does: "Refuses mul of a reduction's result by the constant 0.",
        why: "ANECCompile() fails.",
        instead: "write x − x",
        evidence: "B.2 (AF:aneforge/_compile.py, AF#116)",
        conflict: "",
        severity: Severity::Error,
        confidence: Confidence::Medium,
        refusal: Some(Refusal::CompilationFailure),
        check: Check::Operation(zeroed_reduction),
    },
    Rule {
        id: "ANE055",
        title: "softplus and log-sum-exp collapse",
        applies: "everywhere",
        does: "Warns of softplus and reduce_log_sum_exp.",
        why: "softplus gives 0 above 10.40 = ln 2^15; reduce_log_sum_exp does not subtract the \
              maximum and gives 0 from ln(65504/n) on.",
        instead: "write max(x, 0) + log(1 + exp(−|x|)); subtract the maximum first",
        evidence: "B.2, E.2 (CMT#2687, CMT#2690, AF:aneforge/_compile.py)",
        conflict: "",
        severity: Severity::Warning,
        confidence: Confidence::High,
        refusal: None,
        check: Check::Operation(collapse),
    },
    Rule {
        id: "ANE056",
        title: "layer_norm with wide gain and offset",
        applies: "M1, M2: from 1024; M5: from 10240",
        does: "Warns of layer_norm with gamma or beta (M5: both) over so many elements.",
        why: "ANECCompile() fails on M1 and M2; on M5 the request fails, depending on the values.",
        instead: "normalise without them, then multiply and add along the last axis",
        evidence: "B.2 (AF#149, #159, #162, #201)",
        conflict: "AF saw it with its own decomposition of layer_norm. Hence a warning.",
        severity: Severity::Warning,
        confidence: Confidence::Medium,
        refusal: None,
        check: Check::Operation(wide_norm),
    },
    Rule {
        id: "ANE057",
        title: "broadcasts of three axes on M1",
        applies: "M1; in memory",
        does: "Warns of elementwise operations on tensors of rank 3 that broadcast, other than [1, A, B] \
               by [1, 1, B], and of those that broadcast a square root.",
        why: "One source reports zeros for [1, C, S] by [1, C, 1] and for several batches, wrong numbers for \
              [1, 1, 1], zeros where the small one is bound before the large one, and all rows but the \
              first zero where the small one is a root.",
        instead: "use four axes, [1, C, 1, S] by [1, C, 1, 1]",
        evidence: "B.2 (IMP:ANE_TRAINING.md: Broadcast Rules, The sqrt Bug)",
        conflict: "MAD broadcasts [1, C, 1, 1] with success, with four axes. Hence a warning.",
        severity: Severity::Warning,
        confidence: Confidence::Low,
        refusal: None,
        check: Check::Operation(broadcast),
    },
    Rule {
        id: "ANE058",
        title: "reciprocal square root after a reduction",
        applies: "macOS 15; in memory",
        does: "Warns of rsqrt and sqrt of a reduction's result.",
        why: "Four sources could not compile it.",
        instead: "write pow(x + ε, −0.5)",
        evidence: "B.2 (ESP, RUS, LUE, IMP)",
        conflict: "AF uses rsqrt with an epsilon after reduce_mean, by e5rt; the others most likely \
                   left out the epsilon. Hence a warning.",
        severity: Severity::Warning,
        confidence: Confidence::Low,
        refusal: None,
        check: Check::Operation(root_of_reduction),
    },
    Rule {
        id: "ANE059",
        title: "quotients of square roots on M1",
        applies: "M1; in memory",
        does: "Warns of real_div with the result of sqrt.",
        why: "sqrt(A) / B gives B / sqrt(A); a quotient by a root does not compile or is wrong. A root \
              alone is right.",
        instead: "return the root, and divide in a program of its own",
        evidence: "B.2 (IMP:ANE_TRAINING.md: The sqrt Bug)",
        conflict: "One source, which also had no reductions and no pow, both of which others use. Hence a \
                   warning.",
        severity: Severity::Warning,
        confidence: Confidence::Medium,
        refusal: None,
        check: Check::Operation(divided_root),
    },
];

fn trigonometry(scope: &Scope<'_>, site: &Site<'_>) -> Option<String> {
    (scope.before_m3() && site.is(&[Op::Sin, Op::Cos]))
        .then(|| format!("expected an M3 or later for {}, got {}", site.op.op, scope.profile.chip))
}

fn square(scope: &Scope<'_>, site: &Site<'_>) -> Option<String> {
    if site.op.op != Op::Square {
        return None;
    }
    let width = *site.resolved.results[0].shape.last()?;
    let other = scope
        .before(site)
        .chain(scope.after(site))
        .find(|s| matches!(s.kind(), Kind::Unary(_)) && s.op.op != Op::Square)?;
    (width % 128 > 64)
        .then(|| format!("beside {} expected a width with W % 128 <= 64, got {width}", other.op.op))
}

fn round(_: &Scope<'_>, site: &Site<'_>) -> Option<String> {
    (site.op.op == Op::Round).then(|| "round is right for |x| < 1024 only".to_owned())
}

/// True if `site` multiplies by a constant for which `wanted` holds.
fn times_constant(
    scope: &Scope<'_>,
    site: &Site<'_>,
    wanted: impl Fn(&mil::Literal) -> bool,
) -> bool {
    let constant = || site.resolved.inputs.iter().filter_map(|&x| scope.constant(x));
    *site.kind() == Kind::Binary(Binary::Mul) && constant().any(wanted)
}

fn scaled_rounding(scope: &Scope<'_>, site: &Site<'_>) -> Option<String> {
    if !site.is(&[Op::Floor, Op::Ceil, Op::Round]) {
        return None;
    }
    let scalar = |literal: &mil::Literal| literal.ty.count() == 1;
    let other = scope.before(site).chain(scope.after(site));
    let mul = other.into_iter().find(|s| times_constant(scope, s, scalar))?;
    Some(format!("the scalar factor of `{}` is lost beside {}", mul.op.name, site.op.op))
}

fn zeroed_reduction(scope: &Scope<'_>, site: &Site<'_>) -> Option<String> {
    let zero = |literal: &mil::Literal| {
        let data = literal.data().and_then(|data| data.to_f64());
        data.is_some_and(|data| data.iter().all(|&x| x == 0.0))
    };
    let reduction = scope.before(site).find(|s| matches!(s.kind(), Kind::Reduce { .. }))?;
    times_constant(scope, site, zero)
        .then(|| format!("expected a factor other than 0 for `{}`", reduction.op.name))
}

fn collapse(_: &Scope<'_>, site: &Site<'_>) -> Option<String> {
    match site.op.op {
        Op::Softplus => Some("softplus gives 0 for x > 10.40".to_owned()),
        Op::ReduceLogSumExp => {
            Some("reduce_log_sum_exp over n gives 0 for x > ln(65504/n)".to_owned())
        }
        _ => None,
    }
}

fn wide_norm(scope: &Scope<'_>, site: &Site<'_>) -> Option<String> {
    let Kind::LayerNorm { axes, gamma, beta, .. } = site.kind() else { return None };
    let shape = &site.resolved.results[0].shape;
    let n = axes.iter().fold(1usize, |n, &axis| n.saturating_mul(shape[axis]));
    let limit = if scope.before_m3() && (*gamma || *beta) {
        1024
    } else if scope.profile.chip.is_m5() && *gamma && *beta {
        10_240
    } else {
        return None;
    };
    let chip = scope.profile.chip;
    (n >= limit)
        .then(|| format!("expected gamma and beta over < {limit} elements on {chip}, got {n}"))
}

/// True if an input is the result of a square root.
fn is_root(scope: &Scope<'_>, input: Operand<'_>) -> bool {
    let Operand::Value(id) = input else { return false };
    scope.definition(id).is_some_and(|site| site.op.op == Op::Sqrt)
}

fn broadcast(scope: &Scope<'_>, site: &Site<'_>) -> Option<String> {
    let Kind::Binary(_) = site.kind() else { return None };
    if scope.generation() != Generation::A13 || !scope.in_memory() {
        return None;
    }
    let (inputs, operands) = (scope.inputs(site), &site.resolved.inputs);
    let (x, y) = (inputs[0], inputs[1]);
    if x.rank() != 3 || y.rank() != 3 || x.shape == y.shape {
        return None;
    }
    // The larger one and the one that is repeated.
    let large = usize::from(y.count() > x.count());
    let (many, one) = (inputs[large], inputs[1 - large]);
    let along_rows = many.shape[0] == 1 && one.shape[..] == [1, 1, many.shape[2]];
    let found = if !along_rows {
        format!("expected equal shapes, [1, A, B] by [1, 1, B] or four axes, got {x} and {y}")
    } else if is_root(scope, operands[1 - large]) {
        format!("expected a root in no broadcast, got {one} for {many}")
    } else if bound_before(scope, operands[1 - large], operands[large]) {
        format!("expected the input of type {many} before that of type {one} in alphabetical order")
    } else {
        return None;
    };
    Some(found)
}

/// True if two operands are inputs, and the first one comes first in the order of binding.
fn bound_before(scope: &Scope<'_>, first: Operand<'_>, second: Operand<'_>) -> bool {
    let input = |operand| match operand {
        Operand::Value(id) if id.index() < scope.function.params => {
            Some(scope.function.value(id).name.as_str())
        }
        _ => None,
    };
    input(first).zip(input(second)).is_some_and(|(first, second)| first < second)
}

fn divided_root(scope: &Scope<'_>, site: &Site<'_>) -> Option<String> {
    if site.op.op != Op::RealDiv || scope.generation() != Generation::A13 || !scope.in_memory() {
        return None;
    }
    let [x, y] = site.resolved.inputs[..] else { return None };
    match (is_root(scope, x), is_root(scope, y)) {
        (true, _) => Some("sqrt(A) / B gives B / sqrt(A)".to_owned()),
        (_, true) => Some("a quotient by a root does not compile, or is wrong".to_owned()),
        _ => None,
    }
}

fn root_of_reduction(scope: &Scope<'_>, site: &Site<'_>) -> Option<String> {
    if !scope.in_memory_15() || !site.is(&[Op::Rsqrt, Op::Sqrt]) {
        return None;
    }
    let reduction = scope.before(site).find(|s| matches!(s.kind(), Kind::Reduce { .. }))?;
    Some(format!("{} of `{}` was refused by some compilers", site.op.op, reduction.op.name))
}
