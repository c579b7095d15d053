//! Training: from a batch to an update, and from the first step of a run to its report.
//!
//! A [`Trainer`] owns a model, its gradients, the optimizer's state and the loss scale. An
//! [`Objective`] owns the data. A [`Run`] asks both in turn, tells what happens as [`Event`]s, and
//! writes what must survive into a [`checkpoint`]. What runs between a batch and an update, in order:
//!
//! 1. [`Objective::accumulate`] takes the next micro-batch from its data, and says what the loss of
//!    each token counts: [`objective::Pretrain`] reads windows, all tokens count the same.
//! 2. [`Trainer::accumulate`] multiplies that by the [`LossScale`], so that binary16 holds the
//!    gradients, and has [`gpt::Model::loss_and_grads`] run forward and backward. The first
//!    micro-batch's gradients replace those of the step before, later ones are added.
//! 3. After the last micro-batch the run waits for the checkpoint that was being written meanwhile:
//!    it must not see the update.
//! 4. [`Trainer::apply`] sums the gradients over the [`Ranks`], in their order, and takes their
//!    [global norm](optim::global_norm). If it is not finite, a gradient overflowed: the loss scale is
//!    halved and the update skipped.
//! 5. Otherwise the gradients are clipped, the [`Schedule`] gives each parameter its rate, and the
//!    [`Optimizer`] updates the f32 master weights and its own [`State`](optim::State).
//! 6. The new weights are brought to the device, in its precision.
//! 7. The run tells a [`Event::Step`] and lets its [`Hook`]s look; then, where they are due, come
//!    validation, a sample and a checkpoint, which is written while the next step runs.
//!
//! An optimizer is a file in [`optim`], an objective one in [`objective`].
//!
//! Nothing here knows MIL, terminals or command lines. The clock fills timing fields only, so a run
//! that is resumed at any step ends with the bytes of one that was never interrupted.

#![warn(missing_docs)]

mod background;
pub mod checkpoint;
mod config;
mod error;
pub mod evaluate;
pub mod event;
mod hook;
pub mod objective;
pub mod optim;
pub mod ranks;
pub mod run;
mod sample;
pub mod scale;
pub mod schedule;
pub mod stop;
pub mod trainer;

pub use checkpoint::{Checkpoint, CheckpointError, Lock};
pub use config::{Intervals, RunConfig};
pub use error::TrainError;
pub use event::{Best, Event, Forecast, Settings, Spent};
pub use hook::Hook;
pub use objective::Objective;
pub use optim::{AdamW, Optimizer};
pub use ranks::{Ranks, Solo};
pub use run::{Run, RunOutput, Session};
pub use sample::Samples;
pub use scale::LossScale;
pub use schedule::{Decay, Multipliers, Schedule};
pub use stop::{Reason, Stop};
pub use trainer::{StepReport, Trainer};
