//! Tests of reading and writing.

use super::*;

fn written() -> Value {
    shape(&GptConfig::preset("tiny").unwrap())
}

fn read(json: &Value) -> Result<GptConfig, String> {
    read_config(&json.to_string()).map(|described| described.config)
}

#[test]
fn shapes_survive_config_json() {
    for name in GptConfig::presets() {
        let mut config = GptConfig::preset(&name).unwrap();
        assert_eq!(read(&shape(&config)).unwrap(), config);
        config.rope_theta = None;
        assert_eq!(read(&shape(&config)).unwrap(), config, "no rotation");
    }
}

#[test]
fn absent_entries_have_the_defaults_of_transformers() {
    let absent =
        ["rope_theta", "rope_parameters", "rms_norm_eps", "tie_word_embeddings", "head_dim"];
    let mut json = written();
    for name in absent.into_iter().chain(["num_key_value_heads"]) {
        json.as_object_mut().unwrap().remove(name);
    }
    let config = read(&json).unwrap();
    assert_eq!((config.rope_theta, config.norm_eps, config.tied), (Some(1e4), 1e-6, false));
    assert_eq!((config.head_dim, config.n_kv_head), (32, 4));
    // Qwen3Config has numbers of its own.
    json["model_type"] = json!("qwen3");
    json["architectures"] = Value::Null;
    json["num_attention_heads"] = json!(64);
    let config = read(&json).unwrap();
    assert_eq!((config.head_dim, config.n_kv_head), (128, 32));
    json["num_key_value_heads"] = Value::Null;
    assert_eq!(read(&json).unwrap().n_kv_head, 64, "null is as many as there are heads");
}

/// A base within wins over one beside; only where nothing gives one does null switch rotation off.
#[test]
fn the_rotary_base_is_found_where_it_stands() {
    let nested = json!({"rope_theta": 5e5, "rope_type": "default"});
    let bare = json!({"rope_type": "default"});
    let absent = json!({});
    for (entries, base) in [
        (json!({"rope_parameters": nested}), Some(5e5)),
        (json!({"rope_parameters": nested, "rope_theta": 1e4}), Some(5e5)),
        (json!({"rope_parameters": nested, "rope_theta": null}), Some(5e5)),
        (json!({"rope_scaling": nested}), Some(5e5)),
        (json!({"rope_scaling": nested, "rope_theta": null}), Some(5e5)),
        (json!({"rope_scaling": null, "rope_theta": 2e4}), Some(2e4)),
        (json!({"rope_parameters": bare, "rope_theta": 2e4}), Some(2e4)),
        (json!({"rope_parameters": {"rope_theta": null}, "rope_theta": 2e4}), Some(2e4)),
        (json!({"rope_parameters": bare}), Some(1e4)),
        (json!({"rope_theta": null}), None),
        (json!({"rope_parameters": bare, "rope_theta": null}), None),
        (absent, Some(1e4)),
    ] {
        let mut json = written();
        json.as_object_mut().unwrap().retain(|name, _| !name.starts_with("rope_"));
        json.as_object_mut().unwrap().extend(entries.as_object().unwrap().clone());
        assert_eq!(read(&json).unwrap().rope_theta, base, "{entries}");
    }
}

#[test]
fn what_is_not_computed_is_refused_by_name() {
    let linear = json!({"type": "linear", "factor": 2.0, "rope_theta": 5e5});
    for (name, value, words) in [
        ("model_type", json!("bert"), "llama, qwen3, gpt2 and nanochat are read"),
        ("model_type", json!(3), "not a word"),
        ("architectures", json!(["LlamaForSequenceClassification"]), "`LlamaForCausalLM` is read"),
        ("hidden_act", json!("gelu"), "only silu"),
        ("attention_bias", json!(true), "biases"),
        ("mlp_bias", json!(true), "biases"),
        ("rope_scaling", json!({"rope_type": "llama3"}), "llama3"),
        ("rope_scaling", json!({"type": "linear"}), "linear"),
        ("rope_parameters", linear, "linear"),
        ("rope_parameters", json!({"rope_theta": "500000"}), "not a number"),
        ("rope_parameters", json!({"partial_rotary_factor": 0.5}), "partial_rotary_factor"),
        ("rope_parameters", json!({"full_attention": {"rope_theta": 1e4}}), "full_attention"),
        ("rope_parameters", json!([1e4]), "not an object"),
        ("rope_theta", json!("500000"), "`rope_theta` is \"500000\", not a number"),
        ("rope_theta", json!(0.5), "above 1"),
        ("partial_rotary_factor", json!(0.5), "a part of each head"),
        ("final_logit_softcapping", json!(30.0), "soft cap"),
        ("attn_logit_softcapping", json!(50.0), "soft cap"),
        ("attention_multiplier", json!(0.1), "scale of scores"),
        ("embedding_multiplier", json!(12.0), "scale of embeddings"),
        ("logits_scaling", json!(8.0), "scale of logits"),
        ("num_local_experts", json!(8), "experts"),
        ("quantization_config", json!({"quant_method": "awq"}), "quantized"),
        ("is_causal", json!(false), "later tokens"),
        ("head_dim", json!("32"), "`head_dim` is \"32\", not a whole number"),
        ("num_key_value_heads", json!(2.5), "not a whole number"),
        ("rms_norm_eps", json!("1e-5"), "not a number"),
        ("tie_word_embeddings", json!("yes"), "not true or false"),
        ("hidden_size", json!(null), "`hidden_size` is missing"),
        ("eos_token_id", json!("</s>"), "eos_token_id"),
        ("sliding_window", json!(4), "attention within a window"),
        ("layer_types", json!(["full_attention"]), "1 entries for 4 layers"),
    ] {
        let mut json = written();
        if name == "rope_theta" {
            json["rope_parameters"] = Value::Null;
        }
        json[name] = value;
        let error = read(&json).unwrap_err();
        assert!(error.contains(words) && error.contains(name), "{name}: {error}");
    }
}

#[test]
fn entries_that_change_nothing_are_read_over() {
    for (name, value) in [
        ("hidden_act", json!("swish")),
        ("attention_bias", json!(null)),
        ("partial_rotary_factor", json!(1.0)),
        ("pretraining_tp", json!(2)),
        ("attention_dropout", json!(0.1)),
        ("num_local_experts", json!(0)),
        ("is_causal", json!(true)),
        ("logit_scale", json!(1.0)),
        ("sliding_window", json!(256)),
        ("rope_scaling", json!({"rope_type": "default", "factor": 2.0})),
        ("quantization_config", json!(null)),
    ] {
        let mut json = written();
        json[name] = value;
        let described = read_config(&json.to_string()).unwrap();
        assert_eq!(described.config, GptConfig::preset("tiny").unwrap(), "{name}");
        assert!(described.unknown.is_empty(), "{name}");
    }
}

fn qwen3(entries: Value) -> Value {
    let mut json = written();
    json["model_type"] = json!("qwen3");
    json["architectures"] = json!(["Qwen3ForCausalLM"]);
    json.as_object_mut().unwrap().extend(entries.as_object().unwrap().clone());
    json
}

/// Qwen3Config: a window counts where it is used, in the layers from max_window_layers on or in those
/// that layer_types lists. The model has 4 layers and 256 positions.
#[test]
fn windows_are_those_of_each_layer() {
    let kinds = |slide: [bool; 4]| -> Value {
        slide.map(|slides| if slides { "sliding_attention" } else { "full_attention" }).into()
    };
    let (all, none) = (kinds([true; 4]), kinds([false; 4]));
    for (entries, windows) in [
        (json!({}), &[][..]),
        (json!({"use_sliding_window": false, "sliding_window": 4}), &[]),
        (json!({"use_sliding_window": true, "sliding_window": 4}), &[]),
        (json!({"use_sliding_window": true, "sliding_window": 4, "max_window_layers": 0}), &[4]),
        (
            json!({"use_sliding_window": true, "sliding_window": 4, "max_window_layers": 3}),
            &[0, 0, 0, 4],
        ),
        (json!({"use_sliding_window": true, "sliding_window": 4, "max_window_layers": 4}), &[]),
        (
            json!({"use_sliding_window": true, "sliding_window": 255, "max_window_layers": 0}),
            &[255],
        ),
        (json!({"use_sliding_window": true, "sliding_window": 256, "max_window_layers": 0}), &[]),
        (json!({"use_sliding_window": true, "sliding_window": null, "max_window_layers": 0}), &[]),
        (json!({"use_sliding_window": true, "max_window_layers": 0}), &[]),
        (json!({"layer_types": none, "sliding_window": 4}), &[]),
        (json!({"use_sliding_window": true, "layer_types": none, "sliding_window": 4}), &[]),
        (json!({"use_sliding_window": true, "layer_types": all, "sliding_window": 4}), &[4]),
        // The list wins over the first layer with a window.
        (
            json!({"use_sliding_window": true, "layer_types": kinds([true, false, true, false]),
                "sliding_window": 4, "max_window_layers": 3}),
            &[4, 0],
        ),
        (
            json!({"use_sliding_window": true, "layer_types": kinds([true, false, true, true]),
                "sliding_window": 4}),
            &[4, 0, 4],
        ),
        (json!({"layer_types": ["attention", "attention", "attention", "attention"]}), &[]),
    ] {
        let config = read(&qwen3(entries.clone())).unwrap();
        assert_eq!(config.windows, windows, "{entries}");
    }
    // The window that Qwen3Config has when none is given.
    let long = json!({"use_sliding_window": true, "max_window_layers": 2,
        "max_position_embeddings": 32768});
    assert_eq!(read(&qwen3(long)).unwrap().windows, [0, 0, 4096, 4096]);
}

#[test]
fn windows_that_cannot_be_computed_are_refused_by_name() {
    let kind = |name: &str| json!([name, name, name, name]);
    let sliding = kind("sliding_attention");
    for (entries, words) in [
        (json!({"layer_types": sliding, "sliding_window": 4}), "the model has no window"),
        (
            json!({"use_sliding_window": true, "layer_types": sliding, "sliding_window": null}),
            "the model has no window",
        ),
        (
            json!({"use_sliding_window": true, "sliding_window": 0, "max_window_layers": 0}),
            "`sliding_window` is 0",
        ),
        (
            json!({"layer_types": kind("chunked_attention")}),
            "`layer_types` has \"chunked_attention\"",
        ),
        (json!({"layer_types": [1, 2, 3, 4]}), "`layer_types` has 1"),
        (json!({"layer_types": 4}), "`layer_types` is 4, not a list"),
        (json!({"use_sliding_window": 1}), "`use_sliding_window` is 1, not true or false"),
        (
            json!({"use_sliding_window": true, "max_window_layers": 0,
                "num_hidden_layers": 1_000_000_000_000_000_u64}),
            "`n_layer` is 1000000000000000",
        ),
    ] {
        let error = read(&qwen3(entries.clone())).unwrap_err();
        assert!(error.contains(words), "{entries}: {error}");
    }
    // A Llama has none, and its program in transformers contradicts itself where one is given.
    for (entries, refused) in [
        (json!({"layer_types": sliding, "sliding_window": 4}), true),
        (json!({"sliding_window": 255}), true),
        (json!({"sliding_window": 256}), false),
        (json!({"sliding_window": 4, "use_sliding_window": false}), false),
        (json!({"layer_types": sliding, "sliding_window": 256}), false),
        (json!({"layer_types": kind("full_attention")}), false),
    ] {
        let mut json = written();
        json.as_object_mut().unwrap().extend(entries.as_object().unwrap().clone());
        let read = read(&json);
        assert_eq!(read.is_err(), refused, "{entries}: {read:?}");
        if let Err(error) = read {
            assert!(error.contains("`sliding_window` is "), "{error}");
            assert!(error.contains("attention within a window"), "{error}");
        }
    }
}

/// Windows that a Qwen3 can have are written as its own, others in a type of ours.
#[test]
fn windows_survive_config_json() {
    let llama = GptConfig::preset("tiny").unwrap();
    let qwen3 = GptConfig { qk_norm: true, ..llama.clone() };
    for (windows, written_as) in [
        (vec![4], "qwen3"),
        (vec![4, 0], "qwen3"),
        (vec![0, 0, 7], "qwen3"),
        (vec![0, 0, 0, 7], "qwen3"),
        (vec![4, 7], OWN_TYPE),
    ] {
        let config = GptConfig { windows: windows.clone(), ..qwen3.clone() };
        let json = shape(&config);
        assert_eq!((&json["model_type"], read(&json).unwrap()), (&json!(written_as), config));
        let config = GptConfig { windows, ..llama.clone() };
        let json = shape(&config);
        assert_eq!((&json["model_type"], read(&json).unwrap()), (&json!(OWN_TYPE), config));
    }
    // [0, 0, 7] of four layers: the fourth is as the first.
    let json = shape(&GptConfig { windows: vec![0, 0, 7], ..qwen3.clone() });
    let (full, slides) = ("full_attention", "sliding_attention");
    assert_eq!(json["layer_types"], json!([full, full, slides, full]));
    assert_eq!((&json["sliding_window"], &json["max_window_layers"]), (&json!(7), &json!(2)));
    assert_eq!(json["use_sliding_window"], json!(true));
    let json = shape(&GptConfig { windows: vec![0], ..llama.clone() });
    assert_eq!((&json["model_type"], read(&json).unwrap()), (&json!("llama"), llama));
    assert_eq!(shape(&qwen3).get("layer_types"), None);
}

#[test]
fn unknown_entries_and_ends_are_reported() {
    let mut json = written();
    json["mystery_factor"] = json!(3);
    json["eos_token_id"] = json!([7, 9]);
    let described = read_config(&json.to_string()).unwrap();
    assert_eq!(
        (described.unknown, described.ends),
        (vec!["mystery_factor".to_owned()], vec![7, 9])
    );
    assert_eq!(read_generation_ends("{\"eos_token_id\": 5}").unwrap(), [5]);
    assert_eq!(read_generation_ends("{\"eos_token_id\": null}").unwrap(), Vec::<u32>::new());
    assert_eq!(read_generation_ends("{}").unwrap(), Vec::<u32>::new());
    assert!(read_generation_ends("[]").is_err());
}

/// Programs that assume 1 and 2 where a file is silent must find the ids that are meant.
#[test]
fn the_files_of_a_checkpoint_name_what_begins_and_ends_a_text() {
    let config = GptConfig::preset("tiny").unwrap();
    let parse = |tokenizer: &Tokenizer| -> Vec<Value> {
        let files = files(&config, tokenizer).unwrap();
        let names: Vec<&str> = files.iter().map(|f| f.0).collect();
        assert_eq!(
            names,
            ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"]
        );
        files.iter().map(|f| serde_json::from_str(&f.1).unwrap()).collect()
    };
    let learned = Tokenizer::train_bpe(["aa bb aa bb"], 257, &mut |_| {}).unwrap();
    let files = parse(&learned);
    for file in &files[..2] {
        assert_eq!((&file["bos_token_id"], &file["eos_token_id"]), (&json!(256), &json!(256)));
    }
    let name = json!(tokenizer::BOS_NAME);
    assert_eq!((&files[3]["bos_token"], &files[3]["eos_token"]), (&name, &name));
    assert_eq!(files[3]["model_max_length"], 256);
    let characters = Tokenizer::train_char(["abc"]).unwrap();
    let files = parse(&characters);
    for file in &files[..2] {
        // Null, and not absent.
        assert_eq!(file.get("bos_token_id"), Some(&Value::Null));
        assert_eq!(file.get("eos_token_id"), Some(&Value::Null));
    }
    assert_eq!(files[3]["bos_token"], Value::Null);
}

#[test]
fn the_chat_template_is_found_in_either_form() {
    let read = |json: Value| read_chat_template(&json.to_string());
    assert_eq!(read(json!({})), Ok(None));
    assert_eq!(read(json!({"chat_template": null})), Ok(None));
    assert_eq!(read(json!({"chat_template": "{{ x }}"})), Ok(Some("{{ x }}".to_owned())));
    let named = |name: &str| json!({"name": name, "template": name.to_uppercase()});
    let list = json!({"chat_template": [named("rag"), named("default")]});
    assert_eq!(read(list), Ok(Some("DEFAULT".to_owned())));
    assert_eq!(read(json!({"chat_template": [named("rag")]})), Ok(None));
    assert!(read(json!({"chat_template": 3})).unwrap_err().contains("`chat_template` is 3"));
    assert!(read(json!([])).unwrap_err().contains("not a JSON object"));
}

/// Names, both tokens and the template are what other programs find; weights come back rounded.
#[test]
fn a_directory_is_written_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let tiny = GptConfig::preset("tiny").unwrap();
    let config = GptConfig { n_layer: 2, n_embd: 8, hidden: 12, vocab_size: 300, ..tiny };
    let learned = Tokenizer::train_bpe(["aa bb aa bb"], 257, &mut |_| {}).unwrap();
    let model = Model {
        ends: &[256, 7],
        chat_template: Some("{{ messages }}"),
        ..Model::new(&config).with_tokenizer(&learned)
    };
    let values = gpt::initialise(&config, 3);
    let read_text = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    for (precision, dtype, shard_bytes, files) in [
        (Precision::F32, "float32", None, 1),
        (Precision::F16, "float16", Some(2_000), 12),
        (Precision::Bf16, "bfloat16", Some(1), 20),
    ] {
        std::fs::remove_dir_all(dir.path()).unwrap();
        std::fs::create_dir(dir.path()).unwrap();
        write(dir.path(), &model, &values, precision, shard_bytes, Reader::Anegpt).unwrap();
        let described = read_config(&read_text("config.json")).unwrap();
        assert_eq!((described.config, described.ends), (config.clone(), vec![256, 7]));
        assert!(described.unknown.is_empty(), "{:?}", described.unknown);
        let json: Value = serde_json::from_str(&read_text("config.json")).unwrap();
        assert_eq!((&json["dtype"], &json["torch_dtype"]), (&json!(dtype), &json!(dtype)));
        assert_eq!(read_text("chat_template.jinja"), "{{ messages }}");
        let index = dir.path().join("model.safetensors.index.json");
        let read = match files {
            1 => read_safetensors(&dir.path().join("model.safetensors"), &config).unwrap(),
            _ => read_sharded(&index, &config).unwrap(),
        };
        let mut rounded = vec![0.0; values.len()];
        let mut bytes = vec![];
        precision.encode(&values, &mut bytes);
        precision.decode(&bytes, &mut rounded);
        assert!(read == rounded, "{precision}");
        let shards = std::fs::read_dir(dir.path()).unwrap().flatten();
        let sizes: Vec<u64> = shards
            .filter(|entry| entry.path().extension().is_some_and(|e| e == "safetensors"))
            .map(|entry| entry.metadata().unwrap().len())
            .collect();
        assert_eq!(sizes.len(), files, "{sizes:?}");
        if files > 1 {
            let index: Value =
                serde_json::from_str(&read_text("model.safetensors.index.json")).unwrap();
            assert_eq!(index["metadata"]["total_size"], bytes.len());
        }
    }
    let mut values = values;
    values[0] = 1e5;
    let error = write(dir.path(), &model, &values, Precision::F16, None, Reader::Anegpt)
        .unwrap_err()
        .to_string();
    assert!(error.contains("has 100000, which is beyond F16"), "{error}");
}

#[test]
fn what_no_class_computes_is_refused_by_name() {
    let tiny = GptConfig::preset("tiny").unwrap();
    let qwen = GptConfig { qk_norm: true, n_head: 3, n_kv_head: 3, ..tiny.clone() };
    let windows = GptConfig { windows: vec![4, 0], ..qwen.clone() };
    for config in [tiny.clone(), qwen, windows, GptConfig::preset("gpt2").unwrap()] {
        expressible(&config, Reader::Transformers).unwrap();
    }
    for (config, says) in [
        (GptConfig { rope_theta: None, ..tiny.clone() }, "`rope_theta` is absent"),
        (GptConfig { bias: true, ..tiny.clone() }, "`bias` is true"),
        (GptConfig { windows: vec![4], ..tiny.clone() }, "`windows` is [4]: a Qwen3"),
        (GptConfig { qk_norm: true, windows: vec![4, 5], ..tiny.clone() }, "`windows` is [4, 5]"),
        (GptConfig { n_head: 3, n_kv_head: 3, ..tiny }, "`n_head` is 3"),
        (
            GptConfig { bias: false, ..GptConfig::preset("gpt2").unwrap() },
            "it is no GPT-2 as it was published",
        ),
    ] {
        let error = expressible(&config, Reader::Transformers).unwrap_err().to_string();
        assert!(error.contains(says) && error.contains("Hugging Face cannot express"), "{error}");
    }
}
