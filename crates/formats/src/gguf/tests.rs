//! Round trips of whole models, and what is refused.

use super::*;
use std::path::PathBuf;

fn llama() -> GptConfig {
    GptConfig {
        n_layer: 2,
        n_head: 4,
        n_kv_head: 2,
        n_embd: 24,
        head_dim: 8,
        hidden: 20,
        vocab_size: 300,
        seq_len: 16,
        rope_theta: Some(5e5),
        norm_eps: 1e-5,
        tied: true,
        ..GptConfig::default()
    }
}

struct Bench {
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Bench { path: directory.path().join("model.gguf"), _directory: directory }
    }

    fn write(&self, config: &GptConfig, tokenizer: Option<&Tokenizer>) -> Result<(), String> {
        let values = gpt::initialise(config, 3);
        write(&self.path, config, &values, tokenizer, Precision::F32).map_err(|e| e.to_string())
    }

    /// The file that `config` gives, with other metadata and tensors.
    fn write_changed(
        &self,
        config: &GptConfig,
        change: impl FnOnce(&mut Vec<(String, Value)>, &mut Vec<Tensor<'_>>),
    ) {
        let values = gpt::initialise(config, 3);
        let layout = Layout::new(config);
        let mut metadata = shape::metadata(config, Precision::F32).unwrap();
        let mut tensors: Vec<_> = (layout.params().iter())
            .map(|p| tensor(config, p, &values[p.range()], Precision::F32).unwrap())
            .collect();
        change(&mut metadata, &mut tensors);
        container::write(&self.path, &metadata, &tensors).unwrap();
    }

    fn refusal(&self) -> String {
        read(&self.path).unwrap_err().to_string()
    }
}

#[test]
fn models_are_read_back_to_the_same_bits() {
    let bench = Bench::new();
    let qwen = GptConfig { qk_norm: true, norm_eps: 1e-6, tied: false, ..llama() };
    for config in [llama(), GptConfig { tied: false, ..llama() }, qwen] {
        bench.write(&config, None).unwrap();
        let contents = read(&bench.path).unwrap();
        assert_eq!(contents.config, config);
        assert_eq!(contents.values, gpt::initialise(&config, 3));
        assert!(contents.tokenizer.is_none());
    }
}

/// Rows of queries lie as llama.cpp rotates them: 0, 4, 1, 5 … of a head of 8 for llama, in order for qwen3.
#[test]
fn rotary_pairs_are_neighbours_in_llama_only() {
    let bench = Bench::new();
    for (qk_norm, rows) in [(false, [0, 4, 1, 5]), (true, [0, 1, 2, 3])] {
        let config = GptConfig { qk_norm, ..llama() };
        bench.write(&config, None).unwrap();
        let mut file = Container::open(&bench.path).unwrap();
        let place = file.tensors["blk.1.attn_k.weight"].clone();
        let mut found = vec![0.0; 16 * 24];
        file.read(&place, &mut found).unwrap();
        let layout = Layout::new(&config);
        let name = "model.layers.1.self_attn.k_proj.weight";
        let param = layout.params().iter().find(|p| p.name == name).unwrap();
        let values = gpt::initialise(&config, 3);
        let ours = &values[param.range()];
        for (i, row) in rows.into_iter().enumerate() {
            assert_eq!(found[i * 24..][..24], ours[row * 24..][..24], "row {i}");
        }
    }
}

#[test]
fn half_precision_rounds_matrices_only() {
    let bench = Bench::new();
    let config = llama();
    let values = gpt::initialise(&config, 3);
    write(&bench.path, &config, &values, None, Precision::F16).unwrap();
    let read = read(&bench.path).unwrap();
    for param in Layout::new(&config).params() {
        let round = |v: &f32| match param.shape.len() {
            1 => *v,
            _ => f16::from_f32(*v).to_f32(),
        };
        let want: Vec<f32> = values[param.range()].iter().map(round).collect();
        assert_eq!(read.values[param.range()], want, "{}", param.name);
    }
    let mut values = values;
    values[7] = 7e4;
    let error = write(&bench.path, &config, &values, None, Precision::F16).unwrap_err();
    assert!(error.to_string().contains("70000, which is beyond f16"), "{error}");
}

#[test]
fn what_is_not_computed_is_refused_by_name() {
    let bench = Bench::new();
    let refused = |key: &str, value: Value| {
        bench.write_changed(&llama(), |metadata, _| {
            metadata.retain(|(name, _)| name != key);
            metadata.push((key.to_owned(), value));
        });
        let refusal = bench.refusal();
        assert!(refusal.contains(key), "{key}: {refusal}");
    };
    refused("general.architecture", Value::Text("gpt2".to_owned()));
    refused("llama.rope.scaling.type", Value::Text("yarn".to_owned()));
    refused("llama.rope.scaling.factor", Value::F32(4.0));
    refused("llama.expert_count", Value::U32(8));
    refused("llama.attention.sliding_window", Value::U32(4));
    refused("llama.attention.value_length", Value::U32(6));
    refused("llama.rope.dimension_count", Value::U32(4));
    refused("llama.vocab_size", Value::U32(299));
    refused("llama.block_count", Value::Text("2".to_owned()));
    let layers = |a, b| Value::List(vec![Value::U32(a), Value::U32(b)]);
    refused("llama.attention.head_count_kv", layers(2, 4));
    for key in ["general.architecture", "llama.context_length"] {
        bench.write_changed(&llama(), |metadata, _| metadata.retain(|(name, _)| name != key));
        assert!(bench.refusal().contains(&format!("`{key}` is missing")), "{key}");
    }
    // Neutral values, and the same number for every layer.
    bench.write_changed(&llama(), |metadata, _| {
        metadata.retain(|(name, _)| name != "llama.attention.head_count_kv");
        metadata.push(("llama.attention.head_count_kv".to_owned(), layers(2, 2)));
        metadata.push(("llama.rope.scaling.type".to_owned(), Value::Text("none".to_owned())));
        metadata.push(("llama.expert_count".to_owned(), Value::U32(0)));
    });
    assert_eq!(read(&bench.path).unwrap().config, llama());
}

#[test]
fn tensors_without_a_place_and_missing_ones_are_refused() {
    let bench = Bench::new();
    bench.write_changed(&llama(), |_, tensors| {
        tensors.push(Tensor {
            name: "rope_freqs.weight".to_owned(),
            shape: &[4],
            element: Element::F32,
            values: vec![1.0; 4].into(),
        });
    });
    assert!(bench.refusal().contains("`rope_freqs.weight` has no place"), "{}", bench.refusal());
    bench.write_changed(&llama(), |_, tensors| drop(tensors.remove(3)));
    assert!(bench.refusal().contains("is missing"), "{}", bench.refusal());
    bench.write_changed(&llama(), |_, tensors| tensors[2].shape = &[24, 32]);
    assert!(bench.refusal().contains("the model needs [32, 24]"), "{}", bench.refusal());
    bench.write_changed(&llama(), |_, tensors| tensors[0].values.to_mut()[5] = f32::INFINITY);
    assert!(bench.refusal().contains("element 5 is inf"), "{}", bench.refusal());
    std::fs::write(&bench.path, &std::fs::read(&bench.path).unwrap()[..2000]).unwrap();
    assert!(bench.refusal().contains("cut short"), "{}", bench.refusal());
}

#[test]
fn a_model_without_rotation_is_refused() {
    let refusal = Bench::new().write(&GptConfig { rope_theta: None, ..llama() }, None).unwrap_err();
    assert!(refusal.contains("GGUF cannot say this model: `rope_theta` is absent"), "{refusal}");
}

/// Texts that touch spaces, digits, other scripts, markers and bytes without a character.
const TEXTS: [&str; 5] =
    ["Once upon a time", "  two  spaces 12345 it's", "Größe 漢字 \u{1f600}", "a<|bos|>b", ""];

fn same_ids(bench: &Bench, tokenizer: &Tokenizer) -> Tokenizer {
    bench.write(&llama(), Some(tokenizer)).unwrap();
    let read = read(&bench.path).unwrap().tokenizer.expect("one was written");
    for text in TEXTS {
        assert_eq!(read.encode(text).unwrap(), tokenizer.encode(text).unwrap(), "{text:?}");
    }
    let markers = |t: &Tokenizer| (t.bos(), t.prompt_bos());
    assert_eq!(markers(&read), markers(tokenizer));
    read
}

#[test]
fn byte_level_vocabularies_give_the_same_ids() {
    let bench = Bench::new();
    let text = "Once upon a time there was a time upon a time, it's a time once";
    let learned = Tokenizer::train_bpe([text], 280, &mut |_| {}).unwrap();
    let read = same_ids(&bench, &learned);
    assert_eq!(read.eos(), learned.eos().or(learned.bos()));
    // With the patterns of Llama 3 and Qwen.
    for (_, pattern, whole) in &vocabulary::PATTERNS[1..] {
        let mut json: serde_json::Value =
            serde_json::from_str(&learned.to_json().unwrap()).unwrap();
        json["pre_tokenizer"] = serde_json::json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        ]});
        json["model"]["ignore_merges"] = (*whole).into();
        let tokenizer = Tokenizer::from_bytes(json.to_string().as_bytes(), "json").unwrap();
        same_ids(&bench, &tokenizer);
    }
}

/// A vocabulary of llama2.c: three markers, 256 bytes, pieces.
fn llama2c() -> Tokenizer {
    let bytes = (0..=255).map(|b| format!("<0x{b:02X}>"));
    let pieces = [" ", "e", "n", "o", "t", "i", "m", " t", "im", " tim", " time", "on"];
    let names = ["<unk>", "\n<s>\n", "\n</s>\n"].map(str::to_owned).into_iter().chain(bytes);
    let mut file = 11i32.to_le_bytes().to_vec();
    for (i, name) in names.chain(pieces.map(str::to_owned)).enumerate() {
        file.extend((-(i as f32)).to_le_bytes());
        file.extend((name.len() as i32).to_le_bytes());
        file.extend(name.as_bytes());
    }
    Tokenizer::from_llama2c(&file, None).unwrap()
}

#[test]
fn scored_vocabularies_give_the_same_ids() {
    let read = same_ids(&Bench::new(), &llama2c());
    assert_eq!((read.bos(), read.eos()), (Some(1), Some(2)));
    assert_eq!(read.decode(&read.encode("once time").unwrap()), "once time");
}

#[test]
fn tokenizers_that_are_not_computed_are_refused_by_name() {
    let bench = Bench::new();
    let learned = Tokenizer::train_bpe(["aa bb aa bb"], 258, &mut |_| {}).unwrap();
    let refused = |key: &str, value: Option<Value>, says: &str| {
        bench.write_changed(&llama(), |metadata, _| {
            metadata.extend(vocabulary::metadata(&learned, 300).unwrap());
            metadata.retain(|(name, _)| name != key);
            metadata.extend(value.map(|value| (key.to_owned(), value)));
        });
        let refusal = bench.refusal();
        assert!(refusal.contains(key) && refusal.contains(says), "{key}: {refusal}");
    };
    let text = |text: &str| Some(Value::Text(text.to_owned()));
    refused("tokenizer.ggml.model", text("t5"), "gpt2 and llama are read");
    refused("tokenizer.ggml.pre", text("tekken"), "gpt-2, llama-bpe, qwen2 are read");
    refused("tokenizer.ggml.pre", None, "is missing");
    refused("tokenizer.ggml.merges", None, "is missing or of another type");
    refused("tokenizer.ggml.add_eos_token", Some(Value::Bool(true)), "do not end with it");
}

#[test]
fn tokenizers_that_the_format_cannot_say_are_refused() {
    let bench = Bench::new();
    let characters = Tokenizer::train_char(["abc"]).unwrap();
    let refusal = bench.write(&llama(), Some(&characters)).unwrap_err();
    assert!(refusal.contains("the family Char has no name in it"), "{refusal}");
    let refusal =
        bench.write(&GptConfig { vocab_size: 100, ..llama() }, Some(&llama2c())).unwrap_err();
    assert!(refusal.contains("the model has 100"), "{refusal}");
    let learned = Tokenizer::train_bpe(["aa bb aa bb"], 258, &mut |_| {}).unwrap();
    let changed = |change: &dyn Fn(&mut serde_json::Value), says: &str| {
        let mut json = serde_json::from_str(&learned.to_json().unwrap()).unwrap();
        change(&mut json);
        let tokenizer = Tokenizer::from_bytes(json.to_string().as_bytes(), "json").unwrap();
        let refusal = bench.write(&llama(), Some(&tokenizer)).unwrap_err();
        assert!(refusal.contains(says), "{refusal}");
    };
    changed(&|json| json["normalizer"] = serde_json::json!({"type": "NFKC"}), "NFKC");
    changed(&|json| json["pre_tokenizer"]["add_prefix_space"] = true.into(), "plain ByteLevel");
    let nanochat = r"'(?i:[sdmt]|ll|ve|re)|\p{N}{1,2}|\s+";
    changed(
        &|json| {
            json["pre_tokenizer"] = serde_json::json!({"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": nanochat}, "behavior": "Isolated", "invert": false},
                {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false},
            ]});
        },
        r"\p{N}{1,2}",
    );
}
