//! Parquet files: a column of texts ([`ParquetFile`]), or rows of texts, whole numbers, lists and structures of
//! them ([`Records`]). Plain and dictionary pages of both versions are read, and four ways of compression. The
//! format is that of parquet.apache.org/docs/file-format.
//!
//! One page of a column is in memory at a time, with its dictionary. Everything that a file states is checked before
//! it is used, and no memory is taken for what it merely claims.

mod codec;
mod footer;
mod hybrid;
mod page;
mod records;
mod thrift;

use crate::error::{Error, Result};
use footer::{Chunk, Column, Footer};
use page::{Dictionary, Entry, Header, Page, Use};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use thrift::Fault;

pub use records::Records;

/// At either end of a file.
const MAGIC: &[u8; 4] = b"PAR1";
/// At the end of one whose metadata is encrypted.
const ENCRYPTED: &[u8; 4] = b"PARE";
/// Bytes that are read for the header of a page, first and at most.
const HEADER: (u64, u64) = (16 << 10, 16 << 20);

/// A file and the places of its texts.
#[derive(Debug)]
pub(crate) struct ParquetFile {
    path: PathBuf,
    file: File,
    column: Column,
    chunks: Vec<Chunk>,
}

impl ParquetFile {
    /// Reads what the file says of its column `column`.
    ///
    /// # Errors
    /// [`Error::Parquet`] when it is damaged, or the column is not one of texts; [`Error::Io`].
    pub(crate) fn open(path: &Path, column: &str) -> Result<ParquetFile> {
        let fault = |problem: String| Error::Parquet { path: path.to_owned(), problem };
        let (file, footer, bytes) = open(path)?;
        let column = footer.column(column).map_err(fault)?;
        let chunks = footer.chunks(&column, bytes).map_err(fault)?;
        Ok(ParquetFile { path: path.to_owned(), file, column, chunks })
    }

    pub(crate) fn groups(&self) -> usize {
        self.chunks.len()
    }

    pub(crate) fn rows(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.rows).sum()
    }

    /// About the bytes of all texts: those of the pages before compression.
    pub(crate) fn text_bytes(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.uncompressed).fold(0, u64::saturating_add)
    }

    /// How the pages are compressed, in words.
    pub(crate) fn compressions(&self) -> BTreeSet<&'static str> {
        self.chunks.iter().map(|chunk| chunk.codec.name()).collect()
    }

    /// Goes through the rows from `row` of row group `group` on.
    pub(crate) fn rows_from(self, group: usize, row: u64) -> Rows {
        Rows { file: self, group, row: 0, until: row, pages: None }
    }
}

/// Opens a file; what its end says, and how long it is.
fn open(path: &Path) -> Result<(File, Footer, u64)> {
    let fault = |problem: String| Error::Parquet { path: path.to_owned(), problem };
    let mut file = File::open(path).map_err(Error::io(path, "open"))?;
    let bytes = file.metadata().map_err(Error::io(path, "read"))?.len();
    let metadata = metadata(&mut file, bytes).map_err(Error::io(path, "read"))?;
    let metadata = metadata.map_err(|problem| fault(problem.to_owned()))?;
    let footer = Footer::parse(&metadata).map_err(|e| fault(e.to_string()))?;
    Ok((file, footer, bytes))
}

/// What is wrong with a file that should be a whole Parquet file, with columns of whatever kind.
pub(crate) fn fault(path: &Path) -> Option<String> {
    let read = || -> std::io::Result<std::result::Result<Vec<u8>, &'static str>> {
        let mut file = File::open(path)?;
        let bytes = file.metadata()?.len();
        metadata(&mut file, bytes)
    };
    match read() {
        Ok(Ok(metadata)) => Footer::parse(&metadata).err().map(|fault| fault.to_string()),
        Ok(Err(problem)) => Some(problem.to_owned()),
        Err(error) => Some(error.to_string()),
    }
}

/// The metadata at the end, or what is wrong with the file.
fn metadata(
    file: &mut File,
    bytes: u64,
) -> std::io::Result<std::result::Result<Vec<u8>, &'static str>> {
    const SHORT: &str = "it is no Parquet file, or is cut short: its end is missing";
    if bytes < 12 {
        return Ok(Err(SHORT));
    }
    let (mut start, mut tail) = ([0; 4], [0; 8]);
    file.read_exact(&mut start)?;
    file.seek(SeekFrom::End(-8))?;
    file.read_exact(&mut tail)?;
    let [a, b, c, d, magic @ ..] = tail;
    if magic == *ENCRYPTED {
        return Ok(Err("its metadata is encrypted: decrypt it first"));
    }
    if magic != *MAGIC || start != *MAGIC {
        return Ok(Err(SHORT));
    }
    let length = u64::from(u32::from_le_bytes([a, b, c, d]));
    if length > bytes - 12 {
        return Ok(Err("the metadata at its end is damaged"));
    }
    read_at(file, bytes - 8 - length, length).map(Ok)
}

fn read_at(file: &mut File, at: u64, length: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; length as usize];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A text of a file, and its place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) text: String,
    pub(crate) group: usize,
    pub(crate) row: u64,
    /// About the bytes of the file up to the end of it.
    pub(crate) bytes_done: u64,
}

/// The rows of a file that have a text, in order.
#[derive(Debug)]
pub(crate) struct Rows {
    file: ParquetFile,
    group: usize,
    /// The next row of the group.
    row: u64,
    /// Rows of the group up to here are passed over.
    until: u64,
    pages: Option<Pages>,
}

impl Rows {
    /// # Errors
    /// [`Error::Parquet`] with the row group and the damage, or [`Error::Io`].
    pub(crate) fn next(&mut self) -> Result<Option<Row>> {
        loop {
            let Some(chunk) = self.file.chunks.get(self.group) else { return Ok(None) };
            if self.row >= chunk.rows {
                (self.group, self.row, self.until, self.pages) = (self.group + 1, 0, 0, None);
                continue;
            }
            let pages = self.pages.get_or_insert_with(|| Pages::new(chunk));
            let (group, row) = (self.group, self.row);
            let (file, column) = (&mut self.file.file, &self.file.column);
            let wanted = row >= self.until;
            let found = pages.next(file, chunk, column).and_then(|entry| match entry.value {
                Some(value) if wanted => to_text(value, row).map(Some),
                _ => Ok(None),
            });
            let found = found.map_err(|e| e.at(&self.file.path, group))?;
            self.row += 1;
            if let Some(text) = found.filter(|text| !text.trim().is_empty()) {
                let bytes_done = pages.bytes_done();
                return Ok(Some(Row { text, group, row, bytes_done }));
            }
        }
    }
}

fn to_text(bytes: &[u8], row: u64) -> std::result::Result<String, PageError> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(format!("row {row} is not valid UTF-8").into()),
    }
}

/// What can go wrong with a page.
enum PageError {
    Io(std::io::Error),
    Problem(String),
}

impl From<std::io::Error> for PageError {
    fn from(error: std::io::Error) -> Self {
        PageError::Io(error)
    }
}

impl From<String> for PageError {
    fn from(problem: String) -> Self {
        PageError::Problem(problem)
    }
}

impl PageError {
    fn at(self, path: &Path, group: usize) -> Error {
        match self {
            PageError::Io(source) => Error::io(path, "read")(source),
            PageError::Problem(problem) => Error::Parquet {
                path: path.to_owned(),
                problem: format!("row group {group}: {problem}"),
            },
        }
    }
}

/// The pages of a column in one row group.
#[derive(Debug)]
struct Pages {
    /// Offset of the next page.
    at: u64,
    /// Entries that no page has had yet.
    ahead: u64,
    page: Option<Page>,
    dictionary: Option<Dictionary>,
    /// Offset, bytes, entries and entries left of the present page.
    place: (u64, u64, u64, u64),
}

impl Pages {
    fn new(chunk: &Chunk) -> Pages {
        let (at, ahead) = (chunk.start, chunk.entries);
        Pages { at, ahead, page: None, dictionary: None, place: (at, 0, 1, 0) }
    }

    /// The next entry.
    fn next(
        &mut self,
        file: &mut File,
        chunk: &Chunk,
        column: &Column,
    ) -> std::result::Result<Entry<'_>, PageError> {
        while self.place.3 == 0 {
            self.turn(file, chunk, column)?;
        }
        self.place.3 -= 1;
        let page = self.page.as_mut().expect("a page with entries");
        Ok(page.next(self.dictionary.as_ref())?)
    }

    /// Reads the next page.
    fn turn(
        &mut self,
        file: &mut File,
        chunk: &Chunk,
        column: &Column,
    ) -> std::result::Result<(), PageError> {
        self.page = None;
        let header = self.header(file, chunk)?;
        let (start, stored) = (self.at + header.length as u64, header.stored()?);
        let end = start + stored as u64;
        if end > chunk.end {
            return Err("a page lies beyond its column: the file is damaged".to_owned().into());
        }
        let read = |file: &mut File| read_at(file, start, stored as u64);
        match header.purpose() {
            Use::Dictionary => {
                let stored = read(file)?;
                let dictionary = Dictionary::new(&header, &stored, chunk.codec, column.physical)?;
                self.dictionary = Some(dictionary);
            }
            Use::Data => {
                let rows = header.values()?;
                let ahead = self.ahead.checked_sub(rows);
                self.ahead =
                    ahead.ok_or("its pages have more rows than the row group".to_owned())?;
                self.page = Some(Page::new(&header, &read(file)?, chunk.codec, column)?);
                self.place = (self.at, end - self.at, rows.max(1), rows);
            }
            Use::None => {}
        }
        self.at = end;
        Ok(())
    }

    /// The header of the next page, whose length is not known beforehand.
    fn header(&self, file: &mut File, chunk: &Chunk) -> std::result::Result<Header, PageError> {
        let there = chunk.end.saturating_sub(self.at);
        let mut length = HEADER.0;
        loop {
            let bytes = read_at(file, self.at, length.min(there))?;
            match Header::parse(&bytes) {
                Ok(header) => return Ok(header),
                Err(Fault::Short) if length < there.min(HEADER.1) => length *= 4,
                Err(Fault::Short) if self.at >= chunk.end => {
                    return Err("it has fewer rows than it states: it is damaged"
                        .to_owned()
                        .into());
                }
                Err(fault) => return Err(fault.to_string().into()),
            }
        }
    }

    fn bytes_done(&self) -> u64 {
        let (start, bytes, rows, left) = self.place;
        start + (u128::from(bytes) * u128::from(rows - left) / u128::from(rows)) as u64
    }
}

#[cfg(test)]
mod tests;
