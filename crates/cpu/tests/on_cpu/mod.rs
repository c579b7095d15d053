//! Runs functions on memory as an engine's surfaces hold it.

use cpu::{Arithmetic, Elements, HostProgram, Numerics, OutputMut, Quirks};
use half::f16;
use mil::{DType, Function, TensorType, Weights};

/// The elements of one tensor.
enum Memory {
    Half(Vec<f16>),
    Single(Vec<f32>),
}

impl Memory {
    /// Holds `values` in binary16 if the tensor is fp16 and computed as such, else in f32.
    fn new(ty: &TensorType, numerics: Numerics, values: &[f32]) -> Self {
        assert_eq!(values.len(), ty.count());
        match ty.dtype == DType::Fp16 && numerics != Numerics::F32 {
            true => Memory::Half(values.iter().map(|&v| f16::from_f32(v)).collect()),
            false => Memory::Single(values.to_vec()),
        }
    }

    fn elements(&self) -> Elements<'_> {
        match self {
            Memory::Half(v) => Elements::F16(v),
            Memory::Single(v) => Elements::F32(v),
        }
    }

    fn output(&mut self) -> OutputMut<'_> {
        match self {
            Memory::Half(v) => OutputMut::F16(v),
            Memory::Single(data) => OutputMut::F32 { data, accumulate: false },
        }
    }

    fn values(self) -> Vec<f32> {
        match self {
            Memory::Half(v) => v.into_iter().map(f16::to_f32).collect(),
            Memory::Single(v) => v,
        }
    }
}

/// Runs `f` twice, so that what the first run leaves behind would show, and returns its outputs.
/// Inputs and outputs are in the function's own order.
pub(crate) fn run<V: AsRef<[f32]>>(
    f: &Function,
    numerics: Numerics,
    quirks: Quirks,
    inputs: &[V],
) -> Vec<Vec<f32>> {
    let arithmetic = Arithmetic::engine(numerics, quirks);
    let mut program = HostProgram::compile(f, &Weights::new(), arithmetic).unwrap();
    assert_eq!(inputs.len(), f.inputs().count());
    let read: Vec<Memory> = (f.inputs().zip(inputs))
        .map(|(id, values)| Memory::new(f.ty(id), numerics, values.as_ref()))
        .collect();
    let mut written: Vec<Memory> = (f.outputs.iter().map(|&id| f.ty(id)))
        .map(|ty| Memory::new(ty, numerics, &vec![0.0; ty.count()]))
        .collect();
    let elements: Vec<Elements<'_>> = read.iter().map(Memory::elements).collect();
    for _ in 0..2 {
        let mut outputs: Vec<OutputMut<'_>> = written.iter_mut().map(Memory::output).collect();
        program.run(&elements, &mut outputs).unwrap();
    }
    written.into_iter().map(Memory::values).collect()
}
