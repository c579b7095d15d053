//! The Neural Engine of a Mac, by the two private ways in that need no entitlement.
//!
//! [`InMemory`] sends Objective-C messages to `_ANEInMemoryModel` and its relatives (docs/ane-facts.md
//! A.4; the seed); [`Espresso`] calls the C interface `e5rt_…` of the Espresso framework
//! (docs/ane-facts.md C.2, G.1). Both are [`Device`](crate::Device)s whose surfaces live in memory that
//! the engine reads and writes.
//!
//! Nothing is linked: every library is opened, and every function, class and method looked up and
//! compared with what is expected, when a device is opened ([`Libraries`]). So this compiles and
//! starts everywhere, says by name what a system lacks, and can be pointed at stand-ins that check
//! each call; that is how it is tested, since **no part of it has run on a Mac yet**.
//!
//! An Objective-C exception cannot be caught from Rust, so no message is sent to a private class
//! whose method and signature were not verified (Foundation's own are public and stable), and none
//! with an argument that the facts do not show to work.
//! What remains (an exception, a crash, a hang inside the system) is for a [`probe`] in a
//! process of its own.

mod accelerate;
mod cache;
mod compile;
mod core_foundation;
mod dynamic;
mod elsewhere;
mod espresso;
mod files;
mod foundation;
mod in_memory;
mod iosurface;
mod objc;
mod power;
pub mod probe;
mod report;
mod statistics;
mod system;

pub use accelerate::Accelerate;
pub use cache::Cache;
pub use dynamic::Libraries;
pub use elsewhere::{CompileElsewhere, Lost, compile_job};
pub use espresso::Espresso;
pub use in_memory::InMemory;
pub use power::PowerMeter;

use crate::retry::Backoff;
use std::path::PathBuf;
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
    fn once(&self) -> Options {
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
