//! Elements as packed little-endian bytes.

use half::f16;
use mil::DType;

/// An element type that takes less than a byte, 64 bits, or text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("elements of type {0} have no form as bytes")]
pub struct NoBytes(pub DType);

/// Appends `values` as packed little-endian elements of `dtype`. Floats round to nearest even,
/// integers are truncated and clamped to their range.
///
/// # Errors
/// [`NoBytes`] for element types that take less than a byte, 64 bits, or text.
pub fn encode(dtype: DType, values: &[f32], to: &mut Vec<u8>) -> Result<(), NoBytes> {
    macro_rules! each {
        ($convert:expr) => {
            values.iter().for_each(|&v| to.extend($convert(v).to_le_bytes()))
        };
    }
    match dtype {
        DType::Fp16 => each!(f16::from_f32),
        DType::Fp32 => each!(|v: f32| v),
        DType::Int8 => each!(|v: f32| v as i8),
        DType::UInt8 => each!(|v: f32| v as u8),
        DType::Bool => each!(|v: f32| u8::from(v != 0.0)),
        DType::Int16 => each!(|v: f32| v as i16),
        DType::UInt16 => each!(|v: f32| v as u16),
        DType::Int32 => each!(|v: f32| v as i32),
        DType::UInt32 => each!(|v: f32| v as u32),
        other => return Err(NoBytes(other)),
    }
    Ok(())
}

/// Elements of packed little-endian bytes; bytes after the last whole element are left out.
///
/// # Errors
/// As [`encode`].
pub fn decode(dtype: DType, bytes: &[u8]) -> Result<Vec<f32>, NoBytes> {
    macro_rules! each {
        ($ty:ty, $convert:expr) => {
            (bytes.as_chunks::<{ std::mem::size_of::<$ty>() }>().0.iter())
                .map(|b| $convert(<$ty>::from_le_bytes(*b)))
                .collect()
        };
    }
    Ok(match dtype {
        DType::Fp16 => each!(f16, f16::to_f32),
        DType::Fp32 => each!(f32, |v| v),
        DType::Int8 => each!(i8, f32::from),
        DType::UInt8 => each!(u8, f32::from),
        DType::Bool => each!(u8, |v| f32::from(u8::from(v != 0))),
        DType::Int16 => each!(i16, f32::from),
        DType::UInt16 => each!(u16, f32::from),
        DType::Int32 => each!(i32, |v| v as f32),
        DType::UInt32 => each!(u32, |v| v as f32),
        other => return Err(NoBytes(other)),
    })
}
