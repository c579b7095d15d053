//! Training: a [`Pretrain`] owns weights, gradients, moments and the place in the data; each step
//! it asks a [`gpt::Model`] for the loss and gradients of a batch and updates the weights. What
//! happens leaves as [`Event`]s; what must survive goes into a [`checkpoint`].
//!
//! Nothing here knows MIL, terminals or command lines. The clock fills timing fields only.

#![warn(missing_docs)]

mod background;
pub mod checkpoint;
pub mod evaluate;
pub mod event;
pub mod optim;
pub mod run;
pub mod scale;
pub mod schedule;
pub mod stop;
pub mod trainer;

pub use checkpoint::{Checkpoint, CheckpointError, Lock};
pub use event::{Best, Event, Forecast, Settings, Spent};
pub use optim::AdamW;
pub use run::{Intervals, RunOutput};
pub use scale::LossScale;
pub use schedule::Schedule;
pub use stop::{Reason, Stop};
pub use trainer::{Pretrain, RunConfig, StepReport, TrainError};
