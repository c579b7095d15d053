//! Conversations from a file of JSON lines.

use crate::conversation::{Conversation, Conversations};
use crate::error::{Result, TaskError};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use tokenizer::chat::{Message, Role};

/// The form of a line, for errors.
const FORM: &str = "a line is {\"messages\": [{\"role\": \"user\", \"content\": \"…\"}, {\"role\": \
                    \"assistant\", \"content\": \"…\"}]}, or such a list alone";
/// The UTF-8 byte order mark.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// The conversations of a file, one on each line: an object with `messages`, or a list of messages alone (as
/// nanochat's own files have it). Lines that are blank are skipped; other fields of an object are ignored.
///
/// Every line is checked when the file is opened. Conversations are then read where they are asked for, so a file may be
/// larger than the memory.
#[derive(Debug)]
pub struct JsonLines {
    path: PathBuf,
    lines: Vec<Line>,
    file: Mutex<File>,
}

/// Where a conversation stands.
#[derive(Debug, Clone, Copy)]
struct Line {
    /// The number of the line, from 1.
    number: usize,
    /// Where it begins, and its length, in bytes.
    start: u64,
    length: usize,
}

impl JsonLines {
    /// Opens a file, and checks each of its lines.
    ///
    /// # Errors
    /// When the file cannot be read, has no conversation, or has a line that is none: the error names the line.
    pub fn open(path: &Path) -> Result<Self> {
        let io = |source| TaskError::Io { path: path.to_owned(), source };
        let mut reader = BufReader::new(File::open(path).map_err(io)?);
        let mut lines = vec![];
        let (mut start, mut text) = (0, vec![]);
        for number in 1.. {
            text.clear();
            let length = reader.read_until(b'\n', &mut text).map_err(io)?;
            if length == 0 {
                break;
            }
            let mark = if number == 1 && text.starts_with(BOM) { BOM.len() } else { 0 };
            let own = &text[mark..];
            if !own.trim_ascii().is_empty() {
                let line = Line { number, start: start + mark as u64, length: own.len() };
                parse(own).map_err(|reason| TaskError::line(path, number, reason))?;
                lines.push(line);
            }
            start += length as u64;
        }
        if lines.is_empty() {
            return Err(TaskError::file(path, format!("it has no conversation: {FORM}")));
        }
        let file = Mutex::new(reader.into_inner());
        Ok(JsonLines { path: path.to_owned(), lines, file })
    }

    /// Returns the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn read(&self, start: u64, length: usize) -> std::io::Result<Vec<u8>> {
        let mut text = vec![0; length];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut text)?;
        Ok(text)
    }
}

impl Conversations for JsonLines {
    fn len(&self) -> usize {
        self.lines.len()
    }

    fn get(&self, index: usize) -> Result<Conversation> {
        let Line { number, start, length } = self.lines[index];
        let text = self.read(start, length);
        let text = text.map_err(|source| TaskError::Io { path: self.path.clone(), source })?;
        parse(&text).map_err(|reason| TaskError::line(&self.path, number, reason))
    }

    fn place(&self, index: usize) -> String {
        format!("{}, line {}", self.path.display(), self.lines[index].number)
    }
}

/// The conversation of a line, or what is wrong with it.
fn parse(line: &[u8]) -> std::result::Result<Conversation, String> {
    let value: Value = serde_json::from_slice(line.trim_ascii_end()).map_err(|error| {
        format!("not JSON ({}); {FORM}, on one line", data::text::json_reason(&error))
    })?;
    let list = match value {
        Value::Array(list) if list.iter().any(is_conversation) => {
            return Err(format!(
                "a list of conversations: write each of them on a line of its own (`jq -c '.[]'` does that); {FORM}"
            ));
        }
        Value::Array(list) => list,
        Value::Object(mut object) => match object.remove("messages") {
            Some(Value::Array(list)) => list,
            Some(_) => return Err(format!("`messages` is not a list; {FORM}")),
            None if object.contains_key("conversations") => {
                return Err(format!(
                    "`conversations` is ShareGPT's form: write each `from` as `role` (user or assistant) and each \
                     `value` as `content`; {FORM}"
                ));
            }
            None => return Err(format!("there is no `messages`; {FORM}")),
        },
        _ => return Err(format!("neither an object nor a list; {FORM}")),
    };
    let messages = list.into_iter().enumerate().map(|(at, message)| {
        let read = serde_json::from_value::<Message>(message);
        read.map_err(|error| format!("message {}: {error}; {FORM}", at + 1))
    });
    let messages = messages.collect::<std::result::Result<Vec<_>, _>>()?;
    if !messages.iter().any(|message| message.role == Role::Assistant) {
        return Err("no message is of the assistant, so there is nothing to learn".to_owned());
    }
    Ok(Conversation { messages })
}

/// True if `value` looks like a whole conversation.
fn is_conversation(value: &Value) -> bool {
    value.is_array() || value.get("messages").is_some() || value.get("conversations").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizer::chat::Part;

    fn open(text: &str) -> (tempfile::TempDir, Result<JsonLines>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("talks.jsonl");
        std::fs::write(&path, text).unwrap();
        let opened = JsonLines::open(&path);
        (directory, opened)
    }

    #[test]
    fn both_forms_are_read_in_any_order() {
        let text = concat!(
            r#"{"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello"}],"id":7}"#,
            "\r\n\n  \n",
            r#"[{"role":"user","content":"6*7?"},{"role":"assistant","content":[{"type":"text","text":"It is "},{"type":"python","text":"6*7"}]}]"#,
        );
        let (_directory, lines) = open(text);
        let lines = lines.unwrap();
        assert_eq!(lines.len(), 2);
        let second = lines.get(1).unwrap();
        assert_eq!(second.messages[1].content[1], Part::Python("6*7".to_owned()));
        let first = lines.get(0).unwrap();
        let hello = Message::new(Role::Assistant, "Hello");
        assert_eq!(first.messages, [Message::new(Role::User, "Hi"), hello]);
        assert_eq!(lines.get(1).unwrap(), second);
        assert!(lines.place(1).ends_with("talks.jsonl, line 4"), "{}", lines.place(1));
    }

    #[test]
    fn errors_name_file_line_and_remedy() {
        let good = r#"[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]"#;
        for (line, says) in [
            ("{", "not JSON"),
            ("3", "neither an object nor a list"),
            (r#"{"message":[]}"#, "there is no `messages`"),
            (r#"{"messages":{}}"#, "`messages` is not a list"),
            (r#"{"conversations":[]}"#, "ShareGPT"),
            (r#"[{"role":"human","content":"a"}]"#, "message 1: unknown variant `human`"),
            (r#"[{"role":"user"}]"#, "message 1: missing field `content`"),
            (r#"[{"role":"user","content":"a"}]"#, "nothing to learn"),
            ("[]", "nothing to learn"),
            ("[\"\\ud800\"]", "not JSON"),
            ("[[{\"role\":\"user\",\"content\":\"a\"}]]", "a list of conversations: write each"),
            (r#"[{"messages":[]}]"#, "a list of conversations: write each"),
            (r#"[{"role":"user",]"#, "(key must be a string at column "),
            (r#"[{"role":"user""#, "(EOF while parsing an object at column "),
        ] {
            let (_directory, lines) = open(&format!("{good}\n\n{line}\n"));
            let error = lines.unwrap_err().to_string();
            assert!(error.contains("talks.jsonl, line 3: "), "{error}");
            assert!(error.contains(says), "{line}: {error}");
            assert!(!error.contains("line 1"), "one number: {error}");
        }
        let (_directory, lines) = open(&format!("\u{feff}{good}\n{good}"));
        let lines = lines.unwrap();
        assert_eq!((lines.len(), lines.get(0).unwrap()), (2, lines.get(1).unwrap()));
        let (_directory, lines) = open("\n");
        assert!(lines.unwrap_err().to_string().contains("it has no conversation"));
        let error = JsonLines::open(Path::new("/nowhere/x.jsonl")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/x.jsonl: cannot be read"), "{error}");
    }
}
