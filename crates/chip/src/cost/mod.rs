//! The cost model: how long a program takes on a chip, forecast from published timings.
//!
//! [`published::rows`] holds every published timing with a shape, [`model`] the law of cost, [`mod@fit`]
//! the fit of its constants and the rules for chips without rows, [`constants`] what the fit gave,
//! [`estimate()`] the forecast for a MIL function, [`host`] the work that trainers leave to the CPU.
//! Every figure is a forecast: none was confirmed on hardware by this project.

pub mod constants;
pub mod estimate;
pub mod fit;
pub mod host;
pub mod model;
mod page;
pub mod published;
mod silicon;

pub use constants::CONSTANTS;
pub use estimate::{Bound, Estimate, OperationCost, Parts, estimate, wake_up};
pub use fit::Constants;
pub use page::{Compared, Report, constants_source, markdown, report};
pub use published::{Row, Section, rows};
pub use silicon::{SILICON, Silicon};
