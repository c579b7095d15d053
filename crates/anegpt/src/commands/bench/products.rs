//! The matrix products of a step by themselves: what the step would take if nothing else were in it.

use super::spread::Spread;
use super::work::{self, Product};
use super::{Effort, random_tokens};
use crate::machine::Machine;
use ane::{AneError, Device, Emulator, RunReport, Surface};
use anyhow::Result;
use cpu::{Elements, HostProgram, Numerics, OutputMut};
use gpt::plan::Part;
use gpt::precision;
use mil::{Builder, DType, Function, Program, TensorType, Weights};
use serde::Serialize;
use std::time::Instant;
use train::RunConfig;

/// One product of the step.
#[derive(Clone, Debug, Serialize)]
pub(super) struct MeasuredProduct {
    pub(super) part: &'static str,
    /// The program that it is first in.
    pub(super) what: String,
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) k: usize,
    pub(super) together: usize,
    /// Runs in a step.
    pub(super) count: usize,
    pub(super) gflop: f64,
    /// Of one run.
    pub(super) ms: Spread,
}

impl MeasuredProduct {
    /// GFLOP/s of the median run.
    pub(super) fn gflops(&self) -> f64 {
        1e3 * self.gflop / self.ms.median
    }

    /// Milliseconds in a step.
    pub(super) fn step_ms(&self) -> f64 {
        self.count as f64 * self.ms.median
    }
}

/// Measures every product of a step as the step computes it: on surfaces of the device's precision
/// for the layers, adding to f32 for gradients, in f32 for the head. Those of a real engine are left
/// out: it does not run single products as it runs them in programs.
pub(super) fn measure(
    config: &RunConfig,
    machine: &Machine,
    effort: &Effort,
) -> Result<Vec<MeasuredProduct>> {
    let mut found = vec![];
    for product in work::products(&work::steps(config, machine.numerics)?) {
        if on_engine(product.part) && !machine.emulated() {
            continue;
        }
        let ms = times(runner(&product, machine.numerics)?, effort)?;
        let mil::Product { m, n, k, together, .. } = product.shape;
        let count = product.count * config.accum;
        let gflop = product.shape.flops() * 1e-9;
        let (part, what) = (product.part.name(), product.program);
        found.push(MeasuredProduct { part, what, m, n, k, together, count, gflop, ms });
    }
    Ok(found)
}

fn on_engine(part: Part) -> bool {
    [Part::EngineForward, Part::EngineBackward].contains(&part)
}

type Run = Box<dyn FnMut() -> Result<(), AneError>>;

/// Milliseconds of one run in some rounds, after one to warm up. A round is long enough for the clock.
fn times(mut run: Run, effort: &Effort) -> Result<Spread> {
    const ROUND_MS: f64 = 2.0;
    run()?;
    let start = Instant::now();
    run()?;
    let once = 1e3 * start.elapsed().as_secs_f64();
    let runs = (ROUND_MS / once.max(1e-4)).clamp(1.0, 1000.0) as usize;
    let mut ms = vec![];
    for _ in 0..effort.rounds {
        let start = Instant::now();
        for _ in 0..runs {
            run()?;
        }
        ms.push(1e3 * start.elapsed().as_secs_f64() / runs as f64);
    }
    Ok(Spread::of(ms))
}

/// The product as a program on operands of its own.
fn runner(product: &Product, numerics: Numerics) -> Result<Run> {
    let mil::Product { m, n, together, transposed, .. } = product.shape;
    if on_engine(product.part) {
        let device = Emulator::cpu(numerics);
        let program = Program::new(function(&product.shape, precision(numerics))?);
        let mut executable = device.compile(&program, &Weights::new())?;
        let surface = |port: &ane::Port| filled(&device, &port.ty);
        let inputs: Vec<Surface> =
            executable.inputs().iter().map(surface).collect::<Result<_, _>>()?;
        let output = filled(&device, &executable.outputs()[0].ty)?;
        return Ok(Box::new(move || {
            let inputs: Vec<&Surface> = inputs.iter().collect();
            executable.run(&inputs, &[&output]).map(|RunReport { .. }| ())
        }));
    }
    let f = function(&product.shape, DType::Fp32)?;
    let mut program = HostProgram::new(&f)?;
    let mut data = vec![0.0f32; together * m * n];
    let accumulate = transposed[1];
    let stored =
        if product.part == Part::WeightGradients { precision(numerics) } else { DType::Fp32 };
    let device = Emulator::cpu(if stored == DType::Fp32 { Numerics::F32 } else { numerics });
    let inputs: Vec<Surface> = (f.inputs())
        .map(|id| filled(&device, &TensorType::new(stored, f.ty(id).shape.clone())))
        .collect::<Result<_, _>>()?;
    Ok(Box::new(move || {
        let guards = inputs.iter().map(Surface::lock).collect::<Result<Vec<_>, _>>()?;
        let inputs: Vec<Elements<'_>> = guards.iter().map(|guard| guard.elements()).collect();
        Ok(program.run(&inputs, &mut [OutputMut::F32 { data: &mut data, accumulate }])?)
    }))
}

fn function(product: &mil::Product, dtype: DType) -> Result<Function> {
    let &mil::Product { m, n, k, together, transposed: [left, right], .. } = product;
    let ty = |rows: usize, columns: usize, transposed: bool| {
        let (rows, columns) = if transposed { (columns, rows) } else { (rows, columns) };
        TensorType::new(dtype, [1, together, rows, columns])
    };
    let b = Builder::new("product");
    let (x, y) = (b.input("x", ty(m, k, left)), b.input("y", ty(k, n, right)));
    Ok(b.finish(&[x.matmul(y, left, right).named("z")])?)
}

/// A surface of numbers between -1 and 1: zeros may be faster.
fn filled(device: &Emulator, ty: &TensorType) -> Result<Surface, AneError> {
    const STEPS: usize = 2048;
    let surface = device.surface(ty, 0)?;
    let value = |step: u32| step as f32 / (STEPS / 2) as f32 - 1.0;
    let values: Vec<f32> = random_tokens(ty.count(), STEPS).into_iter().map(value).collect();
    surface.write(&values)?;
    Ok(surface)
}
