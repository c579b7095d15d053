//! The planner: prices every plan of training on a chip and chooses among those it can run.

use crate::block::Memory;
use crate::config::GptConfig;
use crate::forecast::{StepEstimate, priced};
use crate::ops::Dims;
use crate::plan::{Kernel, PLANS, Place, Plan, PlanError, Programs};
use chip::{Profile, legal};
use mil::{DType, Program};

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

/// Prices every plan that can train the model, for steps of `accum` micro-batches of `batch` sequences of `seq` tokens on
/// `profile`; of a plan with variants, the cheapest legal one. The first is the one to run: the cheapest of those
/// whose programs are legal, or the first of [`PLANS`] where none is. The others follow in the order of [`PLANS`].
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
    let dims = Dims { config, batch, seq, dtype: DType::Fp16 };
    let all = PLANS.iter().map(|&plan| {
        let variants = plan.variants().map(|variant| candidate(variant, &dims, accum, profile));
        let mut variants = variants.collect::<Result<Vec<_>, PlanError>>()?;
        Ok(variants.swap_remove(best(&variants)))
    });
    let fit = all.filter(|candidate| !matches!(candidate, Err(PlanError::Unfit { .. })));
    let mut all = fit.collect::<Result<Vec<_>, PlanError>>()?;
    let best = best(&all);
    all[..=best].rotate_right(1);
    Ok(all)
}

/// Prices `plan` for steps of `accum` micro-batches of `dims` on `profile`.
///
/// # Errors
/// When the programs of the model cannot be derived, or the plan does not train it.
pub fn candidate(
    plan: &'static Plan,
    dims: &Dims<'_>,
    accum: usize,
    profile: &Profile,
) -> Result<Candidate, PlanError> {
    let (step, schedule) = priced(plan, dims, accum, profile)?;
    Ok(Candidate { plan, step, refused: refused(&schedule.programs, profile) })
}

/// Index of the plan to run; see [`candidates`].
fn best(all: &[Candidate]) -> usize {
    cheapest(all).unwrap_or(0)
}

/// Index of the cheapest legal plan; the first of several.
fn cheapest(all: &[Candidate]) -> Option<usize> {
    let legal = (0..all.len()).filter(|&i| all[i].refused.is_empty());
    legal.min_by(|&a, &b| all[a].step.seconds.total_cmp(&all[b].step.seconds))
}

/// The choice of [`candidates`] in one line: the plan to run and the next one, with their forecasts.
pub fn choice(all: &[Candidate]) -> String {
    let of = |one: &Candidate| format!("{} {:.1} ms/step", one.plan.name, 1e3 * one.step.seconds);
    match (&all[0], cheapest(&all[1..])) {
        (best, _) if !best.refused.is_empty() => format!("{}: no plan is legal", best.plan.name),
        (best, Some(next)) => format!("{}; next {}", of(best), of(&all[1 + next])),
        (best, None) => format!("{}; no other plan is legal", of(best)),
    }
}

/// True if there is a plan of training all of whose programs are legal on `profile`.
///
/// # Errors
/// As [`candidates`].
pub fn accepted(dims: &Dims<'_>, profile: &Profile) -> Result<bool, PlanError> {
    for plan in PLANS {
        match Programs::new(plan, dims, Memory::Sequence) {
            Ok(programs) if refused(&programs.kernels, profile).is_empty() => return Ok(true),
            Ok(_) | Err(PlanError::Unfit { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// Names of the programs of the engine that `profile` refuses.
fn refused(programs: &[Kernel], profile: &Profile) -> Vec<String> {
    let engine = programs.iter().filter(|kernel| kernel.place == Place::Engine);
    let illegal = engine
        .map(|kernel| &kernel.function)
        .filter(|function| legal::check(&Program::new((*function).clone()), profile).is_err());
    illegal.map(|function| function.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{BASELINE, FUSED, GRADIENTS};

    #[test]
    fn the_cheapest_legal_plan_runs_and_the_next_is_told() {
        let candidate = |plan, seconds, refused: &[&str]| Candidate {
            plan,
            step: StepEstimate { seconds, ..StepEstimate::default() },
            refused: refused.iter().map(|&name| name.to_owned()).collect(),
        };
        let two = |a: f64, refused: &[&str], b: f64, too: &[&str]| {
            let mut all = [candidate(&BASELINE, a, refused), candidate(&FUSED, b, too)];
            let best = best(&all);
            all[..=best].rotate_right(1);
            (best, choice(&all))
        };
        let told = |best: usize, text: &str| (best, text.to_owned());
        assert_eq!(
            two(1.0, &[], 1.0, &[]),
            told(0, "baseline 1000.0 ms/step; next fused 1000.0 ms/step")
        );
        assert_eq!(
            two(1.0, &[], 0.9, &[]),
            told(1, "fused 900.0 ms/step; next baseline 1000.0 ms/step")
        );
        let alone = told(0, "baseline 1000.0 ms/step; no other plan is legal");
        assert_eq!(two(1.0, &[], 0.5, &["attnBwd"]), alone);
        assert_eq!(two(1.0, &["fwdAttn"], 2.0, &[]).0, 1);
        let none = told(0, "baseline: no plan is legal");
        assert_eq!(two(1.0, &["fwdAttn"], 0.5, &["attnBwd"]), none);
    }

    #[test]
    fn all_plans_are_priced_and_an_illegal_model_is_refused_by_all() {
        let config = GptConfig::preset("stories15m").unwrap();
        let profile = Profile::default();
        let all = candidates(&config, 4, 256, 1, &profile).unwrap();
        assert_eq!(all, candidates(&config, 4, 256, 1, &profile).unwrap());
        let names: Vec<_> = all.iter().map(|candidate| candidate.plan.name).collect();
        assert_eq!(names, [names[0], "baseline", "fused", "offload"]);
        // The cheapest choice of weight gradients.
        let dims = Dims { config: &config, batch: 4, seq: 256, dtype: DType::Fp16 };
        let choices = GRADIENTS.variants().map(|plan| candidate(plan, &dims, 1, &profile).unwrap());
        let choices: Vec<_> = choices.collect();
        assert_eq!(choices.len(), 32);
        assert!(choices.iter().any(|choice| choice.plan == all[0].plan));
        assert!(choices.iter().all(|choice| choice.step.seconds >= all[0].step.seconds));
        assert!(all.iter().all(|candidate| candidate.refused.is_empty()));
        assert!(
            all[0].step.seconds < all[1].step.seconds
                && all[2].step.engine() < all[1].step.engine()
        );
        // Too wide for every chip.
        let all = candidates(&config, 1, 200_000, 1, &profile).unwrap();
        assert!(all.iter().all(|candidate| !candidate.refused.is_empty()), "{all:?}");
    }
}
