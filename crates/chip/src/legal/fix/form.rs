//! The form of a rewrite, and what writers share.

use crate::legal::check::{rule, violations};
use crate::legal::context::{Scope, Site};
use crate::legal::place::Place;
use crate::legal::rule::{Rule, Severity};
use crate::legal::violation::Violation;
use crate::machine::Profile;
use mil::resolve::{ConvGeometry, Operand};
use mil::{Arg, Builder, Literal, Op, Program, Rewrite, Tensor};
use std::collections::BTreeSet;

/// Unit roundoff of f64, in which programs are compared.
pub(super) const UNIT: f64 = f64::EPSILON / 2.0;

/// A rewrite that was applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The rule that was broken.
    pub rule: &'static Rule,
    /// Name of the function.
    pub function: String,
    /// Where it was broken.
    pub place: Place,
    /// The change, in words.
    pub rewrite: String,
    /// How much results may differ, relative to the largest result or 1, for operands of at most 1
    /// in absolute value: 0 where no sum is taken in another order and no constant is rounded.
    pub bound: f64,
}

/// A program after [`fix`](fn@super::fix).
#[derive(Clone, Debug)]
pub struct Fixed {
    /// The program.
    pub program: Program,
    /// The program as it was, with the arguments that the language has a value for: what is
    /// compared with where the original cannot be run.
    pub completed: Program,
    /// The rewrites, in order.
    pub applied: Vec<Applied>,
}

impl Applied {
    /// The rewrite that a breach asks for, which computes nothing in another way.
    pub fn exactly(violation: &Violation) -> Applied {
        Applied::of(violation, 0.0)
    }

    pub(super) fn of(violation: &Violation, bound: f64) -> Applied {
        Applied {
            rule: violation.rule,
            function: violation.function.clone(),
            place: violation.place.clone(),
            rewrite: violation.rewrite.clone(),
            bound,
        }
    }
}

/// True if a rewrite breaks no rule, beyond warnings, that was kept before.
pub(super) fn no_worse(after: &[Violation], before: &[Violation]) -> bool {
    let known = |v: &&Violation| before.iter().any(|w| w.rule == v.rule);
    after.iter().filter(|v| v.rule.severity != Severity::Warning).all(|v| known(&v))
}

/// Breaches of a function that are not allowed.
pub(super) fn found(
    program: &Program,
    i: usize,
    profile: &Profile,
    allowed: &[&str],
) -> Vec<Violation> {
    let name = &program.functions[i].name;
    let mut found = violations(program, profile);
    found.retain(|v| {
        v.function == *name && !allowed.iter().any(|id| v.rule.id.eq_ignore_ascii_case(id))
    });
    // What is refused comes before what is only warned of.
    found.sort_by_key(|v| v.rule.severity == Severity::Warning);
    found
}

/// Breaches that could not be mended, so that they are not tried again.
pub(super) type GivenUp = BTreeSet<(&'static str, String)>;

/// The context in which one operation is rewritten.
pub(super) struct At<'a, 'p> {
    pub(super) scope: &'a Scope<'p>,
    pub(super) site: &'a Site<'p>,
}

/// Writes something else for an operation: its results, or `None` where it cannot.
pub(super) type Write = for<'b> fn(&mut Rewrite<'b, '_>, At<'_, '_>) -> Option<Vec<Tensor<'b>>>;

/// A rewrite of the operations that break a rule.
pub(super) struct OpFix {
    pub(super) rule: &'static str,
    /// How much results may differ ([`Applied::bound`]).
    pub(super) bound: fn(At<'_, '_>) -> f64,
    pub(super) write: Write,
}

/// Nothing is computed in another way.
pub(super) fn exact(_: At<'_, '_>) -> f64 {
    0.0
}

/// A few roundings of f64.
pub(super) fn rounding(_: At<'_, '_>) -> f64 {
    64.0 * UNIT
}

/// An input of an operation, as it is in the new function.
pub(super) fn input<'b>(w: &Rewrite<'b, '_>, at: &At<'_, '_>, i: usize) -> Option<Tensor<'b>> {
    Some(match *at.site.resolved.inputs.get(i)? {
        Operand::Value(id) => w.value(id),
        Operand::Literal(literal) => w.builder().constant(literal.clone()),
    })
}

/// An input in another shape of as many elements; a constant stays one.
pub(super) fn reshaped<'b>(
    w: &Rewrite<'b, '_>,
    at: &At<'_, '_>,
    i: usize,
    shape: &[usize],
) -> Option<Tensor<'b>> {
    let operand = *at.site.resolved.inputs.get(i)?;
    Some(match at.scope.constant(operand) {
        Some(literal) => {
            let ty = mil::TensorType::new(literal.ty.dtype, shape);
            w.builder().constant(Literal { ty, payload: literal.payload.clone() })
        }
        None => input(w, at, i)?.reshape(shape),
    })
}

/// `n` elements of an input from `start` along an axis; of a constant in the text, a constant.
pub(super) fn part<'b>(
    w: &Rewrite<'b, '_>,
    at: &At<'_, '_>,
    i: usize,
    axis: usize,
    start: usize,
    n: usize,
) -> Option<Tensor<'b>> {
    let operand = *at.site.resolved.inputs.get(i)?;
    let literal = at.scope.constant(operand).filter(|literal| literal.ty.dtype.is_float());
    let Some((literal, data)) = literal.and_then(|l| Some((l, l.data()?.to_f64()?))) else {
        return Some(input(w, at, i)?.narrow(axis, start, n));
    };
    let mut ty = literal.ty.clone();
    let run: usize = ty.shape[axis + 1..].iter().product();
    let block = ty.shape[axis] * run;
    ty.shape[axis] = n;
    let rows = data.chunks_exact(block).flat_map(|b| &b[start * run..(start + n) * run]);
    let values: Vec<f64> = rows.copied().collect();
    Some(w.builder().constant(Literal::floats(ty, &values)))
}

/// A convolution with the geometry given, its weight and x of rank 4, without a bias.
pub(super) fn convolution<'b>(
    b: &'b Builder,
    x: Tensor<'b>,
    weight: Tensor<'b>,
    geometry: &ConvGeometry,
) -> Tensor<'b> {
    let ints = |v: &[usize]| {
        let v: Vec<i64> = v.iter().map(|&n| n as i64).collect();
        Arg::Value(b.constant(Literal::ints(&v)).id())
    };
    let pads: Vec<usize> = geometry.pads.iter().flat_map(|&(a, b)| [a, b]).collect();
    let groups = b.constant(Literal::int(geometry.groups as i64));
    let kind = b.constant(Literal::string("custom"));
    b.op(
        Op::Conv,
        vec![
            ("x", Arg::Value(x.id())),
            ("weight", Arg::Value(weight.id())),
            ("strides", ints(&geometry.strides)),
            ("pad_type", Arg::Value(kind.id())),
            ("pad", ints(&pads)),
            ("dilations", ints(&geometry.dilations)),
            ("groups", Arg::Value(groups.id())),
        ],
    )[0]
}

/// How much a sum of `n` products of operands of at most 1 changes with the order of its terms.
pub(super) fn reordered(n: usize) -> f64 {
    let n = n as f64;
    2.0 * n * n * UNIT
}

/// The rule called `id`, which exists.
pub(super) fn known(id: &'static str) -> &'static Rule {
    rule(id).expect("rewrites are for rules that exist")
}
