//! The emulator: the engine's programs on any CPU.
//!
//! A function is lowered once to a fused plan and then run without allocating: chains of
//! elementwise operations become one pass over cache-sized tiles, reshapes, transposes and slices
//! become strides, products go to one blocked matrix kernel, temporaries share memory.
//!
//! [`Emulator`] is a [`Device`] with the engine's conventions (surfaces, binding order);
//! [`HostProgram`] runs the same plans on slices, for the parts of a model that stay on the CPU.

pub mod elementary;
pub mod gemm;
mod lower;
mod plan;
pub mod product;
mod run;
pub mod simd;

pub use run::OutputMut;

use crate::device::{Device, Executable, Port, RunReport};
use crate::error::AneError;
use crate::surface::{Storage, Surface};
use gemm::Elements;
use mil::{Function, Program, TensorType, Weights};
use run::Machine;
use std::time::Instant;

/// Arithmetic of the emulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Numerics {
    /// Reference precision: every value is f32, surfaces included.
    F32,
    /// The engine's grid: binary16 at every operation boundary, f32 sums rounded once, products
    /// saturating at 2^15, no NaN ever emitted (facts/ane.md E).
    Fast,
}

/// Whether requests are held to the rules of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rules {
    /// The strict rules for surfaces: one allocation size for all inputs, one for all outputs.
    Engine,
    /// None: plain memory.
    Cpu,
}

/// The emulated engine.
#[derive(Debug)]
pub struct Emulator {
    numerics: Numerics,
    rules: Rules,
}

impl Emulator {
    /// An emulator with the given arithmetic and rules.
    pub fn new(numerics: Numerics, rules: Rules) -> Self {
        Emulator { numerics, rules }
    }
}

impl Device for Emulator {
    fn describe(&self) -> String {
        let numerics = match self.numerics {
            Numerics::F32 => "f32",
            Numerics::Fast => "fast (fp16 at operation boundaries)",
        };
        match self.rules {
            Rules::Engine => format!("emulated Neural Engine, numerics {numerics}"),
            Rules::Cpu => format!("CPU, numerics {numerics}"),
        }
    }

    fn surface(&self, ty: &TensorType, allocation: usize) -> Result<Surface, AneError> {
        Ok(Surface::new(ty, allocation, self.numerics))
    }

    fn compile(
        &self,
        program: &Program,
        weights: &Weights,
    ) -> Result<Box<dyn Executable>, AneError> {
        let function = &program.functions[0];
        let machine = Machine::new(lower::lower(function, weights, self.numerics)?);
        let input =
            |id| Port { name: function.value(id).name.clone(), ty: function.ty(id).clone() };
        let inputs = alphabetical(function.inputs().map(input).collect());
        let outputs = alphabetical(function.outputs.iter().map(|&id| input(id)).collect());
        Ok(Box::new(Compiled { machine, rules: self.rules, inputs, outputs }))
    }
}

/// Ports in binding order, with the position of each in the function's own order.
#[derive(Debug)]
struct Binding {
    ports: Vec<Port>,
    /// For each position in the function's order, the position in binding order.
    place: Vec<usize>,
}

fn alphabetical(ports: Vec<Port>) -> Binding {
    let mut order: Vec<usize> = (0..ports.len()).collect();
    order.sort_by(|&a, &b| ports[a].name.cmp(&ports[b].name));
    let mut place = vec![0; ports.len()];
    order.iter().enumerate().for_each(|(binding, &own)| place[own] = binding);
    Binding { ports: order.iter().map(|&i| ports[i].clone()).collect(), place }
}

#[derive(Debug)]
struct Compiled {
    machine: Machine,
    rules: Rules,
    inputs: Binding,
    outputs: Binding,
}

impl Compiled {
    fn check(&self, inputs: &[&Surface], outputs: &[&Surface]) -> Result<(), AneError> {
        for (what, binding, surfaces) in
            [("input", &self.inputs, inputs), ("output", &self.outputs, outputs)]
        {
            let expected = binding.ports.len();
            if surfaces.len() != expected {
                return Err(AneError::SurfaceCount { what, expected, got: surfaces.len() });
            }
            for (port, surface) in binding.ports.iter().zip(surfaces) {
                if port.ty != *surface.ty() {
                    return Err(AneError::SurfaceType {
                        port: port.name.clone(),
                        expected: port.ty.clone(),
                        got: surface.ty().clone(),
                    });
                }
            }
            let uniform = surfaces.windows(2).all(|w| w[0].allocation() == w[1].allocation());
            if self.rules == Rules::Engine && !uniform {
                let sizes = surfaces.iter().map(|s| s.allocation()).collect();
                return Err(AneError::SurfaceSizes { what, sizes });
            }
        }
        for (i, out) in outputs.iter().enumerate() {
            let others = (self.inputs.ports.iter().zip(inputs))
                .chain(self.outputs.ports.iter().zip(outputs).take(i));
            for (port, other) in others {
                if out.same(other) {
                    let (a, b) = (self.outputs.ports[i].name.clone(), port.name.clone());
                    return Err(AneError::SurfaceShared { a, b });
                }
            }
        }
        Ok(())
    }
}

impl Executable for Compiled {
    fn inputs(&self) -> &[Port] {
        &self.inputs.ports
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs.ports
    }

    fn run(&mut self, inputs: &[&Surface], outputs: &[&Surface]) -> Result<RunReport, AneError> {
        self.check(inputs, outputs)?;
        let start = Instant::now();
        let read: Vec<_> = self.inputs.place.iter().map(|&i| inputs[i].lock()).collect();
        let mut written: Vec<_> =
            self.outputs.place.iter().map(|&i| outputs[i].lock_mut()).collect();
        let elements: Vec<Elements<'_>> = read.iter().map(|s| s.elements()).collect();
        let mut sinks: Vec<OutputMut<'_>> = written
            .iter_mut()
            .map(|s| match &mut **s {
                Storage::F16(v) => OutputMut::F16(v),
                Storage::F32(v) => OutputMut::F32 { data: v, accumulate: false },
            })
            .collect();
        self.machine.run(&elements, &mut sinks);
        Ok(RunReport { seconds: start.elapsed().as_secs_f64() })
    }
}

/// An input of a [`HostProgram`].
#[derive(Clone, Copy, Debug)]
pub enum HostInput<'a> {
    /// Single-precision elements.
    F32(&'a [f32]),
    /// The contents of a surface, in the precision it has.
    Surface(&'a Surface),
}

/// A function compiled for the CPU: no rules, no surfaces needed, outputs that can accumulate.
#[derive(Debug)]
pub struct HostProgram {
    machine: Machine,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
}

impl HostProgram {
    /// Compiles `function` in reference precision.
    ///
    /// # Errors
    /// When the function breaks a rule of the language.
    pub fn new(function: &Function) -> Result<Self, AneError> {
        let machine = Machine::new(lower::lower(function, &Weights::new(), Numerics::F32)?);
        let port = |id| Port { name: function.value(id).name.clone(), ty: function.ty(id).clone() };
        Ok(HostProgram {
            machine,
            inputs: function.inputs().map(port).collect(),
            outputs: function.outputs.iter().map(|&id| port(id)).collect(),
        })
    }

    /// Runs on inputs and outputs in the function's own order.
    ///
    /// # Errors
    /// When their number or sizes are not those of the function.
    pub fn run(
        &mut self,
        inputs: &[HostInput<'_>],
        outputs: &mut [OutputMut<'_>],
    ) -> Result<(), AneError> {
        let count = |what, expected: usize, got: usize| match got == expected {
            true => Ok(()),
            false => Err(AneError::SurfaceCount { what, expected, got }),
        };
        count("input", self.inputs.len(), inputs.len())?;
        count("output", self.outputs.len(), outputs.len())?;
        let guards: Vec<_> = inputs
            .iter()
            .map(|input| match input {
                HostInput::F32(v) => Ok(*v),
                HostInput::Surface(surface) => Err(surface.lock()),
            })
            .collect();
        let elements: Vec<Elements<'_>> = guards
            .iter()
            .map(|guard| match guard {
                Ok(v) => Elements::F32(v),
                Err(storage) => storage.elements(),
            })
            .collect();
        let lengths = elements.iter().map(|e| match e {
            Elements::F32(v) => v.len(),
            Elements::F16(v) => v.len(),
        });
        for (port, got) in self.inputs.iter().zip(lengths) {
            check_length(port, got)?;
        }
        for (port, output) in self.outputs.iter().zip(outputs.iter()) {
            check_length(port, output.len())?;
        }
        self.machine.run(&elements, outputs);
        Ok(())
    }
}

fn check_length(port: &Port, got: usize) -> Result<(), AneError> {
    let count = port.ty.count();
    if got == count { Ok(()) } else { Err(AneError::SurfaceLength { count, got }) }
}
