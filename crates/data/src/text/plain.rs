//! Plain text, cut into documents.

use super::{Document, Place, check_encoding, not_utf8};
use crate::error::{Error, Result};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// A longer document is cut into pieces of about this many bytes.
pub(super) const PIECE: usize = 4 << 20;
/// Bytes read at a time.
pub(super) const CHUNK: usize = 256 << 10;

/// Cuts plain text at separators, and documents that are too long at lines or words.
#[derive(Debug)]
pub(super) struct PlainReader {
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

/// Bits of [`Place::detail`].
const CONTINUES: u64 = 1;
const AFTER_SEPARATOR: u64 = 2;

impl PlainReader {
    /// Reads from `place` on, the place of a document or the beginning of the file.
    pub(super) fn open(path: &Path, separator: &str, place: Place) -> Result<PlainReader> {
        let mut file = File::open(path).map_err(Error::io(path, "open"))?;
        file.seek(SeekFrom::Start(place.at)).map_err(Error::io(path, "read"))?;
        Ok(PlainReader {
            path: path.to_owned(),
            file,
            separator: separator.as_bytes().to_vec(),
            buffer: Vec::new(),
            at: 0,
            searched: 0,
            offset: place.at,
            ended: false,
            begins: place.detail & CONTINUES == 0,
            after_separator: place.detail & AFTER_SEPARATOR != 0,
        })
    }

    /// Where the next document, or what is blank before it, begins.
    pub(super) fn place(&self) -> Place {
        let flag = |set: bool, bit| if set { bit } else { 0 };
        let at = self.offset + self.at as u64;
        let detail = flag(!self.begins, CONTINUES) | flag(self.after_separator, AFTER_SEPARATOR);
        Place { file: 0, at, detail }
    }

    pub(super) fn next(&mut self) -> Result<Option<Document>> {
        loop {
            let found = self.find_separator();
            let (end, next, last) = if let Some(i) = found {
                (i, i + self.separator.len(), true)
            } else if self.buffer.len() - self.at >= self.longest() {
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
        // What lies further is found when the piece before it is cut: where it is cut must not depend on
        // how much was read by then.
        let until = self.buffer.len().min(self.at + self.longest());
        let found = memchr::memmem::find(&self.buffer[from..until], &self.separator);
        if found.is_none() {
            let tail = self.separator.len() - 1; // the beginning of one may stand at the end
            self.searched = until.saturating_sub(tail).max(self.at);
        }
        found.map(|i| from + i)
    }

    /// Bytes of a document from which on it is cut: a separator within a piece is whole.
    fn longest(&self) -> usize {
        PIECE + self.separator.len().max(4)
    }

    /// Where to cut a document that is too long: after the last line, else the last space, else
    /// between characters; never inside what may be the beginning of a separator.
    fn piece_end(&self) -> usize {
        let limit = self.at + PIECE;
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
        let place = self.place();
        let document = (!blank).then(|| Document {
            text: trimmed.to_owned(),
            begins: self.begins,
            bytes_done: self.offset + next as u64,
            place,
        });
        self.at = next;
        self.after_separator |= cut;
        self.begins = last || (blank && self.begins);
        Ok(document)
    }
}
