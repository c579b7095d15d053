//! The interface: what requests say, and what answers look like.

pub(crate) mod answer;
pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod fields;
pub(crate) mod health;
pub(crate) mod logprobs;
pub(crate) mod models;
pub(crate) mod refused;
pub(crate) mod settings;
pub(crate) mod stream;
pub(crate) mod tokens;
pub(crate) mod truncation;
