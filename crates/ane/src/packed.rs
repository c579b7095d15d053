//! The packed calling convention: one input, one output.
//!
//! On some systems a request with several inputs fails with 0x1d (docs/ane-facts.md C.1); the seed
//! therefore lays activations and weights side by side in one surface and slices them apart inside
//! the program. [`pack`] rewrites any function so, and [`Packed`] is a device that does it behind
//! the same ports, for the price of a copy of all inputs and outputs.
//!
//! Tensors lie below each other as rows of one width, not side by side: a slice that does not start
//! at the left edge passes through a path that scales by 16 (docs/ane-rules.md, ANE062).

use crate::binding::{Binding, alphabetical, check_request};
use crate::device::{Call, Device, Executable, Port, Reloaded, RunReport};
use crate::error::AneError;
use crate::surface::Surface;
use mil::{Builder, DType, Function, OpError, Program, Rewrite, TensorType, ValueId, Weights};

/// The widest row; narrower than what every chip takes.
const MOST_WIDTH: usize = 1024;

/// The narrowest row: narrower surfaces fail in requests (docs/ane-facts.md C.1).
const LEAST_WIDTH: usize = 16;

/// The parameters, or the outputs, in alphabetical order, as requests bind them.
fn sorted(f: &Function, ids: impl Iterator<Item = ValueId>) -> Vec<ValueId> {
    let mut ids: Vec<ValueId> = ids.collect();
    ids.sort_by(|a, b| f.value(*a).name.cmp(&f.value(*b).name));
    ids
}

/// The width of rows: the largest power of two that divides all tensors. `None` where there is
/// nothing to pack, or no width that fits.
fn width(f: &Function) -> Option<usize> {
    let all = || f.inputs().chain(f.outputs.iter().copied()).map(|id| f.ty(id));
    let several = f.inputs().count() > 1 || f.outputs.len() > 1;
    let halves = all().all(|ty| ty.dtype == DType::Fp16);
    let twos = all().map(|ty| ty.count().trailing_zeros()).min()?;
    let width = (1 << twos.min(usize::BITS - 2)).min(MOST_WIDTH);
    (several && halves && f.inputs().count() > 0 && width >= LEAST_WIDTH).then_some(width)
}

/// `f` with all inputs as rows of one, `[1, 1, rows, width]`, and all outputs as rows of another,
/// both in alphabetical order of the old names. `None` where there is nothing to pack, where a
/// tensor is not fp16, or where the sizes have no power of two from 16 on in common.
///
/// # Errors
/// When an operation of `f` breaks a rule of the language.
pub fn pack(f: &Function) -> Result<Option<Function>, OpError> {
    let Some(width) = width(f) else { return Ok(None) };
    let rows = |id: ValueId| f.ty(id).count() / width;
    let b = Builder::new(&f.name);
    let mut rewrite = Rewrite::new(&b, f);
    let inputs = sorted(f, f.inputs());
    let height = inputs.iter().map(|&id| rows(id)).sum();
    let packed = b.input("packed_inputs", TensorType::fp16([1, 1, height, width]));
    let mut start = 0;
    for id in inputs {
        rewrite.set(id, packed.narrow(2, start, rows(id)).reshape(&f.ty(id).shape));
        start += rows(id);
    }
    f.ops.iter().for_each(|op| rewrite.copy(op));
    let outputs = sorted(f, f.outputs.iter().copied()).into_iter();
    let outputs: Vec<_> =
        outputs.map(|id| rewrite.value(id).reshape(&[1, 1, rows(id), width])).collect();
    let joined = match outputs.as_slice() {
        [only] => *only,
        several => b.concat(2, several),
    };
    Ok(Some(Function { opset: f.opset.clone(), ..b.finish(&[joined.named("packed_outputs")])? }))
}

/// A device whose programs have one input and one output, whatever their ports.
#[derive(Debug)]
pub struct Packed {
    device: Box<dyn Device>,
}

impl Packed {
    /// `device`, called by the packed convention.
    pub fn new(device: Box<dyn Device>) -> Self {
        Packed { device }
    }
}

impl Device for Packed {
    fn describe(&self) -> String {
        format!("{}, inputs packed", self.device.describe())
    }

    crate::as_inside!(device, unchecked);

    fn compile(
        &self,
        program: &Program,
        weights: &Weights,
    ) -> Result<Box<dyn Executable>, AneError> {
        let function = program.functions.first().ok_or(AneError::NoFunction)?;
        let Some(packed) = pack(function)? else { return self.device.compile(program, weights) };
        let packed = Program { functions: vec![packed], ..program.clone() };
        let executable = self.device.compile(&packed, weights)?;
        let [read, written] = [executable.inputs(), executable.outputs()].map(|p| p[0].ty.clone());
        // One size for all satisfies every machine (ANE080, ANE081).
        let allocation = read.bytes().max(written.bytes()).max(self.device.least_allocation());
        let port = |id| Port { name: function.value(id).name.clone(), ty: function.ty(id).clone() };
        Ok(Box::new(PackedExecutable {
            inputs: alphabetical(function.inputs().map(port).collect()),
            outputs: alphabetical(function.outputs.iter().map(|&id| port(id)).collect()),
            values: vec![0.0; read.count().max(written.count())],
            read: self.device.surface(&read, allocation)?,
            written: self.device.surface(&written, allocation)?,
            executable,
        }))
    }
}

#[derive(Debug)]
struct PackedExecutable {
    executable: Box<dyn Executable>,
    inputs: Binding,
    outputs: Binding,
    read: Surface,
    written: Surface,
    /// On the way from one surface to another: f32 holds every fp16 value.
    values: Vec<f32>,
}

impl Executable for PackedExecutable {
    fn inputs(&self) -> &[Port] {
        &self.inputs.ports
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs.ports
    }

    fn forecast(&self) -> Option<&chip::cost::Estimate> {
        self.executable.forecast()
    }

    fn run(&mut self, inputs: &[&Surface], outputs: &[&Surface]) -> Result<RunReport, AneError> {
        self.through(inputs, outputs, |inside, read, written| inside.run(read, written))
    }

    fn reload(&mut self, weights: &Weights) -> Result<Option<Reloaded>, AneError> {
        self.executable.reload(weights)
    }

    fn run_by(
        &mut self,
        call: Call,
        inputs: &[&Surface],
        outputs: &[&Surface],
    ) -> Result<Option<RunReport>, AneError> {
        self.through(inputs, outputs, |inside, read, written| inside.run_by(call, read, written))
    }
}

impl PackedExecutable {
    /// Copies `inputs` into one surface, has `run` send the request inside, and copies `outputs` out
    /// of another.
    fn through<T>(
        &mut self,
        inputs: &[&Surface],
        outputs: &[&Surface],
        run: impl FnOnce(&mut dyn Executable, &[&Surface], &[&Surface]) -> Result<T, AneError>,
    ) -> Result<T, AneError> {
        check_request(None, (&self.inputs, inputs), (&self.outputs, outputs))?;
        let mut start = 0;
        for surface in inputs {
            let end = start + surface.ty().count();
            surface.read(&mut self.values[start..end])?;
            start = end;
        }
        self.read.write(&self.values[..start])?;
        let report = run(self.executable.as_mut(), &[&self.read], &[&self.written])?;
        let count = self.written.ty().count();
        self.written.read(&mut self.values[..count])?;
        let mut start = 0;
        for surface in outputs {
            let end = start + surface.ty().count();
            surface.write(&self.values[start..end])?;
            start = end;
        }
        Ok(report)
    }
}
