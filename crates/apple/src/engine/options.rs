//! How a device on a Mac goes about its work, and who compiles for it.

use super::cache::Cache;
use crate::route::Route;
use ane::Backoff;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How a device on a Mac goes about its work.
#[derive(Clone, Debug)]
pub struct Options {
    /// Quality of service of compiling, loading and running: 21 is what everyone uses; all of 0 to
    /// 63 work alike (docs/ane-facts.md A.4).
    pub qos: u32,
    /// Time that one try at compiling may take. 120 s: the longest compile reported took 131 s and
    /// was called pathological, ordinary ones take 0.01 to 0.75 s (docs/ane-facts.md D).
    pub compile_limit: Duration,
    /// Pauses before the second, third … try of a compile that failed without finding fault with
    /// the program. 1, 15 and 15 s: repeated failures wedge the compiler's service unless tries are
    /// 15 s apart (docs/ane-facts.md A.7; ESP's pauses of 0.1 to 1 s are the laxer reading).
    pub compile_pauses: Vec<Duration>,
    /// Where compiled programs are kept for the next process; `None` keeps none.
    pub cache: Option<Cache>,
    /// Time that opening a program of the cache may take. By espresso it is compiled instead then; in
    /// memory a compile would wait behind it, and there is an error. 30 s: one was
    /// reopened in 6 ms (tmc/apple, bundlereuse), and an engine that slept wakes in 0.3 s
    /// (docs/ane-facts.md D).
    pub open_limit: Duration,
    /// Compiles in another process first, if there is a [`cache`](Self::cache) to take the result
    /// through.
    pub elsewhere: Option<Arc<dyn CompileElsewhere>>,
    /// Pauses after such a process hung or crashed: three tries, with 1 and 2 s between them.
    pub elsewhere_pauses: Backoff,
    /// Pause before the second try at loading: 100 ms, as the seed's bridge.
    pub load_pause: Duration,
    /// Requests bypass the system's service (`doEvaluateDirectWithModel`, in memory only): 106
    /// instead of 117 µs on an M5 (docs/ane-facts.md G.1). Off, since fewer people use it.
    pub direct: bool,
    /// Ask for the time that the hardware itself took (in memory only). Off: a mask of the model
    /// has to be set for it, and sources disagree on whether that is heeded (docs/ane-facts.md G.1).
    pub hardware_time: bool,
    /// Rules (by id, such as `ANE070`) that programs may break here.
    pub allowed: Vec<String>,
    /// Directory below which Espresso is given programs and keeps what it makes of them; the
    /// system's for temporary files.
    pub bundles: PathBuf,
}

impl Options {
    /// The same without a second try at compiling, for programs that may well be refused.
    pub(super) fn once(&self) -> Options {
        Options { compile_pauses: vec![], ..self.clone() }
    }
}

impl Default for Options {
    fn default() -> Self {
        Options {
            qos: 21,
            compile_limit: Duration::from_secs(120),
            compile_pauses: [1, 15, 15].map(Duration::from_secs).to_vec(),
            cache: None,
            open_limit: Duration::from_secs(30),
            elsewhere: None,
            elsewhere_pauses: Backoff {
                tries: 3,
                first: Duration::from_secs(1),
                most: Duration::from_secs(2),
            },
            load_pause: Duration::from_millis(100),
            direct: false,
            hardware_time: false,
            allowed: vec![],
            bundles: std::env::temp_dir(),
        }
    }
}

/// Has another process compile.
pub trait CompileElsewhere: fmt::Debug + Send + Sync {
    /// Has another process run [`compile_job`](super::compile_job) for `route` on `directory`, with the same libraries,
    /// and kills it when it takes longer than `limit`.
    ///
    /// # Errors
    /// How the process was lost. That the compiler found fault with the program is no error here: the
    /// directory says so.
    fn run(&self, route: Route, directory: &Path, limit: Duration) -> Result<(), Lost>;
}

/// How a process was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// It did not start, for this reason; programs are compiled in this process then.
    NotStarted(String),
    /// It did not end in time, and was killed.
    Hung,
    /// It ended without a result: how, and its last words.
    Crashed(String),
}
