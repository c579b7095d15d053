//! Constants stored in fewer bits, element by element.

use super::Array;
use crate::resolve::Constexpr;

/// The constant of `shape` that `args` stand for.
///
/// # Errors
/// When a mask does not have one bit set per element.
pub(super) fn expand(kind: Constexpr, args: &[&Array], shape: &[usize]) -> Result<Array, String> {
    Ok(match kind {
        Constexpr::Affine { axis } => Array::from_fn(shape, |i| {
            let at = |a: &Array| if a.shape.is_empty() { a.data[0] } else { a.data[i[axis]] };
            (args[0].get(i) - at(args[1])) * at(args[2])
        }),
        Constexpr::Blockwise => Array::from_fn(shape, |i| {
            let block = block(i, shape, &args[1].shape);
            let offset = args.get(2).map_or(0.0, |offset| offset.get(&block));
            (args[0].get(i) - offset) * args[1].get(&block)
        }),
        Constexpr::Cast => args[0].clone(),
        Constexpr::PackedLut { bits } => {
            let entry =
                |i: usize| (0..bits).map(|b| bit(args[0], i * bits + b) << b).sum::<usize>();
            let data = (0..shape.iter().product()).map(|i| args[1].data[entry(i)]).collect();
            Array::new(shape, data)
        }
        Constexpr::Lut { axis } => Array::from_fn(shape, |i| {
            let (indices, lut) = (args[0], args[1]);
            let width = lut.shape[lut.shape.len() - 1];
            let mut source = i.to_vec();
            source[axis] /= width;
            let palette = indices.get(&source) as usize;
            let blocks = block(&source, &indices.shape, &lut.shape[..i.len()]);
            lut.get(&[&blocks[..], &[palette, i[axis] % width]].concat())
        }),
        Constexpr::PackedSparse => {
            scatter(args[0], shape, &|i| bit(args[1], i) == 1, bits_set(args[1]))?
        }
        Constexpr::Sparse => {
            let ones = args[1].data.iter().filter(|&&m| m != 0.0).count();
            scatter(args[0], shape, &|i| args[1].data[i] != 0.0, ones)?
        }
    })
}

/// The block that an index of `shape` is in, of as many as `blocks` per axis.
fn block(index: &[usize], shape: &[usize], blocks: &[usize]) -> Vec<usize> {
    (0..index.len()).map(|i| index[i] / (shape[i] / blocks[i])).collect()
}

/// A bit of a vector of bytes, the lowest of each byte first.
fn bit(bytes: &Array, at: usize) -> usize {
    (bytes.data[at / 8] as usize >> (at % 8)) & 1
}

fn bits_set(bytes: &Array) -> usize {
    bytes.data.iter().map(|&byte| (byte as u8).count_ones() as usize).sum()
}

fn scatter(
    nonzero: &Array,
    shape: &[usize],
    set: &dyn Fn(usize) -> bool,
    ones: usize,
) -> Result<Array, String> {
    if ones != nonzero.data.len() {
        return Err(format!("{ones} bits of the mask are set for {} elements", nonzero.data.len()));
    }
    let mut next = nonzero.data.iter();
    let data = (0..shape.iter().product())
        .map(|i| if set(i) { *next.next().unwrap_or(&0.0) } else { 0.0 })
        .collect();
    Ok(Array::new(shape, data))
}
