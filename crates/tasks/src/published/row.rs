//! Fields of a row of a table, with errors that name them.

use crate::error::{Result, TaskError};
use serde_json::Value;
use std::path::Path;

/// A row of a file.
pub(super) struct Row<'r> {
    pub(super) value: &'r Value,
    pub(super) path: &'r Path,
    /// From 0.
    pub(super) number: usize,
}

impl Row<'_> {
    /// Returns an error about this row.
    pub(super) fn fault(&self, reason: impl Into<String>) -> TaskError {
        let (path, row) = (self.path.to_owned(), self.number);
        TaskError::Row { path, row, reason: reason.into() }
    }

    /// Returns a field; `a.b` is field `b` of field `a`.
    fn field(&self, name: &str) -> &Value {
        name.split('.').fold(self.value, |value, name| &value[name])
    }

    /// Returns a text.
    pub(super) fn text(&self, name: &str) -> Result<&str> {
        let text = self.field(name).as_str();
        text.ok_or_else(|| self.fault(format!("`{name}` is no text")))
    }

    /// Returns a list of texts.
    pub(super) fn texts(&self, name: &str) -> Result<Vec<String>> {
        let texts = self.list(name)?.iter().map(|text| text.as_str().map(str::to_owned));
        let texts: Option<Vec<String>> = texts.collect();
        texts.ok_or_else(|| self.fault(format!("`{name}` is no list of texts")))
    }

    /// Returns a list.
    pub(super) fn list(&self, name: &str) -> Result<&[Value]> {
        let list = self.field(name).as_array();
        list.map(Vec::as_slice).ok_or_else(|| self.fault(format!("`{name}` is no list")))
    }

    /// Returns a whole number that is not negative.
    pub(super) fn number(&self, name: &str) -> Result<usize> {
        let number = self.field(name).as_u64();
        let number = number.ok_or_else(|| self.fault(format!("`{name}` is no whole number")))?;
        Ok(number as usize)
    }
}
