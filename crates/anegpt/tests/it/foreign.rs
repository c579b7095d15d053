//! Files and directories that are given as a model and are none.

use crate::Bench;

/// A shape in the form of Hugging Face.
const CONFIG: &str = r#"{
  "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 8,
  "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
  "num_key_value_heads": 2, "vocab_size": 16, "max_position_embeddings": 8, "rms_norm_eps": 1e-5,
  "rope_theta": 10000.0, "tie_word_embeddings": true, "hidden_act": "silu"
}"#;

const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 513\n";

/// A safetensors file without tensors.
fn safetensors() -> Vec<u8> {
    [&2u64.to_le_bytes()[..], b"{}"].concat()
}

impl Bench {
    /// The error of a model, which must end the program with code 1.
    fn model_error(&self, model: &str) -> String {
        let output = self.run(&["generate", "--model", model, "--prompt", "a"]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{model}: {error}");
        assert!(!error.contains("panicked"), "{error}");
        error
    }
}

#[test]
fn a_file_that_is_no_model_is_named() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("hf")).unwrap();
    let zip = [&b"PK\x03\x04"[..], &[0; 26], b"archive/data.pklFB"].concat();
    let cases: [(&str, &[u8], &str); 11] = [
        ("hf/model.safetensors", &safetensors(), "give the directory that it lies in (hf)"),
        ("model.safetensors", &safetensors(), "give the directory that it lies in (.)"),
        ("model.gguf", b"GGUF\x03\0\0\0", "is not a GGUF file that can be read: it is cut short"),
        ("model.pt", &zip, "save the model as safetensors"),
        ("model_000650.pt", &zip, "the Python script in docs/from-nanochat.md"),
        ("old.bin", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j", "is a PyTorch file"),
        ("story.txt", b"Once upon a time", "is a text, not a model: train one on it"),
        ("page.bin", b"<!DOCTYPE html>\n<html><head>", "is a web page"),
        ("pointer.bin", POINTER.as_bytes(), "git lfs pull"),
        ("config.json", CONFIG.as_bytes(), "is a JSON file: give the directory"),
        ("tok.bin", b"\x07\0\0\0\0\0\0\0\x05\0\0\0<unk>, and so on", "give it to --tokenizer"),
    ];
    for (name, contents, says) in cases {
        bench.write(name, contents);
        let error = bench.model_error(name);
        assert!(error.contains(name) && error.contains(says), "{name}: {error}");
    }
    let tokenizer = bench.write("tokenizer.pkl", b"\x80\x04\x95 tiktoken");
    let llama = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/models/llama");
    for (file, says) in [
        (tokenizer.to_str().unwrap(), "docs/from-nanochat.md has a script that converts it"),
        ("no.json", "there is no file or directory `no.json` to read a tokenizer from"),
    ] {
        let output = bench.run(&["generate", llama, "a", "--tokenizer", file]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && error.contains(says), "{error}");
    }
    let error = bench.model_error("nowhere");
    assert!(error.contains("there is no file or directory `nowhere`"), "{error}");
}

#[test]
fn a_directory_that_is_no_model_says_what_is_missing() {
    let bench = Bench::new();
    let make = |name: &str, files: &[(&str, &[u8])]| {
        std::fs::create_dir(bench.path(name)).unwrap();
        files
            .iter()
            .for_each(|(file, contents)| drop(bench.write(&format!("{name}/{file}"), contents)));
    };
    let config = ("config.json", CONFIG.as_bytes());
    make("empty", &[]);
    make("theirs-gguf", &[("b.gguf", b""), ("a.gguf", b"")]);
    make("d12", &[("model_000650.pt", b"PK"), ("meta_000650.json", b"{}")]);
    make("theirs", &[config, ("pytorch_model.bin", b"PK")]);
    make("shards", &[config, ("model-00001-of-00002.safetensors", &safetensors())]);
    make("bare", &[config]);
    make("pointer", &[config, ("model.safetensors", POINTER.as_bytes())]);
    make("page", &[("config.json", b"<html>not found</html>")]);
    for (name, says) in [
        ("empty", "has no checkpoint and no config.json"),
        ("theirs-gguf", "give the GGUF file itself: theirs-gguf/a.gguf"),
        ("d12", "d12/model_000650.pt is a PyTorch file of nanochat"),
        ("theirs", "has its weights in pytorch_model.bin only"),
        ("shards", "no model.safetensors.index.json"),
        ("bare", "model.safetensors is missing"),
        ("pointer", "pointer/model.safetensors is a Git LFS pointer"),
        ("page", "page/config.json is a web page"),
    ] {
        let error = bench.model_error(name);
        assert!(error.contains(says), "{name}: {error}");
    }
}
