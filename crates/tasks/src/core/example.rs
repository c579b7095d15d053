//! Examples: a file has one JSON object a line.

use super::Kind;
use crate::error::{Result, TaskError, read};
use serde_json::{Map, Value};
use std::path::Path;

/// An example with its answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Example {
    /// A question with answers to choose from.
    MultipleChoice {
        /// The question.
        query: String,
        /// The answers, at least one.
        choices: Vec<String>,
        /// The index of the right one.
        gold: usize,
    },
    /// Contexts to choose from, of one continuation.
    Schema {
        /// The contexts, at least one.
        contexts: Vec<String>,
        /// The continuation.
        continuation: String,
        /// The index of the right context.
        gold: usize,
    },
    /// A context with its continuation.
    LanguageModeling {
        /// The context, as it stands in the file.
        context: String,
        /// The continuation.
        continuation: String,
    },
}

/// An example and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// Its line in the file, from 1.
    pub line: usize,
    /// The example.
    pub example: Example,
}

/// Reads a file of examples of one type.
pub(super) fn read_questions(path: &Path, kind: Kind) -> Result<Vec<Question>> {
    let text = read(path)?;
    let mut questions = vec![];
    for (line, text) in (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty()) {
        let fault = |reason: String| TaskError::line(path, line, reason);
        let object: Map<String, Value> = serde_json::from_str(text).map_err(|error| {
            fault(format!("a JSON object is expected: {}", data::text::json_reason(&error)))
        })?;
        questions.push(Question { line, example: example(&object, kind).map_err(fault)? });
    }
    match questions.is_empty() {
        true => Err(TaskError::file(path, "there is no example in this file")),
        false => Ok(questions),
    }
}

fn example(object: &Map<String, Value>, kind: Kind) -> std::result::Result<Example, String> {
    Ok(match kind {
        Kind::MultipleChoice => {
            let choices = texts(object, "choices")?;
            let gold = index(object, "gold", choices.len())?;
            Example::MultipleChoice { query: text(object, "query")?, choices, gold }
        }
        Kind::Schema => {
            let contexts = texts(object, "context_options")?;
            let gold = index(object, "gold", contexts.len())?;
            Example::Schema { contexts, continuation: text(object, "continuation")?, gold }
        }
        Kind::LanguageModeling => Example::LanguageModeling {
            context: text(object, "context")?,
            continuation: text(object, "continuation")?,
        },
    })
}

fn field<'o>(object: &'o Map<String, Value>, name: &str) -> std::result::Result<&'o Value, String> {
    object.get(name).ok_or_else(|| format!("`{name}` is missing"))
}

fn text(object: &Map<String, Value>, name: &str) -> std::result::Result<String, String> {
    let value = field(object, name)?.as_str();
    value.map(str::to_owned).ok_or_else(|| format!("`{name}` must be a text"))
}

fn texts(object: &Map<String, Value>, name: &str) -> std::result::Result<Vec<String>, String> {
    let fault = || format!("`{name}` must be a list of one or more texts");
    let values = field(object, name)?.as_array().filter(|values| !values.is_empty());
    let texts = values.ok_or_else(fault)?.iter().map(|value| value.as_str().map(str::to_owned));
    texts.collect::<Option<_>>().ok_or_else(fault)
}

fn index(
    object: &Map<String, Value>,
    name: &str,
    count: usize,
) -> std::result::Result<usize, String> {
    let index = field(object, name)?.as_u64().filter(|&index| index < count as u64);
    index.map(|index| index as usize).ok_or_else(|| {
        format!("`{name}` must be a whole number from 0 to {}, one for each choice", count - 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn questions(text: &str, kind: Kind) -> std::result::Result<Vec<Question>, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.jsonl");
        std::fs::write(&path, text).unwrap();
        read_questions(&path, kind).map_err(|error| error.to_string())
    }

    #[test]
    fn reads_every_type() {
        let text = "{\"query\": \"q\", \"choices\": [\"a\", \"b\"], \"gold\": 1, \"more\": 0}\n";
        let choice = Example::MultipleChoice {
            query: "q".to_owned(),
            choices: vec!["a".to_owned(), "b".to_owned()],
            gold: 1,
        };
        let found = questions(text, Kind::MultipleChoice).unwrap();
        assert_eq!(found, [Question { line: 1, example: choice }]);
        let marked = format!("\u{feff}{text}");
        assert_eq!(questions(&marked, Kind::MultipleChoice).unwrap(), found);
        let text = "\n{\"context_options\": [\"a\"], \"continuation\": \"c\", \"gold\": 0}";
        let schema = Example::Schema {
            contexts: vec!["a".to_owned()],
            continuation: "c".to_owned(),
            gold: 0,
        };
        assert_eq!(questions(text, Kind::Schema).unwrap(), [Question { line: 2, example: schema }]);
        let text = "{\"context\": \" a\", \"continuation\": \"b\"}";
        let words =
            Example::LanguageModeling { context: " a".to_owned(), continuation: "b".to_owned() };
        let found = questions(text, Kind::LanguageModeling).unwrap();
        assert_eq!(found, [Question { line: 1, example: words }]);
    }

    #[test]
    fn faults_name_line_and_field() {
        let good = r#"{"query": "q", "choices": ["a", "b"], "gold": 1}"#;
        for (from, to, part) in [
            (good, "", "no example in this file"),
            (good, "[1]", "line 1: a JSON object is expected"),
            ("\"q\"", "\"q", "line 1: a JSON object is expected"),
            ("query", "question", "line 1: `query` is missing"),
            ("\"q\"", "3", "line 1: `query` must be a text"),
            ("[\"a\", \"b\"]", "[]", "line 1: `choices` must be a list"),
            ("\"b\"", "2", "line 1: `choices` must be a list"),
            ("1}", "2}", "line 1: `gold` must be a whole number from 0 to 1"),
            ("1}", "-1}", "line 1: `gold` must be a whole number from 0 to 1"),
        ] {
            let error = questions(&good.replace(from, to), Kind::MultipleChoice).unwrap_err();
            assert!(error.contains("x.jsonl") && error.contains(part), "{error}");
        }
        let error = questions(&format!("{good}\n\n{{}}"), Kind::MultipleChoice).unwrap_err();
        assert!(error.contains("line 3: `choices` is missing"), "{error}");
    }
}
