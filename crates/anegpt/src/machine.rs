//! Which device a command computes on, and why.

use crate::{engine, usage};
use ane::{Chip, Device, Emulator, Numerics, Profile};
use anyhow::Result;
use clap::ValueEnum;

/// What the user asks to compute on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DeviceChoice {
    /// The Neural Engine where it works, else the emulator.
    Auto,
    /// The Neural Engine, by the better of its two routes.
    Ane,
    /// The Neural Engine through in-memory models.
    InMemory,
    /// The Neural Engine through Espresso's runtime.
    Espresso,
    /// The emulated Neural Engine, with its rules and its arithmetic.
    Emulator,
    /// The CPU in single precision, without the engine's rules.
    Cpu,
}

/// Arithmetic of the emulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum NumericsChoice {
    /// Reference precision.
    F32,
    /// The engine's binary16 at every operation boundary, f32 sums.
    Fast,
}

/// A device, its arithmetic, and why it was taken.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) device: Box<dyn Device>,
    pub(crate) numerics: Numerics,
    pub(crate) reason: String,
}

/// Opens the device asked for.
pub(crate) fn open(
    choice: DeviceChoice,
    chip: Option<Chip>,
    numerics: Option<NumericsChoice>,
) -> Result<Machine> {
    let numerics = match numerics {
        Some(NumericsChoice::F32) => Some(Numerics::F32),
        Some(NumericsChoice::Fast) => Some(Numerics::Fast),
        None => None,
    };
    let emulated = |reason: &str| {
        let profile =
            Profile { chip: chip.unwrap_or(Profile::default().chip), ..Profile::default() };
        let numerics = numerics.unwrap_or(Numerics::Fast);
        let device: Box<dyn Device> = Box::new(Emulator::engine(profile, numerics));
        Ok(Machine { device, numerics, reason: reason.to_owned() })
    };
    let real = |route: &str, reason: String| {
        let device = engine::open(route)?;
        if numerics == Some(Numerics::F32) {
            return Err(usage(
                "the Neural Engine computes in fp16; --numerics f32 is for --device emulator and cpu",
            ));
        }
        if chip.is_some() {
            return Err(usage("--chip is for the emulator; the Neural Engine is the one it is"));
        }
        Ok(Machine { device, numerics: Numerics::Fast, reason })
    };
    match choice {
        DeviceChoice::Auto => match engine::best() {
            Ok((route, reason)) => real(route, reason),
            Err(reason) => emulated(&format!("{reason:#}")),
        },
        DeviceChoice::Emulator => emulated("asked for"),
        DeviceChoice::Cpu => {
            let numerics = numerics.unwrap_or(Numerics::F32);
            let device: Box<dyn Device> = Box::new(Emulator::cpu(numerics));
            Ok(Machine { device, numerics, reason: "asked for".to_owned() })
        }
        DeviceChoice::InMemory => real("in-memory", "asked for".to_owned()),
        DeviceChoice::Espresso => real("espresso", "asked for".to_owned()),
        DeviceChoice::Ane => match engine::best() {
            Ok((route, reason)) => real(route, reason),
            Err(reason) => Err(usage(format!(
                "{reason:#}; use --device emulator, which runs the same programs"
            ))),
        },
    }
}
