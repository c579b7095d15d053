//! Tasks that need no files: questions drawn from a seed.
//!
//! A question belongs to a part by a hash of what it is about (its word, its numbers, its story), so no
//! seed, count or phrasing brings anything of one part into the other.

mod arithmetic;
mod choice;
mod counting;
mod spelling;
mod stories;
mod word_problems;
mod words;

use crate::answer::{LETTERS, final_number};
use crate::conversation::{Conversation, Conversations};
use crate::error::Result;
use crate::hash::Hash;
use crate::random::PythonRandom;
use crate::task::{Kind, Split, Task};
use std::collections::HashSet;
use std::fmt;
use tokenizer::chat::{Message, Part, Role};

/// One in this many questions is for asking.
const HELD_OUT: u64 = 8;
/// Draws without a new question after which a list ends.
const PATIENCE: usize = 10_000;
/// Questions to learn from.
const TRAIN: usize = 20_000;
/// Questions to be asked.
const TEST: usize = 256;

/// How answers are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// The whole text, without blanks around it.
    Text,
    /// The number behind `####`.
    Number,
    /// A letter, one of four.
    Letter,
}

/// A question with its answer.
struct Problem {
    /// What the question is about: decides its part.
    about: String,
    question: String,
    answer: Vec<Part>,
}

/// A task: what draws its questions, and how they are judged.
pub(crate) struct Built {
    pub(crate) name: &'static str,
    /// What is asked and how hard it is, for people.
    pub(crate) describe: &'static str,
    rule: Rule,
    draw: fn(&mut PythonRandom) -> Problem,
}

/// All of them.
pub(crate) const ALL: [Built; 6] = [
    spelling::TASK,
    counting::TASK,
    arithmetic::TASK,
    word_problems::TASK,
    stories::TASK,
    choice::TASK,
];

impl Built {
    /// Returns how a model is asked.
    pub(crate) fn kind(&self) -> Kind {
        match self.rule {
            Rule::Letter => Kind::Categorical,
            Rule::Text | Rule::Number => Kind::Generative,
        }
    }

    /// Draws the questions of one part.
    pub(crate) fn open(&'static self, split: Split, seed: u64) -> Generated {
        let (mut random, mut seen, mut tired) = (PythonRandom::new(seed), HashSet::new(), 0);
        let most = if split == Split::Train { TRAIN } else { TEST };
        let mut conversations = vec![];
        while conversations.len() < most && tired < PATIENCE {
            tired += 1;
            let Problem { about, question, answer } = (self.draw)(&mut random);
            if split_of(&about) == split && seen.insert(question.clone()) {
                let answer = Message { role: Role::Assistant, content: answer };
                let messages = vec![Message::new(Role::User, question), answer];
                conversations.push(Conversation { messages });
                tired = 0;
            }
        }
        Generated { task: self, split, conversations }
    }
}

/// Returns the part that a question about this belongs to, by the upper bits of a hash.
fn split_of(about: &str) -> Split {
    let mut hash = Hash::new();
    hash.add(about.as_bytes());
    if (hash.value() >> 32).is_multiple_of(HELD_OUT) { Split::Test } else { Split::Train }
}

/// A part of a task, drawn.
pub(crate) struct Generated {
    task: &'static Built,
    split: Split,
    conversations: Vec<Conversation>,
}

impl fmt::Debug for Generated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.task.name, self.split.name())
    }
}

impl Conversations for Generated {
    fn len(&self) -> usize {
        self.conversations.len()
    }

    fn get(&self, index: usize) -> Result<Conversation> {
        Ok(self.conversations[index].clone())
    }
}

impl Task for Generated {
    fn name(&self) -> &str {
        self.task.name
    }

    fn kind(&self) -> Kind {
        self.task.kind()
    }

    fn baseline(&self) -> f64 {
        if self.task.rule == Rule::Letter { 25.0 } else { 0.0 }
    }

    fn letters(&self, _index: usize) -> Vec<String> {
        match self.task.rule {
            Rule::Letter => LETTERS.map(str::to_owned).to_vec(),
            Rule::Text | Rule::Number => vec![],
        }
    }

    fn identity(&self) -> String {
        let mut hash = Hash::new();
        for conversation in &self.conversations {
            hash.add(&serde_json::to_vec(conversation).expect("plain data"));
        }
        let (name, part, count) = (self.task.name, self.split.name(), self.len());
        format!("{name} {part}, {count} questions, checksum {:016x}", hash.value())
    }

    fn reward(&self, index: usize, answer: &str) -> Result<f32> {
        let right = self.conversations[index].answer();
        let correct = match self.task.rule {
            Rule::Text | Rule::Letter => answer.trim() == right,
            Rule::Number => final_number(&right).is_some_and(|n| final_number(answer) == Some(n)),
        };
        Ok(f32::from(u8::from(correct)))
    }
}

/// Returns an answer that computes `expression`, whose value is `value`, and gives it.
fn computed(expression: String, value: impl fmt::Display) -> Vec<Part> {
    vec![
        Part::Python(expression),
        Part::PythonOutput(value.to_string()),
        Part::Text(format!("#### {value}")),
    ]
}

#[cfg(test)]
mod tests;
