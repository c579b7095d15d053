//! Pooling, norms and activations, element by element.

use super::Array;
use crate::resolve::{Activation, Norm, Pool, Window};

/// Windows of x [N, C, spatial…], one per element of `shape`.
pub(super) fn pool(x: &Array, pool: &Pool, shape: &[usize]) -> Array {
    Array::from_fn(shape, |i| {
        // Per spatial axis the part of the window that is in the input, and how much is in the padded
        // one.
        let mut ranges = vec![];
        let mut padded = 1;
        for axis in 0..pool.kernel.len() {
            let ((before, after), n) = (pool.pads[axis], x.shape[axis + 2]);
            let start = i[axis + 2] * pool.strides[axis];
            let end = (start + pool.kernel[axis]).min(before + n + after);
            padded *= end - start;
            ranges.push(start.max(before) - before..end.clamp(before, before + n) - before);
        }
        let extents: Vec<usize> = ranges.iter().map(ExactSizeIterator::len).collect();
        let mut inside = vec![];
        super::each_index(&extents, |tap| {
            let place = ranges.iter().zip(tap).map(|(range, t)| range.start + t);
            inside.push(x.get(&i[..2].iter().copied().chain(place).collect::<Vec<_>>()));
        });
        match pool.window {
            Window::Max => inside.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            Window::L2 => inside.iter().map(|v| v * v).sum::<f64>().sqrt(),
            Window::Average { exclude_padding } => {
                let count = if exclude_padding { inside.len() } else { padded };
                inside.iter().sum::<f64>() / count as f64
            }
        }
    })
}

/// Inputs x and what belongs to the norm.
pub(super) fn norm(args: &[&Array], norm: Norm) -> Array {
    let x = args[0];
    let affine = |y: f64, c: usize, first: usize, gamma: bool, beta: bool| {
        let gain = if gamma { args[first].data[c] } else { 1.0 };
        let offset = if beta { args[first + usize::from(gamma)].data[c] } else { 0.0 };
        y * gain + offset
    };
    match norm {
        Norm::Batch { epsilon, gamma, beta } => Array::from_fn(&x.shape, |i| {
            let c = i[1];
            let y = (x.get(i) - args[1].data[c]) / (args[2].data[c] + epsilon).sqrt();
            affine(y, c, 3, gamma, beta)
        }),
        Norm::Instance { epsilon, gamma, beta } => {
            let area: usize = x.shape[2..].iter().product();
            let moments: Vec<(f64, f64)> = (x.data.chunks(area))
                .map(|image| {
                    let mean = image.iter().sum::<f64>() / area as f64;
                    let square = image.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>();
                    (mean, square / area as f64)
                })
                .collect();
            Array::from_fn(&x.shape, |i| {
                let (mean, variance) = moments[i[0] * x.shape[1] + i[1]];
                affine((x.get(i) - mean) / (variance + epsilon).sqrt(), i[1], 1, gamma, beta)
            })
        }
        Norm::L2 { epsilon } => {
            let size: usize = x.shape[x.shape.len() - 3..].iter().product();
            let data = x.data.chunks(size).flat_map(|part| {
                let length = (part.iter().map(|v| v * v).sum::<f64>() + epsilon).sqrt();
                part.iter().map(move |v| v / length)
            });
            Array::new(x.shape.clone(), data.collect())
        }
        Norm::LocalResponse { size, alpha, beta, k } => {
            let axis = x.shape.len() - 3;
            Array::from_fn(&x.shape, |i| {
                let first = i[axis] as i64 - (size / 2) as i64;
                let square = |at: i64| match usize::try_from(at) {
                    Ok(at) if at < x.shape[axis] => {
                        let mut source = i.to_vec();
                        source[axis] = at;
                        x.get(&source).powi(2)
                    }
                    _ => 0.0,
                };
                let sum: f64 = (first..first + size as i64).map(square).sum();
                x.get(i) / (k + alpha / size as f64 * sum).powf(beta)
            })
        }
    }
}

/// Inputs x, then alpha and beta where they are one per channel.
pub(super) fn activation(args: &[&Array], activation: Activation) -> Array {
    let x = args[0];
    Array::from_fn(&x.shape, |i| {
        let v = x.get(i);
        let channel = |arg: usize| args[arg].data[i[1]];
        match activation {
            Activation::ScaledTanh { alpha, beta } => alpha * (beta * v).tanh(),
            Activation::ClampedRelu { alpha, beta } if v < 0.0 => (alpha * v).min(beta),
            Activation::ClampedRelu { beta, .. } => v.min(beta),
            Activation::ThresholdedRelu { alpha } if v < alpha => 0.0,
            Activation::ThresholdedRelu { .. } => v,
            Activation::Prelu if v < 0.0 => channel(1) * v,
            Activation::Prelu => v,
            Activation::SoftplusParametric => {
                let t = channel(2) * v;
                channel(1) * (t.max(0.0) + (-t.abs()).exp().ln_1p())
            }
        }
    })
}
