//! llama2.c checkpoints, of all three versions.
//!
//! - Version 0, which `run.c` reads: seven i32 (dim, hidden, layers, heads, kv heads, vocabulary,
//!   sequence; a negative vocabulary means a classifier of its own), then f32 tensors.
//! - Version 1: the magic number, the version, the seven numbers, a byte that is 1 if the classifier is the
//!   embedding, zeros up to 256 bytes; then f32 tensors.
//! - Version 2, which `runq.c` reads: the same with the size of groups behind that byte; then norms in f32,
//!   and matrices as signed bytes followed by an f32 scale for each group.
//!
//! Tensors of a kind follow each other, layer by layer (`order`); rotary pairs are (2i, 2i+1).

mod groups;
mod order;
#[cfg(test)]
mod tests;
mod vocabulary;

pub use vocabulary::write_tokenizer;

use crate::error::{Fault, WeightsError, check_finite};
use crate::parts::require_llama;
use crate::rotary;
use gpt::{GptConfig, Layout};
use order::{Part, order};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

/// Base of the rotary frequencies and epsilon of the norms, which `run.c` has as constants.
const ROPE_THETA: f64 = 1e4;
const NORM_EPS: f64 = 1e-5;
/// "ak42", with which versions 1 and 2 begin.
const MAGIC: i32 = 0x616b_3432;
/// Bytes before the tensors: of version 0, and of the others.
const SHORT_HEADER: u64 = 28;
const LONG_HEADER: u64 = 256;

/// A version of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// F32, as `run.c` reads it.
    V0,
    /// F32 behind the longer header.
    V1,
    /// Signed bytes in groups, as `runq.c` reads it.
    V2,
}

/// A header: the shape, and how it is stored.
#[derive(Clone, Debug, PartialEq)]
struct Header {
    version: Version,
    config: GptConfig,
    /// Elements of a group.
    group: usize,
}

/// Reads a checkpoint, whose rotary pairs (2i, 2i+1) are moved to (i, i + E/2).
///
/// # Errors
/// When the file cannot be read, its header is no model, its size is not what the header says, or
/// a weight is not a finite number.
pub fn read(path: &Path) -> Result<(GptConfig, Vec<f32>), WeightsError> {
    let (config, mut values) = read_stored(path).map_err(|fault| match fault {
        Fault::Io(source) => WeightsError::Io { path: path.to_owned(), source },
        Fault::Malformed(reason) => WeightsError::Llama2c { path: path.to_owned(), reason },
    })?;
    let layout = Layout::new(&config);
    check_finite(path, &layout, &values)?;
    for param in layout.params().iter().filter(|param| order::is_turned(param)) {
        rotary::to_halves(&mut values[param.range()], config.head_dim, config.n_embd);
    }
    Ok((config, values))
}

/// Reads a checkpoint with rotary pairs as they are stored. Its size is known to be right before memory is
/// taken for it.
fn read_stored(path: &Path) -> Result<(GptConfig, Vec<f32>), Fault> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut reader = BufReader::new(file);
    let header = read_header(&mut reader, length)?;
    // The two norms of each layer, in every version: a small file is refused before its layers are listed.
    let norms = (header.config.n_layer as u64).saturating_mul(8 * header.config.n_embd as u64);
    if length < norms {
        let reason = format!(
            "its header ({}) asks for more than its {length} bytes: truncated, or another version",
            header.config
        );
        return Err(reason.into());
    }
    let layout = Layout::new(&header.config);
    let parts = order(header.version, &layout, &header.config);
    let expected = size(&header, &parts)?;
    if length != expected {
        let reason = format!(
            "its header ({}) asks for {expected} bytes but it has {length}: truncated, or another version",
            header.config
        );
        return Err(reason.into());
    }
    let mut values = vec![0.0f32; layout.count()];
    parts.iter().try_for_each(|part| read_part(&mut reader, &header, part, &mut values))?;
    Ok((header.config, values))
}

/// Writes a checkpoint, which [`read`] reads back: to the same bits, except for version 2.
///
/// # Errors
/// When `run.c` would compute another model (its constants, norms of queries and keys, a width of
/// heads of their own), a weight is not a finite number, or the file cannot be written.
pub fn write(
    path: &Path,
    config: &GptConfig,
    values: &[f32],
    version: Version,
) -> Result<(), WeightsError> {
    let bytes = write_header(version, config)
        .map_err(|reason| WeightsError::Inexpressible { format: "llama2.c", reason })?;
    let layout = Layout::new(config);
    check_finite(path, &layout, values)?;
    let header = Header { version, config: config.clone(), group: groups::size(config) };
    let write = || -> io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        file.write_all(&bytes)?;
        let parts = order(version, &layout, config);
        parts.iter().try_for_each(|part| write_part(&mut file, &header, part, values))?;
        file.flush()
    };
    write().map_err(|source| WeightsError::Write { path: path.to_owned(), source })
}

/// Reads a header from a file of `length` bytes.
fn read_header(reader: &mut impl Read, length: u64) -> Result<Header, Fault> {
    at_least(length, SHORT_HEADER)?;
    let first = word(reader)?;
    if first != MAGIC {
        let mut words = [first; 7];
        words[1..].iter_mut().try_for_each(|to| word(reader).map(|word| *to = word))?;
        let config = shape(&words, words[5] > 0)?;
        return Ok(Header { version: Version::V0, config, group: 0 });
    }
    at_least(length, LONG_HEADER)?;
    let version = match word(reader)? {
        1 => Version::V1,
        2 => Version::V2,
        other => return Err(format!("it is of version {other}; 0, 1 and 2 are read").into()),
    };
    let mut words = [0; 7];
    words.iter_mut().try_for_each(|to| word(reader).map(|word| *to = word))?;
    let mut rest = [0; LONG_HEADER as usize - 36];
    reader.read_exact(&mut rest)?;
    let [shared, a, b, c, d, ..] = rest;
    if shared > 1 {
        return Err(format!("its header says {shared} where it is 0 or 1").into());
    }
    if words[5] < 0 {
        return Err(format!("its header says vocab_size = {}", words[5]).into());
    }
    let config = shape(&words, shared == 1)?;
    let group = match version {
        Version::V2 => positive("group_size", i32::from_le_bytes([a, b, c, d]))?,
        _ => 0,
    };
    Ok(Header { version, config, group })
}

fn at_least(length: u64, header: u64) -> Result<(), String> {
    match length < header {
        true => Err(format!("it has {length} bytes, the header alone takes {header}")),
        false => Ok(()),
    }
}

fn positive(name: &str, value: i32) -> Result<usize, String> {
    let number = usize::try_from(value).ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("its header says {name} = {value}"))
}

fn word(reader: &mut impl Read) -> io::Result<i32> {
    let mut bytes = [0; 4];
    reader.read_exact(&mut bytes)?;
    Ok(i32::from_le_bytes(bytes))
}

fn shape(words: &[i32; 7], tied: bool) -> Result<GptConfig, String> {
    let [dim, hidden, layers, heads, kv_heads, vocab, seq] = *words;
    let (n_embd, n_head) = (positive("dim", dim)?, positive("n_heads", heads)?);
    if n_embd % n_head != 0 {
        return Err(format!("its header says dim = {dim}, which {heads} heads do not divide"));
    }
    let config = GptConfig {
        n_layer: positive("n_layers", layers)?,
        n_head,
        n_kv_head: positive("n_kv_heads", kv_heads)?,
        n_embd,
        head_dim: n_embd / n_head,
        hidden: positive("hidden_dim", hidden)?,
        vocab_size: positive("vocab_size", vocab.checked_abs().unwrap_or(0))?,
        seq_len: positive("seq_len", seq)?,
        rope_theta: Some(ROPE_THETA),
        norm_eps: NORM_EPS,
        tied,
        ..GptConfig::default()
    };
    config.validate().map_err(|e| format!("its header gives no model: {e}"))?;
    Ok(config)
}

/// Returns the header of `config`, or why it has none.
fn write_header(version: Version, config: &GptConfig) -> Result<Vec<u8>, String> {
    require_same_model(config)?;
    let word = |n: usize| i32::try_from(n).map_err(|_| format!("{n} does not fit its header"));
    let vocab = word(config.vocab_size)?;
    let words = [
        word(config.n_embd)?,
        word(config.hidden)?,
        word(config.n_layer)?,
        word(config.n_head)?,
        word(config.n_kv_head)?,
        if config.tied || version != Version::V0 { vocab } else { -vocab },
        word(config.seq_len)?,
    ];
    let number = match version {
        Version::V0 => return Ok(words.iter().flat_map(|word| word.to_le_bytes()).collect()),
        Version::V1 => 1,
        Version::V2 => 2,
    };
    let words = [MAGIC, number].into_iter().chain(words);
    let mut bytes: Vec<u8> = words.flat_map(i32::to_le_bytes).collect();
    bytes.push(config.tied.into());
    if version == Version::V2 {
        bytes.extend(word(groups::size(config))?.to_le_bytes());
    }
    bytes.resize(LONG_HEADER as usize, 0);
    Ok(bytes)
}

/// Refuses a model of which `run.c` would compute another.
fn require_same_model(config: &GptConfig) -> Result<(), String> {
    require_llama(config)?;
    if config.qk_norm {
        return Err("`qk_norm` is true, but its queries and keys have no norms".to_owned());
    }
    if config.q_dim() != config.n_embd {
        return Err(format!(
            "`head_dim` is {}, but its {} heads divide the width of {} among them",
            config.head_dim, config.n_head, config.n_embd
        ));
    }
    if config.rope_theta != Some(ROPE_THETA) {
        let theta = config.rope_theta.map_or("absent".to_owned(), |theta| theta.to_string());
        return Err(format!("`rope_theta` is {theta}, but its base is always {ROPE_THETA}"));
    }
    if config.norm_eps != NORM_EPS {
        return Err(format!("`norm_eps` is {}, but it always adds {NORM_EPS}", config.norm_eps));
    }
    Ok(())
}

/// Bytes of a file.
fn size(header: &Header, parts: &[Part<'_>]) -> Result<u64, String> {
    let begin = if header.version == Version::V0 { SHORT_HEADER } else { LONG_HEADER };
    parts.iter().try_fold(begin, |bytes, part| {
        let own = match part {
            Part::Floats(param) => 4 * param.count() as u64,
            Part::Tables => 4 * order::tables(&header.config),
            Part::Groups(param) if param.count() % header.group != 0 => {
                let (name, group) = (&param.name, header.group);
                return Err(format!(
                    "its header says group_size = {group}, which does not divide `{name}`"
                ));
            }
            Part::Groups(param) => groups::bytes(param.count(), header.group),
        };
        Ok(bytes + own)
    })
}

fn read_part(
    reader: &mut impl Read,
    header: &Header,
    part: &Part<'_>,
    values: &mut [f32],
) -> io::Result<()> {
    match part {
        Part::Floats(param) => read_f32(reader, &mut values[param.range()]),
        Part::Groups(param) => groups::read(reader, header.group, &mut values[param.range()]),
        Part::Tables => {
            let skipped = &mut reader.by_ref().take(4 * order::tables(&header.config));
            io::copy(skipped, &mut io::sink()).map(drop)
        }
    }
}

fn write_part(
    file: &mut impl Write,
    header: &Header,
    part: &Part<'_>,
    values: &[f32],
) -> io::Result<()> {
    let (Part::Floats(param) | Part::Groups(param)) = part else {
        return order::write_tables(file, &header.config);
    };
    let mut rows = values[param.range()].to_vec();
    if order::is_turned(param) {
        rotary::to_neighbours(&mut rows, header.config.head_dim, header.config.n_embd);
    }
    match part {
        Part::Groups(_) => groups::write(file, header.group, &rows),
        _ => file.write_all(bytemuck::cast_slice(&rows)),
    }
}

fn read_f32(reader: &mut impl Read, to: &mut [f32]) -> io::Result<()> {
    reader.read_exact(bytemuck::cast_slice_mut(to))
}
