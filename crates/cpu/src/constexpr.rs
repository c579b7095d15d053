//! Constants stored in fewer bits, unpacked once, when a program is lowered.

use mil::TensorType;
use mil::resolve::Constexpr;

/// An input: its type and elements.
pub(crate) type Known<'a> = (&'a TensorType, Vec<f64>);

/// The elements of the constant of type `result`, before rounding.
///
/// # Errors
/// When a mask does not have one bit set per element.
pub(crate) fn unpack(
    kind: Constexpr,
    inputs: &[Known<'_>],
    result: &TensorType,
) -> Result<Vec<f64>, String> {
    let (first, data) = &inputs[0];
    let count = result.count();
    Ok(match kind {
        Constexpr::Cast => data.clone(),
        Constexpr::Affine { axis } => {
            let inner: usize = first.shape[axis + 1..].iter().product();
            let spread = |(ty, v): &Known<'_>| {
                let one = ty.shape.is_empty();
                let n = first.shape[axis];
                (0..n).map(|i| v[if one { 0 } else { i }]).collect::<Vec<_>>()
            };
            let (zero, scale) = (spread(&inputs[1]), spread(&inputs[2]));
            let rows = data.chunks(inner.max(1)).enumerate();
            rows.flat_map(|(row, values)| {
                let at = row % scale.len();
                let (zero, scale) = (zero[at], scale[at]);
                values.iter().map(move |v| (v - zero) * scale)
            })
            .collect()
        }
        Constexpr::Blockwise => {
            let (blocks, scale) = &inputs[1];
            let at = places(&first.shape, &blocks.shape);
            let offset = |i: usize| inputs.get(2).map_or(0.0, |(_, offset)| offset[i]);
            data.iter().zip(at).map(|(v, at)| (v - offset(at)) * scale[at]).collect()
        }
        Constexpr::PackedLut { bits } => {
            let mut bytes = data.iter().map(|&byte| byte as u32);
            let (mut held, mut width) = (0, 0);
            let mut next = || {
                if width < bits {
                    held |= bytes.next().unwrap_or(0) << width;
                    width += 8;
                }
                let index = held & ((1 << bits) - 1);
                (held, width) = (held >> bits, width - bits);
                inputs[1].1[index as usize]
            };
            (0..count).map(|_| next()).collect()
        }
        Constexpr::Lut { axis } => {
            let (ty, lut) = &inputs[1];
            let rank = first.rank();
            let (palettes, width) = (ty.shape[rank], ty.shape[rank + 1]);
            let tables = places(&first.shape, &ty.shape[..rank]);
            let entry: Vec<usize> = (data.iter().zip(tables))
                .map(|(&index, table)| (table * palettes + index as usize) * width)
                .collect();
            // Vectors go between the axis and those inside of it.
            let inner: usize = first.shape[axis + 1..].iter().product();
            (entry.chunks(inner.max(1)))
                .flat_map(|row| (0..width).flat_map(move |k| row.iter().map(move |e| lut[e + k])))
                .collect()
        }
        Constexpr::PackedSparse => {
            let bit = |i: usize| inputs[1].1[i / 8] as u32 >> (i % 8) & 1 == 1;
            fill(data, (0..count.next_multiple_of(8)).map(bit), count)?
        }
        Constexpr::Sparse => fill(data, inputs[1].1.iter().map(|&m| m != 0.0), count)?,
    })
}

/// For every element of `shape`, the number of its block of as many as `blocks` per axis.
fn places(shape: &[usize], blocks: &[usize]) -> Vec<usize> {
    let mut all = vec![0];
    for (&extent, &blocks) in shape.iter().zip(blocks) {
        let size = extent / blocks;
        all = (all.iter())
            .flat_map(|outer| (0..extent).map(move |i| outer * blocks + i / size))
            .collect();
    }
    all
}

/// `data` where `mask` is set, zero elsewhere.
fn fill(data: &[f64], mask: impl Iterator<Item = bool>, count: usize) -> Result<Vec<f64>, String> {
    let (mut result, mut used) = (Vec::with_capacity(count), 0);
    for set in mask {
        result.push(if set { data.get(used).copied().unwrap_or(0.0) } else { 0.0 });
        used += usize::from(set);
    }
    if used != data.len() {
        return Err(format!("{used} bits of the mask are set for {} elements", data.len()));
    }
    result.truncate(count);
    Ok(result)
}
