//! From presets, a TOML file and flags to the settings of a run.

use crate::usage;
use anyhow::{Context, Result};
use clap::ValueEnum;
use gpt::{Edition, FamilyName, FeedForward, GptConfig, Nanochat, Norm};
use serde::Deserialize;
use std::path::Path;
use std::str::FromStr;
use train::recipe::MATRIX_RATE;
use train::{Fade, Momentum};

/// A configuration file. Every entry may be left out.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ConfigFile {
    /// Preset that the model's numbers start from.
    pub(crate) preset: Option<String>,
    /// Layers of a model of nanochat from which all numbers follow.
    pub(crate) depth: Option<usize>,
    pub(crate) model: ModelSection,
    pub(crate) train: TrainSection,
}

/// Shape of the model, as far as it is given.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ModelSection {
    pub(crate) n_layer: Option<usize>,
    n_head: Option<usize>,
    n_kv_head: Option<usize>,
    n_embd: Option<usize>,
    pub(crate) head_dim: Option<usize>,
    hidden: Option<usize>,
    pub(crate) seq_len: Option<usize>,
    /// 0 switches rotary embedding off.
    rope_theta: Option<f64>,
    norm_eps: Option<f64>,
    tied: Option<bool>,
    qk_norm: Option<bool>,
    family: Option<FamilyName>,
    norm: Option<Norm>,
    feed_forward: Option<FeedForward>,
    bias: Option<bool>,
    learned_positions: Option<bool>,
    no_rope: Option<Vec<usize>>,
    windows: Option<Vec<usize>>,
    /// What `--depth` and the presets of nanochat derive the shape from.
    pub(crate) edition: Option<EditionChoice>,
    pub(crate) aspect_ratio: Option<usize>,
    pub(crate) window_pattern: Option<String>,
    pub(crate) value_embeds: Option<Switch>,
    /// Entries of [`Nanochat`] that differ from the preset's.
    nanochat: Option<toml::Table>,
}

/// The optimizers, by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OptimizerChoice {
    /// Adam with decoupled weight decay, for all parameters
    #[default]
    Adamw,
    /// Muon for the matrices of the layers (updates without a preferred direction), AdamW for the rest
    Muon,
}

/// How the learning rate falls, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ScheduleChoice {
    /// Half a cosine over the whole run
    Cosine,
    /// Not before the last part of the run (--warmdown), then on a line
    Linear,
    /// Not at all
    Constant,
}

/// The states of nanochat's model, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
pub(crate) enum EditionChoice {
    /// That of February 2026
    #[serde(rename = "2026-02")]
    #[value(name = "2026-02")]
    February,
    /// That of July 2026
    #[serde(rename = "2026-07")]
    #[value(name = "2026-07")]
    July,
}

impl From<EditionChoice> for Edition {
    fn from(choice: EditionChoice) -> Edition {
        match choice {
            EditionChoice::February => Edition::February2026,
            EditionChoice::July => Edition::July2026,
        }
    }
}

/// A part of a model that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Switch {
    /// With it
    Full,
    /// Without it
    Off,
}

/// Muon's momentum as it is typed: one number, or the first, the largest and the last.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "MomentumEntry")]
pub(crate) struct MomentumChoice(pub(crate) Momentum);

/// As it stands in a configuration file.
#[derive(Deserialize)]
#[serde(untagged)]
enum MomentumEntry {
    Number(f64),
    Text(String),
}

/// Steps in which the momentum rises to its largest value.
const MOMENTUM_RISE: u64 = 400;

impl TryFrom<MomentumEntry> for MomentumChoice {
    type Error = String;

    fn try_from(entry: MomentumEntry) -> Result<Self, String> {
        match entry {
            MomentumEntry::Number(value) => value.to_string().parse(),
            MomentumEntry::Text(text) => text.parse(),
        }
    }
}

impl FromStr for MomentumChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault = || format!("`{text}` is neither one number nor three, such as 0.85,0.97,0.9");
        let numbers: Result<Vec<f64>, _> = text.split(',').map(|n| n.trim().parse()).collect();
        let numbers = numbers.map_err(|_| fault())?;
        if let Some(bad) = numbers.iter().find(|n| !(0.0..1.0).contains(*n)) {
            return Err(format!("a momentum of {bad} is not at least 0 and below 1"));
        }
        match numbers[..] {
            [momentum] => Ok(MomentumChoice(Momentum::Constant(momentum))),
            [first, peak, last] => {
                Ok(MomentumChoice(Momentum::Trapezoid { first, peak, last, rise: MOMENTUM_RISE }))
            }
            _ => Err(fault()),
        }
    }
}

/// Settings of the run, as far as they are given.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TrainSection {
    pub(crate) steps: Option<u64>,
    pub(crate) lr: Option<f64>,
    pub(crate) min_lr: Option<f64>,
    pub(crate) warmup: Option<u64>,
    pub(crate) batch: Option<usize>,
    pub(crate) accum: Option<usize>,
    pub(crate) seq: Option<usize>,
    pub(crate) clip: Option<f64>,
    pub(crate) optimizer: Option<OptimizerChoice>,
    /// Peak rates of groups of parameters.
    pub(crate) embedding_lr: Option<f64>,
    pub(crate) classifier_lr: Option<f64>,
    pub(crate) vector_lr: Option<f64>,
    pub(crate) value_embedding_lr: Option<f64>,
    pub(crate) scalar_lr: Option<f64>,
    pub(crate) smear_lr: Option<f64>,
    /// The rules of the dial: tokens for each weight, tokens of a step, operations of the run.
    pub(crate) token_param_ratio: Option<f64>,
    pub(crate) batch_tokens: Option<u64>,
    pub(crate) target_flops: Option<f64>,
    pub(crate) momentum: Option<MomentumChoice>,
    /// The course of Muon's weight decay.
    pub(crate) decay_fade: Option<Fade>,
    pub(crate) schedule: Option<ScheduleChoice>,
    pub(crate) warmdown: Option<f64>,
    pub(crate) beta1: Option<f32>,
    pub(crate) beta2: Option<f32>,
    pub(crate) weight_decay: Option<f32>,
    pub(crate) seed: Option<u64>,
}

impl TrainSection {
    /// These settings, and `other`'s where there are none.
    pub(crate) fn or(self, other: TrainSection) -> TrainSection {
        TrainSection {
            steps: self.steps.or(other.steps),
            lr: self.lr.or(other.lr),
            min_lr: self.min_lr.or(other.min_lr),
            warmup: self.warmup.or(other.warmup),
            batch: self.batch.or(other.batch),
            accum: self.accum.or(other.accum),
            seq: self.seq.or(other.seq),
            clip: self.clip.or(other.clip),
            optimizer: self.optimizer.or(other.optimizer),
            embedding_lr: self.embedding_lr.or(other.embedding_lr),
            classifier_lr: self.classifier_lr.or(other.classifier_lr),
            vector_lr: self.vector_lr.or(other.vector_lr),
            value_embedding_lr: self.value_embedding_lr.or(other.value_embedding_lr),
            scalar_lr: self.scalar_lr.or(other.scalar_lr),
            smear_lr: self.smear_lr.or(other.smear_lr),
            token_param_ratio: self.token_param_ratio.or(other.token_param_ratio),
            batch_tokens: self.batch_tokens.or(other.batch_tokens),
            target_flops: self.target_flops.or(other.target_flops),
            momentum: self.momentum.or(other.momentum),
            decay_fade: self.decay_fade.or(other.decay_fade),
            schedule: self.schedule.or(other.schedule),
            warmdown: self.warmdown.or(other.warmdown),
            beta1: self.beta1.or(other.beta1),
            beta2: self.beta2.or(other.beta2),
            weight_decay: self.weight_decay.or(other.weight_decay),
            seed: self.seed.or(other.seed),
        }
    }
}

/// Reads a configuration file.
pub(crate) fn read(path: &Path) -> Result<ConfigFile> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the configuration {}", path.display()))?;
    toml::from_str(&text)
        .map_err(|e| usage(format!("{}: {}", path.display(), e.to_string().trim_end())))
}

/// Rows of [`suited`]: width of a preset, steps, sequences of a batch, peak rate of a fresh run.
const SUITED: [(usize, u64, usize, f64); 6] = [
    (64, 500, 8, 3e-3),
    (128, 800, 4, 4e-3),
    (288, 1000, 4, 1e-3),
    (512, 1000, 2, 5e-4),
    (768, 1000, 1, 3e-4),
    (1024, 1000, 1, 3e-4),
];

/// Tokens of a sequence, where the model reads as many.
const SEQUENCE: usize = 256;
/// Peak rate for existing weights as a share of a fresh run's.
const EXISTING_SHARE: f64 = 0.1;
/// Times that existing weights see the text, unless more steps are asked for.
const EXISTING_EPOCHS: u64 = 3;
/// Fewest steps for existing weights.
const EXISTING_STEPS: u64 = 20;

/// The initial weights of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weights {
    /// Drawn at random.
    Fresh,
    /// Trained before, to go on with this many tokens.
    Existing { train_tokens: u64 },
}

/// Settings for which nothing else is asked, on a small machine.
///
/// The largest rate at which Adam is stable falls with the width, since each weight of a product moves
/// by up to the rate, whatever its gradient, and the sum over the inputs by up to width times that
/// (Yang et al. 2022). At the presets' widths the rates are those they were tuned with; between them log rate is
/// linear in log width, below them it is constant and above them it falls as 1/width.
///
/// Existing weights are near a minimum that a tenth of the rate stays in, while the full one leaves it within
/// a few steps; their moments begin at nothing all the same, so the first updates are of full size whatever
/// the gradients, and a tenth of the run is warm-up in place of a twentieth. A small text is learned by
/// heart from the fourth time on; where more steps are asked for, the rate is lower in proportion, so that
/// the weights move no further than three times would move them. (The stories260K weights on 14,000 tokens
/// of TinyStories, validation 1.795 before: 20 steps at 4e-3, 3e-4 and 1e-4 end at 2.19, 1.688 and 1.695;
/// 200 steps, 29 epochs, at 3e-4, 1e-4 and 3e-5 at 1.957, 1.723 and 1.675.)
pub(crate) fn suited(model: &GptConfig, asked: &TrainSection, weights: Weights) -> Suited {
    let width = model.n_embd;
    let seq = sequence(model, asked);
    let row = SUITED.iter().find(|row| row.0 >= width).unwrap_or(&SUITED[SUITED.len() - 1]);
    let &(_, fresh_steps, batch, _) = row;
    let batch = asked.batch.unwrap_or(batch);
    let muon = asked.optimizer == Some(OptimizerChoice::Muon);
    let fresh = if muon { MATRIX_RATE } else { fresh_rate(width) };
    let (steps, lr, why) = match weights {
        Weights::Fresh if muon => (fresh_steps, fresh, "for Muon at any width".to_owned()),
        Weights::Fresh => (fresh_steps, fresh, format!("for width {width}")),
        Weights::Existing { train_tokens } => {
            let step = (batch * asked.accum.unwrap_or(1) * seq).max(1) as u64;
            let steps = (EXISTING_EPOCHS * train_tokens / step).clamp(EXISTING_STEPS, fresh_steps);
            let epochs = (asked.steps.unwrap_or(steps) * step) as f64 / train_tokens as f64;
            let shrink = (EXISTING_EPOCHS as f64 / epochs).min(1.0);
            let mut why = "a tenth of a fresh run's, as weights exist".to_owned();
            if shrink < 1.0 {
                why += &format!(", less as the text is seen {epochs:.0} times");
            }
            (steps, fresh * EXISTING_SHARE * shrink, why)
        }
    };
    let steps = asked.steps.unwrap_or(steps);
    let warmup = match weights {
        Weights::Fresh => steps / 20,
        Weights::Existing { .. } => steps.div_ceil(10),
    };
    let settings = TrainSection {
        steps: Some(steps),
        batch: Some(batch),
        seq: Some(seq),
        lr: Some(lr),
        warmup: Some(warmup),
        ..TrainSection::default()
    };
    let lr_reason = if asked.lr.is_some() { "as asked for".to_owned() } else { why };
    Suited { settings: asked.or(settings), lr_reason }
}

/// Tokens of a sequence.
pub(crate) fn sequence(model: &GptConfig, asked: &TrainSection) -> usize {
    asked.seq.unwrap_or(SEQUENCE.min(model.seq_len))
}

/// The rate of AdamW's parameters as a share of Muon's: that of AdamW alone at the width.
pub(crate) fn share_beside_muon(width: usize) -> f64 {
    fresh_rate(width) / MATRIX_RATE
}

/// AdamW's peak rate of a fresh run at a width; see [`suited`].
pub(crate) fn fresh_rate(width: usize) -> f64 {
    let width = width as f64;
    let rows = || SUITED.iter().map(|row| (row.0 as f64, row.3));
    let above = rows().find(|row| row.0 >= width);
    match (rows().rfind(|row| row.0 <= width), above) {
        (Some(row), _) if row.0 == width => row.1,
        (Some(below), Some(above)) => {
            let share = (width / below.0).ln() / (above.0 / below.0).ln();
            below.1 * (above.1 / below.1).powf(share)
        }
        (None, Some(narrowest)) => narrowest.1,
        (Some(widest), None) => widest.1 * widest.0 / width,
        (None, None) => unreachable!("there are rows"),
    }
}

/// Settings of a run, and why its peak rate.
#[derive(Clone, Debug)]
pub(crate) struct Suited {
    pub(crate) settings: TrainSection,
    pub(crate) lr_reason: String,
}

/// The model of a configuration file for a vocabulary.
pub(crate) fn model(
    base: GptConfig,
    section: &ModelSection,
    vocab_size: usize,
    seq: Option<usize>,
) -> Result<GptConfig> {
    let n_embd = section.n_embd.unwrap_or(base.n_embd);
    let n_head = section.n_head.unwrap_or(base.n_head);
    let own_width = section.n_embd.is_some() || section.n_head.is_some();
    let derived_head = if own_width { n_embd / n_head.max(1) } else { base.head_dim };
    let network = section.feed_forward.unwrap_or(base.feed_forward);
    let derived_hidden = match section.n_embd {
        // Four times the width; two thirds of that in whole 32s where there are three matrices, as Llama.
        Some(width) if network != FeedForward::SwiGlu => 4 * width,
        Some(width) => (8 * width / 3).next_multiple_of(32),
        None => base.hidden,
    };
    let config = GptConfig {
        n_layer: section.n_layer.unwrap_or(base.n_layer),
        n_head,
        n_kv_head: section.n_kv_head.unwrap_or(if own_width { n_head } else { base.n_kv_head }),
        n_embd,
        head_dim: section.head_dim.unwrap_or(derived_head),
        hidden: section.hidden.unwrap_or(derived_hidden),
        vocab_size,
        seq_len: section.seq_len.unwrap_or(base.seq_len.max(seq.unwrap_or(0))),
        rope_theta: match section.rope_theta {
            Some(theta) => Some(theta).filter(|&theta| theta != 0.0),
            None if section.learned_positions == Some(true) => None,
            None => base.rope_theta,
        },
        norm_eps: section.norm_eps.unwrap_or(base.norm_eps),
        tied: section.tied.unwrap_or(base.tied),
        qk_norm: section.qk_norm.unwrap_or(base.qk_norm),
        nanochat: nanochat(&base.nanochat, section)?,
        ..mixture(&base, section)
    };
    if section.value_embeds.is_some() && config.family.name() != "nanochat" {
        return Err(usage("--value-embeds is for models of nanochat: others have none"));
    }
    config.validate().map_err(|e| usage(e.to_string()))?;
    Ok(config)
}

/// Returns the parts of the blocks. Learned positions take the place of rotary embedding and the
/// other way round.
fn mixture(base: &GptConfig, section: &ModelSection) -> GptConfig {
    GptConfig {
        family: section.family.unwrap_or(base.family),
        norm: section.norm.unwrap_or(base.norm),
        feed_forward: section.feed_forward.unwrap_or(base.feed_forward),
        bias: section.bias.unwrap_or(base.bias),
        learned_positions: section
            .learned_positions
            .unwrap_or(base.learned_positions && section.rope_theta.is_none()),
        no_rope: section.no_rope.clone().unwrap_or_else(|| base.no_rope.clone()),
        windows: section.windows.clone().unwrap_or_else(|| base.windows.clone()),
        ..base.clone()
    }
}

/// Returns `base` with the entries of `section` in place of its own.
fn nanochat(base: &Nanochat, section: &ModelSection) -> Result<Nanochat> {
    let mut entries = toml::Table::try_from(base).context("a configuration is a table")?;
    entries.extend(section.nanochat.clone().unwrap_or_default());
    let fault =
        |e: toml::de::Error| usage(format!("[model.nanochat]: {}", e.to_string().trim_end()));
    let mut parts: Nanochat = entries.try_into().map_err(fault)?;
    // The flag stands above the file.
    parts.value_embeds = section.value_embeds.map_or(parts.value_embeds, |s| s == Switch::Full);
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Settings for a width, where nothing is asked for.
    fn chosen(width: usize, weights: Weights) -> Suited {
        asked(width, &TrainSection::default(), weights)
    }

    fn asked(width: usize, asked: &TrainSection, weights: Weights) -> Suited {
        let tiny = GptConfig::preset("tiny").unwrap();
        suited(&GptConfig { n_embd: width, ..tiny }, asked, weights)
    }

    fn rate(width: usize, weights: Weights) -> f64 {
        chosen(width, weights).settings.lr.unwrap()
    }

    #[test]
    fn the_default_run_keeps_its_numbers() {
        let chosen = chosen(128, Weights::Fresh).settings;
        assert_eq!((chosen.steps, chosen.batch, chosen.seq), (Some(800), Some(4), Some(256)));
        assert_eq!((chosen.lr, chosen.warmup), (Some(4e-3), Some(40)));
    }

    #[test]
    fn entries_of_nanochat_replace_those_of_the_preset() {
        let base = GptConfig::preset("nanochat-d4").unwrap();
        let read = |entries: &str| {
            let section: ModelSection = toml::from_str(&format!("nanochat = {entries}")).unwrap();
            model(base.clone(), &section, 500, None)
        };
        let got = read("{ value_embeds = false, softcap = 20.0 }").unwrap();
        let nanochat =
            Nanochat { value_embeds: false, softcap: Some(20.0), ..base.nanochat.clone() };
        assert_eq!(got, GptConfig { vocab_size: 500, nanochat, ..base.clone() });
        let error = read("{ smears = 3 }").unwrap_err().to_string();
        assert!(error.contains("[model.nanochat]: unknown field `smears`"), "{error}");
    }

    #[test]
    fn the_rate_falls_with_the_width() {
        for (width, steps, batch, rate) in SUITED {
            let chosen = chosen(width, Weights::Fresh).settings;
            assert_eq!((chosen.steps, chosen.batch), (Some(steps), Some(batch)));
            assert_eq!(chosen.lr, Some(rate));
        }
        let rates = [32, 64, 100, 128, 200, 288, 400, 512, 600, 768, 1024, 2048, 65_536]
            .map(|width| rate(width, Weights::Fresh));
        assert_eq!(rates[0], rates[1]);
        assert!(rates[3..].windows(2).all(|pair| pair[0] >= pair[1]), "{rates:?}");
        assert_eq!(rates[11], 1.5e-4, "twice the width, half the rate");
        // 192 = √(128·288): the geometric mean of the rates.
        assert!((fresh_rate(192) / 2e-3 - 1.0).abs() < 1e-12, "{}", fresh_rate(192));
    }

    #[test]
    fn a_momentum_is_one_number_or_three() {
        let read = |text: &str| toml::from_str::<TrainSection>(&format!("momentum = {text}"));
        let choice = |text: &str| read(text).unwrap().momentum.unwrap().0;
        assert_eq!(choice("0.9"), Momentum::Constant(0.9));
        assert_eq!(choice("\"0.85,0.97, 0.90\""), Momentum::NANOCHAT);
        for (text, says) in [
            ("\"0.9,0.8\"", "neither one number nor three"),
            ("\"much\"", "neither one number nor three"),
            ("1.0", "a momentum of 1 is not at least 0 and below 1"),
            ("nan", "a momentum of NaN"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    /// The other parameters keep the rate that they have with AdamW alone.
    #[test]
    fn muon_has_one_rate_for_all_widths() {
        let muon =
            TrainSection { optimizer: Some(OptimizerChoice::Muon), ..TrainSection::default() };
        for (width, _, _, adamw) in SUITED {
            let fresh = asked(width, &muon, Weights::Fresh);
            let rate = fresh.settings.lr.unwrap();
            assert_eq!((rate, fresh.lr_reason.as_str()), (0.02, "for Muon at any width"));
            assert!((rate * share_beside_muon(width) / adamw - 1.0).abs() < 1e-12, "{width}");
            let existing = asked(width, &muon, Weights::Existing { train_tokens: 100_000_000 });
            assert!((existing.settings.lr.unwrap() / 0.002 - 1.0).abs() < 1e-12, "{width}");
        }
    }

    #[test]
    fn existing_weights_take_a_tenth_and_three_epochs() {
        let existing = |train_tokens| Weights::Existing { train_tokens };
        // 4 · 256 tokens a step, 256 at width 768.
        for (width, train_tokens, steps, share) in [
            (128, 100_000, 292, 1.0),
            (128, 1_000, 20, 3_000.0 / 20_480.0),
            (128, 100_000_000, 800, 1.0),
            (768, 100_000, 1000, 1.0),
        ] {
            let chosen = chosen(width, existing(train_tokens));
            assert_eq!(chosen.settings.steps, Some(steps), "{width} {train_tokens}");
            let warmup = chosen.settings.warmup.unwrap();
            assert!(warmup * 10 >= steps && warmup * 10 < steps + 10, "{warmup}");
            let (lr, fresh) = (chosen.settings.lr.unwrap(), rate(width, Weights::Fresh));
            assert!((lr / (fresh * 0.1 * share) - 1.0).abs() < 1e-12, "{lr} {fresh} {share}");
            assert!(chosen.lr_reason.contains("a tenth of a fresh run's"));
            assert_eq!(chosen.lr_reason.contains("seen 20 times"), share < 1.0);
        }
        let own = TrainSection { steps: Some(7), lr: Some(0.5), ..TrainSection::default() };
        let chosen = asked(128, &own, existing(1_000_000));
        assert_eq!((chosen.settings.steps, chosen.settings.lr), (Some(7), Some(0.5)));
        assert_eq!(chosen.lr_reason, "as asked for");
    }
}
