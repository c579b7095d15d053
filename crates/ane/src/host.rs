//! Programs for the CPU that read surfaces.

use crate::error::AneError;
use crate::surface::Surface;
use cpu::{Elements, OutputMut, Sgemm};
use mil::Function;
use std::sync::Arc;

/// An input of a [`HostProgram`].
#[derive(Clone, Copy, Debug)]
pub enum HostInput<'a> {
    /// Single-precision elements.
    F32(&'a [f32]),
    /// The contents of a surface, in the precision it has.
    Surface(&'a Surface),
}

/// A program for the CPU, some of whose inputs are surfaces.
#[derive(Debug)]
pub struct HostProgram(cpu::HostProgram);

impl HostProgram {
    /// Compiles `function` in reference precision.
    ///
    /// # Errors
    /// When the function breaks a rule of the language.
    pub fn new(function: &Function) -> Result<Self, AneError> {
        Ok(HostProgram(cpu::HostProgram::new(function)?))
    }

    /// Computes products with `library` from now on, where it can be asked for them; `None` for our
    /// own kernel.
    pub fn multiply_with(&mut self, library: Option<Arc<dyn Sgemm>>) {
        self.0.multiply_with(library);
    }

    /// Runs on inputs and outputs in the function's own order.
    ///
    /// # Errors
    /// When their number or sizes are not those of the function, or the machine does not let the CPU
    /// at its memory.
    pub fn run(
        &mut self,
        inputs: &[HostInput<'_>],
        outputs: &mut [OutputMut<'_>],
    ) -> Result<(), AneError> {
        let guards: Vec<_> = (inputs.iter())
            .map(|input| match input {
                HostInput::F32(v) => Ok(Ok(*v)),
                HostInput::Surface(surface) => surface.lock().map(Err),
            })
            .collect::<Result<_, AneError>>()?;
        let elements: Vec<Elements<'_>> = (guards.iter())
            .map(|guard| match guard {
                Ok(v) => Elements::F32(v),
                Err(surface) => surface.elements(),
            })
            .collect();
        Ok(self.0.run(&elements, outputs)?)
    }
}
