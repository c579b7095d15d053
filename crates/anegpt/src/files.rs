//! Models and tokenizers by the paths that people give.

use crate::usage;
use anyhow::{Context, Result};
use gpt::GptConfig;
use std::path::{Path, PathBuf};
use tokenizer::Tokenizer;
use train::checkpoint;

/// A model: its shape, its weights, and where its tokenizer would be.
#[derive(Debug)]
pub(crate) struct ModelFile {
    pub(crate) config: GptConfig,
    pub(crate) params: Vec<f32>,
    /// `tokenizer.json` beside the weights, if there is one.
    pub(crate) tokenizer: Option<PathBuf>,
}

/// Reads a llama2.c `.bin` file, or a directory: a run (its newest checkpoint), a checkpoint, or
/// `config.json` with `model.safetensors`.
pub(crate) fn read_model(path: &Path) -> Result<ModelFile> {
    if !path.is_dir() {
        let (config, params) = gpt::weights::read_llama2c(path)?;
        return Ok(ModelFile { config, params, tokenizer: None });
    }
    let directory = match checkpoint::newest(path) {
        Ok((found, faults)) => {
            faults.iter().for_each(|fault| eprintln!("warning: {fault}"));
            found.path().to_owned()
        }
        Err(error) if path.join("config.json").exists() && !path.join("state.json").exists() => {
            drop(error);
            path.to_owned()
        }
        Err(error) => return Err(error.into()),
    };
    let place = directory.join("config.json");
    let text = std::fs::read_to_string(&place)
        .with_context(|| format!("cannot read {}", place.display()))?;
    let config = train::hugging_face::config_from_hugging_face(&text)
        .map_err(|reason| anyhow::anyhow!("{}: {reason}", place.display()))?;
    let params = gpt::weights::read_safetensors(&directory.join("model.safetensors"), &config)?;
    let tokenizer = Some(directory.join("tokenizer.json")).filter(|path| path.exists());
    Ok(ModelFile { config, params, tokenizer })
}

/// Loads a tokenizer file; `fallback` is the one beside the model.
pub(crate) fn read_tokenizer(given: Option<&Path>, fallback: Option<&Path>) -> Result<Tokenizer> {
    let path = given.or(fallback).ok_or_else(|| {
        usage("this model comes without a tokenizer: give one with --tokenizer FILE")
    })?;
    Ok(Tokenizer::load(path)?)
}
