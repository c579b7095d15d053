//! Models in other programs' formats, and back: `export`, `import`, and every command that takes a model.

use crate::{Bench, real_data, with};
use std::path::Path;

/// A run of two steps with the parts of `toml`.
fn run(bench: &Bench, name: &str, toml: &str) -> String {
    let run = bench.small_run();
    bench.write("small.toml", toml);
    bench.ok(&with(&run, &["--steps", "2", "--out", name]));
    format!("{name}/step-00000002")
}

const LLAMA: &str = "[model]\nn_layer = 2\nn_head = 4\nn_kv_head = 2\nn_embd = 32\nhidden = 64\nseq_len = 32\n[train]\nbatch = 4\nseq = 32\n";
const GPT2: &str = "preset = \"gpt2-tiny\"\n[model]\nn_layer = 2\nn_head = 2\nn_embd = 32\nseq_len = 32\n[train]\nbatch = 4\nseq = 32\n";

/// Greedy text of a model, with its ids.
fn greedy(bench: &Bench, model: &str, more: &[&str]) -> String {
    let args = ["generate", "-m", model, "-p", "Once", "-n", "12", "--temperature", "0", "--json"];
    let json = bench.ok(&[&args[..], &["--device", "cpu"], more].concat());
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    format!("{} {}", json["tokens"], json["text"])
}

fn refused(bench: &Bench, args: &[&str], code: i32, says: &[&str]) {
    let output = bench.run(args);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
    for words in says {
        assert!(error.contains(words), "{args:?}: expected `{words}` in {error}");
    }
}

#[test]
fn what_is_exported_computes_the_same() {
    let bench = Bench::new();
    for (name, toml) in [("llama", LLAMA), ("gpt2", GPT2)] {
        let ours = run(&bench, name, toml);
        let expected = greedy(&bench, name, &[]);
        for (to, more, out) in [
            ("hf", &[][..], "a"),
            ("hf", &["--shard-bytes", "20000"], "b"),
            ("gguf", &[], "c.gguf"),
        ] {
            let out = format!("exports/{name}-{out}");
            let said = bench.ok(&[&["export", name, "--to", to, "--out", &out], more].concat());
            assert!(said.contains(&out) && said.contains("B\n"), "{said}");
            assert_eq!(greedy(&bench, &out, &[]), expected, "{out}");
        }
        assert!(bench.path(&format!("exports/{name}-b/model.safetensors.index.json")).exists());
        let gguf = format!("exports/{name}-c.gguf");
        bench.ok(&["import", &gguf, "--out", "back"]);
        let weights =
            |place: &str| std::fs::read(bench.path(place).join("model.safetensors")).unwrap();
        assert!(weights("back") == weights(&ours), "{name}");
        assert_eq!(greedy(&bench, "back", &[]), expected);
        // Its tokenizer serves other models too, and it is trained on.
        assert_eq!(greedy(&bench, "back", &["--tokenizer", &gguf]), expected);
        assert_eq!(greedy(&bench, "back", &["--tokenizer", &ours]), expected);
        let train =
            ["train", "--init", &gguf, "--data", "text.txt", "--steps", "1", "--sample-every", "0"];
        bench.ok(&[&train[..], &["--device", "cpu", "--out", &format!("tuned-{name}")]].concat());
        std::fs::remove_dir_all(bench.path("back")).unwrap();
        assert!(
            bench
                .ok(&["eval", "-m", &gguf, "--data", "text.txt", "--device", "cpu"])
                .contains("bits per byte")
        );
    }
    assert_eq!(
        std::fs::read_dir(bench.path("exports")).unwrap().count(),
        6,
        "nothing is left over"
    );
}

/// Sizes: f32 takes 4 bytes, f16 and bf16 take 2, q8_0 34 for 32 values.
#[test]
fn smaller_types_are_smaller() {
    let bench = Bench::new();
    run(&bench, "run", LLAMA);
    let size = |to: &str, dtype: &str, file: &str| {
        let out = format!("{to}-{dtype}");
        bench.ok(&["export", "run", "--to", to, "--dtype", dtype, "--out", &out]);
        greedy(&bench, &out, &[]);
        bench
            .path(&out)
            .join(file)
            .metadata()
            .map_or_else(|_| bench.path(&out).metadata().unwrap().len(), |metadata| metadata.len())
    };
    let hf = ["f32", "f16", "bf16"].map(|dtype| size("hf", dtype, "model.safetensors"));
    assert!(hf[1] < hf[0] * 6 / 10 && hf[2].abs_diff(hf[1]) < 100, "{hf:?}");
    let gguf = ["f32", "f16", "bf16", "q8_0"].map(|dtype| size("gguf", dtype, ""));
    assert!(gguf[1] < gguf[0] && gguf[2].abs_diff(gguf[1]) < 100 && gguf[3] < gguf[1], "{gguf:?}");
}

#[test]
fn what_a_format_cannot_express_is_refused_by_name() {
    let bench = Bench::new();
    run(&bench, "gpt2", GPT2);
    run(&bench, "mixed", &LLAMA.replace("[train]", "bias = true\n[train]"));
    run(&bench, "llama", LLAMA);
    let export = |model, to, dtype| ["export", model, "--to", to, "--dtype", dtype, "--out", "x"];
    for (model, to, dtype, code, says) in [
        ("gpt2", "llama2c", "f32", 1, "llama2.c cannot express this: `family` is gpt2"),
        ("mixed", "hf", "f32", 1, "Hugging Face cannot express this: `bias` is true"),
        ("mixed", "gguf", "f32", 1, "GGUF cannot express this: `bias` is true"),
        ("llama", "hf", "q8_0", 2, "--dtype: this format stores f32, f16, bf16"),
        ("llama", "gguf", "int8", 2, "this format stores f32, f16, bf16, q8_0"),
        ("llama", "llama2c", "f16", 2, "this format stores f32, int8"),
        ("llama", "llama2c-v1", "int8", 2, "this format stores f32"),
        ("nothing", "hf", "f32", 1, "there is no file or directory `nothing`"),
    ] {
        refused(&bench, &export(model, to, dtype), code, &[says]);
        assert!(!bench.path("x").exists());
    }
    let shards = ["export", "llama", "--to", "gguf", "--shard-bytes", "9", "--out", "x"];
    refused(&bench, &shards, 2, &["--shard-bytes is for --to hf"]);
    refused(&bench, &["export", "--to", "hf", "--out", "x"], 2, &["<MODEL>"]);
    bench.write("there", "");
    refused(
        &bench,
        &["export", "llama", "--to", "gguf", "--out", "there"],
        1,
        &["there is there already"],
    );
    refused(&bench, &["import", "llama", "--out", "there"], 1, &["choose another --out"]);
    // A vocabulary of characters has no place in a GGUF file.
    let text = bench.path("text.txt");
    let char = [
        "train",
        "--config",
        "small.toml",
        "--data",
        text.to_str().unwrap(),
        "--tokenizer",
        "char",
    ];
    bench.ok(&[&char[..], &["--steps", "1", "--sample-every", "0", "--out", "char"]].concat());
    refused(&bench, &export("char", "gguf", "f32"), 1, &["a tokenizer of the kind Char"]);
    bench.ok(&["export", "char", "--to", "hf", "--out", "char-hf"]);
}

/// llama2.c's own model and vocabulary, through every version and back.
#[test]
fn llama2c_files_come_back() {
    let Some((model, tokenizer)) = real_data("stories260K.bin").zip(real_data("tok512.bin")) else {
        return;
    };
    let bench = Bench::new();
    let (model, tokenizer) = (model.to_str().unwrap(), tokenizer.to_str().unwrap());
    refused(&bench, &["import", model, "--out", "ours"], 2, &["give one with --tokenizer FILE"]);
    bench.ok(&["import", model, "--tokenizer", tokenizer, "--out", "ours"]);
    let expected = greedy(&bench, model, &["--tokenizer", tokenizer]);
    assert_eq!(greedy(&bench, "ours", &[]), expected);
    let said = bench.ok(&["export", "ours", "--to", "llama2c", "--out", "v0.bin"]);
    assert!(said.contains("v0.tokenizer.bin: the tokenizer, for -z"), "{said}");
    let read = |path: &Path| std::fs::read(path).unwrap();
    assert!(read(&bench.path("v0.tokenizer.bin")) == read(Path::new(tokenizer)));
    // Rotary tables, which readers skip, are computed more exactly here; 512 positions of 8 numbers.
    let (theirs, written) = (read(Path::new(model)), read(&bench.path("v0.bin")));
    let tables = 4 * 512 * 8;
    let weights = |bytes: &[u8]| bytes[..bytes.len() - tables].to_vec();
    assert!(theirs.len() == written.len() && weights(&theirs) == weights(&written));
    bench.ok(&["export", "ours", "--to", "llama2c-v1", "--out", "v1.bin"]);
    bench.ok(&["export", "ours", "--to", "llama2c", "--dtype", "int8", "--out", "v2.bin"]);
    bench.ok(&["export", "ours", "--to", "gguf", "--out", "ours.gguf"]);
    assert_eq!(greedy(&bench, "v1.bin", &["--tokenizer", tokenizer]), expected);
    assert_eq!(greedy(&bench, "ours.gguf", &[]), expected);
    let length = |name: &str| bench.path(name).metadata().unwrap().len();
    assert!(length("v2.bin") < length("v1.bin") * 6 / 10);
    greedy(&bench, "v2.bin", &["--tokenizer", tokenizer]);
}

/// What other programs need for conversations goes along, in every format that has a place for it.
#[test]
fn templates_and_ends_go_along() {
    let bench = Bench::new();
    let ours = run(&bench, "run", LLAMA);
    bench.ok(&["import", &ours, "--out", "a"]);
    let template = "{% for m in messages %}{{ m['content'] }}{% endfor %}";
    bench.write("a/chat_template.jinja", template);
    bench.write("a/generation_config.json", "{\"eos_token_id\": [299, 7]}");
    bench.ok(&["export", "a", "--to", "gguf", "--out", "b.gguf"]);
    bench.ok(&["export", "b.gguf", "--to", "hf", "--out", "c"]);
    assert_eq!(std::fs::read_to_string(bench.path("c/chat_template.jinja")).unwrap(), template);
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(bench.path("c/generation_config.json")).unwrap())
            .unwrap();
    assert_eq!(json["eos_token_id"], serde_json::json!([299, 7]));
    assert_eq!(greedy(&bench, "c", &[]), greedy(&bench, "a", &[]));
}
