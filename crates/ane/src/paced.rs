//! Requests that take the time of their forecast and leave the CPU free, as an engine's do: what runs
//! beside requests can be tried on any machine.

use crate::device::{Device, Executable, Port, RunReport};
use crate::error::AneError;
use crate::surface::Surface;
use chip::cost::Estimate;
use mil::{Program, Weights};
use std::time::{Duration, Instant};

/// A device around another. Its requests take at least `pace` times their forecast: what is left of that
/// when they are done, they sleep.
#[derive(Debug)]
pub struct Paced {
    device: Box<dyn Device>,
    pace: f64,
    computes: bool,
}

impl Paced {
    /// `device`, whose requests compute, on the CPU, before they sleep.
    pub fn new(device: Box<dyn Device>, pace: f64) -> Self {
        Paced { device, pace, computes: true }
    }

    /// The same without results: outputs stay what they were, and requests do nothing but sleep.
    pub fn asleep(device: Box<dyn Device>, pace: f64) -> Self {
        Paced { device, pace, computes: false }
    }
}

impl Device for Paced {
    fn describe(&self) -> String {
        let results = if self.computes { "" } else { ", without results" };
        format!("{}, at {} times its forecast{results}", self.device.describe(), self.pace)
    }

    crate::as_inside!(device, but overlaps);

    fn overlaps(&self) -> bool {
        true
    }

    fn compile(
        &self,
        program: &Program,
        weights: &Weights,
    ) -> Result<Box<dyn Executable>, AneError> {
        let executable = self.device.compile(program, weights)?;
        let forecast = executable.forecast().map_or(0.0, Estimate::engine_seconds);
        let least = Duration::from_secs_f64(self.pace * forecast);
        Ok(Box::new(PacedExecutable { executable, least, computes: self.computes }))
    }
}

#[derive(Debug)]
struct PacedExecutable {
    executable: Box<dyn Executable>,
    least: Duration,
    computes: bool,
}

impl Executable for PacedExecutable {
    fn inputs(&self) -> &[Port] {
        self.executable.inputs()
    }

    fn outputs(&self) -> &[Port] {
        self.executable.outputs()
    }

    fn forecast(&self) -> Option<&Estimate> {
        self.executable.forecast()
    }

    fn run(&mut self, inputs: &[&Surface], outputs: &[&Surface]) -> Result<RunReport, AneError> {
        let start = Instant::now();
        if self.computes {
            self.executable.run(inputs, outputs)?;
        }
        std::thread::sleep(self.least.saturating_sub(start.elapsed()));
        Ok(RunReport { seconds: start.elapsed().as_secs_f64(), hardware_seconds: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Emulator;
    use chip::Profile;
    use cpu::Numerics;
    use mil::{Builder, TensorType};

    #[test]
    fn requests_take_their_time_with_results_or_without() {
        let b = Builder::new("main");
        let x = b.input("x", TensorType::fp16([1, 8, 1, 32]));
        let program = Program::new(b.finish(&[(x * 2.0).named("y")]).unwrap());
        for (computes, expected) in [(true, 3.0), (false, 0.0)] {
            let inside = Box::new(Emulator::engine(Profile::default(), Numerics::Fast));
            let device =
                if computes { Paced::new(inside, 100.0) } else { Paced::asleep(inside, 100.0) };
            assert!(device.overlaps() && device.describe().contains("at 100 times its forecast"));
            let mut double = device.compile(&program, &Weights::new()).unwrap();
            let ty = double.inputs()[0].ty.clone();
            let surface = || device.surface(&ty, device.least_allocation()).unwrap();
            let (x, y) = (surface(), surface());
            x.write(&[1.5; 256]).unwrap();
            let report = double.run(&[&x], &[&y]).unwrap();
            assert!(report.seconds >= 100.0 * double.forecast().unwrap().engine_seconds());
            let mut doubled = [1.0; 256];
            y.read(&mut doubled).unwrap();
            assert_eq!(doubled, [expected; 256]);
        }
    }
}
