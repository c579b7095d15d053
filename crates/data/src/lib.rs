//! Training data: where tokens come from and in which order they are read.
//!
//! - [`synth`]: endless small stories, the data of a run that is given none;
//! - [`text`]: files and directories of text, cut into documents and tokenized;
//! - [`tokens`]: files of token ids, written once and mapped into memory;
//! - [`loader`]: batches in a random order that continues exactly where a checkpoint stopped;
//! - [`download`]: data sets fetched over the network.
//!
//! Nothing here knows models or devices. A tokenizer is a function from text to ids.

pub mod download;
mod error;
pub mod loader;
mod map;
mod mix;
mod sniff;
pub mod synth;
pub mod text;
pub mod tokens;

pub use error::{Error, Result};
pub use sniff::is_text;
