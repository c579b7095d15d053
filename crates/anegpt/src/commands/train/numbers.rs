//! The numbers of a run: defaults, changes by flags, and what is refused.

use super::args::Args;
use crate::settings::TrainSection;
use crate::{memory, usage};
use anyhow::Result;
use gpt::{GptConfig, Layout};
use train::{AdamW, Intervals, RunConfig, Schedule};

/// The settings of a resumed run, with what its flags change.
pub(super) fn with_changes(mut config: RunConfig, args: &Args) -> Result<RunConfig> {
    let schedule = &mut config.schedule;
    schedule.total = args.steps.unwrap_or(schedule.total);
    schedule.peak = args.lr.unwrap_or(schedule.peak);
    schedule.floor = args.min_lr.map_or(schedule.floor, |least| least / schedule.peak);
    schedule.warmup = args.warmup.map_or(schedule.warmup, |warmup| warmup.min(schedule.total));
    config.clip = args.clip.unwrap_or(config.clip);
    config.optimizer.weight_decay = args.weight_decay.unwrap_or(config.optimizer.weight_decay);
    check_numbers(&config)?;
    Ok(config)
}

/// Refuses settings with which no step would be right.
pub(super) fn check_numbers(config: &RunConfig) -> Result<()> {
    let RunConfig { schedule, optimizer, clip, .. } = config;
    if !(schedule.peak.is_finite() && schedule.peak > 0.0) {
        return Err(usage(format!("--lr {} is not a learning rate", schedule.peak)));
    }
    if !(0.0..=1.0).contains(&schedule.floor) {
        return Err(usage(format!(
            "--min-lr {} must be between 0 and the peak learning rate (--lr {})",
            schedule.floor * schedule.peak,
            schedule.peak
        )));
    }
    if !(clip.is_finite() && *clip >= 0.0) {
        return Err(usage(format!("--clip {clip} is not a norm (0 for no limit)")));
    }
    let decay = optimizer.weight_decay;
    if !(decay.is_finite() && decay >= 0.0) {
        return Err(usage(format!("--weight-decay {decay} must be a number of at least 0")));
    }
    if f64::from(decay) * schedule.peak >= 1.0 {
        // A step takes this share of every weight away.
        let peak = schedule.peak;
        return Err(usage(match peak >= 1.0 {
            true => format!(
                "--lr {peak} is too large: times the weight decay ({decay}) it must be below 1, and \
                 rates above 0.01 rarely learn"
            ),
            false => format!(
                "--weight-decay {decay} is too large: times the learning rate (--lr {peak}) it must \
                 be below 1"
            ),
        }));
    }
    for (name, beta) in [("beta1", optimizer.beta1), ("beta2", optimizer.beta2)] {
        if !(0.0..1.0).contains(&beta) {
            return Err(usage(format!("`{name}` is {beta}: it must be at least 0 and below 1")));
        }
    }
    Ok(())
}

/// Refuses a model that this machine cannot hold: the system would end the program without a word.
/// Counted is what cannot be less: weights, gradients and two moments, all f32, and the residual
/// stream and the logits of a micro-batch.
pub(in crate::commands) fn fits_in_memory(config: &RunConfig) -> Result<()> {
    let model = &config.model;
    let tokens = config.batch as f64 * config.seq as f64;
    let per_token = (2 * model.n_layer + 3) as f64 * model.n_embd as f64 + model.vocab_size as f64;
    let needed = 16.0 * Layout::new(model).count() as f64 + 4.0 * tokens * per_token;
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

pub(in crate::commands) fn run_config(
    model: GptConfig,
    train: &TrainSection,
    seed: u64,
) -> Result<RunConfig> {
    let steps = train.steps.unwrap_or(1000);
    let peak = train.lr.unwrap_or(3e-4);
    let positive = |name: &str, value: usize| match value {
        0 => Err(usage(format!("{name} must be at least 1"))),
        n if n > 1 << 20 => Err(usage(format!("{name} {n} is more than any machine holds"))),
        n => Ok(n),
    };
    if steps == 0 {
        return Err(usage("--steps must be at least 1"));
    }
    let floor = train.min_lr.map_or(0.1, |least| least / peak);
    let defaults = AdamW::default();
    let config = RunConfig {
        optimizer: AdamW {
            beta1: train.beta1.unwrap_or(defaults.beta1),
            beta2: train.beta2.unwrap_or(defaults.beta2),
            weight_decay: train.weight_decay.unwrap_or(defaults.weight_decay),
            ..defaults
        },
        schedule: Schedule {
            peak,
            floor,
            warmup: train.warmup.unwrap_or(steps / 20).min(steps),
            total: steps,
        },
        batch: positive("--batch", train.batch.unwrap_or(1))?,
        accum: positive("--accum", train.accum.unwrap_or(1))?,
        seq: positive("--seq", train.seq.unwrap_or(256).min(model.seq_len))?,
        clip: train.clip.unwrap_or(1.0),
        seed,
        model,
    };
    check_numbers(&config)?;
    Ok(config)
}

pub(super) fn intervals(args: &Args, total: u64) -> Intervals {
    let every = |given: Option<u64>, share: u64| given.unwrap_or((total / share).max(1));
    Intervals {
        eval: every(args.eval_every, 10),
        eval_batches: 20,
        sample: every(args.sample_every, 5),
        sample_tokens: 240,
        checkpoint: every(args.checkpoint_every, 4),
        keep: args.keep,
    }
}
