//! Rows of a file as JSON: texts, whole numbers, lists and structures.

use super::footer::{Chunk, Column, Node, Physical};
use super::{PageError, Pages, open, to_text};
use crate::error::{Error, Result};
use serde_json::{Map, Value};
use std::fs::File;
use std::path::{Path, PathBuf};

/// The rows of a Parquet file, in their order, as objects of the fields that were asked for.
///
/// A field that is absent is `null`, an absent list is empty. Texts, whole numbers, lists and structures of them are read.
#[derive(Debug)]
pub struct Records {
    path: PathBuf,
    file: File,
    fields: Vec<(String, Node)>,
    columns: Vec<Column>,
    /// For each column, its pages in each row group.
    chunks: Vec<Vec<Chunk>>,
    /// Rows of each row group.
    rows: Vec<u64>,
    group: usize,
    row: u64,
    cursors: Vec<Cursor>,
    /// True after an error.
    over: bool,
}

/// A column in a row group, and its next entry.
#[derive(Debug)]
struct Cursor {
    pages: Pages,
    /// Entries behind the next one.
    left: u64,
    next: Option<Held>,
}

/// An entry that was read.
#[derive(Debug)]
struct Held {
    repetition: u32,
    definition: u32,
    value: Value,
}

impl Records {
    /// Opens a file to read these fields of its rows.
    ///
    /// # Errors
    /// [`Error::Parquet`] when it is damaged, lacks a field, or a field holds something else than what is read;
    /// [`Error::Io`].
    pub fn open(path: &Path, fields: &[&str]) -> Result<Self> {
        let fault = |problem: String| Error::Parquet { path: path.to_owned(), problem };
        let (file, footer, bytes) = open(path)?;
        let mut columns = vec![];
        let mut node = |name: &&str| Ok((name.to_string(), footer.field(name, &mut columns)?));
        let fields: Vec<(String, Node)> =
            fields.iter().map(&mut node).collect::<std::result::Result<_, _>>().map_err(fault)?;
        let chunks = columns.iter().map(|column| footer.chunks(column, bytes));
        let chunks: Vec<Vec<Chunk>> =
            chunks.collect::<std::result::Result<_, _>>().map_err(fault)?;
        let first = chunks.first().map_or(&[][..], Vec::as_slice);
        let rows = first.iter().map(|chunk| chunk.rows).collect();
        let path = path.to_owned();
        let (group, row, cursors, over) = (0, 0, vec![], false);
        Ok(Records { path, file, fields, columns, chunks, rows, group, row, cursors, over })
    }

    fn read(&mut self) -> std::result::Result<Option<Value>, PageError> {
        while self.rows.get(self.group).is_some_and(|&rows| self.row >= rows) {
            if self.cursors.iter().any(|cursor| cursor.next.is_some()) {
                return Err("its pages have more rows than the row group".to_owned().into());
            }
            (self.group, self.row, self.cursors) = (self.group + 1, 0, vec![]);
        }
        if self.group >= self.rows.len() {
            return Ok(None);
        }
        if self.cursors.is_empty() {
            for column in 0..self.columns.len() {
                let chunk = &self.chunks[column][self.group];
                let (pages, left) = (Pages::new(chunk), chunk.entries);
                self.cursors.push(Cursor { pages, left, next: None });
                self.advance(column)?;
            }
        }
        let fields = std::mem::take(&mut self.fields);
        let row = self.structure(&fields);
        self.fields = fields;
        self.row += 1;
        row.map(Some)
    }

    /// Reads the next entry of a column, and gives back the one before it.
    fn advance(&mut self, column: usize) -> std::result::Result<Option<Held>, PageError> {
        let (chunk, of) = (&self.chunks[column][self.group], &self.columns[column]);
        let cursor = &mut self.cursors[column];
        let next = match cursor.left.checked_sub(1) {
            None => None,
            Some(left) => {
                cursor.left = left;
                let entry = cursor.pages.next(&mut self.file, chunk, of)?;
                let value = match entry.value {
                    None => Value::Null,
                    Some(bytes) => value(bytes, of.physical, self.row)?,
                };
                let (repetition, definition) = (entry.repetition, entry.definition);
                Some(Held { repetition, definition, value })
            }
        };
        Ok(std::mem::replace(&mut self.cursors[column].next, next))
    }

    fn structure(&mut self, fields: &[(String, Node)]) -> std::result::Result<Value, PageError> {
        let mut object = Map::new();
        for (name, node) in fields {
            object.insert(name.clone(), self.assemble(node)?);
        }
        Ok(Value::Object(object))
    }

    /// The value of a field in the present row, or in the present element of a list.
    fn assemble(&mut self, node: &Node) -> std::result::Result<Value, PageError> {
        match node {
            Node::Value { column, .. } => Ok(self.advance(*column)?.ok_or_else(short)?.value),
            Node::Structure { fields, definition } => {
                if self.level(node)? < *definition {
                    self.pass(node)?;
                    return Ok(Value::Null);
                }
                self.structure(fields)
            }
            Node::List { element, definition, repetition } => {
                if self.level(node)? < *definition {
                    self.pass(node)?;
                    return Ok(Value::Array(vec![]));
                }
                let mut elements = vec![self.assemble(element)?];
                while self.peek(node).is_some_and(|held| held.repetition == *repetition) {
                    elements.push(self.assemble(element)?);
                }
                Ok(Value::Array(elements))
            }
        }
    }

    /// The next entry of the first column of a field.
    fn peek(&self, node: &Node) -> Option<&Held> {
        self.cursors[first(node)].next.as_ref()
    }

    /// The level of definition of that entry.
    fn level(&self, node: &Node) -> std::result::Result<u32, PageError> {
        Ok(self.peek(node).ok_or_else(short)?.definition)
    }

    /// Passes over the entry that stands in every column of a field that is absent.
    fn pass(&mut self, node: &Node) -> std::result::Result<(), PageError> {
        match node {
            Node::Value { column, .. } => self.advance(*column)?.map(drop).ok_or_else(short),
            Node::Structure { fields, .. } => fields.iter().try_for_each(|(_, of)| self.pass(of)),
            Node::List { element, .. } => self.pass(element),
        }
    }
}

impl Iterator for Records {
    type Item = Result<Value>;

    fn next(&mut self) -> Option<Result<Value>> {
        if self.over {
            return None;
        }
        let group = self.group;
        let row = self.read().map_err(|error| error.at(&self.path, group)).transpose();
        self.over = !matches!(row, Some(Ok(_)));
        row
    }
}

/// The first column of a field.
fn first(node: &Node) -> usize {
    match node {
        Node::Value { column, .. } => *column,
        Node::Structure { fields, .. } => first(&fields[0].1),
        Node::List { element, .. } => first(element),
    }
}

fn short() -> PageError {
    "a column ends within a row: the file is damaged".to_owned().into()
}

fn value(bytes: &[u8], physical: Physical, row: u64) -> std::result::Result<Value, PageError> {
    Ok(match (physical, bytes) {
        (Physical::Bytes, bytes) => to_text(bytes, row)?.into(),
        (Physical::Int32, &[a, b, c, d]) => i32::from_le_bytes([a, b, c, d]).into(),
        (Physical::Int64, bytes) => {
            bytes.first_chunk().map(|bytes| i64::from_le_bytes(*bytes)).into()
        }
        (Physical::Int32, _) => Value::Null,
    })
}
