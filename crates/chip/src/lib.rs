//! Chips with a Neural Engine: what is known of them, what they accept, how long they take.
//!
//! A [`Profile`] is a machine: a [`Chip`], a system and a call path. [`legal::check`] holds a MIL
//! program against its rules and turns it into [`Legal`] or into every [`Violation`] it finds;
//! [`legal::fix()`] rewrites what is refused and proves that the result is the same; [`estimate`]
//! forecasts the time of a function ([`cost`]). Rules and forecasts rest on [`facts`], one row for
//! each thing known of the engine, with its sources and what contradicts it.
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
//! [`page`] writes the tables as documentation. Nothing here knows how a program is run: a proof runs
//! the parts that a rewrite changed on crate `cpu`. Nothing was measured by this project.

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
    AllocationFault, CallPath, Chip, ChipFacts, ChipLimits, ChipNumerics, Family, Limits,
    MAX_CHANNELS, MAX_CONV_CHANNELS, MAX_DEPTH, MAX_PROGRAM_BYTES, MAX_RANK, Os, Profile,
    ReductionUnit, UnknownName,
};
