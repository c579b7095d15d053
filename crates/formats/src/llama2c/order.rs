//! The order of the tensors in a file.

use super::{ROPE_THETA, Version};
use gpt::{GptConfig, Layout, Param};
use std::io::{self, Write};

/// A part of what follows the header.
pub(super) enum Part<'l> {
    /// A parameter in f32.
    Floats(&'l Param),
    /// A parameter as signed bytes and scales.
    Groups(&'l Param),
    /// The tables of rotary cosines and sines that older programs read.
    Tables,
}

/// Matrices of each layer, by their ports.
const MATRICES: [&str; 7] = ["wq", "wk", "wv", "wo", "w1", "w2", "w3"];

/// The parts in the order of the file. A kind of parameter comes with all its layers.
pub(super) fn order<'l>(version: Version, layout: &'l Layout, config: &GptConfig) -> Vec<Part<'l>> {
    let find = |port: &str, layer| {
        let param = layout.find(port, layer);
        param.unwrap_or_else(|| panic!("a Llama has a parameter {port}"))
    };
    let of_layers = |port: &'static str| (0..config.n_layer).map(move |n| find(port, Some(n)));
    let classifier = layout.find("classifier", None).map(Part::Floats);
    if version == Version::V0 {
        let [attention @ .., _, _, _] = MATRICES;
        let kinds = ["rms1"].into_iter().chain(attention).chain(["rms2", "w1", "w2", "w3"]);
        let mut parts = vec![Part::Floats(find("embedding", None))];
        parts.extend(kinds.flat_map(of_layers).map(Part::Floats));
        parts.extend([Part::Floats(find("rms", None)), Part::Tables]);
        parts.extend(classifier);
        return parts;
    }
    let norms = ["rms1", "rms2"].into_iter().flat_map(of_layers).chain([find("rms", None)]);
    let matrices = [find("embedding", None)].into_iter();
    let matrices = matrices.chain(MATRICES.into_iter().flat_map(of_layers));
    let matrices = matrices.chain(layout.find("classifier", None));
    let of = if version == Version::V2 { Part::Groups } else { Part::Floats };
    norms.map(Part::Floats).chain(matrices.map(of)).collect()
}

/// True if the rows of the parameter are rotary pairs.
pub(super) fn is_turned(param: &Param) -> bool {
    ["wq", "wk"].contains(&param.port)
}

/// Number of elements of the tables.
pub(super) fn tables(config: &GptConfig) -> u64 {
    (config.seq_len * config.head_dim) as u64
}

/// Writes cosines [sequence, E/2], then sines, of position / base^(2i/E).
pub(super) fn write_tables(file: &mut impl Write, config: &GptConfig) -> io::Result<()> {
    let half = config.head_dim / 2;
    for of in [f64::cos, f64::sin] {
        for position in 0..config.seq_len {
            let angle = |i: usize| {
                position as f64 / ROPE_THETA.powf((2 * i) as f64 / config.head_dim as f64)
            };
            let row: Vec<f32> = (0..half).map(|i| of(angle(i)) as f32).collect();
            file.write_all(bytemuck::cast_slice(&row))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_cosines_then_sines() {
        let config = GptConfig { head_dim: 6, seq_len: 8, ..GptConfig::default() };
        let mut bytes = vec![];
        write_tables(&mut bytes, &config).unwrap();
        let table: Vec<f32> = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        assert_eq!(table.len() as u64, tables(&config));
        assert_eq!(table[..6], [1.0, 1.0, 1.0, 1f32.cos(), table[4], table[5]]);
        assert_eq!(table[24..28], [0.0, 0.0, 0.0, 1f32.sin()]);
        // Position 7, the second pair of three: 7 / 10000^(1/3).
        assert!((table[24 + 7 * 3 + 1] - (7.0 / 1e4f32.cbrt()).sin()).abs() < 1e-6);
    }
}
