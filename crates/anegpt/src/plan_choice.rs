//! `--plan`: a plan by its name, or the planner's choice; the work of an optimizer for a forecast.

use ane::Device;
use anyhow::Result;
use chip::Profile;
use chip::cost::host::HostWork;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use gpt::Param;
use gpt::plan::{BASELINE, PLANS, Plan};
use gpt::planner::{candidates, carried};
use std::ffi::OsStr;
use train::optim::Work;
use train::{OptimizerConfig, RunConfig};

/// What `--plan` asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum PlanChoice {
    /// What the planner chooses ([`gpt::planner`]).
    Auto,
    /// This one.
    Named(&'static Plan),
}

/// The work of an optimizer's update of a parameter, as a forecast prices it.
pub(crate) fn work_of(optimizer: OptimizerConfig) -> impl Fn(&Param) -> HostWork {
    let optimizer = optimizer.build();
    move |param| {
        let Work { flops, bytes, .. } = optimizer.work_of(param);
        HostWork { gemm_flops: flops, pass_bytes: bytes, ..HostWork::default() }
    }
}

/// Parses `auto`, a row of [`PLANS`], or a variant of one. Variants are not listed.
#[derive(Clone)]
pub(crate) struct PlanParser;

impl PlanParser {
    fn listed() -> PossibleValuesParser {
        let auto =
            PossibleValue::new("auto").help("the cheapest by forecast on an engine, else baseline");
        let named = PLANS.iter().map(|plan| PossibleValue::new(plan.name).help(plan.about));
        PossibleValuesParser::new(std::iter::once(auto).chain(named))
    }
}

impl TypedValueParser for PlanParser {
    type Value = PlanChoice;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<PlanChoice, clap::Error> {
        match value.to_str().and_then(Plan::named) {
            Some(plan) => Ok(PlanChoice::Named(plan)),
            None => Self::listed().parse_ref(command, arg, value).map(|_| PlanChoice::Auto),
        }
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let all: Vec<_> = Self::listed().possible_values()?.collect();
        Some(Box::new(all.into_iter()))
    }
}

impl PlanChoice {
    /// The plan for steps of `run` on `device`. Without an engine (`profile`) nothing is forecast, and `auto` is the
    /// baseline: on a CPU, no plan is faster.
    ///
    /// # Errors
    /// When the programs of the model cannot be derived.
    pub(crate) fn plan(
        self,
        run: &RunConfig,
        profile: Option<&Profile>,
        device: &dyn Device,
    ) -> Result<&'static Plan> {
        Ok(match (self, profile) {
            (PlanChoice::Named(plan), _) => plan,
            (PlanChoice::Auto, None) => &BASELINE,
            (PlanChoice::Auto, Some(on)) => {
                let RunConfig { model, batch, seq, accum, optimizer, .. } = run;
                let all = candidates(model, *batch, *seq, *accum, on, &work_of(*optimizer))?;
                carried(&all, device).plan
            }
        })
    }
}
