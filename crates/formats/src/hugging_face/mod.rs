//! The files by which Hugging Face's libraries know a model and when to stop, both ways.

mod fields;
mod gpt2;
mod read;
#[cfg(test)]
mod tests;
mod weights;

pub use read::{Described, read_config, read_generation_ends};
pub use weights::{read_safetensors, read_sharded, write_safetensors};

use crate::parts;
use gpt::GptConfig;
use serde_json::{Value, json};
use tokenizer::Tokenizer;

/// `model_type` of models that no class of Hugging Face computes; the entry of this name is the shape.
const OWN_TYPE: &str = "anegpt";

/// The text files of a checkpoint: shape, tokenizer, and the ids that begin and end a text, which
/// other programs need in order to stop where `anegpt generate` stops.
///
/// # Errors
/// When the tokenizer cannot be written.
pub fn files(
    config: &GptConfig,
    tokenizer: &Tokenizer,
) -> Result<Vec<(&'static str, String)>, tokenizer::Error> {
    let pretty = |value: &Value| serde_json::to_string_pretty(value).expect("plain data");
    Ok(vec![
        ("config.json", pretty(&model_config(config, tokenizer))),
        ("generation_config.json", pretty(&generation_config(tokenizer))),
        ("tokenizer.json", tokenizer.to_json()?),
        ("tokenizer_config.json", pretty(&tokenizer_config(config, tokenizer))),
    ])
}

/// The token that ends a text: one separator may both begin and end it.
fn end(tokenizer: &Tokenizer) -> Option<u32> {
    tokenizer.eos().or(tokenizer.bos())
}

/// `config.json` as Hugging Face's Llama (or Qwen3) reads it. Both ids are always there: absent ones
/// would be 1 and 2.
fn model_config(c: &GptConfig, tokenizer: &Tokenizer) -> Value {
    let mut json = shape(c);
    json["bos_token_id"] = tokenizer.bos().into();
    json["eos_token_id"] = end(tokenizer).into();
    json
}

/// The entries of the shape. What no class of Hugging Face computes has a type of our own, which only
/// this program reads.
fn shape(c: &GptConfig) -> Value {
    if parts::is_gpt2(c) {
        return gpt2::write(c);
    }
    if parts::require_llama(c).is_err() {
        return json!({ "model_type": OWN_TYPE, OWN_TYPE: c, "torch_dtype": "float32" });
    }
    let (kind, class) = match c.qk_norm {
        true => ("qwen3", "Qwen3ForCausalLM"),
        false => ("llama", "LlamaForCausalLM"),
    };
    json!({
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
        "torch_dtype": "float32",
    })
}

fn generation_config(tokenizer: &Tokenizer) -> Value {
    json!({ "bos_token_id": tokenizer.bos(), "eos_token_id": end(tokenizer) })
}

fn tokenizer_config(config: &GptConfig, tokenizer: &Tokenizer) -> Value {
    let name = |id: Option<u32>| {
        let bytes = id.and_then(|id| tokenizer.token_bytes(id));
        bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": name(tokenizer.bos()),
        "eos_token": name(end(tokenizer)),
        "add_bos_token": tokenizer.prompt_bos().is_some(),
        "model_max_length": config.seq_len,
        "clean_up_tokenization_spaces": false,
    })
}
