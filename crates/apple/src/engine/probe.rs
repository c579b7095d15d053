//! Does a device work? A program whose answer is known, run twice with other weights, and timed.
//!
//! Run it in a process of its own: what the private frameworks do when they are not as expected may
//! be to hang, to raise, or to crash.

use super::dynamic::Libraries;
use super::espresso::Espresso;
use super::in_memory::InMemory;
use super::options::Options;
use crate::auto::{Findings, Packing};
use crate::error::AppleError;
use crate::route::Route;
use ane::Device;
use ane::{AneError, Packed};
use mil::{Builder, Program, TensorType, Weights};
use std::time::Instant;

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
/// Those of the device; [`AppleError::WrongAnswer`] when an element is not what it must be, as when
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
                return Err(AppleError::WrongAnswer { expected, got }.into());
            }
        }
    }
    let mut seconds = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        seconds.push(executable.run(&[&w, &x], &[&y])?.seconds);
    }
    seconds.sort_by(f64::total_cmp);
    Ok(Findings { compile_seconds, run_seconds: seconds[RUNS / 2], packed: false })
}

/// Runs the known-answer program, which has two inputs, on `device`, packed as `packing` says; returns
/// the device to use.
///
/// # Errors
/// As [`canary`].
pub fn examine(
    device: Box<dyn Device>,
    packing: Packing,
) -> Result<(Box<dyn Device>, Findings), AneError> {
    if packing != Packing::Always {
        match canary(device.as_ref()) {
            // What the system says to a request whose inputs it does not take.
            Err(error) if packing == Packing::IfNeeded && error.to_string().contains("0x1d") => {}
            result => return result.map(|found| (device, found)),
        }
    }
    let packed: Box<dyn Device> = Box::new(Packed::new(device));
    let found = canary(packed.as_ref())?;
    Ok((packed, Findings { packed: true, ..found }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ane::Emulator;
    use chip::Profile;
    use cpu::Numerics;

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
