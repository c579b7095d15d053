//! GGUF files of llama.cpp, both ways: shape, weights, tokenizer and chat template in one file.
//!
//! The architectures are `llama`, whose rotary pairs are (2i, 2i+1), `qwen3`, whose pairs are those
//! of Hugging Face, and `gpt2`. Tensors are F32, F16, BF16 and Q8_0.

mod container;
mod shape;
mod tensors;
#[cfg(test)]
mod tests;
mod vocabulary;

use crate::error::{Fault, WeightsError, check_finite};
use crate::model::Model;
use crate::precision::Precision;
use container::{Container, Tensor, Value};
use gpt::{GptConfig, Layout};
use std::path::{Path, PathBuf};
use tokenizer::Tokenizer;

/// The key of the template of conversations.
const TEMPLATE: &str = "tokenizer.chat_template";

/// An open file whose header has been read.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    container: Container,
}

impl GgufFile {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// When it cannot be read, is malformed or cut short, or a tensor has a type that is not read.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let path = path.to_owned();
        match Container::open(&path) {
            Ok(container) => Ok(GgufFile { path, container }),
            Err(fault) => Err(error(&path, fault)),
        }
    }

    /// Reads shape and weights.
    ///
    /// # Errors
    /// When the file asks for something that is not computed, a tensor is missing, has another shape, no
    /// place in the model, or holds something that is not a finite number.
    pub fn model(&mut self) -> Result<(GptConfig, Vec<f32>), WeightsError> {
        let GgufFile { path, container } = self;
        let config = shape::read(container).map_err(|reason| error(path, reason.into()))?;
        let (layers, tensors) = (config.n_layer, container.tensors.len());
        if tensors < layers {
            let reason =
                format!("{layers} layers have at least as many tensors, and it has {tensors}");
            return Err(error(path, reason.into()));
        }
        let layout = Layout::new(&config);
        let stored = tensors::tensors(&config, &layout);
        let stored = stored.map_err(|reason| error(path, reason.into()))?;
        if let Some((name, reason)) = tensors::differ(&container.tensors, &stored) {
            return Err(WeightsError::Tensor { path: path.clone(), name, reason });
        }
        // The file has every tensor, and so the model's size, before memory of that size is taken.
        let mut values = vec![0.0; layout.count()];
        for tensor in &stored {
            let place = container.tensors[&tensor.name].clone();
            let read = |to: &mut [f32]| container.read(&place, to);
            tensor.restore(&config, &mut values, read).map_err(|fault| error(path, fault))?;
        }
        check_finite(path, &layout, &values)?;
        Ok((config, values))
    }

    /// Returns the tokenizer; none if the file has none.
    ///
    /// # Errors
    /// When the tokenizer is malformed, or asks for something that is not computed.
    pub fn tokenizer(&self) -> Result<Option<Tokenizer>, WeightsError> {
        let tokenizer = vocabulary::read(&self.container.metadata);
        tokenizer.map_err(|reason| error(&self.path, reason.into()))
    }

    /// True if the file has a tokenizer.
    pub fn has_tokenizer(&self) -> bool {
        vocabulary::is_there(&self.container.metadata)
    }

    /// Tokens that end a text.
    pub fn ends(&self) -> Vec<u32> {
        vocabulary::ends(&self.container.metadata)
    }

    /// The template of conversations, in Jinja.
    pub fn chat_template(&self) -> Option<&str> {
        self.container.metadata.get(TEMPLATE).and_then(Value::text)
    }
}

fn error(path: &Path, fault: Fault) -> WeightsError {
    let path = path.to_owned();
    match fault {
        Fault::Io(source) => WeightsError::Io { path, source },
        Fault::Malformed(reason) => WeightsError::Gguf { path, reason },
    }
}

/// Writes a model so that llama.cpp computes the same. A matrix whose rows are not made of whole blocks of
/// `precision` is F16.
///
/// # Errors
/// When the format cannot say the model or the tokenizer (each by name), a weight is not a finite number
/// or beyond the precision, or the file cannot be written.
pub fn write(
    path: &Path,
    model: &Model<'_>,
    values: &[f32],
    precision: Precision,
) -> Result<(), WeightsError> {
    let fault = |reason| WeightsError::Inexpressible { format: "GGUF", reason };
    let metadata = metadata(model, precision).map_err(fault)?;
    let layout = Layout::new(model.config);
    check_finite(path, &layout, values)?;
    let stored = tensors::tensors(model.config, &layout).map_err(fault)?;
    let tensors: Result<Vec<Tensor<'_>>, String> =
        stored.iter().map(|tensor| tensor.of(model.config, values, precision)).collect();
    container::write(path, &metadata, &tensors.map_err(fault)?)
        .map_err(|source| WeightsError::Write { path: path.to_owned(), source })
}

fn metadata(model: &Model<'_>, precision: Precision) -> Result<Vec<(String, Value)>, String> {
    let mut metadata = shape::metadata(model.config, precision)?;
    if let Some(tokenizer) = model.tokenizer {
        metadata.extend(vocabulary::metadata(tokenizer, model.config.vocab_size)?);
        metadata.extend(vocabulary::end_keys(&model.all_ends())?);
    }
    metadata.extend(model.chat_template.map(|text| entry(TEMPLATE, Value::Text(text.to_owned()))));
    Ok(metadata)
}

/// A key of the metadata with its value.
fn entry(key: impl Into<String>, value: Value) -> (String, Value) {
    (key.into(), value)
}
