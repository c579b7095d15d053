//! `config.json` of Hugging Face's libraries, both ways.

use gpt::GptConfig;

/// `config.json` as Hugging Face's Llama (or Qwen3) reads it.
pub(crate) fn hugging_face_config(c: &GptConfig) -> serde_json::Value {
    let (kind, class) = match c.qk_norm {
        true => ("qwen3", "Qwen3ForCausalLM"),
        false => ("llama", "LlamaForCausalLM"),
    };
    serde_json::json!({
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

/// The shape described by a `config.json` that a checkpoint (or Hugging Face, for the same
/// families) wrote. Entries that are absent have the defaults of `LlamaConfig` in Hugging Face's
/// transformers: a rotary base of 10000, ε of 10⁻⁶, a classifier of its own. `"rope_theta": null`,
/// which only we write, is a model without rotation.
///
/// # Errors
/// When a number is missing, or the model computes something that this one does not, in words.
pub fn config_from_hugging_face(text: &str) -> Result<GptConfig, String> {
    let json: serde_json::Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let number = |name: &str| {
        let value = json.get(name).and_then(serde_json::Value::as_u64);
        value.map(|v| v as usize).ok_or_else(|| format!("`{name}` is missing or not a number"))
    };
    let float = |name: &str| json.get(name).and_then(serde_json::Value::as_f64);
    foreign_features(&json)?;
    // transformers 5 keeps the base among the rope parameters.
    let rope_theta = match json.get("rope_theta") {
        Some(theta) => theta.as_f64(),
        None => json.pointer("/rope_parameters/rope_theta").map_or(Some(1e4), |t| t.as_f64()),
    };
    let (n_embd, n_head) = (number("hidden_size")?, number("num_attention_heads")?);
    let config = GptConfig {
        n_layer: number("num_hidden_layers")?,
        n_head,
        n_kv_head: number("num_key_value_heads").unwrap_or(n_head),
        n_embd,
        head_dim: number("head_dim").unwrap_or(n_embd / n_head.max(1)),
        hidden: number("intermediate_size")?,
        vocab_size: number("vocab_size")?,
        seq_len: number("max_position_embeddings")?,
        rope_theta,
        norm_eps: float("rms_norm_eps").unwrap_or(1e-6),
        tied: json.get("tie_word_embeddings").and_then(serde_json::Value::as_bool).unwrap_or(false),
        qk_norm: json.get("model_type").and_then(serde_json::Value::as_str) == Some("qwen3"),
    };
    config.validate().map_err(|e| e.to_string())?;
    Ok(config)
}

/// Refuses what would be computed wrongly if it were overlooked.
fn foreign_features(json: &serde_json::Value) -> Result<(), String> {
    let text = |path: &str| json.pointer(path).and_then(serde_json::Value::as_str);
    if let Some(kind) = text("/model_type").filter(|kind| !matches!(*kind, "llama" | "qwen3")) {
        return Err(format!("a model of type `{kind}`; llama and qwen3 are read"));
    }
    if let Some(act) = text("/hidden_act").filter(|act| *act != "silu") {
        return Err(format!("its feed-forward layer uses `{act}`; only silu is computed"));
    }
    for name in ["attention_bias", "mlp_bias"] {
        if json.get(name).and_then(serde_json::Value::as_bool) == Some(true) {
            return Err(format!("`{name}` is true; layers with biases are not computed"));
        }
    }
    let kinds = ["/rope_scaling/rope_type", "/rope_scaling/type", "/rope_parameters/rope_type"];
    match kinds.iter().find_map(|path| text(path).filter(|kind| *kind != "default")) {
        Some(kind) => Err(format!("rotary scaling of type `{kind}` is not computed")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> serde_json::Value {
        hugging_face_config(&GptConfig::preset("tiny").unwrap())
    }

    fn read(json: &serde_json::Value) -> Result<GptConfig, String> {
        config_from_hugging_face(&json.to_string())
    }

    #[test]
    fn shapes_survive_config_json() {
        for name in GptConfig::presets() {
            let mut config = GptConfig::preset(name).unwrap();
            assert_eq!(read(&hugging_face_config(&config)).unwrap(), config);
            config.rope_theta = None;
            assert_eq!(read(&hugging_face_config(&config)).unwrap(), config, "no rotation");
        }
    }

    #[test]
    fn absent_entries_have_the_defaults_of_transformers() {
        let mut json = written();
        for name in ["rope_theta", "rms_norm_eps", "tie_word_embeddings", "head_dim"] {
            json.as_object_mut().unwrap().remove(name);
        }
        let config = read(&json).unwrap();
        assert_eq!((config.rope_theta, config.norm_eps, config.tied), (Some(1e4), 1e-6, false));
        assert_eq!(config.head_dim, 32);
        json["rope_parameters"] = serde_json::json!({"rope_theta": 5e5, "rope_type": "default"});
        assert_eq!(read(&json).unwrap().rope_theta, Some(5e5));
    }

    #[test]
    fn what_is_not_computed_is_refused() {
        for (name, value, words) in [
            ("model_type", serde_json::json!("gpt2"), "llama and qwen3 are read"),
            ("hidden_act", serde_json::json!("gelu"), "only silu"),
            ("attention_bias", serde_json::json!(true), "biases"),
            ("rope_scaling", serde_json::json!({"rope_type": "llama3"}), "`llama3`"),
            ("rope_scaling", serde_json::json!({"type": "linear"}), "`linear`"),
        ] {
            let mut json = written();
            json[name] = value;
            let error = read(&json).unwrap_err();
            assert!(error.contains(words), "{name}: {error}");
        }
    }
}
