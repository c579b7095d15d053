//! The text of a run: where it comes from and how it becomes tokens.

use crate::{engine, files, progress, usage};
use anyhow::{Result, bail};
use data::loader::{TokenSource, is_token_file};
use data::synth::{SEPARATOR, Stories};
use data::text::{FIELD, TextSource, Tokenized, tokenize_stored, tokenize_to_memory};
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

/// Bytes of text whose tokens are kept in memory; those of more are written to a file and mapped.
const IN_MEMORY: u64 = 512 << 20;

/// The text of a run, as it is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    /// `synthetic`, a text file or directory, or token files.
    pub(crate) data: &'a str,
    /// The field or column that holds the text, if it is not [`FIELD`].
    pub(crate) field: Option<&'a str>,
    /// Seed of synthetic stories.
    pub(crate) seed: u64,
}

/// Loads a text with the tokenizer `spec` (`bpe`, `bpe:SIZE`, `char` or a file), or with `given`, which a
/// resumed or initialised run has.
pub(crate) fn load(
    wanted: Wanted<'_>,
    spec: Option<&str>,
    given: Option<Tokenizer>,
) -> Result<Corpus> {
    match open(wanted)? {
        Some(text) => tokenized(&text, choose(&text, spec, given)?, &label(wanted)),
        None => token_files(Path::new(wanted.data), spec, given),
    }
}

/// As [`load`], but the last of several Parquet files is a corpus of its own, to validate with.
pub(crate) fn load_split(
    wanted: Wanted<'_>,
    spec: Option<&str>,
    given: Option<Tokenizer>,
) -> Result<(Corpus, Option<Corpus>)> {
    let Some(mut text) = open(wanted)? else {
        return Ok((token_files(Path::new(wanted.data), spec, given)?, None));
    };
    let last = text.split_last();
    let tokenizer = choose(&text, spec, given)?;
    let validation = last.map(|last| {
        let name = last.files().next().and_then(Path::file_name).unwrap_or_default();
        tokenized(&last, tokenizer.clone(), &name.to_string_lossy())
    });
    let validation = validation.transpose()?;
    Ok((tokenized(&text, tokenizer, &label(wanted))?, validation))
}

/// The texts; `None` for token files.
pub(crate) fn open(wanted: Wanted<'_>) -> Result<Option<TextSource>> {
    let Wanted { data, field, seed } = wanted;
    if data == "synthetic" {
        let text = Stories::new(seed).text(SYNTHETIC_BYTES);
        let stories = text.split(SEPARATOR).map(str::trim).filter(|story| !story.is_empty());
        let stories = stories.map(str::to_owned).collect();
        return Ok(Some(TextSource::in_memory(data, stories)));
    }
    let path = Path::new(data);
    if holds_tokens(path)? {
        return Ok(None);
    }
    let text = TextSource::open(path, SEPARATOR)?.field(field.unwrap_or(FIELD));
    text.oddities().iter().for_each(|notice| eprintln!("warning: {notice}"));
    Ok(Some(text))
}

/// A text's name for people.
pub(crate) fn label(Wanted { data, seed, .. }: Wanted<'_>) -> String {
    match data {
        "synthetic" => format!("synthetic stories (seed {seed})"),
        path => path.to_owned(),
    }
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

/// The tokenizer of a text: `given`, one that `spec` names, or one learned from the text.
pub(crate) fn choose(
    text: &TextSource,
    spec: Option<&str>,
    given: Option<Tokenizer>,
) -> Result<Tokenizer> {
    if let Some(given) = given {
        return Ok(given);
    }
    let size = match spec {
        None | Some("bpe") => VOCABULARY,
        Some("char") => return characters(text.documents().map(|d| d.map(|d| d.text))),
        Some(other) => match other.strip_prefix("bpe:") {
            Some(size) => size.parse().map_err(|_| {
                usage(format!(
                    "--tokenizer {other}: write bpe:SIZE with a whole number, such as bpe:4096"
                ))
            })?,
            None if !Path::new(other).exists() => {
                bail!(
                    "--tokenizer {other}: there is no such file; give bpe, bpe:SIZE, char, or the \
                     file of a tokenizer"
                );
            }
            None => return files::read_tokenizer(Some(Path::new(other)), None),
        },
    };
    let tokenizer = Tokenizer::train_bpe(to_learn(text)?, size, &mut |_| {})?;
    let smaller = smaller_vocabulary(size, tokenizer.vocab_size());
    smaller.iter().for_each(|notice| eprintln!("note: {notice}"));
    Ok(tokenizer)
}

/// The texts that a vocabulary is learned from: all of what is in memory, else a sample of the files.
fn to_learn(text: &TextSource) -> Result<Vec<String>> {
    match text.is_in_memory() {
        true => Ok(text.documents().map(|d| d.map(|d| d.text)).collect::<data::Result<_>>()?),
        false => Ok(vec![text.sample(LEARN_BYTES)?]),
    }
}

/// Turns a text into tokens, in memory or, where there are many, in a file that is kept for the next run.
fn tokenized(text: &TextSource, tokenizer: Tokenizer, label: &str) -> Result<Corpus> {
    let bar = progress::bytes("tokenizing", text.total_bytes());
    let made = tokens_of(text, &tokenizer, &mut |p| bar.set_position(p.bytes));
    bar.finish_and_clear();
    let (source, report) = made?;
    let bytes = text.text_bytes()?;
    let description = format!(
        "{label}: {} of text, {} tokens ({})",
        progress::size(bytes),
        progress::count(source.len() as f64),
        tokenizer.describe()
    );
    let bytes = report.map(|report| report.text_bytes);
    Ok(Corpus { source, tokenizer, bytes, description })
}

fn tokens_of(
    text: &TextSource,
    tokenizer: &Tokenizer,
    progress: &mut dyn FnMut(data::text::Progress),
) -> Result<(TokenSource, Option<Tokenized>)> {
    let encode = |text: &str| tokenizer.encode(text);
    if text.text_bytes()? > IN_MEMORY
        && let Some(caches) = engine::caches()
    {
        let (json, size) = (tokenizer.to_json()?, tokenizer.vocab_size() as u32);
        let directory = caches.join("anegpt").join("tokens");
        let (key, bos) = ((json.as_str(), size), tokenizer.bos());
        let (file, report) = tokenize_stored(text, key, &encode, bos, &directory, progress)?;
        return Ok((file.into(), report));
    }
    let (tokens, report) =
        tokenize_to_memory(text.documents(), &encode, tokenizer.bos(), progress)?;
    Ok((tokens.into(), Some(report)))
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
