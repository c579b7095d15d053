//! The effect of each entry of a `config.json` on the result.

use serde_json::Value;

/// Values with which an entry changes nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Neutral {
    /// `false` (null counts as absent).
    False,
    /// The number 1.
    One,
    /// The number 0.
    Zero,
    /// Nothing but null.
    Null,
    /// One of these words.
    Words(&'static [&'static str]),
}

impl Neutral {
    fn admits(self, value: &Value) -> bool {
        match self {
            _ if value.is_null() => true,
            Neutral::False => *value == Value::Bool(false),
            Neutral::One => value.as_f64() == Some(1.0),
            Neutral::Zero => value.as_f64() == Some(0.0),
            Neutral::Null => false,
            Neutral::Words(words) => value.as_str().is_some_and(|word| words.contains(&word)),
        }
    }
}

/// Entries that change the result where they have another value, and what they would switch on.
const REFUSED: &[(&str, Neutral, &str)] = {
    use Neutral::{False, Null, One, Words, Zero};
    &[
        ("hidden_act", Words(&["silu", "swish"]), "the feed-forward layer uses silu"),
        ("hidden_activation", Words(&["silu", "swish"]), "the feed-forward layer uses silu"),
        ("attention_bias", False, "biases"),
        ("attention_out_bias", False, "biases"),
        ("mlp_bias", False, "biases"),
        ("qkv_bias", False, "biases"),
        ("use_bias", False, "biases"),
        ("use_qkv_bias", False, "biases"),
        ("lm_head_bias", False, "biases"),
        ("partial_rotary_factor", One, "rotation of a part of each head"),
        ("rotary_pct", One, "rotation of a part of each head"),
        ("rope_interleave", False, "another order of rotary pairs"),
        ("use_mrope", False, "rotation in several dimensions"),
        ("no_rope_layers", Null, "layers without rotation"),
        ("no_rope_layer_interval", Null, "layers without rotation"),
        ("position_embedding_type", Words(&["rope", "rotary"]), "positions other than rotary"),
        ("alibi", False, "positions other than rotary"),
        ("attn_logit_softcapping", Null, "a soft cap of scores"),
        ("final_logit_softcapping", Null, "a soft cap of logits"),
        ("logit_softcap", Null, "a soft cap of logits"),
        ("query_pre_attn_scalar", Null, "another scale of scores"),
        ("attention_multiplier", Null, "another scale of scores"),
        ("attn_scale", Null, "another scale of scores"),
        ("attn_temperature_tuning", False, "another scale of scores"),
        ("embedding_multiplier", One, "a scale of embeddings"),
        ("scale_emb", One, "a scale of embeddings"),
        ("residual_multiplier", One, "a scale of the residual stream"),
        ("scale_depth", Null, "a scale of the residual stream"),
        ("logits_scaling", One, "a scale of logits"),
        ("logit_scale", One, "a scale of logits"),
        ("clip_qkv", Null, "clipped queries, keys and values"),
        ("attention_chunk_size", Null, "attention within chunks"),
        ("is_causal", Words(&[]), "attention to later tokens"),
        ("use_bidirectional_attention", False, "attention to later tokens"),
        ("is_encoder_decoder", False, "an encoder"),
        ("add_cross_attention", False, "an encoder"),
        ("parallel_attn", False, "attention beside the feed-forward layer"),
        ("use_parallel_residual", False, "attention beside the feed-forward layer"),
        ("q_lora_rank", Null, "latent attention"),
        ("kv_lora_rank", Null, "latent attention"),
        ("num_experts", Zero, "a mixture of experts"),
        ("num_local_experts", Zero, "a mixture of experts"),
        ("n_routed_experts", Zero, "a mixture of experts"),
        ("n_shared_experts", Zero, "a mixture of experts"),
        ("num_experts_per_tok", Zero, "a mixture of experts"),
        ("moe_intermediate_size", Null, "a mixture of experts"),
        ("num_nextn_predict_layers", Zero, "layers that predict several tokens"),
        ("quantization_config", Null, "quantized weights"),
        ("compression_config", Null, "quantized weights"),
    ]
};

/// Entries that the reader takes numbers from or checks itself.
const READ: &[&str] = &[
    "architectures",
    "bos_token_id",
    "eos_token_id",
    "head_dim",
    "hidden_size",
    "intermediate_size",
    "layer_types",
    "max_position_embeddings",
    "max_window_layers",
    "model_type",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "rms_norm_eps",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "sliding_window",
    "tie_word_embeddings",
    "use_sliding_window",
    "vocab_size",
];

/// Entries that say nothing about logits: training, storage, other kinds of output, and settings of
/// generation. `pretraining_tp` cuts products into parts, whose sum is the same.
const HARMLESS: &[&str] = &[
    "_attn_implementation",
    "_commit_hash",
    "_name_or_path",
    "attention_dropout",
    "attention_probs_dropout_prob",
    "auto_map",
    "bad_words_ids",
    "chunk_size_feed_forward",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "embd_pdrop",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "hidden_dropout",
    "hidden_dropout_prob",
    "id2label",
    "initializer_range",
    "is_decoder",
    "keys_to_ignore_at_inference",
    "label2id",
    "length_penalty",
    "max_length",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "original_max_position_embeddings",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "pad_token_id",
    "prefix",
    "pretraining_tp",
    "problem_type",
    "pruned_heads",
    "remove_invalid_values",
    "repetition_penalty",
    "resid_pdrop",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "typical_p",
    "unsloth_fixed",
    "unsloth_version",
    "use_bfloat16",
    "use_cache",
];

/// Refuses the first entry that would be computed wrongly if it were overlooked.
pub(super) fn refuse_foreign(json: &serde_json::Map<String, Value>) -> Result<(), String> {
    for &(name, neutral, feature) in REFUSED {
        let Some(value) = json.get(name) else { continue };
        // The one entry whose neutral value is `true`.
        let causal = name == "is_causal" && *value == Value::Bool(true);
        if !(causal || neutral.admits(value)) {
            return Err(match neutral {
                Neutral::Words(words) if !words.is_empty() => {
                    format!("`{name}` is {value}; this program reads only {}", words.join(", "))
                }
                _ => format!("`{name}` is {value}: {feature}, which this program does not compute"),
            });
        }
    }
    Ok(())
}

/// Entries that are in none of the lists.
pub(super) fn unknown(json: &serde_json::Map<String, Value>) -> Vec<String> {
    let known = |name: &str| {
        READ.contains(&name)
            || HARMLESS.contains(&name)
            || REFUSED.iter().any(|(refused, ..)| *refused == name)
    };
    json.keys().filter(|name| !known(name)).cloned().collect()
}
