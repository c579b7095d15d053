//! Files of token ids.
//!
//! Two layouts are written, both little-endian:
//!
//! - [`Format::FlatU16`]: nothing but 16-bit ids, one after the other. This is what llama2.c's
//!   `tinystories.py pretokenize` writes, and what the Stories110M models were trained on. It has
//!   no room for vocabularies above 65,536.
//! - [`Format::Shard16`] and [`Format::Shard32`]: a header of 64 bytes, then 16-bit or 32-bit ids.
//!
//! | bytes | header field |
//! |---|---|
//! | 0..8 | magic `61 6e 65 74 6f 6b 0d 0a` ("anetok", carriage return, line feed: a transfer in text mode breaks it visibly) |
//! | 8..12 | version, 1 |
//! | 12..16 | bytes per id, 2 or 4 |
//! | 16..20 | vocabulary size: every id is below it |
//! | 20..24 | 0 |
//! | 24..32 | number of ids |
//! | 32..64 | SHA-256 of the ids as stored |
//!
//! A third is read: [`Format::Llmc16`] and [`Format::Llmc32`], llm.c's files of 256 32-bit words (20240520,
//! version 1 for 16-bit or 7 for 32-bit ids, the number of ids) before the ids.
//!
//! A file that begins with the magic is a shard, one that begins with llm.c's is that, and any other is
//! taken as flat, unless it is plainly text, a model of llama2.c, or holds 32-bit ids.

use crate::error::{Error, Result};
use crate::map::Map;
use crate::sniff;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

mod llama2c;
mod llmc;

const MAGIC: [u8; 8] = *b"anetok\r\n";
const VERSION: u32 = 1;
const HEADER: usize = 64;

/// Layout of a token file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// 16-bit ids without a header (llama2.c).
    FlatU16,
    /// Header and 16-bit ids.
    Shard16 {
        /// Ids are below this.
        vocab_size: u32,
    },
    /// Header and 32-bit ids.
    Shard32 {
        /// Ids are below this.
        vocab_size: u32,
    },
    /// llm.c's header and 16-bit ids; read only.
    Llmc16,
    /// llm.c's header and 32-bit ids; read only.
    Llmc32,
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bits = 8 * self.width();
        match self {
            Format::FlatU16 => write!(f, "{bits}-bit ids without a header (llama2.c)"),
            Format::Shard16 { vocab_size } | Format::Shard32 { vocab_size } => {
                write!(f, "{bits}-bit ids below {vocab_size}, with header and checksum (anegpt)")
            }
            Format::Llmc16 | Format::Llmc32 => write!(f, "{bits}-bit ids with the header of llm.c"),
        }
    }
}

impl Format {
    /// The smallest layout with a header for a vocabulary.
    pub fn shard_for(vocab_size: u32) -> Format {
        if vocab_size <= 1 << 16 {
            Format::Shard16 { vocab_size }
        } else {
            Format::Shard32 { vocab_size }
        }
    }

    /// Bytes per id.
    pub fn width(self) -> usize {
        match self {
            Format::FlatU16 | Format::Shard16 { .. } | Format::Llmc16 => 2,
            Format::Shard32 { .. } | Format::Llmc32 => 4,
        }
    }

    /// The vocabulary size that the header states.
    pub fn vocab_size(self) -> Option<u32> {
        match self {
            Format::FlatU16 | Format::Llmc16 | Format::Llmc32 => None,
            Format::Shard16 { vocab_size } | Format::Shard32 { vocab_size } => Some(vocab_size),
        }
    }

    /// Ids must be below this to be stored.
    fn limit(self) -> u64 {
        match self {
            Format::FlatU16 | Format::Llmc16 => 1 << 16,
            Format::Llmc32 => 1 << 32,
            Format::Shard16 { vocab_size } => u64::from(vocab_size.min(1 << 16)),
            Format::Shard32 { vocab_size } => u64::from(vocab_size),
        }
    }
}

/// A token file, mapped into memory and read-only.
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    map: Map,
    format: Format,
    start: usize,
    count: usize,
    checksum: Option<[u8; 32]>,
}

impl TokenFile {
    /// Maps the file and checks its header and size, not its ids ([`TokenFile::check_ids`]).
    pub fn open(path: impl AsRef<Path>) -> Result<TokenFile> {
        let path = path.as_ref();
        let file = File::open(path).map_err(Error::io(path, "open"))?;
        let meta = file.metadata().map_err(Error::io(path, "read"))?;
        let fault = |problem: String| Error::TokenFile { path: path.to_owned(), problem };
        if !meta.is_file() {
            return Err(fault("not a regular file".into()));
        }
        if meta.len() == 0 {
            return Err(fault("the file is empty; tokenize some text into it first".into()));
        }
        let map = Map::read_only(&file).map_err(Error::io(path, "map"))?;
        let named = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("bin"));
        let layout = Layout::parse(map.bytes(), named).map_err(fault)?;
        Ok(TokenFile {
            path: path.to_owned(),
            map,
            format: layout.format,
            start: layout.start,
            count: layout.count,
            checksum: layout.checksum,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Layout and, for shards, vocabulary size.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Number of ids.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Never true for a file that could be opened as flat; a shard may hold no ids.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn payload(&self) -> &[u8] {
        &self.map.bytes()[self.start..self.start + self.count * self.format.width()]
    }

    /// Copies ids `start .. start + out.len()`.
    ///
    /// # Panics
    /// When the range goes past [`TokenFile::len`].
    pub fn read(&self, start: usize, out: &mut [u32]) {
        let width = self.format.width();
        decode(width, &self.payload()[start * width..(start + out.len()) * width], out);
    }

    /// Checks that every id is below `vocab_size`, reading the file once from the beginning.
    ///
    /// # Errors
    /// [`Error::TokenId`] with the position of the first id that is not.
    pub fn check_ids(&self, vocab_size: u32) -> Result<()> {
        let mut chunk = vec![0u32; 4096.min(self.count)];
        let mut at = 0;
        while at < self.count {
            let n = chunk.len().min(self.count - at);
            self.read(at, &mut chunk[..n]);
            if let Some(i) = chunk[..n].iter().position(|&id| id >= vocab_size) {
                return Err(Error::TokenId {
                    place: self.path.display().to_string(),
                    position: (at + i) as u64,
                    id: chunk[i],
                    vocab_size,
                });
            }
            at += n;
        }
        Ok(())
    }

    /// Compares the ids with the checksum of the header; flat files have none and pass.
    pub fn check_sum(&self) -> Result<()> {
        let Some(expected) = self.checksum else { return Ok(()) };
        let got: [u8; 32] = Sha256::digest(self.payload()).into();
        if got == expected {
            return Ok(());
        }
        Err(Error::Checksum {
            path: self.path.clone(),
            expected: hex(&expected),
            got: hex(&got),
            advice: "the file is damaged; tokenize the text again",
        })
    }
}

fn decode(width: usize, bytes: &[u8], out: &mut [u32]) {
    if width == 2 {
        for (id, b) in out.iter_mut().zip(bytes.chunks_exact(2)) {
            *id = u32::from(u16::from_le_bytes([b[0], b[1]]));
        }
    } else {
        for (id, b) in out.iter_mut().zip(bytes.chunks_exact(4)) {
            *id = u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        }
    }
}

struct Layout {
    format: Format,
    start: usize,
    count: usize,
    checksum: Option<[u8; 32]>,
}

impl Layout {
    /// Finds the layout of a file; `named` if its name is that of a token file.
    fn parse(bytes: &[u8], named: bool) -> std::result::Result<Layout, String> {
        if !bytes.starts_with(&MAGIC) {
            if let Some(layout) = llmc::layout(bytes)? {
                return Ok(layout);
            }
            llama2c::refuse_model(bytes)?;
            check_flat(&bytes[..bytes.len().min(sniff::HEAD)], named)?;
            if !bytes.len().is_multiple_of(2) {
                return Err(format!(
                    "{} bytes is not a whole number of 16-bit ids; the file is cut short or is \
                     not a token file (text must be tokenized first)",
                    bytes.len()
                ));
            }
            let count = bytes.len() / 2;
            return Ok(Layout { format: Format::FlatU16, start: 0, count, checksum: None });
        }
        let Some(header) = bytes.first_chunk::<HEADER>() else {
            return Err("the shard header is cut short; tokenize the text again".into());
        };
        Layout::parse_shard(header, (bytes.len() - HEADER) as u64)
    }

    fn parse_shard(header: &[u8; HEADER], payload: u64) -> std::result::Result<Layout, String> {
        let word = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let (version, width, vocab_size) = (word(8), word(12), word(16));
        if version != VERSION {
            return Err(format!("shard version {version}, but this program reads {VERSION}"));
        }
        let format = match width {
            2 if vocab_size <= 1 << 16 => Format::Shard16 { vocab_size },
            4 => Format::Shard32 { vocab_size },
            _ => {
                return Err(format!(
                    "the shard header is damaged: {width} bytes per id for a vocabulary of \
                     {vocab_size}"
                ));
            }
        };
        let count = u64::from(word(24)) | u64::from(word(28)) << 32;
        if count.checked_mul(u64::from(width)) != Some(payload) {
            return Err(format!(
                "the shard header states {count} ids of {width} bytes, but {payload} bytes \
                 follow; the file is cut short or damaged"
            ));
        }
        let mut checksum = [0; 32];
        checksum.copy_from_slice(&header[32..]);
        let count = usize::try_from(count).map_err(|_| format!("{count} ids are too many"))?;
        Ok(Layout { format, start: HEADER, count, checksum: Some(checksum) })
    }
}

/// Fewer ids than this tell nothing.
const TELLING: usize = 16;

/// Refuses bytes that are something else than 16-bit ids, by the beginning of a file.
fn check_flat(head: &[u8], named: bool) -> std::result::Result<(), String> {
    if let Some(what) = sniff::binary(head) {
        return Err(format!("this is no token file: {what}"));
    }
    // A few ids may spell something.
    let odd = sniff::odd_text(head);
    if sniff::is_text(head) && (head.len() >= 2 * TELLING || odd.is_some() || !named) {
        let what = odd.map_or(String::new(), |what| format!(" ({what})"));
        let name = if named { "does not end in .bin" } else { "ends in .txt" };
        return Err(format!(
            "this is text, not token ids{what}: to train on it, give it a name that {name}, or turn it into ids \
             with anegpt data tokenize"
        ));
    }
    if wide_ids(head) {
        return Err(
            "every second 16-bit number is 0 or nearly so: these are 32-bit ids, which are read \
             only with a header; write 16-bit ones, in NumPy \
             np.fromfile(FILE, '<u4').astype('<u2').tofile(NEW), or anegpt data tokenize the text"
                .into(),
        );
    }
    Ok(())
}

/// True if 16-bit numbers look like the halves of 32-bit ids: the upper ones tiny, the lower ones not.
fn wide_ids(head: &[u8]) -> bool {
    let pairs: Vec<(u32, u32)> = (head.chunks_exact(4))
        .map(|b| {
            (
                u32::from(u16::from_le_bytes([b[0], b[1]])),
                u32::from(u16::from_le_bytes([b[2], b[3]])),
            )
        })
        .collect();
    // No vocabulary has 2^18 tokens.
    let upper_tiny = pairs.iter().all(|&(_, upper)| upper < 4);
    let lower: std::collections::BTreeSet<u32> = pairs.iter().map(|&(lower, _)| lower).collect();
    pairs.len() >= TELLING && upper_tiny && lower.len() >= TELLING / 2
}

/// Writes a token file. Nothing is at the final path before [`TokenWriter::finish`], which
/// renames; a writer that is dropped before removes its temporary file.
#[derive(Debug)]
pub struct TokenWriter {
    path: PathBuf,
    temporary: PathBuf,
    file: Option<BufWriter<File>>,
    format: Format,
    count: u64,
    hash: Sha256,
    bytes: Vec<u8>,
}

impl TokenWriter {
    /// Begins a file that will be at `path`. Its temporary stands beside it, named after it and
    /// this process.
    ///
    /// # Errors
    /// [`Error::Setting`] for llm.c's layouts, which are read only, and [`Error::Io`].
    pub fn create(path: impl AsRef<Path>, format: Format) -> Result<TokenWriter> {
        let path = path.as_ref();
        if matches!(format, Format::Llmc16 | Format::Llmc32) {
            let value = format!("{format:?}");
            return Err(Error::Setting { name: "format", value, expected: "flat or a shard" });
        }
        let temporary = sibling(path, &format!(".{}.tmp", std::process::id()));
        let file = File::create(&temporary).map_err(Error::io(&temporary, "create"))?;
        let mut writer = TokenWriter {
            path: path.to_owned(),
            temporary,
            file: Some(BufWriter::with_capacity(1 << 16, file)),
            format,
            count: 0,
            hash: Sha256::new(),
            bytes: Vec::new(),
        };
        if format != Format::FlatU16 {
            writer.write(&[0; HEADER])?; // the true header is written when the counts are known
        }
        Ok(writer)
    }

    /// Appends ids.
    ///
    /// # Errors
    /// [`Error::TokenId`] for an id that the format cannot hold (nothing of `ids` is written
    /// then), [`Error::DiskFull`] or [`Error::Io`].
    pub fn push(&mut self, ids: &[u32]) -> Result<()> {
        let limit = self.format.limit();
        if let Some(i) = ids.iter().position(|&id| u64::from(id) >= limit) {
            return Err(Error::TokenId {
                place: self.path.display().to_string(),
                position: self.count + i as u64,
                id: ids[i],
                vocab_size: u32::try_from(limit).unwrap_or(u32::MAX),
            });
        }
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        for &id in ids {
            match self.format.width() {
                2 => bytes.extend((id as u16).to_le_bytes()),
                _ => bytes.extend(id.to_le_bytes()),
            }
        }
        self.hash.update(&bytes);
        self.write(&bytes)?;
        self.count += ids.len() as u64;
        self.bytes = bytes;
        Ok(())
    }

    /// Ids so far.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// True if nothing has been pushed.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.count * self.format.width() as u64;
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(bytes).map_err(|e| Error::write(&self.temporary, written, false, e))
    }

    /// Completes the header, flushes to the disk, and renames to the final path. Returns the
    /// number of ids.
    pub fn finish(mut self) -> Result<u64> {
        let bytes = self.count * self.format.width() as u64;
        let Some(file) = self.file.take() else { return Ok(self.count) };
        let result = self.complete(file);
        if let Err(source) = result {
            return Err(Error::write(&self.temporary, bytes, false, source));
        }
        std::fs::rename(&self.temporary, &self.path).map_err(Error::io(&self.path, "rename to"))?;
        self.temporary = PathBuf::new();
        Ok(self.count)
    }

    fn complete(&self, file: BufWriter<File>) -> std::io::Result<()> {
        let mut file = file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        if let Some(vocab_size) = self.format.vocab_size() {
            let mut header = [0; HEADER];
            header[..8].copy_from_slice(&MAGIC);
            header[8..12].copy_from_slice(&VERSION.to_le_bytes());
            header[12..16].copy_from_slice(&(self.format.width() as u32).to_le_bytes());
            header[16..20].copy_from_slice(&vocab_size.to_le_bytes());
            header[24..32].copy_from_slice(&self.count.to_le_bytes());
            header[32..].copy_from_slice(&self.hash.clone().finalize());
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&header)?;
        }
        file.sync_all()
    }
}

impl Drop for TokenWriter {
    fn drop(&mut self) {
        if !self.temporary.as_os_str().is_empty() {
            self.file = None;
            // Nobody can be told here, and a leftover temporary does no harm.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// `path` with `suffix` after its file name.
pub(crate) fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|b| [DIGITS[usize::from(b >> 4)] as char, DIGITS[usize::from(b & 15)] as char])
        .collect()
}

#[cfg(test)]
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

#[cfg(test)]
mod tests;
