//! Models and tokenizers by the paths that people give.

use crate::{foreign, usage};
use anyhow::{Context, Result, bail};
use formats::{hugging_face, llama2c};
use gpt::Parameters;
use std::path::{Path, PathBuf};
use tokenizer::Tokenizer;
use train::checkpoint;

/// A model: its shape, its weights, and where its tokenizer would be.
#[derive(Debug)]
pub(crate) struct ModelFile {
    pub(crate) parameters: Parameters,
    /// Tokens that end a text, besides those of the tokenizer.
    pub(crate) ends: Vec<u32>,
    /// `tokenizer.json` beside the weights, if there is one.
    pub(crate) tokenizer: Option<PathBuf>,
}

/// Reads a llama2.c `.bin` file, or a directory: a run (its newest checkpoint), a checkpoint, or
/// `config.json` with `model.safetensors` or the files of `model.safetensors.index.json`.
pub(crate) fn read_model(path: &Path) -> Result<ModelFile> {
    if !path.exists() {
        bail!("there is no file or directory `{}` to read a model from", path.display());
    }
    if !path.is_dir() {
        foreign::refuse_model(path)?;
        let (config, params) = llama2c::read(path)?;
        let parameters = Parameters::new(&config, params);
        return Ok(ModelFile { parameters, ends: vec![], tokenizer: None });
    }
    let directory = match checkpoint::newest(path) {
        Ok((found, faults)) => {
            faults.iter().for_each(|fault| crate::term::warn(&fault.to_string()));
            found.path().to_owned()
        }
        Err(error) if path.join("config.json").exists() && !path.join("state.json").exists() => {
            drop(error);
            path.to_owned()
        }
        Err(error) if checkpoint::exists(path) || path.join("state.json").exists() => {
            return Err(error.into());
        }
        Err(_) => bail!(
            "{} has no checkpoint and no config.json: give the directory of a run or of a checkpoint, a \
             directory with config.json and safetensors files, or a llama2.c .bin file",
            path.display()
        ),
    };
    read_directory(&directory)
}

/// Reads a directory in the layout of Hugging Face.
fn read_directory(directory: &Path) -> Result<ModelFile> {
    let described = parsed(&directory.join("config.json"), hugging_face::read_config)?;
    for name in &described.unknown {
        eprintln!(
            "warning: {}: `{name}` is not known to this program and is ignored",
            directory.join("config.json").display()
        );
    }
    let mut ends = described.ends;
    let generation = directory.join("generation_config.json");
    if generation.exists() {
        ends.extend(parsed(&generation, hugging_face::read_generation_ends)?);
    }
    foreign::refuse_directory(directory)?;
    let one = directory.join("model.safetensors");
    let index = directory.join("model.safetensors.index.json");
    let params = match !one.exists() && index.exists() {
        true => hugging_face::read_sharded(&index, &described.config)?,
        false => {
            foreign::refuse_stand_in(&one)?;
            hugging_face::read_safetensors(&one, &described.config)?
        }
    };
    let tokenizer = Some(directory.join("tokenizer.json")).filter(|path| path.exists());
    let parameters = Parameters::new(&described.config, params);
    Ok(ModelFile { parameters, ends, tokenizer })
}

/// Reads a file of text; faults name it.
fn parsed<T>(path: &Path, read: impl Fn(&str) -> Result<T, String>) -> Result<T> {
    foreign::refuse_stand_in(path)?;
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    read(&text).map_err(|reason| anyhow::anyhow!("{}: {reason}", path.display()))
}

/// Loads a tokenizer file; `fallback` is the one beside the model.
pub(crate) fn read_tokenizer(given: Option<&Path>, fallback: Option<&Path>) -> Result<Tokenizer> {
    let path = given.or(fallback).ok_or_else(|| {
        usage("this model comes without a tokenizer: give one with --tokenizer FILE")
    })?;
    foreign::refuse_stand_in(path)?;
    Ok(Tokenizer::load(path)?)
}
