//! The reference interpreter: what every operation means, in f64, as plainly as it can be said.
//!
//! This is the living definition of the operations. It is slow on purpose: no blocking, no fusion,
//! no rounding between operations. Everything faster is compared with it.

use crate::blob::{self, BlobError, Weights};
use crate::ir::Function;
use crate::passes::hoist_constants;
use crate::resolve::{
    Binary, Compare, ConvGeometry, GeluMode, Kind, OpError, PadMode, Reduce, Unary, resolve,
};
use crate::types::DType;

mod constexpr;
mod image;
mod pool;

/// The message for operations that are checked only.
pub const NOT_EXECUTED: &str = "is checked, but not executed here";

/// A dense row-major tensor of f64; truth values are 0 and 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Extent of every axis.
    pub shape: Vec<usize>,
    /// Elements, last axis fastest.
    pub data: Vec<f64>,
}

/// Why a function could not be evaluated.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum InterpError {
    #[error(transparent)]
    Op(#[from] OpError),
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error("function takes {expected} inputs, got {got}")]
    InputCount { expected: usize, got: usize },
    #[error("input `{name}` has shape {expected:?}, got {got:?}")]
    InputShape { name: String, expected: Vec<usize>, got: Vec<usize> },
}

impl Array {
    /// A tensor from its elements.
    ///
    /// # Panics
    /// If the number of elements is not the product of `shape`.
    pub fn new(shape: impl Into<Vec<usize>>, data: Vec<f64>) -> Self {
        let shape = shape.into();
        assert_eq!(shape.iter().product::<usize>(), data.len(), "elements of {shape:?}");
        Array { shape, data }
    }

    /// A tensor whose elements are computed from their indices.
    pub fn from_fn(shape: &[usize], mut f: impl FnMut(&[usize]) -> f64) -> Self {
        let mut data = Vec::with_capacity(shape.iter().product());
        each_index(shape, |index| data.push(f(index)));
        Array { shape: shape.to_vec(), data }
    }

    /// The element at `index`, axes of extent 1 repeated as broadcasting does.
    fn get(&self, index: &[usize]) -> f64 {
        let skip = index.len() - self.shape.len();
        let mut at = 0;
        for (&i, &n) in index[skip..].iter().zip(&self.shape) {
            at = at * n + if n == 1 { 0 } else { i };
        }
        self.data[at]
    }

    fn map(&self, f: impl Fn(f64) -> f64) -> Array {
        Array { shape: self.shape.clone(), data: self.data.iter().map(|&x| f(x)).collect() }
    }
}

/// Calls `f` with every index of `shape`, last axis fastest.
pub fn each_index(shape: &[usize], mut f: impl FnMut(&[usize])) {
    let mut index = vec![0; shape.len()];
    for _ in 0..shape.iter().product::<usize>() {
        f(&index);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
}

/// Computes the outputs of `f` for `inputs`, in the order of its parameters.
///
/// # Errors
/// When inputs do not fit the parameters, an operation breaks a rule, or a weight file is missing
/// or malformed.
pub fn evaluate(
    f: &Function,
    inputs: &[Array],
    weights: &Weights,
) -> Result<Vec<Array>, InterpError> {
    let all = evaluate_all(f, inputs, weights)?;
    Ok(f.outputs.iter().map(|id| all[id.index()].clone()).collect())
}

/// As [`evaluate`], for every value of `f` (texts become empty arrays). In-place literals are not
/// values and have no entry.
pub fn evaluate_all(
    f: &Function,
    inputs: &[Array],
    weights: &Weights,
) -> Result<Vec<Array>, InterpError> {
    if inputs.len() != f.params {
        return Err(InterpError::InputCount { expected: f.params, got: inputs.len() });
    }
    for (value, input) in f.values.iter().zip(inputs) {
        if value.ty.shape != input.shape {
            return Err(InterpError::InputShape {
                name: value.name.clone(),
                expected: value.ty.shape.clone(),
                got: input.shape.clone(),
            });
        }
    }
    let hoisted = hoist_constants(f);
    let mut values: Vec<Option<Array>> = vec![None; hoisted.values.len()];
    values[..inputs.len()].iter_mut().zip(inputs).for_each(|(v, x)| *v = Some(x.clone()));
    for op in &hoisted.ops {
        let resolved = resolve(&hoisted, op)?;
        let results = if let Some(literal) = &op.value {
            let data = blob::load(literal, weights)?.to_f64();
            let shape = literal.ty.shape.clone();
            vec![data.map_or(Array { shape: vec![0], data: vec![] }, |d| Array::new(shape, d))]
        } else {
            let args: Vec<&Array> = (resolved.values().iter())
                .map(|id| values[id.index()].as_ref().expect("defined before use"))
                .collect();
            let shapes: Vec<&[usize]> = resolved.results.iter().map(|t| &t.shape[..]).collect();
            let computed = compute(&resolved.kind, &args, &shapes, resolved.results[0].dtype);
            let error = |message| OpError { op: op.op, key: None, message, hint: String::new() };
            computed.map_err(error)?
        };
        for (id, result) in op.results.iter().zip(results) {
            values[id.index()] = Some(result);
        }
    }
    let by_name = |name: &str| hoisted.find(name).and_then(|id| values[id.index()].clone());
    Ok((f.values.iter()).map(|v| by_name(&v.name).expect("every value was computed")).collect())
}

/// The results of an operation; what is wrong with its data where something is.
fn compute(
    kind: &Kind,
    args: &[&Array],
    shapes: &[&[usize]],
    dtype: DType,
) -> Result<Vec<Array>, String> {
    let shape = shapes[0];
    let from = |f: &dyn Fn(&[usize]) -> f64| Array::from_fn(shape, f);
    Ok(vec![match kind {
        Kind::Const => unreachable!("constants have no inputs"),
        Kind::Cast => args[0].map(|x| cast(x, dtype)),
        Kind::Unary(unary) => args[0].map(|x| apply_unary(*unary, x)),
        Kind::Binary(b) => from(&|i| apply_binary(*b, args[0].get(i), args[1].get(i), dtype)),
        Kind::Compare(c) => {
            from(&|i| f64::from(u8::from(apply_compare(*c, args[0].get(i), args[1].get(i)))))
        }
        Kind::Select => from(&|i| args[if args[0].get(i) != 0.0 { 1 } else { 2 }].get(i)),
        Kind::Reduce { reduce, axes, .. } => reduction(*reduce, args[0], axes, shape),
        Kind::Softmax { axis } => softmax(args[0], *axis),
        Kind::Matmul { transpose_x, transpose_y } => {
            matmul(args[0], *transpose_x, args[1], *transpose_y, shape)
        }
        Kind::Linear => from(&|i| {
            let (lead, o) = i.split_at(i.len() - 1);
            let product = |k: usize| args[0].get(&[lead, &[k]].concat()) * args[1].get(&[o[0], k]);
            let bias = args.get(2).map_or(0.0, |b| b.get(o));
            (0..args[1].shape[1]).map(product).sum::<f64>() + bias
        }),
        Kind::Conv(g) => conv(args, g, shape),
        Kind::ConvTranspose(g) => conv_transpose(args, g, shape),
        Kind::Reshape => Array { shape: shape.to_vec(), data: args[0].data.clone() },
        Kind::Transpose { perm } => from(&|i| {
            let mut source = vec![0; i.len()];
            perm.iter().zip(i).for_each(|(&axis, &n)| source[axis] = n);
            args[0].get(&source)
        }),
        Kind::Slice { begin, stride, sizes } => {
            let y = Array::from_fn(sizes, |i| {
                let at = |k: usize| (begin[k] as i64 + i[k] as i64 * stride[k]) as usize;
                args[0].get(&(0..i.len()).map(at).collect::<Vec<_>>())
            });
            Array { shape: shape.to_vec(), data: y.data }
        }
        Kind::Concat { axis, interleave: true } => from(&|i| {
            let mut source = i.to_vec();
            source[*axis] = i[*axis] / args.len();
            args[i[*axis] % args.len()].get(&source)
        }),
        Kind::Concat { axis, .. } => from(&|i| {
            let mut source = i.to_vec();
            let mut part = 0;
            while source[*axis] >= args[part].shape[*axis] {
                source[*axis] -= args[part].shape[*axis];
                part += 1;
            }
            args[part].get(&source)
        }),
        Kind::Stack { axis } => from(&|i| {
            let mut source = i.to_vec();
            let part = source.remove(*axis);
            args[part].get(&source)
        }),
        Kind::Split { axis, sizes } => return Ok(split(args[0], *axis, sizes, shapes)),
        Kind::Tile { .. } => from(&|i| {
            let source: Vec<usize> = i.iter().zip(&args[0].shape).map(|(&i, &n)| i % n).collect();
            args[0].get(&source)
        }),
        Kind::Pad { pads, mode } => from(&|i| padded(args[0], pads, *mode, i)),
        Kind::LayerNorm { axes, epsilon, gamma, beta } => {
            layer_norm(args, axes, *epsilon, *gamma, *beta)
        }
        Kind::Attention { bool_mask } => attention(args, *bool_mask, shape),
        Kind::Quantize { axis } => {
            let (lo, hi) = dtype.int_range().expect("quantize gives integers");
            from(&|i| {
                let (scale, zero) = scale_and_zero(&args[1..], *axis, i);
                ((args[0].get(i) / scale).round() + zero).clamp(lo as f64, hi as f64)
            })
        }
        Kind::Dequantize { axis } => from(&|i| {
            let (scale, zero) = scale_and_zero(&args[1..], *axis, i);
            (args[0].get(i) - zero) * scale
        }),
        Kind::Constexpr(kind) => constexpr::expand(*kind, args, shape)?,
        Kind::Activation(activation) => pool::activation(args, *activation),
        Kind::Not => args[0].map(|x| f64::from(u8::from(x == 0.0))),
        Kind::Pool(pool) => pool::pool(args[0], pool, shape),
        Kind::Norm(norm) => pool::norm(args, *norm),
        Kind::Rearrange(rearrange) => image::rearrange(args[0], *rearrange, shape),
        Kind::Resample(resample) => image::resample(args[0], *resample, shape),
        Kind::Einsum(einsum) => image::einsum(args[0], args[1], einsum, shape),
        Kind::Fill { value } => from(&|_| *value),
        Kind::Range { start, step } => from(&|i| start + step * i[0] as f64),
        Kind::TopK { axis, ascending } => {
            return Ok(image::topk(args[0], *axis, *ascending, shape));
        }
        Kind::NotExecuted => return Err(NOT_EXECUTED.to_owned()),
    }])
}

fn scale_and_zero(args: &[&Array], axis: Option<usize>, index: &[usize]) -> (f64, f64) {
    let at = |a: &Array| axis.map_or(a.data[0], |axis| a.data[index[axis]]);
    (at(args[0]), args.get(1).map_or(0.0, |zero| at(zero)))
}

/// Floats keep their value; integers truncate towards zero and saturate; truth is ≠ 0.
fn cast(x: f64, to: DType) -> f64 {
    match to {
        DType::Bool => f64::from(u8::from(x != 0.0)),
        _ => match to.int_range() {
            Some((lo, hi)) if !x.is_nan() => x.trunc().clamp(lo as f64, hi as f64),
            Some(_) => 0.0,
            None => x,
        },
    }
}

/// One elementwise function.
pub fn apply_unary(unary: Unary, x: f64) -> f64 {
    match unary {
        Unary::Abs => x.abs(),
        Unary::Atan => x.atan(),
        Unary::Ceil => x.ceil(),
        Unary::Clip { lo, hi } => x.max(lo).min(hi),
        Unary::Cos => x.cos(),
        Unary::Erf => erf(x),
        Unary::Exp => x.exp(),
        Unary::Exp2 => x.exp2(),
        Unary::Floor => x.floor(),
        Unary::Inverse { epsilon } => 1.0 / (x + epsilon),
        Unary::Log { epsilon } => (x + epsilon).ln(),
        Unary::Round => x.round(),
        Unary::Rsqrt { epsilon } => 1.0 / (x + epsilon).sqrt(),
        Unary::Sign => f64::from(i8::from(x > 0.0) - i8::from(x < 0.0)),
        Unary::Sin => x.sin(),
        Unary::Sqrt => x.sqrt(),
        Unary::Square => x * x,
        Unary::Tanh => x.tanh(),
        Unary::Threshold { alpha } => x.max(alpha),
        Unary::Relu => x.max(0.0),
        Unary::Relu6 => x.clamp(0.0, 6.0),
        Unary::LeakyRelu { alpha } => {
            if x >= 0.0 {
                x
            } else {
                alpha * x
            }
        }
        Unary::Elu { alpha } => {
            if x >= 0.0 {
                x
            } else {
                alpha * x.exp_m1()
            }
        }
        Unary::Gelu(GeluMode::Exact) => x * (1.0 + erf(x / std::f64::consts::SQRT_2)) / 2.0,
        Unary::Gelu(GeluMode::Tanh) => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            x * (1.0 + inner.tanh()) / 2.0
        }
        Unary::Gelu(GeluMode::Sigmoid) => x / (1.0 + (-1.702 * x).exp()),
        Unary::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Unary::SigmoidHard { alpha, beta } => (alpha * x + beta).clamp(0.0, 1.0),
        Unary::Silu => x / (1.0 + (-x).exp()),
        Unary::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
        Unary::Softsign => x / (1.0 + x.abs()),
        Unary::Linear { alpha, beta } => alpha * x + beta,
    }
}

/// The error function to about 1e-15: Taylor series near zero, a continued fraction elsewhere
/// (Abramowitz and Stegun 7.1.5 and 7.1.14).
pub fn erf(x: f64) -> f64 {
    let z = x * x;
    if x.abs() < 2.5 {
        let (mut term, mut sum, mut n) = (x, x, 0.0);
        while term.abs() > 1e-18 * sum.abs() {
            n += 1.0;
            term *= -z / n;
            sum += term / (2.0 * n + 1.0);
        }
        return sum * 2.0 / std::f64::consts::PI.sqrt();
    }
    if x.is_nan() {
        return x;
    }
    if x.abs() > 6.0 {
        return x.signum();
    }
    let fraction = (1..=60).rev().fold(0.0, |f, n| n as f64 / 2.0 / (x.abs() + f));
    let complement = (-z).exp() / ((x.abs() + fraction) * std::f64::consts::PI.sqrt());
    x.signum() * (1.0 - complement)
}

/// One elementwise function of two arguments; integers divide with floor.
pub fn apply_binary(binary: Binary, x: f64, y: f64, dtype: DType) -> f64 {
    match binary {
        Binary::Add => x + y,
        Binary::Sub => x - y,
        Binary::Mul => x * y,
        Binary::Div if !dtype.is_float() => (x / y).floor(),
        Binary::Div => x / y,
        Binary::FloorDiv => (x / y).floor(),
        Binary::Pow => x.powf(y),
        Binary::Max => x.max(y),
        Binary::Min => x.min(y),
    }
}

/// One comparison.
pub fn apply_compare(compare: Compare, x: f64, y: f64) -> bool {
    match compare {
        Compare::Equal => x == y,
        Compare::NotEqual => x != y,
        Compare::Less => x < y,
        Compare::LessEqual => x <= y,
        Compare::Greater => x > y,
        Compare::GreaterEqual => x >= y,
    }
}

fn reduction(reduce: Reduce, x: &Array, axes: &[usize], shape: &[usize]) -> Array {
    let mut groups: Vec<Vec<f64>> = vec![vec![]; shape.iter().product()];
    let kept: Vec<usize> = (0..x.shape.len()).filter(|a| !axes.contains(a)).collect();
    each_index(&x.shape, |i| {
        let at = kept.iter().fold(0, |at, &axis| at * x.shape[axis] + i[axis]);
        groups[at].push(x.get(i));
    });
    let data = groups.iter().map(|group| {
        let sum = |f: &dyn Fn(f64) -> f64| group.iter().map(|&x| f(x)).sum::<f64>();
        let max = group.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        match reduce {
            Reduce::Sum => sum(&|x| x),
            Reduce::Mean => sum(&|x| x) / group.len() as f64,
            Reduce::Max => max,
            Reduce::Min => group.iter().copied().fold(f64::INFINITY, f64::min),
            Reduce::L1Norm => sum(&f64::abs),
            Reduce::L2Norm => sum(&|x| x * x).sqrt(),
            Reduce::SumSquare => sum(&|x| x * x),
            Reduce::LogSum => sum(&|x| x).ln(),
            Reduce::LogSumExp => max + sum(&|x| (x - max).exp()).ln(),
        }
    });
    Array { shape: shape.to_vec(), data: data.collect() }
}

fn softmax(x: &Array, axis: usize) -> Array {
    let mut kept = x.shape.clone();
    kept[axis] = 1;
    let max = reduction(Reduce::Max, x, &[axis], &kept);
    let e = Array::from_fn(&x.shape, |i| (x.get(i) - max.get(i)).exp());
    let sum = reduction(Reduce::Sum, &e, &[axis], &kept);
    Array::from_fn(&x.shape, |i| e.get(i) / sum.get(i))
}

fn matmul(x: &Array, transpose_x: bool, y: &Array, transpose_y: bool, shape: &[usize]) -> Array {
    let r = x.shape.len();
    let inner = if transpose_x { x.shape[r - 2] } else { x.shape[r - 1] };
    let pick = |a: &Array, batch: &[usize], row: usize, column: usize, swap: bool| {
        let mut index = batch[batch.len() - (a.shape.len() - 2)..].to_vec();
        index.extend(if swap { [column, row] } else { [row, column] });
        a.get(&index)
    };
    Array::from_fn(shape, |i| {
        let (batch, last) = i.split_at(i.len() - 2);
        let (row, column) = (last[0], last[1]);
        (0..inner)
            .map(|k| pick(x, batch, row, k, transpose_x) * pick(y, batch, k, column, transpose_y))
            .sum()
    })
}

/// Calls `f` with (output index, input index, weight index) for every product of a convolution
/// whose large side has shape `large` and small side (the strided one) has shape `small`.
fn each_product(
    large: &[usize],
    small: &[usize],
    kernel: &[usize],
    g: &ConvGeometry,
    mut f: impl FnMut(&[usize], &[usize], &[usize]),
) {
    each_index(&small[2..], |at| {
        each_index(kernel, |tap| {
            let position: Option<Vec<usize>> = (0..at.len())
                .map(|i| {
                    let p = at[i] * g.strides[i] + tap[i] * g.dilations[i];
                    p.checked_sub(g.pads[i].0).filter(|&p| p < large[i + 2])
                })
                .collect();
            if let Some(position) = position {
                f(&position, at, tap);
            }
        });
    });
}

fn conv(args: &[&Array], g: &ConvGeometry, shape: &[usize]) -> Array {
    let (x, w) = (args[0], args[1]);
    let bias = |o: usize| args.get(2).map_or(0.0, |b| b.data[o]);
    let mut y = Array::from_fn(shape, |i| bias(i[1]));
    let (per_in, per_out) = (w.shape[1], w.shape[0] / g.groups);
    each_product(&x.shape, shape, &w.shape[2..], g, |large, small, tap| {
        each_index(&[shape[0], shape[1], per_in], |i| {
            let &[n, o, c] = i else { unreachable!("three axes") };
            let value = x.get(&[&[n, o / per_out * per_in + c], large].concat())
                * w.get(&[&[o, c], tap].concat());
            let at = flat(&[&[n, o], small].concat(), shape);
            y.data[at] += value;
        });
    });
    y
}

fn conv_transpose(args: &[&Array], g: &ConvGeometry, shape: &[usize]) -> Array {
    let (x, w) = (args[0], args[1]);
    let bias = |o: usize| args.get(2).map_or(0.0, |b| b.data[o]);
    let mut y = Array::from_fn(shape, |i| bias(i[1]));
    let (per_in, per_out) = (x.shape[1] / g.groups, w.shape[1]);
    each_product(shape, &x.shape, &w.shape[2..], g, |large, small, tap| {
        each_index(&[shape[0], x.shape[1], per_out], |i| {
            let &[n, c, o] = i else { unreachable!("three axes") };
            let value = x.get(&[&[n, c], small].concat()) * w.get(&[&[c, o], tap].concat());
            let at = flat(&[&[n, c / per_in * per_out + o], large].concat(), shape);
            y.data[at] += value;
        });
    });
    y
}

fn flat(index: &[usize], shape: &[usize]) -> usize {
    index.iter().zip(shape).fold(0, |at, (&i, &n)| at * n + i)
}

fn split(x: &Array, axis: usize, sizes: &[usize], shapes: &[&[usize]]) -> Vec<Array> {
    let mut start = 0;
    let pieces = shapes.iter().zip(sizes).map(|(shape, n)| {
        let piece = Array::from_fn(shape, |i| {
            let mut source = i.to_vec();
            source[axis] += start;
            x.get(&source)
        });
        start += n;
        piece
    });
    pieces.collect()
}

fn padded(x: &Array, pads: &[(usize, usize)], mode: PadMode, index: &[usize]) -> f64 {
    let mut source = vec![0; index.len()];
    for (axis, &i) in index.iter().enumerate() {
        let (n, at) = (x.shape[axis] as i64, i as i64 - pads[axis].0 as i64);
        source[axis] = match mode {
            PadMode::Constant(value) if !(0..n).contains(&at) => return value,
            PadMode::Reflect if at < 0 => -at,
            PadMode::Reflect if at >= n => 2 * (n - 1) - at,
            _ => at.clamp(0, n - 1),
        } as usize;
    }
    x.get(&source)
}

fn layer_norm(args: &[&Array], axes: &[usize], epsilon: f64, gamma: bool, beta: bool) -> Array {
    let x = args[0];
    let kept = crate::resolve::reduced(&x.shape, axes, true);
    let mean = reduction(Reduce::Mean, x, axes, &kept);
    let centred = Array::from_fn(&x.shape, |i| x.get(i) - mean.get(i));
    let variance = reduction(Reduce::Mean, &centred.map(|d| d * d), axes, &kept);
    let affine = |a: &Array, i: &[usize]| a.get(&axes.iter().map(|&k| i[k]).collect::<Vec<_>>());
    Array::from_fn(&x.shape, |i| {
        let mut y = centred.get(i) / (variance.get(i) + epsilon).sqrt();
        if gamma {
            y *= affine(args[1], i);
        }
        if beta {
            y += affine(args[1 + usize::from(gamma)], i);
        }
        y
    })
}

fn attention(args: &[&Array], bool_mask: bool, shape: &[usize]) -> Array {
    let (q, k, v) = (args[0], args[1], args[2]);
    let r = q.shape.len();
    let mut scores = q.shape.clone();
    scores[r - 1] = k.shape[r - 2];
    let scale = 1.0 / (q.shape[r - 1] as f64).sqrt();
    let product = matmul(q, false, k, true, &scores);
    let masked = Array::from_fn(&scores, |i| {
        let score = product.get(i) * scale;
        match args.get(3).map(|mask| mask.get(i)) {
            Some(attends) if bool_mask => {
                if attends != 0.0 {
                    score
                } else {
                    f64::NEG_INFINITY
                }
            }
            Some(offset) => score + offset,
            None => score,
        }
    });
    matmul(&softmax(&masked, r - 1), false, v, false, shape)
}
