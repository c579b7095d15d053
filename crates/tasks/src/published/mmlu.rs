//! MMLU: questions of 57 subjects (Hendrycks et al. 2021).

use super::{Judged, Published, Question, Row};
use crate::answer::{LETTERS, multiple_choice};
use crate::conversation::Conversation;
use crate::error::Result;
use crate::task::Kind;

pub(super) const TASK: Published = Published {
    name: "mmlu",
    describe: "57 subjects from school to profession (MMLU), four options",
    kind: Kind::Categorical,
    baseline: 25.0,
    repository: "cais/mmlu",
    subset: "all",
    train: Some("auxiliary_train"),
    test: Some("test"),
    columns: &["question", "choices", "answer"],
    question,
};

fn question(row: &Row<'_>) -> Result<Question> {
    let choices = row.texts("choices")?;
    if choices.len() != LETTERS.len() {
        return Err(row.fault(format!("`choices` are {}, not four", choices.len())));
    }
    let answer = row.number("answer")?;
    let answer = LETTERS.get(answer).ok_or_else(|| row.fault("`answer` is not 0 to 3"))?;
    let letters = LETTERS.map(str::to_owned).to_vec();
    let options: Vec<(String, String)> = letters.iter().cloned().zip(choices).collect();
    let asked = multiple_choice(row.text("question")?, &options);
    Ok(Question {
        conversation: Conversation::pair(&asked, answer),
        judged: Judged::Letters(letters),
    })
}
