//! The planner: prices every plan of training on a chip and chooses among those it can run.

use crate::block::Memory;
use crate::config::GptConfig;
use crate::forecast::{StepEstimate, UpdateWork, priced};
use crate::ops::Dims;
use crate::plan::{Joined, Kernel, LAYERS, PLANS, Place, Plan, PlanError, Programs, choices};
use ane::{Device, Surface};
use chip::{Profile, legal};
use mil::{Builder, DType, Function, Program, TensorType, Weights};
use rayon::prelude::*;

/// A plan with its price.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The plan.
    pub plan: &'static Plan,
    /// Forecast of a training step.
    pub step: StepEstimate,
    /// Names of the programs that break a rule of the chip; the machine refuses the plan if there is one.
    pub refused: Vec<String>,
    /// The most inputs of a request, and the most outputs.
    pub ports: [usize; 2],
}

/// Prices every plan that can train the model, for steps of `accum` micro-batches of `batch` sequences of `seq` tokens on
/// `profile` with an `optimizer` of this work; of a plan with variants, the cheapest legal one. The first is the one to run: the cheapest of those
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
    optimizer: &UpdateWork<'_>,
) -> Result<Vec<Candidate>, PlanError> {
    let dims = Dims { config, batch, seq, dtype: DType::Fp16 };
    let price = |plan| candidate(plan, &dims, accum, profile, optimizer);
    let all = PLANS.iter().map(|&plan| match plan.joined {
        Some(_) => joined(config.n_layer, &price),
        None => cheapest_of(plan.variants(), &price),
    });
    let fit = all.filter(|candidate| !matches!(candidate, Err(PlanError::Unfit { .. })));
    let mut all = fit.collect::<Result<Vec<_>, PlanError>>()?;
    let best = best(&all);
    all[..=best].rotate_right(1);
    Ok(all)
}

/// Prices a plan.
type Price<'p> = dyn Fn(&'static Plan) -> Result<Candidate, PlanError> + Sync + 'p;

/// The cheapest legal one of `plans`, or the first where none is legal.
fn cheapest_of(
    plans: impl Iterator<Item = &'static Plan>,
    price: &Price<'_>,
) -> Result<Candidate, PlanError> {
    let plans: Vec<_> = plans.collect();
    let mut all = plans.into_par_iter().map(price).collect::<Result<Vec<_>, _>>()?;
    Ok(all.swap_remove(best(&all)))
}

/// The cheapest legal variant of [`LAYERS`] that a search finds: layers of a backward program, then those of a forward
/// program, then the weight gradients of the engine, one after the other, each with the best of the others.
fn joined(layers: usize, price: &Price<'_>) -> Result<Candidate, PlanError> {
    // Programs of which a pass has one, two, three, ...: those between have as many, of unequal size.
    let mut sizes: Vec<usize> = (1..=layers).map(|programs| layers.div_ceil(programs)).collect();
    sizes.dedup();
    let with = |forward, backward| LAYERS.joined_as(Joined { forward, backward }, &[]);
    let one = cheapest_of(sizes.iter().map(|&size| with(1, size)), price)?;
    let Some(Joined { backward, .. }) = one.plan.joined else { return Ok(one) };
    let two = cheapest_of(sizes.iter().map(|&size| with(size, backward)), price)?;
    let Some(joined) = two.plan.joined else { return Ok(two) };
    cheapest_of(choices().map(|left| LAYERS.joined_as(joined, left)), price)
}

/// Prices `plan` for steps of `accum` micro-batches of `dims` on `profile` with an `optimizer` of this work.
///
/// # Errors
/// When the programs of the model cannot be derived, or the plan does not train it.
pub fn candidate(
    plan: &'static Plan,
    dims: &Dims<'_>,
    accum: usize,
    profile: &Profile,
    optimizer: &UpdateWork<'_>,
) -> Result<Candidate, PlanError> {
    let (step, schedule) = priced(plan, dims, accum, profile, optimizer)?;
    let engine = || schedule.engine().map(|(_, kernel)| &kernel.function);
    let most = |count: fn(&Function) -> usize| engine().map(count).max().unwrap_or(0);
    let ports = [most(|f| f.params), most(|f| f.outputs.len())];
    Ok(Candidate { plan, step, refused: refused(&schedule.programs, profile), ports })
}

/// Inputs that every source takes a request to have at most (ANE071).
pub const SURE_INPUTS: usize = 16;

/// The first of `all`, those of [`candidates`], if `device` carries its requests; else the cheapest legal one of which
/// it does. Requests with more inputs than every source grants are tried on it, with a program whose results are known.
///
/// # Panics
/// If `all` is empty.
pub fn carried<'c>(all: &'c [Candidate], device: &dyn Device) -> &'c Candidate {
    let passes = |candidate: &&Candidate| {
        candidate.ports[0] <= SURE_INPUTS || carries(device, candidate.ports)
    };
    let mut others: Vec<_> = all[1..].iter().filter(|other| other.refused.is_empty()).collect();
    others.sort_by(|a, b| a.step.seconds.total_cmp(&b.step.seconds));
    std::iter::once(&all[0]).chain(others).find(passes).unwrap_or(&all[0])
}

/// True if `device` computes a program with so many inputs and outputs as its formula says: the sum of all inputs, and
/// to each output one of them. All numbers are whole and below 2048, so that no rounding is in the way.
fn carries(device: &dyn Device, [inputs, outputs]: [usize; 2]) -> bool {
    const SIDE: usize = 32;
    let ty = TensorType::fp16([1, SIDE, 1, SIDE]);
    let value = |input: usize, place: usize| (input % 5 + place % 2) as f32;
    let computed = || -> Option<bool> {
        let b = Builder::new("ports");
        let x: Vec<_> = (0..inputs).map(|i| b.input(&format!("x{i}"), ty.clone())).collect();
        let sum = x.iter().copied().reduce(|sum, x| sum + x)?;
        let y: Vec<_> =
            (0..outputs).map(|i| (sum + x[i % inputs]).named(&format!("y{i}"))).collect();
        let program = Program::new(b.finish(&y).ok()?);
        let mut executable = device.compile(&program, &Weights::new()).ok()?;
        let surface = || device.surface(&ty, ty.bytes().max(device.least_allocation())).ok();
        let named = |port: &ane::Port| port.name[1..].parse::<usize>().ok();
        let places = || 0..SIDE * SIDE;
        let mut bound = vec![];
        for port in executable.inputs() {
            let (surface, input) = (surface()?, named(port)?);
            surface.write(&places().map(|at| value(input, at)).collect::<Vec<_>>()).ok()?;
            bound.push(surface);
        }
        let results: Vec<Surface> = (0..outputs).map(|_| surface()).collect::<Option<_>>()?;
        let [given, gives] = [&bound, &results].map(|all| all.iter().collect::<Vec<&Surface>>());
        executable.run(&given, &gives).ok()?;
        let mut got = vec![0.0; SIDE * SIDE];
        for (port, surface) in executable.outputs().iter().zip(&results) {
            surface.read(&mut got).ok()?;
            let output = named(port)?;
            let right = |at: usize| {
                let sum: f32 = (0..inputs).map(|input| value(input, at)).sum();
                sum + value(output % inputs, at)
            };
            if places().any(|at| got[at] != right(at)) {
                return Some(false);
            }
        }
        Some(true)
    };
    computed().unwrap_or(false)
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
    use crate::forecast::adamw;
    use crate::plan::{BASELINE, FUSED, GRADIENTS};
    use ane::{AneError, Emulator, Executable};
    use cpu::Numerics;

    #[test]
    fn the_cheapest_legal_plan_runs_and_the_next_is_told() {
        let candidate = |plan, seconds, refused: &[&str]| Candidate {
            plan,
            step: StepEstimate { seconds, ..StepEstimate::default() },
            refused: refused.iter().map(|&name| name.to_owned()).collect(),
            ports: [0; 2],
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

    /// Accepts programs with up to `most` inputs, and computes them right up to `right`.
    #[derive(Debug)]
    struct Narrow {
        emulator: Emulator,
        most: usize,
        right: usize,
    }

    impl Device for Narrow {
        fn describe(&self) -> String {
            format!("{self:?}")
        }

        ane::as_inside!(emulator);

        fn compile(
            &self,
            program: &Program,
            weights: &Weights,
        ) -> Result<Box<dyn Executable>, AneError> {
            let mut program = program.clone();
            let f = &mut program.functions[0];
            if f.params > self.most {
                return Err(AneError::NoEngine { reason: "too many inputs".to_owned() });
            }
            if f.params > self.right {
                f.outputs.rotate_left(1);
                let names: Vec<String> =
                    f.outputs.iter().map(|id| f.values[id.index()].name.clone()).collect();
                for (n, id) in f.outputs.clone().into_iter().enumerate() {
                    f.values[id.index()].name.clone_from(&names[(n + 1) % names.len()]);
                }
            }
            self.emulator.compile(&program, weights)
        }
    }

    #[test]
    fn a_plan_with_many_ports_runs_where_the_device_carries_them() {
        let of = |plan, inputs, seconds| Candidate {
            plan,
            step: StepEstimate { seconds, ..StepEstimate::default() },
            refused: vec![],
            ports: [inputs, 7],
        };
        let refused = Candidate { refused: vec!["wclsGrad".to_owned()], ..of(&FUSED, 9, 1.1) };
        let two = [of(&BASELINE, 9, 2.0), of(&GRADIENTS, 17, 1.5)];
        let all = [&[of(&LAYERS, 112, 1.0), refused][..], &two].concat();
        let chosen = |most, right| {
            let emulator = Emulator::engine(Profile::default(), Numerics::Fast);
            carried(&all, &Narrow { emulator, most, right }).plan.name
        };
        assert_eq!(chosen(255, 255), "layers");
        assert_eq!(chosen(111, 255), "gradients");
        // A device that does not refuse, and gives something else.
        assert_eq!(chosen(255, 111), "gradients");
        assert_eq!(chosen(16, 16), "baseline");
        assert_eq!(chosen(8, 8), "baseline");
        assert_eq!(
            carried(
                &two[1..],
                &Narrow {
                    emulator: Emulator::engine(Profile::default(), Numerics::Fast),
                    most: 8,
                    right: 8
                }
            )
            .plan
            .name,
            "gradients"
        );
    }

    #[test]
    fn all_plans_are_priced_and_an_illegal_model_is_refused_by_all() {
        let config = GptConfig::preset("stories15m").unwrap();
        let profile = Profile::default();
        let all = candidates(&config, 4, 256, 1, &profile, &adamw).unwrap();
        assert_eq!(all, candidates(&config, 4, 256, 1, &profile, &adamw).unwrap());
        let names: Vec<_> = all.iter().map(|candidate| candidate.plan.name).collect();
        assert!(all[0].plan.joined.is_some());
        assert_eq!(names[1..4], ["baseline", "fused", "offload"]);
        // The cheapest choice of weight gradients.
        let dims = Dims { config: &config, batch: 4, seq: 256, dtype: DType::Fp16 };
        let price = |plan| candidate(plan, &dims, 1, &profile, &adamw).unwrap().step.seconds;
        let least = |plans: &[&'static Plan], chosen: usize| {
            assert_eq!(plans.len(), 32);
            assert!(plans.contains(&all[chosen].plan));
            assert!(plans.iter().all(|&plan| price(plan) >= all[chosen].step.seconds));
        };
        least(&GRADIENTS.variants().collect::<Vec<_>>(), 4);
        let joined = all[0].plan.joined.unwrap();
        least(&choices().map(|left| LAYERS.joined_as(joined, left)).collect::<Vec<_>>(), 0);
        assert!(all.iter().all(|candidate| candidate.refused.is_empty()));
        assert!(
            all[0].step.seconds < all[1].step.seconds
                && all[2].step.engine() < all[1].step.engine()
        );
        // Too wide for every chip.
        let all = candidates(&config, 1, 200_000, 1, &profile, &adamw).unwrap();
        assert!(all.iter().all(|candidate| !candidate.refused.is_empty()), "{all:?}");
    }
}
