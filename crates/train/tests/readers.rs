//! Mutated files for every reader that a run depends on: weights, tokenizers, texts, token files,
//! checkpoints. No panic, and no memory beyond a multiple of the file. Takes seconds;
//! `ANEGPT_FUZZ_SECONDS=3600` makes it take that long.

#[path = "../../mil/tests/fuzzing/allocated.rs"]
mod allocated;
#[path = "../../mil/tests/fuzzing/mod.rs"]
mod fuzzing;

use allocated::peak;
use fuzzing::{Random, for_a_while};
use gpt::GptConfig;
use std::path::Path;
use tokenizer::Tokenizer;

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

fn read_tokenizer(path: &Path) {
    if let Ok(tokenizer) = Tokenizer::load(path) {
        let ids = tokenizer.encode("Once upon a time, \u{e9}\u{1f600}").unwrap_or_default();
        tokenizer.decode(&ids);
        tokenizer.decode(&[0, 1, 2, 259, u32::MAX]);
    }
}

fn read_tokens(path: &Path) {
    if let Ok(file) = data::tokens::TokenFile::open(path) {
        let _ = (file.check_ids(280), file.check_sum());
        let mut head = vec![0; file.len().min(16)];
        file.read(0, &mut head);
    }
}

fn read_texts(path: &Path) {
    let Ok(source) = data::text::TextSource::open(path, "<|endoftext|>") else { return };
    drop((source.text_bytes(), source.sample(1000)));
    let documents: Vec<_> = source.documents().map_while(Result::ok).take(1000).collect();
    if let Some(last) = documents.last() {
        drop(source.documents_from(last.place).next());
    }
}

fn read_state(path: &Path) {
    let directory = path.with_file_name("step-00000001");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::copy(path, directory.join("state.json")).unwrap();
    drop(train::Checkpoint::open(&directory));
}

fn read_config(path: &Path) {
    if let Ok(text) = std::fs::read_to_string(path) {
        drop(formats::hugging_face::read_config(&text));
    }
}

/// Extension, a valid file, and its reader.
type Case = (&'static str, Vec<u8>, fn(&Path));

fn tokenizers() -> Vec<Case> {
    let text = data::synth::Stories::new(1).text(4000);
    let bpe = Tokenizer::train_bpe([&text], 280, &mut |_| {}).unwrap().to_json().unwrap();
    let characters = Tokenizer::train_char([&text]).unwrap().to_json().unwrap();
    let mut llama2c = 8i32.to_le_bytes().to_vec();
    for piece in ["<unk>", "\n<s>\n", "\n</s>\n", "a", "b", "ab", " a", " "] {
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

fn read_gguf(path: &Path) {
    let Ok(mut file) = formats::gguf::GgufFile::open(path) else { return };
    drop((file.model(), file.tokenizer(), file.ends()));
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
        ("bin", llama2c, |path| drop(formats::llama2c::read(path))),
        ("bin", quantized, |path| drop(formats::llama2c::read(path))),
        ("gguf", std::fs::read(gguf).unwrap(), read_gguf),
        ("safetensors", file("model.safetensors"), |path| {
            drop(formats::hugging_face::read_safetensors(path, &small()));
        }),
        ("json", file("state.json"), read_state),
        ("json", config.to_string().into_bytes(), read_config),
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
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/tests/parquet");
    let file = |name: &str| std::fs::read(directory.join(name)).unwrap();
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
    let mut random = Random::of_run();
    let mut files = 0u64;
    for_a_while(|| {
        for (extension, valid, read) in &cases {
            let bytes = mutate(valid, &mut random);
            let path = directory.path().join(format!("file.{extension}"));
            std::fs::write(&path, &bytes).unwrap();
            let peak = peak(|| read(&path));
            // JSON may hold many small objects; a few megabytes are tables and read buffers.
            let size = bytes.len();
            let allowed = 8_000_000 + 200 * size;
            let shown = bytes[..size.min(4000)].escape_ascii();
            assert!(peak < allowed, "{extension}: {peak} bytes for a file of {size}: {shown}");
            files += 1;
        }
    });
    assert!(files > 9, "{files} files");
}
