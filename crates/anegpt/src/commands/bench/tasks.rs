//! Measurements beside training: generation, tokenizer, checkpoints.

use super::spread::Spread;
use super::{Effort, host, random_tokens};
use crate::machine::{self, DeviceChoice, Kind, Machine};
use anyhow::{Context, Result};
use data::synth::Stories;
use gpt::{Decoder, GptConfig, Layout, Parameters};
use infer::{Sampler, Sampling};
use serde::Serialize;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;
use tokenizer::Tokenizer;
use train::checkpoint::{self, Contents, Tensors};

/// Tokens per second of one device.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Generation {
    pub(super) device: String,
    /// Tokens that the device takes at once; a chunk that is not full costs as much.
    pub(super) chunk: usize,
    pub(super) prompt_tokens: usize,
    pub(super) prompt_tokens_per_s: f64,
    pub(super) prompt_ms: Spread,
    pub(super) new_tokens: usize,
    /// Sampling at temperature 0.8 with a nucleus of 0.95 included.
    pub(super) tokens_per_s: f64,
    pub(super) token_ms: Spread,
}

/// On the CPU in single precision, where `anegpt generate` runs unless told otherwise, and on the
/// device of the benchmark, where samples are drawn in training.
pub(super) fn generation(
    config: &GptConfig,
    params: &[f32],
    machine: &Machine,
    effort: &Effort,
) -> Result<Vec<Generation>> {
    let mut found = vec![];
    if machine.kind != Kind::Cpu {
        found.push(generate(config, params, machine, effort)?);
    }
    let cpu = match machine.kind {
        Kind::Cpu => machine,
        _ => &machine::open(DeviceChoice::Cpu, None, None)?,
    };
    found.push(generate(config, params, cpu, effort)?);
    Ok(found)
}

fn generate(
    config: &GptConfig,
    params: &[f32],
    machine: &Machine,
    effort: &Effort,
) -> Result<Generation> {
    let device = machine.device.as_ref();
    let chunk = device.least_width();
    let prompt_tokens = effort.tokens.min(config.seq_len / 2).max(1);
    let new_tokens = effort.tokens.min(config.seq_len - prompt_tokens).max(1);
    let parameters = Parameters::new(config, params.to_vec());
    let mut decoder = Decoder::new(&parameters, chunk, device, machine.numerics)?;
    let prompt = random_tokens(prompt_tokens, config.vocab_size);
    let (mut prompt_ms, mut token_ms) = (vec![], vec![]);
    let started = Instant::now();
    decoder.feed(&prompt[..1])?;
    for round in 0..effort.rounds {
        if round >= 3 && started.elapsed() > effort.limit {
            break;
        }
        decoder.reset();
        let mut sampler = Sampler::new(Sampling::default(), 1);
        let start = Instant::now();
        let mut logits = decoder.feed(&prompt)?;
        prompt_ms.push(1e3 * start.elapsed().as_secs_f64());
        for _ in 0..new_tokens {
            let start = Instant::now();
            let next = sampler.choose(&logits);
            logits = decoder.feed(&[next])?;
            token_ms.push(1e3 * start.elapsed().as_secs_f64());
        }
    }
    let (prompt_ms, token_ms) = (Spread::of(prompt_ms), Spread::of(token_ms));
    Ok(Generation {
        device: device.describe(),
        chunk,
        prompt_tokens,
        prompt_tokens_per_s: 1e3 * prompt_tokens as f64 / prompt_ms.median,
        prompt_ms,
        new_tokens,
        tokens_per_s: 1e3 / token_ms.median,
        token_ms,
    })
}

/// Text to tokens, on one thread.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Encoding {
    pub(super) vocab_size: usize,
    pub(super) text_bytes: usize,
    pub(super) tokens: usize,
    pub(super) ms: Spread,
    pub(super) mb_per_s: f64,
    pub(super) tokens_per_s: f64,
    /// Learning the vocabulary from as many bytes as [`LEARN_BYTES`], once.
    pub(super) learn_ms: f64,
}

/// Bytes that the vocabulary is learned from.
const LEARN_BYTES: usize = 500_000;
/// Tokens of the vocabulary, as in training on synthetic stories.
const VOCABULARY: usize = 2048;

/// Encodes generated stories with a vocabulary learned from others.
pub(super) fn tokenizer(effort: &Effort) -> Result<Encoding> {
    let learn = Stories::new(1).text(LEARN_BYTES.min(effort.text_bytes));
    let start = Instant::now();
    let tokenizer = Tokenizer::train_bpe([&learn], VOCABULARY, &mut |_| {})?;
    let learn_ms = 1e3 * start.elapsed().as_secs_f64();
    let text = Stories::new(2).text(effort.text_bytes);
    let mut tokens = tokenizer.encode(&text)?.len();
    let mut ms = vec![];
    for _ in 0..effort.rounds {
        let start = Instant::now();
        tokens = tokenizer.encode(&text)?.len();
        ms.push(1e3 * start.elapsed().as_secs_f64());
    }
    let ms = Spread::of(ms);
    Ok(Encoding {
        vocab_size: tokenizer.vocab_size(),
        text_bytes: text.len(),
        tokens,
        mb_per_s: text.len() as f64 / ms.median / 1e3,
        tokens_per_s: tokens as f64 / ms.median * 1e3,
        ms,
        learn_ms,
    })
}

/// Writing a checkpoint, beside what the disk does.
#[derive(Clone, Debug, Serialize)]
pub(super) struct CheckpointWrite {
    /// Bytes of its files.
    pub(super) bytes: u64,
    /// Type of the file system, where the system tells.
    pub(super) file_system: Option<String>,
    /// With checksums, everything synced, put in place, and the one before removed.
    pub(super) ms: Spread,
    pub(super) mb_per_s: f64,
    /// As many bytes written to one file, 1 MiB at a time, and synced, as `dd conv=fsync` does.
    pub(super) plain_ms: Spread,
    pub(super) plain_mb_per_s: f64,
    /// Speed of the checkpoint as a share of the plain write's.
    pub(super) share: f64,
}

/// Writes checkpoints and plain files of their size in turn.
pub(super) fn checkpoint(
    config: &GptConfig,
    params: &[f32],
    scratch: &Path,
    effort: &Effort,
) -> Result<CheckpointWrite> {
    let directory = scratch.join("checkpoints");
    let plain = scratch.join("plain");
    let layout = Layout::new(config);
    let (mut ms, mut plain_ms) = (vec![], vec![]);
    // The first one shows how large they are, and is not counted.
    let mut bytes = size_of_checkpoint(&write_checkpoint(&directory, &layout, params, 0)?)?;
    let started = Instant::now();
    for round in 0..effort.rounds {
        if round >= 3 && started.elapsed() > effort.limit {
            break;
        }
        let start = Instant::now();
        write_plain(&plain, params, bytes).with_context(|| format!("{}", plain.display()))?;
        plain_ms.push(1e3 * start.elapsed().as_secs_f64());
        std::fs::remove_file(&plain)?;
        let start = Instant::now();
        let path = write_checkpoint(&directory, &layout, params, round as u64 + 1)?;
        ms.push(1e3 * start.elapsed().as_secs_f64());
        bytes = size_of_checkpoint(&path)?;
    }
    let (ms, plain_ms) = (Spread::of(ms), Spread::of(plain_ms));
    Ok(CheckpointWrite {
        bytes,
        file_system: host::file_system(scratch),
        mb_per_s: bytes as f64 / ms.median / 1e3,
        plain_mb_per_s: bytes as f64 / plain_ms.median / 1e3,
        share: plain_ms.median / ms.median,
        ms,
        plain_ms,
    })
}

/// A checkpoint as training writes it: weights and two moments of each, all of the same numbers here.
fn write_checkpoint(
    directory: &Path,
    layout: &Layout,
    params: &[f32],
    step: u64,
) -> Result<std::path::PathBuf> {
    let tensors = |suffix: &str| -> Tensors<'_> {
        (layout.params().iter())
            .map(|p| (format!("{}{suffix}", p.name), p.shape.clone(), params[p.range()].into()))
            .collect()
    };
    let mut moments = tensors(".m");
    moments.extend(tensors(".v"));
    let contents = Contents {
        step,
        best: None,
        tensors: vec![("model.safetensors", tensors("")), ("optimizer.safetensors", moments)],
        texts: vec![],
        state: serde_json::Value::Null,
    };
    Ok(checkpoint::write(directory, &contents, 1)?)
}

fn size_of_checkpoint(path: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(path)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}

/// `bytes` bytes of `data`, over and over, to a new file.
fn write_plain(path: &Path, data: &[f32], bytes: u64) -> std::io::Result<()> {
    const BLOCK: usize = 1 << 20;
    let mut block: Vec<u8> = data.iter().take(BLOCK / 4).flat_map(|v| v.to_le_bytes()).collect();
    block.resize(BLOCK, 0);
    let mut file = File::create(path)?;
    let mut left = bytes;
    while left > 0 {
        let now = left.min(BLOCK as u64);
        file.write_all(&block[..now as usize])?;
        left -= now;
    }
    file.sync_all()
}
