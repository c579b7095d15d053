//! Spelling: the letters of a word.

use super::{Built, Problem, Rule, words};
use crate::random::PythonRandom;
use tokenizer::chat::Part;

pub(super) const TASK: Built = Built {
    name: "spelling",
    describe: "spell a made-up word of 4 to 15 letters: `Spell tiroon.`, `t i r o o n`",
    rule: Rule::Text,
    draw,
};

fn draw(random: &mut PythonRandom) -> Problem {
    let word = words::word(random);
    let question = format!("Spell {word}.");
    Problem { question, answer: vec![Part::Text(spelled(&word))], about: word }
}

/// Returns the letters of a word with spaces between them.
fn spelled(word: &str) -> String {
    word.chars().map(String::from).collect::<Vec<_>>().join(" ")
}
