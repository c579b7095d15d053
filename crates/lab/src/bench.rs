//! One program on a device with surfaces for its ports: what canaries and probes are made of.

use ane::AneError;
use ane::Surface;
use ane::{Call, Device, Executable, Port, RunReport};
use mil::{Arg, Builder, DType, Data, Literal, Op, Program, Tensor, TensorType, Weights, blob};

/// Seconds that suffice for the median of one program.
const ENOUGH: f64 = 1.0;

/// Weight file of the programs that have constants.
const WEIGHT_FILE: &str = "@model_path/weights/weight.bin";

/// A compiled program and surfaces for all of its ports, each side of one allocation size.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) executable: Box<dyn Executable>,
    inputs: Vec<Surface>,
    outputs: Vec<Surface>,
}

impl Bench {
    /// Allocates surfaces for `executable`.
    pub(crate) fn new(
        device: &dyn Device,
        executable: Box<dyn Executable>,
    ) -> Result<Self, AneError> {
        let surfaces = |ports: &[Port]| -> Result<Vec<Surface>, AneError> {
            let largest = ports.iter().map(|p| p.ty.bytes()).max().unwrap_or(0);
            let allocation = largest.max(device.least_allocation());
            ports.iter().map(|p| device.surface(&p.ty, allocation)).collect()
        };
        let (inputs, outputs) = (surfaces(executable.inputs())?, surfaces(executable.outputs())?);
        Ok(Bench { executable, inputs, outputs })
    }

    /// Compiles `program` and allocates its surfaces.
    pub(crate) fn compile(
        device: &dyn Device,
        program: &Program,
        weights: &Weights,
    ) -> Result<Self, AneError> {
        Bench::new(device, device.compile(program, weights)?)
    }

    /// Writes the inputs in binding order.
    pub(crate) fn write(&self, inputs: &[&[f32]]) -> Result<(), AneError> {
        self.inputs.iter().zip(inputs).try_for_each(|(surface, values)| surface.write(values))
    }

    /// Runs once.
    pub(crate) fn report(&mut self) -> Result<RunReport, AneError> {
        let inputs: Vec<&Surface> = self.inputs.iter().collect();
        let outputs: Vec<&Surface> = self.outputs.iter().collect();
        self.executable.run(&inputs, &outputs)
    }

    /// Runs once in another way; `None` where the machine does not have it.
    pub(crate) fn report_by(&mut self, call: Call) -> Result<Option<RunReport>, AneError> {
        let inputs: Vec<&Surface> = self.inputs.iter().collect();
        let outputs: Vec<&Surface> = self.outputs.iter().collect();
        self.executable.run_by(call, &inputs, &outputs)
    }

    /// Runs once; the seconds that the device reports.
    pub(crate) fn run(&mut self) -> Result<f64, AneError> {
        Ok(self.report()?.seconds)
    }

    /// The outputs in binding order, one after the other.
    pub(crate) fn read(&self) -> Result<Vec<f32>, AneError> {
        let mut values = vec![];
        for surface in &self.outputs {
            let start = values.len();
            values.resize(start + surface.ty().count(), 0.0);
            surface.read(&mut values[start..])?;
        }
        Ok(values)
    }

    /// Writes, runs, reads.
    pub(crate) fn answer(&mut self, inputs: &[&[f32]]) -> Result<Vec<f32>, AneError> {
        self.write(inputs)?;
        self.run()?;
        self.read()
    }

    /// Median seconds of `runs` runs after three that wake the engine up; of fewer, but three, where
    /// more would take longer than [`ENOUGH`].
    pub(crate) fn median(&mut self, runs: usize) -> Result<f64, AneError> {
        for _ in 0..3 {
            self.run()?;
        }
        let mut seconds = vec![];
        while seconds.len() < runs && (seconds.len() < 3 || seconds.iter().sum::<f64>() < ENOUGH) {
            seconds.push(self.run()?);
        }
        Ok(median(seconds))
    }

    /// As [`Bench::median`], in another way; `None` where the machine does not have it.
    pub(crate) fn median_by(&mut self, call: Call, runs: usize) -> Result<Option<f64>, AneError> {
        for _ in 0..3 {
            self.report_by(call)?;
        }
        let reports = (0..runs).map(|_| self.report_by(call)).collect::<Result<Vec<_>, _>>()?;
        let seconds: Option<Vec<f64>> = reports.iter().map(|r| Some(r.as_ref()?.seconds)).collect();
        Ok(seconds.map(median))
    }
}

/// The upper one of two in the middle.
fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// A program of one formula over fp16 parameters; its result is `y`.
pub(crate) fn program(
    inputs: &[(&str, &[usize])],
    formula: impl for<'b> Fn(&'b Builder, &[Tensor<'b>]) -> Tensor<'b>,
) -> Result<Program, AneError> {
    let b = Builder::new("main");
    let x: Vec<Tensor<'_>> =
        inputs.iter().map(|(name, shape)| b.input(name, TensorType::fp16(*shape))).collect();
    let y = formula(&b, &x);
    Ok(Program::new(b.finish(&[y.named("y")])?))
}

/// A constant in the weight file made by [`weight_file`] of as many elements.
pub(crate) fn constant<'b>(b: &'b Builder, shape: &[usize]) -> Tensor<'b> {
    b.constant(Literal::blob(TensorType::fp16(shape), WEIGHT_FILE, 64))
}

/// The weight file with one fp16 tensor in it.
pub(crate) fn weight_file(values: &[f32]) -> Weights {
    let mut writer = blob::BlobWriter::new();
    let data = Data::Fp16(values.iter().map(|&v| half::f16::from_f32(v)).collect());
    writer.push(DType::Fp16, &data);
    Weights::from([(WEIGHT_FILE.to_owned(), writer.finish())])
}

/// The convolution of x with `weight`, stride 1, no padding.
pub(crate) fn convolution<'b>(b: &'b Builder, x: Tensor<'b>, weight: Tensor<'b>) -> Tensor<'b> {
    let groups = b.constant(Literal::int(1));
    let args = [("x", x), ("weight", weight), ("groups", groups)];
    b.op(Op::Conv, args.map(|(key, t)| (key, Arg::Value(t.id()))).to_vec())[0]
}

/// Whole numbers from -2 to 2: sums of 64 products of them are exact in fp16.
pub(crate) fn small(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7 + i / 64 * 3 + i % 11 * seed) % 5) as f32 - 2.0).collect()
}

/// x [m, k] · w [k, n] in f64, in row-major order.
pub(crate) fn product(x: &[f32], w: &[f32], k: usize, n: usize) -> Vec<f32> {
    let dot = |row: &[f32], j: usize| -> f64 {
        row.iter().enumerate().map(|(i, &v)| f64::from(v) * f64::from(w[i * n + j])).sum()
    };
    x.chunks_exact(k).flat_map(|row| (0..n).map(move |j| dot(row, j) as f32)).collect()
}
