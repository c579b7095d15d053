//! `--plan`: a plan by its name, or the planner's choice.

use anyhow::Result;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use gpt::GptConfig;
use gpt::plan::{BASELINE, PLANS, Plan};
use gpt::planner::candidates;

/// What `--plan` asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum PlanChoice {
    /// The fastest by forecast that the chip accepts.
    Auto,
    /// This one.
    Named(&'static Plan),
}

impl PlanChoice {
    /// Parses `auto` or a row of [`PLANS`]; `--help` lists them.
    pub(crate) fn parser() -> impl TypedValueParser<Value = PlanChoice> {
        let auto = PossibleValue::new("auto").help("The fastest by forecast that the chip accepts");
        let named = PLANS.iter().map(|plan| PossibleValue::new(plan.name).help(plan.about));
        PossibleValuesParser::new(std::iter::once(auto).chain(named))
            .map(|name| Plan::named(&name).map_or(PlanChoice::Auto, PlanChoice::Named))
    }

    /// The plan for steps of `accum` micro-batches of `batch` sequences of `seq` tokens. Without a chip
    /// (`profile`) nothing is forecast, and `auto` is the baseline.
    ///
    /// # Errors
    /// When the programs of the model cannot be derived.
    pub(crate) fn plan(
        self,
        config: &GptConfig,
        [batch, seq, accum]: [usize; 3],
        profile: Option<&chip::Profile>,
    ) -> Result<&'static Plan> {
        Ok(match (self, profile) {
            (PlanChoice::Named(plan), _) => plan,
            (PlanChoice::Auto, None) => &BASELINE,
            (PlanChoice::Auto, Some(on)) => candidates(config, batch, seq, accum, on)?[0].plan,
        })
    }
}
