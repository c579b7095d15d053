//! `anegpt eval`.

use crate::Bench;
use crate::generate::{golden, small_model};
use serde_json::{Value, json};

const TEXT: &str = include_str!("../models/text.txt");

fn eval(bench: &Bench, model: &str, more: &[&str]) -> Value {
    let args = ["eval", "-m", model, "--data", "text.txt", "--json"];
    serde_json::from_str(&bench.ok(&[&args[..], more].concat())).unwrap()
}

fn number(json: &Value, name: &str) -> f64 {
    json[name].as_f64().unwrap_or_else(|| panic!("{name}: {json}"))
}

/// The losses of transformers in f64 (`models/goldens.py`), windows side by side and overlapping.
#[test]
fn the_loss_is_that_of_transformers_in_f64() {
    let bench = Bench::new();
    bench.write("text.txt", TEXT);
    let kinds = json!(["full_attention", "full_attention"]);
    let full = json!({"use_sliding_window": false, "layer_types": kinds});
    for (name, model, entries) in [
        ("llama", "llama", json!({})),
        ("qwen3", "qwen3", full),
        ("qwen3_window_4", "qwen3", json!({})),
    ] {
        let model = small_model(&bench, model, &entries);
        for (seq, stride) in [("64", "64"), ("48", "20")] {
            let json = eval(&bench, &model, &["--seq", seq, "--stride", stride]);
            let exact = golden(&format!("{name}_nats_{seq}_{stride}")).as_f64().unwrap();
            // Every character is one byte and one token, and BOS stands before the first.
            let count = TEXT.len() as f64;
            assert_eq!((number(&json, "tokens"), number(&json, "bytes")), (count, count));
            let close = |value: f64, right: f64| (value - right).abs() < 1e-5 * right;
            assert!(close(number(&json, "nats_per_token"), exact / count), "{json} {exact}");
            let bits = exact / count / std::f64::consts::LN_2;
            assert!(close(number(&json, "bits_per_byte"), bits), "{json} {bits}");
            assert!(close(number(&json, "perplexity"), (exact / count).exp()), "{json}");
        }
    }
}

#[test]
fn the_result_depends_on_the_text_and_the_windows_alone() {
    let bench = Bench::new();
    bench.write("text.txt", TEXT);
    let model = small_model(&bench, "llama", &json!({}));
    let whole = eval(&bench, &model, &["--seq", "32"]);
    for batch in ["1", "3", "64"] {
        let json = eval(&bench, &model, &["--seq", "32", "--batch", batch]);
        assert_eq!(json["nats_per_token"], whole["nats_per_token"], "{batch}");
    }
    for (device, gap) in [("f32", 1e-5), ("fast", 2e-2)] {
        let on = ["--seq", "32", "--device", "emulator", "--numerics", device, "--chip", "m1"];
        let loss = number(&eval(&bench, &model, &on), "nats_per_token");
        assert!((loss / number(&whole, "nats_per_token") - 1.0).abs() < gap, "{device}: {loss}");
    }
    let part = eval(&bench, &model, &["--max-tokens", "50"]);
    assert_eq!((&part["tokens"], &part["bytes"]), (&json!(49), &json!(49)));
    let people = bench.ok(&["eval", "-m", &model, "--data", "text.txt", "--seq", "32"]);
    let nats = format!("nats per token  {:.6}", number(&whole, "nats_per_token"));
    assert!(people.contains(&nats) && people.contains("bits per byte"), "{people}");
}

/// Separators are predicted too: they count as tokens and not as text.
#[test]
fn separators_are_tokens_and_no_text() {
    let bench = Bench::new();
    bench.write("text.txt", "To be\n<|endoftext|>\nor not\n");
    let model = small_model(&bench, "llama", &json!({}));
    let json = eval(&bench, &model, &[]);
    // BOS To be BOS or not: all but the first are predicted, 11 of them text.
    assert_eq!((&json["tokens"], &json["bytes"]), (&json!(12), &json!(11)));
    let bits = number(&json, "nats_per_token") * 12.0 / 11.0 / std::f64::consts::LN_2;
    let separator = bits - number(&json, "bits_per_byte");
    assert!(separator > 0.01, "what the separator costs is left out: {separator}");
}

#[test]
fn settings_out_of_range_are_wrong_usage() {
    let bench = Bench::new();
    bench.write("text.txt", TEXT);
    let model = small_model(&bench, "llama", &json!({}));
    for (args, words) in [
        (&["--seq", "129"][..], "--seq 129: the model reads 1 to 128"),
        (&["--seq", "0"], "--seq 0"),
        (&["--seq", "8", "--stride", "9"], "--stride 9"),
        (&["--stride", "0"], "--stride 0"),
        (&["--max-tokens", "1"], "no second token"),
    ] {
        let start = ["eval", "-m", &model, "--data", "text.txt"];
        let output = bench.run(&[&start[..], args].concat());
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(words), "{error}");
    }
}
