//! Reading `config.json` and `generation_config.json`.
//!
//! An entry that is absent has the default of its model type in Hugging Face's transformers.

use super::entries::{extent, flag, float};
use super::{OWN_TYPE, fields, gpt2, nanochat, windows};
use gpt::GptConfig;
use serde_json::{Map, Value};

/// The contents of a `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    /// Shape of the model.
    pub config: GptConfig,
    /// Tokens that end a text.
    pub ends: Vec<u32>,
    /// Entries that this program does not know; they may change the result.
    pub unknown: Vec<String>,
}

/// The types of models that are read; they differ in the defaults of absent entries.
#[derive(Clone, Copy, Debug, PartialEq)]
enum ModelType {
    Llama,
    Qwen3,
    Gpt2,
    Nanochat,
    /// Ours.
    Own,
}

/// Reads the `config.json` of a Llama, Qwen3, GPT-2 or nanochat model, or of one that only this program computes.
/// Every entry that changes the result is either computed or refused by name. `"rope_theta": null` without
/// a base elsewhere, which only this program writes, is a model without rotation.
///
/// # Errors
/// When an entry is missing, malformed, or asks for something that is not computed.
pub fn read_config(text: &str) -> Result<Described, String> {
    let json: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let json = json.as_object().ok_or("it is not a JSON object")?;
    let model_type = model_type(json)?;
    match model_type {
        ModelType::Gpt2 => fields::refuse_foreign(&gpt2::without_positions(json))?,
        ModelType::Nanochat => fields::refuse_foreign(&nanochat::without_own(json))?,
        _ => fields::refuse_foreign(json)?,
    }
    let config = match model_type {
        ModelType::Gpt2 => gpt2::read(json)?,
        ModelType::Nanochat => plain_nanochat(json)?,
        ModelType::Own => own(json)?,
        ModelType::Llama | ModelType::Qwen3 => llama(json, model_type)?,
    };
    config.validate().map_err(|e| e.to_string())?;
    let mut ends = ends(json)?;
    if model_type == ModelType::Gpt2 && !json.contains_key("eos_token_id") {
        ends.extend(Some(gpt2::END).filter(|&end| (end as usize) < config.vocab_size));
    }
    let mut unknown = fields::unknown(json);
    unknown.retain(|name| match model_type {
        ModelType::Gpt2 => !gpt2::KNOWN.contains(&name.as_str()),
        ModelType::Own => name != OWN_TYPE,
        ModelType::Llama | ModelType::Qwen3 | ModelType::Nanochat => true,
    });
    Ok(Described { config, ends, unknown })
}

/// A shape that only this program computes.
fn own(json: &Map<String, Value>) -> Result<GptConfig, String> {
    let shape = json.get(OWN_TYPE).ok_or_else(|| format!("`{OWN_TYPE}` is missing"))?;
    serde_json::from_value(shape.clone()).map_err(|e| format!("`{OWN_TYPE}`: {e}"))
}

fn plain_nanochat(json: &Map<String, Value>) -> Result<GptConfig, String> {
    let config = nanochat::read(json, rotary_base(json)?)?;
    config.validate().map_err(|e| e.to_string())?;
    windows::refuse(json, config.n_layer, config.seq_len)?;
    Ok(config)
}

fn llama(json: &Map<String, Value>, model_type: ModelType) -> Result<GptConfig, String> {
    let needed = |name| extent(json, name)?.ok_or_else(|| format!("`{name}` is missing"));
    let (n_embd, n_head) = (needed("hidden_size")?, needed("num_attention_heads")?);
    let (n_layer, seq_len) = (needed("num_hidden_layers")?, needed("max_position_embeddings")?);
    let (head_dim, n_kv_head) = match model_type {
        ModelType::Qwen3 => (128, 32),
        _ => (n_embd / n_head.max(1), n_head),
    };
    let kv_heads_absent = json.get("num_key_value_heads").is_none();
    let config = GptConfig {
        n_layer,
        n_head,
        n_kv_head: match extent(json, "num_key_value_heads")? {
            Some(heads) => heads,
            None if kv_heads_absent => n_kv_head,
            None => n_head,
        },
        n_embd,
        head_dim: extent(json, "head_dim")?.unwrap_or(head_dim),
        hidden: needed("intermediate_size")?,
        vocab_size: needed("vocab_size")?,
        seq_len,
        rope_theta: rotary_base(json)?,
        norm_eps: float(json, "rms_norm_eps")?.unwrap_or(1e-6),
        tied: flag(json, "tie_word_embeddings")?.unwrap_or(false),
        qk_norm: model_type == ModelType::Qwen3,
        ..GptConfig::default()
    };
    // Windows are listed by layer: not before it is known that there are not too many.
    config.validate().map_err(|e| e.to_string())?;
    let windows = match model_type {
        ModelType::Qwen3 => windows::qwen3(json, n_layer, seq_len)?,
        _ => windows::refuse(json, n_layer, seq_len).map(|()| vec![])?,
    };
    Ok(GptConfig { windows, ..config })
}

/// Returns the tokens that end a text by a `generation_config.json`; none if it names none.
///
/// # Errors
/// When the file is not a JSON object or its entry is not made of ids.
pub fn read_generation_ends(text: &str) -> Result<Vec<u32>, String> {
    let json: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    ends(json.as_object().ok_or("it is not a JSON object")?)
}

/// Returns the template of conversations by a `tokenizer_config.json`, where it is if there is no
/// `chat_template.jinja`: a text, or a list of which one is the default.
///
/// # Errors
/// When the file is not a JSON object or its entry is neither.
pub fn read_chat_template(text: &str) -> Result<Option<String>, String> {
    let json: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let json = json.as_object().ok_or("it is not a JSON object")?;
    match json.get("chat_template") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(template)) => Ok(Some(template.clone())),
        Some(Value::Array(list)) => {
            let default = list.iter().find(|one| one["name"] == "default");
            let template = default.and_then(|one| one["template"].as_str());
            Ok(template.map(str::to_owned))
        }
        Some(other) => Err(format!("`chat_template` is {other}, not a text")),
    }
}

fn model_type(json: &Map<String, Value>) -> Result<ModelType, String> {
    let kind = json.get("model_type").filter(|kind| !kind.is_null());
    let model_type = match kind.map(|kind| kind.as_str().ok_or(kind)) {
        None | Some(Ok("llama")) => ModelType::Llama,
        Some(Ok("qwen3")) => ModelType::Qwen3,
        Some(Ok("gpt2")) => ModelType::Gpt2,
        Some(Ok("nanochat")) => ModelType::Nanochat,
        Some(Ok(OWN_TYPE)) => return Ok(ModelType::Own),
        Some(Ok(kind)) => {
            let read = "llama, qwen3, gpt2 and nanochat are read";
            return Err(format!("`model_type` is `{kind}`; {read}"));
        }
        Some(Err(other)) => return Err(format!("`model_type` is {other}, not a word")),
    };
    let class = match model_type {
        ModelType::Llama => "LlamaForCausalLM",
        ModelType::Qwen3 => "Qwen3ForCausalLM",
        ModelType::Gpt2 => "GPT2LMHeadModel",
        ModelType::Nanochat => nanochat::CLASS,
        ModelType::Own => unreachable!("it names no class"),
    };
    match json.get("architectures").and_then(Value::as_array).and_then(|list| list.first()) {
        Some(other) if other.as_str() != Some(class) => {
            Err(format!("`architectures` is {other}; `{class}` is read"))
        }
        _ => Ok(model_type),
    }
}

/// The base of the rotary frequencies. It stands in `rope_scaling`, else in `rope_parameters`, else
/// beside them; transformers 5 reads the three in this order.
fn rotary_base(json: &Map<String, Value>) -> Result<Option<f64>, String> {
    let mut nested: Option<Option<f64>> = None;
    for name in ["rope_scaling", "rope_parameters"] {
        let Some(value) = json.get(name).filter(|value| !value.is_null()) else { continue };
        let object =
            value.as_object().ok_or_else(|| format!("`{name}` is {value}, not an object"))?;
        plain_rotation(name, object)?;
        if nested.is_none() && !object.is_empty() {
            let base = float(object, "rope_theta").map_err(|fault| format!("`{name}`: {fault}"))?;
            nested = Some(base);
        }
    }
    let beside = float(json, "rope_theta")?;
    // Where nothing is said the default holds; a null that stands alone is no rotation.
    let silent = !json.contains_key("rope_theta");
    Ok(nested.flatten().or(beside).or(silent.then_some(1e4)))
}

/// Refuses rotary parameters that do anything but name a base.
fn plain_rotation(name: &str, parameters: &Map<String, Value>) -> Result<(), String> {
    for (key, value) in parameters.iter().filter(|(_, value)| !value.is_null()) {
        let plain = match key.as_str() {
            "rope_type" | "type" => value == "default",
            "partial_rotary_factor" => value.as_f64() == Some(1.0),
            // Types other than the default read the last two.
            "rope_theta" | "factor" | "original_max_position_embeddings" => true,
            _ => false,
        };
        if !plain {
            let feature = "a rotation that this program does not compute";
            return Err(format!("`{name}` has `{key}`: {value}: {feature}"));
        }
    }
    Ok(())
}

/// Ids of `eos_token_id`: null, one, or a list.
fn ends(json: &Map<String, Value>) -> Result<Vec<u32>, String> {
    let list = match json.get("eos_token_id") {
        None | Some(Value::Null) => return Ok(vec![]),
        Some(Value::Array(list)) => list.clone(),
        Some(one) => vec![one.clone()],
    };
    let id = |value: &Value| {
        // −1 is how some files say that there is none.
        if value.as_i64() == Some(-1) {
            return Ok(None);
        }
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        id.map(Some).ok_or_else(|| format!("`eos_token_id` has {value}, not a token's id"))
    };
    Ok(list.iter().map(id).collect::<Result<Vec<_>, String>>()?.into_iter().flatten().collect())
}
