//! The shape of a model as metadata.

use super::container::{Container, Value};
use super::entry;
use crate::parts::{is_gpt2, require_llama};
use crate::precision::Precision;
use gpt::GptConfig;
use std::collections::BTreeMap;

/// The architectures.
const KINDS: [&str; 3] = ["llama", "qwen3", "gpt2"];

/// Returns the architecture that computes `config`, or why none does.
fn kind(config: &GptConfig) -> Result<&'static str, String> {
    if is_gpt2(config) {
        return Ok("gpt2");
    }
    require_llama(config)?;
    if config.rope_theta.is_none() {
        return Err("`rope_theta` is absent, but its architectures rotate".to_owned());
    }
    Ok(if config.qk_norm { "qwen3" } else { "llama" })
}

/// Returns the keys of `config`, or why it has none.
pub(super) fn metadata(
    config: &GptConfig,
    precision: Precision,
) -> Result<Vec<(String, Value)>, String> {
    let kind = kind(config)?;
    let number = |n: usize| {
        u32::try_from(n).map(Value::U32).map_err(|_| format!("{n} does not fit 32 bits"))
    };
    let file_type = match precision {
        Precision::F32 => 0,
        Precision::F16 => 1,
        Precision::Q8_0 => 7,
        Precision::Bf16 => 32,
    };
    let mut keys = vec![
        entry("general.architecture", Value::Text(kind.to_owned())),
        entry("general.file_type", Value::U32(file_type)),
    ];
    if precision == Precision::Q8_0 {
        keys.push(entry("general.quantization_version", Value::U32(2)));
    }
    let mut push = |key: &str, value: Value| keys.push(entry(format!("{kind}.{key}"), value));
    push("vocab_size", number(config.vocab_size)?);
    push("context_length", number(config.seq_len)?);
    push("embedding_length", number(config.n_embd)?);
    push("block_count", number(config.n_layer)?);
    push("feed_forward_length", number(config.hidden)?);
    push("attention.head_count", number(config.n_head)?);
    if kind == "gpt2" {
        push("attention.layer_norm_epsilon", Value::F32(config.norm_eps as f32));
        return Ok(keys);
    }
    push("attention.head_count_kv", number(config.n_kv_head)?);
    push("attention.key_length", number(config.head_dim)?);
    push("attention.value_length", number(config.head_dim)?);
    push("attention.layer_norm_rms_epsilon", Value::F32(config.norm_eps as f32));
    push("rope.dimension_count", number(config.head_dim)?);
    push("rope.freq_base", Value::F32(config.rope_theta.unwrap_or(1e4) as f32));
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
const KNOWN: [&str; 15] = [
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
    "attention.layer_norm_epsilon",
    "rope.dimension_count",
    "rope.freq_base",
    // Noted of the model that was scaled, which itself is refused by its type and factor.
    "rope.scaling.original_context_length",
    "rope.scaling.finetuned",
];

/// Returns the shape that a file describes. Every key of its architecture is computed, or refused by name.
pub(super) fn read(file: &Container) -> Result<GptConfig, String> {
    let kind = file.metadata.get("general.architecture").and_then(Value::text);
    let kind = kind.ok_or("`general.architecture` is missing")?;
    if !KINDS.contains(&kind) {
        let read = KINDS.join(", ");
        return Err(format!(
            "`general.architecture` is {kind}, which is not computed; {read} are read"
        ));
    }
    let keys = Keys { kind, metadata: &file.metadata };
    keys.refuse_foreign()?;
    let rows = file.tensors.get("token_embd.weight").and_then(|place| place.shape.first());
    let (n_embd, n_head) = (keys.needed("embedding_length")?, keys.needed("attention.head_count")?);
    let vocab_size = *rows.ok_or("the tensor `token_embd.weight` is missing")?;
    keys.equal("vocab_size", vocab_size)?;
    let base = GptConfig::preset(if kind == "gpt2" { "gpt2" } else { "tiny" });
    let common = GptConfig {
        n_layer: keys.needed("block_count")?,
        n_head,
        n_embd,
        hidden: keys.needed("feed_forward_length")?,
        vocab_size,
        seq_len: keys.needed("context_length")?,
        tied: !file.tensors.contains_key("output.weight"),
        ..base.map_err(|e| e.to_string())?
    };
    let config = if kind == "gpt2" { gpt2(&keys, common)? } else { llama(&keys, common)? };
    config.validate().map_err(|e| e.to_string())?;
    Ok(config)
}

/// The head's width where `attention.key_length` names none: the heads divide the width among them.
fn head_dim(common: &GptConfig) -> Result<usize, String> {
    match common.n_embd.checked_rem(common.n_head) {
        Some(0) => Ok(common.n_embd / common.n_head),
        _ => Err(format!("{} heads do not divide the width of {}", common.n_head, common.n_embd)),
    }
}

fn llama(keys: &Keys<'_>, common: GptConfig) -> Result<GptConfig, String> {
    let head_dim = match keys.extent("attention.key_length")? {
        Some(width) => width,
        None => head_dim(&common)?,
    };
    keys.equal("attention.value_length", head_dim)?;
    keys.equal("rope.dimension_count", head_dim)?;
    Ok(GptConfig {
        n_kv_head: keys.extent("attention.head_count_kv")?.unwrap_or(common.n_head),
        head_dim,
        rope_theta: Some(keys.fraction("rope.freq_base")?.unwrap_or(1e4)),
        norm_eps: keys.needed_fraction("attention.layer_norm_rms_epsilon")?,
        qk_norm: keys.kind == "qwen3",
        ..common
    })
}

fn gpt2(keys: &Keys<'_>, common: GptConfig) -> Result<GptConfig, String> {
    let head_dim = head_dim(&common)?;
    for name in ["attention.key_length", "attention.value_length"] {
        keys.equal(name, head_dim)?;
    }
    keys.equal("attention.head_count_kv", common.n_head)?;
    let norm_eps = keys.needed_fraction("attention.layer_norm_epsilon")?;
    Ok(GptConfig { n_kv_head: common.n_head, head_dim, norm_eps, ..common })
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

    fn needed_fraction(&self, key: &str) -> Result<f64, String> {
        self.fraction(key)?.ok_or_else(|| self.missing(key))
    }
}
