//! Damaged files of every format: each is refused with a reason, and none ends the program.
//!
//! A table of damages that have a name, each with words of its reason; then every truncation, and every
//! byte of the headers changed in several ways.

use formats::gguf::{self, GgufFile};
use formats::llama2c::{self, Version};
use formats::{Model, Precision, hugging_face};
use gpt::{GptConfig, initialise};
use std::path::{Path, PathBuf};
use tokenizer::Tokenizer;

/// A small Llama whose rows are made of whole blocks.
fn small() -> GptConfig {
    GptConfig {
        n_layer: 1,
        n_head: 2,
        n_kv_head: 1,
        n_embd: 32,
        head_dim: 16,
        hidden: 32,
        vocab_size: 264,
        seq_len: 8,
        rope_theta: Some(1e4),
        norm_eps: 1e-5,
        ..GptConfig::default()
    }
}

/// A good file, and what reads it.
struct Format {
    directory: tempfile::TempDir,
    file: &'static str,
    good: Vec<u8>,
    read: fn(&Path) -> Result<(), String>,
}

impl Format {
    fn new(
        file: &'static str,
        write: impl FnOnce(&Path),
        read: fn(&Path) -> Result<(), String>,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path());
        let good = std::fs::read(directory.path().join(file)).unwrap();
        let format = Format { directory, file, good, read };
        assert_eq!(format.outcome(&format.good), Ok(()));
        format
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join(self.file)
    }

    fn outcome(&self, bytes: &[u8]) -> Result<(), String> {
        std::fs::write(self.path(), bytes).unwrap();
        (self.read)(&self.path())
    }

    /// The file with one damage is refused with these words.
    fn refuses(&self, damage: impl FnOnce(&mut Vec<u8>), says: &str) {
        let mut bytes = self.good.clone();
        damage(&mut bytes);
        assert!(bytes != self.good, "{}: {says}: it is not damaged", self.file);
        let reason = self.outcome(&bytes).expect_err(says);
        assert!(reason.contains(says), "{}: expected `{says}` in: {reason}", self.file);
    }

    /// No truncation is read; a changed byte in these places may be read or refused.
    fn sweep(&self, places: impl Iterator<Item = usize>) {
        for length in (0..self.good.len()).filter(|n| n % 97 == 0) {
            let reason = self.outcome(&self.good[..length]).expect_err("it is cut short");
            assert!(!reason.is_empty());
        }
        for at in places {
            let mut bytes = self.good.clone();
            bytes[at] ^= [0x01, 0x80, 0xff][at % 3];
            drop(self.outcome(&bytes));
        }
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn read_llama2c(path: &Path) -> Result<(), String> {
    llama2c::read(path).map(drop).map_err(text)
}

fn of_llama2c(version: Version) -> Format {
    let write = |directory: &Path| {
        let values = initialise(&small(), 1);
        llama2c::write(&directory.join("model.bin"), &small(), &values, version).unwrap();
    };
    Format::new("model.bin", write, read_llama2c)
}

fn of_gguf() -> Format {
    let write = |directory: &Path| {
        let tokenizer = Tokenizer::train_bpe(["ab ab ab"], 260, &mut |_| {}).unwrap();
        let (config, values) = (small(), initialise(&small(), 1));
        let model = Model::new(&config).with_tokenizer(&tokenizer);
        gguf::write(&directory.join("model.gguf"), &model, &values, Precision::Q8_0).unwrap();
    };
    let read = |path: &Path| {
        let mut file = GgufFile::open(path).map_err(text)?;
        file.model().map_err(text)?;
        file.tokenizer().map(drop).map_err(text)
    };
    Format::new("model.gguf", write, read)
}

fn write_directory(directory: &Path) {
    let (config, values) = (small(), initialise(&small(), 1));
    let tokenizer = Tokenizer::train_bpe(["ab ab ab"], 260, &mut |_| {}).unwrap();
    let model = Model::new(&config).with_tokenizer(&tokenizer);
    let (reader, most) = (hugging_face::Reader::Anegpt, Some(9_000));
    hugging_face::write(directory, &model, &values, Precision::F32, most, reader).unwrap();
    hugging_face::write_safetensors(&directory.join("model.safetensors"), &config, &values)
        .unwrap();
}

fn of_safetensors() -> Format {
    let read = |path: &Path| hugging_face::read_safetensors(path, &small()).map(drop).map_err(text);
    Format::new("model.safetensors", write_directory, read)
}

fn of_index() -> Format {
    let read = |path: &Path| hugging_face::read_sharded(path, &small()).map(drop).map_err(text);
    Format::new("model.safetensors.index.json", write_directory, read)
}

fn of_config() -> Format {
    let read = |path: &Path| {
        let bytes = std::fs::read(path).unwrap();
        hugging_face::read_config(&String::from_utf8_lossy(&bytes)).map(drop)
    };
    Format::new("config.json", write_directory, read)
}

/// Where `part` begins.
fn find(bytes: &[u8], part: &[u8]) -> usize {
    let found = bytes.windows(part.len()).position(|window| window == part);
    found.unwrap_or_else(|| panic!("{} is in the file", String::from_utf8_lossy(part)))
}

/// Puts `with` where `part` begins, `after` bytes behind its end.
fn put(part: &'static str, after: usize, with: impl AsRef<[u8]>) -> impl FnOnce(&mut Vec<u8>) {
    move |bytes| {
        let (at, with) = (find(bytes, part.as_bytes()) + part.len() + after, with.as_ref());
        bytes[at..at + with.len()].copy_from_slice(with);
    }
}

/// Puts `with` at a place of its own.
fn at(place: usize, with: impl AsRef<[u8]>) -> impl FnOnce(&mut Vec<u8>) {
    move |bytes| bytes[place..place + with.as_ref().len()].copy_from_slice(with.as_ref())
}

/// Replaces a text by one of another length.
fn replace(part: &'static str, with: &'static str) -> impl FnOnce(&mut Vec<u8>) {
    move |bytes| {
        let place = find(bytes, part.as_bytes());
        bytes.splice(place..place + part.len(), with.bytes());
    }
}

fn cut(length: usize) -> impl FnOnce(&mut Vec<u8>) {
    move |bytes| bytes.truncate(length)
}

fn last(with: [u8; 4]) -> impl FnOnce(&mut Vec<u8>) {
    move |bytes| {
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&with);
    }
}

#[test]
fn damaged_gguf_files_are_refused() {
    let file = of_gguf();
    let huge = u64::MAX.to_le_bytes();
    file.refuses(cut(0), "cut short");
    file.refuses(cut(3000), "cut short");
    file.refuses(at(0, "GGML"), "does not begin with GGUF");
    file.refuses(at(4, [1]), "version 1; 2 and 3 are read");
    file.refuses(at(4, [0, 0, 0, 3]), "it is big-endian");
    file.refuses(at(8, huge), "it claims 18446744073709551615 tensors");
    file.refuses(at(16, huge), "18446744073709551615 keys: it is cut short");
    file.refuses(at(16, [3, 0, 0, 0]), "");
    file.refuses(at(24, huge), "a text of 18446744073709551615 bytes");
    // A key is followed by the type of its value, a list by that of its elements and their number.
    file.refuses(put("llama.block_count", 0, [99]), "`llama.block_count` has a value of type 99");
    file.refuses(put("llama.block_count", 0, [6]), "`llama.block_count` is");
    file.refuses(put("llama.block_count", 4, [0]), "`n_layer` is 0");
    file.refuses(put("llama.block_count", 4, [2]), "tensor `blk.1.attn_norm.weight` is missing");
    file.refuses(put("llama.block_count", 4, [200, 0]), "200 layers have at least as many tensors");
    file.refuses(put("llama.block_count", 4, [255; 4]), "larger than any model");
    file.refuses(put("llama.embedding_length", 4, [64]), "the model needs");
    file.refuses(put("llama.attention.head_count", 4, [3]), "");
    file.refuses(
        replace("llama.context_length", "llamb.context_length"),
        "`llama.context_length` is missing",
    );
    file.refuses(replace("general.file_type", "general.alignment"), "not a power of two");
    file.refuses(replace("llama.vocab_size", "llama.block_coun"), "`llama.block_coun`");
    file.refuses(put("general.architecture", 12, "mamba"), "`general.architecture` is mamba");
    file.refuses(put("general.architecture", 12, [0xff]), "not UTF-8");
    file.refuses(put("tokenizer.ggml.tokens", 4, [9]), "has a value of type 9");
    file.refuses(put("tokenizer.ggml.tokens", 8, huge), "cut short");
    file.refuses(put("tokenizer.ggml.tokens", 8, [7]), "");
    file.refuses(put("tokenizer.ggml.token_type", 8, [9]), "");
    file.refuses(put("tokenizer.ggml.model", 12, "gpt9"), "`tokenizer.ggml.model` is gpt9");
    file.refuses(put("tokenizer.ggml.pre", 12, "gpt-9"), "`tokenizer.ggml.pre` is gpt-9");
    file.refuses(put("tokenizer.ggml.merges", 24, "z"), "");
    // A tensor's name is followed by its rank, its extents, its type and its place.
    file.refuses(put("token_embd.weight", 0, [5]), "tensor `token_embd.weight` has 5 axes");
    file.refuses(put("token_embd.weight", 4, huge), "tensor `token_embd.weight` has the shape");
    file.refuses(
        put("token_embd.weight", 20, [12]),
        "tensor `token_embd.weight` has the type Q4_K",
    );
    file.refuses(put("token_embd.weight", 20, [77]), "tensor `token_embd.weight` has type 77");
    file.refuses(put("token_embd.weight", 24, [32]), "tensor `token_embd.weight` begins at 32");
    file.refuses(
        put("blk.0.attn_k.weight", 24, [0; 8]),
        "tensor `blk.0.attn_k.weight` begins at 0",
    );
    file.refuses(put("blk.0.attn_k.weight", 12, [17]), "begins at");
    file.refuses(replace("blk.0.attn_q.weight", "blk.0.attn_k.weight"), "is there twice");
    file.refuses(
        replace("blk.0.attn_q.weight", "blk.0.attn_x.weight"),
        "`blk.0.attn_q.weight` is missing",
    );
    // The last tensor is the gain of the last norm: 32 floats.
    file.refuses(last(f32::NAN.to_le_bytes()), "element 31 is NaN, not a number");
    let key = |name: &str| find(&file.good, name.as_bytes());
    let tokens = key("tokenizer.ggml.tokens") + 64;
    let rest = key("tokenizer.ggml.merges")..key("output_norm.weight") + 64;
    file.sweep((0..tokens).chain(rest));
}

#[test]
fn damaged_llama2c_files_are_refused() {
    let word = |value: i32| value.to_le_bytes();
    let file = of_llama2c(Version::V0);
    file.refuses(cut(0), "it has 0 bytes");
    file.refuses(cut(27), "the header alone takes 28");
    file.refuses(|bytes| bytes.truncate(bytes.len() - 1), "truncated, or another version");
    file.refuses(|bytes| bytes.push(0), "truncated, or another version");
    file.refuses(at(0, word(-32)), "dim = -32");
    file.refuses(at(4, word(0)), "hidden_dim = 0");
    file.refuses(at(8, word(i32::MAX)), "`n_layer` is 2147483647: it is larger than any model");
    file.refuses(at(8, word(4000)), "asks for more than its");
    file.refuses(at(12, word(5)), "dim = 32, which 5 heads do not divide");
    file.refuses(at(16, word(3)), "`n_kv_head` is 3: it must divide n_head");
    file.refuses(at(20, word(i32::MIN)), "vocab_size = 0");
    file.refuses(at(24, word(1 << 20)), "asks for");
    file.refuses(at(28, f32::INFINITY.to_le_bytes()), "element 0 is inf, not a number");
    file.sweep(0..32);
    let file = of_llama2c(Version::V1);
    file.refuses(cut(200), "the header alone takes 256");
    file.refuses(at(4, word(7)), "it is of version 7; 0, 1 and 2 are read");
    file.refuses(at(36, [9]), "its header says 9 where it is 0 or 1");
    file.refuses(at(28, word(-264)), "vocab_size = -264");
    file.sweep(0..44);
    let file = of_llama2c(Version::V2);
    file.refuses(at(37, word(0)), "group_size = 0");
    file.refuses(at(37, word(i32::MAX)), "group_size = 2147483647, which does not divide");
    file.refuses(at(37, word(16)), "truncated, or another version");
    file.refuses(last(f32::NAN.to_le_bytes()), "is NaN, not a number");
    file.sweep(0..44);
}

#[test]
fn damaged_safetensors_files_are_refused() {
    let file = of_safetensors();
    let norm = "\"model.norm.weight\":{\"dtype\":\"F32\",\"shape\":[32]";
    file.refuses(cut(0), "not even a header");
    file.refuses(cut(100), "claims a header of");
    file.refuses(|bytes| bytes.truncate(bytes.len() - 1), "but its header speaks of");
    file.refuses(|bytes| bytes.push(0), "but its header speaks of");
    file.refuses(at(0, u64::MAX.to_le_bytes()), "claims a header of 18446744073709551615 bytes");
    file.refuses(at(8, "["), "is not a safetensors file");
    file.refuses(replace("\"F32\"", "\"F99\""), "is not a safetensors file");
    file.refuses(replace("\"F32\"", "\"I32\""), "has type I32; F32, F16 and BF16 are read");
    file.refuses(replace("\"F32\"", "\"F16\""), "is not a safetensors file");
    file.refuses(
        replace("\"data_offsets\":[0,", "\"data_offsets\":[4,"),
        "is not a safetensors file",
    );
    file.refuses(
        replace("\"data_offsets\":[0,", "\"data_offsets\":[-,"),
        "is not a safetensors file",
    );
    file.refuses(replace("q_proj.weight", "k_proj.weight"), "is not a safetensors file");
    file.refuses(replace("q_proj.weight", "x_proj.weight"), "q_proj.weight` is missing");
    file.refuses(replace("[264,32]", "[32,264]"), "has shape [32, 264], the model needs [264, 32]");
    file.refuses(replace("[264,32]", "[264,33]"), "is not a safetensors file");
    file.refuses(replace(norm, norm.replace("[32]", "[-1]").leak()), "is not a safetensors file");
    file.refuses(last(f32::NAN.to_le_bytes()), "is NaN, not a number");
    file.sweep(0..find(&file.good, b"}}"));
}

#[test]
fn damaged_directories_are_refused() {
    let index = of_index();
    let shards = hugging_face::read_index(std::str::from_utf8(&index.good).unwrap()).unwrap();
    assert!(shards.len() > 3, "{shards:?}");
    let shard: &'static str = shards[4].clone().leak();
    index.refuses(cut(40), "is not an index of safetensors files");
    index.refuses(replace("\"weight_map\"", "\"weight_mop\""), "missing field `weight_map`");
    index.refuses(replace(shard, "../model.safetensors"), "not the name of a file beside it");
    index.refuses(replace(shard, "/tmp/model.safetensors"), "not the name of a file beside it");
    index.refuses(replace(shard, "model-00099.safetensors"), "cannot read");
    index.refuses(replace("model.norm.weight", "model.norm.bias"), "model.norm");
    std::fs::write(index.directory.path().join(shard), "").unwrap();
    let reason = index.outcome(&index.good).unwrap_err();
    assert!(reason.contains(shard) && reason.contains("not even a header"), "{reason}");
    let config = of_config();
    config.refuses(cut(60), "EOF while parsing");
    config.refuses(
        replace("\"num_hidden_layers\": 1", "\"num_hidden_layers\": -1"),
        "not a whole number",
    );
    config.refuses(
        replace("\"num_hidden_layers\": 1", "\"num_hidden_layers\": 1e9"),
        "num_hidden_layers",
    );
    config.refuses(
        replace("\"num_hidden_layers\": 1", "\"num_hidden_layers\": 99999999"),
        "larger than any model",
    );
    config.refuses(replace("\"llama\"", "\"mamba\""), "`model_type` is `mamba`");
    config
        .refuses(replace("LlamaForCausalLM", "LlamaForTokenClassification"), "`architectures` is");
    config.refuses(replace("\"hidden_size\"", "\"hidden_sise\""), "`hidden_size` is missing");
    config.refuses(
        replace("\"num_key_value_heads\": 1", "\"num_key_value_heads\": 0"),
        "`n_kv_head` is 0",
    );
    config.sweep(0..config.good.len());
}
