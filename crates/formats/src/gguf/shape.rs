//! The shape of a model as metadata.

use super::container::{Container, Value};
use super::{Precision, entry};
use crate::parts::require_llama;
use gpt::GptConfig;
use std::collections::BTreeMap;

/// Returns the keys of `config`, or why it has none.
pub(super) fn metadata(
    config: &GptConfig,
    precision: Precision,
) -> Result<Vec<(String, Value)>, String> {
    require_llama(config)?;
    let Some(theta) = config.rope_theta else {
        return Err("`rope_theta` is absent, but both of its architectures rotate".to_owned());
    };
    let kind = if config.qk_norm { "qwen3" } else { "llama" };
    let number = |n: usize| {
        u32::try_from(n).map(Value::U32).map_err(|_| format!("{n} does not fit 32 bits"))
    };
    let file_type = match precision {
        Precision::F32 => 0,
        Precision::F16 => 1,
    };
    let mut keys = vec![
        entry("general.architecture", Value::Text(kind.to_owned())),
        entry("general.file_type", Value::U32(file_type)),
    ];
    let mut push = |key: &str, value: Value| keys.push(entry(format!("{kind}.{key}"), value));
    push("vocab_size", number(config.vocab_size)?);
    push("context_length", number(config.seq_len)?);
    push("embedding_length", number(config.n_embd)?);
    push("block_count", number(config.n_layer)?);
    push("feed_forward_length", number(config.hidden)?);
    push("attention.head_count", number(config.n_head)?);
    push("attention.head_count_kv", number(config.n_kv_head)?);
    push("attention.key_length", number(config.head_dim)?);
    push("attention.value_length", number(config.head_dim)?);
    push("attention.layer_norm_rms_epsilon", Value::F32(config.norm_eps as f32));
    push("rope.dimension_count", number(config.head_dim)?);
    push("rope.freq_base", Value::F32(theta as f32));
    Ok(keys)
}

/// Keys of an architecture that change the result unless they have this value.
const NEUTRAL: [(&str, Neutral); 7] = [
    ("rope.scaling.type", Neutral::Word("none")),
    ("rope.scaling.factor", Neutral::Number(1.0)),
    ("rope.scale_linear", Neutral::Number(1.0)),
    ("expert_count", Neutral::Number(0.0)),
    ("expert_used_count", Neutral::Number(0.0)),
    ("attention.causal", Neutral::True),
    ("logit_scale", Neutral::Number(1.0)),
];

/// A value that changes nothing.
#[derive(Clone, Copy)]
enum Neutral {
    Word(&'static str),
    Number(f64),
    True,
}

impl Neutral {
    fn admits(self, value: &Value) -> bool {
        let number = value.fraction().or(value.whole().map(|n| n as f64));
        match self {
            Neutral::Word(word) => value.text() == Some(word),
            Neutral::Number(n) => number == Some(n),
            Neutral::True => value.truth() == Some(true),
        }
    }
}

/// Keys that are read, or that change nothing.
const KNOWN: [&str; 14] = [
    "vocab_size",
    "context_length",
    "embedding_length",
    "block_count",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "rope.dimension_count",
    "rope.freq_base",
    // Noted of the model that was scaled, which itself is refused by its type and factor.
    "rope.scaling.original_context_length",
    "rope.scaling.finetuned",
];

/// Returns the shape that a file describes. Every key of its architecture is computed, or refused by name.
pub(super) fn read(file: &Container) -> Result<GptConfig, String> {
    let kind = file.metadata.get("general.architecture").and_then(Value::text);
    let kind = match kind.ok_or("`general.architecture` is missing")? {
        kind @ ("llama" | "qwen3") => kind,
        other => {
            return Err(format!("`general.architecture` is {other}; llama and qwen3 are read"));
        }
    };
    let keys = Keys { kind, metadata: &file.metadata };
    keys.refuse_foreign()?;
    let rows = file.tensors.get("token_embd.weight").and_then(|place| place.shape.first());
    let (n_embd, n_head) = (keys.needed("embedding_length")?, keys.needed("attention.head_count")?);
    let head_dim = keys.extent("attention.key_length")?.unwrap_or(n_embd / n_head.max(1));
    keys.equal("attention.value_length", head_dim)?;
    keys.equal("rope.dimension_count", head_dim)?;
    let vocab_size = *rows.ok_or("the tensor `token_embd.weight` is missing")?;
    keys.equal("vocab_size", vocab_size)?;
    let config = GptConfig {
        n_layer: keys.needed("block_count")?,
        n_head,
        n_kv_head: keys.extent("attention.head_count_kv")?.unwrap_or(n_head),
        n_embd,
        head_dim,
        hidden: keys.needed("feed_forward_length")?,
        vocab_size,
        seq_len: keys.needed("context_length")?,
        rope_theta: Some(keys.fraction("rope.freq_base")?.unwrap_or(1e4)),
        norm_eps: keys
            .fraction("attention.layer_norm_rms_epsilon")?
            .ok_or_else(|| keys.missing("attention.layer_norm_rms_epsilon"))?,
        tied: !file.tensors.contains_key("output.weight"),
        qk_norm: kind == "qwen3",
        ..GptConfig::default()
    };
    config.validate().map_err(|e| e.to_string())?;
    Ok(config)
}

/// The keys of one architecture.
struct Keys<'m> {
    kind: &'m str,
    metadata: &'m BTreeMap<String, Value>,
}

impl Keys<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.get(&format!("{}.{key}", self.kind))
    }

    fn missing(&self, key: &str) -> String {
        format!("`{}.{key}` is missing", self.kind)
    }

    fn refuse_foreign(&self) -> Result<(), String> {
        let prefix = format!("{}.", self.kind);
        for (name, value) in self.metadata {
            let Some(key) = name.strip_prefix(&prefix) else { continue };
            let neutral = NEUTRAL.iter().find(|(known, _)| *known == key);
            if !(KNOWN.contains(&key) || neutral.is_some_and(|(_, n)| n.admits(value))) {
                return Err(format!("`{name}` is {value:?}, which this program does not compute"));
            }
        }
        Ok(())
    }

    /// A whole number, or a list that gives every layer the same one.
    fn extent(&self, key: &str) -> Result<Option<usize>, String> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let one = match value.list() {
            Some([first, rest @ ..]) if rest.iter().all(|other| other == first) => first,
            Some(_) => return Err(format!("`{}.{key}` differs between layers", self.kind)),
            None => value,
        };
        let number = one.whole().and_then(|n| usize::try_from(n).ok());
        number.map(Some).ok_or_else(|| format!("`{}.{key}` is {value:?}, not a size", self.kind))
    }

    fn needed(&self, key: &str) -> Result<usize, String> {
        self.extent(key)?.ok_or_else(|| self.missing(key))
    }

    fn equal(&self, key: &str, needed: usize) -> Result<(), String> {
        match self.extent(key)? {
            Some(found) if found != needed => {
                Err(format!("`{}.{key}` is {found}; only {needed} is computed", self.kind))
            }
            _ => Ok(()),
        }
    }

    fn fraction(&self, key: &str) -> Result<Option<f64>, String> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = value.fraction();
        number.map(Some).ok_or_else(|| format!("`{}.{key}` is {value:?}, not a number", self.kind))
    }
}
