//! The text of a run: where it comes from and how it becomes tokens.

use crate::{files, progress, usage};
use anyhow::{Result, bail};
use data::loader::{TokenSource, is_token_file};
use data::synth::{SEPARATOR, Stories};
use data::text::{Document, TextSource, tokenize_to_memory};
use std::path::Path;
use tokenizer::Tokenizer;

/// Bytes of synthetic stories that a run learns from.
const SYNTHETIC_BYTES: usize = 6_000_000;
/// Text from which a tokenizer is learned.
const LEARN_BYTES: usize = 4_000_000;
/// Tokens of a vocabulary that is learned on the spot, unless told otherwise.
const VOCABULARY: usize = 2048;

/// Tokens with the tokenizer they were made with.
#[derive(Debug)]
pub(crate) struct Corpus {
    pub(crate) source: TokenSource,
    pub(crate) tokenizer: Tokenizer,
    /// Bytes of the documents' text; unknown for token files.
    pub(crate) bytes: Option<u64>,
    /// One line for people.
    pub(crate) description: String,
}

/// Loads `data` (`synthetic`, a text file or directory, or token files) with the tokenizer `spec`
/// (`bpe`, `bpe:SIZE`, `char` or a file), or with `given`, which a resumed or initialised run has.
pub(crate) fn load(
    data: &str,
    spec: Option<&str>,
    given: Option<Tokenizer>,
    seed: u64,
) -> Result<Corpus> {
    if data == "synthetic" {
        let stories = Stories::new(seed);
        let text = stories.text(SYNTHETIC_BYTES);
        let documents: Vec<&str> =
            text.split(SEPARATOR).map(str::trim).filter(|story| !story.is_empty()).collect();
        let tokenizer =
            choose(spec, given, || Ok(documents.iter().map(|s| (*s).to_owned()).collect()))?;
        let label = format!("synthetic stories (seed {seed})");
        let documents = documents
            .into_iter()
            .map(|text| Ok(Document { text: text.to_owned(), begins: true, bytes_done: 0 }));
        return in_memory(documents, tokenizer, &label, text.len() as u64);
    }
    let path = Path::new(data);
    if holds_tokens(path)? {
        return token_files(path, spec, given);
    }
    let text = TextSource::open(path, SEPARATOR)?;
    text.oddities().iter().for_each(|notice| eprintln!("warning: {notice}"));
    let learn = || Ok(vec![text.sample(LEARN_BYTES)?]);
    let tokenizer = match (spec, given) {
        (Some("char"), None) => characters(text.documents().map(|d| d.map(|d| d.text)))?,
        (spec, given) => choose(spec, given, learn)?,
    };
    in_memory(text.documents(), tokenizer, data, text.total_bytes())
}

/// Learns the characters of texts, one text at a time.
pub(crate) fn characters(texts: impl Iterator<Item = data::Result<String>>) -> Result<Tokenizer> {
    let mut fault = None;
    let readable = texts.map_while(|text| text.map_err(|error| fault = Some(error)).ok());
    let learned = Tokenizer::train_char(readable);
    match fault {
        Some(fault) => Err(fault.into()),
        None => Ok(learned?),
    }
}

/// True if the tokenizer `spec` is a vocabulary that is learned from the text.
pub(crate) fn is_learned(spec: &str) -> bool {
    spec == "bpe" || spec == "char" || spec.starts_with("bpe:")
}

/// True if `path` holds token ids: a `.bin` file, or a directory with one that is not hidden.
///
/// # Errors
/// If a directory holds text as well: only its owner knows which is meant.
fn holds_tokens(path: &Path) -> Result<bool> {
    let Ok(entries) = std::fs::read_dir(path) else {
        return Ok(path.extension().is_some_and(|e| e == "bin"));
    };
    let mut tokens: Vec<_> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    tokens.retain(|path| is_token_file(path));
    let Some(first) = tokens.iter().min() else { return Ok(false) };
    let texts = TextSource::open(path, SEPARATOR).ok();
    let Some(text) = texts.iter().flat_map(TextSource::files).find(|path| !is_notice(path)) else {
        return Ok(true);
    };
    Err(usage(format!(
        "{} holds both text ({}) and .bin files ({}), which would be token ids: give the file that you \
         mean, such as --data {}, or move the others away",
        path.display(),
        text.strip_prefix(path).unwrap_or(text).display(),
        first.strip_prefix(path).unwrap_or(first).display(),
        text.display(),
    )))
}

/// True for a text that comes with data and is not data.
fn is_notice(path: &Path) -> bool {
    let name = path.file_stem().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    ["readme", "license", "licence", "changelog"].contains(&name.as_str())
}

/// The message where a text gave fewer tokens than were asked for.
pub(crate) fn smaller_vocabulary(asked: usize, got: usize) -> Option<String> {
    (got < asked).then(|| {
        format!(
            "the text gives a vocabulary of {got} tokens, not {asked}: no other pair of them occurs twice"
        )
    })
}

fn choose(
    spec: Option<&str>,
    given: Option<Tokenizer>,
    texts: impl FnOnce() -> Result<Vec<String>>,
) -> Result<Tokenizer> {
    if let Some(given) = given {
        return Ok(given);
    }
    let size = match spec {
        None | Some("bpe") => Some(VOCABULARY),
        Some("char") => None,
        Some(other) => match other.strip_prefix("bpe:") {
            Some(size) => Some(size.parse().map_err(|_| {
                usage(format!(
                    "--tokenizer {other}: write bpe:SIZE with a whole number, such as bpe:4096"
                ))
            })?),
            None if !Path::new(other).exists() => {
                bail!(
                    "--tokenizer {other}: there is no such file; give bpe, bpe:SIZE, char, or the \
                     file of a tokenizer"
                );
            }
            None => return files::read_tokenizer(Some(Path::new(other)), None),
        },
    };
    let texts = texts()?;
    match size {
        Some(size) => {
            let tokenizer = Tokenizer::train_bpe(texts, size, &mut |_| {})?;
            let smaller = smaller_vocabulary(size, tokenizer.vocab_size());
            smaller.iter().for_each(|notice| eprintln!("note: {notice}"));
            Ok(tokenizer)
        }
        None => Ok(Tokenizer::train_char(texts)?),
    }
}

fn in_memory(
    documents: impl IntoIterator<Item = data::Result<Document>>,
    tokenizer: Tokenizer,
    label: &str,
    bytes: u64,
) -> Result<Corpus> {
    let encode = |text: &str| tokenizer.encode(text);
    let bar = progress::bytes("tokenizing", bytes);
    let result = tokenize_to_memory(documents, &encode, tokenizer.bos(), &mut |p| {
        bar.set_position(p.bytes);
    });
    bar.finish_and_clear();
    let (tokens, report) = result?;
    let description = format!(
        "{label}: {} of text, {} tokens ({})",
        progress::size(bytes),
        progress::count(report.tokens as f64),
        tokenizer.describe()
    );
    let bytes = Some(report.text_bytes);
    Ok(Corpus { source: TokenSource::from(tokens), tokenizer, bytes, description })
}

fn token_files(path: &Path, spec: Option<&str>, given: Option<Tokenizer>) -> Result<Corpus> {
    let tokenizer = match (given, spec) {
        (Some(tokenizer), _) => tokenizer,
        (None, Some(file)) if !is_learned(file) => {
            files::read_tokenizer(Some(Path::new(file)), None)?
        }
        _ => {
            return Err(usage(format!(
                "{} holds token ids: give the tokenizer that made them with --tokenizer FILE",
                path.display()
            )));
        }
    };
    let source = TokenSource::open(path)?;
    source.check_ids(tokenizer.vocab_size() as u32)?;
    let description = format!(
        "{}: {} tokens ({})",
        path.display(),
        progress::count(source.len() as f64),
        tokenizer.describe()
    );
    Ok(Corpus { source, tokenizer, bytes: None, description })
}
