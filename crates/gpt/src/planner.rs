//! The planner: prices every plan of training on a chip and chooses among those it can run.

use crate::block::Memory;
use crate::config::GptConfig;
use crate::forecast::{StepEstimate, forecast};
use crate::ops::Dims;
use crate::plan::{PLANS, Plan, PlanError, Programs};
use chip::{Profile, legal};
use mil::{DType, Program};

/// Share of a step that another plan must save to be chosen before the first of [`PLANS`], whose programs
/// are those of trainers that ran on hardware: forecasts do not tell smaller differences
/// (docs/step-forecast.md).
const MARGIN: f64 = 0.1;

/// A plan with its price.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The plan.
    pub plan: &'static Plan,
    /// Forecast of a training step.
    pub step: StepEstimate,
    /// Names of the programs that break a rule of the chip; the machine refuses the plan if there is one.
    pub refused: Vec<String>,
}

/// Prices every plan for steps of `accum` micro-batches of `batch` sequences of `seq` tokens on
/// `profile`. The first is the one to run: of those whose programs are legal, the cheapest, or the first of
/// [`PLANS`] if that is less than a tenth slower; the first of [`PLANS`] where none is legal. The others
/// follow in the order of [`PLANS`].
///
/// # Errors
/// When the programs of the model cannot be derived.
pub fn candidates(
    config: &GptConfig,
    batch: usize,
    seq: usize,
    accum: usize,
    profile: &Profile,
) -> Result<Vec<Candidate>, PlanError> {
    let mut all = PLANS
        .iter()
        .map(|&plan| {
            let step = forecast(plan, config, batch, seq, accum, profile)?;
            let dims = Dims { config, batch, seq, dtype: DType::Fp16 };
            Ok(Candidate { plan, step, refused: refused(plan, &dims, profile)? })
        })
        .collect::<Result<Vec<_>, PlanError>>()?;
    let best = best(&all);
    all[..=best].rotate_right(1);
    Ok(all)
}

/// Index of the plan to run; see [`candidates`].
fn best(all: &[Candidate]) -> usize {
    let price = |i: usize| all[i].step.seconds * if i == 0 { 1.0 - MARGIN } else { 1.0 };
    let legal = (0..all.len()).filter(|&i| all[i].refused.is_empty());
    legal.min_by(|&a, &b| price(a).total_cmp(&price(b))).unwrap_or(0)
}

/// True if `profile` accepts all programs of a plan.
///
/// # Errors
/// As [`candidates`].
pub fn accepted(dims: &Dims<'_>, profile: &Profile) -> Result<bool, PlanError> {
    for plan in PLANS {
        if refused(plan, dims, profile)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Names of the programs of `plan` that `profile` refuses.
fn refused(plan: &Plan, dims: &Dims<'_>, profile: &Profile) -> Result<Vec<String>, PlanError> {
    let programs = Programs::new(plan, dims, Memory::Sequence)?;
    let illegal = programs
        .engine()
        .filter(|function| legal::check(&Program::new((*function).clone()), profile).is_err());
    Ok(illegal.map(|function| function.name.clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{BASELINE, FUSED};

    #[test]
    fn the_first_plan_runs_unless_another_is_a_tenth_faster_or_it_is_refused() {
        let candidate = |plan, seconds, refused: &[&str]| Candidate {
            plan,
            step: StepEstimate { seconds, ..StepEstimate::default() },
            refused: refused.iter().map(|&name| name.to_owned()).collect(),
        };
        let two = |a: f64, refused: &[&str], b: f64, too: &[&str]| {
            best(&[candidate(&BASELINE, a, refused), candidate(&FUSED, b, too)])
        };
        assert_eq!(two(1.0, &[], 0.91, &[]), 0);
        assert_eq!(two(1.0, &[], 0.89, &[]), 1);
        assert_eq!(two(1.0, &[], 0.5, &["attnBwd"]), 0);
        assert_eq!(two(1.0, &["fwdAttn"], 2.0, &[]), 1);
        assert_eq!(two(1.0, &["fwdAttn"], 0.5, &["attnBwd"]), 0);
    }

    #[test]
    fn all_plans_are_priced_and_an_illegal_model_is_refused_by_all() {
        let config = GptConfig::preset("stories15m").unwrap();
        let profile = Profile::default();
        let all = candidates(&config, 4, 256, 1, &profile).unwrap();
        let names: Vec<_> = all.iter().map(|candidate| candidate.plan.name).collect();
        assert_eq!(names, ["baseline", "fused"]);
        assert!(all.iter().all(|candidate| candidate.refused.is_empty()));
        assert!(all[1].step.engine() < all[0].step.engine());
        // Too wide for every chip.
        let all = candidates(&config, 1, 200_000, 1, &profile).unwrap();
        assert!(all.iter().all(|candidate| !candidate.refused.is_empty()), "{all:?}");
    }
}
