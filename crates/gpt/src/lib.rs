//! GPT models as MIL: architecture, plans, execution.
//!
//! A [`GptConfig`] is the shape of a model of some [`Family`]. A [`Layout`] places its parameters in one
//! f32 arena; [`Parameters`] holds their values, shared by everything that computes with them. [`block`]
//! states the formulas of a block once, in terms of [`ops`]. A [`plan`] splits the forward pass and the
//! derived backward pass into programs and lists the steps that run them. A [`Model`] runs a batch and
//! returns losses and gradients; a [`Decoder`] reads token by token, with a cache, and returns logits. A
//! [`SlotDecoder`] does so for many texts at once, on the CPU. [`forecast`] prices a step, [`planner`] chooses
//! a plan.
//!
//! ```
//! use ane::Emulator;
//! use chip::Profile;
//! use cpu::Numerics;
//! use gpt::plan::BASELINE;
//! use gpt::{GptConfig, MicroBatch, Model, Parameters, TokenWeights, initialise, mean};
//!
//! let mut config = GptConfig::preset("tiny")?;
//! (config.n_layer, config.vocab_size) = (1, 64);
//! let parameters = Parameters::new(&config, initialise(&config, 42));
//! let device = Emulator::engine(Profile::default(), Numerics::Fast);
//! let (batch, seq) = (1, 16);
//! let mut model = Model::new(&BASELINE, &parameters, batch, seq, &device, Numerics::Fast)?;
//! model.take_parameters()?;
//!
//! let tokens: Vec<u32> = (0..17).collect();
//! let mut grads = vec![0.0; model.layout().count()];
//! let weights = TokenWeights::Even(1.0 / 16.0);
//! let losses =
//!     model.loss_and_grads(&tokens[..16], &tokens[1..], weights, MicroBatch::First, &mut grads)?;
//! assert!((mean(losses) - 64f64.ln()).abs() < 0.5);
//!
//! // A small step against the gradient lowers the loss.
//! let before = model.loss(&tokens[..16], &tokens[1..])?;
//! parameters.update(|values| values.iter_mut().zip(&grads).for_each(|(w, g)| *w -= 0.05 * g));
//! model.take_parameters()?;
//! assert!(model.loss(&tokens[..16], &tokens[1..])? < before);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Limits: batch and sequence length are fixed when a [`Model`] is built. Nothing here knows
//! optimizers, text or files.

#![warn(missing_docs)]

pub mod batch;
pub mod block;
pub mod config;
pub mod declare;
pub mod decode;
pub mod family;
pub mod forecast;
mod head;
mod lanes;
pub mod loss;
pub mod model;
mod normal;
pub mod ops;
pub mod params;
pub mod plan;
pub mod planner;
mod run;
pub mod size;
pub mod slots;

pub use batch::{MicroBatch, ModelError, Timings, TokenWeights, mean, precision};
pub use config::{ConfigError, Edition, FamilyName, FeedForward, GptConfig, Nanochat, Norm};
pub use declare::{Group, Init};
pub use decode::Decoder;
pub use family::{Depth, Family};
pub use head::tokens_at_once;
pub use model::{Model, host_products};
pub use ops::Dims;
pub use params::{Deferred, Done, Layout, Param, Parameters, Pending, initialise};
pub use size::{ParameterCounts, StepMemory};
pub use slots::{Column, SlotDecoder, SlotOptions};
