//! The numbers of a run: defaults, changes by flags, and what is refused.

use super::args::{OutputArgs, RunArgs};
use super::flags;
use crate::settings::{
    MomentumChoice, OptimizerChoice, ScheduleChoice, TrainSection, share_beside_muon,
};
use crate::{memory, usage};
use anyhow::Result;
use chip::Profile;
use gpt::plan::BASELINE;
use gpt::planner::accepted;
use gpt::{Dims, GptConfig, Layout, StepMemory};
use train::{
    AdamW, AdamWGroups, Decay, Intervals, LrSchedule, Multipliers, Muon, OptimizerConfig, Recipe,
    RunConfig,
};

/// The settings of a resumed run, with what its flags change.
pub(super) fn with_changes(mut config: RunConfig, args: &RunArgs) -> Result<RunConfig> {
    let asked = flags(args);
    let schedule = &mut config.schedule;
    schedule.total = args.steps.unwrap_or(schedule.total);
    schedule.peak = args.lr.unwrap_or(schedule.peak);
    schedule.floor = args.min_lr.map_or(schedule.floor, |least| least / schedule.peak);
    schedule.warmup = args.warmup.map_or(schedule.warmup, |warmup| warmup.min(schedule.total));
    schedule.multipliers = multipliers(&asked, schedule.peak, schedule.multipliers);
    schedule.decay = fall(&asked, schedule.decay)?;
    config.clip = args.clip.unwrap_or(config.clip);
    let decay = config.optimizer.weight_decay_mut();
    *decay = args.weight_decay.unwrap_or(*decay);
    match &mut config.optimizer {
        OptimizerConfig::AdamW(_) | OptimizerConfig::Lora(_) => refuse_momentum(args.momentum)?,
        OptimizerConfig::Muon(muon) => {
            muon.momentum = args.momentum.map_or(muon.momentum, |choice| choice.0);
        }
    }
    check_numbers(&config)?;
    Ok(config)
}

/// Refuses settings with which no step would be right.
pub(super) fn check_numbers(config: &RunConfig) -> Result<()> {
    let RunConfig { schedule, clip, .. } = config;
    if !(schedule.peak.is_finite() && schedule.peak > 0.0) {
        return Err(usage(format!("--lr {} must be a number above 0", schedule.peak)));
    }
    if !(0.0..=1.0).contains(&schedule.floor) {
        return Err(usage(format!(
            "--min-lr {} must be between 0 and the peak learning rate (--lr {})",
            schedule.floor * schedule.peak,
            schedule.peak
        )));
    }
    if !(clip.is_finite() && *clip >= 0.0) {
        return Err(usage(format!("--clip {clip} must be a number of at least 0 (0 = no limit)")));
    }
    check_decay(config)?;
    check_multipliers(schedule)?;
    if let Decay::Linear { share } = schedule.decay
        && !(0.0..=1.0).contains(&share)
    {
        return Err(usage(format!("--warmdown {share} must be a share of the run, 0 to 1")));
    }
    let adamw = match config.optimizer {
        OptimizerConfig::AdamW(adamw) => adamw,
        OptimizerConfig::Muon(muon) => muon.adamw.embedding,
        OptimizerConfig::Lora(lora) => lora.adamw,
    };
    for (name, beta) in [("beta1", adamw.beta1), ("beta2", adamw.beta2)] {
        if !(0.0..1.0).contains(&beta) {
            return Err(usage(format!("`{name}` is {beta}: it must be at least 0 and below 1")));
        }
    }
    Ok(())
}

/// Refuses a weight decay that would turn weights round.
fn check_decay(config: &RunConfig) -> Result<()> {
    let peak = config.schedule.peak;
    let decay = config.optimizer.weight_decay();
    if !(decay.is_finite() && decay >= 0.0) {
        return Err(usage(format!("--weight-decay {decay} must be a number of at least 0")));
    }
    if f64::from(decay) * peak < 1.0 {
        return Ok(());
    }
    // A step takes this share of every weight away.
    Err(usage(match peak >= 1.0 {
        true => format!(
            "--lr {peak} is too large: times the weight decay ({decay}) it must be below 1, and \
             rates above 0.01 rarely learn"
        ),
        false => format!(
            "--weight-decay {decay} is too large: times the learning rate (--lr {peak}) it must \
             be below 1"
        ),
    }))
}

fn check_multipliers(schedule: &LrSchedule) -> Result<()> {
    let shares = schedule.multipliers;
    for (flag, share) in [
        ("embedding-lr", shares.embedding),
        ("classifier-lr", shares.classifier),
        ("vector-lr", shares.vector),
        ("value-embedding-lr", shares.value_embedding),
        ("scalar-lr", shares.skip_scale),
        ("smear-lr", shares.smear),
    ] {
        let rate = share * schedule.peak;
        if !(rate.is_finite() && rate >= 0.0) {
            return Err(usage(format!("--{flag} {rate} must be a number of at least 0")));
        }
    }
    Ok(())
}

/// Refuses a model that this machine cannot hold: the system would end the program without a word.
/// Counted is what cannot be less: weights, gradients and the optimizer's state, all f32, and the residual
/// stream, the rows of value embeddings of a micro-batch and the logits that exist at once.
pub(crate) fn fits_in_memory(config: &RunConfig) -> Result<()> {
    let model = &config.model;
    let tokens = config.batch as f64 * config.seq as f64;
    let streams = if model.nanochat.residual_scales { 3 } else { 2 } * model.n_layer + 3;
    let tables = (0..model.n_layer).filter(|&layer| model.embeds_values(layer)).count();
    let stream = tokens * (streams * model.n_embd + tables * model.kv_dim()) as f64;
    let logits = (gpt::tokens_at_once(config.batch * config.seq) * model.vocab_size) as f64;
    let layout = Layout::new(model);
    let state = train::optim::state_elements(&*config.optimizer.build(), &layout);
    let needed = 4.0 * ((2 * layout.count() + state) as f64 + stream + logits);
    let gib = |bytes: f64| bytes / f64::from(1 << 30);
    match memory::bytes() {
        Some(have) if needed > have => Err(usage(format!(
            "training {model} on {} sequences of {} tokens takes at least {:.1} GiB of memory, \
             this machine has {:.1} GiB",
            config.batch,
            config.seq,
            gib(needed),
            gib(have)
        ))),
        _ => Ok(()),
    }
}

/// The share of the memory that a run with a micro-batch of our choice may take.
const SHARE: f64 = 0.5;
/// The memory of a machine that does not tell, in bytes.
const UNTOLD: f64 = (8u64 << 30) as f64;

/// True if half of `memory` (bytes; this machine's unless told) holds a training step of `dims` on an engine, by
/// the plan that needs most, and the chip accepts the programs of some plan.
///
/// # Errors
/// When the programs of the model cannot be derived.
pub(crate) fn fits(
    dims: &Dims<'_>,
    memory: Option<f64>,
    profile: Option<&Profile>,
) -> Result<bool> {
    let step = StepMemory::new(&BASELINE, dims, true)?;
    // Two moments of AdamW: Muon has less.
    let needed = step.total() + 2.0 * step.weights;
    let have = memory.or_else(memory::bytes).unwrap_or(UNTOLD);
    if needed > SHARE * have {
        return Ok(false);
    }
    let Some(profile) = profile else { return Ok(true) };
    Ok(accepted(dims, profile)?)
}

/// Refuses extents of a step that no machine computes.
pub(super) fn check_extents(train: &TrainSection) -> Result<()> {
    let extents = [("--batch", train.batch), ("--accum", train.accum), ("--seq", train.seq)];
    for (name, value) in extents {
        match value {
            Some(0) => return Err(usage(format!("{name} must be at least 1"))),
            Some(n) if n > 1 << 20 => {
                return Err(usage(format!("{name} {n} is more than any machine holds")));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Tokens of a row: what is asked for, else `usual` or what `model` reads, whichever is smaller.
///
/// # Errors
/// When more is asked for than the model reads.
pub(super) fn sequence(asked: Option<usize>, usual: usize, model: &GptConfig) -> Result<usize> {
    match asked {
        Some(seq) if seq > model.seq_len => Err(usage(format!(
            "--seq {seq} is longer than the {} tokens that the model reads",
            model.seq_len
        ))),
        Some(seq) => Ok(seq),
        None => Ok(usual.min(model.seq_len)),
    }
}

/// The run of `model` with the settings `train`.
pub(crate) fn run_config(model: GptConfig, train: &TrainSection, seed: u64) -> Result<RunConfig> {
    run_at(model, train, seed, 1.0)
}

/// The same where the matrices have `rate` times nanochat's learning rate: rates of its other parameters follow that,
/// but for those that do not.
pub(super) fn run_at(
    model: GptConfig,
    train: &TrainSection,
    seed: u64,
    rate: f64,
) -> Result<RunConfig> {
    let steps = train.steps.unwrap_or(1000);
    let peak = train.lr.unwrap_or(3e-4);
    check_extents(train)?;
    if steps == 0 {
        return Err(usage("--steps must be at least 1"));
    }
    let floor = train.min_lr.map_or(0.1, |least| least / peak);
    let warmup = train.warmup.unwrap_or(steps / 20).min(steps);
    let recipe = (model.family.name() == "nanochat").then(|| Recipe::of(model.nanochat.initial));
    let optimizer = optimizer(train, recipe.as_ref())?;
    let usual = match (optimizer, recipe) {
        (OptimizerConfig::AdamW(_) | OptimizerConfig::Lora(_), _) => Multipliers::default(),
        (OptimizerConfig::Muon(_), None) => Multipliers::others(share_beside_muon(model.n_embd)),
        (OptimizerConfig::Muon(_), Some(recipe)) => recipe.multipliers(model.n_embd, rate),
    };
    let multipliers = multipliers(train, peak, usual);
    let config = RunConfig {
        optimizer,
        schedule: LrSchedule {
            multipliers,
            decay: fall(train, Decay::Cosine)?,
            ..LrSchedule::cosine(peak, floor, warmup, steps)
        },
        batch: train.batch.unwrap_or(1),
        accum: train.accum.unwrap_or(1),
        seq: train.seq.unwrap_or(256).min(model.seq_len),
        clip: train.clip.unwrap_or(1.0),
        seed,
        plan: &BASELINE,
        dial: None,
        model,
    };
    check_numbers(&config)?;
    Ok(config)
}

/// The rates of groups as shares of `peak`, `usual` where none is asked for.
fn multipliers(asked: &TrainSection, peak: f64, usual: Multipliers) -> Multipliers {
    let share = |rate: Option<f64>, usual| rate.map_or(usual, |rate| rate / peak);
    // Where the rates of groups differ anyway, one of them says nothing of the others.
    let alike = usual.embedding == usual.classifier && usual.embedding == usual.value_embedding;
    let embedding = asked.embedding_lr.filter(|_| alike);
    Multipliers {
        embedding: share(asked.embedding_lr, usual.embedding),
        value_embedding: share(asked.value_embedding_lr.or(embedding), usual.value_embedding),
        classifier: share(asked.classifier_lr.or(embedding), usual.classifier),
        vector: share(asked.vector_lr.or(embedding), usual.vector),
        skip_scale: share(asked.scalar_lr, usual.skip_scale),
        residual_scale: share(asked.scalar_lr.map(|lr| lr / 100.0), usual.residual_scale),
        smear: share(asked.smear_lr, usual.smear),
        ..usual
    }
}

/// The share of a run in which a line falls, unless another is asked for (nanochat).
const WARMDOWN: f64 = 0.65;

/// How the rate falls: as asked for, else as `usual`.
fn fall(asked: &TrainSection, usual: Decay) -> Result<Decay> {
    match (asked.schedule, asked.warmdown) {
        (None, None) => Ok(usual),
        (None | Some(ScheduleChoice::Linear), share) => {
            Ok(Decay::Linear { share: share.unwrap_or(WARMDOWN) })
        }
        (Some(_), Some(_)) => Err(usage("--warmdown is for --schedule linear")),
        (Some(ScheduleChoice::Cosine), None) => Ok(Decay::Cosine),
        (Some(ScheduleChoice::Constant), None) => Ok(Decay::Constant),
    }
}

/// The optimizer that is asked for, with its defaults where nothing is.
fn optimizer(train: &TrainSection, recipe: Option<&Recipe>) -> Result<OptimizerConfig> {
    let defaults = AdamW::default();
    let adamw = AdamW {
        beta1: train.beta1.unwrap_or(defaults.beta1),
        beta2: train.beta2.unwrap_or(defaults.beta2),
        weight_decay: train.weight_decay.unwrap_or(defaults.weight_decay),
        ..defaults
    };
    Ok(match train.optimizer.unwrap_or_default() {
        OptimizerChoice::Adamw => {
            refuse_momentum(train.momentum)?;
            if train.decay_fade.is_some() {
                return Err(usage("`decay_fade` is Muon's: AdamW's weight decay is constant"));
            }
            OptimizerConfig::AdamW(adamw)
        }
        OptimizerChoice::Muon => {
            let usual = muon(recipe, train);
            let momentum = train.momentum.map_or(usual.momentum, |choice| choice.0);
            let fade = train.decay_fade.unwrap_or(usual.fade);
            let weight_decay = train.weight_decay.unwrap_or(usual.weight_decay);
            OptimizerConfig::Muon(Muon { momentum, weight_decay, fade, ..usual })
        }
    })
}

/// Muon with `recipe`'s formulas and settings of groups, momentum and decay as in every run; or with the
/// same settings for all groups.
fn muon(recipe: Option<&Recipe>, train: &TrainSection) -> Muon {
    let usual = Muon::default();
    let mut adamw = recipe.map_or_else(AdamWGroups::default, |recipe| recipe.muon.adamw);
    // --weight-decay is for what Muon updates.
    adamw.change(|adamw| {
        adamw.beta1 = train.beta1.unwrap_or(adamw.beta1);
        adamw.beta2 = train.beta2.unwrap_or(adamw.beta2);
    });
    let Muon { momentum, weight_decay, fade, .. } = usual;
    Muon { momentum, weight_decay, fade, adamw, ..recipe.map_or(usual, |recipe| recipe.muon) }
}

fn refuse_momentum(momentum: Option<MomentumChoice>) -> Result<()> {
    match momentum {
        Some(_) => Err(usage("--momentum is Muon's: AdamW has none (--optimizer muon)")),
        None => Ok(()),
    }
}

/// The actions of a run between steps, as far as flags (or those of the resumed run) tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Cadence {
    pub(super) eval_every: Option<u64>,
    pub(super) sample_every: Option<u64>,
    pub(super) checkpoint_every: Option<u64>,
    pub(super) keep: Option<usize>,
}

impl Cadence {
    /// Returns the intervals of the flags.
    pub(super) fn of(args: &OutputArgs, sample_every: Option<u64>) -> Cadence {
        let OutputArgs { eval_every, checkpoint_every, keep, .. } = *args;
        Cadence { eval_every, sample_every, checkpoint_every, keep }
    }

    /// Returns these intervals, and `other`'s where these do not tell.
    pub(super) fn or(self, other: Cadence) -> Cadence {
        Cadence {
            eval_every: self.eval_every.or(other.eval_every),
            sample_every: self.sample_every.or(other.sample_every),
            checkpoint_every: self.checkpoint_every.or(other.checkpoint_every),
            keep: self.keep.or(other.keep),
        }
    }
}

/// Validation takes at most a tenth of the work of the steps, samples and checkpoints a twentieth each,
/// unless flags ask for more. Work is counted in tokens that are trained on, three times a forward pass,
/// so that the clock decides nothing and a resumed run does what the first one would have done.
const VALIDATION_SHARE: u64 = 10;
const SAMPLES_SHARE: u64 = 20;
const CHECKPOINTS_SHARE: u64 = 20;
/// A sampled token costs as much as this many tokens that are trained on: an engine computes 32
/// columns at least, forward only.
const SAMPLED_TOKEN: u64 = 11;
/// A checkpoint costs as much as this many tokens: both grow with the number of parameters, 12 bytes
/// of which are hashed and written where a token takes 6 operations.
const CHECKPOINT: u64 = 2000;

/// How often a run is validated, sampled and saved.
pub(crate) fn intervals(cadence: &Cadence, run: &RunConfig) -> Intervals {
    let (steps, step) = (run.schedule.total, run.tokens_per_step() as u64);
    // A batch of validation is a forward pass, a third of a micro-batch.
    let batches = 3 * steps * run.accum as u64 / VALIDATION_SHARE;
    // One measurement comes before the first step, one at the end.
    let measurements = (batches / 8).clamp(3, 11);
    let tokens = steps * step / SAMPLES_SHARE / SAMPLED_TOKEN;
    let samples = (tokens / 240).clamp(1, 5);
    let checkpoints = (steps * step / CHECKPOINTS_SHARE / CHECKPOINT).clamp(1, 4);
    let every = |given: Option<u64>, times: u64| given.unwrap_or(steps.div_ceil(times));
    Intervals {
        eval: every(cadence.eval_every, measurements - 1),
        eval_batches: (batches / measurements).clamp(1, 20) as usize,
        sample: every(cadence.sample_every, samples),
        sample_tokens: (tokens / samples).clamp(32, 240) as usize,
        checkpoint: every(cadence.checkpoint_every, checkpoints),
        keep: cadence.keep.unwrap_or(3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{self, Weights};

    fn run(steps: u64, accum: usize) -> RunConfig {
        let tiny = GptConfig::preset("tiny").unwrap();
        let asked =
            TrainSection { steps: Some(steps), accum: Some(accum), ..TrainSection::default() };
        let settings = settings::suited(&tiny, &asked, Weights::Fresh).settings;
        run_config(tiny, &settings, 1).unwrap()
    }

    #[test]
    fn the_default_run_is_looked_at_as_ever() {
        let expected = Intervals {
            eval: 80,
            eval_batches: 20,
            sample: 160,
            sample_tokens: 240,
            checkpoint: 200,
            keep: 3,
        };
        assert_eq!(intervals(&Cadence::default(), &run(800, 1)), expected);
    }

    /// Validation, samples and checkpoints as shares of the work of the steps.
    fn shares(run: &RunConfig) -> [f64; 3] {
        let found = intervals(&Cadence::default(), run);
        let steps = run.schedule.total;
        let times = |every: u64| steps.div_ceil(every) as f64;
        let step = (run.batch * run.accum * run.seq) as f64;
        let forward = (run.batch * run.seq * found.eval_batches) as f64 / 3.0;
        [
            (1.0 + times(found.eval)) * forward / (steps as f64 * step),
            times(found.sample) * 11.0 * found.sample_tokens as f64 / (steps as f64 * step),
            times(found.checkpoint) * 2000.0 / (steps as f64 * step),
        ]
    }

    #[test]
    fn a_run_of_any_length_is_mostly_steps() {
        for steps in (10..300).chain([500, 777, 1000, 5000, 100_000]) {
            for accum in [1, 4] {
                let found = shares(&run(steps, accum));
                let total: f64 = found.iter().sum();
                // What happens once in any case is dear in a run of 10 steps and no more from 40 on.
                let bound = if steps * accum as u64 >= 40 { 0.2 } else { 0.45 };
                assert!(total <= bound, "{steps} steps, {accum} micro-batches: {found:?}");
            }
        }
    }

    #[test]
    fn flags_decide_for_themselves() {
        let cadence =
            Cadence { eval_every: Some(1), checkpoint_every: Some(0), ..Cadence::default() };
        let found = intervals(&cadence, &run(60, 1));
        assert_eq!((found.eval, found.checkpoint), (1, 0));
        assert_eq!((found.eval_batches, found.sample, found.keep), (6, 60, 3));
    }
}
