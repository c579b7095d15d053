//! Gradients of operations that move elements, and of those that are formulas.

use super::{Gradients, Rule, grad};
use crate::builder::{Builder, Tensor};
use crate::formula::{smooth, strided};
use crate::ir::{Arg, ValueId};
use crate::op::Op;
use crate::passes::slice;
use crate::resolve::Kind;
use crate::types::{DType, Data, Literal, TensorType};

impl<'b> Rule<'b> {
    pub(super) fn every_nth(
        &self,
        x: Tensor<'b>,
        axis: usize,
        first: usize,
        step: usize,
    ) -> Tensor<'b> {
        let shape = x.shape();
        let at = |value: usize, other: usize| -> Vec<usize> {
            (0..shape.len()).map(|i| if i == axis { value } else { other }).collect()
        };
        strided(x, &at(first, 0), &shape, &at(step, 1))
    }

    /// The gradient of the formula that the operation is: its values are computed again.
    pub(super) fn by_formula(&self, kind: &Kind, y: Tensor<'b>, dy: Tensor<'b>) -> Gradients<'b> {
        let part = Builder::new("formula");
        let x: Vec<_> = (self.x.iter().enumerate())
            .map(|(i, x)| part.input(&format!("x{i}"), x.ty()))
            .collect();
        let result = smooth(&part, kind, &x, &y.ty()).ok_or("it has no formula")?;
        let joint = part.finish(&[result]).map_err(|_| "its formula does not fit")?;
        let joint = grad(&joint).map_err(|_| "its formula has no gradient")?;
        let f = &joint.function;
        let wanted =
            |i: usize| self.wanted[i].then(|| joint.cotangent(ValueId(i as u32))).flatten();
        let cotangents: Vec<Option<ValueId>> = (0..x.len()).map(wanted).collect();
        let outputs: Vec<ValueId> = cotangents.iter().copied().flatten().collect();
        let inputs: Vec<ValueId> = f.inputs().collect();
        let kernel = slice(f, "formula", &inputs, &outputs).map_err(|_| "its formula is open")?;
        let given: Vec<Tensor<'b>> = self.x.iter().copied().chain([dy]).collect();
        let mut results = self.b.write(&kernel, &given).into_iter();
        Ok(cotangents.iter().map(|id| id.and_then(|_| results.next())).collect())
    }

    /// Each cotangent to where its value was: found again by its index.
    pub(super) fn topk(&self, axis: usize, ascending: bool, dy: Tensor<'b>) -> Tensor<'b> {
        let x = self.x[0];
        let (shape, k) = (x.shape(), dy.shape()[axis]);
        let attribute = |literal| Arg::Value(self.b.constant(literal).id());
        let args = vec![
            ("x", Arg::Value(x.id())),
            ("k", attribute(Literal::int(k as i64))),
            ("axis", attribute(Literal::int(axis as i64))),
            ("ascending", attribute(Literal::bool(ascending))),
        ];
        let places = self.b.op(Op::TopK, args)[1];
        // Axes: those of x, with the k places after the one that is ordered.
        let spread = |t: Tensor<'b>| {
            let mut shape = t.shape();
            shape.insert(axis, 1);
            t.reshape(&shape)
        };
        let mut line = vec![1; shape.len() + 1];
        line[axis] = shape[axis];
        let ty = TensorType::new(DType::Int32, line);
        let numbers = Data::Int((0..shape[axis] as i64).collect());
        let here = self.b.constant(Literal::inline(ty, numbers));
        let hit = spread(places).binary(Op::Equal, here);
        let parts = self.b.select(hit, spread(dy), self.scalar(dy, 0.0));
        parts.reduce_sum(&[axis + 1]).reshape(&shape)
    }
}

/// Puts `dy` back where a slice took it from, zeros elsewhere.
pub(super) fn unslice<'b>(
    dy: Tensor<'b>,
    begin: &[usize],
    stride: &[i64],
    shape: &[usize],
) -> Tensor<'b> {
    let mut dy = dy;
    let mut first = begin.to_vec();
    for (axis, &stride) in stride.iter().enumerate() {
        let step = stride.unsigned_abs() as usize;
        if stride < 0 {
            dy = backwards(dy, axis);
            first[axis] -= (dy.shape()[axis] - 1) * step;
        }
        if step > 1 {
            dy = spread(dy, axis, step);
        }
    }
    let size = dy.shape();
    let pads: Vec<_> =
        (0..shape.len()).map(|i| (first[i], shape[i] - first[i] - size[i])).collect();
    if pads.iter().all(|&p| p == (0, 0)) { dy } else { dy.pad(&pads) }
}

/// The other way round along `axis`.
fn backwards(x: Tensor<'_>, axis: usize) -> Tensor<'_> {
    let axes = x.builder().constant(Literal::ints(&[axis as i64]));
    let args = vec![("x", Arg::Value(x.id())), ("axes", Arg::Value(axes.id()))];
    x.builder().op(Op::Reverse, args)[0]
}

/// Puts step − 1 zeros between neighbours along `axis`.
fn spread(x: Tensor<'_>, axis: usize, step: usize) -> Tensor<'_> {
    let shape = x.shape();
    let mut split = shape.clone();
    split.insert(axis + 1, 1);
    let mut pads = vec![(0, 0); split.len()];
    pads[axis + 1] = (0, step - 1);
    let mut merged = shape.clone();
    merged[axis] *= step;
    let padded = x.reshape(&split).pad(&pads).reshape(&merged);
    padded.narrow(axis, 0, (shape[axis] - 1) * step + 1)
}

/// Sums the copies that `tile` made.
pub(super) fn untile<'b>(dy: Tensor<'b>, shape: &[usize], reps: &[usize]) -> Tensor<'b> {
    let mut split = vec![];
    let mut axes = vec![];
    for (&n, &r) in shape.iter().zip(reps) {
        if r > 1 {
            axes.push(split.len());
            split.push(r);
        }
        if r == 1 || n > 1 {
            split.push(n);
        }
    }
    if axes.is_empty() {
        return dy;
    }
    dy.reshape(&split).reduce_sum(&axes).reshape(shape)
}
