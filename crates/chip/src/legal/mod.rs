//! The programs that a machine accepts: [`check`] turns one into [`Legal`], or says everything that
//! is wrong with it.
//!
//! Each rule is one [`Rule`] in [`RULES`]: the fact, where it was published, how sure it is, and
//! the code that finds breaches. The documentation (`docs/ane-rules.md`) is written from the same
//! table. Where sources disagree the stricter reading is in force; [`check_allowing`] lifts named
//! rules for those who know better.

mod advice;
mod arithmetic;
mod check;
mod context;
mod convolution;
mod defaults;
pub mod fix;
mod language;
mod layout;
mod place;
mod products;
mod requests;
mod rule;
mod shapes;
mod types;
mod validator;
mod violation;
mod weights;

pub use crate::confidence::Confidence;
pub use check::{
    Legal, RULES, Verdict, WITHDRAWN, check, check_allowing, check_with_weights, rule, rules,
    text_violations, violations, withdrawn,
};
pub use fix::{Applied, Fixed, fix};
pub use place::Place;
pub use rule::{Refusal, Rule, Severity};
pub use validator::validator_message;
pub use violation::Violation;
pub use weights::weight_violations;
