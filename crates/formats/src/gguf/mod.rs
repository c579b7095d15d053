//! GGUF files of llama.cpp, both ways: shape, weights and tokenizer in one file.
//!
//! The architectures are `llama`, whose rotary pairs are (2i, 2i+1), and `qwen3`, whose pairs are those
//! of Hugging Face. Tensors are read as F32, F16, BF16 and Q8_0, and written as F32 or F16.

mod container;
mod shape;
#[cfg(test)]
mod tests;
mod vocabulary;

use crate::error::{WeightsError, check_finite};
use crate::rotary;
use container::{Container, Element, Fault, Tensor, Value};
use gpt::{GptConfig, Layout, Param};
use half::f16;
use std::borrow::Cow;
use std::path::Path;
use tokenizer::Tokenizer;

/// What a file holds.
#[derive(Debug)]
pub struct Contents {
    /// Shape of the model.
    pub config: GptConfig,
    /// Parameters in the order of its layout.
    pub values: Vec<f32>,
    /// Its tokenizer, if it has one.
    pub tokenizer: Option<Tokenizer>,
}

/// How matrices are stored; vectors are F32 always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// The same bits.
    F32,
    /// Rounded to the nearest f16.
    F16,
}

/// Parameters of a layer: the name here and there. Each ends in `.weight`.
const PER_LAYER: [(&str, &str); 11] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("self_attn.o_proj", "attn_output"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// Other parameters.
const SHARED: [(&str, &str); 3] =
    [("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"), ("lm_head", "output")];

/// The name of a parameter in these files.
fn name(param: &Param) -> Option<String> {
    let ours = param.name.strip_suffix(".weight")?;
    let among = |table: &[(&str, &'static str)], ours: &str| {
        table.iter().find(|(name, _)| *name == ours).map(|(_, theirs)| *theirs)
    };
    if let Some(theirs) = among(&SHARED, ours) {
        return Some(format!("{theirs}.weight"));
    }
    let (layer, ours) = ours.strip_prefix("model.layers.")?.split_once('.')?;
    Some(format!("blk.{layer}.{}.weight", among(&PER_LAYER, ours)?))
}

/// True if the rows of the parameter are neighbouring rotary pairs in these files.
fn is_turned(config: &GptConfig, param: &Param) -> bool {
    let ends = ["q_proj.weight", "k_proj.weight"];
    !config.qk_norm && ends.iter().any(|end| param.name.ends_with(end))
}

/// Reads shape, weights and tokenizer.
///
/// # Errors
/// When the file is malformed or cut short, asks for something that is not computed, a tensor is missing,
/// has another shape, no place in the model, or holds something that is not a finite number.
pub fn read(path: &Path) -> Result<Contents, WeightsError> {
    let fault = |fault: Fault| match fault {
        Fault::Io(source) => WeightsError::Io { path: path.to_owned(), source },
        Fault::Malformed(reason) => WeightsError::Gguf { path: path.to_owned(), reason },
    };
    let mut file = Container::open(path).map_err(fault)?;
    let config = shape::read(&file).map_err(|reason| fault(reason.into()))?;
    let tokenizer = vocabulary::read(&file.metadata).map_err(|reason| fault(reason.into()))?;
    let layout = Layout::new(&config);
    check_tensors(path, &file, &layout)?;
    let mut values = vec![0.0; layout.count()];
    for param in layout.params() {
        let place = name(param).and_then(|name| file.tensors.get(&name).cloned());
        let place = place.expect("all tensors were checked");
        let to = &mut values[param.range()];
        file.read(&place, to).map_err(fault)?;
        if is_turned(&config, param) {
            rotary::to_halves(to, config.head_dim, config.n_embd);
        }
    }
    check_finite(path, &layout, &values)?;
    Ok(Contents { config, values, tokenizer })
}

/// Refuses tensors that are missing, of another shape, or without a place in the model.
fn check_tensors(path: &Path, file: &Container, layout: &Layout) -> Result<(), WeightsError> {
    let refuse = |name: &str, reason: String| {
        let name = name.to_owned();
        Err(WeightsError::Tensor { path: path.to_owned(), name, reason })
    };
    let mut extra = file.tensors.clone();
    for param in layout.params() {
        let name = name(param).unwrap_or_else(|| param.name.clone());
        match extra.remove(&name) {
            None => return refuse(&name, "is missing".to_owned()),
            Some(place) if place.shape != param.shape => {
                let (found, needed) = (place.shape, &param.shape);
                return refuse(&name, format!("has shape {found:?}, the model needs {needed:?}"));
            }
            Some(_) => {}
        }
    }
    match extra.first_key_value() {
        None => Ok(()),
        Some((name, _)) => {
            refuse(name, "has no place in the model that the metadata describe".to_owned())
        }
    }
}

/// Writes shape, weights and tokenizer, so that llama.cpp computes the same model.
///
/// # Errors
/// When the format cannot say the model or the tokenizer (each by name), a weight is not a finite number
/// or beyond f16, or the file cannot be written.
pub fn write(
    path: &Path,
    config: &GptConfig,
    values: &[f32],
    tokenizer: Option<&Tokenizer>,
    precision: Precision,
) -> Result<(), WeightsError> {
    let fault = |reason| WeightsError::Inexpressible { format: "GGUF", reason };
    let mut metadata = shape::metadata(config, precision).map_err(fault)?;
    if let Some(tokenizer) = tokenizer {
        metadata.extend(vocabulary::metadata(tokenizer, config.vocab_size).map_err(fault)?);
    }
    let layout = Layout::new(config);
    check_finite(path, &layout, values)?;
    let tensors: Result<Vec<_>, _> = (layout.params().iter())
        .map(|param| tensor(config, param, &values[param.range()], precision).map_err(fault))
        .collect();
    container::write(path, &metadata, &tensors?)
        .map_err(|source| WeightsError::Write { path: path.to_owned(), source })
}

fn tensor<'v>(
    config: &GptConfig,
    param: &'v Param,
    values: &'v [f32],
    precision: Precision,
) -> Result<Tensor<'v>, String> {
    let name = name(param).ok_or_else(|| format!("it has no name for `{}`", param.name))?;
    let element = match precision {
        Precision::F16 if param.shape.len() > 1 => Element::F16,
        _ => Element::F32,
    };
    let beyond = |v: &&f32| !f16::from_f32(**v).is_finite();
    if let Some(value) = values.iter().find(beyond).filter(|_| element == Element::F16) {
        return Err(format!("`{}` has {value}, which is beyond f16: write f32", param.name));
    }
    let mut values = Cow::Borrowed(values);
    if is_turned(config, param) {
        rotary::to_neighbours(values.to_mut(), config.head_dim, config.n_embd);
    }
    Ok(Tensor { name, shape: &param.shape, element, values })
}

/// A key of the metadata with its value.
fn entry(key: impl Into<String>, value: Value) -> (String, Value) {
    (key.into(), value)
}
