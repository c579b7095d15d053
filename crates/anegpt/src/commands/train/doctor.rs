//! The doctor's questions during a run.

use super::args::Args;
use crate::machine::Machine;
use anyhow::Result;
use lab::doctor::Canary;
use train::Intervals;

/// Steps between questions to an engine, where nothing else is asked for: a few dispatches every
/// hundred steps are not to be seen in any time.
pub(super) const ASK_ENGINE_EVERY: u64 = 100;

/// Asks the device between steps whether it is well.
pub(super) struct Doctor {
    canary: Option<Canary>,
    every: u64,
    intervals: Intervals,
    total: u64,
    emulated: bool,
}

impl Doctor {
    pub(super) fn new(
        args: &Args,
        machine: &Machine,
        intervals: Intervals,
        total: u64,
    ) -> Result<Self> {
        let default = if machine.emulated() { 0 } else { ASK_ENGINE_EVERY };
        let every = args.doctor_every.unwrap_or(default);
        let mut canary = match every {
            0 => None,
            _ => Some(Canary::new(machine.device.as_ref())?),
        };
        // No step is taken on a device that is sick from the start.
        if let Some(canary) = &mut canary {
            canary.ask()?;
        }
        let emulated = machine.emulated();
        Ok(Doctor { canary, every, intervals, total, emulated })
    }

    /// Asks after every so many steps, and where a checkpoint may be written next: none is kept of
    /// a device that has just given a wrong answer. Gives what is worth a warning: the times of an
    /// emulator are not.
    pub(super) fn ask(&mut self, step: u64) -> Result<Option<String>, ane::AneError> {
        let due = |every: u64| every > 0 && step.is_multiple_of(every);
        let saved =
            step == self.total || due(self.intervals.checkpoint) || due(self.intervals.eval);
        match &mut self.canary {
            Some(canary) if saved || step.is_multiple_of(self.every) => {
                Ok(canary.ask()?.filter(|_| !self.emulated))
            }
            _ => Ok(None),
        }
    }
}
