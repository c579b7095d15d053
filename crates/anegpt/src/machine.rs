//! Which device a command computes on, and why.

use crate::{engine, usage};
use ane::{Backoff, Device, Emulator, Faults, Faulty, Retrying};
use anyhow::Result;
use apple::{Choice, Route};
use chip::{Chip, Os, Profile};
use clap::ValueEnum;
use cpu::Numerics;
use lab::trace::Recording;
use lab::{MachineInfo, Ranges, Recorder, Watched};

/// The device that the user asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DeviceChoice {
    /// The best that this machine has
    Auto,
    /// The Neural Engine, by the faster of its two routes
    Ane,
    /// The Neural Engine, through in-memory models
    InMemory,
    /// The Neural Engine, through Espresso's runtime
    Espresso,
    /// The emulated Neural Engine, with its rules and arithmetic
    Emulator,
    /// The CPU in single precision, without the engine's rules
    Cpu,
}

/// Arithmetic of the emulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum NumericsChoice {
    /// Single precision, for reference
    F32,
    /// fp16 at the boundaries of operations, sums in f32
    Fast,
    /// The engine's arithmetic, bit for bit where it is known; several times slower
    Exact,
}

/// Where a model that exists reads or generates text.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct TextDevice {
    /// Where to compute; auto: the Neural Engine if it works, else the CPU
    #[arg(long, value_enum, default_value = "auto", help_heading = "Device")]
    device: DeviceChoice,
    /// Chip to emulate (list: anegpt devices) [default: m4]
    #[arg(long, help_heading = "Device")]
    chip: Option<Chip>,
    /// Arithmetic of the emulator [default: fast; on the CPU, f32]
    #[arg(long, value_enum, help_heading = "Device")]
    numerics: Option<NumericsChoice>,
}

impl TextDevice {
    /// Opens it.
    pub(crate) fn open(self) -> Result<Machine> {
        open_for_text(self.device, self.chip, self.numerics)
    }

    /// True if any device will do.
    pub(crate) fn is_free(self) -> bool {
        is_free(self.device, self.chip, self.numerics)
    }
}

/// A device, its arithmetic, and why it was taken.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) device: Box<dyn Device>,
    pub(crate) numerics: Numerics,
    pub(crate) reason: String,
    pub(crate) kind: Kind,
    /// What measures the ranges of its products, where that may be asked for.
    pub(crate) ranges: Option<Ranges>,
}

/// The kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The Neural Engine of this machine.
    Engine,
    /// Its emulator.
    Emulator,
    /// The CPU, without an engine's rules.
    Cpu,
}

impl Kind {
    /// Name in events.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Kind::Engine => "engine",
            Kind::Emulator => "emulator",
            Kind::Cpu => "cpu",
        }
    }
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Engine => "the Neural Engine",
            Kind::Emulator => "the emulated engine",
            Kind::Cpu => "the CPU",
        }
    }
}

impl Machine {
    /// True if a program of ours computes, and no engine.
    pub(crate) fn emulated(&self) -> bool {
        self.kind != Kind::Engine
    }

    /// The machine as a long run wants it: with patience for a compiler that fails now and then,
    /// and with the faults that `spec` asks for, if any. The ranges of its products can be measured, which
    /// costs nothing while nobody asks.
    pub(crate) fn for_training(mut self, spec: Option<&str>, seed: u64) -> Result<Self> {
        if let Some(spec) = spec {
            let faults = Faults::parse(spec, seed).map_err(|error| usage(error.to_string()))?;
            self.device = Box::new(Faulty::new(self.device, faults));
        }
        self.device = Box::new(Retrying::new(self.device, Backoff::default(), |error, pause| {
            crate::term::warn(&format!("{error}\ntrying again in {:.1} s", pause.as_secs_f64()));
        }));
        let watched = Watched::new(self.device);
        self.ranges = Some(watched.ranges());
        self.device = Box::new(watched);
        Ok(self)
    }

    /// The machine with a recorder before it that keeps up to `most_runs` runs of each program.
    pub(crate) fn recorded(self, most_runs: usize) -> (Self, Recording) {
        let info = MachineInfo {
            emulated: self.emulated(),
            numerics: self.emulated().then(|| format!("{:?}", self.numerics).to_lowercase()),
            recorder: format!("anegpt {}", env!("CARGO_PKG_VERSION")),
            // The recorder asks the device for the rest.
            ..MachineInfo::default()
        };
        let recorder = Recorder::new(self.device, info, most_runs);
        let recording = recorder.recording();
        (Machine { device: Box::new(recorder), ..self }, recording)
    }
}

/// The arithmetic chosen.
pub(crate) fn numerics(choice: NumericsChoice) -> Numerics {
    match choice {
        NumericsChoice::F32 => Numerics::F32,
        NumericsChoice::Fast => Numerics::Fast,
        NumericsChoice::Exact => Numerics::Exact,
    }
}

/// Opens the device asked for.
pub(crate) fn open(
    choice: DeviceChoice,
    chip: Option<Chip>,
    numerics: Option<NumericsChoice>,
) -> Result<Machine> {
    open_on(choice, chip, None, numerics)
}

/// Opens the device asked for; `auto` without an engine, a chip or an arithmetic asked for takes the
/// CPU, which reads and generates text faster than the emulator does.
pub(crate) fn open_for_text(
    choice: DeviceChoice,
    chip: Option<Chip>,
    numerics: Option<NumericsChoice>,
) -> Result<Machine> {
    match open(choice, chip, numerics)? {
        Machine { kind: Kind::Emulator, reason, .. } if is_free(choice, chip, numerics) => {
            let cpu = open(DeviceChoice::Cpu, None, None)?;
            Ok(Machine { reason: format!("{reason}; faster than the emulator"), ..cpu })
        }
        machine => Ok(machine),
    }
}

fn is_free(choice: DeviceChoice, chip: Option<Chip>, numerics: Option<NumericsChoice>) -> bool {
    choice == DeviceChoice::Auto && chip.is_none() && numerics.is_none()
}

/// Opens the device asked for, with the rules of a system.
pub(crate) fn open_on(
    choice: DeviceChoice,
    chip: Option<Chip>,
    os: Option<Os>,
    numerics: Option<NumericsChoice>,
) -> Result<Machine> {
    check_flags(choice, &engine::given())?;
    open_any(choice, chip, os, numerics)
}

/// Refuses flags that a device asked for by name has no use for.
fn check_flags(device: DeviceChoice, given: &engine::Given) -> Result<()> {
    let other = match device {
        DeviceChoice::Auto | DeviceChoice::Ane | DeviceChoice::InMemory => return Ok(()),
        DeviceChoice::Espresso => "espresso has one way to send requests, and tells no times",
        DeviceChoice::Emulator | DeviceChoice::Cpu => "the CPU computes here",
    };
    if let Some(flag) = given.engine
        && device != DeviceChoice::Espresso
    {
        return Err(usage(format!("{flag} is for the Neural Engine; {other}")));
    }
    match given.in_memory {
        Some(flag) => Err(usage(format!("{flag} is for --device in-memory; {other}"))),
        None => Ok(()),
    }
}

/// As [`open_on`], whatever was said of the engine.
pub(crate) fn open_any(
    choice: DeviceChoice,
    chip: Option<Chip>,
    os: Option<Os>,
    choice_of_numerics: Option<NumericsChoice>,
) -> Result<Machine> {
    let numerics = choice_of_numerics.map(numerics);
    let emulated = |reason: &str| {
        let default = Profile::default();
        let (chip, os) = (chip.unwrap_or(default.chip), os.unwrap_or(default.os));
        let profile = Profile { chip, os, ..default };
        let numerics = numerics.unwrap_or(Numerics::Fast);
        let device: Box<dyn Device> = Box::new(Emulator::engine(profile, numerics));
        Ok(Machine {
            device,
            numerics,
            reason: reason.to_owned(),
            kind: Kind::Emulator,
            ranges: None,
        })
    };
    let real = |Choice { route, packed, reason }| {
        let device = engine::open(route, packed)?;
        if numerics.is_some() {
            return Err(usage(
                "the Neural Engine computes in fp16 by its own rules; --numerics is for --device emulator \
                 and cpu",
            ));
        }
        for (given, flag) in [(chip.is_some(), "--chip"), (os.is_some(), "--os")] {
            if given {
                return Err(usage(format!(
                    "{flag} says what to emulate; it cannot change this machine's Neural Engine"
                )));
            }
        }
        Ok(Machine { device, numerics: Numerics::Fast, reason, kind: Kind::Engine, ranges: None })
    };
    match choice {
        DeviceChoice::Auto => match engine::best() {
            Ok(choice) => real(choice),
            Err(reason) => emulated(&format!("{reason:#}")),
        },
        DeviceChoice::Emulator => emulated("asked for"),
        DeviceChoice::Cpu => {
            if chip.is_some() || os.is_some() {
                return Err(usage(
                    "--chip and --os are for the emulated engine; the CPU has no chip's rules",
                ));
            }
            let numerics = numerics.unwrap_or(Numerics::F32);
            let device: Box<dyn Device> = Box::new(Emulator::cpu(numerics));
            Ok(Machine {
                device,
                numerics,
                reason: "asked for".to_owned(),
                kind: Kind::Cpu,
                ranges: None,
            })
        }
        DeviceChoice::InMemory => real(engine::in_memory()?),
        DeviceChoice::Espresso => {
            real(Choice { route: Route::Espresso, packed: false, reason: "asked for".to_owned() })
        }
        DeviceChoice::Ane => match engine::best() {
            Ok(choice) => real(choice),
            Err(reason) => Err(usage(format!(
                "{reason:#}; use --device emulator, which runs the same programs"
            ))),
        },
    }
}
