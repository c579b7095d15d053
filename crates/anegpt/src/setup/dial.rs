//! The dial: from the depth of a model to the numbers of its run (`--depth`), by nanochat's rules.

use super::numbers::check_extents;
use crate::progress::count;
use crate::settings::{self, MomentumChoice, OptimizerChoice, ScheduleChoice, TrainSection};
use crate::usage;
use anyhow::Result;
use gpt::{Depth, GptConfig, ParameterCounts};
use train::recipe::MATRIX_RATE;
use train::scaling::{Asked, Budget, Dial, Rules};
use train::{Decay, Recipe};

/// The most sequences of a micro-batch.
const MOST_SEQUENCES: usize = 32;

/// What the dial gives.
#[derive(Clone, Debug)]
pub(crate) struct Turned {
    /// The settings of the run, those that were asked for among them.
    pub(crate) settings: TrainSection,
    /// What the run keeps of the dial.
    pub(crate) dial: Dial,
    /// Why the peak learning rate.
    pub(crate) lr_reason: String,
    /// What the rules give that cannot be meant, and what mends it.
    pub(crate) warnings: Vec<String>,
}

/// The batch of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cut {
    batch: usize,
    accum: usize,
}

/// The numbers of a run of `model`, which has the shape `depth`, with what is `asked` for. `fits` tells whether
/// a micro-batch of so many sequences of so many tokens fits the memory and the chip.
///
/// # Errors
/// Numbers that contradict each other; errors of `fits`.
pub(crate) fn turn(
    depth: &Depth,
    model: &GptConfig,
    asked: &TrainSection,
    fits: &mut dyn FnMut(usize, usize) -> Result<bool>,
) -> Result<Turned> {
    check_extents(asked)?;
    let recipe = Recipe::of(depth.edition);
    let rules = rules(depth, model, asked, &recipe)?;
    let weights = ParameterCounts::new(model).scaling() as u64;
    let seq = asked.seq.unwrap_or(model.seq_len);
    let given = asked.batch.zip(asked.accum).map(|(batch, accum)| (batch * accum * seq) as u64);
    if let (Some(tokens), Some(given)) = (asked.batch_tokens, given)
        && tokens != given
    {
        return Err(usage(format!(
            "--batch-tokens {tokens} is not --batch times --accum times the sequence, {given}: leave one of \
             them out"
        )));
    }
    let by_rule = rules.budget(weights, &Asked::default()).batch;
    let batch_tokens = given.or(asked.batch_tokens).unwrap_or(by_rule);
    let cut = cut(batch_tokens as usize, seq, asked, fits)?;
    let actual = (cut.batch * cut.accum * seq) as u64;
    let flops_per_token = model.flops_per_token(seq);
    let flops = asked.target_flops.map(|all| [all, flops_per_token]);
    let numbers = Asked { batch: Some(actual), steps: asked.steps, flops };
    let budget = rules.budget(weights, &numbers);
    let (settings, lr_reason) = settings_of(model, asked, &recipe, &budget, cut);
    let mut warnings = vec![];
    if actual != batch_tokens {
        warnings.push(indivisible(batch_tokens, actual, seq, cut, asked));
    }
    warnings.extend(nonsense(asked, &recipe, &budget, &settings));
    let Rules { ratio, reference, .. } = rules;
    let (depth, edition) = (depth.depth, depth.edition);
    let tokens = budget.tokens;
    let dial =
        Dial { depth, edition, ratio, weights, reference, tokens, batch_tokens, flops_per_token };
    Ok(Turned { settings, dial, lr_reason, warnings })
}

/// The rules with their reference: the model of depth 12 that is otherwise the same.
fn rules(depth: &Depth, model: &GptConfig, asked: &TrainSection, recipe: &Recipe) -> Result<Rules> {
    let vocab_size = model.vocab_size;
    let reference = Depth { depth: 12, vocab_size, ..depth.clone() }.config();
    let reference = ParameterCounts::new(&reference).scaling() as u64;
    let ratio = asked.token_param_ratio.unwrap_or(recipe.ratio);
    if let Some(tokens) = asked.batch_tokens.filter(|tokens| !(1..=1 << 40).contains(tokens)) {
        return Err(usage(format!("--batch-tokens {tokens} must be between 1 and {}", 1u64 << 40)));
    }
    for (flag, value) in
        [("--token-param-ratio", Some(ratio)), ("--target-flops", asked.target_flops)]
    {
        if let Some(value) = value.filter(|value| !(value.is_finite() && *value > 0.0)) {
            return Err(usage(format!("{flag} {value} must be a number above 0")));
        }
    }
    Ok(Rules { ratio, ..Rules::new(recipe, reference) })
}

/// Cuts the tokens of a step into micro-batches: as asked for, else into the largest that divide them (in
/// powers of two, up to 32 sequences) and fit.
fn cut(
    tokens: usize,
    seq: usize,
    asked: &TrainSection,
    fits: &mut dyn FnMut(usize, usize) -> Result<bool>,
) -> Result<Cut> {
    let sequences = (tokens as f64 / seq as f64).round_ties_even().max(1.0) as usize;
    let rest = |part: usize| ((sequences as f64 / part as f64).round_ties_even() as usize).max(1);
    match (asked.batch, asked.accum) {
        (Some(batch), Some(accum)) => return Ok(Cut { batch, accum }),
        (Some(batch), None) => return Ok(Cut { batch, accum: rest(batch.max(1)) }),
        (None, Some(accum)) => return Ok(Cut { batch: rest(accum.max(1)), accum }),
        (None, None) => {}
    }
    let mut batch = MOST_SEQUENCES;
    while batch > 1 && (!sequences.is_multiple_of(batch) || !fits(batch, seq)?) {
        batch /= 2;
    }
    Ok(Cut { batch, accum: rest(batch) })
}

/// The settings of a run with `budget`, and why its peak rate.
fn settings_of(
    model: &GptConfig,
    asked: &TrainSection,
    recipe: &Recipe,
    budget: &Budget,
    cut: Cut,
) -> (TrainSection, String) {
    let steps = budget.steps.max(1);
    let muon = asked.optimizer != Some(OptimizerChoice::Adamw);
    let (lr, why) = match muon {
        true => (MATRIX_RATE * budget.rate, format!("for {} tokens per step", budget.batch)),
        false => (settings::fresh_rate(model.n_embd), format!("for width {}", model.n_embd)),
    };
    let line = matches!(asked.schedule, None | Some(ScheduleChoice::Linear));
    let share = match recipe.decay {
        Decay::Linear { share } if line => Some(share),
        _ => None,
    };
    let usual = TrainSection {
        steps: Some(steps),
        lr: Some(lr),
        min_lr: Some(recipe.floor * asked.lr.unwrap_or(lr)),
        warmup: Some(recipe.warmup.min(steps)),
        batch: Some(cut.batch),
        accum: Some(cut.accum),
        seq: Some(model.seq_len),
        clip: Some(0.0),
        optimizer: Some(OptimizerChoice::Muon),
        momentum: muon.then_some(MomentumChoice(recipe.muon.momentum)),
        decay_fade: muon.then_some(recipe.muon.fade),
        schedule: Some(ScheduleChoice::Linear),
        warmdown: share,
        weight_decay: muon.then_some(budget.weight_decay as f32),
        ..TrainSection::default()
    };
    let lr_reason = if asked.lr.is_some() { "as asked for".to_owned() } else { why };
    (asked.or(usual), lr_reason)
}

fn indivisible(wanted: u64, actual: u64, seq: usize, cut: Cut, asked: &TrainSection) -> String {
    let Cut { batch, accum } = cut;
    let flag = match (asked.batch, asked.accum) {
        (Some(_), _) => "--batch, or --batch-tokens, with which it does",
        (None, Some(_)) => "--accum, or --batch-tokens, with which it does",
        (None, None) => "--seq, or --batch-tokens, with which it does",
    };
    format!(
        "{wanted} tokens per step do not divide into sequences of {seq} and micro-batches: a step has {actual} \
         tokens, {accum} × {batch} × {seq}. Give another {flag}"
    )
}

/// What the rules give that cannot be meant.
fn nonsense(
    asked: &TrainSection,
    recipe: &Recipe,
    budget: &Budget,
    settings: &TrainSection,
) -> Vec<String> {
    let mut warnings = vec![];
    let muon = settings.optimizer == Some(OptimizerChoice::Muon);
    if muon && budget.weight_decay > 1.0 && asked.weight_decay.is_none() {
        warnings.push(format!(
            "the rule gives a weight decay of {:.2}: it grows as the tokens become fewer ({} here), and was tuned \
             on larger models, where it is below 1. --weight-decay {} is that of depth 12; a smaller \
             --batch-tokens lowers it too",
            budget.weight_decay,
            count(budget.tokens as f64),
            recipe.weight_decay
        ));
    }
    if budget.steps == 0 {
        warnings.push(format!(
            "what the run is to see is less than one step of {} tokens: the run makes one step. \
             --batch-tokens N makes smaller steps, --steps N more of them",
            budget.batch
        ));
    }
    let steps = budget.steps.max(1);
    if asked.warmup.is_none() && steps < recipe.warmup {
        warnings.push(format!(
            "the rule's warm-up of {} steps is longer than the run: the learning rate rises to its peak over \
             all of its {steps} steps and does not fall. --warmup {} leaves room for that, --steps N or a \
             smaller --batch-tokens makes more steps",
            recipe.warmup,
            steps / 10
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpt::Edition;

    fn turned(depth: usize, asked: &TrainSection) -> Turned {
        let depth = Depth::new(Edition::July2026, depth);
        turn(&depth, &depth.config(), asked, &mut |batch, _| Ok(batch <= 8)).unwrap()
    }

    /// The table of depths: batch, steps, and what its rules say of the rest.
    #[test]
    fn depths_have_the_numbers_of_the_rules() {
        for (depth, tokens, steps, decay) in [
            (2, 131_072, 420, 3.36),
            (4, 262_144, 528, 1.89),
            (8, 262_144, 1920, 0.52),
            (12, 524_288, 2520, 0.28),
            (20, 1_048_576, 4980, 0.100),
        ] {
            let found = turned(depth, &TrainSection::default());
            let s = found.settings;
            let (batch, accum, seq) = (s.batch.unwrap(), s.accum.unwrap(), s.seq.unwrap());
            assert_eq!((batch, seq, batch * accum * seq), (8, 2048, tokens), "d{depth}");
            assert_eq!((s.steps, s.warmup, s.clip), (Some(steps), Some(40), Some(0.0)));
            assert!((f64::from(s.weight_decay.unwrap()) - decay).abs() < 5e-3, "d{depth}");
            let lr = 0.02 * (tokens as f64 / 524_288.0).sqrt();
            assert!((s.lr.unwrap() / lr - 1.0).abs() < 1e-12);
            assert!((s.min_lr.unwrap() / (0.05 * lr) - 1.0).abs() < 1e-12);
            assert_eq!(s.warmdown, Some(0.65));
            assert_eq!(found.warnings.len(), usize::from(depth < 6), "{:?}", found.warnings);
        }
    }

    #[test]
    fn what_is_asked_for_stands() {
        let asked = TrainSection {
            steps: Some(100),
            lr: Some(0.5),
            batch: Some(3),
            weight_decay: Some(0.1),
            schedule: Some(ScheduleChoice::Cosine),
            ..TrainSection::default()
        };
        let found = turned(4, &asked);
        let s = found.settings;
        assert_eq!((s.steps, s.lr, s.weight_decay), (Some(100), Some(0.5), Some(0.1)));
        // 128 sequences are 43 micro-batches of 3 and one too many.
        assert_eq!((s.batch, s.accum, s.warmdown), (Some(3), Some(43), None));
        assert_eq!(s.min_lr, Some(0.025));
        let [warning] = &found.warnings[..] else { panic!("{:?}", found.warnings) };
        assert!(warning.contains("a step has 264192 tokens, 43 × 3 × 2048"), "{warning}");
        let adamw =
            TrainSection { optimizer: Some(OptimizerChoice::Adamw), ..TrainSection::default() };
        let s = turned(4, &adamw).settings;
        assert_eq!((s.momentum.is_none(), s.decay_fade, s.weight_decay), (true, None, None));
    }

    #[test]
    fn other_rules_give_other_numbers() {
        let ratio = TrainSection { token_param_ratio: Some(24.0), ..TrainSection::default() };
        let (twice, usual) = (turned(8, &ratio), turned(8, &TrainSection::default()));
        assert_eq!(twice.dial.tokens, 2 * usual.dial.tokens);
        // The decay is that of a share of tokens, which is the same.
        assert_eq!(twice.settings.weight_decay, usual.settings.weight_decay);
        let flops = 7.0 * 262_144.0 * usual.dial.flops_per_token;
        let flops = TrainSection { target_flops: Some(flops), ..TrainSection::default() };
        assert_eq!(turned(8, &flops).settings.steps, Some(7));
        let small = TrainSection { batch_tokens: Some(16_384), ..TrainSection::default() };
        let found = turned(8, &small);
        assert_eq!((found.settings.batch, found.settings.accum), (Some(8), Some(1)));
        let rate = found.settings.lr.unwrap() / MATRIX_RATE;
        assert!((rate - 32f64.sqrt().recip()).abs() < 1e-15);
    }

    #[test]
    fn smear_keeps_its_rate_whatever_that_of_matrices() {
        let depth = Depth::new(Edition::July2026, 4);
        for lr in [None, Some(0.01)] {
            let asked = TrainSection { lr, ..TrainSection::default() };
            let run = crate::setup::by_depth(&depth, depth.config(), &asked, None, None);
            let schedule = run.unwrap().0.schedule;
            let rate = schedule.multipliers.smear * schedule.peak;
            assert!((rate - 0.2).abs() < 1e-12, "{lr:?}: {rate}");
        }
    }

    #[test]
    fn nonsense_is_named_with_what_mends_it() {
        let of = |asked: TrainSection| turned(12, &asked).warnings.join("; ");
        let short = of(TrainSection { steps: Some(5), ..TrainSection::default() });
        assert!(short.contains("warm-up of 40 steps") && short.contains("--warmup 0"), "{short}");
        let large = of(TrainSection { batch_tokens: Some(1 << 33), ..TrainSection::default() });
        assert!(
            large.contains("less than one step") && large.contains("--batch-tokens"),
            "{large}"
        );
        let depth = Depth::new(Edition::July2026, 2);
        let error = |asked: TrainSection| {
            let turned = turn(&depth, &depth.config(), &asked, &mut |_, _| Ok(true));
            turned.unwrap_err().to_string()
        };
        let both = TrainSection {
            batch: Some(1),
            accum: Some(1),
            batch_tokens: Some(4096),
            ..TrainSection::default()
        };
        assert!(error(both).contains("--batch-tokens 4096 is not"));
        let none = TrainSection { token_param_ratio: Some(0.0), ..TrainSection::default() };
        assert!(error(none).contains("--token-param-ratio 0 must be"));
        let tokens = TrainSection { batch_tokens: Some(u64::MAX), ..TrainSection::default() };
        assert!(
            error(tokens).contains("--batch-tokens 18446744073709551615 must be between 1 and")
        );
        let empty = TrainSection { batch: Some(0), ..TrainSection::default() };
        assert!(error(empty).contains("--batch must be at least 1"));
    }
}
