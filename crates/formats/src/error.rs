//! Why weights could not be read or written.

use gpt::Layout;
use std::io;
use std::path::{Path, PathBuf};

/// Why weights could not be read or written.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum WeightsError {
    #[error("cannot read {path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("{path} is not a llama2.c checkpoint: {reason}")]
    Llama2c { path: PathBuf, reason: String },
    #[error("{path} is not a GGUF file that can be read: {reason}")]
    Gguf { path: PathBuf, reason: String },
    #[error("{path} {reason}")]
    Safetensors { path: PathBuf, reason: String },
    #[error("{path} is not an index of safetensors files: {reason}")]
    Index { path: PathBuf, reason: String },
    #[error("{path} is not an adapter that can be read: {reason}")]
    Adapter { path: PathBuf, reason: String },
    #[error("{path}: tensor `{name}` {reason}")]
    Tensor { path: PathBuf, name: String, reason: String },
    #[error("{format} cannot express this: {reason}")]
    Inexpressible { format: &'static str, reason: String },
}

/// Why a file of bytes is not read: the system's error, or what is wrong with it.
#[derive(Debug)]
pub(crate) enum Fault {
    Io(io::Error),
    Malformed(String),
}

impl From<String> for Fault {
    fn from(reason: String) -> Self {
        Fault::Malformed(reason)
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Fault::Malformed("it is cut short".to_owned()),
            _ => Fault::Io(error),
        }
    }
}

/// Refuses the first element that is not a finite number.
pub(crate) fn check_finite(
    path: &Path,
    layout: &Layout,
    values: &[f32],
) -> Result<(), WeightsError> {
    for param in layout.params() {
        if let Some(i) = values[param.range()].iter().position(|v| !v.is_finite()) {
            let reason = format!("element {i} is {}, not a number", values[param.offset + i]);
            return Err(WeightsError::Tensor {
                path: path.to_owned(),
                name: param.name.clone(),
                reason,
            });
        }
    }
    Ok(())
}
