//! Compiling in a process of its own: one that hangs is killed, and one that dies (of an Objective-C
//! or C++ exception, which Rust cannot catch) dies alone.
//!
//! This crate starts no processes. Whoever can gives [`Options::elsewhere`] something that has
//! another process run [`compile_job`](super::compile_job) on a directory. What passes between the two are files in that
//! directory: the program's text and weights there, what the compiler made (Espresso) or how the
//! system calls it (in memory), and the outcome back. The result is taken through the cache
//! ([`super::cache`], where it says what contradicts what): if the system does not let one process
//! use what another compiled, the program is compiled again here, and the other process has shown
//! that it can be.

use super::cache::{Key, Staging, Store};
use super::compile::turn;
use super::files::Sources;
use super::options::{CompileElsewhere, Lost, Options};
use super::report::reported;
use crate::error::AppleError;
use ane::AneError;
use serde::{Deserialize, Serialize};
use std::fs;
use std::thread::sleep;

/// Text and weights of the program.
pub(super) const SOURCES: &str = "program";
/// Its outcome.
pub(super) const OUTCOME: &str = "outcome.json";

/// The outcome of a compile.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Outcome {
    /// How the system calls the program (in memory).
    pub(super) identifier: Option<String>,
    /// The system's report.
    pub(super) report: Option<String>,
    /// Why it did not come to that.
    pub(super) error: Option<String>,
}

/// A program that another process is to compile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order<'a> {
    pub(super) elsewhere: &'a dyn CompileElsewhere,
    pub(super) store: &'a Store,
    pub(super) options: &'a Options,
    pub(super) key: &'a Key,
    pub(super) sources: &'a Sources,
    /// The name of the program's function.
    pub(super) name: &'a str,
}

/// Why a try failed.
enum Failure {
    /// There is no other process.
    Alone,
    /// It was lost, or said something else than that the system refused.
    Lost(String),
    /// The system refused.
    Refused(AneError),
}

impl Order<'_> {
    /// Compiles, with pauses between the tries, into the cache; whether it is there now. If not,
    /// nothing is wrong with the program: no process could be had, or nothing be kept.
    ///
    /// # Errors
    /// The system's error for the program; [`AppleError::CompileElsewhere`] when every process was
    /// lost.
    pub(super) fn compile(&self) -> Result<bool, AneError> {
        // The compiler's service fails under load, whoever asks.
        let _turn = turn();
        let mut tried = 0;
        loop {
            tried += 1;
            let Ok(staging) = self.store.staging() else { return Ok(false) };
            let failure = match self.attempt(&staging) {
                Ok(identifier) => {
                    return Ok(self.store.keep(staging, self.key, identifier).is_ok());
                }
                Err(failure) => failure,
            };
            let pause = match failure {
                Failure::Alone => return Ok(false),
                Failure::Refused(error) => {
                    let pause = self.options.compile_pauses.get(tried as usize - 1);
                    match pause.filter(|_| error.is_retryable()) {
                        Some(&pause) => pause,
                        None => return Err(error),
                    }
                }
                Failure::Lost(reason) => match self.options.elsewhere_pauses.pause(tried) {
                    Some(pause) => pause,
                    None => {
                        let kept = self.store.keep_failed(staging, self.key).join(SOURCES);
                        let (program, kept) = (self.name.to_owned(), kept.display().to_string());
                        let tries = tried;
                        return Err(
                            AppleError::CompileElsewhere { program, reason, tries, kept }.into()
                        );
                    }
                },
            };
            sleep(pause);
        }
    }

    /// Has it compiled once; how the system calls it. Leaves in `staging` what is to be kept.
    fn attempt(&self, staging: &Staging) -> Result<Option<String>, Failure> {
        let (directory, limit) = (staging.path(), self.options.compile_limit);
        let (sources, outcome) = (directory.join(SOURCES), directory.join(OUTCOME));
        self.sources.write(&sources).map_err(|_| Failure::Alone)?;
        match self.elsewhere.run(self.store.route(), directory, limit) {
            Ok(()) => {}
            Err(Lost::NotStarted(_)) => return Err(Failure::Alone),
            Err(Lost::Hung) => {
                let seconds = limit.as_secs_f64();
                return Err(Failure::Lost(format!("it did not end within {seconds} s")));
            }
            Err(Lost::Crashed(how)) => return Err(Failure::Lost(format!("it crashed ({how})"))),
        }
        let text = fs::read_to_string(&outcome).unwrap_or_default();
        let result: Outcome = serde_json::from_str(&text)
            .map_err(|_| Failure::Lost("it ended and said nothing sensible".to_owned()))?;
        match (result.report, result.error) {
            (Some(report), _) => return Err(Failure::Refused(reported("compiling", report))),
            (None, Some(error)) => return Err(Failure::Lost(error)),
            (None, None) => {}
        }
        let removed = fs::remove_dir_all(&sources).and_then(|()| fs::remove_file(&outcome));
        removed.map_err(|_| Failure::Alone)?;
        Ok(result.identifier)
    }
}
