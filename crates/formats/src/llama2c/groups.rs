//! Matrices of version 2: each group of consecutive elements has a scale, its largest magnitude / 127, and
//! an element is its scale times a signed byte. All bytes come first, then all scales.

use gpt::GptConfig;
use std::io::{self, Read, Write};

/// Elements of the largest group.
const LARGEST: usize = 64;

/// Elements of a group: 64, halved until rows of both widths are made of whole groups, since `runq.c`
/// multiplies row by row.
pub(super) fn size(config: &GptConfig) -> usize {
    let divides =
        |size: &usize| config.n_embd.is_multiple_of(*size) && config.hidden.is_multiple_of(*size);
    std::iter::successors(Some(LARGEST), |size| Some(size / 2))
        .find(divides)
        .expect("one divides everything")
}

/// Bytes of a matrix of `count` elements.
pub(super) fn bytes(count: usize, group: usize) -> u64 {
    count as u64 + 4 * (count / group) as u64
}

/// Writes a matrix. Halves are rounded to even, as `export.py` does.
pub(super) fn write(to: &mut impl Write, group: usize, values: &[f32]) -> io::Result<()> {
    let scales: Vec<f32> = values.chunks(group).map(scale).collect();
    for (group, scale) in values.chunks(group).zip(&scales) {
        let number = |v: &f32| match *scale {
            0.0 => 0,
            scale => (v / scale).round_ties_even() as i8 as u8,
        };
        to.write_all(&group.iter().map(number).collect::<Vec<u8>>())?;
    }
    to.write_all(bytemuck::cast_slice(&scales))
}

fn scale(group: &[f32]) -> f32 {
    group.iter().fold(0f32, |most, v| most.max(v.abs())) / 127.0
}

/// Reads a matrix.
pub(super) fn read(from: &mut impl Read, group: usize, to: &mut [f32]) -> io::Result<()> {
    let mut numbers = vec![0i8; to.len()];
    from.read_exact(bytemuck::cast_slice_mut(&mut numbers))?;
    let mut scales = vec![0f32; to.len() / group];
    from.read_exact(bytemuck::cast_slice_mut(&mut scales))?;
    let groups = to.chunks_mut(group).zip(numbers.chunks(group)).zip(scales);
    groups.for_each(|((to, numbers), scale)| {
        to.iter_mut().zip(numbers).for_each(|(v, n)| *v = f32::from(*n) * scale);
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_divide_both_widths() {
        let size = |n_embd, hidden| size(&GptConfig { n_embd, hidden, ..GptConfig::default() });
        assert_eq!(size(64, 128), 64);
        assert_eq!(size(288, 768), 32, "the 15M model of llama2.c");
        assert_eq!(size(64, 172), 4, "its 260K model");
        assert_eq!(size(3, 64), 1);
    }

    /// All bytes, then all scales; halves go to the even number, and a group of zeros has scale 0.
    #[test]
    fn a_matrix_is_laid_out_as_the_exporter_does() {
        let values = [127.0, 2.5, -3.5, 0.0, 0.0, 0.0, 0.0, 0.0, -254.0, 1.0, 3.0, 254.0];
        let mut bytes = vec![];
        write(&mut bytes, 4, &values).unwrap();
        assert_eq!(bytes[..12], [127, 2, 252, 0, 0, 0, 0, 0, 129, 0, 2, 127]);
        assert_eq!(bytes[12..], [1f32, 0.0, 2.0].map(f32::to_le_bytes).concat());
        assert_eq!(bytes.len() as u64, super::bytes(12, 4));
        let mut back = [1.0; 12];
        read(&mut &bytes[..], 4, &mut back).unwrap();
        assert_eq!(back, [127.0, 2.0, -4.0, 0.0, 0.0, 0.0, 0.0, 0.0, -254.0, 0.0, 4.0, 254.0]);
        assert!(read(&mut &bytes[..20], 4, &mut back).is_err());
    }
}
