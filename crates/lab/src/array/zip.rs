//! The part of the zip format that NumPy and Python's `zipfile` write: entries stored or deflated,
//! one disk, no encryption, below 4 GiB (PKWARE's APPNOTE 6.3, sections 4.3 and 4.4). A few lines
//! of our own, because a reader of untrusted archives must bound what it allocates.

use super::ArrayError;
use flate2::{Compression, Crc, read::DeflateDecoder, write::DeflateEncoder};
use std::collections::BTreeMap;
use std::io::{Read, Write};

const LOCAL: [u8; 4] = *b"PK\x03\x04";
const CENTRAL: [u8; 4] = *b"PK\x01\x02";
const END: [u8; 4] = *b"PK\x05\x06";
const LOCAL_LENGTH: usize = 30;
const CENTRAL_LENGTH: usize = 46;
const END_LENGTH: usize = 22;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;
/// General-purpose flags: encrypted, and names in UTF-8.
const ENCRYPTED: u16 = 1;
const UTF8: u16 = 1 << 11;
/// 1980-01-01, the first day of the format: archives of equal contents are equal bytes.
const DATE: u16 = 0x0021;

fn broken<T>(reason: &str) -> Result<T, ArrayError> {
    Err(ArrayError::Zip(reason.to_owned()))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    method: u16,
    crc: u32,
    packed: u32,
    size: u32,
    local: u32,
}

/// A parsed archive over its bytes.
#[derive(Debug)]
pub struct Archive<'b> {
    bytes: &'b [u8],
    order: Vec<String>,
    entries: BTreeMap<String, Entry>,
}

impl<'b> Archive<'b> {
    /// Reads the table of contents.
    ///
    /// # Errors
    /// [`ArrayError::Zip`] when the bytes are no archive or use what is not read here.
    pub fn parse(bytes: &'b [u8]) -> Result<Self, ArrayError> {
        // The end record is last, followed by a comment of at most 65535 bytes.
        let from = bytes.len().saturating_sub(END_LENGTH + usize::from(u16::MAX));
        let end = (bytes[from..].windows(END_LENGTH))
            .rposition(|w| w.starts_with(&END))
            .map(|at| &bytes[from + at..]);
        let Some(end) = end else { return broken("it has no end record, so it is cut off") };
        let (count, size, start) =
            (u16_at(end, 10) as usize, u32_at(end, 12) as usize, u32_at(end, 16) as usize);
        if u16_at(end, 4) != 0 || start == u32::MAX as usize || count == usize::from(u16::MAX) {
            return broken("it spans disks or has more than 4 GiB");
        }
        let Some(mut table) = start.checked_add(size).and_then(|e| bytes.get(start..e)) else {
            return broken("its table of contents lies outside of it");
        };
        let mut archive = Archive { bytes, order: vec![], entries: BTreeMap::new() };
        for _ in 0..count {
            table = archive.entry(table)?;
        }
        Ok(archive)
    }

    /// Reads one record of the table and returns the rest.
    fn entry<'t>(&mut self, table: &'t [u8]) -> Result<&'t [u8], ArrayError> {
        if table.len() < CENTRAL_LENGTH || !table.starts_with(&CENTRAL) {
            return broken("its table of contents is damaged");
        }
        let lengths = [28, 30, 32].map(|at| usize::from(u16_at(table, at)));
        let total = CENTRAL_LENGTH + lengths.iter().sum::<usize>();
        let Some(name) = table.get(CENTRAL_LENGTH..CENTRAL_LENGTH + lengths[0]) else {
            return broken("its table of contents is cut off");
        };
        let Ok(name) = std::str::from_utf8(name) else {
            return broken("the name of an entry is not UTF-8");
        };
        let entry = Entry {
            method: u16_at(table, 10),
            crc: u32_at(table, 16),
            packed: u32_at(table, 20),
            size: u32_at(table, 24),
            local: u32_at(table, 42),
        };
        if u16_at(table, 8) & ENCRYPTED != 0 {
            return broken("it is encrypted");
        }
        if !name.ends_with('/') {
            if self.entries.insert(name.to_owned(), entry).is_some() {
                return broken("two entries have one name");
            }
            self.order.push(name.to_owned());
        }
        table.get(total..).map_or_else(|| broken("its table of contents is cut off"), Ok)
    }

    /// Names of the entries, in the table's order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.order.iter().map(String::as_str)
    }

    /// Contents of an entry, checked against its checksum. What a damaged size claims is never
    /// allocated: memory grows with what is decompressed, and stops at the size in the table.
    ///
    /// # Errors
    /// [`ArrayError::Entry`] when there is none, or it is damaged.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, ArrayError> {
        let fail =
            |reason: &str| ArrayError::Entry { name: name.to_owned(), reason: reason.to_owned() };
        let entry = self.entries.get(name).ok_or_else(|| fail("is missing"))?;
        let local = entry.local as usize;
        let header = (self.bytes.get(local..local.saturating_add(LOCAL_LENGTH)))
            .filter(|header| header.starts_with(&LOCAL))
            .ok_or_else(|| fail("has no header where the table says"))?;
        let start = local
            + LOCAL_LENGTH
            + usize::from(u16_at(header, 26))
            + usize::from(u16_at(header, 28));
        let packed = (self.bytes.get(start..start.saturating_add(entry.packed as usize)))
            .ok_or_else(|| fail("is cut off"))?;
        let mut contents = vec![];
        match entry.method {
            STORED => contents.extend_from_slice(packed),
            DEFLATED => {
                let limit = u64::from(entry.size) + 1;
                let read = DeflateDecoder::new(packed).take(limit).read_to_end(&mut contents);
                read.map_err(|_| fail("is not a deflated stream"))?;
            }
            _ => return Err(fail("is compressed in a way that is not read; use deflate")),
        }
        if contents.len() != entry.size as usize {
            return Err(fail("has not the size that the table says"));
        }
        if crc(&contents) != entry.crc {
            return Err(fail("is damaged: its checksum differs"));
        }
        Ok(contents)
    }
}

/// Writes an archive into memory.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    table: Vec<u8>,
    count: u16,
}

impl Writer {
    /// An empty archive.
    pub fn new() -> Self {
        Writer::default()
    }

    /// Adds an entry, deflated where that makes it smaller.
    ///
    /// # Errors
    /// [`ArrayError::Entry`] beyond the format's limits: 4 GiB, 65534 entries, names of 64 KiB.
    pub fn add(&mut self, name: &str, contents: &[u8]) -> Result<(), ArrayError> {
        let large = || ArrayError::Entry {
            name: name.to_owned(),
            reason: "does not fit a zip archive of 4 GiB: record less".to_owned(),
        };
        let mut encoder = DeflateEncoder::new(vec![], Compression::default());
        let deflated = encoder.write_all(contents).and_then(|()| encoder.finish());
        let deflated = deflated.map_err(|_| large())?;
        let (method, packed) = match deflated.len() < contents.len() {
            true => (DEFLATED, deflated.as_slice()),
            false => (STORED, contents),
        };
        let size = u32::try_from(contents.len()).map_err(|_| large())?;
        let local = u32::try_from(self.bytes.len()).map_err(|_| large())?;
        let length = u16::try_from(name.len()).map_err(|_| large())?;
        let end = self.bytes.len() + self.table.len() + packed.len() + 2 * name.len() + 256;
        if end >= u32::MAX as usize || self.count == u16::MAX - 1 {
            return Err(large());
        }
        // Version needed, flags, method, time, date, checksum, sizes, lengths of name and extra:
        // the same 26 bytes in both headers.
        let mut common = vec![];
        [20, UTF8, method, 0, DATE].iter().for_each(|v| common.extend(v.to_le_bytes()));
        let sizes = [crc(contents), packed.len() as u32, size];
        sizes.iter().for_each(|v| common.extend(v.to_le_bytes()));
        [length, 0].iter().for_each(|v| common.extend(v.to_le_bytes()));
        self.bytes.extend(LOCAL);
        self.bytes.extend(&common);
        self.bytes.extend(name.as_bytes());
        self.bytes.extend(packed);
        self.table.extend(CENTRAL);
        self.table.extend(20u16.to_le_bytes());
        self.table.extend(&common);
        // Comment, disk, attributes inside and outside.
        self.table.extend([0; 10]);
        self.table.extend(local.to_le_bytes());
        self.table.extend(name.as_bytes());
        self.count += 1;
        Ok(())
    }

    /// The archive.
    pub fn finish(mut self) -> Vec<u8> {
        let (start, size) = (self.bytes.len() as u32, self.table.len() as u32);
        self.bytes.extend(&self.table);
        self.bytes.extend(END);
        self.bytes.extend([0; 4]);
        [self.count, self.count].iter().for_each(|v| self.bytes.extend(v.to_le_bytes()));
        [size, start].iter().for_each(|v| self.bytes.extend(v.to_le_bytes()));
        self.bytes.extend([0; 2]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive() -> Vec<u8> {
        let mut writer = Writer::new();
        writer.add("a/zeros", &[0; 5000]).unwrap();
        writer.add("empty", &[]).unwrap();
        writer.add("text", b"once upon a time").unwrap();
        writer.finish()
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = archive();
        let read = Archive::parse(&bytes).unwrap();
        assert_eq!(read.names().collect::<Vec<_>>(), ["a/zeros", "empty", "text"]);
        assert_eq!(read.read("a/zeros").unwrap(), [0; 5000]);
        assert!(read.read("empty").unwrap().is_empty());
        assert_eq!(read.read("text").unwrap(), b"once upon a time");
        assert!(bytes.len() < 400, "zeros are deflated: {}", bytes.len());
        assert!(matches!(read.read("other"), Err(ArrayError::Entry { .. })));
    }

    #[test]
    fn no_damaged_byte_goes_unseen() {
        let whole = archive();
        for n in 0..whole.len() {
            assert!(Archive::parse(&whole[..n]).is_err(), "{n} bytes");
        }
        let good: Vec<Vec<u8>> = {
            let read = Archive::parse(&whole).unwrap();
            read.names().map(|n| read.read(n).unwrap()).collect()
        };
        // Any single change either gives an error or leaves every entry's contents as they were.
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x55;
            let Ok(read) = Archive::parse(&bytes) else { continue };
            let contents: Result<Vec<_>, _> = read.names().map(|n| read.read(n)).collect();
            if let Ok(contents) = contents {
                assert!(contents.iter().all(|c| good.contains(c)), "byte {at}");
            }
        }
    }

    #[test]
    fn a_claimed_size_is_not_allocated() {
        let mut bytes = archive();
        let at = bytes.windows(4).position(|w| w == CENTRAL).unwrap();
        bytes[at + 24..at + 28].copy_from_slice(&u32::MAX.to_le_bytes());
        let read = Archive::parse(&bytes).unwrap();
        assert!(matches!(read.read("a/zeros"), Err(ArrayError::Entry { .. })));
    }
}
