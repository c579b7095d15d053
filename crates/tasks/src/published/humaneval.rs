//! HumanEval: functions in Python that must pass tests (Chen et al. 2021).

use super::{Judged, Published, Question, Row};
use crate::conversation::Conversation;
use crate::error::Result;
use crate::task::Kind;

pub(super) const TASK: Published = Published {
    name: "humaneval",
    describe: "functions in Python, run against tests (HumanEval); needs --allow-code-exec",
    kind: Kind::Generative,
    baseline: 0.0,
    repository: "openai/openai_humaneval",
    subset: "openai_humaneval",
    train: None,
    test: Some("test"),
    columns: &["prompt", "canonical_solution", "entry_point", "test"],
    question,
};

/// How an answer is tested.
#[derive(Debug)]
pub(super) struct Check {
    imports: String,
    test: String,
    entry_point: String,
}

fn question(row: &Row<'_>) -> Result<Question> {
    let prompt = row.text("prompt")?;
    let solution = format!("{prompt}\n{}", row.text("canonical_solution")?);
    let check = Check {
        imports: imports(prompt),
        test: row.text("test")?.to_owned(),
        entry_point: row.text("entry_point")?.to_owned(),
    };
    let conversation = Conversation::pair(prompt, &solution);
    Ok(Question { conversation, judged: Judged::Program(check) })
}

impl Check {
    /// Returns the program that exits with status 0 if the answer is right.
    pub(super) fn program(&self, answer: &str) -> String {
        let Check { imports, test, entry_point } = self;
        format!("{imports}\n\n{}\n\n{test}\ncheck({entry_point})", program(answer))
    }
}

/// Returns the lines that import something at the top of a prompt.
pub(super) fn imports(prompt: &str) -> String {
    let lines = prompt.split('\n').map(|line| line.trim_matches(is_space));
    let imports = |line: &&str| line.starts_with("import ") || line.starts_with("from ");
    let top = lines.take_while(|line| imports(line) || line.is_empty() || line.starts_with('#'));
    top.filter(imports).collect::<Vec<_>>().join("\n")
}

/// Returns the program in an answer: what stands in its first block of code, or all of it. In Python:
/// ```` ```(?:python)?\s*\n(.*?)\n``` ````, with `.` for any character.
pub(super) fn program(answer: &str) -> &str {
    const FENCE: &str = "```";
    let mut rest = answer;
    while let Some(at) = rest.find(FENCE) {
        let open = &rest[at + FENCE.len()..];
        let open = open.strip_prefix("python").unwrap_or(open);
        let blank = open.len() - open.trim_start_matches(is_space).len();
        // The last newline of the blanks comes first, as in a search that takes what it can.
        for (newline, _) in open[..blank].rmatch_indices('\n') {
            let inside = &open[newline + 1..];
            if let Some(end) = inside.find("\n```") {
                return inside[..end].trim_matches(is_space);
            }
        }
        rest = &rest[at + 1..];
    }
    answer.trim_matches(is_space)
}

/// True for what Python's `strip` removes.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}
