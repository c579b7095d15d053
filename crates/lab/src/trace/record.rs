//! Recording what a device does.

use super::form::{MachineInfo, ProgramTrace, RunTrace, Trace};
use crate::array::Array;
use ane::{AneError, Call, Device, Executable, Port, Reloaded, RunReport, Surface};
use half::f16;
use mil::{DType, Program, Weights};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

/// The notes of a [`Recorder`] so far. Clones share them, so that they outlive the device.
#[derive(Clone, Debug, Default)]
pub struct Recording(Arc<Mutex<Noted>>);

#[derive(Debug, Default)]
struct Noted {
    trace: Trace,
    /// Programs taken out: those left are numbered from here.
    taken: usize,
}

impl Noted {
    fn program(&mut self, index: usize) -> Option<&mut ProgramTrace> {
        self.trace.programs.get_mut(index.checked_sub(self.taken)?)
    }
}

impl Recording {
    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Takes out the programs noted so far, so that the next trace begins anew. Programs that still
    /// run are not noted any more.
    pub fn take(&self) -> Vec<ProgramTrace> {
        let mut noted = self.lock();
        noted.taken += noted.trace.programs.len();
        std::mem::take(&mut noted.trace.programs)
    }

    /// A copy of the trace as it stands.
    pub fn trace(&self) -> Trace {
        self.lock().trace.clone()
    }
}

/// A device that notes what it compiles and runs.
#[derive(Debug)]
pub struct Recorder {
    device: Box<dyn Device>,
    recording: Recording,
    most_runs: usize,
}

impl Recorder {
    /// `device`, recorded: of every program the first `most_runs` runs of each call that succeed. What the
    /// device cannot say of itself is given in `machine`.
    pub fn new(device: Box<dyn Device>, machine: MachineInfo, most_runs: usize) -> Self {
        let profile = device.profile();
        let machine = MachineInfo {
            device: device.describe(),
            chip: profile.map(|p| p.chip.to_string()),
            os: profile.map(|p| p.os.to_string()),
            path: profile.map(|p| p.path.to_string()),
            ..machine
        };
        let recording = Recording(Arc::new(Mutex::new(Noted {
            trace: Trace { machine, programs: vec![] },
            taken: 0,
        })));
        Recorder { device, recording, most_runs }
    }

    /// Notes a program that was compiled from `start` on.
    fn compiled(
        &self,
        text: String,
        weights: &Weights,
        start: Instant,
        executable: Box<dyn Executable>,
    ) -> Box<dyn Executable> {
        let mut noted = self.recording.lock();
        let index = noted.taken + noted.trace.programs.len();
        noted.trace.programs.push(ProgramTrace {
            text,
            weights: weights.clone(),
            compile_seconds: start.elapsed().as_secs_f64(),
            inputs: executable.inputs().to_vec(),
            outputs: executable.outputs().to_vec(),
            runs: vec![],
        });
        let (recording, most_runs) = (self.recording.clone(), self.most_runs);
        Box::new(RecordedExecutable { executable, recording, index, most_runs })
    }

    /// Returns the notes.
    pub fn recording(&self) -> Recording {
        self.recording.clone()
    }
}

impl Device for Recorder {
    fn describe(&self) -> String {
        self.device.describe()
    }

    ane::as_inside!(device);

    fn compile(
        &self,
        program: &Program,
        weights: &Weights,
    ) -> Result<Box<dyn Executable>, AneError> {
        let start = Instant::now();
        let executable = self.device.compile(program, weights)?;
        Ok(self.compiled(program.to_string(), weights, start, executable))
    }

    fn compile_unchecked(
        &self,
        text: &str,
        weights: &Weights,
        like: &Program,
    ) -> Option<Result<Box<dyn Executable>, AneError>> {
        let start = Instant::now();
        let compiled = self.device.compile_unchecked(text, weights, like)?;
        Some(compiled.map(|program| self.compiled(text.to_owned(), weights, start, program)))
    }
}

#[derive(Debug)]
struct RecordedExecutable {
    executable: Box<dyn Executable>,
    recording: Recording,
    index: usize,
    most_runs: usize,
}

impl Executable for RecordedExecutable {
    fn inputs(&self) -> &[Port] {
        self.executable.inputs()
    }

    fn outputs(&self) -> &[Port] {
        self.executable.outputs()
    }

    fn forecast(&self) -> Option<&chip::cost::Estimate> {
        self.executable.forecast()
    }

    fn run(&mut self, inputs: &[&Surface], outputs: &[&Surface]) -> Result<RunReport, AneError> {
        let report =
            self.noted(None, inputs, outputs, |program| program.run(inputs, outputs).map(Some))?;
        Ok(report.unwrap_or_default())
    }

    /// Runs of a program that was loaded again are not noted: whether it has the weights of the
    /// trace still is what they would tell.
    fn reload(&mut self, weights: &Weights) -> Result<Option<Reloaded>, AneError> {
        let reloaded = self.executable.reload(weights);
        if !matches!(reloaded, Ok(None)) {
            self.most_runs = 0;
        }
        reloaded
    }

    fn run_by(
        &mut self,
        call: Call,
        inputs: &[&Surface],
        outputs: &[&Surface],
    ) -> Result<Option<RunReport>, AneError> {
        let name = match call {
            Call::Quality(qos) => format!("quality of service {qos}"),
            Call::RealTime => "real time".to_owned(),
            // Prepared, not run: there is nothing to note.
            Call::Chained => return self.executable.run_by(call, inputs, outputs),
        };
        self.noted(Some(name), inputs, outputs, |program| program.run_by(call, inputs, outputs))
    }
}

impl RecordedExecutable {
    /// Has `run` run, and notes it if it is among the first that were sent by this call.
    fn noted(
        &mut self,
        call: Option<String>,
        inputs: &[&Surface],
        outputs: &[&Surface],
        run: impl FnOnce(&mut dyn Executable) -> Result<Option<RunReport>, AneError>,
    ) -> Result<Option<RunReport>, AneError> {
        let alike = |p: &mut ProgramTrace| p.runs.iter().filter(|run| run.call == call).count();
        let noted = self.recording.lock().program(self.index).map(alike);
        if noted.is_none_or(|runs| runs >= self.most_runs) {
            return run(self.executable.as_mut());
        }
        // The inputs as they were before the run.
        let before = inputs.iter().map(|s| snapshot(s)).collect::<Result<_, _>>()?;
        let Some(report) = run(self.executable.as_mut())? else { return Ok(None) };
        let after = outputs.iter().map(|s| snapshot(s)).collect::<Result<_, _>>()?;
        let run = RunTrace { call, seconds: report.seconds, inputs: before, outputs: after };
        if let Some(program) = self.recording.lock().program(self.index) {
            program.runs.push(run);
        }
        Ok(Some(report))
    }
}

/// The contents of a surface to the bit: fp16 stays fp16 unless the surface holds more than that.
fn snapshot(surface: &Surface) -> Result<Array, AneError> {
    let mut ty = surface.ty().clone();
    let mut values = vec![0.0; ty.count()];
    surface.read(&mut values)?;
    let fits = |v: &f32| v.is_nan() || f16::from_f32(*v).to_f32().to_bits() == v.to_bits();
    if ty.dtype == DType::Fp16 && !values.iter().all(fits) {
        ty.dtype = DType::Fp32;
    }
    Ok(Array { ty, values })
}
