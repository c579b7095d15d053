//! Operations as formulas of simpler ones.
//!
//! Devices that have no unit for an operation compute its formula, and its gradient is the formula's.

use crate::builder::{Builder, Tensor};
use crate::ir::Arg;
use crate::op::Op;
use crate::resolve::{Activation, Einsum, Kind, Norm, Pool, Rearrange, Resample, Window};
use crate::types::{DType, Literal, TensorType};

/// The formula of an operation over simpler ones, if it has one. `ty` is the type of its result.
pub(crate) fn formula<'b>(
    b: &'b Builder,
    kind: &Kind,
    x: &[Tensor<'b>],
    ty: &TensorType,
) -> Option<Tensor<'b>> {
    Some(match kind {
        Kind::Linear => linear(x, ty),
        Kind::LayerNorm { axes, epsilon, gamma, beta } => {
            layer_norm(x, axes, *epsilon, *gamma, *beta)
        }
        Kind::Attention { bool_mask } => attention(b, x, *bool_mask),
        Kind::Quantize { axis } => {
            let (lo, hi) = ty.dtype.int_range()?;
            let mut y = (x[0] / along(x[1], *axis, &ty.shape)).unary(Op::Round);
            if let Some(zero) = x.get(2) {
                y = y + along(zero.cast(y.dtype()), *axis, &ty.shape);
            }
            let limit = |v: i64| b.scalar(y.dtype(), v as f64);
            y.maximum(limit(lo)).minimum(limit(hi)).cast(ty.dtype)
        }
        Kind::Dequantize { axis } => {
            let mut y = x[0].cast(ty.dtype);
            if let Some(zero) = x.get(2) {
                y = y - along(zero.cast(ty.dtype), *axis, &ty.shape);
            }
            y * along(x[1], *axis, &ty.shape)
        }
        Kind::Activation(activation) => self::activation(b, *activation, x),
        Kind::Not => {
            let constant = |value| b.constant(Literal::bool(value));
            b.select(x[0], constant(false), constant(true))
        }
        Kind::Norm(norm) => self::norm(*norm, x),
        Kind::Rearrange(rearrange) => self::rearrange(*rearrange, x[0], &ty.shape),
        Kind::Einsum(einsum) => self::einsum(einsum, x[0], x[1], &ty.shape),
        _ => return None,
    })
}

/// Elements of a window up to which its gradient is written out.
const MOST_TAPS: usize = 1024;

/// The formula of an operation that devices compute as it is: only gradients are taken of it.
pub(crate) fn smooth<'b>(
    b: &'b Builder,
    kind: &Kind,
    x: &[Tensor<'b>],
    ty: &TensorType,
) -> Option<Tensor<'b>> {
    match kind {
        Kind::Pool(pool) if pool.kernel.iter().product::<usize>() > MOST_TAPS => None,
        Kind::Pool(pool) => Some(windows(b, pool, x[0], &ty.shape)),
        Kind::Resample(resample) => Some(mixtures(b, *resample, x[0], &ty.shape)),
        _ => formula(b, kind, x, ty),
    }
}

/// A vector laid along `axis` of a tensor of `shape`; a scalar as it is.
fn along<'b>(v: Tensor<'b>, axis: Option<usize>, shape: &[usize]) -> Tensor<'b> {
    let Some(axis) = axis else { return v };
    let mut at = vec![1; shape.len()];
    at[axis] = shape[axis];
    v.reshape(&at)
}

fn linear<'b>(x: &[Tensor<'b>], ty: &TensorType) -> Tensor<'b> {
    let (shape, w) = (x[0].shape(), x[1].shape());
    let rows = shape[..shape.len() - 1].iter().product();
    let y = x[0].reshape(&[rows, w[1]]).matmul(x[1], false, true).reshape(&ty.shape);
    if let Some(bias) = x.get(2) { y + *bias } else { y }
}

fn layer_norm<'b>(
    x: &[Tensor<'b>],
    axes: &[usize],
    epsilon: f64,
    gamma: bool,
    beta: bool,
) -> Tensor<'b> {
    let shape = x[0].shape();
    let kept: Vec<usize> =
        (0..shape.len()).map(|i| if axes.contains(&i) { shape[i] } else { 1 }).collect();
    let mut y = standard(x[0], axes, epsilon);
    if gamma {
        y = y * x[1].reshape(&kept);
    }
    if beta {
        y = y + x[1 + usize::from(gamma)].reshape(&kept);
    }
    y
}

/// (x − mean) / √(variance + ε) over `axes`.
fn standard<'b>(x: Tensor<'b>, axes: &[usize], epsilon: f64) -> Tensor<'b> {
    let centred = x - x.reduce_mean(axes);
    centred * (centred * centred).reduce_mean(axes).rsqrt(epsilon)
}

fn attention<'b>(b: &'b Builder, x: &[Tensor<'b>], bool_mask: bool) -> Tensor<'b> {
    let width = *x[0].shape().last().expect("rank was checked") as f64;
    let scores = x[0].matmul(x[1], false, true) * (1.0 / width.sqrt());
    let masked = match x.get(3) {
        Some(mask) if bool_mask => {
            b.select(*mask, scores, b.scalar(scores.dtype(), f64::NEG_INFINITY))
        }
        Some(mask) => scores + *mask,
        None => scores,
    };
    masked.softmax(-1).matmul(x[2], false, false)
}

fn activation<'b>(b: &'b Builder, activation: Activation, x: &[Tensor<'b>]) -> Tensor<'b> {
    let v = x[0];
    let number = |value| b.scalar(v.dtype(), value);
    let leaky = |slope: Tensor<'b>| b.select(v.binary(Op::Less, number(0.0)), v * slope, v);
    let channel = |i: usize| along(x[i], Some(1), &v.shape());
    match activation {
        Activation::ScaledTanh { alpha, beta } => (v * beta).tanh() * alpha,
        Activation::ClampedRelu { alpha, beta } => leaky(number(alpha)).minimum(number(beta)),
        Activation::ThresholdedRelu { alpha } => {
            b.select(v.binary(Op::Less, number(alpha)), number(0.0), v)
        }
        Activation::Prelu => leaky(channel(1)),
        Activation::SoftplusParametric => (v * channel(2)).unary(Op::Softplus) * channel(1),
    }
}

fn norm<'b>(norm: Norm, x: &[Tensor<'b>]) -> Tensor<'b> {
    let v = x[0];
    let shape = v.shape();
    let rank = shape.len();
    let channel = |i: usize| along(x[i], Some(1), &shape);
    let affine = |y: Tensor<'b>, first: usize, gamma: bool, beta: bool| {
        let y = if gamma { y * channel(first) } else { y };
        if beta { y + channel(first + usize::from(gamma)) } else { y }
    };
    match norm {
        Norm::Batch { epsilon, gamma, beta } => {
            affine((v - channel(1)) * channel(2).rsqrt(epsilon), 3, gamma, beta)
        }
        Norm::Instance { epsilon, gamma, beta } => {
            let axes: Vec<usize> = (2..rank).collect();
            affine(standard(v, &axes, epsilon), 1, gamma, beta)
        }
        Norm::L2 { epsilon } => {
            let axes: Vec<usize> = (rank - 3..rank).collect();
            v * (v * v).reduce_sum(&axes).rsqrt(epsilon)
        }
        Norm::LocalResponse { size, alpha, beta, k } => {
            let axis = rank - 3;
            let mut pads = vec![(0, 0); rank];
            pads[axis] = (size / 2, (size - 1) / 2);
            let squares = (v * v).pad(&pads);
            let sum = (0..size)
                .map(|i| squares.narrow(axis, i, shape[axis]))
                .reduce(|sum, part| sum + part)
                .expect("size is not 0");
            // alpha / size is not a number of fp16, alpha and size are.
            let mean = sum / v.builder().scalar(v.dtype(), size as f64);
            v * (mean * alpha + k).pow(-beta)
        }
    }
}

/// Reshapes and transposes of at most five axes.
fn rearrange<'b>(rearrange: Rearrange, x: Tensor<'b>, shape: &[usize]) -> Tensor<'b> {
    let from = x.shape();
    let [n, c, h, w] = [from[0], from[1], from[2], from[3]];
    let shuffle = |x: Tensor<'b>, f: usize, to: &[usize]| {
        let blocks = x.reshape(&[to[0] * to[1], f, f, to[2] / f, to[3] / f]);
        blocks.transpose(&[0, 3, 1, 4, 2]).reshape(to)
    };
    let unshuffle = |x: Tensor<'b>, f: usize, to: &[usize]| {
        let blocks = x.reshape(&[n * c, to[2], f, to[3], f]);
        blocks.transpose(&[0, 2, 4, 1, 3]).reshape(to)
    };
    // Channels as [c, place in the block] for [place in the block, c], and back.
    let swapped = |x: Tensor<'b>, first: usize, second: usize| {
        let shape = x.shape();
        let parts = x.reshape(&[shape[0], first, second, shape[2] * shape[3]]);
        parts.transpose(&[0, 2, 1, 3]).reshape(&shape)
    };
    match rearrange {
        Rearrange::PixelShuffle { factor } => shuffle(x, factor, shape),
        Rearrange::PixelUnshuffle { factor } => unshuffle(x, factor, shape),
        Rearrange::DepthToSpace { block } => {
            shuffle(swapped(x, block * block, shape[1]), block, shape)
        }
        Rearrange::SpaceToDepth { block } => swapped(unshuffle(x, block, shape), c, block * block),
        Rearrange::SpaceToBatch { block: [a, b], pads } => {
            let padded = match pads {
                [(0, 0), (0, 0)] => x,
                _ => x.pad(&[(0, 0), (0, 0), pads[0], pads[1]]),
            };
            let blocks = padded.reshape(&[n * c, shape[2], a, shape[3], b]);
            blocks.transpose(&[2, 4, 0, 1, 3]).reshape(shape)
        }
        Rearrange::BatchToSpace { block: [a, b], crops } => {
            let blocks = x.reshape(&[a, b, shape[0] * c, h, w]).transpose(&[2, 3, 0, 4, 1]);
            let whole = blocks.reshape(&[shape[0], c, h * a, w * b]);
            if whole.shape() == shape {
                return whole;
            }
            whole.slice(&[0, 0, crops[0].0, crops[1].0], shape)
        }
    }
}

/// A product of matrices over the axes that both have and the result has not; those that all three
/// have are batches.
fn einsum<'b>(einsum: &Einsum, x: Tensor<'b>, y: Tensor<'b>, shape: &[usize]) -> Tensor<'b> {
    let has = |labels: &[usize], label: &usize| labels.contains(label);
    let result = &einsum.result;
    let pick = |test: &dyn Fn(&usize) -> bool, of: &[usize]| -> Vec<usize> {
        of.iter().copied().filter(|label| test(label)).collect()
    };
    let batch = pick(&|l| has(&einsum.x, l) && has(&einsum.y, l), result);
    let rows = pick(&|l| !has(&einsum.y, l), result);
    let columns = pick(&|l| !has(&einsum.x, l), result);
    let inner = pick(&|l| has(&einsum.y, l) && !has(result, l), &einsum.x);
    // Batches, then each group as one axis.
    let matrix = |v: Tensor<'b>, labels: &[usize], groups: [&[usize]; 2]| {
        let axis = |label: usize| labels.iter().position(|&l| l == label).expect("it has it");
        let order: Vec<usize> =
            batch.iter().chain(groups[0]).chain(groups[1]).map(|&l| axis(l)).collect();
        let alone: Vec<usize> = (0..labels.len()).filter(|i| !order.contains(i)).collect();
        let v = if alone.is_empty() { v } else { v.reduce_sum(&alone) };
        let from = v.shape();
        let perm = [&order[..], &alone].concat();
        let mut to: Vec<usize> = batch.iter().map(|&l| from[axis(l)]).collect();
        to.extend(groups.map(|group| group.iter().map(|&l| from[axis(l)]).product::<usize>()));
        v.transpose(&perm).reshape(&to)
    };
    let product = matrix(x, &einsum.x, [&rows, &inner]).matmul(
        matrix(y, &einsum.y, [&inner, &columns]),
        false,
        false,
    );
    let order = [&batch[..], &rows, &columns].concat();
    let place = |label: &usize| result.iter().position(|l| l == label).expect("in the result");
    let extents: Vec<usize> = order.iter().map(|label| shape[place(label)]).collect();
    let perm: Vec<usize> = (result.iter())
        .map(|label| order.iter().position(|l| l == label).expect("in one of them"))
        .collect();
    product.reshape(&extents).transpose(&perm)
}

/// Element `t` of every window, for all t, as slices that are added or compared.
fn windows<'b>(b: &'b Builder, pool: &Pool, x: Tensor<'b>, shape: &[usize]) -> Tensor<'b> {
    let from = x.shape();
    let spatial = pool.kernel.len();
    let reach = |i: usize| (shape[i + 2] - 1) * pool.strides[i] + pool.kernel[i];
    let mut pads = vec![0i64; 4];
    for i in 0..spatial {
        let before = pool.pads[i].0;
        let after = reach(i).saturating_sub(before + from[i + 2]);
        pads.extend([before as i64, after as i64]);
    }
    let least = if x.dtype() == DType::Fp16 { -65_504.0 } else { f64::from(f32::MIN) };
    let filler = if pool.window == Window::Max { least } else { 0.0 };
    let attribute = |literal| Arg::Value(b.constant(literal).id());
    let padded = if pads.iter().all(|&n| n == 0) {
        x
    } else {
        let args = vec![
            ("x", Arg::Value(x.id())),
            ("pad", attribute(Literal::ints(&pads))),
            ("mode", attribute(Literal::string("constant"))),
            ("constant_val", attribute(Literal::float(x.dtype(), filler))),
        ];
        b.op(Op::Pad, args)[0]
    };
    let taps: usize = pool.kernel.iter().product();
    let tap = |mut t: usize| {
        let (mut begin, mut end) = (vec![0; 2], from[..2].to_vec());
        let mut stride = vec![1; 2];
        let mut at = vec![0; spatial];
        for i in (0..spatial).rev() {
            (at[i], t) = (t % pool.kernel[i], t / pool.kernel[i]);
        }
        for i in 0..spatial {
            begin.push(at[i]);
            end.push(at[i] + (shape[i + 2] - 1) * pool.strides[i] + 1);
            stride.push(pool.strides[i]);
        }
        strided(padded, &begin, &end, &stride)
    };
    let all = (0..taps).map(tap);
    match pool.window {
        Window::Max => all.reduce(Tensor::maximum).expect("a window has an element"),
        Window::L2 => all.map(|t| t * t).reduce(|a, t| a + t).expect("as above").unary(Op::Sqrt),
        Window::Average { exclude_padding } => {
            let sum = all.reduce(|a, t| a + t).expect("as above");
            sum * reciprocals(b, pool, &from, shape, exclude_padding, x.dtype())
        }
    }
}

/// One divided by the number of elements of each window, [1, 1, spatial…].
fn reciprocals<'b>(
    b: &'b Builder,
    pool: &Pool,
    from: &[usize],
    shape: &[usize],
    exclude_padding: bool,
    dtype: DType,
) -> Tensor<'b> {
    let mut counts = vec![1.0];
    for (i, &extent) in from[2..].iter().enumerate() {
        let along = (0..shape[i + 2]).map(|window| {
            let (real, padded) = pool.inside(i, extent, window);
            if exclude_padding { real as f64 } else { padded as f64 }
        });
        let along: Vec<f64> = along.collect();
        counts = counts.iter().flat_map(|c| along.iter().map(move |n| c * n)).collect();
    }
    let values: Vec<f64> = counts.iter().map(|n| 1.0 / n).collect();
    let ty = TensorType::new(dtype, [&[1, 1], &shape[2..]].concat());
    b.constant(Literal::floats(ty, &values))
}

/// Products with a matrix of weights along each of the last two axes.
fn mixtures<'b>(b: &'b Builder, resample: Resample, x: Tensor<'b>, shape: &[usize]) -> Tensor<'b> {
    let (from, rank) = (x.shape(), shape.len());
    let matrix = |axis: usize| {
        let (n, m) = (from[axis], shape[axis]);
        let mut weights = vec![0.0; m * n];
        for i in 0..m {
            let (before, after, part) = resample.neighbours(i, m, n);
            weights[i * n + before] += 1.0 - part;
            weights[i * n + after] += part;
        }
        b.constant(Literal::floats(TensorType::new(x.dtype(), [m, n]), &weights))
    };
    matrix(rank - 2).matmul(x, false, false).matmul(matrix(rank - 1), false, true)
}

/// `x[begin:end:stride]` per axis.
pub(crate) fn strided<'b>(
    x: Tensor<'b>,
    begin: &[usize],
    end: &[usize],
    stride: &[usize],
) -> Tensor<'b> {
    let ints = |v: &[usize]| {
        let v: Vec<i64> = v.iter().map(|&n| n as i64).collect();
        Arg::Value(x.builder().constant(Literal::ints(&v)).id())
    };
    let args = vec![
        ("x", Arg::Value(x.id())),
        ("begin", ints(begin)),
        ("end", ints(end)),
        ("stride", ints(stride)),
    ];
    x.builder().op(Op::SliceByIndex, args)[0]
}
