//! Faults on demand: a device that fails in the ways that published work reports, so that every
//! path that handles a failure can be tested. The same faults and the same seed fail the same way.

use crate::device::{Call, Device, Executable, Port, Reloaded, RunReport};
use crate::error::AneError;
use crate::surface::Surface;
use chip::{CallPath, UnknownName};
use half::f16;
use mil::{Program, Weights};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Runs after which one set of kernels slows down (docs/ane-facts.md D "Throughput decay": RUS#9, M3
/// Ultra, about 100 thousand).
pub const DECAY_AFTER: u64 = 100_000;

/// Idle time after which the engine sleeps, and what its first run costs then, in seconds (facts
/// D "Idle re-wake": GUIDE:09, 31, M1).
const SLEEP: (f64, f64) = (5.0, 0.260);

/// Idle time after which a run costs a little more, and how much, in seconds (the same source).
const NAP: (f64, f64) = (0.1, 0.000_5);

/// Runs over which the engine wakes up. That there are three is published, how the delay falls is
/// not; here it falls evenly.
const RAMP: u32 = 3;

/// How often compiling fails.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaky {
    /// The first attempts.
    First(u64),
    /// Each attempt, with this probability.
    Share(f64),
}

/// Which faults happen, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct Faults {
    seed: u64,
    text: String,
    flaky: Option<Flaky>,
    refuse: Option<u32>,
    hang_after: Option<u64>,
    hang_limit: Duration,
    slow_after: Option<u64>,
    slow_factor: f64,
    stale_weights: bool,
    at: BTreeMap<u64, Damage>,
    idle_wake: bool,
}

/// A fault in the outputs of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    Zeros,
    NaN,
    Infinity,
    Wrong,
}

/// The faults that can be asked for, for messages and help texts.
pub const KNOWN: &str = "flaky-compile:N (the first N compiles fail) or flaky-compile:0.P (each \
with this probability), refuse-load:0x20004|0x50004, hang-after:RUNS, hang-limit:SECONDS, \
slow-after[:RUNS], slow-factor:F, stale-weights, zeros-at:RUN, nan-at:RUN, inf-at:RUN, wrong-at:RUN (the last bit of one element), idle-wake";

/// Why a text names no faults.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum FaultError {
    #[error(transparent)]
    Name(#[from] UnknownName),
    #[error("fault `{got}`: expected {expected}")]
    Value { got: String, expected: &'static str },
}

impl Faults {
    /// Reads faults separated by commas, such as `flaky-compile:3,hang-after:10`; [`KNOWN`] lists
    /// them. Runs are counted over all programs, from 1.
    ///
    /// # Errors
    /// When a fault has an unknown name or value.
    pub fn parse(text: &str, seed: u64) -> Result<Self, FaultError> {
        let mut faults = Faults {
            seed,
            text: text.to_owned(),
            flaky: None,
            refuse: None,
            hang_after: None,
            hang_limit: Duration::from_millis(100),
            slow_after: None,
            slow_factor: 2.0,
            stale_weights: false,
            at: BTreeMap::new(),
            idle_wake: false,
        };
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            faults.add(part)?;
        }
        Ok(faults)
    }

    fn add(&mut self, part: &str) -> Result<(), FaultError> {
        let (name, value) = part.split_once(':').unwrap_or((part, ""));
        let bad = |expected| FaultError::Value { got: part.to_owned(), expected };
        let count = || value.parse::<u64>().map_err(|_| bad("a whole number after the colon"));
        let number = |most: f64| match value.parse::<f64>() {
            Ok(v) if v >= 0.0 && v <= most => Ok(v),
            _ => Err(bad("a number after the colon, not negative and not too large")),
        };
        match name {
            "flaky-compile" if value.contains('.') => self.flaky = Some(Flaky::Share(number(1.0)?)),
            "flaky-compile" => self.flaky = Some(Flaky::First(count()?)),
            "refuse-load" => {
                self.refuse = Some(match value {
                    "0x20004" => 0x20004,
                    "0x50004" => 0x50004,
                    _ => return Err(bad("0x20004 or 0x50004 after the colon")),
                });
            }
            "hang-after" => self.hang_after = Some(count()?),
            "hang-limit" => self.hang_limit = Duration::from_secs_f64(number(3600.0)?),
            "slow-after" if value.is_empty() => self.slow_after = Some(DECAY_AFTER),
            "slow-after" => self.slow_after = Some(count()?),
            "slow-factor" => self.slow_factor = number(1e6)?,
            "stale-weights" if value.is_empty() => self.stale_weights = true,
            "idle-wake" if value.is_empty() => self.idle_wake = true,
            "stale-weights" | "idle-wake" => return Err(bad("nothing after the name")),
            "zeros-at" => drop(self.at.insert(count()?, Damage::Zeros)),
            "nan-at" => drop(self.at.insert(count()?, Damage::NaN)),
            "inf-at" => drop(self.at.insert(count()?, Damage::Infinity)),
            "wrong-at" => drop(self.at.insert(count()?, Damage::Wrong)),
            _ => {
                let (got, known) = (name.to_owned(), KNOWN.to_owned());
                return Err(UnknownName { what: "fault", got, known }.into());
            }
        }
        Ok(())
    }

    /// A number of [0, 1) that depends on the seed and on `key` only (SplitMix64).
    fn uniform(&self, key: u64) -> f64 {
        let mut z = self.seed ^ key.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Seconds since some fixed moment.
#[derive(Clone)]
struct Clock(Arc<dyn Fn() -> f64 + Send + Sync>);

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

#[derive(Debug, Default)]
struct State {
    compiles: u64,
    runs: u64,
    /// When the last run ended.
    rested: Option<f64>,
    /// Runs that still pay for waking up.
    ramp: u32,
    /// Weights that a program was first compiled with, by its identity.
    weights: BTreeMap<String, Weights>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A device with faults.
#[derive(Debug)]
pub struct Faulty {
    device: Box<dyn Device>,
    faults: Arc<Faults>,
    state: Arc<Mutex<State>>,
    clock: Clock,
}

impl Faulty {
    /// `device`, failing as `faults` say.
    pub fn new(device: Box<dyn Device>, faults: Faults) -> Self {
        let start = Instant::now();
        Self::with_clock(device, faults, move || start.elapsed().as_secs_f64())
    }

    /// The same with a clock of its own, in seconds, for faults that depend on idle time.
    pub fn with_clock(
        device: Box<dyn Device>,
        faults: Faults,
        clock: impl Fn() -> f64 + Send + Sync + 'static,
    ) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        Faulty { device, faults: Arc::new(faults), state, clock: Clock(Arc::new(clock)) }
    }

    /// Weights as the machine sees them: those of the first compile of a program with this text
    /// and these weight files. Rewriting the files changes nothing (facts G.2 d, I: MAD, ORI #7).
    fn weights(&self, program: &Program, weights: &Weights) -> Weights {
        if !self.faults.stale_weights {
            return weights.clone();
        }
        let mut identity = program.to_string();
        weights.keys().for_each(|path| identity.extend(["\n", path]));
        lock(&self.state).weights.entry(identity).or_insert_with(|| weights.clone()).clone()
    }
}

impl Device for Faulty {
    fn describe(&self) -> String {
        format!("{}, with faults on demand: {}", self.device.describe(), self.faults.text)
    }

    crate::as_inside!(device, unchecked);

    fn compile(
        &self,
        program: &Program,
        weights: &Weights,
    ) -> Result<Box<dyn Executable>, AneError> {
        let attempt = {
            let mut state = lock(&self.state);
            state.compiles += 1;
            state.compiles
        };
        let fails = match self.faults.flaky {
            None => false,
            Some(Flaky::First(n)) => attempt <= n,
            Some(Flaky::Share(p)) => self.faults.uniform(attempt) < p,
        };
        if fails {
            return Err(AneError::FlakyCompile { path: CallPath::InMemory });
        }
        let executable = self.device.compile(program, &self.weights(program, weights))?;
        match self.faults.refuse {
            Some(0x50004) => return Err(AneError::ResourcesExhausted),
            Some(code) => return Err(AneError::LoadRefused { code }),
            None => {}
        }
        Ok(Box::new(FaultyExecutable {
            executable,
            faults: Arc::clone(&self.faults),
            state: Arc::clone(&self.state),
            clock: self.clock.clone(),
        }))
    }
}

#[derive(Debug)]
struct FaultyExecutable {
    executable: Box<dyn Executable>,
    faults: Arc<Faults>,
    state: Arc<Mutex<State>>,
    clock: Clock,
}

impl FaultyExecutable {
    /// Returns the seconds that waking up adds to a run that begins now.
    fn wake(&self, state: &mut State) -> f64 {
        let idle = state.rested.map_or(f64::INFINITY, |rested| (self.clock.0)() - rested);
        if idle >= SLEEP.0 {
            state.ramp = RAMP;
        }
        let ramp = SLEEP.1 * f64::from(state.ramp) / f64::from(RAMP);
        state.ramp = state.ramp.saturating_sub(1);
        if idle >= NAP.0 { ramp.max(NAP.1) } else { ramp }
    }

    fn damage(&self, run: u64, damage: Damage, outputs: &[&Surface]) -> Result<(), AneError> {
        let spoil = |surface: &Surface, change: &dyn Fn(&mut [f32])| {
            let mut values = vec![0.0; surface.ty().count()];
            surface.read(&mut values)?;
            change(&mut values);
            surface.write(&values)
        };
        let one = |value: &dyn Fn(f32) -> f32| {
            let index = |n: usize, key: u64| (self.faults.uniform(key) * n as f64) as usize;
            let Some(&surface) = outputs.get(index(outputs.len(), 2 * run)) else { return Ok(()) };
            spoil(surface, &|values| {
                let at = index(values.len(), 2 * run + 1);
                values[at] = value(values[at]);
            })
        };
        match damage {
            Damage::Zeros => outputs.iter().try_for_each(|s| spoil(s, &|values| values.fill(0.0))),
            Damage::NaN => one(&|_| f32::NAN),
            Damage::Infinity => one(&|_| f32::INFINITY),
            Damage::Wrong => one(&|v| f16::from_bits(f16::from_f32(v).to_bits() ^ 1).to_f32()),
        }
    }
}

impl Executable for FaultyExecutable {
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
        let (run, wake) = {
            let state = Arc::clone(&self.state);
            let mut state = lock(&state);
            state.runs += 1;
            (state.runs, if self.faults.idle_wake { self.wake(&mut state) } else { 0.0 })
        };
        if self.faults.hang_after.is_some_and(|n| run > n) {
            std::thread::sleep(self.faults.hang_limit);
            return Err(AneError::Timeout);
        }
        let mut report = self.executable.run(inputs, outputs)?;
        if let Some(&damage) = self.faults.at.get(&run) {
            self.damage(run, damage, outputs)?;
        }
        if self.faults.slow_after.is_some_and(|n| run > n) {
            report.seconds *= self.faults.slow_factor;
        }
        report.seconds += wake;
        lock(&self.state).rested = Some((self.clock.0)());
        Ok(report)
    }

    fn reload(&mut self, weights: &Weights) -> Result<Option<Reloaded>, AneError> {
        self.executable.reload(weights)
    }

    /// Without faults: those published are of the usual call.
    fn run_by(
        &mut self,
        call: Call,
        inputs: &[&Surface],
        outputs: &[&Surface],
    ) -> Result<Option<RunReport>, AneError> {
        self.executable.run_by(call, inputs, outputs)
    }
}
