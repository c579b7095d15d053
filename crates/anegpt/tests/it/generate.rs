//! `anegpt generate`.

use crate::{Bench, real_data, words};
use serde_json::json;
use std::path::Path;

/// The text of llama2.c for stories260K at temperature 0 (its own regression test), 200 tokens.
const LLAMA2C: &str = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red ball. She wanted to play with it, but it was too high.\nLily's mom said, \"Lily, let's go to the park.\" Lily was sad and didn't know what to do. She said, \"I want to play with your ball, but I can't find it.\"\nLily was sad and didn't know what to do. She said, \"I'm sorry, Lily. I didn't know what to do.\"\nLily didn't want to help her mom, so she";

#[test]
fn llama2c_weights_give_llama2c_text() {
    let (Some(model), Some(tokenizer)) = (real_data("stories260K.bin"), real_data("tok512.bin"))
    else {
        return;
    };
    let bench = Bench::new();
    let (model, tokenizer) = (model.to_str().unwrap(), tokenizer.to_str().unwrap());
    let args = [
        "generate",
        "--model",
        model,
        "--tokenizer",
        tokenizer,
        "--temperature",
        "0",
        "--max-tokens",
        "200",
    ];
    let text = bench.ok(&args);
    assert!(text.starts_with(LLAMA2C), "{text}");
    let on_engine = bench.ok(&[&args[..], &["--device", "emulator", "--numerics", "f32"]].concat());
    assert_eq!(text, on_engine, "the emulated engine in reference precision gives the same tokens");
    let half = bench.ok(&[&args[..], &["--device", "cpu", "--weights", "f16"]].concat());
    assert_eq!(text, half, "weights in half precision are near enough");
    let int8 = bench.ok(&[&args[..], &["--device", "cpu", "--weights", "int8"]].concat());
    assert!(int8.starts_with("Once upon a time, there was a little girl named"), "{int8}");
    let refused = bench.run(&[&args[..], &["--device", "emulator", "--weights", "f16"]].concat());
    assert_eq!(refused.status.code(), Some(2), "the emulator has a precision of its own");
    let continued = bench.ok(&[&args[..], &["--prompt", "Lily and Ben"]].concat());
    assert!(continued.starts_with("Lily and Ben "), "{continued}");
    let drawn = |seed| {
        bench.ok(&[
            "generate",
            "--model",
            model,
            "--tokenizer",
            tokenizer,
            "--seed",
            seed,
            "--max-tokens",
            "40",
        ])
    };
    assert_eq!(drawn("5"), drawn("5"));
    assert_ne!(drawn("5"), drawn("6"));
}

/// A tokenizer whose template and `add_bos_token` ask for no BOS: the text is that of transformers
/// 5.24. With `<|endoftext|>`, the separator of documents, put first, it is another.
#[test]
fn no_bos_is_put_first_unless_the_tokenizer_asks_for_it() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/no-bos");
    let bench = Bench::new();
    let text = bench.ok(&[
        "generate",
        "--model",
        model.to_str().unwrap(),
        "--prompt",
        "To be",
        "--temperature",
        "0",
        "--max-tokens",
        "30",
    ]);
    assert_eq!(text, "To be\n'!H?4LcHLeY=euHLlazzUT5:ml bz\n");
}

/// The results of other programs with our small models (`models/goldens.py`).
pub(crate) fn golden(name: &str) -> serde_json::Value {
    let goldens: serde_json::Value =
        serde_json::from_str(include_str!("../models/goldens.json")).unwrap();
    goldens[name].clone()
}

/// A copy of the small model `name` with other entries in its `config.json`.
pub(crate) fn small_model(bench: &Bench, name: &str, entries: &serde_json::Value) -> String {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models").join(name);
    let place = tempfile::tempdir_in(bench.dir.path()).unwrap().keep();
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(from.join(file), place.join(file)).unwrap();
    }
    let config = place.join("config.json");
    let mut json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    for (key, value) in entries.as_object().unwrap() {
        json[key] = value.clone();
    }
    std::fs::write(&config, json.to_string()).unwrap();
    place.to_str().unwrap().to_owned()
}

/// Greedy continuation of "To be", and what is said beside it.
fn greedy(bench: &Bench, model: &str, more: &[&str]) -> (String, String) {
    let args = ["generate", model, "To be", "--temperature", "0"];
    let count = if more.contains(&"-n") { &[][..] } else { &["-n", "30"] };
    let output = bench.run(&[&args[..], count, more].concat());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{error}");
    let text = String::from_utf8(output.stdout).unwrap();
    (text.strip_prefix("To be").unwrap().strip_suffix('\n').unwrap().to_owned(), error)
}

fn refused(bench: &Bench, model: &str, words: &[&str]) {
    let output = bench.run(&["generate", model, "To be", "--temperature", "0"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{error}");
    for word in words {
        assert!(error.contains(word), "{error}");
    }
}

/// A base may stand in three places.
#[test]
fn rotary_bases_are_read_as_transformers_reads_them() {
    let bench = Bench::new();
    let nested = json!({"rope_theta": 5e5, "rope_type": "default"});
    for entries in [
        json!({}),
        json!({"rope_theta": 1e4}),
        json!({"rope_theta": null}),
        json!({"rope_parameters": null, "rope_scaling": nested}),
        json!({"rope_parameters": null, "rope_theta": 5e5}),
    ] {
        let model = small_model(&bench, "llama", &entries);
        assert_eq!(greedy(&bench, &model, &[]).0, golden("llama_base_500000"), "{entries}");
    }
    let model = small_model(&bench, "llama", &json!({"rope_parameters": null, "rope_theta": 1e4}));
    assert_eq!(greedy(&bench, &model, &[]).0, golden("llama_base_10000"));
    let linear = json!({"type": "linear", "factor": 2.0, "rope_theta": 5e5});
    let model = small_model(&bench, "llama", &json!({"rope_parameters": linear}));
    refused(&bench, &model, &["config.json", "`rope_parameters`", "linear"]);
    let word = json!({"rope_parameters": null, "rope_theta": "500000"});
    let model = small_model(&bench, "llama", &word);
    refused(&bench, &model, &["config.json", "`rope_theta`", "\"500000\"", "not a number"]);
}

/// A window of 4 in both layers, and in the second alone. The list of kinds says so, or else the number of
/// the first such layer.
#[test]
fn windows_and_full_attention_are_those_of_transformers() {
    let bench = Bench::new();
    for (entries, expected) in [
        (json!({}), "qwen3_window_4"),
        (json!({"layer_types": null}), "qwen3_window_4"),
        (json!({"layer_types": null, "max_window_layers": 1}), "qwen3_window_4_later"),
        (json!({"layer_types": ["full_attention", "sliding_attention"]}), "qwen3_window_4_later"),
        (json!({"layer_types": null, "max_window_layers": 2}), "qwen3"),
    ] {
        let model = small_model(&bench, "qwen3", &entries);
        assert_eq!(greedy(&bench, &model, &[]).0, golden(expected), "{entries}");
    }
    let chunked = json!({"layer_types": ["full_attention", "chunked_attention"]});
    refused(&bench, &small_model(&bench, "qwen3", &chunked), &["layer_types", "chunked_attention"]);
    let kinds = json!(["full_attention", "full_attention"]);
    let full = json!({"use_sliding_window": false, "layer_types": kinds, "mystery": 1});
    let (text, said) = greedy(&bench, &small_model(&bench, "qwen3", &full), &[]);
    assert_eq!(text, golden("qwen3"));
    assert!(said.contains("`mystery` is not known"), "{said}");
}

/// With a context of 16 and a prompt of 6 tokens, BOS included.
#[test]
fn a_full_context_slides_or_stops() {
    let bench = Bench::new();
    let model = small_model(&bench, "llama", &json!({"max_position_embeddings": 16}));
    let expected = golden("llama_context_16");
    let (text, said) = greedy(&bench, &model, &["-n", "60"]);
    assert_eq!(text, expected);
    // Full when the 11th token is to be read, and then at every 9th.
    assert!(said.contains("context of 16 full, window slid 6 times"), "{said}");
    let (text, said) = greedy(&bench, &model, &["-n", "60", "--no-slide"]);
    assert_eq!(text, expected.as_str().unwrap()[..11]);
    assert!(said.contains("context full (16)"), "{said}");
    let long = "a".repeat(16);
    let output = bench.run(&["generate", &model, &long]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("17 tokens") && said.contains("at most 16"), "{said}");
}

/// The engine's rules allow no cache of a million tokens: what is made room for is what is generated.
#[test]
fn a_long_context_costs_nothing_until_it_is_used() {
    let bench = Bench::new();
    for length in [128, 40960, 131_072, 1_048_576] {
        let entries = json!({"max_position_embeddings": length});
        let model = small_model(&bench, "llama", &entries);
        for device in [&["--device", "cpu"][..], &["--device", "emulator", "--numerics", "f32"]] {
            assert_eq!(greedy(&bench, &model, device).0, golden("llama_base_500000"), "{length}");
        }
        greedy(&bench, &model, &["--device", "emulator", "--chip", "m4"]);
    }
}

#[test]
fn json_has_text_tokens_speeds_and_the_reason() {
    let bench = Bench::new();
    let model = small_model(&bench, "llama", &json!({}));
    let args = ["generate", "-m", &model, "-p", "To be", "-n", "5", "--seed", "7", "--json"];
    let json: serde_json::Value =
        serde_json::from_str(&bench.ok(&[&args[..], &["--temperature", "0"]].concat())).unwrap();
    assert_eq!((&json["prompt"], &json["text"]), (&json!("To be"), &json!("El5>\n")));
    let tokens = json["tokens"].as_array().unwrap();
    assert_eq!((tokens.len(), &json["generated_tokens"]), (5, &json!(5)));
    assert_eq!((&json["prompt_tokens"], &json["seed"]), (&json!(6), &json!(7)));
    assert_eq!((&json["finish_reason"], &json["numerics"]), (&json!("max_tokens"), &json!("f32")));
    assert_eq!((&json["drafted_tokens"], &json["accepted_tokens"]), (&json!(0), &json!(0)));
    assert!(json["tokens_per_s"].as_f64().unwrap() > 0.0);
    assert!(json["prompt_tokens_per_s"].as_f64().unwrap() > 0.0);
    let (_, said) = greedy(&bench, &model, &["-n", "5"]);
    assert!(said.contains("prompt 6 tokens at ") && said.contains("generated 5 tokens"), "{said}");
    assert!(said.contains("--max-tokens reached") && said.contains("on the CPU (f32)"), "{said}");
    let code = |args: &[&str]| bench.run(args).status.code();
    assert_eq!(code(&["generate"]), Some(2), "no model");
    assert_eq!(code(&["generate", "-m", &model, &model]), Some(2), "two models");
    assert_eq!(code(&["generate", &model, "a", "-p", "b"]), Some(2), "two prompts");
}

#[test]
fn drafts_change_the_number_of_passes_alone() {
    let bench = Bench::new();
    let model = small_model(&bench, "llama", &json!({}));
    let json = |draft: &str| -> serde_json::Value {
        let args = ["generate", &model, "To be", "-n", "60", "--seed", "3", "--json"];
        serde_json::from_str(&bench.ok(&[&args[..], &["--draft", draft]].concat())).unwrap()
    };
    let [off, auto, on] = ["off", "auto", "on"].map(json);
    assert_eq!((&on["tokens"], &on["text"]), (&off["tokens"], &off["text"]));
    // A small model is not drafted unasked.
    assert_eq!((&off["drafted_tokens"], &auto["drafted_tokens"]), (&json!(0), &json!(0)));
    let (drafted, accepted) =
        (on["drafted_tokens"].as_u64().unwrap(), on["accepted_tokens"].as_u64().unwrap());
    assert!(drafted >= accepted && accepted > 20, "{accepted} of {drafted}");
    let int8 = bench.run(&["generate", &model, "--weights", "int8", "--draft", "on"]);
    let error = words(&String::from_utf8_lossy(&int8.stderr));
    assert!(
        int8.status.code() == Some(2) && error.contains("no faster than --weights int8"),
        "{error}"
    );
    let (_, said) = greedy(&bench, &model, &["--weights", "int8"]);
    assert!(said.contains("on the CPU (weights in int8)"), "{said}");
    let (_, said) = greedy(&bench, &model, &["--draft", "on"]);
    assert!(said.contains(" drafted tokens accepted"), "{said}");
    let args = ["generate", &model, "--draft", "on", "--device", "emulator"];
    let refused = bench.run(&args);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8(refused.stderr).unwrap().contains("--draft on is for the CPU"));
}

/// Instruction models name ends in `generation_config.json` that their tokenizer does not know.
#[test]
fn texts_end_at_the_ids_that_the_model_names() {
    let bench = Bench::new();
    // The text begins "El5>".
    let vocabulary: serde_json::Value =
        serde_json::from_str(include_str!("../models/llama/tokenizer.json")).unwrap();
    let end = &vocabulary["model"]["vocab"][">"];
    let named = small_model(&bench, "llama", &json!({"eos_token_id": end}));
    let (text, said) = greedy(&bench, &named, &[]);
    assert_eq!(text, "El5");
    assert!(said.contains("end of text"), "{said}");
    let model = small_model(&bench, "llama", &json!({}));
    let generation = json!({"eos_token_id": [2, end]}).to_string();
    std::fs::write(Path::new(&model).join("generation_config.json"), generation).unwrap();
    assert_eq!(greedy(&bench, &model, &[]).0, "El5");
}

#[test]
fn texts_end_before_a_stop_string() {
    let bench = Bench::new();
    // The text begins "El5>\n".
    let model = small_model(&bench, "llama", &json!({}));
    let reference = ["--device", "emulator", "--numerics", "f32"];
    for device in [&["--device", "cpu"][..], &["--device", "cpu", "--weights", "f16"], &reference] {
        let stopped = |stops: &[&str]| {
            let flags = stops.iter().flat_map(|stop| ["--stop", stop]);
            greedy(&bench, &model, &[device, &["-n", "5"], &flags.collect::<Vec<_>>()].concat())
        };
        for (stops, text) in
            [(&["5>"][..], "El"), (&["zz", "l5"], "E"), (&[">\n", "5>\nx"], "El5"), (&["E"], "")]
        {
            let (got, said) = stopped(stops);
            assert_eq!(got, text, "{stops:?} {device:?}");
            assert!(said.contains("stop string"), "{said}");
        }
        // The beginning of one that is not completed is text.
        let (got, said) = stopped(&["5>\nx"]);
        assert_eq!(got, "El5>\n", "{device:?}");
        assert!(said.contains("--max-tokens reached"), "{said}");
    }
    let args = ["generate", &model, "To be", "--temperature", "0", "--json", "--stop", "5"];
    let json: serde_json::Value = serde_json::from_str(&bench.ok(&args)).unwrap();
    assert_eq!((&json["text"], &json["finish_reason"]), (&json!("El"), &json!("stop_string")));
    let empty = bench.run(&["generate", &model, "--stop", ""]);
    assert_eq!(empty.status.code(), Some(2));
}

#[test]
fn weights_in_several_files_are_read() {
    let bench = Bench::new();
    let model = small_model(&bench, "llama", &json!({}));
    let place = Path::new(&model);
    let bytes = std::fs::read(place.join("model.safetensors")).unwrap();
    let header = 8 + usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let tensors: serde_json::Value = serde_json::from_slice(&bytes[8..header]).unwrap();
    let names = tensors.as_object().unwrap().keys().filter(|name| *name != "__metadata__");
    let map: serde_json::Map<_, _> =
        names.map(|name| (name.clone(), json!("model-00001-of-00001.safetensors"))).collect();
    let whole = place.join("model-00001-of-00001.safetensors");
    std::fs::rename(place.join("model.safetensors"), whole).unwrap();
    let index = json!({"metadata": {}, "weight_map": map}).to_string();
    std::fs::write(place.join("model.safetensors.index.json"), index).unwrap();
    assert_eq!(greedy(&bench, &model, &[]).0, golden("llama_base_500000"));
}

/// Gains near the largest number make every logit infinite.
#[test]
fn logits_that_are_not_finite_are_a_failure() {
    let bench = Bench::new();
    let model = small_model(&bench, "llama", &json!({}));
    let weights = Path::new(&model).join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let header = 8 + usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let tensors: serde_json::Value = serde_json::from_slice(&bytes[8..header]).unwrap();
    let offsets = &tensors["model.norm.weight"]["data_offsets"];
    let at = |i: usize| header + usize::try_from(offsets[i].as_u64().unwrap()).unwrap();
    for element in bytes[at(0)..at(1)].chunks_exact_mut(4) {
        element.copy_from_slice(&3e38f32.to_le_bytes());
    }
    std::fs::write(&weights, bytes).unwrap();
    for temperature in ["0", "1"] {
        let args = ["generate", &model, "To be", "--temperature", temperature];
        let output = bench.run(&args);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains("the logits after 6 tokens are not finite"), "{error}");
    }
}

/// Other programs assume 1 and 2 where the files are silent, and never stop.
#[test]
fn a_checkpoint_names_what_begins_and_ends_a_text() {
    let bench = Bench::new();
    let run = bench.small_run();
    bench.ok(&crate::with(&run, &["--steps", "2", "--out", "run"]));
    let place = bench.path("run/step-00000002");
    let read = |name: &str| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(place.join(name)).unwrap()).unwrap()
    };
    let tokenizer = read("tokenizer.json");
    let separator = &tokenizer["model"]["vocab"]["<|bos|>"];
    assert!(separator.is_u64());
    for name in ["config.json", "generation_config.json"] {
        let json = read(name);
        assert_eq!((&json["bos_token_id"], &json["eos_token_id"]), (separator, separator));
    }
    let config = read("tokenizer_config.json");
    assert_eq!(
        (&config["bos_token"], &config["eos_token"]),
        (&json!("<|bos|>"), &json!("<|bos|>"))
    );
    assert_eq!(config["model_max_length"], 32);
    bench.ok(&["generate", "run", "-n", "3"]);
    // Checkpoints of earlier versions have neither file, nor the ids.
    for name in ["state.json", "generation_config.json", "tokenizer_config.json"] {
        std::fs::remove_file(place.join(name)).unwrap();
    }
    let mut old = read("config.json");
    old.as_object_mut().unwrap().retain(|name, _| !name.ends_with("_token_id"));
    std::fs::write(place.join("config.json"), old.to_string()).unwrap();
    bench.ok(&["generate", "run/step-00000002", "-n", "3"]);
}
