//! Training data: token files, resumable loader, synthetic stories, download.
pub mod download;
mod error;
pub mod loader;
mod map;
mod mix;
pub mod synth;
pub mod text;
pub mod tokens;

pub use error::{Error, Result};
