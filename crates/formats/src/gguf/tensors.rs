//! Which parameters a tensor holds, and how its rows lie.

use super::container::{Place, Tensor};
use crate::precision::Precision;
use crate::rotary;
use gpt::{GptConfig, Layout, Param};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

/// Parameters of no layer: their port, and the name of the tensor.
const SHARED: &[(&str, &str)] = &[
    ("embedding", "token_embd.weight"),
    ("positions", "position_embd.weight"),
    ("rms", "output_norm.weight"),
    ("ln", "output_norm.weight"),
    ("ln_bias", "output_norm.bias"),
    ("classifier", "output.weight"),
];

/// Parameters of a layer of `llama` and `qwen3`, behind `blk.N.`.
const LLAMA: &[(&str, &str)] = &[
    ("rms1", "attn_norm.weight"),
    ("wq", "attn_q.weight"),
    ("wk", "attn_k.weight"),
    ("wv", "attn_v.weight"),
    ("q_gain", "attn_q_norm.weight"),
    ("k_gain", "attn_k_norm.weight"),
    ("wo", "attn_output.weight"),
    ("rms2", "ffn_norm.weight"),
    ("w1", "ffn_gate.weight"),
    ("w3", "ffn_up.weight"),
    ("w2", "ffn_down.weight"),
];

/// Parameters of a layer of `gpt2`. Those of one name lie one after the other along the outputs.
const GPT2: &[(&str, &str)] = &[
    ("ln1", "attn_norm.weight"),
    ("ln1_bias", "attn_norm.bias"),
    ("wq", "attn_qkv.weight"),
    ("wk", "attn_qkv.weight"),
    ("wv", "attn_qkv.weight"),
    ("bq", "attn_qkv.bias"),
    ("bk", "attn_qkv.bias"),
    ("bv", "attn_qkv.bias"),
    ("wo", "attn_output.weight"),
    ("bo", "attn_output.bias"),
    ("ln2", "ffn_norm.weight"),
    ("ln2_bias", "ffn_norm.bias"),
    ("w1", "ffn_up.weight"),
    ("b1", "ffn_up.bias"),
    ("w2", "ffn_down.weight"),
    ("b2", "ffn_down.bias"),
];

/// A tensor of a file, and the parameters in it.
pub(super) struct Stored<'l> {
    pub(super) name: String,
    /// Extents, row-major.
    pub(super) shape: Vec<usize>,
    parts: Vec<&'l Param>,
}

/// The tensors of a model in the order of its parameters, or the parameter that has no name.
pub(super) fn tensors<'l>(
    config: &GptConfig,
    layout: &'l Layout,
) -> Result<Vec<Stored<'l>>, String> {
    let mut tensors: Vec<Stored<'l>> = vec![];
    let mut known = HashMap::new();
    for param in layout.params() {
        let name = name(config, param);
        let name = name.ok_or_else(|| format!("it has no name for `{}`", param.name))?;
        let index = *known.entry(name.clone()).or_insert(tensors.len());
        match tensors.get_mut(index) {
            None => tensors.push(Stored { name, shape: param.shape.clone(), parts: vec![param] }),
            Some(tensor) => {
                tensor.shape[0] += param.shape[0];
                tensor.parts.push(param);
            }
        }
    }
    Ok(tensors)
}

fn name(config: &GptConfig, param: &Param) -> Option<String> {
    let among = |table: &[(&str, &'static str)]| {
        table.iter().find(|(port, _)| *port == param.port).map(|(_, name)| *name)
    };
    let of_layer = if config.family.name() == "gpt2" { GPT2 } else { LLAMA };
    match param.layer {
        None => among(SHARED).map(str::to_owned),
        Some(layer) => among(of_layer).map(|name| format!("blk.{layer}.{name}")),
    }
}

impl Stored<'_> {
    /// The values of the tensor, from those of the whole model. Those of one dimension, the positions
    /// and those whose rows are not made of whole blocks keep more precision than the others.
    pub(super) fn of<'v>(
        &self,
        config: &GptConfig,
        values: &'v [f32],
        precision: Precision,
    ) -> Result<Tensor<'v>, String> {
        let row = *self.shape.last().expect("no tensor is without extents");
        let precision = match precision {
            _ if self.shape.len() == 1 || self.parts[0].port == "positions" => Precision::F32,
            blocks if !blocks.divides(row) => Precision::F16,
            other => other,
        };
        let values = match self.parts[..] {
            [only] if !is_turned(config, only) => Cow::Borrowed(&values[only.range()]),
            _ => Cow::Owned(self.gathered(config, values)),
        };
        if let Some(value) = precision.beyond(&values) {
            return Err(format!(
                "`{}` has {value}, which is beyond {precision}: write f32",
                self.name
            ));
        }
        Ok(Tensor { name: self.name.clone(), shape: self.shape.clone(), precision, values })
    }

    fn gathered(&self, config: &GptConfig, values: &[f32]) -> Vec<f32> {
        let mut rows = vec![];
        for param in &self.parts {
            let begin = rows.len();
            rows.extend_from_slice(&values[param.range()]);
            if is_turned(config, param) {
                rotary::to_neighbours(&mut rows[begin..], config.head_dim, config.n_embd);
            }
        }
        rows
    }

    /// Has `read` give the values of the tensor, and brings them to their places in the whole model's.
    pub(super) fn restore<E>(
        &self,
        config: &GptConfig,
        values: &mut [f32],
        read: impl FnOnce(&mut [f32]) -> Result<(), E>,
    ) -> Result<(), E> {
        let [only] = self.parts[..] else {
            let mut rows = vec![0.0; self.shape.iter().product()];
            read(&mut rows)?;
            let mut rest = &rows[..];
            for param in &self.parts {
                let (own, others) = rest.split_at(param.count());
                values[param.range()].copy_from_slice(own);
                rest = others;
            }
            return Ok(());
        };
        let to = &mut values[only.range()];
        read(to)?;
        if is_turned(config, only) {
            rotary::to_halves(to, config.head_dim, config.n_embd);
        }
        Ok(())
    }
}

/// True if the rows of the parameter are neighbouring rotary pairs in these files.
fn is_turned(config: &GptConfig, param: &Param) -> bool {
    config.rope_theta.is_some() && !config.qk_norm && ["wq", "wk"].contains(&param.port)
}

/// Why the tensors of a file are not those of the model: the first one, and what is wrong with it.
pub(super) fn differ(
    found: &BTreeMap<String, Place>,
    needed: &[Stored<'_>],
) -> Option<(String, String)> {
    let mut extra = found.clone();
    for tensor in needed {
        match extra.remove(&tensor.name) {
            None => return Some((tensor.name.clone(), "is missing".to_owned())),
            Some(place) if place.shape != tensor.shape => {
                let (found, needed) = (place.shape, &tensor.shape);
                let reason = format!("has shape {found:?}, the model needs {needed:?}");
                return Some((tensor.name.clone(), reason));
            }
            Some(_) => {}
        }
    }
    extra.into_keys().next().map(|name| {
        let reason = "has no place in the model that the metadata describe";
        (name, reason.to_owned())
    })
}
