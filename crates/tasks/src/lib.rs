//! Tasks: what a model is asked, how its answers are scored, and conversations that it learns from.
//!
//! - [`Conversation`] and [`Conversations`]: what is learned in finetuning, from [`JsonLines`] or from a task;
//! - [`core`]: in-context tasks (CORE) in the format of its published bundle;
//! - [`bpb`]: bits per byte of a text;
//! - [`sample`]: prompts whose continuations are for reading;
//! - [`random`]: the random orders of Python and NumPy, which decide what a task draws.
//!
//! A tokenizer is a closure from text to ids, and a model is what fills in [`core::Scored`]. Nothing here
//! knows models.

#![warn(missing_docs)]

pub mod bpb;
mod conversation;
pub mod core;
mod csv;
mod error;
mod json_lines;
pub mod random;
pub mod sample;
mod yaml;

pub use conversation::{Conversation, Conversations};
pub use error::{Result, TaskError};
pub use json_lines::JsonLines;
