//! Mutated files for every reader of what comes from elsewhere: weights, configurations, adapters, tokenizers, chat
//! templates, texts, token files, checkpoints, conversations and tasks. No panic, and no memory beyond a multiple of the file. Takes seconds;
//! `ANEGPT_FUZZ_SECONDS=3600` makes it take that long.

#[path = "../../mil/tests/fuzzing/allocated.rs"]
mod allocated;
#[path = "../../mil/tests/fuzzing/mod.rs"]
mod fuzzing;

use allocated::peak;
use fuzzing::{Random, for_a_while};
use gpt::GptConfig;
use std::path::Path;
use tasks::{Conversations, JsonLines, Split};
use tokenizer::Tokenizer;
use tokenizer::chat::{ChatTemplate, Message, Role};

/// Flips, replaces, cuts, repeats.
fn mutate(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(out.len());
        match random.below(6) {
            0 if !out.is_empty() => out[at] ^= 1 << random.below(8),
            1 if !out.is_empty() => {
                out[at] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'{', b'9'][random.below(8)];
            }
            2 => out.truncate(at),
            3 if out.len() >= 8 => {
                let at = at.min(out.len() - 8);
                let n = [0, 1, u64::MAX, 1 << 31, 1 << 40, i64::MAX as u64][random.below(6)];
                out[at..at + 8].copy_from_slice(&n.to_le_bytes());
            }
            4 => {
                let piece = out[at..(at + random.below(64)).min(out.len())].to_vec();
                out.splice(at..at, piece);
            }
            _ => {
                let end = (at + random.below(64)).min(out.len());
                out.drain(at..end);
            }
        }
    }
    out
}

fn small() -> GptConfig {
    GptConfig {
        n_layer: 1,
        n_head: 1,
        n_kv_head: 1,
        n_embd: 4,
        head_dim: 4,
        hidden: 8,
        vocab_size: 8,
        seq_len: 4,
        ..GptConfig::preset("tiny").expect("a preset")
    }
}

fn read_tokenizer(path: &Path) -> bool {
    let Ok(tokenizer) = Tokenizer::load(path) else { return false };
    let ids = tokenizer.encode("Once upon a time, \u{e9}\u{1f600}").unwrap_or_default();
    tokenizer.decode(&ids);
    tokenizer.decode(&[0, 1, 2, 259, u32::MAX]);
    true
}

fn read_tokens(path: &Path) -> bool {
    let Ok(file) = data::tokens::TokenFile::open(path) else { return false };
    let sound = file.check_ids(300).is_ok() && file.check_sum().is_ok();
    let mut head = vec![0; file.len().min(16)];
    file.read(0, &mut head);
    sound
}

fn read_texts(path: &Path) -> bool {
    let Ok(source) = data::text::TextSource::open(path, "<|endoftext|>") else { return false };
    drop((source.text_bytes(), source.sample(1000)));
    let documents: Vec<_> = source.documents().map_while(Result::ok).take(1000).collect();
    let Some(last) = documents.last() else { return false };
    drop(source.documents_from(last.place).next());
    true
}

fn read_state(path: &Path) -> bool {
    among(path, "step-00000001", "state.json", |directory| {
        train::Checkpoint::open(directory).is_ok()
    })
}

fn read_weights(path: &Path) -> bool {
    formats::hugging_face::read_safetensors(path, &small()).is_ok()
}

fn read_llama2c(path: &Path) -> bool {
    formats::llama2c::read(path).is_ok()
}

fn read_gguf(path: &Path) -> bool {
    let Ok(mut file) = formats::gguf::GgufFile::open(path) else { return false };
    drop(file.ends());
    file.model().is_ok() & file.tokenizer().is_ok()
}

/// Reads the file as each of the small files of a directory of a model; true if it is one of them.
fn read_description(path: &Path) -> bool {
    use formats::hugging_face::{
        read_chat_template, read_config, read_generation_ends, read_index,
    };
    let Ok(text) = std::fs::read_to_string(path) else { return false };
    read_config(&text).is_ok()
        | read_generation_ends(&text).is_ok()
        | read_chat_template(&text).is_ok()
        | read_index(&text).is_ok()
}

fn read_template(path: &Path) -> bool {
    let tokenizer = Tokenizer::load(path.with_file_name(VOCABULARY)).unwrap();
    let Ok(text) = std::fs::read_to_string(path) else { return false };
    let Ok(Some(template)) = ChatTemplate::find(&tokenizer, Some(&text)) else { return false };
    let roles = [Role::User, Role::Assistant, Role::User, Role::Assistant];
    let messages = roles.map(|role| Message::new(role, "abc"));
    drop(template.render(&messages, &tokenizer));
    template.render_for_completion(&messages[..3], &tokenizer).is_ok()
}

fn read_conversations(path: &Path) -> bool {
    let Ok(file) = JsonLines::open(path) else { return false };
    (0..file.len()).all(|index| file.get(index).is_ok())
}

/// Reads a directory in which the file stands in the place of the valid one of that name.
fn among(
    path: &Path,
    directory: &str,
    name: impl AsRef<Path>,
    read: impl FnOnce(&Path) -> bool,
) -> bool {
    let directory = path.with_file_name(directory);
    let place = directory.join(name);
    let valid = std::fs::read(&place).unwrap();
    std::fs::copy(path, &place).unwrap();
    let good = read(&directory);
    std::fs::write(place, valid).unwrap();
    good
}

fn read_adapter(path: &Path, name: &str) -> bool {
    among(path, "adapter", name, |directory| {
        let mut values = gpt::initialise(&small(), 1);
        let Ok(adapter) = formats::peft::Adapter::read(directory) else { return false };
        adapter.merge(&small(), &mut values).is_ok()
    })
}

fn read_bundle(path: &Path, name: &str) -> bool {
    among(path, "bundle", name, |directory| {
        let Ok(bundle) = tasks::core::Bundle::open(directory) else { return false };
        bundle.tasks().iter().all(|task| {
            let Ok(questions) = tasks::core::Questions::read(task, Some(4)) else { return false };
            (0..questions.len()).for_each(|index| drop(questions.texts(index)));
            true
        })
    })
}

fn read_task(path: &Path, name: &str) -> bool {
    let source = tasks::source(name, Split::Test).unwrap().expect("a published task");
    among(path, "tasks", source.directory.join("00000.parquet"), |data| {
        let options = tasks::Options { data, ..Default::default() };
        let Ok(task) = tasks::open(name, Split::Test, &options) else { return false };
        (0..task.len()).all(|index| task.get(index).is_ok())
    })
}

/// Extension, a valid file, and its reader, which tells whether the file is sound.
type Case = (&'static str, Vec<u8>, fn(&Path) -> bool);

/// The tokenizer of [`read_template`].
const VOCABULARY: &str = "vocabulary.json";

/// A file of a test of this workspace.
fn file_of(path: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

/// Tokenizers and templates of many kinds, as other programs write them.
fn vocabularies(scratch: &Path) -> Vec<Case> {
    std::fs::write(scratch.join(VOCABULARY), file_of("tokenizer/tests/goldens/llama2.json"))
        .unwrap();
    let golden = |name: &str| file_of(&format!("tokenizer/tests/goldens/{name}"));
    let mut cases: Vec<Case> = vec![];
    for name in ["gpt2", "llama2", "llama3", "qwen", "nanochat", "o200k", "whole_words"] {
        cases.push(("json", golden(&format!("{name}.json")), read_tokenizer));
    }
    for name in ["bpe_bytes", "bpe_user_defined", "char", "unigram", "unigram_bytes"] {
        cases.push(("model", golden(&format!("{name}.model")), read_tokenizer));
    }
    for name in ["chatml", "expressions", "headers", "inst", "spaces", "thinking"] {
        let text = file_of(&format!("tokenizer/tests/templates/{name}.jinja"));
        cases.push(("jinja", text, read_template));
    }
    cases
}

/// Copies a directory with all that is in it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

/// Conversations, the questions of CORE, and published tasks.
fn questions(scratch: &Path) -> Vec<Case> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../anegpt/tests");
    copy(&tests.join("core/bundle"), &scratch.join("bundle"));
    copy(&tests.join("tasks"), &scratch.join("tasks"));
    let of_core = |name: &str| file_of(&format!("anegpt/tests/core/bundle/{name}"));
    let of_task = |name: &str| {
        let source = tasks::source(name, Split::Test).unwrap().expect("a published task");
        std::fs::read(tests.join("tasks").join(source.directory).join("00000.parquet")).unwrap()
    };
    let talk = br#"{"messages": [{"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": [{"type": "python", "text": "2+2"}, {"type": "text", "text": "4"}]}]}"#;
    let talk = [&talk.map(|c| if c == b'\n' { b' ' } else { c })[..], b"\n"].concat().repeat(2);
    vec![
        ("jsonl", talk, read_conversations),
        ("yaml", of_core("core.yaml"), |path| read_bundle(path, "core.yaml")),
        ("csv", of_core("eval_meta_data.csv"), |path| read_bundle(path, "eval_meta_data.csv")),
        ("jsonl", of_core("eval_data/days.jsonl"), |path| {
            read_bundle(path, "eval_data/days.jsonl")
        }),
        ("parquet", of_task("arc-easy"), |path| read_task(path, "arc-easy")),
        ("parquet", of_task("mmlu"), |path| read_task(path, "mmlu")),
        ("parquet", of_task("gsm8k"), |path| read_task(path, "gsm8k")),
        ("parquet", of_task("humaneval"), |path| read_task(path, "humaneval")),
    ]
}

/// The files of models of all families, and an adapter.
fn descriptions(scratch: &Path) -> Vec<Case> {
    let tokenizer = Tokenizer::train_bpe(["ab ab"], 257, &mut |_| {}).unwrap();
    let mut cases: Vec<Case> = vec![];
    for preset in ["stories15m", "qwen3-0.6b", "gpt2", "nanochat-d4"] {
        let config = GptConfig { vocab_size: 257, ..GptConfig::preset(preset).unwrap() };
        let files = formats::hugging_face::files(&config, &tokenizer).unwrap();
        for (name, text) in files.into_iter().filter(|(name, _)| *name != "tokenizer.json") {
            assert!(name.ends_with(".json"), "{name}");
            cases.push(("json", text.into_bytes(), read_description));
        }
    }
    let index = serde_json::json!({"metadata": {"total_size": 64}, "weight_map": {
        "model.norm.weight": "model-00001-of-00002.safetensors",
        "lm_head.weight": "model-00002-of-00002.safetensors",
    }});
    cases.push(("json", index.to_string().into_bytes(), read_description));

    let adapter = formats::peft::Adapter {
        base: Some("base".to_owned()),
        rank: 2,
        alpha: 4.0,
        factors: vec![formats::peft::Factors {
            module: "model.layers.0.self_attn.q_proj".to_owned(),
            extents: [4, 4],
            a: vec![0.5; 8],
            b: vec![0.25; 8],
        }],
    };
    let directory = scratch.join("adapter");
    std::fs::create_dir(&directory).unwrap();
    adapter.write(&directory).unwrap();
    let mut values = gpt::initialise(&small(), 1);
    formats::peft::Adapter::read(&directory).unwrap().merge(&small(), &mut values).unwrap();
    let file = |name: &str| std::fs::read(directory.join(name)).unwrap();
    cases.push(("json", file("adapter_config.json"), |path| {
        read_adapter(path, "adapter_config.json")
    }));
    cases.push(("safetensors", file("adapter_model.safetensors"), |path| {
        read_adapter(path, "adapter_model.safetensors")
    }));
    cases
}

fn tokenizers() -> Vec<Case> {
    let text = data::synth::Stories::new(1).text(4000);
    let bpe = Tokenizer::train_bpe([&text], 280, &mut |_| {}).unwrap().to_json().unwrap();
    let characters = Tokenizer::train_char([&text]).unwrap().to_json().unwrap();
    let mut llama2c = 8i32.to_le_bytes().to_vec();
    let special = ["<unk>", "\n<s>\n", "\n</s>\n"].map(str::to_owned);
    let bytes = (0..256).map(|byte| format!("<0x{byte:02X}>"));
    let words = ["a", "b", "ab", " a", " "].map(str::to_owned);
    for piece in special.into_iter().chain(bytes).chain(words) {
        llama2c.extend(1.5f32.to_le_bytes());
        llama2c.extend((piece.len() as i32).to_le_bytes());
        llama2c.extend(piece.as_bytes());
    }
    vec![
        ("json", bpe.into_bytes(), read_tokenizer),
        ("json", characters.into_bytes(), read_tokenizer),
        ("bin", llama2c, read_tokenizer),
    ]
}

fn weights_and_checkpoints(scratch: &Path) -> Vec<Case> {
    let layout = gpt::Layout::new(&small());
    let values = gpt::initialise(&small(), 1);
    let header = [4i32, 8, 1, 1, 1, 8, 4];
    let mut llama2c: Vec<u8> = header.iter().flat_map(|w| w.to_le_bytes()).collect();
    (0..layout.count() + 16).for_each(|i| llama2c.extend((i as f32).to_le_bytes()));
    let tensors =
        layout.params().iter().map(|p| (p.name.clone(), p.shape.clone(), values[p.range()].into()));
    let contents = train::checkpoint::Contents {
        step: 1,
        best: None,
        tensors: vec![("model.safetensors", tensors.collect())],
        texts: vec![],
        state: serde_json::json!({"run": 1}),
    };
    let written = train::checkpoint::write(scratch, &contents, 1).unwrap();
    let file = |name: &str| std::fs::read(written.join(name)).unwrap();
    let config = serde_json::json!({
        "hidden_size": 4, "num_attention_heads": 1, "num_hidden_layers": 1, "intermediate_size": 8,
        "vocab_size": 8, "max_position_embeddings": 4, "rms_norm_eps": 1e-5, "rope_theta": 1e4,
    });
    let gguf = scratch.join("model.gguf");
    let vocabulary = Tokenizer::train_bpe(["ab ab"], 257, &mut |_| {}).unwrap();
    let shape = GptConfig { vocab_size: 257, ..small() };
    let model = formats::Model::new(&shape).with_tokenizer(&vocabulary);
    let weights = gpt::initialise(&shape, 1);
    formats::gguf::write(&gguf, &model, &weights, formats::Precision::F16).unwrap();
    let (groups, version) = (scratch.join("groups.bin"), formats::llama2c::Version::V2);
    formats::llama2c::write(&groups, &small(), &values, version).unwrap();
    let quantized = std::fs::read(groups).unwrap();
    vec![
        ("bin", llama2c, read_llama2c),
        ("bin", quantized, read_llama2c),
        ("gguf", std::fs::read(gguf).unwrap(), read_gguf),
        ("safetensors", file("model.safetensors"), read_weights),
        ("json", file("state.json"), read_state),
        ("json", config.to_string().into_bytes(), read_description),
    ]
}

fn token_files(scratch: &Path) -> Vec<Case> {
    let flat = (0..400u16).flat_map(|i| (i % 280).to_le_bytes()).collect();
    let path = scratch.join("shard.bin");
    let format = data::tokens::Format::shard_for(70_000);
    let mut writer = data::tokens::TokenWriter::create(&path, format).unwrap();
    writer.push(&(0..300).collect::<Vec<u32>>()).unwrap();
    writer.finish().unwrap();
    vec![("bin", flat, read_tokens), ("bin", std::fs::read(path).unwrap(), read_tokens)]
}

/// Files of pyarrow, in every kind of page and compression that is read, and the same texts as lines.
fn texts() -> Vec<Case> {
    let file = |name: &str| file_of(&format!("data/tests/parquet/{name}"));
    vec![
        ("parquet", file("snappy_v1.parquet"), read_texts),
        ("parquet", file("zstd_v2.parquet"), read_texts),
        ("parquet", file("plain_v1.parquet"), read_texts),
        ("parquet", file("gzip_v2.parquet"), read_texts),
        ("jsonl", file("texts.jsonl"), read_texts),
    ]
}

#[test]
fn mutated_files_are_read_or_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut cases = tokenizers();
    cases.extend(weights_and_checkpoints(directory.path()));
    cases.extend(token_files(directory.path()));
    cases.extend(texts());
    cases.extend(vocabularies(directory.path()));
    cases.extend(descriptions(directory.path()));
    cases.extend(questions(directory.path()));
    for (extension, valid, read) in &cases {
        let path = directory.path().join(format!("file.{extension}"));
        std::fs::write(&path, valid).unwrap();
        assert!(read(&path), "{extension}: {}", valid[..valid.len().min(400)].escape_ascii());
    }
    let mut random = Random::of_run();
    let mut files = 0u64;
    for_a_while(|| {
        for (extension, valid, read) in &cases {
            let bytes = mutate(valid, &mut random);
            let path = directory.path().join(format!("file.{extension}"));
            std::fs::write(&path, &bytes).unwrap();
            let peak = peak(|| _ = read(&path));
            // JSON may hold many small objects; a few megabytes are tables and read buffers.
            let size = bytes.len();
            let allowed = 8_000_000 + 200 * size;
            let shown = bytes[..size.min(4000)].escape_ascii();
            assert!(peak < allowed, "{extension}: {peak} bytes for a file of {size}: {shown}");
            files += 1;
        }
    });
    assert!(files >= cases.len() as u64, "{files} files");
}
