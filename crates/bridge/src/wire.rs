//! Elements as C has them, in their own type and the machine's byte order, and as f32.

use crate::error::BridgeError;
use half::f16;
use mil::{DType, TensorType};

/// Bytes of an element of a port.
///
/// # Errors
/// For types that have no form in C: text, 64-bit integers (surfaces do not hold them) and integers
/// of less than a byte.
pub(crate) fn element_bytes(port: &str, ty: &TensorType) -> Result<usize, BridgeError> {
    use DType::*;
    match ty.dtype {
        Int8 | UInt8 | Bool => Ok(1),
        Fp16 | Int16 | UInt16 => Ok(2),
        Fp32 | Int32 | UInt32 => Ok(4),
        dtype => Err(BridgeError::ElementType { port: port.to_owned(), dtype }),
    }
}

/// Reads elements of `dtype` from `bytes`, which hold as many as `to`.
pub(crate) fn decode(dtype: DType, bytes: &[u8], to: &mut [f32]) {
    fn each<const N: usize>(bytes: &[u8], to: &mut [f32], read: impl Fn([u8; N]) -> f32) {
        let (elements, _) = bytes.as_chunks::<N>();
        to.iter_mut().zip(elements).for_each(|(to, &from)| *to = read(from));
    }
    match dtype {
        DType::Fp16 => each(bytes, to, |b| f16::from_ne_bytes(b).to_f32()),
        DType::Fp32 => each(bytes, to, f32::from_ne_bytes),
        DType::Int8 => each(bytes, to, |b| f32::from(i8::from_ne_bytes(b))),
        DType::UInt8 => each(bytes, to, |b: [u8; 1]| f32::from(b[0])),
        DType::Int16 => each(bytes, to, |b| f32::from(i16::from_ne_bytes(b))),
        DType::UInt16 => each(bytes, to, |b| f32::from(u16::from_ne_bytes(b))),
        DType::Int32 => each(bytes, to, |b| i32::from_ne_bytes(b) as f32),
        DType::UInt32 => each(bytes, to, |b| u32::from_ne_bytes(b) as f32),
        _ => each(bytes, to, |b: [u8; 1]| f32::from(u8::from(b[0] != 0))),
    }
}

/// Writes `from` as elements of `dtype` to `bytes`, which hold as many: fp16 to nearest even,
/// integers saturating.
pub(crate) fn encode(dtype: DType, from: &[f32], bytes: &mut [u8]) {
    fn each<const N: usize>(from: &[f32], bytes: &mut [u8], write: impl Fn(f32) -> [u8; N]) {
        let (elements, _) = bytes.as_chunks_mut::<N>();
        elements.iter_mut().zip(from).for_each(|(to, &from)| *to = write(from));
    }
    match dtype {
        DType::Fp16 => each(from, bytes, |x| f16::from_f32(x).to_ne_bytes()),
        DType::Fp32 => each(from, bytes, f32::to_ne_bytes),
        DType::Int8 => each(from, bytes, |x| (x as i8).to_ne_bytes()),
        DType::UInt8 => each(from, bytes, |x| [x as u8]),
        DType::Int16 => each(from, bytes, |x| (x as i16).to_ne_bytes()),
        DType::UInt16 => each(from, bytes, |x| (x as u16).to_ne_bytes()),
        DType::Int32 => each(from, bytes, |x| (x as i32).to_ne_bytes()),
        DType::UInt32 => each(from, bytes, |x| (x as u32).to_ne_bytes()),
        _ => each(from, bytes, |x| [u8::from(x != 0.0)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_type_comes_back() {
        use DType::*;
        let values = [0.0, 1.0, 2.0, 100.0];
        for dtype in [Fp16, Fp32, Int8, UInt8, Int16, UInt16, Int32, UInt32, Bool] {
            let size = element_bytes("x", &TensorType::new(dtype, [4])).unwrap();
            let (mut bytes, mut back) = (vec![0u8; 4 * size], [9.0; 4]);
            encode(dtype, &values, &mut bytes);
            decode(dtype, &bytes, &mut back);
            let want = if dtype == Bool { [0.0, 1.0, 1.0, 1.0] } else { values };
            assert_eq!(back, want, "{dtype}");
        }
        for dtype in [Int4, UInt1, Int64, UInt64, String] {
            assert!(element_bytes("x", &TensorType::new(dtype, [4])).is_err());
        }
    }

    #[test]
    fn integers_saturate() {
        let mut bytes = [0u8; 3];
        encode(DType::Int8, &[200.0, -200.0, f32::NAN], &mut bytes);
        assert_eq!(bytes, [127, 128, 0]);
    }
}
