//! Llama and Qwen3: RMSNorm, rotary embedding, grouped queries, SwiGLU.

use super::Architecture;
use crate::config::{FamilyName, FeedForward, GptConfig, Nanochat, Norm};
use crate::declare::Tensor;

pub(super) struct Llama;

/// Name, n_layer, n_head, n_kv_head, n_embd, head_dim, hidden, vocab_size, seq_len.
type Row = (&'static str, usize, usize, usize, usize, usize, usize, usize, usize);

/// The stories models are those of llama2.c; Qwen3 is the published 0.6B model's shape.
const PRESETS: &[Row] = &[
    ("tiny", 4, 4, 4, 128, 32, 352, 2048, 256),
    ("stories260k", 5, 8, 4, 64, 8, 172, 512, 512),
    ("stories15m", 6, 6, 6, 288, 48, 768, 32000, 256),
    ("stories42m", 8, 8, 8, 512, 64, 1376, 32000, 1024),
    ("stories110m", 12, 12, 12, 768, 64, 2048, 32000, 1024),
    ("qwen3-0.6b", 28, 16, 8, 1024, 128, 3072, 151_936, 1024),
];

fn preset(row: &Row) -> (String, GptConfig) {
    let &(name, n_layer, n_head, n_kv_head, n_embd, head_dim, hidden, vocab_size, seq_len) = row;
    let qwen = name.starts_with("qwen3");
    let config = GptConfig {
        family: FamilyName(Llama.name()),
        n_layer,
        n_head,
        n_kv_head,
        n_embd,
        head_dim,
        hidden,
        vocab_size,
        seq_len,
        rope_theta: Some(if qwen { 1e6 } else { 1e4 }),
        learned_positions: false,
        norm: Norm::Rms,
        norm_eps: if qwen { 1e-6 } else { 1e-5 },
        feed_forward: FeedForward::SwiGlu,
        bias: false,
        tied: true,
        qk_norm: qwen,
        no_rope: vec![],
        windows: vec![],
        nanochat: Nanochat::default(),
    };
    (name.to_owned(), config)
}

/// Names in `LlamaForCausalLM` and `Qwen3ForCausalLM`, and the same with `bias` for what these models do
/// not have.
const NAMES: &[(&str, &str)] = &[
    ("embedding", "model.embed_tokens.weight"),
    ("positions", "model.embed_positions.weight"),
    ("rms1", "input_layernorm.weight"),
    ("ln1", "input_layernorm.weight"),
    ("ln1_bias", "input_layernorm.bias"),
    ("wq", "self_attn.q_proj.weight"),
    ("bq", "self_attn.q_proj.bias"),
    ("wk", "self_attn.k_proj.weight"),
    ("bk", "self_attn.k_proj.bias"),
    ("wv", "self_attn.v_proj.weight"),
    ("bv", "self_attn.v_proj.bias"),
    ("q_gain", "self_attn.q_norm.weight"),
    ("k_gain", "self_attn.k_norm.weight"),
    ("wo", "self_attn.o_proj.weight"),
    ("bo", "self_attn.o_proj.bias"),
    ("rms2", "post_attention_layernorm.weight"),
    ("ln2", "post_attention_layernorm.weight"),
    ("ln2_bias", "post_attention_layernorm.bias"),
    ("w1", "mlp.gate_proj.weight"),
    ("b1", "mlp.gate_proj.bias"),
    ("w3", "mlp.up_proj.weight"),
    ("b3", "mlp.up_proj.bias"),
    ("w2", "mlp.down_proj.weight"),
    ("b2", "mlp.down_proj.bias"),
    ("rms", "model.norm.weight"),
    ("ln", "model.norm.weight"),
    ("ln_bias", "model.norm.bias"),
    ("classifier", "lm_head.weight"),
];

impl Architecture for Llama {
    fn name(&self) -> &'static str {
        "llama"
    }

    fn presets(&self) -> Vec<(String, GptConfig)> {
        PRESETS.iter().map(preset).collect()
    }

    fn tensor(&self, port: &str, layer: Option<usize>) -> Tensor {
        Tensor::named(NAMES, port, layer.map(|layer| format!("model.layers.{layer}.")))
    }
}
