//! Rewrites of elementwise operations, reductions and norms.

use super::form::{At, OpFix, exact, input, reshaped, rounding};
use crate::legal::context::{Scope, Site};
use mil::resolve::{Binary, Unary};
use mil::{Arg, Kind, Literal, Op, Rewrite, Tensor, TensorType};

pub(super) const FIXES: &[OpFix] = &[
    OpFix { rule: "ANE051", bound: exact, write: square },
    OpFix { rule: "ANE053", bound: exact, write: spread_factor },
    OpFix { rule: "ANE054", bound: exact, write: difference },
    OpFix { rule: "ANE055", bound: rounding, write: stable },
    OpFix { rule: "ANE056", bound: rounding, write: affine_apart },
    OpFix { rule: "ANE057", bound: exact, write: four_axes },
    OpFix { rule: "ANE058", bound: rounding, write: power },
];

fn square<'b>(w: &mut Rewrite<'b, '_>, at: At<'_, '_>) -> Option<Vec<Tensor<'b>>> {
    let x = input(w, &at, 0)?;
    Some(vec![x * x])
}

/// Multiplications by a scalar constant next to a rounding.
pub(super) fn scalar_factors(scope: &Scope<'_>, site: &Site<'_>) -> Vec<usize> {
    let scaled = |s: &&Site<'_>| {
        *s.kind() == Kind::Binary(Binary::Mul)
            && s.resolved.inputs.iter().any(|&x| scope.constant(x).is_some_and(is_scalar))
    };
    scope.before(site).chain(scope.after(site)).filter(scaled).map(|s| s.index).collect()
}

fn is_scalar(literal: &Literal) -> bool {
    literal.ty.count() == 1
}

/// The factor along the shortest axis that has more than one element.
fn spread_factor<'b>(w: &mut Rewrite<'b, '_>, at: At<'_, '_>) -> Option<Vec<Tensor<'b>>> {
    let result = &at.site.resolved.results[0];
    let inputs = &at.site.resolved.inputs;
    let factor = inputs.iter().position(|&x| at.scope.constant(x).is_some_and(is_scalar))?;
    let literal = at.scope.constant(inputs[factor])?;
    let value = *literal.data()?.to_f64()?.first()?;
    let axis =
        (0..result.rank()).filter(|&i| result.shape[i] > 1).min_by_key(|&i| result.shape[i])?;
    let mut shape = vec![1; result.rank()];
    shape[axis] = result.shape[axis];
    let ty = TensorType::new(literal.ty.dtype, shape);
    let values = vec![value; ty.count()];
    let factor_tensor = w.builder().constant(Literal::floats(ty, &values));
    let x = input(w, &at, 1 - factor)?;
    Some(vec![x * factor_tensor])
}

/// x − x for a reduction times zero.
fn difference<'b>(w: &mut Rewrite<'b, '_>, at: At<'_, '_>) -> Option<Vec<Tensor<'b>>> {
    let reduced = (0..2).find(|&i| at.scope.constant(at.site.resolved.inputs[i]).is_none())?;
    let x = input(w, &at, reduced)?;
    (x.shape() == at.site.resolved.results[0].shape).then(|| vec![x.binary(Op::Sub, x)])
}

fn stable<'b>(w: &mut Rewrite<'b, '_>, at: At<'_, '_>) -> Option<Vec<Tensor<'b>>> {
    let x = input(w, &at, 0)?;
    Some(vec![match at.site.kind() {
        Kind::Unary(_) => x.unary(Op::Relu) + ((x.unary(Op::Abs) * -1.0).exp() + 1.0).log(0.0),
        Kind::Reduce { axes, .. } => {
            let largest = x.reduce(Op::ReduceMax, axes);
            let sum = (x - largest).exp().reduce_sum(axes).log(0.0) + largest;
            sum.reshape(&at.site.resolved.results[0].shape)
        }
        _ => return None,
    }])
}

/// The norm alone, then its gain and offset along the axes that it goes over.
fn affine_apart<'b>(w: &mut Rewrite<'b, '_>, at: At<'_, '_>) -> Option<Vec<Tensor<'b>>> {
    let Kind::LayerNorm { axes, gamma, beta, .. } = at.site.kind() else { return None };
    let shape = &at.site.resolved.results[0].shape;
    let mut args = w.args(at.site.op);
    args.retain(|(key, _)| !["gamma", "beta"].contains(key));
    let mut y = w.builder().op(Op::LayerNorm, args)[0];
    let kept: Vec<usize> =
        (0..shape.len()).map(|i| if axes.contains(&i) { shape[i] } else { 1 }).collect();
    if *gamma {
        y = y * reshaped(w, &at, 1, &kept)?;
    }
    if *beta {
        y = y + reshaped(w, &at, 1 + usize::from(*gamma), &kept)?;
    }
    Some(vec![y])
}

/// An elementwise operation of three axes with a fourth between them.
fn four_axes<'b>(w: &mut Rewrite<'b, '_>, at: At<'_, '_>) -> Option<Vec<Tensor<'b>>> {
    let four = |i: usize| {
        let shape = &at.scope.inputs(at.site)[i].shape;
        reshaped(w, &at, i, &[shape[0], shape[1], 1, shape[2]])
    };
    let y = four(0)?.binary(at.site.op.op, four(1)?);
    Some(vec![y.reshape(&at.site.resolved.results[0].shape)])
}

/// Roots as powers.
fn power<'b>(w: &mut Rewrite<'b, '_>, at: At<'_, '_>) -> Option<Vec<Tensor<'b>>> {
    let x = input(w, &at, 0)?;
    Some(vec![match at.site.kind() {
        Kind::Unary(Unary::Sqrt) => x.pow(0.5),
        Kind::Unary(Unary::Rsqrt { epsilon: 0.0 }) => x.pow(-0.5),
        Kind::Unary(Unary::Rsqrt { .. }) => {
            let epsilon = match at.site.op.arg("epsilon")? {
                Arg::Value(id) => w.value(*id),
                Arg::Literal(literal) | Arg::Attribute(literal) => {
                    w.builder().constant(literal.clone())
                }
                Arg::Values(_) => return None,
            };
            (x + epsilon).pow(-0.5)
        }
        _ => return None,
    }])
}
