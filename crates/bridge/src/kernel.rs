//! Kernels: a compiled program with a surface for each port.

use crate::check;
use crate::device::OpenDevice;
use crate::error::BridgeError;
use crate::wire;
use ane::{Executable, Lent, Port, RunReport, Surface};
use mil::Weights;
use serde_json::{Value, json};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// A compiled program and the surfaces of its ports. All methods may be called from any thread;
/// whatever touches a surface waits until no run is in flight.
#[derive(Debug)]
pub(crate) struct Kernel {
    device: Arc<OpenDevice>,
    inputs: Vec<Bound>,
    outputs: Vec<Bound>,
    state: Mutex<State>,
    finished: Condvar,
}

/// A port and its surface.
#[derive(Debug)]
struct Bound {
    port: Port,
    surface: Surface,
    /// Bytes of an element.
    element: usize,
    /// Bytes that the caller sees: those of the tensor or, if it asked for more, those. What lies
    /// behind the tensor is never computed with; it is not kept, and reads as 0.
    bytes: usize,
}

#[derive(Debug)]
struct State {
    program: Slot,
    /// Seconds of the last run, or why it failed.
    outcome: Option<Result<f64, BridgeError>>,
    /// The memory of each surface that is with the caller.
    lent_inputs: Vec<Option<Lent>>,
    lent_outputs: Vec<Option<Lent>>,
}

/// Where the program is.
#[derive(Debug)]
enum Slot {
    Here(Box<dyn Executable>),
    InFlight,
    /// Why there is none any more.
    Gone(BridgeError),
}

/// Which side of a kernel a surface is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Input,
    Output,
}

impl Side {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Side::Input => "input",
            Side::Output => "output",
        }
    }
}

/// A submitted run, on the device's thread.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) kernel: Arc<Kernel>,
    pub(crate) program: Box<dyn Executable>,
}

impl Job {
    /// Runs it; how it went is kept for [`Kernel::wait`].
    pub(crate) fn run(self) {
        let _ = self.kernel.run(self.program);
    }
}

impl Kernel {
    /// Compiles `text`. `sizes` are the bytes of each surface in binding order, at least those of
    /// the tensor; without them, exactly those. Surfaces are allocated as large as the machine asks
    /// for.
    pub(crate) fn compile(
        device: Arc<OpenDevice>,
        text: &str,
        weights: &Weights,
        input_sizes: Option<&[usize]>,
        output_sizes: Option<&[usize]>,
    ) -> Result<Kernel, BridgeError> {
        let executable = device.device.compile(&check::program(text)?, weights)?;
        let inputs = sizes(Side::Input, executable.inputs(), input_sizes)?;
        let outputs = sizes(Side::Output, executable.outputs(), output_sizes)?;
        // One size for all satisfies every machine (ANE080, ANE081).
        let largest = inputs.iter().chain(&outputs).copied().max().unwrap_or(0);
        let allocation = largest.max(device.device.least_allocation());
        let bind = |ports: &[Port], sizes: &[usize]| -> Result<Vec<Bound>, BridgeError> {
            let each = ports.iter().zip(sizes);
            each.map(|(port, &bytes)| Bound::new(&device, port, allocation, bytes)).collect()
        };
        let inputs = bind(executable.inputs(), &inputs)?;
        let outputs = bind(executable.outputs(), &outputs)?;
        let state = State {
            program: Slot::Here(executable),
            outcome: None,
            lent_inputs: inputs.iter().map(|_| None).collect(),
            lent_outputs: outputs.iter().map(|_| None).collect(),
        };
        let (state, finished) = (Mutex::new(state), Condvar::new());
        Ok(Kernel { device, inputs, outputs, state, finished })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Waits until nothing is in flight.
    fn idle(&self) -> MutexGuard<'_, State> {
        let in_flight = |state: &mut State| matches!(state.program, Slot::InFlight);
        (self.finished.wait_while(self.lock(), in_flight))
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn side(&self, side: Side) -> &[Bound] {
        match side {
            Side::Input => &self.inputs,
            Side::Output => &self.outputs,
        }
    }

    fn find(&self, side: Side, index: i64) -> Result<(usize, &Bound), BridgeError> {
        let bound = self.side(side);
        let at = usize::try_from(index).ok().filter(|&at| at < bound.len());
        let at = at.ok_or(BridgeError::Index { what: side.name(), index, count: bound.len() })?;
        Ok((at, &bound[at]))
    }

    pub(crate) fn count(&self, side: Side) -> usize {
        self.side(side).len()
    }

    /// Bytes of a surface as the caller sees it.
    pub(crate) fn bytes(&self, side: Side, index: i64) -> Result<usize, BridgeError> {
        Ok(self.find(side, index)?.1.bytes)
    }

    /// Runs on the caller's thread, after what is in flight.
    pub(crate) fn eval(&self) -> Result<(), BridgeError> {
        let program = self.take(&mut self.idle())?;
        self.run(program)
    }

    /// Hands a run to the device's thread.
    pub(crate) fn submit(self: &Arc<Self>) -> Result<(), BridgeError> {
        let program = self.take(&mut self.lock())?;
        let unsent = self.device.enqueue(Arc::clone(self), program);
        unsent.map_err(|(error, program)| {
            self.put_back(Slot::Here(program), Err(error.clone()));
            error
        })
    }

    fn take(&self, state: &mut State) -> Result<Box<dyn Executable>, BridgeError> {
        for (side, lent) in [(Side::Input, &state.lent_inputs), (Side::Output, &state.lent_outputs)]
        {
            if let Some(index) = lent.iter().position(Option::is_some) {
                let (_, bound) = self.find(side, index as i64)?;
                return Err(bound.locked(side, index));
            }
        }
        match std::mem::replace(&mut state.program, Slot::InFlight) {
            Slot::Here(program) => {
                state.outcome = None;
                Ok(program)
            }
            Slot::InFlight => Err(BridgeError::InFlight),
            Slot::Gone(why) => {
                state.program = Slot::Gone(why.clone());
                Err(why)
            }
        }
    }

    fn run(&self, mut program: Box<dyn Executable>) -> Result<(), BridgeError> {
        let inputs: Vec<&Surface> = self.inputs.iter().map(|bound| &bound.surface).collect();
        let outputs: Vec<&Surface> = self.outputs.iter().map(|bound| &bound.surface).collect();
        let ran = catch_unwind(AssertUnwindSafe(|| program.run(&inputs, &outputs)));
        let (slot, outcome) = match ran {
            Ok(report) => (Slot::Here(program), report.map_err(BridgeError::from)),
            // Half-way through a run its memory may be anything: it is not used again.
            Err(payload) => {
                let error = BridgeError::panicked(payload.as_ref());
                (Slot::Gone(error.clone()), Err(error))
            }
        };
        let outcome = outcome.map(|RunReport { seconds, .. }| seconds);
        let result = outcome.as_ref().map(|_| ()).map_err(BridgeError::clone);
        self.put_back(slot, outcome);
        result
    }

    fn put_back(&self, slot: Slot, outcome: Result<f64, BridgeError>) {
        let mut state = self.lock();
        (state.program, state.outcome) = (slot, Some(outcome));
        self.finished.notify_all();
    }

    /// Waits for the run in flight, at most for `limit`; whether it is finished. A run that failed
    /// is an error, each time it is asked for.
    pub(crate) fn wait(&self, limit: Option<Duration>) -> Result<bool, BridgeError> {
        let state = match limit {
            None => self.idle(),
            Some(limit) => {
                let in_flight = |state: &mut State| matches!(state.program, Slot::InFlight);
                (self.finished.wait_timeout_while(self.lock(), limit, in_flight))
                    .unwrap_or_else(|poisoned| poisoned.into_inner())
                    .0
            }
        };
        match (&state.program, &state.outcome) {
            (Slot::InFlight, _) => Ok(false),
            (_, Some(Ok(_))) => Ok(true),
            (_, Some(Err(error))) => Err(error.clone()),
            (_, None) => Err(BridgeError::NothingSubmitted),
        }
    }

    /// Seconds that the last finished run took on the device.
    pub(crate) fn seconds(&self) -> Result<f64, BridgeError> {
        self.idle().outcome.clone().unwrap_or(Err(BridgeError::NothingSubmitted))
    }

    /// Releases the program, after what is in flight.
    pub(crate) fn release(&self) {
        let gone = Slot::Gone(BridgeError::Freed);
        let program = std::mem::replace(&mut self.idle().program, gone);
        drop(program);
    }

    /// Replaces the first bytes of an input.
    pub(crate) fn write(&self, index: i64, from: &[u8]) -> Result<(), BridgeError> {
        let state = self.idle();
        let (at, bound) = self.find(Side::Input, index)?;
        bound.check(Side::Input, at, from.len())?;
        match state.lent_inputs[at].is_some() {
            true => Err(bound.locked(Side::Input, at)),
            false => bound.write(from),
        }
    }

    /// Replaces an input by values in f32, converted to its element type.
    pub(crate) fn write_f32(&self, index: i64, from: &[f32]) -> Result<(), BridgeError> {
        let state = self.idle();
        let (at, bound) = self.find(Side::Input, index)?;
        match state.lent_inputs[at].is_some() {
            true => Err(bound.locked(Side::Input, at)),
            false => Ok(bound.surface.write(from)?),
        }
    }

    /// Copies the first bytes of a surface.
    pub(crate) fn read(&self, side: Side, index: i64, to: &mut [u8]) -> Result<(), BridgeError> {
        let _state = self.idle();
        let (at, bound) = self.find(side, index)?;
        bound.check(side, at, to.len())?;
        bound.read(to)
    }

    /// Copies a surface as f32.
    pub(crate) fn read_f32(
        &self,
        side: Side,
        index: i64,
        to: &mut [f32],
    ) -> Result<(), BridgeError> {
        let _state = self.idle();
        Ok(self.find(side, index)?.1.surface.read(to)?)
    }

    /// Lends the memory of a surface, with its length in bytes, until [`Kernel::unlend`]. Nothing
    /// here touches it in between: runs and writes are refused.
    pub(crate) fn lend(&self, side: Side, index: i64) -> Result<(*mut u8, usize), BridgeError> {
        let mut state = self.idle();
        let (at, bound) = self.find(side, index)?;
        let place = state.lent(side, at);
        if place.is_some() {
            return Err(bound.locked(side, at));
        }
        let (what, port) = (side.name(), bound.port.name.clone());
        let lent = bound.surface.lend()?;
        let lent = lent.ok_or(BridgeError::NotShared { what, index: at, port })?;
        let lent = place.insert(lent);
        Ok((lent.start(), lent.bytes()))
    }

    /// Takes the memory of a surface back.
    pub(crate) fn unlend(&self, side: Side, index: i64) -> Result<(), BridgeError> {
        let mut state = self.idle();
        let (at, bound) = self.find(side, index)?;
        let (what, port) = (side.name(), bound.port.name.clone());
        let lent = state.lent(side, at).take();
        lent.map(drop).ok_or(BridgeError::NotLocked { what, index: at, port })
    }

    /// The device and the ports, as JSON.
    pub(crate) fn describe(&self) -> Value {
        let ports = |side| {
            let describe = |bound: &Bound| {
                json!({
                    "name": bound.port.name,
                    "dtype": bound.port.ty.dtype.name(),
                    "shape": bound.port.ty.shape,
                    "bytes": bound.bytes,
                })
            };
            self.side(side).iter().map(describe).collect::<Vec<_>>()
        };
        json!({
            "device": self.device.device.describe(),
            "inputs": ports(Side::Input),
            "outputs": ports(Side::Output),
        })
    }
}

impl State {
    fn lent(&mut self, side: Side, at: usize) -> &mut Option<Lent> {
        match side {
            Side::Input => &mut self.lent_inputs[at],
            Side::Output => &mut self.lent_outputs[at],
        }
    }
}

/// The engine's window of addresses: 3.5 GiB (docs/ane-facts.md D, D-program-bytes).
const LARGEST: usize = 7 << 29;

/// Bytes of each surface: `given`, if they are as many as the ports, large enough, and not absurd.
fn sizes(side: Side, ports: &[Port], given: Option<&[usize]>) -> Result<Vec<usize>, BridgeError> {
    let what = side.name();
    let Some(given) = given else {
        return Ok(ports.iter().map(|port| port.ty.bytes()).collect());
    };
    if given.len() != ports.len() {
        return Err(BridgeError::SizeCount { what, count: ports.len(), got: given.len() });
    }
    for (index, (port, &got)) in ports.iter().zip(given).enumerate() {
        let needed = port.ty.bytes();
        if got < needed {
            let (port, ty) = (port.name.clone(), port.ty.to_string());
            return Err(BridgeError::SizeTooSmall { what, index, port, ty, needed, got });
        }
        if got > LARGEST {
            return Err(BridgeError::SizeTooLarge { what, index, limit: LARGEST, got });
        }
    }
    Ok(given.to_vec())
}

impl Bound {
    fn new(
        device: &OpenDevice,
        port: &Port,
        allocation: usize,
        bytes: usize,
    ) -> Result<Self, BridgeError> {
        let element = wire::element_bytes(&port.name, &port.ty)?;
        let surface = device.device.surface(&port.ty, allocation)?;
        Ok(Bound { port: port.clone(), surface, element, bytes })
    }

    fn locked(&self, side: Side, index: usize) -> BridgeError {
        BridgeError::Locked { what: side.name(), index, port: self.port.name.clone() }
    }

    fn check(&self, side: Side, index: usize, got: usize) -> Result<(), BridgeError> {
        let (limit, port) = (self.bytes, self.port.name.clone());
        if got > limit {
            return Err(BridgeError::Bytes { what: side.name(), index, port, limit, got });
        }
        let inside = got.min(self.port.ty.bytes());
        match inside.is_multiple_of(self.element) {
            true => Ok(()),
            false => Err(BridgeError::Partial { port, size: self.element, got }),
        }
    }

    /// Replaces the first bytes; those behind the tensor are dropped.
    fn write(&self, from: &[u8]) -> Result<(), BridgeError> {
        let from = &from[..from.len().min(self.port.ty.bytes())];
        let copied = self.surface.bytes_mut(|to| to[..from.len()].copy_from_slice(from))?;
        if copied.is_some() {
            return Ok(());
        }
        let mut all = vec![0.0; self.port.ty.count()];
        self.surface.read(&mut all)?;
        wire::decode(self.port.ty.dtype, from, &mut all[..from.len() / self.element]);
        Ok(self.surface.write(&all)?)
    }

    /// Copies the first bytes; those behind the tensor are 0.
    fn read(&self, to: &mut [u8]) -> Result<(), BridgeError> {
        let (to, behind) = to.split_at_mut(to.len().min(self.port.ty.bytes()));
        behind.fill(0);
        if self.surface.bytes(|from| to.copy_from_slice(&from[..to.len()]))?.is_some() {
            return Ok(());
        }
        let mut all = vec![0.0; self.port.ty.count()];
        self.surface.read(&mut all)?;
        wire::encode(self.port.ty.dtype, &all[..to.len() / self.element], to);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
