//! The Neural Engine of a Mac, by the two private ways in that need no entitlement.
//!
//! [`InMemory`] sends Objective-C messages to `_ANEInMemoryModel` and its relatives (docs/ane-facts.md
//! A.4; the seed); [`Espresso`] calls the C interface `e5rt_…` of the Espresso framework
//! (docs/ane-facts.md C.2, G.1). Both are [`Device`](ane::Device)s whose surfaces live in memory that
//! the engine reads and writes. [`probe`] opens them by [`Route`] and asks a program whose answer is
//! known; [`choose`] is the policy of `auto`. [`Cache`] keeps compiled programs, [`Accelerate`] is the
//! system's library of products, [`PowerMeter`] reads what the machine draws.
//!
//! ```
//! use apple::{Findings, Route, choose};
//!
//! let found = |run_seconds| Findings { compile_seconds: 0.2, run_seconds, packed: false };
//! let choice = choose(&[(Route::InMemory, found(117e-6)), (Route::Espresso, found(95e-6))]);
//! assert_eq!(choice.unwrap().route, Route::Espresso);
//!
//! # #[cfg(unix)] {
//! // A library that is not there is an error, not a crash.
//! use apple::{Libraries, Options, probe};
//! let nowhere = Libraries::stand_in("/no/such/library");
//! assert!(probe::open(&nowhere, Route::InMemory, Options::default()).is_err());
//! # }
//! ```
//!
//! Nothing is linked: every library is opened, and every function, class and method looked up and
//! compared with what is expected, when a device is opened ([`Libraries`]). So this compiles and
//! starts everywhere, says by name what a system lacks, and can be pointed at stand-ins that check
//! each call; that is how it is tested, since **no part of it has run on a Mac yet**.
//!
//! An Objective-C exception cannot be caught from Rust, so no message is sent to a private class
//! whose method and signature were not verified (Foundation's own are public and stable), and none
//! with an argument that the facts do not show to work. What remains (an exception, a crash, a hang
//! inside the system) is for a [`probe`] in a process of its own.
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
