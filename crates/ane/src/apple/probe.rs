//! Does a device work? A program whose answer is known, run twice with other weights, and timed.
//!
//! Run it in a process of its own: what the private frameworks do when they are not as expected may
//! be to hang, to raise, or to crash.

use super::{Espresso, InMemory, Libraries, Options};
use crate::device::Device;
use crate::error::AneError;
use chip::UnknownName;
use mil::{Builder, Program, TensorType, Weights};
use std::fmt;
use std::str::FromStr;
use std::time::Instant;

/// A way to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Route {
    /// In-memory models.
    InMemory,
    /// The e5rt interface of Espresso.
    Espresso,
}

impl Route {
    /// Both, the one with more published training runs first.
    pub const ALL: [Route; 2] = [Route::InMemory, Route::Espresso];
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Route::InMemory => "in-memory",
            Route::Espresso => "espresso",
        })
    }
}

impl FromStr for Route {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        Route::ALL.into_iter().find(|route| route.to_string() == text).ok_or_else(|| {
            let known = Route::ALL.map(|route| route.to_string()).join(", ");
            UnknownName { what: "route", got: text.to_owned(), known }
        })
    }
}

/// Opens the device of a route.
///
/// # Errors
/// As [`InMemory::open`] and [`Espresso::open`].
pub fn open(
    libraries: &Libraries,
    route: Route,
    options: Options,
) -> Result<Box<dyn Device>, AneError> {
    Ok(match route {
        Route::InMemory => Box::new(InMemory::open(libraries, options)?),
        Route::Espresso => Box::new(Espresso::open(libraries, options)?),
    })
}

/// What a probe found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Findings {
    /// Seconds to compile and load the program.
    pub compile_seconds: f64,
    /// Median seconds of a run.
    pub run_seconds: f64,
}

/// Rows and columns of the matrices multiplied: their surfaces have 49152 bytes with fp16, which is
/// the largest minimum known.
const ROWS: usize = 96;
const COLUMNS: usize = 256;

/// Runs that are timed.
const RUNS: usize = 21;

/// y = w·x, w [96, 96] padded to [96, 256], x [96, 256]. Names are such that binding order and
/// order of declaration differ.
fn program() -> Result<Program, AneError> {
    let b = Builder::new("main");
    let x = b.input("x", TensorType::fp16([1, 1, ROWS, COLUMNS]));
    let w = b.input("a_weight", TensorType::fp16([1, 1, ROWS, COLUMNS]));
    let y = w.slice(&[0, 0, 0, 0], &[1, 1, ROWS, ROWS]).matmul(x, false, false);
    Ok(Program::new(b.finish(&[y.named("y")])?))
}

/// Compiles the known-answer program on `device`, runs it with the weights 2·I and 3·I, and times
/// it.
///
/// # Errors
/// Those of the device; [`AneError::WrongAnswer`] when an element is not what it must be, as when
/// ports are bound in another order, or weights are not live.
pub fn canary(device: &dyn Device) -> Result<Findings, AneError> {
    let start = Instant::now();
    let mut executable = device.compile(&program()?, &Weights::new())?;
    let compile_seconds = start.elapsed().as_secs_f64();
    let bytes = 2 * ROWS * COLUMNS;
    let allocation = bytes.max(device.least_allocation());
    let ty = TensorType::fp16([1, 1, ROWS, COLUMNS]);
    let [w, x, y] = [(); 3].map(|()| device.surface(&ty, allocation));
    let (w, x, y) = (w?, x?, y?);
    // Quarters from -2 to 2: their multiples by 2 and 3 are exact.
    let input: Vec<f32> = (0..ROWS * COLUMNS).map(|i| ((i * 7) % 17) as f32 / 4.0 - 2.0).collect();
    x.write(&input)?;
    let mut output = vec![0.0f32; input.len()];
    for scale in [2.0, 3.0] {
        let weight: Vec<f32> = (0..ROWS * COLUMNS)
            .map(|i| if i % COLUMNS == i / COLUMNS { scale } else { 0.0 })
            .collect();
        w.write(&weight)?;
        executable.run(&[&w, &x], &[&y])?;
        y.read(&mut output)?;
        for (got, value) in output.iter().zip(&input) {
            let (got, expected) = (*got, scale * value);
            if got != expected {
                return Err(AneError::WrongAnswer { expected, got });
            }
        }
    }
    let mut seconds = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        seconds.push(executable.run(&[&w, &x], &[&y])?.seconds);
    }
    seconds.sort_by(f64::total_cmp);
    Ok(Findings { compile_seconds, run_seconds: seconds[RUNS / 2] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Emulator, Numerics, Profile};

    #[test]
    fn the_emulator_passes_by_both_routes() {
        for path in ["in-memory", "e5rt"] {
            let profile: Profile = path.parse().unwrap();
            canary(&Emulator::engine(profile, Numerics::Fast)).unwrap();
        }
        assert_eq!("espresso".parse::<Route>().unwrap(), Route::Espresso);
        assert!("ane".parse::<Route>().is_err());
    }
}
