//! Pages: their headers, and the values in them, one at a time.

use super::codec::{Codec, PAGE};
use super::hybrid::Hybrid;
use super::thrift::{Fault, Kind, Parsed, Reader};

/// `Encoding`.
const PLAIN: i64 = 0;
const PLAIN_DICTIONARY: i64 = 2;
const RLE: i64 = 3;
const RLE_DICTIONARY: i64 = 8;

/// The header of a page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Header {
    /// Bytes of the header itself.
    pub(super) length: usize,
    kind: i64,
    uncompressed: i64,
    compressed: i64,
    crc: Option<u32>,
    values: i64,
    encoding: i64,
    level_encoding: i64,
    level_bytes: i64,
    repetition_bytes: i64,
    is_compressed: bool,
}

/// What a page is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Data,
    Dictionary,
    /// Of another kind: to be passed over.
    None,
}

impl Header {
    pub(super) fn parse(bytes: &[u8]) -> Parsed<Header> {
        let mut reader = Reader::new(bytes);
        let mut header = Header { is_compressed: true, level_encoding: RLE, ..Header::default() };
        let mut last = 0;
        while let Some((id, kind)) = reader.field(&mut last)? {
            match (id, kind) {
                (1, Kind::Int) => header.kind = reader.int()?,
                (2, Kind::Int) => header.uncompressed = reader.int()?,
                (3, Kind::Int) => header.compressed = reader.int()?,
                (4, Kind::Int) => header.crc = Some(reader.int()? as u32),
                (5, Kind::Struct) => header.data(&mut reader)?,
                (7, Kind::Struct) => header.dictionary(&mut reader)?,
                (8, Kind::Struct) => header.data_v2(&mut reader)?,
                (_, kind) => reader.skip(kind)?,
            }
        }
        header.length = reader.position();
        Ok(header)
    }

    fn data(&mut self, reader: &mut Reader<'_>) -> Parsed<()> {
        let mut last = 0;
        while let Some((id, kind)) = reader.field(&mut last)? {
            match (id, kind) {
                (1, Kind::Int) => self.values = reader.int()?,
                (2, Kind::Int) => self.encoding = reader.int()?,
                (3, Kind::Int) => self.level_encoding = reader.int()?,
                (_, kind) => reader.skip(kind)?,
            }
        }
        Ok(())
    }

    fn dictionary(&mut self, reader: &mut Reader<'_>) -> Parsed<()> {
        let mut last = 0;
        while let Some((id, kind)) = reader.field(&mut last)? {
            match (id, kind) {
                (1, Kind::Int) => self.values = reader.int()?,
                (2, Kind::Int) => self.encoding = reader.int()?,
                (_, kind) => reader.skip(kind)?,
            }
        }
        Ok(())
    }

    fn data_v2(&mut self, reader: &mut Reader<'_>) -> Parsed<()> {
        let mut last = 0;
        while let Some((id, kind)) = reader.field(&mut last)? {
            match (id, kind) {
                (1, Kind::Int) => self.values = reader.int()?,
                (4, Kind::Int) => self.encoding = reader.int()?,
                (5, Kind::Int) => self.level_bytes = reader.int()?,
                (6, Kind::Int) => self.repetition_bytes = reader.int()?,
                (7, kind @ (Kind::True | Kind::False)) => self.is_compressed = kind == Kind::True,
                (_, kind) => reader.skip(kind)?,
            }
        }
        Ok(())
    }

    pub(super) fn purpose(&self) -> Use {
        match self.kind {
            0 | 3 => Use::Data,
            2 => Use::Dictionary,
            _ => Use::None,
        }
    }

    /// Bytes of the page after its header, as stored.
    pub(super) fn stored(&self) -> Result<usize, String> {
        size(self.compressed)
    }

    pub(super) fn values(&self) -> Result<u64, String> {
        u64::try_from(self.values).map_err(|_| Fault::Damaged.to_string())
    }

    /// Compares the stored bytes with the checksum, if the file has one.
    fn check(&self, stored: &[u8]) -> Result<(), String> {
        let Some(expected) = self.crc else { return Ok(()) };
        let mut crc = flate2::Crc::new();
        crc.update(stored);
        match crc.sum() == expected {
            true => Ok(()),
            false => Err("a page is damaged: its checksum is wrong".into()),
        }
    }
}

/// A size that can be.
fn size(bytes: i64) -> Result<usize, String> {
    match usize::try_from(bytes) {
        Ok(bytes) if bytes <= PAGE => Ok(bytes),
        Ok(bytes) => Err(format!(
            "a page of {bytes} bytes is more than the {PAGE} that are read: write the file with smaller \
             row groups, or it is damaged"
        )),
        Err(_) => Err(Fault::Damaged.to_string()),
    }
}

/// The values of a dictionary.
#[derive(Debug, Default)]
pub(super) struct Dictionary {
    bytes: Vec<u8>,
    spans: Vec<(u32, u32)>,
}

impl Dictionary {
    pub(super) fn new(header: &Header, stored: &[u8], codec: Codec) -> Result<Dictionary, String> {
        header.check(stored)?;
        if ![PLAIN, PLAIN_DICTIONARY].contains(&header.encoding) {
            return Err(foreign_encoding(header.encoding));
        }
        let bytes = codec.decompress(stored, size(header.uncompressed)?)?;
        let (mut spans, mut at) = (Vec::new(), 0);
        for _ in 0..header.values()? {
            let (start, end) = plain(&bytes, &mut at)?;
            spans.push((start as u32, end as u32));
        }
        Ok(Dictionary { bytes, spans })
    }

    fn get(&self, index: u32) -> Option<&[u8]> {
        let (start, end) = *self.spans.get(index as usize)?;
        Some(&self.bytes[start as usize..end as usize])
    }
}

/// A page of values that are being read.
#[derive(Debug)]
pub(super) struct Page {
    bytes: Vec<u8>,
    /// For each row 1 or, where there is no value, 0. Absent if all rows have one.
    levels: Option<Hybrid>,
    values: Values,
}

#[derive(Debug)]
enum Values {
    /// Texts, each after its length; the next one's place.
    Plain(usize),
    /// Places in the dictionary.
    Indices(Hybrid),
}

impl Page {
    pub(super) fn new(
        header: &Header,
        stored: &[u8],
        codec: Codec,
        optional: bool,
    ) -> Result<Page, String> {
        header.check(stored)?;
        let damaged = || Fault::Damaged.to_string();
        let (bytes, levels, at) = match header.kind {
            3 => Page::unpack_v2(header, stored, codec, optional)?,
            _ => Page::unpack_v1(header, stored, codec, optional)?,
        };
        let values = match header.encoding {
            PLAIN => Values::Plain(at),
            PLAIN_DICTIONARY | RLE_DICTIONARY => {
                // A page without values may lack the width.
                let width = bytes.get(at).copied().unwrap_or(0);
                let start = (at + 1).min(bytes.len());
                let indices = Hybrid::new(u32::from(width), start, bytes.len());
                Values::Indices(indices.ok_or_else(damaged)?)
            }
            other => return Err(foreign_encoding(other)),
        };
        Ok(Page { bytes, levels, values })
    }

    /// Levels, with their length before them, and values are compressed together.
    fn unpack_v1(
        header: &Header,
        stored: &[u8],
        codec: Codec,
        optional: bool,
    ) -> Result<(Vec<u8>, Option<Hybrid>, usize), String> {
        let bytes = codec.decompress(stored, size(header.uncompressed)?)?;
        if !optional {
            return Ok((bytes, None, 0));
        }
        if header.level_encoding != RLE {
            return Err(foreign_encoding(header.level_encoding));
        }
        let damaged = || Fault::Damaged.to_string();
        let length = bytes.first_chunk().map(|b| u32::from_le_bytes(*b)).ok_or_else(damaged)?;
        let end = 4 + length as usize;
        if end > bytes.len() {
            return Err(damaged());
        }
        let levels = Hybrid::new(1, 4, end);
        Ok((bytes, levels, end))
    }

    /// Levels stand before the values, uncompressed.
    fn unpack_v2(
        header: &Header,
        stored: &[u8],
        codec: Codec,
        optional: bool,
    ) -> Result<(Vec<u8>, Option<Hybrid>, usize), String> {
        let damaged = || Fault::Damaged.to_string();
        let (repetition, levels) = (size(header.repetition_bytes)?, size(header.level_bytes)?);
        let before = repetition + levels;
        let packed = stored.get(before..).ok_or_else(damaged)?;
        let rest = size(header.uncompressed)?.checked_sub(before).ok_or_else(damaged)?;
        let codec = if header.is_compressed && !packed.is_empty() { codec } else { Codec::None };
        let mut bytes = stored[..before].to_vec();
        bytes.append(&mut codec.decompress(packed, rest)?);
        let levels = if optional { Hybrid::new(1, repetition, before) } else { None };
        Ok((bytes, levels, before))
    }

    /// The value of the next row, which may have none.
    pub(super) fn next<'a>(
        &'a mut self,
        dictionary: Option<&'a Dictionary>,
    ) -> Result<Option<&'a [u8]>, String> {
        let short = || "a page has fewer values than it states: it is damaged".to_owned();
        if let Some(levels) = &mut self.levels
            && levels.next(&self.bytes).ok_or_else(short)? == 0
        {
            return Ok(None);
        }
        match &mut self.values {
            Values::Plain(at) => {
                let (start, end) = plain(&self.bytes, at)?;
                Ok(Some(&self.bytes[start..end]))
            }
            Values::Indices(indices) => {
                let index = indices.next(&self.bytes).ok_or_else(short)?;
                let value = dictionary.and_then(|dictionary| dictionary.get(index));
                let value = value.ok_or("a page names a value that its dictionary lacks");
                Ok(Some(value?))
            }
        }
    }
}

/// Where the plain value at `at` is; goes on after it.
fn plain(bytes: &[u8], at: &mut usize) -> Result<(usize, usize), String> {
    let place = bytes.get(*at..).and_then(|rest| rest.first_chunk()).and_then(|length| {
        let start = *at + 4;
        let end = start.checked_add(u32::from_le_bytes(*length) as usize)?;
        (end <= bytes.len()).then_some((start, end))
    });
    let (start, end) = place.ok_or("a page ends within a value: it is damaged")?;
    *at = end;
    Ok((start, end))
}

fn foreign_encoding(encoding: i64) -> String {
    let name = match encoding {
        4 => "BIT_PACKED",
        5 => "DELTA_BINARY_PACKED",
        6 => "DELTA_LENGTH_BYTE_ARRAY",
        7 => "DELTA_BYTE_ARRAY",
        9 => "BYTE_STREAM_SPLIT",
        _ => return format!("unknown encoding {encoding}: the file is damaged or new"),
    };
    format!(
        "its texts are encoded as {name}, which is not read: write the file again with plain or dictionary \
         pages, in Python pyarrow.parquet.write_table(table, path)"
    )
}
