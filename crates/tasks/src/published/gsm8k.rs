//! GSM8K: word problems of several steps, with a calculator (Cobbe et al. 2021).

use super::{Judged, Published, Question, Row};
use crate::answer::final_number;
use crate::conversation::Conversation;
use crate::error::Result;
use crate::task::Kind;
use tokenizer::chat::{Message, Part, Role};

pub(super) const TASK: Published = Published {
    name: "gsm8k",
    describe: "word problems of several steps, with the calculator (GSM8K)",
    kind: Kind::Generative,
    baseline: 0.0,
    repository: "openai/gsm8k",
    subset: "main",
    train: Some("train"),
    test: Some("test"),
    columns: &["question", "answer"],
    question,
};

fn question(row: &Row<'_>) -> Result<Question> {
    let content = parts(row.text("answer")?);
    // The number stands in the last part.
    let number = content.last().and_then(|part| final_number(part.text()));
    let asked = Message::new(Role::User, row.text("question")?);
    let messages = vec![asked, Message { role: Role::Assistant, content }];
    Ok(Question { conversation: Conversation { messages }, judged: Judged::Number(number) })
}

/// Cuts `<<12/60=0.2>>` out of an answer, as a call of the calculator and what it gave. Between the marks stands
/// anything but `>`.
pub(super) fn parts(answer: &str) -> Vec<Part> {
    let (mut parts, mut text, mut rest) = (vec![], 0, 0);
    while let Some(open) = answer[rest..].find("<<").map(|at| rest + at) {
        let inner = &answer[open + 2..];
        let length = inner.find('>').unwrap_or(inner.len());
        if length == 0 || !inner[length..].starts_with(">>") {
            rest = open + 1;
            continue;
        }
        parts.push(Part::Text(answer[text..open].to_owned()));
        let (expression, result) =
            inner[..length].rsplit_once('=').unwrap_or((&inner[..length], ""));
        parts.push(Part::Python(expression.to_owned()));
        parts.push(Part::PythonOutput(result.to_owned()));
        (text, rest) = (open + 4 + length, open + 4 + length);
    }
    parts.push(Part::Text(answer[text..].to_owned()));
    parts
}
