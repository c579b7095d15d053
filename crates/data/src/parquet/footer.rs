//! What the end of a Parquet file says: its columns and where their pages are.

use super::codec::Codec;
use super::thrift::{Kind, Parsed, Reader};

/// Physical type of bytes with a length of their own (`Type.BYTE_ARRAY`).
const BYTE_ARRAY: i64 = 6;
/// `FieldRepetitionType`.
const OPTIONAL: i64 = 1;
const REPEATED: i64 = 2;

/// The part of the metadata that is needed.
#[derive(Debug, Default)]
pub(super) struct Footer {
    rows: i64,
    schema: Vec<Element>,
    groups: Vec<RawGroup>,
    encrypted: bool,
}

/// A node of the schema, which is a tree in preorder.
#[derive(Debug, Default)]
struct Element {
    name: String,
    kind: Option<i64>,
    repetition: i64,
    children: i64,
}

#[derive(Debug, Default)]
struct RawGroup {
    rows: i64,
    chunks: Vec<RawChunk>,
}

#[derive(Debug, Default)]
struct RawChunk {
    elsewhere: bool,
    encrypted: bool,
    codec: i64,
    values: i64,
    compressed: i64,
    uncompressed: i64,
    data: i64,
    dictionary: Option<i64>,
}

/// A column of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    /// True if values may be absent.
    pub(super) optional: bool,
    /// Its place among the columns of a row group.
    leaf: usize,
}

/// The pages of the column in one row group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) rows: u64,
    /// Offset of the first page in the file.
    pub(super) start: u64,
    /// Offset after the last one.
    pub(super) end: u64,
    /// Bytes of the pages before compression.
    pub(super) uncompressed: u64,
    pub(super) codec: Codec,
}

impl Footer {
    pub(super) fn parse(bytes: &[u8]) -> Parsed<Footer> {
        let mut reader = Reader::new(bytes);
        let (mut footer, mut last) = (Footer::default(), 0);
        while let Some((id, kind)) = reader.field(&mut last)? {
            match (id, kind) {
                (2, Kind::List) => footer.schema = reader.structs(element)?,
                (3, Kind::Int) => footer.rows = reader.int()?,
                (4, Kind::List) => footer.groups = reader.structs(group)?,
                (8, kind) => {
                    footer.encrypted = true;
                    reader.skip(kind)?;
                }
                (_, kind) => reader.skip(kind)?,
            }
        }
        Ok(footer)
    }

    /// The column called `name`.
    ///
    /// # Errors
    /// The reason why it cannot be read.
    pub(super) fn column(&self, name: &str) -> Result<Column, String> {
        if self.encrypted {
            return Err("the file is encrypted: decrypt it first".into());
        }
        let (mut leaf, mut texts, mut at) = (0, vec![], 1);
        while let Some(element) = self.schema.get(at) {
            let (end, leaves) = self.subtree(at);
            let flat = element.kind == Some(BYTE_ARRAY) && element.repetition != REPEATED;
            if element.name == name {
                if !flat || leaves != 1 || end != at + 1 {
                    let what = self.describe(at);
                    return Err(format!(
                        "its column `{name}` holds {what}, not texts{}",
                        advice(name)
                    ));
                }
                return Ok(Column {
                    name: name.into(),
                    optional: element.repetition == OPTIONAL,
                    leaf,
                });
            }
            if flat {
                texts.push(format!("`{}`", element.name));
            }
            (at, leaf) = (end, leaf + leaves);
        }
        Err(match &texts[..] {
            [] => format!("it has no column `{name}`, and none that holds texts"),
            texts => format!(
                "it has no column `{name}`; those that may hold texts are {}: name one with --text-field",
                texts.join(", ")
            ),
        })
    }

    /// The index after the subtree at `at`, and its leaves.
    fn subtree(&self, at: usize) -> (usize, usize) {
        let (mut open, mut leaves, mut end) = (1u64, 0, at);
        while open > 0
            && let Some(element) = self.schema.get(end)
        {
            let children = element.children.max(0) as u64;
            leaves += usize::from(children == 0);
            open = (open - 1).saturating_add(children);
            end += 1;
        }
        (end, leaves)
    }

    fn describe(&self, at: usize) -> &'static str {
        let element = &self.schema[at];
        match element.kind {
            _ if element.children > 0 => "lists or structures",
            _ if element.repetition == REPEATED => "lists",
            Some(0) => "truth values",
            Some(1..=3) => "integers",
            Some(4 | 5) => "numbers",
            _ => "values of another type",
        }
    }

    /// The pages of `column` in every row group of a file of `bytes` bytes.
    ///
    /// # Errors
    /// A row group whose numbers cannot be, or whose column cannot be read.
    pub(super) fn chunks(&self, column: &Column, bytes: u64) -> Result<Vec<Chunk>, String> {
        let chunks = self.groups.iter().enumerate().map(|(n, group)| {
            chunk(group, column, bytes).map_err(|problem| format!("row group {n}: {problem}"))
        });
        let chunks: Vec<Chunk> = chunks.collect::<Result<_, _>>()?;
        let rows = chunks.iter().map(|chunk| u128::from(chunk.rows)).sum::<u128>();
        if i128::from(self.rows) != rows as i128 {
            return Err(format!(
                "the file states {} rows, its row groups {rows}: it is damaged",
                self.rows
            ));
        }
        Ok(chunks)
    }
}

fn advice(name: &str) -> &'static str {
    match name {
        "messages" => " (conversations are not learned from as they stand)",
        _ => "; name another with --text-field",
    }
}

fn chunk(group: &RawGroup, column: &Column, bytes: u64) -> Result<Chunk, String> {
    let damaged = || "its metadata is damaged".to_owned();
    let raw = group.chunks.get(column.leaf).ok_or_else(damaged)?;
    if raw.encrypted {
        return Err(format!("column `{}` is encrypted: decrypt it first", column.name));
    }
    if raw.elsewhere {
        return Err("its data are in another file, which is not supported".into());
    }
    // Some writers put 0 where there is no dictionary.
    let dictionary = raw.dictionary.filter(|&at| at > 0).unwrap_or(raw.data);
    let start = u64::try_from(dictionary.min(raw.data)).map_err(|_| damaged())?;
    let length = u64::try_from(raw.compressed).map_err(|_| damaged())?;
    let end = start.checked_add(length).filter(|end| *end <= bytes).ok_or_else(|| {
        "its pages lie beyond the end of the file, which is cut short or damaged".to_owned()
    })?;
    let rows = u64::try_from(group.rows).map_err(|_| damaged())?;
    // A column that is not nested has a value, or none, for every row.
    if raw.values != group.rows {
        return Err(damaged());
    }
    let uncompressed = u64::try_from(raw.uncompressed).map_err(|_| damaged())?;
    Ok(Chunk { rows, start, end, uncompressed, codec: Codec::of(raw.codec)? })
}

fn element(reader: &mut Reader<'_>) -> Parsed<Element> {
    let (mut element, mut last) = (Element::default(), 0);
    while let Some((id, kind)) = reader.field(&mut last)? {
        match (id, kind) {
            (1, Kind::Int) => element.kind = Some(reader.int()?),
            (3, Kind::Int) => element.repetition = reader.int()?,
            (4, Kind::Binary) => element.name = reader.text()?,
            (5, Kind::Int) => element.children = reader.int()?,
            (_, kind) => reader.skip(kind)?,
        }
    }
    Ok(element)
}

fn group(reader: &mut Reader<'_>) -> Parsed<RawGroup> {
    let (mut group, mut last) = (RawGroup::default(), 0);
    while let Some((id, kind)) = reader.field(&mut last)? {
        match (id, kind) {
            (1, Kind::List) => group.chunks = reader.structs(raw_chunk)?,
            (3, Kind::Int) => group.rows = reader.int()?,
            (_, kind) => reader.skip(kind)?,
        }
    }
    Ok(group)
}

fn raw_chunk(reader: &mut Reader<'_>) -> Parsed<RawChunk> {
    let (mut chunk, mut last) = (RawChunk::default(), 0);
    while let Some((id, kind)) = reader.field(&mut last)? {
        match (id, kind) {
            (1, Kind::Binary) => chunk.elsewhere = !reader.binary()?.is_empty(),
            (3, Kind::Struct) => column_metadata(reader, &mut chunk)?,
            (8 | 9, kind) => {
                chunk.encrypted = true;
                reader.skip(kind)?;
            }
            (_, kind) => reader.skip(kind)?,
        }
    }
    Ok(chunk)
}

fn column_metadata(reader: &mut Reader<'_>, chunk: &mut RawChunk) -> Parsed<()> {
    let mut last = 0;
    while let Some((id, kind)) = reader.field(&mut last)? {
        match (id, kind) {
            (4, Kind::Int) => chunk.codec = reader.int()?,
            (5, Kind::Int) => chunk.values = reader.int()?,
            (6, Kind::Int) => chunk.uncompressed = reader.int()?,
            (7, Kind::Int) => chunk.compressed = reader.int()?,
            (9, Kind::Int) => chunk.data = reader.int()?,
            (11, Kind::Int) => chunk.dictionary = Some(reader.int()?),
            (_, kind) => reader.skip(kind)?,
        }
    }
    Ok(())
}
