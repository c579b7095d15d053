//! What can go wrong between a program and the machine.

use mil::blob::BlobError;
use mil::{OpError, TensorType};

/// An error of a device.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum AneError {
    #[error(transparent)]
    Op(#[from] OpError),
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error("`{name}` is a {ty}: too large to hold here")]
    TooLarge { name: String, ty: TensorType },
    #[error("a request needs {expected} {what} surfaces, got {got}")]
    SurfaceCount { what: &'static str, expected: usize, got: usize },
    #[error("port `{port}` is a {expected}, but the surface bound to it holds {got}")]
    SurfaceType { port: String, expected: TensorType, got: TensorType },
    #[error(
        "one surface is bound to {a} and to {b}: an output may not share memory with another port"
    )]
    SurfaceShared { a: String, b: String },
    #[error(
        "{what} surfaces of one request need one allocation size, got {sizes:?} bytes; allocate all \
         of them at the largest size (data stay packed from byte 0): {}",
        REQUEST_FAILED
    )]
    SurfaceSizes { what: &'static str, sizes: Vec<usize> },
    #[error("a surface for {count} elements was given {got}")]
    SurfaceLength { count: usize, got: usize },
}

/// What macOS reports for a request whose surfaces are wrong (facts/ane.md B.3).
pub const REQUEST_FAILED: &str = "processRequest:model:qos:qIndex:modelStringID:options:error:: \
ANEProgramProcessRequestDirect() Failed with status=0x1d : statusType=0x9: Program Inference error";
