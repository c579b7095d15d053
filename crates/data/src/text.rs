//! Text on its way to tokens: files and directories cut into documents.
//!
//! Read are `*.txt` and `*.md` as plain text, `*.jsonl` with one JSON object per line, whose field `text` is
//! a document, and `*.parquet`, whose column `text` has a document in each row (see
//! [`TextSource::field`] for other names). A directory is read recursively in the order of its paths; names
//! that begin with a dot, other extensions and links to directories are passed over. A single
//! file may have any name and counts as plain text unless it ends in `.jsonl` or `.parquet`.
//!
//! In plain text a separator (usually [`crate::synth::SEPARATOR`], as in TinyStories) stands
//! between documents, and white space around it belongs to none. A file without one is a single
//! document, taken as it is. Documents longer than 4 MiB come in several pieces, cut after a line
//! or a word where there is one. Of `*.jsonl` a line is in memory at a time, of `*.parquet` a page: so
//! memory stays bounded whatever the size of the input.
//!
//! Every document has a [`Place`], by which it is read again without what stands before it.

mod encode;
mod fingerprint;
mod lines;
mod place;
mod plain;

use crate::error::{Error, Result};
use crate::parquet::{ParquetFile, Rows};
use crate::sniff;
pub use encode::{
    Encode, Progress, Tokenized, tokenize, tokenize_file, tokenize_stored, tokenize_to_memory,
};
use lines::JsonlReader;
pub use lines::json_reason;
pub use place::Place;
use plain::PlainReader;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The field of JSON lines, and the column of Parquet files, that holds the text.
pub const FIELD: &str = "text";

/// Extensions of what is read in a directory.
const EXTENSIONS: [&str; 4] = ["txt", "md", "jsonl", "parquet"];

/// A document, or a piece of a very long one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The text.
    pub text: String,
    /// False for the second and further pieces of a long document.
    pub begins: bool,
    /// Bytes of the whole input up to the end of this document; of a Parquet file about that.
    pub bytes_done: u64,
    /// Where it stands.
    pub place: Place,
}

impl Document {
    /// A whole document that is in no file.
    pub fn new(text: impl Into<String>) -> Document {
        Document { text: text.into(), begins: true, bytes_done: 0, place: Place::default() }
    }
}

/// Texts in their order: files, or documents in memory.
#[derive(Debug, Clone)]
pub struct TextSource {
    inputs: Vec<Input>,
    separator: String,
    field: String,
}

/// A file, or documents in memory.
#[derive(Debug, Clone)]
struct Input {
    path: PathBuf,
    bytes: u64,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Plain,
    Lines,
    Parquet,
    Memory(Arc<Vec<String>>),
}

impl Input {
    fn of_file(path: PathBuf, bytes: u64) -> Input {
        let kind = match () {
            () if has_extension(&path, &["jsonl"]) => Kind::Lines,
            () if has_extension(&path, &["parquet"]) => Kind::Parquet,
            () => Kind::Plain,
        };
        Input { path, bytes, kind }
    }
}

/// What a Parquet file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParquetInfo {
    /// Rows.
    pub rows: u64,
    /// Row groups.
    pub row_groups: usize,
    /// Bytes of the column's pages before compression: about those of its texts.
    pub text_bytes: u64,
    /// How its pages are compressed.
    pub compressions: BTreeSet<&'static str>,
}

/// Describes the column `field` of a Parquet file.
///
/// # Errors
/// [`Error::Parquet`] and [`Error::Io`].
pub fn parquet_info(path: &Path, field: &str) -> Result<ParquetInfo> {
    let file = ParquetFile::open(path, field)?;
    Ok(ParquetInfo {
        rows: file.rows(),
        row_groups: file.groups(),
        text_bytes: file.text_bytes(),
        compressions: file.compressions(),
    })
}

/// True if the name is that of a Parquet file.
pub fn is_parquet(path: &Path) -> bool {
    has_extension(path, &["parquet"])
}

/// True if the name is that of a file of texts, as directories are searched for.
pub fn is_text_file(path: &Path) -> bool {
    has_extension(path, &EXTENSIONS)
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
            let problem = "no text files (*.txt, *.md, *.jsonl, *.parquet) in this directory";
            return Err(Error::NoText { path: path.to_owned(), problem });
        }
        if files.iter().all(|(_, bytes)| *bytes == 0) {
            return Err(Error::NoText { path: path.to_owned(), problem: "there is no text in it" });
        }
        let inputs = files.into_iter().map(|(path, bytes)| Input::of_file(path, bytes)).collect();
        Ok(TextSource { inputs, separator: separator.to_owned(), field: FIELD.to_owned() })
    }

    /// Documents that are in memory, without those that are blank; `name` stands for them where files have a
    /// path.
    pub fn in_memory(name: &str, mut documents: Vec<String>) -> TextSource {
        documents.retain(|text| !text.trim().is_empty());
        let bytes = documents.iter().map(|text| text.len() as u64).sum();
        let kind = Kind::Memory(Arc::new(documents));
        let inputs = vec![Input { path: name.into(), bytes, kind }];
        TextSource { inputs, separator: String::new(), field: FIELD.to_owned() }
    }

    /// True for [`TextSource::in_memory`].
    pub fn is_in_memory(&self) -> bool {
        self.inputs.iter().all(|input| matches!(input.kind, Kind::Memory(_)))
    }

    /// Takes the text from another field of JSON lines, or column of Parquet files, than [`FIELD`].
    #[must_use]
    pub fn field(self, field: &str) -> TextSource {
        TextSource { field: field.to_owned(), ..self }
    }

    /// Bytes of all files.
    pub fn total_bytes(&self) -> u64 {
        self.inputs.iter().map(|input| input.bytes).sum()
    }

    /// About the bytes of all texts: of Parquet files those before compression, which they state.
    ///
    /// # Errors
    /// As [`parquet_info`].
    pub fn text_bytes(&self) -> Result<u64> {
        let bytes = self.inputs.iter().map(|input| match input.kind {
            Kind::Parquet => Ok(ParquetFile::open(&input.path, &self.field)?.text_bytes()),
            _ => Ok(input.bytes),
        });
        bytes.sum()
    }

    /// The files in their order.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.inputs.iter().map(|input| input.path.as_path())
    }

    /// Takes the last file off several, all of Parquet: of such directories, it is the one to validate
    /// with (nanochat). `None` for all other texts, which are left as they are.
    pub fn split_last(&mut self) -> Option<TextSource> {
        let parquet = self.inputs.iter().all(|input| matches!(input.kind, Kind::Parquet));
        if !parquet || self.inputs.len() < 2 {
            return None;
        }
        let last = self.inputs.pop()?;
        Some(TextSource { inputs: vec![last], ..self.clone() })
    }

    /// Files that are probably not what was meant, such as an answer in JSON or a web page, each with
    /// what it is and what to do. Only the beginnings are read; what cannot be read is left to
    /// [`TextSource::documents`].
    pub fn oddities(&self) -> Vec<String> {
        let plain = self.inputs.iter().filter(|input| matches!(input.kind, Kind::Plain));
        let odd = plain.filter_map(|Input { path, .. }| {
            let mut head = Vec::new();
            File::open(path).ok()?.take(sniff::HEAD as u64).read_to_end(&mut head).ok()?;
            Some(format!("{}: {}", path.display(), sniff::odd_text(&head)?))
        });
        odd.collect()
    }

    /// The documents of all files, read as they are asked for. Ends after the first error.
    pub fn documents(&self) -> Documents<'_> {
        self.documents_from(Place::default())
    }

    /// The documents from `place` on: that of a document, or [`Documents::place`].
    pub fn documents_from(&self, place: Place) -> Documents<'_> {
        let done = (place.file as usize).min(self.inputs.len());
        let before = self.inputs[..done].iter().map(|input| input.bytes).sum();
        Documents { source: self, place, before, reader: None }
    }

    /// The documents at these places, in their order.
    ///
    /// # Errors
    /// Those of reading, and [`Error::Cursor`] where no document begins at a place.
    pub fn fetch(&self, places: &[Place]) -> Result<Vec<Document>> {
        let mut order: Vec<usize> = (0..places.len()).collect();
        order.sort_by_key(|&n| places[n]);
        let mut found: Vec<(usize, Document)> = Vec::with_capacity(places.len());
        let mut documents: Option<Documents<'_>> = None;
        for n in order {
            let place = places[n];
            if let Some((_, last)) = found.last().filter(|(_, last)| last.place == place) {
                found.push((n, last.clone()));
                continue;
            }
            let here = documents.take().filter(|documents| self.leads_to(documents.place(), place));
            let here = documents.insert(here.unwrap_or_else(|| self.documents_from(place)));
            found.push((n, document_at(here, place)?));
        }
        found.sort_by_key(|(n, _)| *n);
        Ok(found.into_iter().map(|(_, document)| document).collect())
    }

    /// True if reading on from `here` comes to `there` soon.
    fn leads_to(&self, here: Place, there: Place) -> bool {
        let parquet = self.row_group(here).is_some();
        here == there || parquet && self.same_block(here, there) && here.detail <= there.detail
    }

    /// True unless the places are in different row groups.
    pub(crate) fn same_block(&self, a: Place, b: Place) -> bool {
        self.row_group(a) == self.row_group(b)
    }

    /// File and row group of a place in a Parquet file.
    pub(crate) fn row_group(&self, place: Place) -> Option<(u32, u64)> {
        let input = self.inputs.get(place.file as usize)?;
        matches!(input.kind, Kind::Parquet).then_some((place.file, place.at))
    }

    /// Text to learn a tokenizer from: documents, one line break after each, of up to about
    /// `max_bytes` bytes in all, from the beginning of every file in proportion to its size.
    pub fn sample(&self, max_bytes: usize) -> Result<String> {
        let total = self.total_bytes().max(1);
        let mut sample = String::new();
        for input in &self.inputs {
            let share = (u128::from(input.bytes) * max_bytes as u128 / u128::from(total)) as usize;
            let one = TextSource { inputs: vec![input.clone()], ..self.clone() };
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
        } else if has_extension(&path, &EXTENSIONS) {
            let meta = std::fs::metadata(&path).map_err(Error::io(&path, "read"))?;
            if meta.is_file() {
                files.push((path, meta.len()));
            }
        }
    }
    Ok(())
}

/// Reads on to the document at `place`.
fn document_at(documents: &mut Documents<'_>, place: Place) -> Result<Document> {
    for document in documents {
        let document = document?;
        if document.place == place {
            return Ok(document);
        }
        if document.place > place {
            break;
        }
    }
    Err(Error::Cursor {
        what: "a document that was read ahead",
        expected: format!("at {place:?}"),
        got: "not there".to_owned(),
    })
}

/// Iterator over the documents of a [`TextSource`].
#[derive(Debug)]
pub struct Documents<'a> {
    source: &'a TextSource,
    /// Where the next document stands, or something before it that is none.
    place: Place,
    /// Bytes of the files before the present one.
    before: u64,
    reader: Option<Reader>,
}

/// What reads one file.
#[derive(Debug)]
enum Reader {
    Plain(PlainReader),
    Lines(JsonlReader),
    Parquet(Box<Rows>, Place),
    Memory(Arc<Vec<String>>, Place, u64),
}

impl Reader {
    /// Begins at `place` in `input`.
    fn open(input: &Input, source: &TextSource, place: Place) -> Result<Reader> {
        let path = &input.path;
        Ok(match &input.kind {
            Kind::Plain => Reader::Plain(PlainReader::open(path, &source.separator, place)?),
            Kind::Lines => Reader::Lines(JsonlReader::open(path, &source.field, place)?),
            Kind::Parquet => {
                let file = ParquetFile::open(path, &source.field)?;
                let rows = file.rows_from(place.at as usize, place.detail);
                Reader::Parquet(Box::new(rows), place)
            }
            Kind::Memory(all) => {
                let done = (place.at as usize).min(all.len());
                let bytes = all[..done].iter().map(|text| text.len() as u64).sum();
                Reader::Memory(Arc::clone(all), place, bytes)
            }
        })
    }

    /// The next document; its place lacks the file.
    fn next(&mut self) -> Result<Option<Document>> {
        match self {
            Reader::Plain(reader) => reader.next(),
            Reader::Lines(reader) => reader.next(),
            Reader::Parquet(rows, next) => Ok(rows.next()?.map(|row| {
                let place = Place { file: 0, at: row.group as u64, detail: row.row };
                *next = Place { detail: row.row + 1, ..place };
                Document { text: row.text, begins: true, bytes_done: row.bytes_done, place }
            })),
            Reader::Memory(all, next, bytes) => Ok(all.get(next.at as usize).map(|text| {
                let place = *next;
                next.at += 1;
                *bytes += text.len() as u64;
                Document { text: text.clone(), begins: true, bytes_done: *bytes, place }
            })),
        }
    }

    /// Where it goes on, without the file.
    fn place(&self) -> Place {
        match self {
            Reader::Plain(reader) => reader.place(),
            Reader::Lines(reader) => reader.place(),
            Reader::Parquet(_, place) | Reader::Memory(_, place, _) => *place,
        }
    }
}

impl Documents<'_> {
    /// Where the next document stands, or something before it that is none.
    pub fn place(&self) -> Place {
        self.place
    }

    fn advance(&mut self) -> Result<Option<Document>> {
        loop {
            let file = self.place.file;
            let Some(input) = self.source.inputs.get(file as usize) else { return Ok(None) };
            let reader = match &mut self.reader {
                Some(reader) => reader,
                none => none.insert(Reader::open(input, self.source, self.place)?),
            };
            if let Some(mut document) = reader.next()? {
                self.place = Place { file, ..reader.place() };
                document.place.file = file;
                document.bytes_done += self.before;
                return Ok(Some(document));
            }
            self.before += input.bytes;
            self.reader = None;
            self.place = Place { file: file + 1, ..Place::default() };
        }
    }
}

impl Iterator for Documents<'_> {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Result<Document>> {
        let next = self.advance();
        if next.is_err() {
            self.reader = None;
            self.place = Place { file: u32::MAX, ..Place::default() };
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

#[cfg(test)]
mod tests;
