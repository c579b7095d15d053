//! Text on its way to tokens: files and directories cut into documents.
//!
//! Read are `*.txt` and `*.md` as plain text and `*.jsonl` with one JSON object per line, whose
//! field `text` is a document. A directory is read recursively in the order of its paths; names
//! that begin with a dot, other extensions and links to directories are passed over. A single
//! file may have any name and counts as plain text unless it ends in `.jsonl`.
//!
//! In plain text a separator (usually [`crate::synth::SEPARATOR`], as in TinyStories) stands
//! between documents, and white space around it belongs to none. A file without one is a single
//! document, taken as it is. Documents longer than 4 MiB come in several pieces, cut after a line
//! or a word where there is one, so that memory stays bounded whatever the size of the input.

mod encode;

use crate::error::{Error, Result};
use crate::sniff;
pub use encode::{Encode, Progress, Tokenized, tokenize, tokenize_file, tokenize_to_memory};
use serde::Deserialize;
use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// A longer document is cut into pieces of about this many bytes.
const PIECE: usize = 4 << 20;
/// Bytes read at a time.
const CHUNK: usize = 256 << 10;
/// Longest line of a `.jsonl` file.
const LINE: u64 = 64 << 20;

/// A document, or a piece of a very long one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The text.
    pub text: String,
    /// False for the second and further pieces of a long document.
    pub begins: bool,
    /// Bytes of the whole input up to the end of this document.
    pub bytes_done: u64,
}

/// Text files in their order.
#[derive(Debug, Clone)]
pub struct TextSource {
    files: Vec<(PathBuf, u64)>,
    separator: String,
}

impl TextSource {
    /// A file, or the text files below a directory. An empty `separator` makes each plain file
    /// one document.
    ///
    /// # Errors
    /// [`Error::Io`] with the path that cannot be read, [`Error::NoText`] when there is no text
    /// file or all are empty. Contents are checked later, by [`TextSource::documents`].
    pub fn open(path: impl AsRef<Path>, separator: &str) -> Result<TextSource> {
        let path = path.as_ref();
        let meta = std::fs::metadata(path).map_err(Error::io(path, "read"))?;
        let mut files = Vec::new();
        if meta.is_dir() {
            collect(path, &mut files)?;
            files.sort();
        } else if meta.is_file() {
            files.push((path.to_owned(), meta.len()));
        } else {
            let problem = "neither a file nor a directory";
            return Err(Error::NoText { path: path.to_owned(), problem });
        }
        if files.is_empty() {
            let problem = "no text files (*.txt, *.md, *.jsonl) in this directory";
            return Err(Error::NoText { path: path.to_owned(), problem });
        }
        if files.iter().all(|(_, bytes)| *bytes == 0) {
            return Err(Error::NoText { path: path.to_owned(), problem: "there is no text in it" });
        }
        Ok(TextSource { files, separator: separator.to_owned() })
    }

    /// Bytes of all files.
    pub fn total_bytes(&self) -> u64 {
        self.files.iter().map(|(_, bytes)| bytes).sum()
    }

    /// The files in their order.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(path, _)| path.as_path())
    }

    /// Files that are probably not what was meant, such as an answer in JSON or a web page, each with
    /// what it is and what to do. Only the beginnings are read; what cannot be read is left to
    /// [`TextSource::documents`].
    pub fn oddities(&self) -> Vec<String> {
        let plain = self.files.iter().filter(|(path, _)| !has_extension(path, &["jsonl"]));
        let odd = plain.filter_map(|(path, _)| {
            let mut head = Vec::new();
            File::open(path).ok()?.take(sniff::HEAD as u64).read_to_end(&mut head).ok()?;
            Some(format!("{}: {}", path.display(), sniff::odd_text(&head)?))
        });
        odd.collect()
    }

    /// The documents of all files, read as they are asked for. Ends after the first error.
    pub fn documents(&self) -> Documents<'_> {
        Documents { source: self, next_file: 0, before: 0, reader: None }
    }

    /// Text to learn a tokenizer from: documents, one line break after each, of up to about
    /// `max_bytes` bytes in all, from the beginning of every file in proportion to its size.
    pub fn sample(&self, max_bytes: usize) -> Result<String> {
        let total = self.total_bytes().max(1);
        let mut sample = String::new();
        for (path, bytes) in &self.files {
            let share = (u128::from(*bytes) * max_bytes as u128 / u128::from(total)) as usize;
            let one = TextSource {
                files: vec![(path.clone(), *bytes)],
                separator: self.separator.clone(),
            };
            let end = sample.len() + share;
            for document in one.documents() {
                if sample.len() >= end {
                    break;
                }
                let text = document?.text;
                let mut room = text.len().min(end - sample.len());
                while !text.is_char_boundary(room) {
                    room -= 1;
                }
                sample.push_str(&text[..room]);
                sample.push('\n');
            }
        }
        Ok(sample)
    }
}

/// True if the name begins with a dot, as those of files that systems leave behind (`._data.bin`).
pub(crate) fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    path.extension().is_some_and(|e| extensions.iter().any(|x| e.eq_ignore_ascii_case(x)))
}

fn collect(dir: &Path, files: &mut Vec<(PathBuf, u64)>) -> Result<()> {
    for entry in std::fs::read_dir(dir).map_err(Error::io(dir, "list"))? {
        let entry = entry.map_err(Error::io(dir, "list"))?;
        let path = entry.path();
        if is_hidden(&path) {
            continue;
        }
        let kind = entry.file_type().map_err(Error::io(&path, "read"))?;
        if kind.is_dir() {
            collect(&path, files)?;
        } else if has_extension(&path, &["txt", "md", "jsonl"]) {
            let meta = std::fs::metadata(&path).map_err(Error::io(&path, "read"))?;
            if meta.is_file() {
                files.push((path, meta.len()));
            }
        }
    }
    Ok(())
}

/// Iterator over the documents of a [`TextSource`].
#[derive(Debug)]
pub struct Documents<'a> {
    source: &'a TextSource,
    next_file: usize,
    /// Bytes of the files before the present one.
    before: u64,
    reader: Option<DocumentReader>,
}

#[derive(Debug)]
enum DocumentReader {
    Plain(PlainReader),
    Jsonl(JsonlReader),
}

impl DocumentReader {
    fn open(path: &Path, separator: &str) -> Result<DocumentReader> {
        let file = File::open(path).map_err(Error::io(path, "open"))?;
        Ok(if has_extension(path, &["jsonl"]) {
            let lines = BufReader::with_capacity(CHUNK, file);
            let path = path.to_owned();
            DocumentReader::Jsonl(JsonlReader { path, lines, line: 0, offset: 0 })
        } else {
            DocumentReader::Plain(PlainReader::new(path, file, separator))
        })
    }

    fn next(&mut self) -> Result<Option<Document>> {
        match self {
            DocumentReader::Plain(reader) => reader.next(),
            DocumentReader::Jsonl(reader) => reader.next(),
        }
    }
}

impl Documents<'_> {
    fn advance(&mut self) -> Result<Option<Document>> {
        loop {
            if let Some(reader) = &mut self.reader {
                if let Some(mut document) = reader.next()? {
                    document.bytes_done += self.before;
                    return Ok(Some(document));
                }
                self.before += self.source.files[self.next_file - 1].1;
                self.reader = None;
            }
            let Some((path, _)) = self.source.files.get(self.next_file) else { return Ok(None) };
            self.next_file += 1;
            self.reader = Some(DocumentReader::open(path, &self.source.separator)?);
        }
    }
}

impl Iterator for Documents<'_> {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Result<Document>> {
        let next = self.advance();
        if next.is_err() {
            self.reader = None;
            self.next_file = self.source.files.len();
        }
        next.transpose()
    }
}

/// Refuses text in an encoding of wide characters, which may be valid UTF-8 full of zeros.
fn check_encoding(path: &Path, bytes: &[u8]) -> Result<()> {
    match sniff::wide_encoding(&bytes[..bytes.len().min(sniff::HEAD)]) {
        Some(encoding) => Err(Error::Encoding { path: path.to_owned(), encoding }),
        None => Ok(()),
    }
}

/// The error for a byte that is not UTF-8, with advice by how the file begins.
fn not_utf8(path: &Path, offset: u64) -> Error {
    let mut head = Vec::new();
    let file = File::open(path).ok();
    // Advice is all that is lost where the file cannot be read again.
    let _ = file.and_then(|f| f.take(sniff::HEAD as u64).read_to_end(&mut head).ok());
    let advice = match sniff::binary(&head) {
        Some(what) => what,
        None if head.contains(&0) => "it is a binary file, not text",
        None => "convert the file first, for example with iconv -f latin1 -t utf-8",
    };
    Error::Utf8 { path: path.to_owned(), offset, advice }
}

/// Cuts plain text at separators, and documents that are too long at lines or words.
#[derive(Debug)]
struct PlainReader {
    path: PathBuf,
    file: File,
    separator: Vec<u8>,
    /// Bytes read; those before `at` are done with.
    buffer: Vec<u8>,
    at: usize,
    /// No separator begins in `buffer[at..searched]`.
    searched: usize,
    /// Offset in the file of `buffer[0]`.
    offset: u64,
    ended: bool,
    begins: bool,
    after_separator: bool,
}

impl PlainReader {
    fn new(path: &Path, file: File, separator: &str) -> PlainReader {
        PlainReader {
            path: path.to_owned(),
            file,
            separator: separator.as_bytes().to_vec(),
            buffer: Vec::new(),
            at: 0,
            searched: 0,
            offset: 0,
            ended: false,
            begins: true,
            after_separator: false,
        }
    }

    fn next(&mut self) -> Result<Option<Document>> {
        loop {
            let found = self.find_separator();
            let (end, next, last) = if let Some(i) = found {
                (i, i + self.separator.len(), true)
            } else if self.buffer.len() - self.at >= PIECE {
                let cut = self.piece_end();
                (cut, cut, false)
            } else if !self.ended {
                self.fill()?;
                continue;
            } else if self.at == self.buffer.len() {
                return Ok(None);
            } else {
                (self.buffer.len(), self.buffer.len(), true)
            };
            let document = self.take(end, next, last, found.is_some())?;
            if document.is_some() {
                return Ok(document);
            }
        }
    }

    fn find_separator(&mut self) -> Option<usize> {
        if self.separator.is_empty() {
            return None;
        }
        let from = self.searched.max(self.at);
        let found = memchr::memmem::find(&self.buffer[from..], &self.separator);
        if found.is_none() {
            let tail = self.separator.len() - 1; // the beginning of one may stand at the end
            self.searched = self.buffer.len().saturating_sub(tail).max(self.at);
        }
        found.map(|i| from + i)
    }

    /// Where to cut a document that is too long: after the last line, else the last space, else
    /// between characters; never inside what may be the beginning of a separator.
    fn piece_end(&self) -> usize {
        let limit = self.buffer.len() - self.separator.len().max(4);
        let span = &self.buffer[self.at..limit];
        let cut = memchr::memrchr(b'\n', span).or_else(|| memchr::memrchr(b' ', span));
        let mut end = cut.map_or(limit, |i| self.at + i + 1);
        // 0b10xxxxxx continues a character of UTF-8; one has at most three of them.
        for _ in 0..3 {
            if self.buffer[end] & 0xc0 != 0x80 || end <= self.at + 1 {
                break;
            }
            end -= 1;
        }
        end
    }

    fn fill(&mut self) -> Result<()> {
        self.buffer.drain(..self.at);
        self.offset += self.at as u64;
        self.searched = self.searched.saturating_sub(self.at);
        self.at = 0;
        let old = self.buffer.len();
        let mut chunk = (&self.file).take(CHUNK as u64);
        chunk.read_to_end(&mut self.buffer).map_err(Error::io(&self.path, "read"))?;
        self.ended = self.buffer.len() == old;
        if self.offset == 0 && old == 0 {
            check_encoding(&self.path, &self.buffer)?;
            if self.buffer.starts_with("\u{feff}".as_bytes()) {
                self.at = 3; // the byte order mark is not text
            }
        }
        Ok(())
    }

    /// The document that ends at `end`, unless it is blank; goes on at `next`.
    fn take(&mut self, end: usize, next: usize, last: bool, cut: bool) -> Result<Option<Document>> {
        let text = std::str::from_utf8(&self.buffer[self.at..end])
            .map_err(|e| not_utf8(&self.path, self.offset + (self.at + e.valid_up_to()) as u64))?;
        let trimmed = if self.after_separator && self.begins { text.trim_start() } else { text };
        let ends_document = cut || (last && self.after_separator);
        let trimmed = if ends_document { trimmed.trim_end() } else { trimmed };
        let blank = if self.begins { trimmed.trim().is_empty() } else { trimmed.is_empty() };
        let document = (!blank).then(|| Document {
            text: trimmed.to_owned(),
            begins: self.begins,
            bytes_done: self.offset + next as u64,
        });
        self.at = next;
        self.after_separator |= cut;
        self.begins = last || (blank && self.begins);
        Ok(document)
    }
}

/// One document per line.
#[derive(Debug)]
struct JsonlReader {
    path: PathBuf,
    lines: BufReader<File>,
    line: u64,
    offset: u64,
}

#[derive(Deserialize)]
struct JsonlLine<'a> {
    #[serde(borrow)]
    text: Cow<'a, str>,
}

impl JsonlReader {
    fn next(&mut self) -> Result<Option<Document>> {
        loop {
            let mut bytes = Vec::new();
            let mut lines = (&mut self.lines).take(LINE + 1);
            let read =
                lines.read_until(b'\n', &mut bytes).map_err(Error::io(&self.path, "read"))?;
            if read == 0 {
                return Ok(None);
            }
            self.line += 1;
            if read as u64 > LINE {
                return Err(self.fault("the line is longer than 64 MiB".into()));
            }
            if self.offset == 0 {
                check_encoding(&self.path, &bytes)?;
            }
            let text = std::str::from_utf8(&bytes)
                .map_err(|e| not_utf8(&self.path, self.offset + e.valid_up_to() as u64))?;
            self.offset += read as u64;
            if text.trim().is_empty() {
                continue;
            }
            let line: JsonlLine<'_> = serde_json::from_str(text).map_err(|e| {
                self.fault(format!("not a JSON object with a string field \"text\": {e}"))
            })?;
            if !line.text.trim().is_empty() {
                let (text, bytes_done) = (line.text.into_owned(), self.offset);
                return Ok(Some(Document { text, begins: true, bytes_done }));
            }
        }
    }

    fn fault(&self, problem: String) -> Error {
        Error::Jsonl { path: self.path.clone(), line: self.line, problem }
    }
}

#[cfg(test)]
mod tests;
