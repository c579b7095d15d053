//! Training data: where tokens come from and in which order they are read.
//!
//! - [`synth`]: endless small stories, the default training data;
//! - [`text`]: text files and directories, split into documents and tokenized;
//! - [`tokens`]: files of token ids, written once and memory-mapped;
//! - [`loader`]: batches in random order that resume exactly where a checkpoint stopped;
//! - [`download`]: data sets fetched over the network;
//! - [`Records`]: rows of Parquet files.
//!
//! ```
//! use data::loader::{Loader, LoaderConfig, TokenSource};
//!
//! let tokens: Vec<u32> = (0..1000).collect();
//! let seq = 8;
//! let mut loader = Loader::new(TokenSource::from(tokens), LoaderConfig::new(seq, 42))?;
//! let first = loader.next_batch(2);
//! assert_eq!(first.inputs.len(), 2 * seq);
//! assert_eq!(first.targets[0], first.inputs[1]); // each target is the token after its input
//!
//! // The cursor is the whole state of a loader: it goes on with the same batches.
//! let cursor = loader.cursor().clone();
//! let second = loader.next_batch(2);
//! loader.resume(&cursor)?;
//! assert_eq!(loader.next_batch(2), second);
//! # Ok::<(), data::Error>(())
//! ```
//!
//! A tokenizer is a closure from text to ids. Nothing here knows models or devices.

pub mod download;
mod error;
pub mod loader;
mod map;
pub mod mix;
mod parquet;
mod sniff;
pub mod synth;
pub mod text;
pub mod tokens;

pub use error::{Error, Result};
pub use parquet::Records;
pub use sniff::is_text;
