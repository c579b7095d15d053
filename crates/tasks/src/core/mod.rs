//! CORE: in-context tasks of three types, whose accuracies, centred by what guessing gives, are averaged.
//! The rules and the format of the bundle are those of DCLM (Li et al. 2024), as nanochat evaluates them.
//!
//! A [`Bundle`] lists [`CoreTask`]s. A task's [`Questions`] are its examples in the order in which they are
//! asked, each as an [`Item`]: the tokens of its prompts, and the spans whose probabilities decide. A model
//! gives a [`Scored`] for each span, and the item [judges](Item::judge) them.
//!
//! ```
//! use tasks::core::{Scored, core_metric};
//!
//! // Of 25 % that guessing gives and 62.5 % that were right, half of what can be gained was gained.
//! assert_eq!(tasks::core::centred(0.625, 25.0), 0.5);
//! assert_eq!(core_metric(&[0.5, 0.0]), Some(0.25));
//! assert_eq!(Scored { nats: 3.0, tokens: 2, greedy: false }.mean(), 1.5);
//! ```

mod bundle;
mod example;
mod item;
mod prompt;
mod score;

pub use bundle::{Bundle, CoreTask, Kind};
pub use example::{Example, Question};
pub use item::{Item, Verdict};
pub use prompt::{Questions, Texts};
pub use score::{Scored, centred, core_metric};
