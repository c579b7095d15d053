//! A message of a conversation, as JSON files of conversations have it.

use serde::{Deserialize, Serialize};

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions for the whole conversation.
    #[serde(alias = "developer")]
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// What a tool gave back; only templates in Jinja know it.
    Tool,
}

impl Role {
    /// Its name in templates and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        }
    }
}

/// A part of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "text", rename_all = "snake_case")]
pub enum Part {
    /// Text.
    Text(String),
    /// A call of the calculator.
    Python(String),
    /// What the calculator gave back.
    PythonOutput(String),
}

impl Part {
    /// Its text.
    pub fn text(&self) -> &str {
        match self {
            Part::Text(text) | Part::Python(text) | Part::PythonOutput(text) => text,
        }
    }
}

/// A message: `{"role": "user", "content": "Hello"}`. The content is a string or a list of
/// `{"type": "text", "text": "Hello"}`, where `python` and `python_output` are types too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said; most messages are one part of text.
    #[serde(serialize_with = "write", deserialize_with = "read")]
    pub content: Vec<Part>,
}

impl Message {
    /// A message of text alone.
    pub fn new(role: Role, text: impl Into<String>) -> Self {
        Message { role, content: vec![Part::Text(text.into())] }
    }

    /// The text of all parts, one after the other.
    pub fn text(&self) -> String {
        self.content.iter().map(Part::text).collect()
    }
}

/// Content as JSON has it.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a string or a list of {\"type\", \"text\"}")]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

fn write<S: serde::Serializer>(parts: &[Part], serializer: S) -> Result<S::Ok, S::Error> {
    match parts {
        [Part::Text(text)] => serializer.serialize_str(text),
        parts => parts.serialize(serializer),
    }
}

fn read<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Part>, D::Error> {
    Ok(match Content::deserialize(deserializer)? {
        Content::Text(text) => vec![Part::Text(text)],
        Content::Parts(parts) => parts,
    })
}
