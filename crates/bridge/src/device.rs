//! Which device a name stands for, and devices that are open.

use crate::error::BridgeError;
use crate::kernel::{Job, Kernel};
use ane::apple::probe::{self, Route};
use ane::apple::{Libraries, Options};
use ane::{Device, Emulator, Executable, Numerics, Profile};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

/// Opens the device called `kind`:
///
/// - `auto`: the engine where there is a driver for it, else the emulator;
/// - `ane`, `in-memory`, `espresso`: the engine;
/// - `emulator[:PROFILE][:NUMERICS]`: the emulated engine, for instance `emulator:m1/macos26:f32`;
///   the numerics are `fast` (unless said otherwise), `exact` or `f32`;
/// - `cpu[:NUMERICS]`: the CPU without an engine's rules, in `f32` unless said otherwise.
///
/// # Errors
/// When the name is none of these, or the engine is not there.
pub fn open_device(kind: &str) -> Result<Box<dyn Device>, BridgeError> {
    let mut parts = kind.split(':').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let (mut profile, mut numerics) = (None, None);
    for part in parts {
        match part {
            "f32" => numerics = Some(Numerics::F32),
            "fast" => numerics = Some(Numerics::Fast),
            "exact" => numerics = Some(Numerics::Exact),
            _ if name == "emulator" && profile.is_none() => {
                profile = Some(part.parse::<Profile>()?);
            }
            _ => return Err(BridgeError::UnknownDevice { got: kind.to_owned() }),
        }
    }
    let emulator = || {
        let numerics = numerics.unwrap_or(Numerics::Fast);
        Box::new(Emulator::engine(profile.unwrap_or_default(), numerics)) as Box<dyn Device>
    };
    match name {
        "auto" if numerics.is_none() => {
            let either = engine(Route::InMemory).or_else(|_| engine(Route::Espresso));
            Ok(either.unwrap_or_else(|_| emulator()))
        }
        "emulator" => Ok(emulator()),
        "cpu" => Ok(Box::new(Emulator::cpu(numerics.unwrap_or(Numerics::F32)))),
        "ane" if numerics.is_none() => engine(Route::InMemory).or_else(|_| engine(Route::Espresso)),
        "in-memory" if numerics.is_none() => engine(Route::InMemory),
        "espresso" if numerics.is_none() => engine(Route::Espresso),
        _ => Err(BridgeError::UnknownDevice { got: kind.to_owned() }),
    }
}

/// The engine, by one way in.
fn engine(route: Route) -> Result<Box<dyn Device>, BridgeError> {
    probe::open(&Libraries::system(), route, Options::default())
        .map_err(|why| BridgeError::NoEngine { reason: why.to_string() })
}

/// A device with the thread that runs what is submitted to it, one kernel after the other.
#[derive(Debug)]
pub(crate) struct OpenDevice {
    pub(crate) device: Box<dyn Device>,
    /// Started with the first submission; the thread ends with the device.
    queue: Mutex<Option<Sender<Job>>>,
}

impl OpenDevice {
    pub(crate) fn open(kind: &str) -> Result<Arc<Self>, BridgeError> {
        Ok(Self::of(open_device(kind)?))
    }

    pub(crate) fn of(device: Box<dyn Device>) -> Arc<Self> {
        Arc::new(OpenDevice { device, queue: Mutex::new(None) })
    }

    /// Hands a kernel with its program to the device's thread; gives the program back on failure.
    pub(crate) fn enqueue(
        &self,
        kernel: Arc<Kernel>,
        program: Box<dyn Executable>,
    ) -> Result<(), (BridgeError, Box<dyn Executable>)> {
        let mut queue = self.queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let sender = match &*queue {
            Some(sender) => sender,
            None => match start() {
                Ok(sender) => queue.insert(sender),
                Err(error) => return Err((error, program)),
            },
        };
        sender
            .send(Job { kernel, program })
            .map_err(|unsent| (BridgeError::Thread("it has ended".to_owned()), unsent.0.program))
    }
}

fn start() -> Result<Sender<Job>, BridgeError> {
    let (sender, jobs) = channel::<Job>();
    let run = move || jobs.into_iter().for_each(Job::run);
    std::thread::Builder::new()
        .name("ane_bridge".to_owned())
        .spawn(run)
        .map_err(|error| BridgeError::Thread(error.to_string()))?;
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices() {
        for (kind, says) in [
            ("auto", "m4/macos15/in-memory, numerics fast"),
            ("emulator", "m4/macos15/in-memory, numerics fast"),
            ("emulator:m1/macos26/e5rt:f32", "m1/macos26/e5rt, numerics f32"),
            ("emulator:m2:exact", "m2/macos15/in-memory, numerics exact"),
            ("emulator:f32", "m4/macos15/in-memory, numerics f32"),
            ("cpu", "CPU, numerics f32"),
            ("cpu:fast", "CPU, numerics fast"),
            ("cpu:exact", "CPU, numerics exact"),
        ] {
            let description = open_device(kind).unwrap().describe();
            assert!(description.contains(says), "{kind}: {description}");
        }
        for kind in ["", "gpu", "emulator:m9", "emulator:m1:m2", "cpu:m1", "auto:f32", "ane:f32"] {
            assert!(open_device(kind).is_err(), "{kind}");
        }
        assert!(matches!(open_device("ane"), Err(BridgeError::NoEngine { .. })));
    }
}
