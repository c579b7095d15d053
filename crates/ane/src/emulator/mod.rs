//! The emulated engine: its rules, its budget, its requests and its arithmetic on any CPU.
//!
//! An [`Emulator`] is a [`Device`] with the engine's conventions: surfaces, binding order, refusals.
//! Crate `cpu` computes; a chip's quirks are told to it.

mod raw;
mod request;

pub use raw::{DataLayout, Holding, RawSurface, SurfaceObject};
pub use request::{BindingRules, LoadedModel, Procedure, Request, SizeRule, Strictness};

use crate::binding::{Binding, alphabetical, check_request};
use crate::budget::{Budget, LoadedProgram};
use crate::device::{Call, Device, Executable, Port, Reloaded, RunReport};
use crate::error::AneError;
use crate::surface::{ElementsMut, Precision, Surface, lock_all};
use chip::cost::{Estimate, estimate};
use chip::legal;
use chip::{CallPath, Chip, ChipNumerics, Profile};
use cpu::{Arithmetic, Elements, HostProgram, Numerics, OutputMut, Quirks};
use mil::{Function, Program, TensorType, Weights};
use std::time::Instant;

/// Rules against fp32 at ports and inside programs: reference precision is fp32 by definition, so
/// in it they are not kept.
const REFERENCE_LIFTS: &[&str] = &["ANE021", "ANE024", "ANE026"];

/// Narrowest surface, in tokens, that the engine runs: one of 1 compiles and fails (docs/ane-facts.md C.1).
const ENGINE_WIDTH: usize = 16;

impl From<Numerics> for Precision {
    /// Returns the precision of the surfaces of an emulator.
    fn from(numerics: Numerics) -> Self {
        match numerics {
            Numerics::F32 => Precision::Single,
            Numerics::Fast | Numerics::Exact => Precision::Half,
        }
    }
}

/// Returns what a chip's arithmetic does in its own way.
fn quirks(chip: Chip) -> Quirks {
    let ChipNumerics { width_slice_gain, round_fault, .. } = chip.numerics();
    Quirks { width_slice_gain, round_fault }
}

/// The emulated engine, or, without an engine's rules, the CPU.
#[derive(Debug)]
pub struct Emulator {
    numerics: Numerics,
    engine: Option<Engine>,
}

/// The part that makes the emulator an engine: a machine's rules and budget.
#[derive(Debug)]
struct Engine {
    profile: Profile,
    budget: Budget,
}

impl Emulator {
    /// An engine: it refuses what `profile` refuses, with the words of the machine.
    pub fn engine(profile: Profile, numerics: Numerics) -> Self {
        let budget = Budget::new(&profile);
        Emulator { numerics, engine: Some(Engine { profile, budget }) }
    }

    /// A CPU without any engine's limits.
    pub fn cpu(numerics: Numerics) -> Self {
        Emulator { numerics, engine: None }
    }

    fn arithmetic(&self) -> Arithmetic {
        let quirks = self.profile().map_or(Quirks::default(), |profile| quirks(profile.chip));
        Arithmetic::engine(self.numerics, quirks)
    }

    /// Holds a program against the engine's rules and takes its place in the budget.
    fn admit(
        &self,
        program: &Program,
        weights: &Weights,
    ) -> Result<Option<LoadedProgram>, AneError> {
        let Some(Engine { profile, budget }) = &self.engine else { return Ok(None) };
        let lifted = if self.numerics == Numerics::F32 { REFERENCE_LIFTS } else { &[] };
        let verdict = legal::check_with_weights(program, weights, profile, lifted)
            .map_err(|found| AneError::refused_program(program, profile, found))?;
        budget.compile()?;
        Ok(Some(budget.load(verdict.legal.constant_bytes())?))
    }

    /// A function ready to run, without rules of requests and without a place in the budget.
    fn lower(&self, function: &Function, weights: &Weights) -> Result<Compiled, AneError> {
        let program = HostProgram::compile(function, weights, self.arithmetic())?;
        let port = |id| Port { name: function.value(id).name.clone(), ty: function.ty(id).clone() };
        let inputs = alphabetical(function.inputs().map(port).collect());
        let outputs = alphabetical(function.outputs.iter().map(|&id| port(id)).collect());
        Ok(Compiled { program, profile: None, inputs, outputs, forecast: None, _loaded: None })
    }

    /// Programs compiled so far; 0 where nobody counts.
    pub fn compiled(&self) -> usize {
        self.engine.as_ref().map_or(0, |engine| engine.budget.compiled())
    }
}

impl Device for Emulator {
    fn describe(&self) -> String {
        let numerics = match self.numerics {
            Numerics::F32 => "f32",
            Numerics::Fast => "fast (fp16 at operation boundaries)",
            Numerics::Exact => "exact (the engine's own arithmetic, bit for bit where known)",
        };
        match &self.engine {
            Some(engine) => {
                let profile = engine.profile.described();
                format!("emulated Neural Engine {profile}, numerics {numerics}")
            }
            None => format!("CPU, numerics {numerics}"),
        }
    }

    fn profile(&self) -> Option<Profile> {
        self.engine.as_ref().map(|engine| engine.profile)
    }

    fn least_allocation(&self) -> usize {
        self.engine.as_ref().map_or(0, |engine| engine.profile.limits().min_surface_bytes)
    }

    fn least_width(&self) -> usize {
        if self.engine.is_some() { ENGINE_WIDTH } else { 1 }
    }

    fn surface(&self, ty: &TensorType, allocation: usize) -> Result<Surface, AneError> {
        Ok(Surface::new(ty, allocation, self.numerics.into()))
    }

    fn compile(
        &self,
        program: &Program,
        weights: &Weights,
    ) -> Result<Box<dyn Executable>, AneError> {
        let loaded = self.admit(program, weights)?;
        let function = program.functions.first().ok_or(AneError::NoFunction)?;
        let profile = self.engine.as_ref().map(|engine| engine.profile);
        let forecast = profile.map(|profile| estimate(function, &profile));
        let lowered = self.lower(function, weights)?;
        Ok(Box::new(Compiled { profile, forecast, _loaded: loaded, ..lowered }))
    }
}

#[derive(Debug)]
struct Compiled {
    program: HostProgram,
    profile: Option<Profile>,
    inputs: Binding,
    outputs: Binding,
    forecast: Option<Estimate>,
    _loaded: Option<LoadedProgram>,
}

impl Executable for Compiled {
    fn inputs(&self) -> &[Port] {
        &self.inputs.ports
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs.ports
    }

    fn forecast(&self) -> Option<&Estimate> {
        self.forecast.as_ref()
    }

    fn run(&mut self, inputs: &[&Surface], outputs: &[&Surface]) -> Result<RunReport, AneError> {
        check_request(self.profile.as_ref(), (&self.inputs, inputs), (&self.outputs, outputs))?;
        let start = Instant::now();
        let mut locks = lock_all(inputs, outputs)?;
        let elements: Vec<Elements<'_>> = (self.inputs.place.iter())
            .map(|&i| locks.read[locks.guard_of_input[i]].elements())
            .collect();
        let mut bound: Vec<Option<OutputMut<'_>>> = outputs.iter().map(|_| None).collect();
        for (guard, &output) in locks.written.iter_mut().zip(&locks.output_of_guard) {
            bound[output] = Some(match guard.elements_mut() {
                ElementsMut::F16(v) => OutputMut::F16(v),
                ElementsMut::F32(data) => OutputMut::F32 { data, accumulate: false },
            });
        }
        let mut sinks: Vec<OutputMut<'_>> = (self.outputs.place.iter())
            .map(|&i| bound[i].take().expect("every output has a surface of its own"))
            .collect();
        self.program.run(&elements, &mut sinks)?;
        Ok(RunReport { seconds: start.elapsed().as_secs_f64(), hardware_seconds: None })
    }

    /// As the facts in force have it: neither changes a result (D-quality-of-service,
    /// D-real-time-path), and requests cannot be chained (G1-chaining).
    fn run_by(
        &mut self,
        call: Call,
        inputs: &[&Surface],
        outputs: &[&Surface],
    ) -> Result<Option<RunReport>, AneError> {
        match (self.profile.map(|profile| profile.path), call) {
            (Some(CallPath::InMemory), Call::Quality(0..=63) | Call::RealTime) => {
                self.run(inputs, outputs).map(Some)
            }
            (Some(CallPath::InMemory), Call::Chained) => Err(AneError::Chaining),
            _ => Ok(None),
        }
    }

    /// As the facts in force have it: its constants stay what they were (G2-rewritten-files).
    fn reload(&mut self, _weights: &Weights) -> Result<Option<Reloaded>, AneError> {
        let in_memory = self.profile.is_some_and(|profile| profile.path == CallPath::InMemory);
        Ok(in_memory.then_some(Reloaded { unload_seconds: 0.0, load_seconds: 0.0 }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quirks_are_those_of_the_chip() {
        let found = |chip| (quirks(chip).width_slice_gain, quirks(chip).round_fault);
        assert_eq!(found(Chip::M1), (true, false));
        assert_eq!(found(Chip::M4), (false, false));
        assert_eq!(found(Chip::M5), (false, true));
        let cpu = Emulator::cpu(Numerics::Exact);
        assert_eq!(cpu.arithmetic().quirks, Quirks::default());
        let profile = Profile { chip: Chip::M5, ..Profile::default() };
        let engine = Emulator::engine(profile, Numerics::Exact);
        assert_eq!(engine.arithmetic().quirks, quirks(Chip::M5));
    }
}
