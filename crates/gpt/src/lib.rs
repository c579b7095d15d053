//! GPT models as MIL: what they are, how they are cut into programs, and what runs these.
//!
//! A [`GptConfig`] is a shape, of a [`Family`]. A [`Layout`] names its parameters in one arena of f32,
//! [`Parameters`] are their values, shared by all that compute with them. The formulas of a block are
//! written once ([`block`], of [`ops`]); a [`plan`] cuts them, with the backward pass that is derived from
//! them, into programs and lists the steps; a [`Model`] runs these for a batch and gives losses and
//! gradients, a [`Decoder`] runs others token by token.
//!
//! Nothing here knows optimizers, text or files.

#![warn(missing_docs)]

pub mod block;
pub mod config;
pub mod decode;
pub mod family;
pub mod forecast;
mod head;
pub mod loss;
pub mod model;
mod normal;
pub mod ops;
pub mod params;
pub mod plan;
mod run;

pub use config::{ConfigError, FeedForward, GptConfig, Norm};
pub use decode::Decoder;
pub use family::Family;
pub use model::{
    MicroBatch, Model, ModelError, Timings, TokenWeights, host_products, mean, precision,
};
pub use ops::Dims;
pub use params::{Group, Init, Layout, Param, Parameters, initialise};
