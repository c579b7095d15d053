#![allow(unsafe_code, reason = "memory mapping; the only unsafe door of this crate")]
//! Read-only memory maps of files.

use std::fs::File;

/// A file mapped for reading.
#[derive(Debug)]
pub(crate) struct Map(memmap2::Mmap);

impl Map {
    pub(crate) fn read_only(file: &File) -> std::io::Result<Map> {
        // SAFETY: the bytes must not change while mapped. This program never writes a token file
        // in place: it writes a temporary and renames, which leaves a mapped file as it was. That
        // no other program truncates or rewrites the file cannot be checked here; if one does,
        // reads may fault (truncation) or give other ids, which are plain integers whose range is
        // checked where they index.
        unsafe { memmap2::Mmap::map(file) }.map(Map)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}
