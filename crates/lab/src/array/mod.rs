//! Tensors outside the machine, as NumPy writes them ([`npy`], [`npz`]). Everything here reads and
//! writes bytes; files are the caller's business.

pub mod npy;
pub mod npz;
pub mod zip;

use ane::bytes::NoBytes;
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

impl From<NoBytes> for ArrayError {
    fn from(NoBytes(dtype): NoBytes) -> Self {
        ArrayError::DType(dtype)
    }
}
