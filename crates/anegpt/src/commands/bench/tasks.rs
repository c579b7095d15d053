//! Measurements beside training: generation, tokenizer, checkpoints.

use super::spread::Spread;
use super::{Effort, host, random_tokens};
use crate::machine::{self, DeviceChoice, Kind, Machine};
use anyhow::{Context, Result};
use data::synth::Stories;
use gpt::slots::MOST_COLUMNS;
use gpt::{Column, Decoder, GptConfig, Layout, Parameters, SlotDecoder, SlotOptions};
use infer::{Sampler, Sampling};
use serde::Serialize;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;
use tokenizer::Tokenizer;
use train::checkpoint::{self, Contents, Tensors};

/// Texts that are continued together.
const TEXTS: usize = 8;

/// Tokens per second of one device.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Generation {
    pub(super) device: String,
    /// The most tokens that the device takes at once. On an engine, fewer cost as much.
    pub(super) chunk: usize,
    pub(super) prompt_tokens: usize,
    pub(super) prompt_tokens_per_s: f64,
    pub(super) prompt_ms: Spread,
    pub(super) new_tokens: usize,
    /// Sampling at temperature 0.8 with a nucleus of 0.95 included.
    pub(super) tokens_per_s: f64,
    pub(super) token_ms: Spread,
    /// Several texts together; absent on devices that continue one at a time.
    pub(super) together: Option<Together>,
}

/// Texts that are continued together, a token of each at a time.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Together {
    pub(super) texts: usize,
    /// Of all texts.
    pub(super) tokens_per_s: f64,
    pub(super) pass_ms: Spread,
}

/// On the CPU in single precision, where `anegpt generate` runs unless told otherwise, and on the
/// device of the benchmark, where samples are drawn in training.
pub(super) fn generation(
    config: &GptConfig,
    params: &[f32],
    machine: &Machine,
    effort: &Effort,
) -> Result<Vec<Generation>> {
    let parameters = Parameters::new(config, params.to_vec());
    let mut found = vec![];
    if machine.kind != Kind::Cpu {
        let device = machine.device.as_ref();
        let chunk = device.least_width();
        let mut decoder = Decoder::new(&parameters, chunk, device, machine.numerics)?;
        let pass = |tokens: &[u32], anew: bool| {
            if anew {
                decoder.reset();
            }
            Ok(decoder.feed(tokens)?)
        };
        found.push(one_text(config, (device.describe(), chunk), effort, pass)?);
    }
    let on = machine::open(DeviceChoice::Cpu, None, None)?.device.describe();
    let weights = infer::WeightFormat::F32;
    let slots = SlotOptions { slots: TEXTS, context: config.seq_len, weights };
    let mut decoder = SlotDecoder::new(&parameters, slots)?;
    let pass = |tokens: &[u32], anew: bool| {
        if anew {
            decoder.truncate(0, 0);
        }
        let mut logits = vec![];
        for (index, part) in tokens.chunks(MOST_COLUMNS).enumerate() {
            let end = tokens.len() - index * MOST_COLUMNS;
            let column = |(t, &token)| Column { slot: 0, token, logits: t + 1 == end };
            logits =
                decoder.forward(&part.iter().enumerate().map(column).collect::<Vec<_>>())?.to_vec();
        }
        Ok(logits)
    };
    let mut one = one_text(config, (on, MOST_COLUMNS), effort, pass)?;
    one.together = Some(together(&mut decoder, effort)?);
    found.push(one);
    Ok(found)
}

/// Tokens that are read, and as many as are then written.
fn lengths(config: &GptConfig, effort: &Effort) -> (usize, usize) {
    let prompt = effort.tokens.min(config.seq_len / 2).max(1);
    (prompt, effort.tokens.min(config.seq_len - prompt).max(1))
}

/// True once there are rounds enough.
fn is_enough(round: usize, started: Instant, effort: &Effort) -> bool {
    round >= effort.rounds || round >= 3 && started.elapsed() > effort.limit
}

/// Measures one text. `pass` takes tokens, of a new text if so told, and returns the logits after the last one.
fn one_text(
    config: &GptConfig,
    (device, chunk): (String, usize),
    effort: &Effort,
    mut pass: impl FnMut(&[u32], bool) -> Result<Vec<f32>>,
) -> Result<Generation> {
    let (prompt_tokens, new_tokens) = lengths(config, effort);
    let prompt = random_tokens(prompt_tokens, config.vocab_size);
    let (mut prompt_ms, mut token_ms) = (vec![], vec![]);
    // What is compiled for these sizes.
    pass(&prompt, true)?;
    pass(&prompt[..1], true)?;
    let started = Instant::now();
    for round in 0.. {
        if is_enough(round, started, effort) {
            break;
        }
        let mut sampler = Sampler::new(Sampling::default(), 1);
        let start = Instant::now();
        let mut logits = pass(&prompt, true)?;
        prompt_ms.push(1e3 * start.elapsed().as_secs_f64());
        for _ in 0..new_tokens {
            let start = Instant::now();
            let next = sampler.choose(&logits);
            logits = pass(&[next], false)?;
            token_ms.push(1e3 * start.elapsed().as_secs_f64());
        }
    }
    let (prompt_ms, token_ms) = (Spread::of(prompt_ms), Spread::of(token_ms));
    Ok(Generation {
        device,
        chunk,
        prompt_tokens,
        prompt_tokens_per_s: 1e3 * prompt_tokens as f64 / prompt_ms.median,
        prompt_ms,
        new_tokens,
        tokens_per_s: 1e3 / token_ms.median,
        token_ms,
        together: None,
    })
}

/// Measures all slots of a decoder, each with a text of its own.
fn together(decoder: &mut SlotDecoder, effort: &Effort) -> Result<Together> {
    let (texts, vocabulary) = (decoder.slots(), decoder.config().vocab_size);
    let (_, new_tokens) = lengths(decoder.config(), effort);
    let first = random_tokens(texts, vocabulary);
    let mut pass_ms = vec![];
    let started = Instant::now();
    for round in 0.. {
        if is_enough(round, started, effort) {
            break;
        }
        let mut samplers: Vec<Sampler> =
            (0..texts).map(|slot| Sampler::new(Sampling::default(), slot as u64)).collect();
        (0..texts).for_each(|slot| decoder.truncate(slot, 0));
        let mut tokens = first.clone();
        for _ in 0..new_tokens {
            let start = Instant::now();
            let column = |(slot, &token)| Column { slot, token, logits: true };
            let columns: Vec<Column> = tokens.iter().enumerate().map(column).collect();
            let logits = decoder.forward(&columns)?;
            let rows = samplers.iter_mut().zip(logits.chunks_exact(vocabulary));
            tokens = rows.map(|(sampler, logits)| sampler.choose(logits)).collect();
            pass_ms.push(1e3 * start.elapsed().as_secs_f64());
        }
    }
    let pass_ms = Spread::of(pass_ms);
    Ok(Together { texts, tokens_per_s: 1e3 * texts as f64 / pass_ms.median, pass_ms })
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
