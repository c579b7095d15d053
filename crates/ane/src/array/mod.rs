//! Tensors outside the machine: as packed little-endian bytes, and as NumPy writes them
//! ([`npy`], [`npz`]). Everything here reads and writes bytes; files are the caller's business.

pub mod npy;
pub mod npz;
pub mod zip;

use half::f16;
use mil::{DType, TensorType};

/// Why bytes are no array or no archive of arrays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum ArrayError {
    #[error("not a NumPy file of numbers: {0}")]
    Npy(String),
    #[error("not a zip archive that can be read: {0}")]
    Zip(String),
    #[error("the archive's entry `{name}`: {reason}")]
    Entry { name: String, reason: String },
    #[error("elements of type {0} have no place in a file of arrays")]
    DType(DType),
}

/// A tensor in memory: its type and its elements in row-major order, as f32 (which holds every
/// fp16 and every integer of at most 24 bits exactly).
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Element type and shape.
    pub ty: TensorType,
    /// Elements, as many as the shape has.
    pub values: Vec<f32>,
}

/// Appends `values` as packed little-endian elements of `dtype`. Floats round to nearest even,
/// integers are truncated and clamped to their range.
///
/// # Errors
/// [`ArrayError::DType`] for element types that take less than a byte, 64 bits, or text.
pub fn encode(dtype: DType, values: &[f32], to: &mut Vec<u8>) -> Result<(), ArrayError> {
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
        other => return Err(ArrayError::DType(other)),
    }
    Ok(())
}

/// Elements of packed little-endian bytes; bytes after the last whole element are left out.
///
/// # Errors
/// As [`encode`].
pub fn decode(dtype: DType, bytes: &[u8]) -> Result<Vec<f32>, ArrayError> {
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
        other => return Err(ArrayError::DType(other)),
    })
}
