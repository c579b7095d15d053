//! Hooks, which observe a run: a check of the device, a meter.

use crate::error::TrainError;
use crate::event::Event;

/// Something to be done between steps that is no part of the training. What it returns is told
/// as the run's events are.
pub trait Hook {
    /// Called before the first step, and before anything is measured or sampled.
    ///
    /// # Errors
    /// Which end the run.
    fn before_steps(&mut self) -> Result<Option<Event>, TrainError> {
        Ok(None)
    }

    /// Called before each step, which will be the `step`-th.
    fn before_step(&mut self, _step: u64) {}

    /// Called after each step. `may_save` is true if a checkpoint of this state may be written.
    ///
    /// # Errors
    /// Which end the run, before anything else is written.
    fn after_step(&mut self, step: u64, may_save: bool) -> Result<Option<Event>, TrainError>;

    /// Called before the last event.
    fn at_end(&mut self) -> Option<Event> {
        None
    }
}
