//! Documents to token ids, on all cores, in bounded memory.

use super::{Document, TextSource};
use crate::error::{Error, Result};
use crate::tokens::{Format, TokenFile, TokenWriter};
use rayon::prelude::*;
use std::fmt::Display;
use std::path::Path;

/// A tokenizer as this crate needs it: text to ids, without marks at the beginning or end.
pub type Encode<'a, E> = dyn Fn(&str) -> std::result::Result<Vec<u32>, E> + Sync + 'a;

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of input that are tokenized.
    pub bytes: u64,
    /// Tokens so far.
    pub tokens: u64,
}

/// The result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokenized {
    /// Documents.
    pub documents: u64,
    /// Bytes of their text.
    pub text_bytes: u64,
    /// Tokens, with the marks between documents.
    pub tokens: u64,
}

/// Text that is tokenized at once.
const BATCH_BYTES: usize = 4 << 20;
const BATCH_DOCUMENTS: usize = 1 << 14;

/// Tokenizes documents in parallel and hands the ids to `sink` in the order of the documents,
/// `document_start` (BOS) before each.
///
/// # Errors
/// Those of the documents and the sink, and [`Error::Tokenize`] with the message of the tokenizer.
pub fn tokenize<E: Display + Send>(
    documents: impl IntoIterator<Item = Result<Document>>,
    encode: &Encode<'_, E>,
    document_start: Option<u32>,
    sink: &mut dyn FnMut(&[u32]) -> Result<()>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Tokenized> {
    let mut documents = documents.into_iter();
    let mut report = Tokenized::default();
    let mut batch = Vec::new();
    loop {
        fill(&mut documents, &mut batch)?;
        let Some(last) = batch.last() else { return Ok(report) };
        let bytes = last.bytes_done;
        let ids: Vec<Vec<u32>> = batch
            .par_iter()
            .map(|document| encode_one(document, encode, document_start))
            .collect::<Result<_>>()?;
        for ids in &ids {
            sink(ids)?;
            report.tokens += ids.len() as u64;
        }
        for document in batch.drain(..) {
            report.documents += u64::from(document.begins);
            report.text_bytes += document.text.len() as u64;
        }
        progress(Progress { bytes, tokens: report.tokens });
    }
}

fn fill(
    documents: &mut impl Iterator<Item = Result<Document>>,
    batch: &mut Vec<Document>,
) -> Result<()> {
    let mut bytes = 0;
    while bytes < BATCH_BYTES && batch.len() < BATCH_DOCUMENTS {
        let Some(document) = documents.next() else { break };
        let document = document?;
        bytes += document.text.len();
        batch.push(document);
    }
    Ok(())
}

fn encode_one<E: Display>(
    document: &Document,
    encode: &Encode<'_, E>,
    document_start: Option<u32>,
) -> Result<Vec<u32>> {
    let mut ids = encode(&document.text)
        .map_err(|e| Error::Tokenize { byte: document.bytes_done, message: e.to_string() })?;
    if let (true, Some(mark)) = (document.begins, document_start) {
        ids.insert(0, mark);
    }
    Ok(ids)
}

/// [`tokenize`] into a token file, which appears at `output` only when it is complete.
pub fn tokenize_file<E: Display + Send>(
    input: &TextSource,
    encode: &Encode<'_, E>,
    document_start: Option<u32>,
    output: impl AsRef<Path>,
    format: Format,
    progress: &mut dyn FnMut(Progress),
) -> Result<Tokenized> {
    let mut writer = TokenWriter::create(output, format)?;
    let mut sink = |ids: &[u32]| writer.push(ids);
    let report = tokenize(input.documents(), encode, document_start, &mut sink, progress)?;
    writer.finish()?;
    Ok(report)
}

/// The tokens of a text in a file of `directory`, which is written unless one is there that was made of the
/// same text, as it is now, with the same `tokenizer` (its whole description). Also returns what was counted,
/// if it was written.
///
/// # Errors
/// Those of [`tokenize`], and of reading and writing token files.
pub fn tokenize_stored<E: Display + Send>(
    input: &TextSource,
    (tokenizer, vocab_size): (&str, u32),
    encode: &Encode<'_, E>,
    document_start: Option<u32>,
    directory: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<(TokenFile, Option<Tokenized>)> {
    let path = directory.join(input.name_with(tokenizer)?).with_extension("bin");
    if let Ok(file) = TokenFile::open(&path) {
        return Ok((file, None));
    }
    std::fs::create_dir_all(directory).map_err(Error::io(directory, "create"))?;
    let format = Format::shard_for(vocab_size);
    let report = tokenize_file(input, encode, document_start, &path, format, progress)?;
    Ok((TokenFile::open(path)?, Some(report)))
}

/// [`tokenize`] into memory, four bytes per token.
pub fn tokenize_to_memory<E: Display + Send>(
    documents: impl IntoIterator<Item = Result<Document>>,
    encode: &Encode<'_, E>,
    document_start: Option<u32>,
    progress: &mut dyn FnMut(Progress),
) -> Result<(Vec<u32>, Tokenized)> {
    let mut tokens = Vec::new();
    let mut sink = |ids: &[u32]| {
        tokens.extend_from_slice(ids);
        Ok(())
    };
    let report = tokenize(documents, encode, document_start, &mut sink, progress)?;
    Ok((tokens, report))
}
