//! Which device a name stands for, how `auto` chooses, and devices that are open.

use crate::error::{BridgeError, claim_process};
use crate::kernel::{Job, Kernel};
use ane::{AneError, Device, Emulator, Executable};
use apple::{Findings, Libraries, Options, Packing, Route, probe};
use chip::Profile;
use cpu::Numerics;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Time that opening a way to the engine and its known-answer program may take: as long as a
/// compile may, and a little more.
const LIMIT: Duration = Duration::from_secs(150);

/// A device, and what is to be said about the choice of it.
#[derive(Debug)]
pub struct Chosen {
    /// The device.
    pub device: Box<dyn Device>,
    /// Why the emulator computes although there is an engine, in words; `None` where the device is
    /// the one asked for, or there is no engine.
    pub warning: Option<String>,
}

impl Chosen {
    fn as_asked(device: Box<dyn Device>) -> Self {
        Chosen { device, warning: None }
    }
}

/// Opens the device called `kind`:
///
/// - `auto`: the engine where there is a driver for it and it works, else the emulator
///   ([`choose`]);
/// - `ane`, `in-memory`, `espresso`: the engine;
/// - `emulator[:PROFILE][:NUMERICS]`: the emulated engine, for instance `emulator:m1/macos26:f32`;
///   the numerics are `fast` (unless said otherwise), `exact` or `f32`;
/// - `cpu[:NUMERICS]`: the CPU without an engine's rules, in `f32` unless said otherwise.
///
/// # Errors
/// When the name is none of these, or the engine is not there.
pub fn open_device(kind: &str) -> Result<Chosen, BridgeError> {
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
    let device = match name {
        "auto" if numerics.is_none() => {
            return Ok(choose(&Libraries::system(), &Options::default(), LIMIT));
        }
        "emulator" => emulator(),
        "cpu" => Box::new(Emulator::cpu(numerics.unwrap_or(Numerics::F32))),
        "ane" if numerics.is_none() => {
            engine(Route::InMemory).or_else(|_| engine(Route::Espresso))?
        }
        "in-memory" if numerics.is_none() => engine(Route::InMemory)?,
        "espresso" if numerics.is_none() => engine(Route::Espresso)?,
        _ => return Err(BridgeError::UnknownDevice { got: kind.to_owned() }),
    };
    Ok(Chosen::as_asked(device))
}

/// The engine, by one way in.
fn engine(route: Route) -> Result<Box<dyn Device>, BridgeError> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    if (os, arch) != ("macos", "aarch64") {
        // In the words of `anegpt`.
        let reason = format!("no Neural Engine on this machine ({os}, {arch})");
        return Err(BridgeError::NoEngine { reason });
    }
    probe::open(&Libraries::system(), route, Options::default()).map_err(|why| {
        BridgeError::NoEngine { reason: format!("the Neural Engine cannot be used here: {why}") }
    })
}

/// The outcome of opening a route to the engine and running the known-answer program.
enum Heard {
    Works(Box<dyn Device>, Findings),
    /// There is no such way.
    Absent(String),
    /// It is there, and does not work.
    Fails(String),
    /// It is there, and does not answer.
    Hangs(String),
}

/// Of the ways to the engine that open and give the right answers to the known-answer program
/// ([`probe::examine`]; packed, where requests with several inputs fail), the one that is chosen by
/// [`apple::choose`], else the emulator.
///
/// Each way is tried in this process, since a library cannot start itself again, and on a thread of
/// its own, which has `limit` to answer and is left behind with all it holds when it does not; then
/// no other way is tried, as the service that hangs would only have more to do. What an engine does
/// that raises or crashes cannot be caught here: the program `anegpt devices` tries it in a process
/// of its own.
pub fn choose(libraries: &Libraries, options: &Options, limit: Duration) -> Chosen {
    let (mut working, mut faults, mut absent) = (vec![], vec![], vec![]);
    for route in Route::ALL {
        match hear(libraries, options, route, limit) {
            Heard::Works(device, found) => working.push((route, found, device)),
            Heard::Absent(reason) => absent.push(format!("{route}: {reason}")),
            Heard::Fails(reason) => faults.push(format!("{route}: {reason}")),
            Heard::Hangs(reason) => {
                faults.push(format!("{route}: {reason}"));
                break;
            }
        }
    }
    let found: Vec<(Route, Findings)> = working.iter().map(|w| (w.0, w.1)).collect();
    if let Some(choice) = apple::choose(&found)
        && let Some((.., device)) = working.into_iter().find(|(route, ..)| *route == choice.route)
    {
        return Chosen::as_asked(device);
    }
    // Where there can be no engine, its absence is nothing to warn of.
    if cfg!(all(target_os = "macos", target_arch = "aarch64")) {
        faults.extend(absent);
    }
    let warning = (!faults.is_empty()).then(|| {
        format!(
            "the Neural Engine does not work here ({}); the emulator computes instead, with the \
             same results, slower",
            faults.join("; ")
        )
    });
    let device = Box::new(Emulator::engine(Profile::default(), Numerics::Fast));
    Chosen { device, warning }
}

/// Tries one way, within `limit`.
fn hear(libraries: &Libraries, options: &Options, route: Route, limit: Duration) -> Heard {
    let (sender, receiver) = channel();
    let (libraries, options) = (libraries.clone(), options.clone());
    let started =
        std::thread::Builder::new().name("ane_bridge canary".to_owned()).spawn(move || {
            // Nobody listens any more if the time was up; the device is closed here then.
            let _ = sender.send(try_route(&libraries, &options, route));
        });
    if let Err(error) = started {
        return Heard::Fails(format!("no thread to try it on: {error}"));
    }
    match receiver.recv_timeout(limit) {
        Ok(heard) => heard,
        Err(RecvTimeoutError::Timeout) => Heard::Hangs(format!(
            "its known-answer program did not end within {:.1} s",
            limit.as_secs_f64()
        )),
        Err(RecvTimeoutError::Disconnected) => {
            Heard::Fails("a panic ended its known-answer program".to_owned())
        }
    }
}

fn try_route(libraries: &Libraries, options: &Options, route: Route) -> Heard {
    let device = match probe::open(libraries, route, options.clone()) {
        Ok(device) => device,
        Err(error) => return Heard::Absent(error.to_string()),
    };
    match probe::examine(device, Packing::IfNeeded) {
        Ok((device, found)) => Heard::Works(device, found),
        Err(error @ (AneError::Timeout | AneError::CompileTimeout { .. })) => {
            Heard::Hangs(error.to_string())
        }
        Err(error) => Heard::Fails(error.to_string()),
    }
}

/// A device with the thread that runs what is submitted to it, one kernel after the other.
#[derive(Debug)]
pub(crate) struct OpenDevice {
    pub(crate) device: Box<dyn Device>,
    /// As [`Chosen::warning`].
    pub(crate) warning: Option<String>,
    /// Started with the first submission; the thread ends with the device.
    queue: Mutex<Option<Sender<Job>>>,
}

impl OpenDevice {
    pub(crate) fn open(kind: &str) -> Result<Arc<Self>, BridgeError> {
        claim_process();
        let Chosen { device, warning } = open_device(kind)?;
        Ok(Arc::new(OpenDevice { device, warning, queue: Mutex::new(None) }))
    }

    #[cfg(test)]
    pub(crate) fn of(device: Box<dyn Device>) -> Arc<Self> {
        Arc::new(OpenDevice { device, warning: None, queue: Mutex::new(None) })
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
            ("emulator", "m4/macos15/in-memory, numerics fast"),
            ("emulator:m1/macos26/e5rt:f32", "m1/macos26/e5rt, numerics f32"),
            ("emulator:m2:exact", "m2/macos15/in-memory, numerics exact"),
            ("emulator:f32", "m4/macos15/in-memory, numerics f32"),
            ("cpu", "CPU, numerics f32"),
            ("cpu:fast", "CPU, numerics fast"),
            ("cpu:exact", "CPU, numerics exact"),
        ] {
            let chosen = open_device(kind).unwrap();
            assert!(chosen.warning.is_none(), "{kind}: {:?}", chosen.warning);
            let description = chosen.device.describe();
            assert!(description.contains(says), "{kind}: {description}");
        }
        for kind in ["", "gpu", "emulator:m9", "emulator:m1:m2", "cpu:m1", "auto:f32", "ane:f32"] {
            assert!(open_device(kind).is_err(), "{kind}");
        }
        if !cfg!(all(target_os = "macos", target_arch = "aarch64")) {
            let auto = open_device("auto").unwrap();
            assert!(auto.warning.is_none() && auto.device.describe().contains("numerics fast"));
            let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
            let says = format!(
                "no Neural Engine on this machine ({os}, {arch}); use the device `emulator`, which \
                 runs the same programs"
            );
            for kind in ["ane", "in-memory", "espresso"] {
                assert_eq!(open_device(kind).unwrap_err().to_string(), says);
            }
        }
    }
}
