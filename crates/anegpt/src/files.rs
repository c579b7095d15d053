//! Models and tokenizers by the paths that people give.

use crate::{foreign, hub, usage};
use anyhow::{Context, Result, anyhow, bail};
use formats::gguf::GgufFile;
use formats::{Model, hugging_face, llama2c, peft};
use gpt::Parameters;
use infer::InferError;
use std::path::{Path, PathBuf};
use tokenizer::Tokenizer;
use train::checkpoint;

/// Adapters that may lead from one to the next before the model: more are a circle.
const ADAPTERS: usize = 8;

/// A model as it was read, and where its tokenizer would be.
#[derive(Debug)]
pub(crate) struct ModelFile {
    pub(crate) parameters: Parameters,
    /// Tokens that end a text, besides those of the tokenizer.
    pub(crate) ends: Vec<u32>,
    /// The checkpoint, directory or file that was read.
    pub(crate) place: PathBuf,
    /// A file that has its tokenizer, if there is one.
    pub(crate) tokenizer: Option<PathBuf>,
    /// The template of its conversations, in Jinja.
    pub(crate) chat_template: Option<String>,
}

/// A model with its tokenizer.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) parameters: Parameters,
    pub(crate) tokenizer: Tokenizer,
    /// The checkpoint, directory or file that was read.
    pub(crate) place: PathBuf,
    /// Tokens that end a text, besides those of the tokenizer.
    pub(crate) ends: Vec<u32>,
    /// The template of its conversations, in Jinja.
    pub(crate) chat_template: Option<String>,
}

impl Opened {
    /// The model as formats write it, but for the weights.
    pub(crate) fn described(&self) -> Model<'_> {
        Model {
            tokenizer: Some(&self.tokenizer),
            ends: &self.ends,
            chat_template: self.chat_template.as_deref(),
            ..Model::new(self.parameters.config())
        }
    }
}

/// `path`, to be found from any directory.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("no path: `{}`", path.display()))
}

/// Refuses a file to write that cannot be written: its directory is missing, or it is a directory itself. Commands whose
/// work takes long ask this first. `flag` is what named the file.
///
/// # Errors
/// As said.
pub(crate) fn check_output(flag: &str, path: &Path) -> Result<()> {
    let shown = path.display();
    if path.is_dir() {
        return Err(usage(format!("{flag} {shown}: this is a directory; name a file in it")));
    }
    match path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        Some(directory) if !directory.is_dir() => {
            let directory = directory.display();
            Err(usage(format!("{flag} {shown}: there is no directory {directory}")))
        }
        _ => Ok(()),
    }
}

/// Opens a model with its tokenizer: the one given, else the model's own.
///
/// A model is a run or a checkpoint of ours, a directory in the layout of Hugging Face, a GGUF file, a
/// llama2.c file, or an address `hf://organisation/name[@revision]`.
pub(crate) fn open_model(path: &Path, tokenizer: Option<&Path>) -> Result<Opened> {
    read_model(path)?.open(tokenizer)
}

impl ModelFile {
    fn new(parameters: Parameters, place: &Path) -> Self {
        let place = place.to_owned();
        ModelFile { parameters, place, ends: vec![], tokenizer: None, chat_template: None }
    }

    /// The model with its tokenizer: the one given, else its own.
    pub(crate) fn open(self, tokenizer: Option<&Path>) -> Result<Opened> {
        let tokenizer = read_tokenizer(tokenizer, self.tokenizer.as_deref())?;
        let (have, vocabulary) = (tokenizer.vocab_size(), self.parameters.config().vocab_size);
        if have > vocabulary {
            return Err(InferError::Vocabulary { tokenizer: have, model: vocabulary }.into());
        }
        let ModelFile { parameters, place, ends, chat_template, .. } = self;
        Ok(Opened { parameters, tokenizer, place, ends, chat_template })
    }
}

/// Reads a model (see [`open_model`]) without its tokenizer.
pub(crate) fn read_model(path: &Path) -> Result<ModelFile> {
    read_below(path, 0)
}

/// Reads a model that `adapters` adapters lead to.
fn read_below(path: &Path, adapters: usize) -> Result<ModelFile> {
    if let Some(address) = hub::address(path) {
        return read_local(&hub::fetch(address)?, adapters);
    }
    if !path.exists() {
        bail!("there is no file or directory `{}` to read a model from", path.display());
    }
    read_local(path, adapters)
}

fn read_local(path: &Path, adapters: usize) -> Result<ModelFile> {
    if path.join(peft::CONFIG).exists() && !path.join("config.json").exists() {
        return read_adapter(path, adapters);
    }
    if path.is_dir() {
        return read_directory(&checkpoint_or_directory(path)?);
    }
    foreign::refuse_model(path)?;
    if foreign::is_gguf(path) {
        return read_gguf(path);
    }
    let (config, params) = llama2c::read(path)?;
    Ok(ModelFile::new(Parameters::new(&config, params), path))
}

/// Reads an adapter of PEFT with the model that it is for, and merges it. That model may be an adapter with another
/// model, and so on; `adapters` led to this one.
fn read_adapter(path: &Path, adapters: usize) -> Result<ModelFile> {
    if adapters == ADAPTERS {
        bail!(
            "{ADAPTERS} adapters follow one another and none is for a whole model: correct \
             `base_model_name_or_path`"
        );
    }
    let adapter = peft::Adapter::read(path)?;
    let base = adapter.base.as_deref().filter(|base| !base.is_empty()).ok_or_else(|| {
        anyhow!("{}: `base_model_name_or_path` names no model", path.join(peft::CONFIG).display())
    })?;
    let place = peft::base_path(path, base).unwrap_or_else(|| format!("hf://{base}").into());
    let model = read_below(&place, adapters + 1).with_context(|| {
        format!("{}: the model that this adapter is for, `{base}`, cannot be read", path.display())
    })?;
    let config = model.parameters.config().clone();
    let mut values = model.parameters.into_values();
    adapter.merge(&config, &mut values)?;
    let parameters = Parameters::new(&config, values);
    Ok(ModelFile { parameters, place: path.to_owned(), ..model })
}

fn read_gguf(path: &Path) -> Result<ModelFile> {
    let mut file = GgufFile::open(path)?;
    let (config, params) = file.model()?;
    Ok(ModelFile {
        ends: file.ends(),
        tokenizer: file.has_tokenizer().then(|| path.to_owned()),
        chat_template: file.chat_template().map(str::to_owned),
        ..ModelFile::new(Parameters::new(&config, params), path)
    })
}

/// The newest checkpoint of a run, or the directory itself.
fn checkpoint_or_directory(path: &Path) -> Result<PathBuf> {
    match checkpoint::newest(path) {
        Ok((found, faults)) => {
            faults.iter().for_each(|fault| crate::term::warn(&fault.to_string()));
            Ok(found.path().to_owned())
        }
        Err(error) if path.join("config.json").exists() && !path.join("state.json").exists() => {
            drop(error);
            Ok(path.to_owned())
        }
        Err(error) if checkpoint::exists(path) || path.join("state.json").exists() => {
            Err(error.into())
        }
        Err(_) => {
            foreign::refuse_nanochats(path)?;
            match foreign::ending(path, ".gguf") {
                Some(file) => bail!("give the GGUF file itself: {}", path.join(file).display()),
                None => bail!(
                    "{} has no checkpoint and no config.json: give the directory of a run or of a checkpoint, \
                     a directory with config.json and safetensors files, a GGUF file, or a llama2.c .bin file",
                    path.display()
                ),
            }
        }
    }
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
    let beside = ["tokenizer.json", "tokenizer.model"].map(|name| directory.join(name));
    Ok(ModelFile {
        ends,
        tokenizer: beside.into_iter().find(|path| path.exists()),
        chat_template: read_chat_template(directory)?,
        ..ModelFile::new(Parameters::new(&described.config, params), directory)
    })
}

/// The template of conversations: a file of its own, or an entry of `tokenizer_config.json`.
fn read_chat_template(directory: &Path) -> Result<Option<String>> {
    let own = directory.join("chat_template.jinja");
    if own.exists() {
        return parsed(&own, |text| Ok(Some(text.to_owned())));
    }
    let config = directory.join("tokenizer_config.json");
    match config.exists() {
        true => parsed(&config, hugging_face::read_chat_template),
        false => Ok(None),
    }
}

/// Reads a file of text; faults name it.
fn parsed<T>(path: &Path, read: impl Fn(&str) -> Result<T, String>) -> Result<T> {
    foreign::refuse_stand_in(path)?;
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    read(&text).map_err(|reason| anyhow::anyhow!("{}: {reason}", path.display()))
}

/// Loads a tokenizer file, or the tokenizer of a GGUF file or of a directory; `fallback` is the one that
/// comes with the model.
pub(crate) fn read_tokenizer(given: Option<&Path>, fallback: Option<&Path>) -> Result<Tokenizer> {
    let path = given.or(fallback).ok_or_else(|| {
        usage("this model comes without a tokenizer: give one with --tokenizer FILE")
    })?;
    if given.is_some() && !path.exists() {
        bail!("there is no file or directory `{}` to read a tokenizer from", path.display());
    }
    let within = path.join("tokenizer.json");
    let path = if within.exists() { &within } else { path };
    if path.is_dir() {
        bail!(
            "{} has no tokenizer.json: give the file of a tokenizer, or a directory that holds one, such as a \
             checkpoint",
            path.display()
        );
    }
    foreign::refuse_stand_in(path)?;
    foreign::refuse_pickled_tokenizer(path)?;
    if foreign::is_gguf(path) {
        let tokenizer = GgufFile::open(path)?.tokenizer()?;
        return tokenizer.ok_or_else(|| anyhow!("{} has no tokenizer", path.display()));
    }
    Ok(Tokenizer::load(path)?)
}
