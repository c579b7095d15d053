//! `config.json` of GPT-2.

use super::entries::{extent, flag, float};
use gpt::{Family, FeedForward, GptConfig, Nanochat, Norm};
use serde_json::{Map, Value, json};

/// Entries that are read here, or say nothing about logits.
pub(super) const KNOWN: &[&str] = &[
    "activation_function",
    "attn_pdrop",
    "gradient_checkpointing",
    "layer_norm_epsilon",
    "n_ctx",
    "n_embd",
    "n_head",
    "n_inner",
    "n_layer",
    "n_positions",
    // More precise products of scores, which are exact enough here.
    "reorder_and_upcast_attn",
    "scale_attn_by_inverse_layer_idx",
    "scale_attn_weights",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
];

/// Names of GELU's tanh form.
const GELU_TANH: [&str; 3] = ["gelu_new", "gelu_pytorch_tanh", "gelu_fast"];

/// The token that ends a text where the file names none.
pub(super) const END: u32 = 50_256;

/// The entries but for the one that says that positions are learned, as they always are.
pub(super) fn without_positions(json: &Map<String, Value>) -> Map<String, Value> {
    let mut rest = json.clone();
    rest.retain(|name, value| name != "position_embedding_type" || value != "absolute");
    rest
}

/// Reads the shape; absent entries have the defaults of transformers.
///
/// # Errors
/// When an entry is malformed or asks for something that is not computed.
pub(super) fn read(json: &Map<String, Value>) -> Result<GptConfig, String> {
    let or = |names, default| Ok::<_, String>(either(json, names)?.unwrap_or(default));
    let activation = json.get("activation_function").filter(|value| !value.is_null());
    if let Some(other) = activation.filter(|v| v.as_str().is_none_or(|v| !GELU_TANH.contains(&v))) {
        let read = GELU_TANH.join(", ");
        return Err(format!("`activation_function` is {other}; this program reads only {read}"));
    }
    for (name, plain) in [("scale_attn_weights", true), ("scale_attn_by_inverse_layer_idx", false)]
    {
        if flag(json, name)?.is_some_and(|value| value != plain) {
            let feature = "another scale of scores, which this program does not compute";
            return Err(format!("`{name}` is {}: {feature}", !plain));
        }
    }
    let (n_embd, n_head) = (or(WIDTH, 768)?, or(HEADS, 12)?);
    if n_head == 0 || n_embd % n_head != 0 {
        return Err(format!("`n_embd` is {n_embd}, which {n_head} heads do not divide"));
    }
    Ok(GptConfig {
        family: Family::named("gpt2").expect("a family").into(),
        n_layer: or(LAYERS, 12)?,
        n_head,
        n_kv_head: n_head,
        n_embd,
        head_dim: n_embd / n_head,
        hidden: extent(json, "n_inner")?.unwrap_or(4 * n_embd),
        vocab_size: extent(json, "vocab_size")?.unwrap_or(50_257),
        seq_len: or(POSITIONS, 1024)?,
        rope_theta: None,
        learned_positions: true,
        norm: Norm::Layer,
        norm_eps: float(json, "layer_norm_epsilon")?.unwrap_or(1e-5),
        feed_forward: FeedForward::Gelu,
        bias: true,
        tied: flag(json, "tie_word_embeddings")?.unwrap_or(true),
        qk_norm: false,
        no_rope: vec![],
        windows: vec![],
        nanochat: Nanochat::default(),
    })
}

/// Names of one extent: GPT-2's, and the one that transformers takes for it.
type Names = [&'static str; 2];
const WIDTH: Names = ["n_embd", "hidden_size"];
const HEADS: Names = ["n_head", "num_attention_heads"];
const LAYERS: Names = ["n_layer", "num_hidden_layers"];
const POSITIONS: Names = ["n_positions", "max_position_embeddings"];

/// The extent by either name.
fn either(json: &Map<String, Value>, [own, other]: Names) -> Result<Option<usize>, String> {
    match (extent(json, own)?, extent(json, other)?) {
        (Some(a), Some(b)) if a != b => {
            Err(format!("`{own}` is {a}, but `{other}` is {b}: they are the same extent"))
        }
        (own, other) => Ok(own.or(other)),
    }
}

/// The shape as `GPT2LMHeadModel` reads it.
pub(super) fn write(c: &GptConfig) -> Value {
    json!({
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "n_embd": c.n_embd,
        "n_layer": c.n_layer,
        "n_head": c.n_head,
        "n_inner": c.hidden,
        "n_positions": c.seq_len,
        // mlx-lm and llama.cpp's converter need it.
        "n_ctx": c.seq_len,
        "vocab_size": c.vocab_size,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": c.norm_eps,
        "tie_word_embeddings": c.tied,
    })
}
