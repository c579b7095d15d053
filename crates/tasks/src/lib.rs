//! Tasks: what a model is asked, how its answers are scored, and conversations that it learns from.
//!
//! - [`Conversation`] and [`Conversations`]: what is learned in finetuning, from [`JsonLines`] or from a task;
//! - [`Task`]: questions whose answers are judged, by name ([`open`]), built in or published by others; [`Mixture`]
//!   and other lists made of them; [`Python`], which runs programs that a model wrote;
//! - [`core`]: in-context tasks (CORE) in the format of its published bundle;
//! - [`bpb`]: bits per byte of a text;
//! - [`sample`]: prompts whose continuations are for reading;
//! - [`random`]: the random orders of Python and NumPy, which decide what a task draws.
//!
//! A tokenizer is a closure from text to ids, and a model is what fills in [`core::Scored`]. Nothing here
//! knows models.

#![warn(missing_docs)]

mod answer;
pub mod bpb;
mod built;
mod conversation;
pub mod core;
mod csv;
mod error;
mod hash;
mod json_lines;
mod mixture;
mod published;
mod python;
pub mod random;
mod registry;
pub mod sample;
mod task;
mod yaml;

pub use answer::final_number;
pub use conversation::{Conversation, Conversations};
pub use error::{Result, TaskError};
pub use json_lines::JsonLines;
pub use mixture::{Mixture, Sequence, Slice};
pub use published::Source;
pub use python::{Ended, Python};
pub use registry::{Listed, Options, SEED, all, counted, open, open_mixture, source};
pub use task::{Kind, Split, Task};
