//! nanochat's model on the command line: trained, resumed, read by both ways of generation, and refused by
//! formats that cannot hold it.

use crate::{Bench, with};
use serde_json::Value;

const SHAPE: &str = "preset = \"nanochat-d3\"\n[model]\nn_head = 2\nn_embd = 32\nseq_len = 32\nwindows = [9, 9, 0]\n\
    [train]\nbatch = 4\nseq = 32\n";

#[test]
fn it_is_trained_resumed_and_continues_texts() {
    let bench = Bench::new();
    for (name, parts) in [("all", ""), ("no-values", "[model.nanochat]\nvalue_embeds = false\n")] {
        let run = bench.small_run();
        bench.write("small.toml", format!("{SHAPE}{parts}"));
        bench.ok(&with(&run, &["--steps", "6", "--checkpoint-every", "3", "--out", name]));
        let last = bench.path(name).join("step-00000006");
        let weights = || std::fs::read(last.join("model.safetensors")).unwrap();
        let straight = weights();
        std::fs::remove_dir_all(&last).unwrap();
        bench.ok(&["train", "--resume", name, "--steps", "6", "--sample-every", "0"]);
        assert!(
            weights() == straight,
            "a resumed run has the bits of one that was not interrupted"
        );

        let tokens = |device: &[&str]| -> Value {
            let args =
                ["generate", "-m", name, "-p", "Once", "-n", "16", "--temperature", "0", "--json"];
            let json = bench.ok(&[&args[..], device].concat());
            serde_json::from_str::<Value>(&json).unwrap()["tokens"].clone()
        };
        let in_slots = tokens(&["--device", "cpu"]);
        assert!(in_slots.as_array().is_some_and(|tokens| !tokens.is_empty()));
        assert_eq!(in_slots, tokens(&["--device", "emulator", "--numerics", "f32"]));
        assert!(!bench.ok(&["chat", name, "-p", "Once", "--temperature", "0"]).is_empty());
    }
}

/// Formats without a place for such a model say so; transformers' class computes the plain one alone, and every
/// other takes its code along.
#[test]
fn it_is_exported_or_refused_by_name() {
    let bench = Bench::new();
    let plain = "value_embeds = false\nqk_scale = 1.0\nsmear_channels = 0\nresidual_scales = false\nbackout = false\n";
    let plain = SHAPE.replace("[9, 9, 0]", "[]") + "[model.nanochat]\n" + plain;
    let february = SHAPE.replace("nanochat-d3", "nanochat-2026-02-d3");
    let greedy = |model: &str| {
        let args =
            ["generate", "-m", model, "-p", "Once", "-n", "16", "--temperature", "0", "--json"];
        let json: Value = serde_json::from_str(&bench.ok(&args)).unwrap();
        json["tokens"].clone()
    };
    let refused = |model: &str, to: &str, says: &[&str]| {
        let output = bench.run(&["export", model, "--to", to, "--out", "exported"]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(says.iter().all(|words| error.contains(words)), "{to}: {error}");
        assert!(!bench.path("exported").exists());
    };
    let weights = |place: &str| std::fs::read(bench.path(place).join("model.safetensors")).unwrap();
    for (name, toml, to) in [
        ("plain", &plain[..], "hf"),
        ("july", SHAPE, "hf-code"),
        ("february", &february, "hf-code"),
    ] {
        let run = bench.small_run();
        bench.write("small.toml", toml);
        bench.ok(&with(&run, &["--steps", "2", "--out", name]));
        let (out, back) = (format!("{name}-hf"), format!("{name}-back"));
        bench.ok(&["export", name, "--to", to, "--out", &out]);
        assert_eq!(greedy(&out), greedy(name), "{name}");
        bench.ok(&["import", &out, "--out", &back]);
        assert_eq!(greedy(&back), greedy(name), "{name}");
        if to == "hf-code" {
            assert!(weights(&back) == weights(&format!("{name}/step-00000002")), "{name}");
            refused(name, "hf", &["`nanochat.value_embeds` is true", "--to hf-code writes it"]);
        }
        for to in ["gguf", "llama2c"] {
            refused(name, to, &["`family` is nanochat"]);
        }
    }
    refused("july", "hf", &["`windows` is [9, 9, 0]", "`nanochat.backout` is true"]);
    bench.ok(&with(&bench.small_run(), &["--steps", "1", "--out", "llama"]));
    refused("llama", "hf-code", &["`family` is llama", "--to hf writes it"]);
}
