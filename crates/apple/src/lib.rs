//! The Neural Engine of a Mac, through two private interfaces that need no entitlement.
//!
//! [`InMemory`] sends Objective-C messages to `_ANEInMemoryModel` and its relatives (docs/ane-facts.md
//! A.4; the seed); [`Espresso`] calls the C interface `e5rt_…` of the Espresso framework
//! (docs/ane-facts.md C.2, G.1). Both are [`Device`](ane::Device)s whose surfaces live in memory that
//! the engine reads and writes. [`probe`] opens a device by [`Route`] and runs a known-answer program;
//! [`choose`] is the policy of `auto`. [`Cache`] keeps compiled programs, [`Accelerate`] is the system's
//! BLAS, [`PowerMeter`] reads the machine's power draw.
//!
//! ```
//! use apple::{Findings, Route, choose};
//!
//! let found = |run_seconds| Findings { compile_seconds: 0.2, run_seconds, packed: false };
//! let choice = choose(&[(Route::InMemory, found(117e-6)), (Route::Espresso, found(95e-6))]);
//! assert_eq!(choice.unwrap().route, Route::Espresso);
//!
//! # #[cfg(unix)] {
//! // A missing library is an error, not a crash.
//! use apple::{Libraries, Options, probe};
//! let nowhere = Libraries::stand_in("/no/such/library");
//! assert!(probe::open(&nowhere, Route::InMemory, Options::default()).is_err());
//! # }
//! ```
//!
//! Nothing is linked. Opening a device opens every library, looks up every function, class and method,
//! and compares each with the expected signature ([`Libraries`]). So this crate compiles and starts
//! everywhere, names anything that a system lacks, and can be pointed at stand-ins that check each
//! call. That is how it is tested: **no part of it has run on a Mac yet**.
//!
//! Rust cannot catch an Objective-C exception. We therefore call a private method only if its signature
//! was verified, and only with arguments that the facts show to work; Foundation's methods are public
//! and stable. Exceptions, crashes and hangs inside the system remain possible: run a [`probe`] in a
//! child process to survive them.
//!
//! Nothing here knows models.

#![warn(missing_docs)]

mod auto;
#[cfg(unix)]
mod engine;
mod error;
mod readings;
mod route;

pub use auto::{Choice, Findings, Packing, choose};
#[cfg(unix)]
pub use engine::{
    Accelerate, Cache, CompileElsewhere, Espresso, InMemory, Libraries, Lost, Options, PowerMeter,
    compile_job, probe,
};
pub use error::AppleError;
pub use readings::{POWERMETRICS, Tally, from_powermetrics};
pub use route::Route;
