//! llama2.c checkpoints, version 0.

use crate::error::{WeightsError, check_finite};
use gpt::{GptConfig, Layout, Role};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// Reads a llama2.c version 0 checkpoint: seven i32 (dim, hidden, layers, heads, kv heads,
/// vocabulary, sequence; a negative vocabulary means a classifier of its own) and f32 tensors in
/// the order of `run.c`, whose rotary pairs (2i, 2i+1) are moved to (i, i + E/2).
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
    let config = config(&header).map_err(&fault)?;
    config.validate().map_err(|e| fault(format!("its header gives no model: {e}")))?;
    let layout = Layout::new(&config);
    let tables = (config.seq_len * config.head_dim) as u64;
    let expected = 28 + 4 * (layout.count() as u64 + tables);
    if length != expected {
        return Err(fault(format!(
            "its header ({config}) asks for {expected} bytes but it has {length}: truncated, or \
             another version"
        )));
    }
    let mut values = vec![0.0f32; layout.count()];
    for (role, layers) in order(&config) {
        for layer in layers {
            let param = layout.find(role, layer).expect("the order lists what the layout has");
            read_f32(&mut reader, &mut values[param.range()]).map_err(io)?;
        }
        if role == Role::FinalNorm {
            // The tables of rotary cosines and sines that older programs read.
            let skipped = 4 * tables;
            std::io::copy(&mut reader.by_ref().take(skipped), &mut std::io::sink()).map_err(io)?;
        }
    }
    check_finite(path, &layout, &values)?;
    for param in layout.params() {
        let heads = match param.role {
            Role::Query => config.n_head,
            Role::Key => config.n_kv_head,
            _ => continue,
        };
        interleaved_to_halves(&mut values[param.range()], heads, config.head_dim, config.n_embd);
    }
    Ok((config, values))
}

fn config(header: &[i32; 7]) -> Result<GptConfig, String> {
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
        rope_theta: Some(1e4),
        norm_eps: 1e-5,
        tied: vocab > 0,
        qk_norm: false,
    })
}

/// Tensors in the order of the file: each role, with the layers it has.
fn order(config: &GptConfig) -> Vec<(Role, Vec<Option<usize>>)> {
    let layers: Vec<_> = (0..config.n_layer).map(Some).collect();
    let mut order = vec![(Role::Embedding, vec![None])];
    let per_layer = [
        Role::AttentionNorm,
        Role::Query,
        Role::Key,
        Role::Value,
        Role::Output,
        Role::FeedForwardNorm,
        Role::Gate,
        Role::Down,
        Role::Up,
    ];
    order.extend(per_layer.map(|role| (role, layers.clone())));
    order.push((Role::FinalNorm, vec![None]));
    if !config.tied {
        order.push((Role::Classifier, vec![None]));
    }
    order
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

/// Rows of each head: 2i → i and 2i+1 → i + E/2, for a matrix [heads·E, columns].
fn interleaved_to_halves(w: &mut [f32], heads: usize, width: usize, columns: usize) {
    for head in w.chunks_exact_mut(width * columns).take(heads) {
        let old = head.to_vec();
        for row in 0..width {
            let to = row / 2 + if row % 2 == 1 { width / 2 } else { 0 };
            head[to * columns..(to + 1) * columns]
                .copy_from_slice(&old[row * columns..(row + 1) * columns]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotary_pairs_are_moved() {
        let mut w: Vec<f32> = (0..16).map(|i| i as f32).collect();
        interleaved_to_halves(&mut w, 2, 4, 2);
        let rows: Vec<f32> = w.chunks(2).map(|r| r[0] / 2.0).collect();
        assert_eq!(rows, [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
    }

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
}
