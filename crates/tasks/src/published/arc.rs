//! ARC: questions of science at school (Clark et al. 2018).

use super::{Judged, Published, Question, Row};
use crate::answer::multiple_choice;
use crate::conversation::Conversation;
use crate::error::Result;
use crate::task::Kind;

pub(super) const EASY: Published = Published {
    name: "arc-easy",
    describe: "science at school, easy (ARC), three to five options",
    kind: Kind::Categorical,
    baseline: 25.0,
    repository: "allenai/ai2_arc",
    subset: "ARC-Easy",
    train: Some("train"),
    test: Some("test"),
    columns: &["question", "choices", "answerKey"],
    question,
};

pub(super) const CHALLENGE: Published = Published {
    name: "arc-challenge",
    describe: "science at school, hard (ARC), three to five options",
    subset: "ARC-Challenge",
    ..EASY
};

fn question(row: &Row<'_>) -> Result<Question> {
    let (letters, texts) = (row.texts("choices.label")?, row.texts("choices.text")?);
    let answer = row.text("answerKey")?;
    if letters.len() != texts.len() {
        return Err(row.fault("`choices` has not as many labels as texts"));
    }
    if !letters.iter().any(|letter| letter == answer) {
        return Err(row.fault(format!("`answerKey` is `{answer}`, which is no label")));
    }
    let options: Vec<(String, String)> = letters.iter().cloned().zip(texts).collect();
    let asked = multiple_choice(row.text("question")?, &options);
    Ok(Question {
        conversation: Conversation::pair(&asked, answer),
        judged: Judged::Letters(letters),
    })
}
