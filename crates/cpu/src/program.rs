//! A function compiled for the CPU.

use crate::arithmetic::Arithmetic;
use crate::blas::Sgemm;
use crate::error::CpuError;
use crate::gemm::Elements;
use crate::lower::lower;
use crate::run::{Machine, OutputMut};
use mil::{Function, ValueId, Weights};
use std::sync::Arc;

/// A function compiled for the CPU: no rules of an engine, borrowed memory, outputs that can
/// accumulate.
#[derive(Debug)]
pub struct HostProgram {
    machine: Machine,
    inputs: Vec<Argument>,
    outputs: Vec<Argument>,
}

/// What an input or output is called in errors, and its number of elements.
#[derive(Debug)]
struct Argument {
    name: String,
    count: usize,
}

impl HostProgram {
    /// Compiles `function`, which names no weight files, in reference precision.
    ///
    /// # Errors
    /// When the function breaks a rule of the language or a tensor is too large to hold.
    pub fn new(function: &Function) -> Result<Self, CpuError> {
        Self::compile(function, &Weights::new(), Arithmetic::REFERENCE)
    }

    /// Compiles `function`, which reads its constants from `weights`, to be computed in `arithmetic`.
    ///
    /// # Errors
    /// As [`HostProgram::new`], and when a weight file is missing or malformed.
    pub fn compile(
        function: &Function,
        weights: &Weights,
        arithmetic: Arithmetic,
    ) -> Result<Self, CpuError> {
        let machine = Machine::new(lower(function, weights, arithmetic)?);
        let argument = |id: ValueId| Argument {
            name: function.value(id).name.clone(),
            count: function.ty(id).count(),
        };
        Ok(HostProgram {
            machine,
            inputs: function.inputs().map(argument).collect(),
            outputs: function.outputs.iter().map(|&id| argument(id)).collect(),
        })
    }

    /// Computes products with `library` from now on, where it can be asked for them; `None` for our
    /// own kernel. Results differ in their last bits (see [`blas`](crate::blas)).
    pub fn multiply_with(&mut self, library: Option<Arc<dyn Sgemm>>) {
        self.machine.library = library;
    }

    /// Runs on inputs and outputs in the function's own order.
    ///
    /// # Errors
    /// When their number or sizes are not those of the function.
    pub fn run(
        &mut self,
        inputs: &[Elements<'_>],
        outputs: &mut [OutputMut<'_>],
    ) -> Result<(), CpuError> {
        check("input", &self.inputs, inputs.iter().map(Elements::len))?;
        check("output", &self.outputs, outputs.iter().map(OutputMut::len))?;
        self.machine.run(inputs, outputs);
        Ok(())
    }
}

/// Checks the numbers of elements that are given.
fn check(
    what: &'static str,
    arguments: &[Argument],
    given: impl ExactSizeIterator<Item = usize>,
) -> Result<(), CpuError> {
    let (expected, got) = (arguments.len(), given.len());
    if got != expected {
        return Err(CpuError::Count { what, expected, got });
    }
    for (Argument { name, count }, got) in arguments.iter().zip(given) {
        if got != *count {
            let name = name.clone();
            return Err(CpuError::Length { what, name, expected: *count, got });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mil::{Builder, TensorType};

    #[test]
    fn runs_only_on_what_fits_its_function() {
        let b = Builder::new("sum");
        let x = b.input("x", TensorType::fp32([3]));
        let f = b.finish(&[(x + x).named("y")]).unwrap();
        let mut program = HostProgram::new(&f).unwrap();
        let (three, four) = ([1.0, 2.0, 3.0], [0.0; 4]);
        let mut run = |inputs: &[&[f32]], data: &mut [f32]| {
            let inputs: Vec<Elements<'_>> = inputs.iter().map(|x| Elements::F32(x)).collect();
            let result = program.run(&inputs, &mut [OutputMut::F32 { data, accumulate: false }]);
            result.map_err(|error| error.to_string())
        };
        let mut y = [0.0; 3];
        assert_eq!((run(&[&three], &mut y), y), (Ok(()), [2.0, 4.0, 6.0]));
        let error = run(&[&three, &three], &mut y).unwrap_err();
        assert_eq!(error, "the program has 1 inputs, got 2: give one per input, in its order");
        let error = run(&[&four], &mut y).unwrap_err();
        assert_eq!(error, "input `x` has 3 elements, got 4");
        let error = run(&[&three], &mut y[..2]).unwrap_err();
        assert_eq!(error, "output `y` has 3 elements, got 2");
    }
}
