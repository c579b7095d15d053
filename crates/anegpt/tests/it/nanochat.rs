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
    for to in ["hf", "gguf", "llama2c"] {
        let output = bench.run(&["export", "all", "--to", to, "--out", "exported"]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains("`family` is nanochat"), "{to}: {error}");
    }
}
