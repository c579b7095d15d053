//! Training: from a batch to an update, and from a run's first step to its report.
//!
//! A [`Trainer`] owns a model, its gradients, the optimizer's state and the loss scale. An
//! [`Objective`] owns the data. A [`Run`] calls both in turn, emits [`Event`]s, and saves the run's
//! state in a [`checkpoint`]. One step, from batch to update:
//!
//! 1. [`Objective::accumulate`] reads all micro-batches of the step and gives each token's loss a
//!    weight: [`objective::Pretrain`] reads windows and weights all tokens equally.
//! 2. For each micro-batch, [`Trainer::accumulate`] multiplies the weights by the [`LossScale`], so that
//!    small gradients do not underflow in binary16, and calls [`gpt::Model::loss_and_grads`] for the
//!    forward and backward passes. The first micro-batch overwrites the gradients of the step before;
//!    later ones add to them.
//! 3. After the last micro-batch the run waits until the previous checkpoint is written, so that it
//!    keeps the old weights.
//! 4. [`Trainer::apply`] averages the loss and sums the gradients over the [`Ranks`], in rank order, and
//!    takes their [global norm](optim::global_norm). If the norm is not finite, a gradient overflowed: the update is
//!    skipped and the loss scale halved. After 200 good steps in a row the scale doubles; 30 skipped
//!    steps in a row end the run. With f32 numerics the scale is always 1.
//! 5. Otherwise the [`LrSchedule`] sets each parameter's learning rate, and the [`Optimizer`] updates the
//!    f32 master weights and its own [`State`](optim::State). Clipping and the loss scale reach it as one
//!    factor, [`Update::scale`](optim::Update::scale); the stored gradients are not changed.
//! 6. Unless the update was skipped, [`gpt::Model::take_parameters`] copies the new weights to the device, in its precision.
//!    Where requests leave the CPU free ([`gpt::Model::overlaps`]), 5 and 6 are left to the first micro-batch of the next
//!    step: its requests for the first layers run beside the update of the later ones. If weights or state are needed
//!    before, for a checkpoint, an evaluation or a sample, the update is made first
//!    ([`gpt::Parameters::defer`]).
//! 7. The run emits [`Event::Step`] and calls its [`Hook`]s; then, where they are due, it validates,
//!    draws a sample, and starts a checkpoint, which is written while the next step runs. None of these
//!    starts after a skipped step. The one at the end of a run is always written: a skipped step left the
//!    weights as they were. Where CORE or tasks are due ([`CoreEvery`], [`Talks`]), they are measured once that
//!    checkpoint is written.
//!
//! ```
//! use ane::Emulator;
//! use chip::Profile;
//! use cpu::Numerics;
//! use gpt::plan::BASELINE;
//! use gpt::{GptConfig, TokenWeights, initialise};
//! use train::{LrSchedule, OptimizerConfig, RunConfig, Solo, Trainer};
//!
//! let mut model = GptConfig::preset("tiny")?;
//! (model.n_layer, model.vocab_size) = (1, 64);
//! let schedule = LrSchedule::cosine(1e-2, 1e-3, 0, 10);
//! let params = initialise(&model, 42);
//! let optimizer = OptimizerConfig::default();
//! let (batch, accum, seq, clip, seed, plan, dial) = (1, 1, 16, 1.0, 42, &BASELINE, None);
//! let config = RunConfig { model, optimizer, schedule, batch, accum, seq, clip, seed, plan, dial };
//! let device = Emulator::engine(Profile::default(), Numerics::Fast);
//! let ranks = Box::new(Solo);
//! let mut trainer =
//!     Trainer::new(&config, params, optimizer.build(), &device, Numerics::Fast, ranks)?;
//!
//! let tokens: Vec<u32> = (0..17).collect();
//! let mut step = || {
//!     trainer.accumulate(&tokens[..16], &tokens[1..], TokenWeights::Even(1.0 / 16.0))?;
//!     trainer.apply()
//! };
//! let first = step()?.loss;
//! let last = (0..9).try_fold(first, |_, _| step().map(|report| report.loss))?;
//! assert!(last < first);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A new optimizer starts as a file in [`optim`], a new objective one in [`objective`].
//!
//! Nothing here knows MIL, terminals or command lines. The clock fills timing fields only: a run
//! resumed at any step ends with the same bytes as an uninterrupted one.

#![warn(missing_docs)]

mod background;
pub mod checkpoint;
mod config;
mod error;
pub mod evaluate;
pub mod event;
mod hook;
pub mod log;
pub mod objective;
pub mod optim;
pub mod ranks;
pub mod recipe;
pub mod run;
mod sample;
pub mod scale;
pub mod scaling;
pub mod schedule;
pub mod stop;
pub mod trainer;
mod update;
mod writing;

pub use checkpoint::{Checkpoint, CheckpointError, Lock};
pub use config::{Intervals, RunConfig};
pub use error::TrainError;
pub use event::{Best, Event, Forecast, Range, Settings, Spent};
pub use hook::Hook;
pub use objective::{Objective, Validation};
pub use optim::{AdamW, AdamWGroups, Lora, Muon, Optimizer, OptimizerConfig, Targets};
pub use ranks::{Ranks, Solo};
pub use recipe::Recipe;
pub use run::{CoreEvery, Run, RunOutput, Session, Talks};
pub use sample::Samples;
pub use scale::LossScale;
pub use schedule::{Decay, Fade, LrSchedule, Momentum, Multipliers};
pub use stop::{Reason, Stop};
pub use trainer::{StepReport, Trainer};
