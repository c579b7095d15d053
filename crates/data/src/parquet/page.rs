//! Pages: their headers, and the values in them, one at a time.

use super::codec::{Codec, PAGE};
use super::footer::{Column, Physical};
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
    pub(super) fn new(
        header: &Header,
        stored: &[u8],
        codec: Codec,
        physical: Physical,
    ) -> Result<Dictionary, String> {
        header.check(stored)?;
        if ![PLAIN, PLAIN_DICTIONARY].contains(&header.encoding) {
            return Err(foreign_encoding(header.encoding));
        }
        let bytes = codec.decompress(stored, size(header.uncompressed)?)?;
        let (mut spans, mut at) = (Vec::new(), 0);
        for _ in 0..header.values()? {
            let (start, end) = plain(&bytes, &mut at, physical)?;
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
    levels: Levels,
    /// The level of definition of what is there.
    there: u32,
    physical: Physical,
    values: Values,
}

/// The levels of each entry: of repetition and of definition. Absent if all are 0.
type Levels = [Option<Hybrid>; 2];

/// A value, or a place without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) repetition: u32,
    pub(super) definition: u32,
    pub(super) value: Option<&'a [u8]>,
}

#[derive(Debug)]
enum Values {
    /// Values as they are, texts after their length; the next one's place.
    Plain(usize),
    /// Places in the dictionary.
    Indices(Hybrid),
}

impl Page {
    pub(super) fn new(
        header: &Header,
        stored: &[u8],
        codec: Codec,
        column: &Column,
    ) -> Result<Page, String> {
        header.check(stored)?;
        let damaged = || Fault::Damaged.to_string();
        let most = [column.repetition, column.definition];
        let (bytes, levels, at) = match header.kind {
            3 => Page::unpack_v2(header, stored, codec, most)?,
            _ => Page::unpack_v1(header, stored, codec, most)?,
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
        let (there, physical) = (column.definition, column.physical);
        Ok(Page { bytes, levels, there, physical, values })
    }

    /// Levels of at most `most`, with their length before them, and values are compressed together.
    fn unpack_v1(
        header: &Header,
        stored: &[u8],
        codec: Codec,
        most: [u32; 2],
    ) -> Result<(Vec<u8>, Levels, usize), String> {
        let bytes = codec.decompress(stored, size(header.uncompressed)?)?;
        if most != [0, 0] && header.level_encoding != RLE {
            return Err(foreign_encoding(header.level_encoding));
        }
        let damaged = || Fault::Damaged.to_string();
        let (mut levels, mut at) = ([None, None], 0);
        for (levels, most) in levels.iter_mut().zip(most).filter(|(_, most)| *most > 0) {
            let length = bytes.get(at..).and_then(|rest| rest.first_chunk());
            let length = length.map(|b| u32::from_le_bytes(*b)).ok_or_else(damaged)?;
            let end = at + 4 + length as usize;
            if end > bytes.len() {
                return Err(damaged());
            }
            *levels = Hybrid::new(width(most), at + 4, end);
            at = end;
        }
        Ok((bytes, levels, at))
    }

    /// Levels stand before the values, uncompressed.
    fn unpack_v2(
        header: &Header,
        stored: &[u8],
        codec: Codec,
        most: [u32; 2],
    ) -> Result<(Vec<u8>, Levels, usize), String> {
        let damaged = || Fault::Damaged.to_string();
        let (first, second) = (size(header.repetition_bytes)?, size(header.level_bytes)?);
        let before = first + second;
        let packed = stored.get(before..).ok_or_else(damaged)?;
        let rest = size(header.uncompressed)?.checked_sub(before).ok_or_else(damaged)?;
        let codec = if header.is_compressed && !packed.is_empty() { codec } else { Codec::None };
        let mut bytes = stored[..before].to_vec();
        bytes.append(&mut codec.decompress(packed, rest)?);
        let levels =
            |most, at, end| (most > 0).then(|| Hybrid::new(width(most), at, end)).flatten();
        let levels = [levels(most[0], 0, first), levels(most[1], first, before)];
        Ok((bytes, levels, before))
    }

    /// The next entry.
    pub(super) fn next<'a>(
        &'a mut self,
        dictionary: Option<&'a Dictionary>,
    ) -> Result<Entry<'a>, String> {
        let short = || "a page has fewer values than it states: it is damaged".to_owned();
        let [repetition, definition] = &mut self.levels;
        let repetition = match repetition {
            Some(levels) => levels.next(&self.bytes).ok_or_else(short)?,
            None => 0,
        };
        let definition = match definition {
            Some(levels) => levels.next(&self.bytes).ok_or_else(short)?,
            None => 0,
        };
        if definition < self.there {
            return Ok(Entry { repetition, definition, value: None });
        }
        let value = match &mut self.values {
            Values::Plain(at) => {
                let (start, end) = plain(&self.bytes, at, self.physical)?;
                &self.bytes[start..end]
            }
            Values::Indices(indices) => {
                let index = indices.next(&self.bytes).ok_or_else(short)?;
                let value = dictionary.and_then(|dictionary| dictionary.get(index));
                value.ok_or("a page names a value that its dictionary lacks")?
            }
        };
        Ok(Entry { repetition, definition, value: Some(value) })
    }
}

/// Bits of a level that is at most `most`.
fn width(most: u32) -> u32 {
    u32::BITS - most.leading_zeros()
}

/// Where the plain value at `at` is; goes on after it.
fn plain(bytes: &[u8], at: &mut usize, physical: Physical) -> Result<(usize, usize), String> {
    let place = || {
        let (start, length) = match physical {
            Physical::Int32 => (*at, 4),
            Physical::Int64 => (*at, 8),
            Physical::Bytes => {
                let length = bytes.get(*at..)?.first_chunk()?;
                (*at + 4, u32::from_le_bytes(*length) as usize)
            }
        };
        let end = start.checked_add(length)?;
        (end <= bytes.len()).then_some((start, end))
    };
    let place = place();
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
        "its values are encoded as {name}, which is not read: write the file again with plain or dictionary \
         pages, in Python pyarrow.parquet.write_table(table, path)"
    )
}
