//! The doctor's questions during a run.

use crate::machine::Machine;
use anyhow::Result;
use lab::doctor::Canary;
use train::{Event, Hook, TrainError};

/// Steps between questions to an engine, where nothing else is asked for: a few dispatches every
/// hundred steps are not to be seen in any time.
const ASK_ENGINE_EVERY: u64 = 100;

/// Asks the device whether it still computes correctly: before the first step, after every so many
/// steps, and before each checkpoint.
pub(crate) struct Doctor {
    /// Absent where nothing is to be asked.
    canary: Option<Canary>,
    every: u64,
    emulated: bool,
}

impl Doctor {
    /// Asks every `every` steps (0: never); by default an engine is asked and the emulator is not.
    pub(crate) fn new(every: Option<u64>, machine: &Machine) -> Result<Self> {
        let emulated = machine.emulated();
        let every = every.unwrap_or(if emulated { 0 } else { ASK_ENGINE_EVERY });
        let canary = match every {
            0 => None,
            _ => Some(Canary::new(machine.device.as_ref())?),
        };
        Ok(Doctor { canary, every, emulated })
    }

    /// A wrong answer is an error, a slow one worth a warning: the times of an emulator are not.
    fn ask(&mut self) -> Result<Option<Event>, TrainError> {
        let Some(canary) = &mut self.canary else { return Ok(None) };
        let slow = canary.ask()?.filter(|_| !self.emulated);
        Ok(slow.map(|message| Event::Warning { message }))
    }
}

impl Hook for Doctor {
    /// No step is taken on a device that is sick from the start.
    fn before_steps(&mut self) -> Result<Option<Event>, TrainError> {
        self.ask()
    }

    /// No checkpoint is kept of a device that has just given a wrong answer.
    fn after_step(&mut self, step: u64, may_save: bool) -> Result<Option<Event>, TrainError> {
        match self.every {
            0 => Ok(None),
            every if may_save || step.is_multiple_of(every) => self.ask(),
            _ => Ok(None),
        }
    }
}
