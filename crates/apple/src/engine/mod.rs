//! The engine, driven through libraries that are looked up at run time.

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
mod job;
mod objc;
mod options;
mod power;
pub mod probe;
mod report;
mod statistics;
mod system;

pub use accelerate::Accelerate;
pub use cache::Cache;
pub use dynamic::Libraries;
pub use espresso::Espresso;
pub use in_memory::InMemory;
pub use job::compile_job;
pub use options::{CompileElsewhere, Lost, Options};
pub use power::PowerMeter;
