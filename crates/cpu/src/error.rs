//! Errors between a function and the CPU.

use mil::blob::BlobError;
use mil::{OpError, TensorType};

/// An error of a program for the CPU.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum CpuError {
    #[error(transparent)]
    Op(#[from] OpError),
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error("`{name}` is a {ty}: too large to hold here")]
    TooLarge { name: String, ty: TensorType },
    #[error("the program has {expected} {what}s, got {got}: give one per {what}, in its order")]
    Count { what: &'static str, expected: usize, got: usize },
    #[error(
        "input `{name}` takes no packed matrix [{rows}, {columns}]: its extents differ, or it is not only \
         the left operand of products"
    )]
    Matrix { name: String, rows: usize, columns: usize },
    #[error("a program with packed matrices has at most {most} inputs, got {got}")]
    Inputs { most: usize, got: usize },
    #[error("{what} `{name}` has {expected} elements, got {got}")]
    Length { what: &'static str, name: String, expected: usize, got: usize },
}
