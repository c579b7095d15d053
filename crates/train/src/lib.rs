//! Training: optimizer, schedule, step, checkpoint, events.
#![warn(missing_docs)]
pub mod checkpoint;
pub mod event;
pub mod optim;
pub mod scale;
pub mod schedule;
