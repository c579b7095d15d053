//! `--plan`: a plan by its name, or the planner's choice; the price of a step with its optimizer.

use anyhow::Result;
use chip::Profile;
use chip::cost::host::HostWork;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use gpt::forecast::StepEstimate;
use gpt::plan::{BASELINE, PLANS, Plan};
use gpt::planner::candidates;
use gpt::{GptConfig, Layout};
use train::OptimizerConfig;
use train::optim::{self, Work};

/// What `--plan` asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum PlanChoice {
    /// What the planner chooses ([`gpt::planner`]).
    Auto,
    /// This one.
    Named(&'static Plan),
}

/// A forecast of a step of `config` that prices its own optimizer in place of AdamW.
pub(crate) fn with_optimizer(
    step: StepEstimate,
    optimizer: OptimizerConfig,
    config: &GptConfig,
    profile: &Profile,
) -> StepEstimate {
    let Work { flops, bytes, .. } = optim::work(&*optimizer.build(), &Layout::new(config));
    let work = HostWork { gemm_flops: flops, pass_bytes: bytes, ..HostWork::default() };
    step.with_optimizer(work, profile)
}

impl PlanChoice {
    /// Parses `auto`, a row of [`PLANS`] or a variant of one; `--help` lists them but for variants.
    pub(crate) fn parser() -> impl TypedValueParser<Value = PlanChoice> {
        let auto =
            PossibleValue::new("auto").help("the cheapest by forecast on an engine, else baseline");
        let value = |plan: &Plan| PossibleValue::new(plan.name).help(plan.about);
        let hidden =
            |plan: &'static Plan| plan.variants().skip(1).map(move |p| value(p).hide(true));
        let named = PLANS.iter().map(|plan| value(plan));
        let variants = PLANS.iter().flat_map(|plan| hidden(plan));
        PossibleValuesParser::new(std::iter::once(auto).chain(named).chain(variants))
            .map(|name| Plan::named(&name).map_or(PlanChoice::Auto, PlanChoice::Named))
    }

    /// The plan for steps of `accum` micro-batches of `batch` sequences of `seq` tokens. Without an engine
    /// (`profile`) nothing is forecast, and `auto` is the baseline: on a CPU, no plan is faster.
    ///
    /// # Errors
    /// When the programs of the model cannot be derived.
    pub(crate) fn plan(
        self,
        config: &GptConfig,
        [batch, seq, accum]: [usize; 3],
        profile: Option<&Profile>,
    ) -> Result<&'static Plan> {
        Ok(match (self, profile) {
            (PlanChoice::Named(plan), _) => plan,
            (PlanChoice::Auto, None) => &BASELINE,
            (PlanChoice::Auto, Some(on)) => candidates(config, batch, seq, accum, on)?[0].plan,
        })
    }
}
