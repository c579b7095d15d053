//! Chips with a Neural Engine: facts, rules and time forecasts.
//!
//! A [`Profile`] is a machine: a [`Chip`], a system and a call path. [`legal::check`] checks a MIL
//! program against the profile's rules; it returns [`Legal`] or every [`Violation`]. [`legal::fix()`]
//! rewrites refused operations and proves that the results agree. [`estimate()`] forecasts how long a
//! function takes ([`cost`]). Rules and forecasts rest on [`facts`]: one row per fact about the engine,
//! with its sources and the facts that contradict it.
//!
//! ```
//! use chip::{Profile, estimate, legal};
//! use mil::{Builder, Program, TensorType};
//!
//! let profile: Profile = "m1/macos15".parse()?;
//! let b = Builder::new("main");
//! let x = b.input("x", TensorType::fp16([1, 64, 1, 20_000]));
//! let program = Program::new(b.finish(&[x.tanh()])?);
//! let found = legal::check(&program, &profile).unwrap_err();
//! assert!(found.iter().any(|violation| violation.rule.id == "ANE012"));
//!
//! let m4 = Profile::default();
//! assert!(legal::check(&program, &m4).is_ok());
//! assert!(estimate(&program.functions[0], &m4).seconds > 0.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`page`] writes the tables as documentation. Nothing here knows a device: proofs run the parts
//! changed by a rewrite on crate `cpu`. This project measured nothing itself.

#![warn(missing_docs)]

mod confidence;
pub mod cost;
pub mod facts;
pub mod legal;
mod machine;
pub mod page;

pub use confidence::Confidence;
pub use cost::{Estimate, estimate};
pub use facts::Fact;
pub use legal::{Applied, Legal, Rule, Violation};
pub use machine::{
    AllocationFault, CallPath, Chip, ChipFacts, ChipLimits, ChipNumerics, Generation, Limits,
    MAX_CHANNELS, MAX_CONV_CHANNELS, MAX_DEPTH, MAX_PROGRAM_BYTES, MAX_RANK, Os, Profile,
    ReductionUnit, UnknownName,
};
