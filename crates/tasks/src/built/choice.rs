//! Facts of small stories as a choice among four.
//!
//! A letter stands before its option, not behind it as in nanochat's questions: two layers can then learn to answer. The
//! first finds options that the story names, and the letter before each; the second goes to one that was found. A
//! letter behind its option is seen too late for that.

use super::stories::{Asked, ask, says};
use super::{Built, Problem, Rule};
use crate::answer::LETTERS;
use crate::random::PythonRandom;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use tokenizer::chat::Part;

pub(super) const TASK: Built = Built {
    name: "stories-choice",
    describe: "the questions of `stories`, with four options: the answer, and what other stories answer",
    rule: Rule::Letter,
    draw,
};

/// Stories that wrong options are taken from.
const OTHERS: usize = 1000;

/// Returns what is answered to a question of this kind.
fn answers(aspect: &str) -> &'static [String] {
    static ANSWERS: OnceLock<BTreeMap<&str, Vec<String>>> = OnceLock::new();
    let all = ANSWERS.get_or_init(|| {
        let mut random = PythonRandom::new(0);
        let mut all: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for _ in 0..OTHERS {
            let Asked { aspect, answer, .. } = ask(&mut random);
            all.entry(aspect).or_default().insert(answer);
        }
        all.into_iter().map(|(aspect, answers)| (aspect, answers.into_iter().collect())).collect()
    });
    all.get(aspect).map_or(&[], Vec::as_slice)
}

fn draw(random: &mut PythonRandom) -> Problem {
    let asked = ask(random);
    let others = answers(asked.aspect);
    let mut options = vec![asked.answer.clone()];
    while options.len() < LETTERS.len() {
        let other = &others[random.below(others.len())];
        if !options.contains(other) && !says(&asked.beginning, other) {
            options.push(other.clone());
        }
    }
    random.shuffle(&mut options);
    let right = options.iter().position(|option| *option == asked.answer).unwrap_or(0);
    let question = format!("{} {}", asked.beginning, asked.question);
    Problem {
        about: asked.beginning,
        question: options
            .iter()
            .zip(LETTERS)
            .fold(question, |text, (option, letter)| format!("{text}\n{letter}. {option}")),
        answer: vec![Part::Text(LETTERS[right].to_owned())],
    }
}
