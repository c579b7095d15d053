//! Operations that move, mix, join or order elements, element by element.

use super::Array;
use crate::resolve::{Einsum, Rearrange, Resample};

pub(super) fn rearrange(x: &Array, rearrange: Rearrange, shape: &[usize]) -> Array {
    use Rearrange::*;
    Array::from_fn(shape, |r| {
        let [n, c, h, w] = [r[0], r[1], r[2], r[3]];
        match rearrange {
            PixelShuffle { factor: f } => x.get(&[n, c * f * f + h % f * f + w % f, h / f, w / f]),
            DepthToSpace { block: f } => {
                x.get(&[n, (h % f * f + w % f) * shape[1] + c, h / f, w / f])
            }
            PixelUnshuffle { factor: f } => {
                x.get(&[n, c / (f * f), h * f + c / f % f, w * f + c % f])
            }
            SpaceToDepth { block: f } => {
                let (place, c) = (c / x.shape[1], c % x.shape[1]);
                x.get(&[n, c, h * f + place / f, w * f + place % f])
            }
            SpaceToBatch { block: [a, b], pads } => {
                let (place, n) = (n / x.shape[0], n % x.shape[0]);
                let h = (h * a + place / b).wrapping_sub(pads[0].0);
                let w = (w * b + place % b).wrapping_sub(pads[1].0);
                if h < x.shape[2] && w < x.shape[3] { x.get(&[n, c, h, w]) } else { 0.0 }
            }
            BatchToSpace { block: [a, b], crops } => {
                let (h, w) = (h + crops[0].0, w + crops[1].0);
                x.get(&[(h % a * b + w % b) * shape[0] + n, c, h / a, w / b])
            }
        }
    })
}

pub(super) fn resample(x: &Array, resample: Resample, shape: &[usize]) -> Array {
    let (rank, last) = (shape.len(), shape.len() - 1);
    Array::from_fn(shape, |i| {
        let along = |axis: usize| resample.neighbours(i[axis], shape[axis], x.shape[axis]);
        let at = |h: usize, w: usize| x.get(&[&i[..rank - 2], &[h, w]].concat());
        let ((h0, h1, v), (w0, w1, u)) = (along(last - 1), along(last));
        let mix = |a: f64, b: f64, t: f64| if t == 0.0 { a } else { a * (1.0 - t) + b * t };
        mix(mix(at(h0, w0), at(h0, w1), u), mix(at(h1, w0), at(h1, w1), u), v)
    })
}

pub(super) fn einsum(x: &Array, y: &Array, einsum: &Einsum, shape: &[usize]) -> Array {
    let extents = einsum.extents(&x.shape, &y.shape);
    let summed: Vec<usize> = (0..extents.len()).filter(|l| !einsum.result.contains(l)).collect();
    let over: Vec<usize> = summed.iter().map(|&label| extents[label]).collect();
    Array::from_fn(shape, |i| {
        let mut index = vec![0; extents.len()];
        einsum.result.iter().zip(i).for_each(|(&label, &at)| index[label] = at);
        let mut sum = 0.0;
        super::each_index(&over, |inner| {
            summed.iter().zip(inner).for_each(|(&label, &at)| index[label] = at);
            let of = |labels: &[usize]| labels.iter().map(|&l| index[l]).collect::<Vec<_>>();
            sum += x.get(&of(&einsum.x)) * y.get(&of(&einsum.y));
        });
        sum
    })
}

/// The first elements of every sequence along `axis` in order, and where they were; of equal ones
/// the earlier comes first.
pub(super) fn topk(x: &Array, axis: usize, ascending: bool, shape: &[usize]) -> Vec<Array> {
    let mut lines = shape.to_vec();
    lines[axis] = 1;
    let [mut values, mut places] = [(); 2].map(|()| Array::from_fn(shape, |_| 0.0));
    super::each_index(&lines, |line| {
        let mut source = line.to_vec();
        let mut order: Vec<(f64, usize)> = (0..x.shape[axis])
            .map(|at| {
                source[axis] = at;
                (x.get(&source), at)
            })
            .collect();
        order.sort_by(|a, b| {
            let order = a.0.partial_cmp(&b.0).unwrap_or(std::cmp::Ordering::Equal);
            if ascending { order } else { order.reverse() }
        });
        for (k, &(value, place)) in order.iter().take(shape[axis]).enumerate() {
            source[axis] = k;
            let at = source.iter().zip(shape).fold(0, |at, (&i, &n)| at * n + i);
            (values.data[at], places.data[at]) = (value, place as f64);
        }
    });
    vec![values, places]
}
