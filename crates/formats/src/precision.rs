//! How a tensor's numbers are stored: as floats, or as blocks of 32 signed bytes with a scale.

use half::{bf16, f16};
use std::fmt;

/// How the matrices of a model are stored. Gains and biases are f32 where a format lets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// The same bits.
    F32,
    /// Rounded to the nearest f16.
    F16,
    /// Rounded to the nearest bf16, the upper half of an f32.
    Bf16,
    /// Blocks of 32 values: an f16 scale, and 32 signed bytes that it multiplies (llama.cpp).
    Q8_0,
}

/// Values of a block of [`Precision::Q8_0`], and its bytes.
const BLOCK: usize = 32;
const BLOCK_BYTES: usize = 2 + BLOCK;

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::F32 => "F32",
            Precision::F16 => "F16",
            Precision::Bf16 => "BF16",
            Precision::Q8_0 => "Q8_0",
        })
    }
}

impl Precision {
    /// Values and bytes of the smallest piece that stands alone.
    pub(crate) fn block(self) -> (usize, usize) {
        match self {
            Precision::F32 => (1, 4),
            Precision::F16 | Precision::Bf16 => (1, 2),
            Precision::Q8_0 => (BLOCK, BLOCK_BYTES),
        }
    }

    /// True if rows of this many values are made of whole blocks.
    pub(crate) fn divides(self, row: usize) -> bool {
        row.is_multiple_of(self.block().0)
    }

    /// Bytes of a tensor; none if its rows are not made of whole blocks, or there are too many.
    pub(crate) fn bytes(self, shape: &[usize]) -> Option<u64> {
        let (values, bytes) = self.block();
        let count = shape.iter().try_fold(1usize, |n, extent| n.checked_mul(*extent))?;
        let whole = shape.last().is_none_or(|row| self.divides(*row));
        whole.then(|| (count / values).checked_mul(bytes).map(|n| n as u64)).flatten()
    }

    /// Returns the first value that is finite here and infinite once it is rounded.
    pub(crate) fn beyond(self, values: &[f32]) -> Option<f32> {
        let fits = |v: f32| match self {
            Precision::F32 => true,
            Precision::F16 => f16::from_f32(v).is_finite(),
            Precision::Bf16 => bf16::from_f32(v).is_finite(),
            Precision::Q8_0 => f16::from_f32(v.abs() / 127.0).is_finite(),
        };
        values.iter().copied().find(|&v| !fits(v))
    }

    /// Appends the bytes of whole blocks.
    pub(crate) fn encode(self, values: &[f32], to: &mut Vec<u8>) {
        match self {
            Precision::F32 => to.extend_from_slice(bytemuck::cast_slice(values)),
            Precision::F16 => {
                to.extend(values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()))
            }
            Precision::Bf16 => {
                to.extend(values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()));
            }
            Precision::Q8_0 => values.chunks(BLOCK).for_each(|block| encode_block(block, to)),
        }
    }

    /// Reads the values of whole blocks.
    pub(crate) fn decode(self, bytes: &[u8], to: &mut [f32]) {
        match self {
            Precision::F32 => each(bytes, to, f32::from_le_bytes),
            Precision::F16 => each(bytes, to, |b| f16::from_le_bytes(b).to_f32()),
            Precision::Bf16 => each(bytes, to, |b| bf16::from_le_bytes(b).to_f32()),
            Precision::Q8_0 => {
                let blocks = bytes.as_chunks::<BLOCK_BYTES>().0;
                for (block, to) in blocks.iter().zip(to.chunks_exact_mut(BLOCK)) {
                    let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
                    let numbers = block[2..].iter().map(|&b| f32::from(b as i8));
                    to.iter_mut().zip(numbers).for_each(|(v, n)| *v = scale * n);
                }
            }
        }
    }
}

fn each<const N: usize>(bytes: &[u8], to: &mut [f32], f: impl Fn([u8; N]) -> f32) {
    to.iter_mut().zip(bytes.as_chunks().0).for_each(|(v, b)| *v = f(*b));
}

/// The largest magnitude becomes 127, and halves are rounded away from zero. The numbers are quotients by
/// the f32 scale; what is stored is that scale as f16.
fn encode_block(block: &[f32], to: &mut Vec<u8>) {
    let scale = block.iter().fold(0f32, |most, v| most.max(v.abs())) / 127.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    to.extend(f16::from_f32(scale).to_le_bytes());
    to.extend(block.iter().map(|v| (v * inverse).round() as i8 as u8));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One block by the rule of Q8_0: value = scale · number.
    #[test]
    fn blocks_of_eight_bits_are_scaled_numbers() {
        let mut block = f16::from_f32(0.5).to_le_bytes().to_vec();
        block.extend((0..32).map(|i| (i - 16) as i8 as u8));
        let mut values = [0.0; 32];
        Precision::Q8_0.decode(&block, &mut values);
        assert_eq!(values, std::array::from_fn(|i| 0.5 * (i as f32 - 16.0)));
        assert_eq!(Precision::Q8_0.bytes(&[3, 64]), Some(3 * 2 * 34));
        assert_eq!(Precision::Q8_0.bytes(&[64, 3]), None, "rows are made of whole blocks");
    }

    /// Halves go away from zero, and the scale that divides is not the rounded one.
    #[test]
    fn blocks_are_encoded_as_llama_cpp_does() {
        let mut values = [0.0; 32];
        values[..6].copy_from_slice(&[127.0, 0.5, -0.5, 1.5, -2.5, 0.49]);
        let mut bytes = vec![];
        Precision::Q8_0.encode(&values, &mut bytes);
        assert_eq!(bytes[..8], [0x00, 0x3c, 127, 1, 255, 2, 253, 0]);
        // 1/127 is no f16: 0.0078740157 is stored as 0.0078735352.
        let mut values = [0.0; 64];
        (values[0], values[1]) = (-1.0, 0.5);
        let mut bytes = vec![];
        Precision::Q8_0.encode(&values, &mut bytes);
        assert_eq!(bytes[..4], [0x08, 0x20, 129, 64]);
        assert_eq!(bytes[34..], [0; 34], "a block of zeros");
        let mut back = [0.0; 64];
        Precision::Q8_0.decode(&bytes, &mut back);
        assert_eq!(back[..2], [-127.0 * 0.007_873_535, 64.0 * 0.007_873_535]);
    }

    #[test]
    fn floats_are_rounded_to_the_nearest() {
        // 1 + 2^-8 lies between two bf16 and goes to the even one.
        for (precision, value, stored) in [
            (Precision::F16, 1.0 + 1.0 / 2048.0, 1.0f32),
            (Precision::F16, 1.0 + 3.0 / 2048.0, 1.0 + 2.0 / 1024.0),
            (Precision::Bf16, 1.0 + 1.0 / 256.0, 1.0),
            (Precision::Bf16, 1.0 + 3.0 / 256.0, 1.0 + 2.0 / 128.0),
            (Precision::F32, 1.0 + 1.0 / 256.0, 1.0 + 1.0 / 256.0),
        ] {
            let (mut bytes, mut back) = (vec![], [0.0]);
            precision.encode(&[value], &mut bytes);
            precision.decode(&bytes, &mut back);
            assert_eq!(back[0], stored, "{precision}");
        }
    }

    #[test]
    fn values_beyond_a_format_are_found() {
        assert_eq!(Precision::F16.beyond(&[1.0, 65504.0, -70_000.0]), Some(-70_000.0));
        assert_eq!(Precision::Bf16.beyond(&[70_000.0, f32::MAX]), Some(f32::MAX));
        assert_eq!(Precision::Q8_0.beyond(&[8e6]), None);
        assert_eq!(Precision::Q8_0.beyond(&[9e6]), Some(9e6));
        assert_eq!(Precision::F32.beyond(&[f32::MAX]), None);
    }
}
