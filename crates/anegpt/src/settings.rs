//! From presets, a TOML file and flags to the settings of a run.

use crate::usage;
use anyhow::{Context, Result};
use gpt::GptConfig;
use serde::Deserialize;
use std::path::Path;

/// A configuration file. Every entry may be left out.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ConfigFile {
    /// Preset that the model's numbers start from.
    pub(crate) preset: Option<String>,
    pub(crate) model: ModelSection,
    pub(crate) train: TrainSection,
}

/// Shape of the model, as far as it is given.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ModelSection {
    n_layer: Option<usize>,
    n_head: Option<usize>,
    n_kv_head: Option<usize>,
    n_embd: Option<usize>,
    head_dim: Option<usize>,
    hidden: Option<usize>,
    seq_len: Option<usize>,
    /// 0 switches rotary embedding off.
    rope_theta: Option<f64>,
    norm_eps: Option<f64>,
    tied: Option<bool>,
    qk_norm: Option<bool>,
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

/// Settings that suit a preset on a small machine.
pub(crate) fn preset_training(preset: &str) -> TrainSection {
    let (steps, batch, seq, lr) = match preset {
        "tiny" => (800, 4, 256, 4e-3),
        "stories260k" => (500, 8, 256, 3e-3),
        "stories15m" => (1000, 4, 256, 1e-3),
        "stories42m" => (1000, 2, 256, 5e-4),
        _ => (1000, 1, 256, 3e-4),
    };
    TrainSection {
        steps: Some(steps),
        batch: Some(batch),
        seq: Some(seq),
        lr: Some(lr),
        ..TrainSection::default()
    }
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
    let derived_hidden = match section.n_embd {
        // Two thirds of 4·width, as Llama, in whole 32s.
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
            None => base.rope_theta,
        },
        norm_eps: section.norm_eps.unwrap_or(base.norm_eps),
        tied: section.tied.unwrap_or(base.tied),
        qk_norm: section.qk_norm.unwrap_or(base.qk_norm),
    };
    config.validate().map_err(|e| usage(e.to_string()))?;
    Ok(config)
}
