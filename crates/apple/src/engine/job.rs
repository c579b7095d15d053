//! The part of compiling elsewhere that runs in the other process.

use super::cache::BUNDLES;
use super::dynamic::Libraries;
use super::elsewhere::{OUTCOME, Outcome, SOURCES};
use super::espresso::Espresso;
use super::files::Sources;
use super::in_memory::InMemory;
use super::options::Options;
use crate::error::AppleError;
use crate::route::Route;
use ane::AneError;
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// The part of [`CompileElsewhere::run`](super::CompileElsewhere::run) that belongs into the other process: compiles the program
/// in `directory` by `route`, and leaves there what came of it.
///
/// # Errors
/// [`AppleError::File`] when the outcome cannot be written.
pub fn compile_job(
    libraries: &Libraries,
    route: Route,
    options: Options,
    directory: &Path,
) -> Result<(), AneError> {
    let options = Options { cache: None, elsewhere: None, ..options };
    let program = directory.join(SOURCES);
    let made = match route {
        Route::InMemory => InMemory::open(libraries, options).and_then(|device| {
            device.compile_for_another(&Arc::new(Sources::read(&program)?)).map(Some)
        }),
        Route::Espresso => Espresso::open(libraries, options).and_then(|device| {
            device.compile_for_another(&program, &directory.join(BUNDLES)).map(|()| None)
        }),
    };
    let outcome = match made {
        Ok(identifier) => Outcome { identifier, ..Outcome::default() },
        Err(AneError::Reported { report, .. }) => {
            Outcome { report: Some(report), ..Outcome::default() }
        }
        Err(error) => Outcome { error: Some(error.to_string()), ..Outcome::default() },
    };
    let path = directory.join(OUTCOME);
    let written = serde_json::to_vec(&outcome).map_err(std::io::Error::from);
    written.and_then(|text| fs::write(&path, text)).map_err(|error| {
        let (path, reason) = (path.display().to_string(), error.to_string());
        AppleError::File { what: "write", path, reason }.into()
    })
}
