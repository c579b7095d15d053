//! GPT-2 as Hugging Face has it: its configuration, and its fused and transposed tensors.

use formats::hugging_face::{files, read_config, read_safetensors, write_safetensors};
use gpt::{FeedForward, GptConfig, Layout, Norm, initialise};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use tokenizer::Tokenizer;

fn small() -> GptConfig {
    GptConfig {
        n_layer: 2,
        n_head: 2,
        n_kv_head: 2,
        n_embd: 6,
        head_dim: 3,
        hidden: 10,
        vocab_size: 9,
        seq_len: 5,
        ..GptConfig::preset("gpt2").unwrap()
    }
}

fn config_text(config: &GptConfig) -> String {
    let tokenizer = Tokenizer::train_char(["abcdefg"]).unwrap();
    files(config, &tokenizer).unwrap().remove(0).1
}

#[test]
fn the_configuration_comes_back() {
    let config = small();
    let text = config_text(&config);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((json["model_type"].as_str(), json["n_inner"].as_u64()), (Some("gpt2"), Some(10)));
    let read = read_config(&text).unwrap();
    assert_eq!((read.config, read.unknown), (config, vec![]));
}

/// The file of the published model, but for its entries on summaries and dropout.
#[test]
fn the_published_configuration_is_the_preset() {
    let text = r#"{"activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"],
        "attn_pdrop": 0.1, "bos_token_id": 50256, "embd_pdrop": 0.1, "eos_token_id": 50256,
        "initializer_range": 0.02, "layer_norm_epsilon": 1e-05, "model_type": "gpt2", "n_ctx": 1024,
        "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024, "resid_pdrop": 0.1,
        "summary_type": "cls_index", "vocab_size": 50257}"#;
    let read = read_config(text).unwrap();
    assert_eq!(read.config, GptConfig::preset("gpt2").unwrap());
    assert_eq!((read.ends, read.unknown), (vec![50256], vec![]));
    let bare = read_config(r#"{"model_type": "gpt2"}"#).unwrap();
    assert_eq!((bare.config, bare.ends), (GptConfig::preset("gpt2").unwrap(), vec![50256]));
    let other = read_config(
        r#"{"model_type": "gpt2", "hidden_size": 24, "position_embedding_type": "absolute"}"#,
    );
    assert_eq!(other.unwrap().config.n_embd, 24, "by the name that transformers takes for it");
    for (entry, says) in [
        ("\"activation_function\": \"gelu\"", "`activation_function` is \"gelu\""),
        ("\"activation_function\": \"relu\"", "`activation_function` is \"relu\""),
        ("\"scale_attn_weights\": false", "`scale_attn_weights` is false"),
        ("\"scale_attn_by_inverse_layer_idx\": true", "another scale of scores"),
        ("\"add_cross_attention\": true", "`add_cross_attention` is true"),
        ("\"n_head\": 7", "7 heads do not divide"),
        ("\"n_embd\": 768, \"hidden_size\": 64", "they are the same extent"),
    ] {
        let error = read_config(&format!("{{\"model_type\": \"gpt2\", {entry}}}")).unwrap_err();
        assert!(error.contains(says), "{error}");
    }
}

/// Element (i, o) of `c_attn` is what input i gives to output o: the queries' rows, then those of keys and
/// values.
#[test]
fn fused_tensors_hold_queries_keys_and_values_side_by_side() {
    let config = small();
    let (layout, values) = (Layout::new(&config), initialise(&config, 5));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    write_safetensors(&path, &config, &values).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.names().len(), 4 + 2 * 12, "12 tensors per layer, as the published model");
    let fused = file.tensor("h.1.attn.c_attn.weight").unwrap();
    assert_eq!(fused.shape(), [6, 18]);
    let element = |i: usize| f32::from_le_bytes(fused.data()[4 * i..][..4].try_into().unwrap());
    for (n, port) in ["wq", "wk", "wv"].into_iter().enumerate() {
        let own = &values[layout.find(port, Some(1)).unwrap().range()];
        for (out, row) in own.chunks(6).enumerate() {
            for (input, value) in row.iter().enumerate() {
                assert_eq!(element(input * 18 + n * 6 + out), *value, "{port}");
            }
        }
    }
    let shape = |name: &str| file.tensor(name).unwrap().shape().to_vec();
    assert_eq!(shape("h.0.attn.c_attn.bias"), [18]);
    assert_eq!(shape("h.0.mlp.c_fc.weight"), [6, 10]);
    assert_eq!(shape("h.0.mlp.c_proj.weight"), [10, 6]);
    assert_eq!(shape("wpe.weight"), [5, 6]);
    assert_eq!(read_safetensors(&path, &config).unwrap(), values);
}

/// As `GPT2LMHeadModel` names them, with the masks of old versions.
#[test]
fn names_with_the_prefix_and_masks_are_read() {
    let config = small();
    let (layout, values) = (Layout::new(&config), initialise(&config, 6));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = (layout.tensors().iter())
        .map(|t| {
            let bytes = layout.stored(t, &values).iter().flat_map(|v| v.to_le_bytes()).collect();
            (format!("transformer.{}", t.name), t.shape.clone(), bytes)
        })
        .collect();
    tensors.push(("transformer.h.0.attn.bias".to_owned(), vec![1, 1, 5, 5], vec![0; 100]));
    let write = |tensors: &[(String, Vec<usize>, Vec<u8>)]| {
        let views = tensors.iter().map(|(name, shape, bytes)| {
            (name.clone(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
        });
        std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
        read_safetensors(&path, &config).map_err(|e| e.to_string())
    };
    assert_eq!(write(&tensors).unwrap(), values);
    tensors.push(("transformer.h.0.attn.q_norm.weight".to_owned(), vec![3], vec![0; 12]));
    let error = write(&tensors).unwrap_err();
    assert!(error.contains("`transformer.h.0.attn.q_norm.weight` has no place"), "{error}");
}

#[test]
fn mixtures_have_a_type_of_their_own() {
    let llama = GptConfig::preset("tiny").unwrap();
    for config in [
        GptConfig { norm: Norm::Layer, ..llama.clone() },
        GptConfig { feed_forward: FeedForward::Gelu, windows: vec![4, 0], ..llama.clone() },
        GptConfig { bias: false, ..small() },
    ] {
        let text = config_text(&config);
        assert!(text.contains("\"model_type\": \"anegpt\""), "{text}");
        assert_eq!(read_config(&text).unwrap().config, config);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.bin");
        let values = initialise(&config, 1);
        let error = formats::llama2c::write(&path, &config, &values, formats::llama2c::Version::V0)
            .unwrap_err()
            .to_string();
        assert!(error.contains("a Llama's parts"), "{error}");
    }
}
