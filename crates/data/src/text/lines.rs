//! JSON lines: one document per line.

use super::plain::CHUNK;
use super::{Document, Place, check_encoding, not_utf8};
use crate::error::{Error, Result};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Longest line.
const LINE: u64 = 64 << 20;

#[derive(Debug)]
pub(super) struct JsonlReader {
    path: PathBuf,
    field: String,
    lines: BufReader<File>,
    /// Lines read.
    line: u64,
    offset: u64,
}

impl JsonlReader {
    /// Reads from `place` on, the place of a document or the beginning of the file.
    pub(super) fn open(path: &Path, field: &str, place: Place) -> Result<JsonlReader> {
        let mut file = File::open(path).map_err(Error::io(path, "open"))?;
        file.seek(SeekFrom::Start(place.at)).map_err(Error::io(path, "read"))?;
        Ok(JsonlReader {
            path: path.to_owned(),
            field: field.to_owned(),
            lines: BufReader::with_capacity(CHUNK, file),
            line: place.detail,
            offset: place.at,
        })
    }

    pub(super) fn place(&self) -> Place {
        Place { file: 0, at: self.offset, detail: self.line }
    }

    pub(super) fn next(&mut self) -> Result<Option<Document>> {
        loop {
            let place = self.place();
            let Some(line) = self.line()? else { return Ok(None) };
            if line.trim().is_empty() {
                continue;
            }
            let text = self.text(&line)?;
            if !text.trim().is_empty() {
                return Ok(Some(Document { text, begins: true, bytes_done: self.offset, place }));
            }
        }
    }

    /// The next line; `None` at the end.
    fn line(&mut self) -> Result<Option<String>> {
        let mut bytes = Vec::new();
        let mut lines = (&mut self.lines).take(LINE + 1);
        let read = lines.read_until(b'\n', &mut bytes).map_err(Error::io(&self.path, "read"))?;
        if read == 0 {
            return Ok(None);
        }
        self.line += 1;
        if read as u64 > LINE {
            return Err(self.fault("the line is longer than 64 MiB".into()));
        }
        if self.offset == 0 {
            check_encoding(&self.path, &bytes)?;
        }
        let mut line = String::from_utf8(bytes)
            .map_err(|e| not_utf8(&self.path, self.offset + e.utf8_error().valid_up_to() as u64))?;
        if self.offset == 0 && line.starts_with('\u{feff}') {
            line.remove(0);
        }
        self.offset += read as u64;
        Ok(Some(line))
    }

    /// The text of a line.
    fn text(&self, line: &str) -> Result<String> {
        let field = &self.field;
        let value: Value = serde_json::from_str(line.trim_end()).map_err(|e| {
            let reason = json_reason(&e);
            self.fault(format!("not a JSON object with a string field \"{field}\": {reason}"))
        })?;
        let mut object = match value {
            Value::Object(object) => object,
            Value::Array(items) if is_conversation(&items) => {
                return Err(self.fault(conversation("it is a list of messages")));
            }
            _ => return Err(self.fault(format!("not a JSON object with a field \"{field}\""))),
        };
        match object.remove(field) {
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(self.fault(format!("its field \"{field}\" is not a string"))),
            None if object.get("messages").is_some_and(Value::is_array) => {
                Err(self.fault(conversation("it has \"messages\"")))
            }
            None => Err(self.fault(no_field(field, &object))),
        }
    }

    fn fault(&self, problem: String) -> Error {
        Error::Jsonl { path: self.path.clone(), line: self.line, problem }
    }
}

/// Returns what is wrong with a line of JSON, without serde's line number, which is always 1.
pub fn json_reason(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column ", " at column ")
}

/// True for messages as texts, or as objects that have a role.
fn is_conversation(items: &[Value]) -> bool {
    !items.is_empty() && items.iter().all(|item| item.is_string() || item.get("role").is_some())
}

fn conversation(what: &str) -> String {
    format!(
        "this is a conversation ({what}), not a text: pretraining reads texts. Write each conversation as \
         one, in lines like {{\"text\": \"...\"}}"
    )
}

fn no_field(field: &str, object: &serde_json::Map<String, Value>) -> String {
    let texts = object.iter().filter(|(_, value)| value.is_string());
    let names: Vec<String> = texts.take(8).map(|(name, _)| format!("\"{name}\"")).collect();
    match &names[..] {
        [] => format!("it has no string field \"{field}\""),
        names => format!(
            "it has no string field \"{field}\"; those it has are {}: name one with --text-field",
            names.join(", ")
        ),
    }
}
