//! llama2.c checkpoints, version 0: seven i32 (dim, hidden, layers, heads, kv heads, vocabulary,
//! sequence; a negative vocabulary means a classifier of its own), then f32 tensors in the order of
//! `run.c`, each with all its layers, and rotary pairs (2i, 2i+1).

use crate::error::{WeightsError, check_finite};
use crate::parts::require_llama;
use crate::rotary;
use gpt::{GptConfig, Layout, Param};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

/// Base of the rotary frequencies and epsilon of the norms, which `run.c` has as constants.
const ROPE_THETA: f64 = 1e4;
const NORM_EPS: f64 = 1e-5;

/// Reads a llama2.c version 0 checkpoint, whose rotary pairs (2i, 2i+1) are moved to (i, i + E/2).
///
/// # Errors
/// When the file cannot be read, its header is no model, its size is not what the header says, or
/// a weight is not a finite number.
pub fn read(path: &Path) -> Result<(GptConfig, Vec<f32>), WeightsError> {
    let io = |source| WeightsError::Io { path: path.to_owned(), source };
    let fault = |reason: String| WeightsError::Llama2c { path: path.to_owned(), reason };
    let file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    let mut reader = BufReader::new(file);
    if length < 28 {
        return Err(fault(format!("it has {length} bytes, the header alone takes 28")));
    }
    let mut header = [0i32; 7];
    for word in &mut header {
        let mut bytes = [0; 4];
        reader.read_exact(&mut bytes).map_err(io)?;
        *word = i32::from_le_bytes(bytes);
    }
    let config = shape(&header).map_err(&fault)?;
    config.validate().map_err(|e| fault(format!("its header gives no model: {e}")))?;
    let layout = Layout::new(&config);
    let expected = 28 + 4 * (layout.count() as u64 + tables(&config));
    if length != expected {
        return Err(fault(format!(
            "its header ({config}) asks for {expected} bytes but it has {length}: truncated, or \
             another version"
        )));
    }
    let mut values = vec![0.0f32; layout.count()];
    for part in order(&layout, &config) {
        match part {
            Part::Param(param) => read_f32(&mut reader, &mut values[param.range()]),
            Part::Tables => {
                let skipped = &mut reader.by_ref().take(4 * tables(&config));
                std::io::copy(skipped, &mut std::io::sink()).map(drop)
            }
        }
        .map_err(io)?;
    }
    check_finite(path, &layout, &values)?;
    for param in layout.params().iter().filter(|param| is_turned(param)) {
        rotary::to_halves(&mut values[param.range()], config.head_dim, config.n_embd);
    }
    Ok((config, values))
}

/// Writes a llama2.c version 0 checkpoint, which [`read`] reads back to the same bits.
///
/// # Errors
/// When `run.c` would compute another model (its constants, norms of queries and keys, a width of
/// heads of their own), a weight is not a finite number, or the file cannot be written.
pub fn write(path: &Path, config: &GptConfig, values: &[f32]) -> Result<(), WeightsError> {
    let header = header(config)
        .map_err(|reason| WeightsError::Inexpressible { format: "llama2.c", reason })?;
    let layout = Layout::new(config);
    check_finite(path, &layout, values)?;
    let write = || -> std::io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        header.iter().try_for_each(|word| file.write_all(&word.to_le_bytes()))?;
        for part in order(&layout, config) {
            match part {
                Part::Param(param) if is_turned(param) => {
                    let mut rows = values[param.range()].to_vec();
                    rotary::to_neighbours(&mut rows, config.head_dim, config.n_embd);
                    write_f32(&mut file, rows)?;
                }
                Part::Param(param) => write_f32(&mut file, values[param.range()].iter().copied())?,
                Part::Tables => write_tables(&mut file, config)?,
            }
        }
        file.flush()
    };
    write().map_err(|source| WeightsError::Write { path: path.to_owned(), source })
}

fn shape(header: &[i32; 7]) -> Result<GptConfig, String> {
    let [dim, hidden, layers, heads, kv_heads, vocab, seq] = *header;
    let positive = |name: &str, value: i32| match usize::try_from(value) {
        Ok(value) if value > 0 => Ok(value),
        _ => Err(format!("its header says {name} = {value}")),
    };
    let (n_embd, n_head) = (positive("dim", dim)?, positive("n_heads", heads)?);
    if n_embd % n_head != 0 {
        return Err(format!("its header says dim = {dim}, which {heads} heads do not divide"));
    }
    Ok(GptConfig {
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
        tied: vocab > 0,
        ..GptConfig::default()
    })
}

/// Returns the header of `config`, or why it has none.
fn header(config: &GptConfig) -> Result<[i32; 7], String> {
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
    let word = |n: usize| i32::try_from(n).map_err(|_| format!("{n} does not fit its header"));
    let vocab = word(config.vocab_size)?;
    Ok([
        word(config.n_embd)?,
        word(config.hidden)?,
        word(config.n_layer)?,
        word(config.n_head)?,
        word(config.n_kv_head)?,
        if config.tied { vocab } else { -vocab },
        word(config.seq_len)?,
    ])
}

/// What follows the header.
enum Part<'l> {
    /// A parameter.
    Param(&'l Param),
    /// The tables of rotary cosines and sines that older programs read.
    Tables,
}

/// Parameters of each layer in the order of the file.
const PER_LAYER: [&str; 9] = [
    "input_layernorm",
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "post_attention_layernorm",
    "mlp.gate_proj",
    "mlp.down_proj",
    "mlp.up_proj",
];

/// The parts in the order of the file.
fn order<'l>(layout: &'l Layout, config: &GptConfig) -> Vec<Part<'l>> {
    let find = |name: String| {
        let mut params = layout.params().iter();
        let param = params.find(|param| param.name.strip_suffix(".weight") == Some(&name));
        Part::Param(param.unwrap_or_else(|| panic!("a Llama has a parameter {name}")))
    };
    let mut order = vec![find("model.embed_tokens".to_owned())];
    for name in PER_LAYER {
        order.extend((0..config.n_layer).map(|n| find(format!("model.layers.{n}.{name}"))));
    }
    order.push(find("model.norm".to_owned()));
    order.push(Part::Tables);
    if !config.tied {
        order.push(find("lm_head".to_owned()));
    }
    order
}

/// True if the rows of the parameter are rotary pairs.
fn is_turned(param: &Param) -> bool {
    ["q_proj.weight", "k_proj.weight"].iter().any(|end| param.name.ends_with(end))
}

/// Number of elements of the tables.
fn tables(config: &GptConfig) -> u64 {
    (config.seq_len * config.head_dim) as u64
}

/// Writes cosines [sequence, E/2], then sines, of position / base^(2i/E).
fn write_tables(file: &mut impl Write, config: &GptConfig) -> std::io::Result<()> {
    let half = config.head_dim / 2;
    for of in [f64::cos, f64::sin] {
        for position in 0..config.seq_len {
            let angle = |i: usize| {
                position as f64 / ROPE_THETA.powf((2 * i) as f64 / config.head_dim as f64)
            };
            write_f32(file, (0..half).map(|i| of(angle(i)) as f32))?;
        }
    }
    Ok(())
}

fn write_f32(file: &mut impl Write, values: impl IntoIterator<Item = f32>) -> std::io::Result<()> {
    values.into_iter().try_for_each(|v| file.write_all(&v.to_le_bytes()))
}

fn read_f32(reader: &mut impl Read, to: &mut [f32]) -> std::io::Result<()> {
    let mut bytes = [0u8; 4096];
    for part in to.chunks_mut(bytes.len() / 4) {
        let bytes = &mut bytes[..part.len() * 4];
        reader.read_exact(bytes)?;
        for (v, b) in part.iter_mut().zip(bytes.chunks_exact(4)) {
            *v = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faulty_checkpoints_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.bin");
        let check = |words: &[i32], bytes: usize, expected: &str| {
            let mut file: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
            file.resize(file.len() + bytes, 0);
            std::fs::write(&path, file).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(&[], 0, "it has 0 bytes");
        check(&[8, 16, 1, 2, 2, 10, 4], 100, "truncated, or another version");
        check(&[8, 16, 1, 3, 3, 10, 4], 100, "3 heads do not divide");
        check(&[8, 16, -1, 2, 2, 10, 4], 100, "n_layers = -1");
        check(&[8, 16, 1, 2, 2, i32::MIN, 4], 100, "vocab_size = 0");
        check(&[1 << 30, 16, 1, 2, 2, 10, 4], 100, "larger than any model");
        assert!(read(&dir.path().join("none")).unwrap_err().to_string().contains("cannot read"));
    }

    fn small() -> GptConfig {
        GptConfig {
            n_layer: 2,
            n_head: 4,
            n_kv_head: 2,
            n_embd: 24,
            head_dim: 6,
            hidden: 20,
            vocab_size: 11,
            seq_len: 8,
            rope_theta: Some(1e4),
            norm_eps: 1e-5,
            tied: true,
            ..GptConfig::default()
        }
    }

    /// Fewer key heads than heads; with and without a classifier of its own.
    #[test]
    fn what_is_written_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.bin");
        for tied in [true, false] {
            let config = GptConfig { tied, ..small() };
            let values = gpt::initialise(&config, 3);
            write(&path, &config, &values).unwrap();
            assert_eq!(read(&path).unwrap(), (config, values));
        }
    }

    #[test]
    fn tables_are_cosines_then_sines() {
        let mut bytes = vec![];
        write_tables(&mut bytes, &small()).unwrap();
        let table: Vec<f32> = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        assert_eq!(table.len() as u64, tables(&small()));
        assert_eq!(table[..6], [1.0, 1.0, 1.0, 1f32.cos(), table[4], table[5]]);
        assert_eq!(table[24..28], [0.0, 0.0, 0.0, 1f32.sin()]);
        // Position 7, the second pair of three: 7 / 10000^(1/3).
        assert!((table[24 + 7 * 3 + 1] - (7.0 / 1e4f32.cbrt()).sin()).abs() < 1e-6);
    }

    #[test]
    fn what_the_format_cannot_say_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.bin");
        let check = |change: fn(&mut GptConfig), name: &str| {
            let mut config = small();
            change(&mut config);
            let values = gpt::initialise(&config, 3);
            let error = write(&path, &config, &values).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("llama2.c cannot say"), "{error}");
            assert!(!path.exists(), "nothing is begun");
        };
        check(|c| c.qk_norm = true, "`qk_norm` is true");
        check(|c| c.head_dim = 8, "`head_dim` is 8");
        check(|c| c.rope_theta = Some(1e6), "`rope_theta` is 1000000");
        check(|c| c.rope_theta = None, "`rope_theta` is absent");
        check(|c| c.norm_eps = 1e-6, "`norm_eps` is 0.000001");
        let mut values = gpt::initialise(&small(), 3);
        values[5] = f32::NAN;
        let error = write(&path, &small(), &values).unwrap_err().to_string();
        assert!(error.contains("element 5 is NaN"), "{error}");
    }
}
