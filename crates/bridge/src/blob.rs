//! Weight files of one matrix, as the seed's functions make them.

use crate::error::BridgeError;
use half::f16;
use mil::blob::BlobWriter;
use mil::{DType, Data};

/// Bytes before the data: the file's header and the record of its only tensor.
const HEADER: usize = 128;

/// rows · cols, if both are at least 1 and there is memory for the file.
pub(crate) fn count(rows: i64, cols: i64, element: usize) -> Result<usize, BridgeError> {
    let wrong = BridgeError::Matrix { rows, cols };
    let positive = |n: i64| usize::try_from(n).ok().filter(|&n| n > 0);
    let (r, c) = positive(rows).zip(positive(cols)).ok_or(wrong.clone())?;
    let n = r.checked_mul(c).ok_or(wrong.clone())?;
    let bytes = n.checked_mul(element + 4).ok_or(wrong)?;
    // The caller's matrix is at least as large, so that this only fails for sizes made up.
    Vec::<u8>::new().try_reserve_exact(bytes).map_err(|_| BridgeError::NoMemory { bytes })?;
    Ok(n)
}

fn file(dtype: DType, data: &Data) -> Vec<u8> {
    let mut writer = BlobWriter::new();
    writer.push(dtype, data).expect("both element types have codes");
    let mut bytes = writer.finish();
    bytes.truncate(HEADER + dtype.bytes(data.len()));
    bytes
}

/// An fp16 weight file of `from` [rows, cols], row by row.
pub(crate) fn fp16(from: &[f32]) -> Vec<u8> {
    file(DType::Fp16, &Data::Fp16(from.iter().map(|&x| f16::from_f32(x)).collect()))
}

/// An fp16 weight file of the transpose, [cols, rows], of `from` [rows, cols].
pub(crate) fn fp16_transposed(from: &[f32], cols: usize) -> Vec<u8> {
    let column = |j| from[j..].iter().step_by(cols);
    file(DType::Fp16, &Data::Fp16((0..cols).flat_map(column).map(|&x| f16::from_f32(x)).collect()))
}

/// An int8 weight file of `from`.
pub(crate) fn int8(from: &[i8]) -> Vec<u8> {
    file(DType::Int8, &Data::Int(from.iter().map(|&x| i64::from(x)).collect()))
}

/// The int8 weight file and the scale of the whole matrix, max |w| / 127 (1 for a matrix of zeros):
/// w ≈ scale · q, off by at most scale / 2.
pub(crate) fn quantized(from: &[f32]) -> Result<(Vec<u8>, f32), BridgeError> {
    if let Some(index) = from.iter().position(|x| !x.is_finite()) {
        return Err(BridgeError::NotFinite { index, value: from[index] });
    }
    let largest = from.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    // A scale that underflows would divide by zero; such weights are zeros in fp16 as well.
    let scale = Some(largest / 127.0).filter(|&s| s >= f32::MIN_POSITIVE).unwrap_or(1.0);
    let quantum = |x: &f32| (x / scale).round().clamp(-127.0, 127.0) as i64;
    Ok((file(DType::Int8, &Data::Int(from.iter().map(quantum).collect())), scale))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mil::TensorType;

    const MATRIX: [f32; 6] = [1.0, -2.0, 3.0, 4.0, 5.5, -127.0];

    #[test]
    fn files_are_read_back_by_the_language() {
        let plain = fp16(&MATRIX);
        assert_eq!(plain.len(), 128 + 12);
        assert_eq!(plain[64..72], [0xef, 0xbe, 0xad, 0xde, 1, 0, 0, 0]);
        let read =
            |file: &[u8], dtype| mil::blob::read(file, 64, &TensorType::new(dtype, [6])).unwrap();
        assert_eq!(read(&plain, DType::Fp16), Data::Fp16(MATRIX.map(f16::from_f32).to_vec()));
        let transposed = [1.0, 4.0, -2.0, 5.5, 3.0, -127.0].map(f16::from_f32);
        let file = fp16_transposed(&MATRIX, 3);
        assert_eq!(read(&file, DType::Fp16), Data::Fp16(transposed.to_vec()));
        assert_eq!(read(&int8(&[-128, 0, 127, 1, 2, 3]), DType::Int8).len(), 6);
        let (file, scale) = quantized(&MATRIX).unwrap();
        assert_eq!(scale, 1.0);
        assert_eq!(read(&file, DType::Int8), Data::Int(vec![1, -2, 3, 4, 6, -127]));
    }

    #[test]
    fn zeros_and_infinities() {
        assert_eq!(quantized(&[0.0; 3]).unwrap().1, 1.0);
        assert_eq!(quantized(&[f32::MIN_POSITIVE; 2]).unwrap().1, 1.0);
        let error = quantized(&[0.0, f32::INFINITY]).unwrap_err();
        assert_eq!(error, BridgeError::NotFinite { index: 1, value: f32::INFINITY });
    }

    #[test]
    fn sizes_are_checked() {
        assert_eq!(count(2, 3, 2), Ok(6));
        for (rows, cols) in [(0, 3), (3, 0), (-1, 3), (i64::MAX, i64::MAX), (1, i64::MAX)] {
            assert_eq!(count(rows, cols, 2), Err(BridgeError::Matrix { rows, cols }));
        }
        let most = i64::from(i32::MAX);
        assert!(matches!(
            count(most, most, 2),
            Err(BridgeError::Matrix { .. } | BridgeError::NoMemory { .. })
        ));
    }
}
