//! GPT models as MIL: configuration, parameters, kernels and plans.
//!
//! A [`GptConfig`] fixes the shape; a [`Layout`] names the parameters in one arena of f32; the
//! formulas of a layer are in [`block`]; [`kernels`] derives the programs of a training step from
//! them; a [`Model`] compiles these on a device and turns a batch into a loss and gradients.
//!
//! Nothing here knows optimizers, text, files or requests.

#![warn(missing_docs)]

pub mod block;
pub mod config;
pub mod decode;
pub mod forecast;
mod head;
pub mod kernels;
pub mod loss;
pub mod model;
mod normal;
pub mod params;

pub use config::{ConfigError, GptConfig};
pub use decode::Decoder;
pub use model::{MicroBatch, Model, ModelError, Timings, host_products};
pub use params::{Layout, Param, Role, initialise};
