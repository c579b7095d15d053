//! Rewrites of convolutions, matrix products, softmax and attention.

use super::form::{At, OpFix, UNIT, convolution, exact, input, part, reordered, reshaped};
use super::layout::padded;
use crate::machine::MAX_CONV_CHANNELS;
use mil::resolve::ConvGeometry;
use mil::{Arg, Kind, Op, Rewrite, Tensor};

pub(super) const FIXES: &[OpFix] = &[
    OpFix { rule: "ANE030", bound: terms, write: second_axis },
    OpFix { rule: "ANE031", bound: terms, write: narrow_kernels },
    OpFix { rule: "ANE032", bound: terms, write: one_batch },
    OpFix { rule: "ANE033", bound: terms, write: one_group },
    OpFix { rule: "ANE034", bound: terms, write: bias_apart },
    OpFix { rule: "ANE036", bound: terms, write: bias_apart },
    OpFix { rule: "ANE035", bound: terms, write: fewer_channels },
    OpFix { rule: "ANE040", bound: exact, write: merged_batches },
    OpFix { rule: "ANE041", bound: scale, write: attention },
    OpFix { rule: "ANE042", bound: exact, write: merged_rows },
    OpFix { rule: "ANE043", bound: exact, write: padded_inner },
    OpFix { rule: "ANE044", bound: exact, write: padded_softmax },
];

/// Terms of one result of a convolution, in another order.
fn terms(at: At<'_, '_>) -> f64 {
    let weight = at.scope.inputs(at.site)[1];
    reordered(weight.shape[1..].iter().product::<usize>() + 1)
}

/// The effect on attention of rounding 1/√E to the element type, for operands of at most 1: scores
/// are at most √E and change by that times the relative error δ; a softmax changes by at most twice
/// as much in total.
fn scale(at: At<'_, '_>) -> f64 {
    let query = at.scope.inputs(at.site)[0];
    let width = *query.shape.last().unwrap_or(&1) as f64;
    let factor = 1.0 / width.sqrt();
    let rounded = match query.dtype {
        mil::DType::Fp16 => half::f16::from_f64(factor).to_f64(),
        _ => f64::from(factor as f32),
    };
    2.0 * width.sqrt() * ((rounded - factor) / factor).abs()
        + reordered(width as usize)
        + 64.0 * UNIT
}

fn geometry<'a>(at: &'a At<'_, '_>) -> Option<&'a ConvGeometry> {
    match at.site.kind() {
        Kind::Conv(geometry) => Some(geometry),
        _ => None,
    }
}

/// A bias, if the convolution has one, is added to a result of rank 4.
fn with_bias<'b>(w: &Rewrite<'b, '_>, at: &At<'_, '_>, y: Tensor<'b>) -> Option<Tensor<'b>> {
    if at.site.resolved.inputs.len() < 3 {
        return Some(y);
    }
    let channels = y.shape()[1];
    Some(y + reshaped(w, at, 2, &[1, channels, 1, 1])?)
}

/// Convolutions of one spatial axis with a second of extent 1.
fn second_axis<'b>(w: &mut Rewrite<'b, '_>, at: At<'_, '_>) -> Option<Vec<Tensor<'b>>> {
    let g = geometry(&at)?;
    let four = |i: usize| {
        let shape = &at.scope.inputs(at.site)[i].shape;
        reshaped(w, &at, i, &[shape[0], shape[1], 1, shape[2]])
    };
    let two = ConvGeometry {
        strides: vec![1, g.strides[0]],
        pads: vec![(0, 0), g.pads[0]],
        dilations: vec![1, g.dilations[0]],
        groups: g.groups,
    };
    let y = convolution(w.builder(), four(0)?, four(1)?, &two);
    let y = with_bias(w, &at, y)?;
    Some(vec![y.reshape(&at.site.resolved.results[0].shape)])
}

fn bias_apart<'b>(w: &mut Rewrite<'b, '_>, at: At<'_, '_>) -> Option<Vec<Tensor<'b>>> {
    geometry(&at)?;
    let rank = at.site.resolved.results[0].rank();
    let mut args = w.args(at.site.op);
    args.retain(|(key, _)| *key != "bias");
    let y = w.builder().op(Op::Conv, args)[0];
    let mut shape = vec![1; rank];
    shape[1] = y.shape()[1];
    Some(vec![y + reshaped(w, &at, 2, &shape)?])
}

/// True if a part of the weight stays a constant, or may be given at run time.
fn may_cut_weight(at: &At<'_, '_>) -> bool {
    let inline = at.scope.constant(at.site.resolved.inputs[1]).is_some_and(|l| l.data().is_some());
    let inputs = at.scope.inputs(at.site);
    inline || inputs[0].shape[0] == 1
}

/// Kernels of the widest allowed width over shifted parts of x, added up.
fn narrow_kernels<'b>(w: &mut Rewrite<'b, '_>, at: At<'_, '_>) -> Option<Vec<Tensor<'b>>> {
    let g = geometry(&at)?;
    let widest = at.scope.generation().max_kernel_width();
    let shape = at.scope.inputs(at.site)[1].shape.clone();
    if shape.len() != 4 || g.groups != 1 || !may_cut_weight(&at) {
        return None;
    }
    let (pads, step, reach) = (g.pads[1], g.strides[1], g.dilations[1]);
    let mut x = input(w, &at, 0)?;
    if pads != (0, 0) {
        x = x.pad(&[(0, 0), (0, 0), (0, 0), pads]);
    }
    let inner = ConvGeometry { pads: vec![g.pads[0], (0, 0)], ..g.clone() };
    let columns = *at.site.resolved.results[0].shape.last()?;
    let mut sum: Option<Tensor<'b>> = None;
    for start in (0..shape[3]).step_by(widest) {
        let n = widest.min(shape[3] - start);
        let needed = (columns - 1) * step + (n - 1) * reach + 1;
        let shifted = x.narrow(3, start * reach, needed);
        let y = convolution(w.builder(), shifted, part(w, &at, 1, 3, start, n)?, &inner);
        sum = Some(sum.map_or(y, |sum| sum + y));
    }
    Some(vec![with_bias(w, &at, sum?)?])
}

/// Batches side by side (1×1 kernels), or one convolution for each.
fn one_batch<'b>(w: &mut Rewrite<'b, '_>, at: At<'_, '_>) -> Option<Vec<Tensor<'b>>> {
    let g = geometry(&at)?;
    let inputs = at.scope.inputs(at.site);
    let (shape, kernel) = (&inputs[0].shape, &inputs[1].shape);
    if shape.len() != 4 {
        return None;
    }
    let (x, weight) = (input(w, &at, 0)?, input(w, &at, 1)?);
    let b = w.builder();
    let (n, c, h, width) = (shape[0], shape[1], shape[2], shape[3]);
    let plain = kernel[2..] == [1, 1]
        && g.strides.iter().all(|&s| s == 1)
        && g.pads.iter().all(|&p| p == (0, 0));
    let y = if plain && n * h <= at.scope.generation().max_extent() {
        let rows = x.transpose(&[1, 0, 2, 3]).reshape(&[1, c, n * h, width]);
        let y = convolution(b, rows, weight, g);
        y.reshape(&[kernel[0], n, h, width]).transpose(&[1, 0, 2, 3])
    } else {
        let parts: Vec<Tensor<'b>> =
            (0..n).map(|i| convolution(b, x.narrow(0, i, 1), weight, g)).collect();
        b.concat(0, &parts)
    };
    Some(vec![with_bias(w, &at, y)?])
}

/// One convolution per group.
fn one_group<'b>(w: &mut Rewrite<'b, '_>, at: At<'_, '_>) -> Option<Vec<Tensor<'b>>> {
    let g = geometry(&at)?;
    let inputs = at.scope.inputs(at.site);
    let (c, o) = (inputs[0].shape[1] / g.groups, inputs[1].shape[0] / g.groups);
    if inputs[0].rank() != 4 {
        return None;
    }
    let (x, weight) = (input(w, &at, 0)?, input(w, &at, 1)?);
    let single = ConvGeometry { groups: 1, ..g.clone() };
    let parts: Vec<Tensor<'b>> = (0..g.groups)
        .map(|i| {
            let (x, weight) = (x.narrow(1, i * c, c), weight.narrow(0, i * o, o));
            convolution(w.builder(), x, weight, &single)
        })
        .collect();
    Some(vec![with_bias(w, &at, w.builder().concat(1, &parts))?])
}

/// Convolutions over parts of the channels, added up.
fn fewer_channels<'b>(w: &mut Rewrite<'b, '_>, at: At<'_, '_>) -> Option<Vec<Tensor<'b>>> {
    let g = geometry(&at)?;
    let channels = at.scope.inputs(at.site)[0].shape[1];
    if g.groups != 1 || !may_cut_weight(&at) {
        return None;
    }
    let x = input(w, &at, 0)?;
    let mut sum: Option<Tensor<'b>> = None;
    for start in (0..channels).step_by(MAX_CONV_CHANNELS) {
        let n = MAX_CONV_CHANNELS.min(channels - start);
        let y = convolution(w.builder(), x.narrow(1, start, n), part(w, &at, 1, 1, start, n)?, g);
        sum = Some(sum.map_or(y, |sum| sum + y));
    }
    Some(vec![with_bias(w, &at, sum?)?])
}

/// The two outermost batch axes of a product of five as one.
fn merged_batches<'b>(w: &mut Rewrite<'b, '_>, at: At<'_, '_>) -> Option<Vec<Tensor<'b>>> {
    let inputs = at.scope.inputs(at.site);
    let (a, c) = (&inputs[0].shape, &inputs[1].shape);
    let alone =
        |shape: &[usize]| shape.len() < 4 || shape[..shape.len() - 3].iter().all(|&n| n == 1);
    let fits = a.len() <= 5
        && c.len() <= 5
        && (a.len() == c.len() && a[..2] == c[..2] || alone(a) || alone(c));
    if !fits {
        return None;
    }
    let merge = |i: usize, shape: &[usize]| match shape {
        [n, m, rest @ ..] if rest.len() == 3 => reshaped(w, &at, i, &[&[n * m], rest].concat()),
        _ => input(w, &at, i),
    };
    let (x, y) = (merge(0, a)?, merge(1, c)?);
    let mut args = w.args(at.site.op);
    for (key, arg) in &mut args {
        match *key {
            "x" => *arg = Arg::Value(x.id()),
            "y" => *arg = Arg::Value(y.id()),
            _ => {}
        }
    }
    let product = w.builder().op(Op::Matmul, args)[0];
    Some(vec![product.reshape(&at.site.resolved.results[0].shape)])
}

/// Leading axes of a linear layer as one.
fn merged_rows<'b>(w: &mut Rewrite<'b, '_>, at: At<'_, '_>) -> Option<Vec<Tensor<'b>>> {
    let shape = &at.scope.inputs(at.site)[0].shape;
    let (last, rows) = shape.split_last()?;
    let x = input(w, &at, 0)?.reshape(&[rows.iter().product(), *last]);
    let mut args = w.args(at.site.op);
    args.iter_mut().find(|(key, _)| *key == "x")?.1 = Arg::Value(x.id());
    let y = w.builder().op(Op::Linear, args)[0];
    Some(vec![y.reshape(&at.site.resolved.results[0].shape)])
}

/// Attention as product, mask, softmax and product.
fn attention<'b>(w: &mut Rewrite<'b, '_>, at: At<'_, '_>) -> Option<Vec<Tensor<'b>>> {
    let Kind::Attention { bool_mask } = at.site.kind() else { return None };
    let (q, k, v) = (input(w, &at, 0)?, input(w, &at, 1)?, input(w, &at, 2)?);
    let mask = input(w, &at, 3)?;
    let width = *q.shape().last()? as f64;
    let scores = q.matmul(k, false, true) * (1.0 / width.sqrt());
    let masked = if *bool_mask {
        let hidden = w.builder().scalar(scores.dtype(), f64::NEG_INFINITY);
        w.builder().select(mask, scores, hidden)
    } else {
        scores + mask
    };
    Some(vec![masked.softmax(-1).matmul(v, false, false)])
}

/// Zeros up to a multiple of 32 on the inner axis of both operands.
fn padded_inner<'b>(w: &mut Rewrite<'b, '_>, at: At<'_, '_>) -> Option<Vec<Tensor<'b>>> {
    let Kind::Matmul { transpose_x, transpose_y } = *at.site.kind() else { return None };
    let (x, y) = (input(w, &at, 0)?, input(w, &at, 1)?);
    let inner = |t: Tensor<'b>, last: bool| {
        let shape = t.shape();
        if shape.len() < 2 {
            return None;
        }
        let axis = shape.len() - if last { 1 } else { 2 };
        let missing = (shape[axis].next_multiple_of(32) - shape[axis]) as i64;
        let pads = if last { [0, 0, 0, missing] } else { [0, missing, 0, 0] };
        Some(padded(w, t, &pads, 0.0))
    };
    let (x, y) = (inner(x, !transpose_x)?, inner(y, transpose_y)?);
    Some(vec![x.matmul(y, transpose_x, transpose_y)])
}

/// Softmax over a power of two, of which the rest is −65504, the smallest number that fp16 holds.
///
/// e^(−65504 − max) is 0 unless all elements are below −64000.
fn padded_softmax<'b>(w: &mut Rewrite<'b, '_>, at: At<'_, '_>) -> Option<Vec<Tensor<'b>>> {
    let Kind::Softmax { axis } = *at.site.kind() else { return None };
    let x = input(w, &at, 0)?;
    let shape = x.shape();
    let n = shape[axis];
    let missing = (n.next_power_of_two() - n) as i64;
    let pads = match shape.len() - axis {
        1 => vec![0, missing],
        2 => vec![0, missing, 0, 0],
        _ => return None,
    };
    let y = padded(w, x, &pads, -65_504.0).softmax(axis as i64);
    Some(vec![y.narrow(axis, 0, n)])
}
