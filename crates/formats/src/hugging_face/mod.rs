//! The directories by which Hugging Face's libraries know a model and when to stop, both ways.

mod entries;
mod fields;
mod gpt2;
mod nanochat;
mod read;
#[cfg(test)]
mod tests;
mod weights;
mod windows;

pub use read::{Described, read_chat_template, read_config, read_generation_ends};
pub use weights::{read_index, read_safetensors, read_sharded, write_safetensors};

use crate::error::WeightsError;
use crate::model::Model;
use crate::parts;
use crate::precision::Precision;
use gpt::GptConfig;
use serde_json::{Value, json};
use std::path::Path;
use tokenizer::Tokenizer;
use weights::Form;

/// `model_type` of models that no class of Hugging Face computes; the entry of this name is the shape.
const OWN_TYPE: &str = "anegpt";

/// Who is to read a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// This program; and transformers, where a class of its own has the model's names.
    Anegpt,
    /// A class of transformers.
    Transformers,
    /// transformers, with code of ours that is written beside the weights (nanochat's models).
    TransformersWithCode,
}

/// The text files of a checkpoint: shape, tokenizer, and the ids that begin and end a text, which
/// other programs need in order to stop where `anegpt generate` stops.
///
/// # Errors
/// When the tokenizer cannot be written.
pub fn files(
    config: &GptConfig,
    tokenizer: &Tokenizer,
) -> Result<Vec<(&'static str, String)>, tokenizer::Error> {
    files_of(&Model::new(config).with_tokenizer(tokenizer))
}

/// The same of a model with more: a chat template, tokens that end a text.
///
/// # Errors
/// As [`files`].
pub fn files_of(model: &Model<'_>) -> Result<Vec<(&'static str, String)>, tokenizer::Error> {
    texts(model, Precision::F32, Reader::Anegpt)
}

/// The text files of a model whose weights are stored with `precision`.
fn texts(
    model: &Model<'_>,
    precision: Precision,
    reader: Reader,
) -> Result<Vec<(&'static str, String)>, tokenizer::Error> {
    let pretty = |value: &Value| serde_json::to_string_pretty(value).expect("plain data");
    let mut texts = vec![
        ("config.json", pretty(&model_config(model, precision, reader))),
        ("generation_config.json", pretty(&markers(model))),
    ];
    if let Some(tokenizer) = model.tokenizer {
        texts.push(("tokenizer.json", tokenizer.to_json()?));
        texts.push(("tokenizer_config.json", pretty(&tokenizer_config(model, tokenizer))));
    }
    texts.extend(model.chat_template.map(|text| ("chat_template.jinja", text.to_owned())));
    if reader == Reader::TransformersWithCode {
        texts.extend(nanochat::CODE.map(|(name, text)| (name, text.to_owned())));
    }
    Ok(texts)
}

/// Writes a model into a directory that is there: its text files and its weights, in files of at most
/// `shard_bytes` (more where one tensor alone is larger). [`read_config`] and [`read_safetensors`] (or
/// [`read_sharded`], where `model.safetensors.index.json` is there) read it back.
///
/// # Errors
/// When the reader does not compute the model ([`expressible`]), the tokenizer cannot be written, a weight is
/// not a finite number or beyond the precision, or a file cannot be written.
pub fn write(
    directory: &Path,
    model: &Model<'_>,
    values: &[f32],
    precision: Precision,
    shard_bytes: Option<u64>,
    reader: Reader,
) -> Result<(), WeightsError> {
    expressible(model.config, reader)?;
    if reader == Reader::Transformers && nanochat::is_plain(model.config) {
        let (config, values) = nanochat::unpadded(model.config, values);
        let form = Form { precision, shard_bytes, renamed: nanochat::name_of_class };
        weights::write(directory, &config, &values, &form)?;
    } else {
        let form = Form { precision, shard_bytes, renamed: |_| None };
        weights::write(directory, model.config, values, &form)?;
    }
    let fault = |e: tokenizer::Error| WeightsError::Inexpressible {
        format: "a Hugging Face directory",
        reason: e.to_string(),
    };
    for (name, text) in texts(model, precision, reader).map_err(fault)? {
        let path = directory.join(name);
        std::fs::write(&path, text).map_err(|source| WeightsError::Write { path, source })?;
    }
    Ok(())
}

/// Refuses a model that `reader` does not compute, by the entries that say so.
///
/// # Errors
/// When there is such an entry.
pub fn expressible(config: &GptConfig, reader: Reader) -> Result<(), WeightsError> {
    let found = match reader {
        Reader::Anegpt => Ok(()),
        Reader::Transformers => has_class(config),
        Reader::TransformersWithCode => nanochat::require_computed_by_code(config),
    };
    found.map_err(|reason| WeightsError::Inexpressible { format: "Hugging Face", reason })
}

/// Refuses a model that no class of transformers computes.
fn has_class(config: &GptConfig) -> Result<(), String> {
    match config {
        c if c.family.name() == "nanochat" => nanochat::require_plain(c),
        c if parts::is_gpt2(c) => Ok(()),
        c if c.family.name() == "gpt2" => Err("it is no GPT-2 as it was published".to_owned()),
        c if c.rope_theta.is_none() => {
            Err("`rope_theta` is absent, but its Llama and Qwen3 rotate".to_owned())
        }
        c if !c.qk_norm && !c.n_embd.is_multiple_of(c.n_head) => Err(format!(
            "`n_head` is {}, which does not divide the width of {} as its Llama demands",
            c.n_head, c.n_embd
        )),
        c => llama_with_windows(c),
    }
}

/// Refuses a model that is neither a Llama nor, perhaps with windows, a Qwen3.
fn llama_with_windows(c: &GptConfig) -> Result<(), String> {
    parts::require_llama(&GptConfig { windows: vec![], ..c.clone() })?;
    match windows::can_be_written(c) {
        true => Ok(()),
        false => Err(format!(
            "`windows` is {:?}: a Qwen3 (`qk_norm = true`) has windows of one size, a Llama none",
            c.windows
        )),
    }
}

/// `config.json` as `reader` takes it.
fn model_config(model: &Model<'_>, precision: Precision, reader: Reader) -> Value {
    let mut json = match reader {
        Reader::Transformers if nanochat::is_plain(model.config) => nanochat::write(model.config),
        _ => shape(model.config),
    };
    if reader == Reader::TransformersWithCode {
        nanochat::name_code(&mut json);
    }
    let of_markers = markers(model);
    for name in ["bos_token_id", "eos_token_id"] {
        json[name] = of_markers[name].clone();
    }
    // The first is the name since transformers 5.
    for name in ["dtype", "torch_dtype"] {
        json[name] = torch_name(precision).into();
    }
    json
}

/// The name of the precision in PyTorch.
fn torch_name(precision: Precision) -> &'static str {
    match precision {
        Precision::F16 => "float16",
        Precision::Bf16 => "bfloat16",
        Precision::F32 | Precision::Q8_0 => "float32",
    }
}

/// The entries of the shape. What no class of Hugging Face computes has a type of our own, which only
/// this program reads.
fn shape(c: &GptConfig) -> Value {
    if parts::is_gpt2(c) {
        return gpt2::write(c);
    }
    if llama_with_windows(c).is_err() {
        return json!({ "model_type": OWN_TYPE, OWN_TYPE: c });
    }
    let (kind, class) = match c.qk_norm {
        true => ("qwen3", "Qwen3ForCausalLM"),
        false => ("llama", "LlamaForCausalLM"),
    };
    let mut json = json!({
        "architectures": [class],
        "model_type": kind,
        "hidden_size": c.n_embd,
        "intermediate_size": c.hidden,
        "num_hidden_layers": c.n_layer,
        "num_attention_heads": c.n_head,
        "num_key_value_heads": c.n_kv_head,
        "head_dim": c.head_dim,
        "vocab_size": c.vocab_size,
        "max_position_embeddings": c.seq_len,
        "rope_theta": c.rope_theta,
        "rms_norm_eps": c.norm_eps,
        "tie_word_embeddings": c.tied,
        "hidden_act": "silu",
        "attention_bias": false,
        "mlp_bias": false,
    });
    // The name since transformers 5; mlx-lm and older versions read the base beside it.
    if let Some(theta) = c.rope_theta {
        json["rope_parameters"] = json!({ "rope_type": "default", "rope_theta": theta });
    }
    windows::write(c, &mut json);
    json
}

/// The ids that begin and end a text. Both are always there: absent ones would be 1 and 2.
fn markers(model: &Model<'_>) -> Value {
    let end = match model.all_ends()[..] {
        [] => Value::Null,
        [one] => one.into(),
        ref several => several.into(),
    };
    json!({ "bos_token_id": model.tokenizer.and_then(Tokenizer::bos), "eos_token_id": end })
}

fn tokenizer_config(model: &Model<'_>, tokenizer: &Tokenizer) -> Value {
    let name = |id: Option<u32>| {
        let bytes = id.and_then(|id| tokenizer.token_bytes(id));
        bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": name(tokenizer.bos()),
        "eos_token": name(model.all_ends().first().copied()),
        "add_bos_token": tokenizer.prompt_bos().is_some(),
        "model_max_length": model.config.seq_len,
        "clean_up_tokenization_spaces": false,
    })
}
