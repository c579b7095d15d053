//! GPT-2 (Radford et al. 2019): LayerNorm and biases everywhere, learned positions, GELU in its tanh
//! form, a tied classifier. Its checkpoints hold projections transposed, [in, out], and those of queries,
//! keys and values side by side in one tensor.

use super::Architecture;
use crate::config::{FamilyName, FeedForward, GptConfig, Nanochat, Norm};
use crate::declare::Tensor;

pub(super) struct Gpt2;

/// Name, n_layer, n_head, n_embd, vocab_size, seq_len; the sizes are those of the paper but for the
/// first two, which are for small machines.
const PRESETS: &[(&str, usize, usize, usize, usize, usize)] = &[
    ("gpt2-tiny", 4, 4, 128, 2048, 256),
    ("gpt2-mini", 6, 6, 384, 2048, 256),
    ("gpt2", 12, 12, 768, 50_257, 1024),
    ("gpt2-medium", 24, 16, 1024, 50_257, 1024),
];

fn preset(
    &(name, n_layer, n_head, n_embd, vocab_size, seq_len): &(
        &'static str,
        usize,
        usize,
        usize,
        usize,
        usize,
    ),
) -> (String, GptConfig) {
    let config = GptConfig {
        family: FamilyName(Gpt2.name()),
        n_layer,
        n_head,
        n_kv_head: n_head,
        n_embd,
        head_dim: n_embd / n_head,
        hidden: 4 * n_embd,
        vocab_size,
        seq_len,
        rope_theta: None,
        learned_positions: true,
        norm: Norm::Layer,
        norm_eps: 1e-5,
        feed_forward: FeedForward::Gelu,
        bias: true,
        tied: true,
        qk_norm: false,
        no_rope: vec![],
        windows: vec![],
        nanochat: Nanochat::default(),
    };
    (name.to_owned(), config)
}

/// Names in the published checkpoints, without the prefix `transformer.` of `GPT2LMHeadModel`, and names of
/// the same kind for what they do not have.
const NAMES: &[(&str, &str)] = &[
    ("embedding", "wte.weight"),
    ("positions", "wpe.weight"),
    ("rms1", "ln_1.weight"),
    ("ln1", "ln_1.weight"),
    ("ln1_bias", "ln_1.bias"),
    ("wq", "attn.c_attn.weight"),
    ("bq", "attn.c_attn.bias"),
    ("wk", "attn.c_attn.weight"),
    ("bk", "attn.c_attn.bias"),
    ("wv", "attn.c_attn.weight"),
    ("bv", "attn.c_attn.bias"),
    ("q_gain", "attn.q_norm.weight"),
    ("k_gain", "attn.k_norm.weight"),
    ("wo", "attn.c_proj.weight"),
    ("bo", "attn.c_proj.bias"),
    ("rms2", "ln_2.weight"),
    ("ln2", "ln_2.weight"),
    ("ln2_bias", "ln_2.bias"),
    ("w1", "mlp.c_fc.weight"),
    ("b1", "mlp.c_fc.bias"),
    ("w3", "mlp.c_up.weight"),
    ("b3", "mlp.c_up.bias"),
    ("w2", "mlp.c_proj.weight"),
    ("b2", "mlp.c_proj.bias"),
    ("rms", "ln_f.weight"),
    ("ln", "ln_f.weight"),
    ("ln_bias", "ln_f.bias"),
    ("classifier", "lm_head.weight"),
];

impl Architecture for Gpt2 {
    fn name(&self) -> &'static str {
        "gpt2"
    }

    fn presets(&self) -> Vec<(String, GptConfig)> {
        PRESETS.iter().map(preset).collect()
    }

    fn tensor(&self, port: &str, layer: Option<usize>) -> Tensor {
        let tensor = Tensor::named(NAMES, port, layer.map(|layer| format!("h.{layer}.")));
        // The projections of a layer are `Conv1D` modules.
        Tensor { transposed: layer.is_some() && port.starts_with('w'), ..tensor }
    }
}
