//! What the end of a Parquet file says: its columns and where their pages are.

use super::codec::Codec;
use super::thrift::{Kind, Parsed, Reader};

/// Physical type of bytes with a length of their own (`Type.BYTE_ARRAY`).
const BYTE_ARRAY: i64 = 6;
/// `FieldRepetitionType`.
const OPTIONAL: i64 = 1;
const REPEATED: i64 = 2;
/// `ConvertedType.LIST`.
const LIST: i64 = 3;
/// Structures within structures, at most.
const DEPTH: u32 = 32;

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
    converted: Option<i64>,
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

/// A column of values that are not taken apart further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) physical: Physical,
    /// Lists that its values lie in.
    pub(super) repetition: u32,
    /// Lists, and structures and values that may be absent, on the way to a value.
    pub(super) definition: u32,
    /// Its place among the columns of a row group.
    leaf: usize,
}

/// How values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Physical {
    Bytes,
    Int32,
    Int64,
}

impl Physical {
    fn of(kind: Option<i64>) -> Option<Physical> {
        match kind? {
            1 => Some(Physical::Int32),
            2 => Some(Physical::Int64),
            BYTE_ARRAY => Some(Physical::Bytes),
            _ => None,
        }
    }
}

/// A field as a tree, with the level of definition from which on each part is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    /// Values of a column, by its place in a list of them.
    Value { column: usize, definition: u32 },
    /// Fields by name.
    Structure { fields: Vec<(String, Node)>, definition: u32 },
    /// Elements; another one begins with this level of repetition.
    List { element: Box<Node>, definition: u32, repetition: u32 },
}

/// The pages of the column in one row group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) rows: u64,
    /// Values and places without one: as many as rows, where there are no lists.
    pub(super) entries: u64,
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

    /// The column of texts called `name`.
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
                    physical: Physical::Bytes,
                    repetition: 0,
                    definition: u32::from(element.repetition == OPTIONAL),
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

    /// The field called `name`, whatever it holds; `columns` are added to.
    ///
    /// # Errors
    /// The reason why it cannot be read.
    pub(super) fn field(&self, name: &str, columns: &mut Vec<Column>) -> Result<Node, String> {
        if self.encrypted {
            return Err("the file is encrypted: decrypt it first".into());
        }
        let (mut leaf, mut names, mut at) = (0, vec![], 1);
        while let Some(element) = self.schema.get(at) {
            if element.name == name {
                return self.node(&mut at, &mut leaf, Level::default(), columns);
            }
            names.push(format!("`{}`", element.name));
            let (end, leaves) = self.subtree(at);
            (at, leaf) = (end, leaf + leaves);
        }
        Err(format!("it has no column `{name}`, but {}", names.join(", ")))
    }

    /// The tree at `at`, which goes on behind it, as `leaf` does behind its columns.
    fn node(
        &self,
        at: &mut usize,
        leaf: &mut usize,
        level: Level,
        columns: &mut Vec<Column>,
    ) -> Result<Node, String> {
        let damaged = || "its metadata is damaged".to_owned();
        let element = self.schema.get(*at).ok_or_else(damaged)?;
        let level = level.within(element).ok_or_else(damaged)?;
        let Level { repetition, definition, .. } = level;
        *at += 1;
        let node = match element.children {
            ..=0 => {
                let column = columns.len();
                let physical = Physical::of(element.kind).ok_or_else(|| {
                    let what = self.describe(*at - 1);
                    format!("its column `{}` holds {what}, which are not read here", element.name)
                })?;
                let (name, leaf_at) = (element.name.clone(), *leaf);
                columns.push(Column { name, physical, repetition, definition, leaf: leaf_at });
                *leaf += 1;
                Node::Value { column, definition }
            }
            children => {
                let mut fields = vec![];
                for _ in 0..children {
                    let name = self.schema.get(*at).ok_or_else(damaged)?.name.clone();
                    fields.push((name, self.node(at, leaf, level, columns)?));
                }
                let alone = fields.len() == 1;
                match fields.pop() {
                    // A list is a structure of one field, which repeats a structure of one field.
                    Some((_, Node::List { element: inner, definition, repetition }))
                        if alone && element.converted == Some(LIST) =>
                    {
                        let element = match *inner {
                            Node::Structure { mut fields, .. } if fields.len() == 1 => {
                                Box::new(fields.remove(0).1)
                            }
                            other => Box::new(other),
                        };
                        Node::List { element, definition, repetition }
                    }
                    last => {
                        fields.extend(last);
                        Node::Structure { fields, definition }
                    }
                }
            }
        };
        Ok(match element.repetition {
            REPEATED => Node::List { element: Box::new(node), definition, repetition },
            _ => node,
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

/// How deep something lies in a schema.
#[derive(Debug, Clone, Copy, Default)]
struct Level {
    repetition: u32,
    definition: u32,
    depth: u32,
}

impl Level {
    /// The level of a node that lies in something of this one; `None` if that is too deep.
    fn within(self, element: &Element) -> Option<Level> {
        let repeated = element.repetition == REPEATED;
        let absent = repeated || element.repetition == OPTIONAL;
        let level = Level {
            repetition: self.repetition + u32::from(repeated),
            definition: self.definition + u32::from(absent),
            depth: self.depth + 1,
        };
        (level.depth <= DEPTH).then_some(level)
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
    let entries = u64::try_from(raw.values).map_err(|_| damaged())?;
    // A list without elements has an entry too.
    if entries < rows || (entries > rows && column.repetition == 0) {
        return Err(damaged());
    }
    let uncompressed = u64::try_from(raw.uncompressed).map_err(|_| damaged())?;
    Ok(Chunk { rows, entries, start, end, uncompressed, codec: Codec::of(raw.codec)? })
}

fn element(reader: &mut Reader<'_>) -> Parsed<Element> {
    let (mut element, mut last) = (Element::default(), 0);
    while let Some((id, kind)) = reader.field(&mut last)? {
        match (id, kind) {
            (1, Kind::Int) => element.kind = Some(reader.int()?),
            (3, Kind::Int) => element.repetition = reader.int()?,
            (4, Kind::Binary) => element.name = reader.text()?,
            (5, Kind::Int) => element.children = reader.int()?,
            (6, Kind::Int) => element.converted = Some(reader.int()?),
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
