//! Round trips of whole models, and what is refused.

use super::*;
use half::f16;

fn gpt2() -> GptConfig {
    GptConfig {
        n_layer: 2,
        n_head: 2,
        n_kv_head: 2,
        n_embd: 6,
        head_dim: 3,
        hidden: 10,
        vocab_size: 300,
        seq_len: 5,
        ..GptConfig::preset("gpt2").unwrap()
    }
}

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
        self.write_as(&Model { tokenizer, ..Model::new(config) }, Precision::F32)
    }

    fn write_as(&self, model: &Model<'_>, precision: Precision) -> Result<(), String> {
        let values = gpt::initialise(model.config, 3);
        write(&self.path, model, &values, precision).map_err(|e| e.to_string())
    }

    fn open(&self) -> GgufFile {
        GgufFile::open(&self.path).unwrap()
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
        let stored = tensors::tensors(config, &layout).unwrap();
        let tensor = |t: &tensors::Stored<'_>| t.of(config, &values, Precision::F32).unwrap();
        let mut tensors: Vec<_> = stored.iter().map(tensor).collect();
        change(&mut metadata, &mut tensors);
        container::write(&self.path, &metadata, &tensors).unwrap();
    }

    /// Why the model or its tokenizer is not read.
    fn refusal(&self) -> String {
        let read = GgufFile::open(&self.path)
            .and_then(|mut file| file.model().and_then(|_| file.tokenizer()));
        read.unwrap_err().to_string()
    }
}

#[test]
fn models_are_read_back_to_the_same_bits() {
    let bench = Bench::new();
    let qwen = GptConfig { qk_norm: true, norm_eps: 1e-6, tied: false, ..llama() };
    let untied = GptConfig { tied: false, ..llama() };
    for config in [llama(), untied, qwen, gpt2(), GptConfig { tied: false, ..gpt2() }] {
        bench.write(&config, None).unwrap();
        let mut file = bench.open();
        assert_eq!(file.model().unwrap(), (config.clone(), gpt::initialise(&config, 3)));
        assert!(!file.has_tokenizer() && file.tokenizer().unwrap().is_none());
        assert_eq!((file.ends(), file.chat_template()), (vec![], None));
    }
}

/// Rows of queries, keys and values follow each other; matrices are [out, in].
#[test]
fn fused_projections_of_gpt2_lie_one_after_the_other() {
    let (bench, config) = (Bench::new(), gpt2());
    bench.write(&config, None).unwrap();
    let mut container = bench.open().container;
    let (layout, values) = (Layout::new(&config), gpt::initialise(&config, 3));
    let place = container.tensors["blk.1.attn_qkv.weight"].clone();
    assert_eq!(place.shape, [18, 6]);
    let mut found = vec![0.0; 18 * 6];
    container.read(&place, &mut found).unwrap();
    for (port, found) in ["wq", "wk", "wv"].into_iter().zip(found.chunks(36)) {
        assert_eq!(found, &values[layout.find(port, Some(1)).unwrap().range()], "{port}");
    }
    assert_eq!(container.tensors["blk.0.ffn_up.weight"].shape, [10, 6]);
    assert_eq!(container.tensors["position_embd.weight"].shape, [5, 6]);
    assert_eq!(container.tensors.len(), 4 + 2 * 12);
}

/// Rows of queries lie as llama.cpp rotates them: 0, 4, 1, 5 … of a head of 8 for llama, in order for qwen3.
#[test]
fn rotary_pairs_are_neighbours_in_llama_only() {
    let bench = Bench::new();
    for (qk_norm, rows) in [(false, [0, 4, 1, 5]), (true, [0, 1, 2, 3])] {
        let config = GptConfig { qk_norm, ..llama() };
        bench.write(&config, None).unwrap();
        let mut file = bench.open().container;
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
    write(&bench.path, &Model::new(&config), &values, Precision::F16).unwrap();
    let (_, read) = bench.open().model().unwrap();
    for param in Layout::new(&config).params() {
        let round = |v: &f32| match param.shape.len() {
            1 => *v,
            _ => f16::from_f32(*v).to_f32(),
        };
        let want: Vec<f32> = values[param.range()].iter().map(round).collect();
        assert_eq!(read[param.range()], want, "{}", param.name);
    }
    let mut values = values;
    values[7] = 7e4;
    let error = write(&bench.path, &Model::new(&config), &values, Precision::F16).unwrap_err();
    assert!(error.to_string().contains("70000, which is beyond F16"), "{error}");
}

/// Rows of 32 are blocks, rows of 20 are not, and positions stay as they are.
#[test]
fn blocks_are_written_where_rows_are_made_of_them() {
    let bench = Bench::new();
    let config = GptConfig { n_embd: 32, hidden: 20, head_dim: 16, ..gpt2() };
    bench.write_as(&Model::new(&config), Precision::Q8_0).unwrap();
    let mut file = bench.open();
    let precision = |name: &str| file.container.tensors[name].precision;
    assert_eq!(precision("token_embd.weight"), Precision::Q8_0);
    assert_eq!(precision("blk.0.attn_qkv.weight"), Precision::Q8_0);
    assert_eq!(precision("blk.0.attn_qkv.bias"), Precision::F32);
    assert_eq!(precision("blk.0.ffn_down.weight"), Precision::F16);
    assert_eq!(precision("position_embd.weight"), Precision::F32);
    let metadata = &file.container.metadata;
    assert_eq!(metadata["general.file_type"], Value::U32(7));
    assert_eq!(metadata["general.quantization_version"], Value::U32(2));
    // A value is at most half a step off, and a step is the largest magnitude (below 0.2) / 127.
    let values = gpt::initialise(&config, 3);
    let (_, read) = file.model().unwrap();
    let off = values.iter().zip(&read).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(off > 0.0 && off < 0.2 / 127.0, "{off}");
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
    refused("general.architecture", Value::Text("mamba".to_owned()));
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
    assert_eq!(bench.open().model().unwrap().0, llama());
}

#[test]
fn tensors_without_a_place_and_missing_ones_are_refused() {
    let bench = Bench::new();
    bench.write_changed(&llama(), |_, tensors| {
        tensors.push(Tensor {
            name: "rope_freqs.weight".to_owned(),
            shape: vec![4],
            precision: Precision::F32,
            values: vec![1.0; 4].into(),
        });
    });
    assert!(bench.refusal().contains("`rope_freqs.weight` has no place"), "{}", bench.refusal());
    bench.write_changed(&llama(), |_, tensors| drop(tensors.remove(3)));
    assert!(bench.refusal().contains("is missing"), "{}", bench.refusal());
    bench.write_changed(&llama(), |_, tensors| tensors[2].shape = vec![24, 32]);
    assert!(bench.refusal().contains("the model needs [32, 24]"), "{}", bench.refusal());
    bench.write_changed(&llama(), |_, tensors| tensors[0].values.to_mut()[5] = f32::INFINITY);
    assert!(bench.refusal().contains("element 5 is inf"), "{}", bench.refusal());
    std::fs::write(&bench.path, &std::fs::read(&bench.path).unwrap()[..2000]).unwrap();
    assert!(bench.refusal().contains("cut short"), "{}", bench.refusal());
}

#[test]
fn a_model_without_rotation_is_refused() {
    let refusal = Bench::new().write(&GptConfig { rope_theta: None, ..llama() }, None).unwrap_err();
    assert!(refusal.contains("GGUF cannot express this: `rope_theta` is absent"), "{refusal}");
}

/// Texts that touch spaces, digits, other scripts, markers and bytes without a character.
const TEXTS: [&str; 5] =
    ["Once upon a time", "  two  spaces 12345 it's", "Größe 漢字 \u{1f600}", "a<|bos|>b", ""];

fn same_ids(bench: &Bench, tokenizer: &Tokenizer) -> Tokenizer {
    bench.write(&llama(), Some(tokenizer)).unwrap();
    let read = bench.open().tokenizer().unwrap().expect("one was written");
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

/// Up to three tokens end a text; llama.cpp finds others by their names.
#[test]
fn ends_and_the_chat_template_come_back() {
    let bench = Bench::new();
    let (config, tokenizer) = (llama(), llama2c());
    let template = "{% for m in messages %}{{ m.content }}{% endfor %}";
    let model = Model {
        ends: &[7, 2, 9],
        chat_template: Some(template),
        ..Model::new(&config).with_tokenizer(&tokenizer)
    };
    bench.write_as(&model, Precision::F32).unwrap();
    let file = bench.open();
    assert_eq!((file.ends(), file.chat_template()), (vec![2, 7, 9], Some(template)));
    let key = |name: &str| file.container.metadata[&format!("tokenizer.ggml.{name}")].whole();
    assert_eq!(
        [key("eos_token_id"), key("eot_token_id"), key("eom_token_id")],
        [2, 7, 9].map(Some)
    );
    let refusal = bench.write_as(&Model { ends: &[3, 4, 5], ..model }, Precision::F32).unwrap_err();
    assert!(refusal.contains("4 tokens end a text ([2, 3, 4, 5])"), "{refusal}");
    bench.write_changed(&config, |metadata, _| {
        metadata.extend(vocabulary::metadata(&tokenizer, 300).unwrap());
        for (key, value) in metadata.iter_mut() {
            let Value::List(list) = value else { continue };
            match key.as_str() {
                "tokenizer.ggml.tokens" => list[280] = Value::Text("<|im_end|>".to_owned()),
                "tokenizer.ggml.token_type" => list[280] = Value::Whole(3),
                _ => {}
            }
        }
    });
    assert_eq!(bench.open().ends(), [280]);
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
    assert!(refusal.contains("the kind Char has no name in it"), "{refusal}");
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
