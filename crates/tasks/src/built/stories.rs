//! Facts of small stories: what their first sentences say of who is in them.

use super::{Built, Problem, Rule};
use crate::random::PythonRandom;
use data::synth::Stories;
use tokenizer::chat::Part;

pub(super) const TASK: Built = Built {
    name: "stories",
    describe: "read the first sentences of a synthetic story (`anegpt data synth`) and name who it is about, \
               what that is, how it is or where it lives: one word or phrase of the text",
    rule: Rule::Text,
    draw,
};

/// Words of a beginning, at least; whole sentences are read.
const WORDS: usize = 16;

/// A question about the beginning of a story.
pub(super) struct Asked {
    pub(super) beginning: String,
    pub(super) question: String,
    /// What is asked for, whoever the story is about.
    pub(super) aspect: &'static str,
    pub(super) answer: String,
}

fn draw(random: &mut PythonRandom) -> Problem {
    let Asked { beginning, question, answer, .. } = ask(random);
    let text = format!("{beginning} {question}");
    Problem { about: beginning, question: text, answer: vec![Part::Text(answer)] }
}

/// Draws a story and asks for a fact that it says.
pub(super) fn ask(random: &mut PythonRandom) -> Asked {
    loop {
        let index = random.bits(40);
        let told = Stories::new(0).told(index);
        let beginning = beginning(&told.text);
        let hero = &told.facts.hero;
        let facts = [
            ("hero", "Who is this about?".to_owned(), hero),
            ("kind", format!("What is {hero}?"), &told.facts.kind),
            ("quality", format!("What is {hero} like?"), &told.facts.quality),
            ("home", format!("Where does {hero} live?"), &told.facts.home),
        ];
        let said = |(_, _, answer): &(&str, String, &String)| says(&beginning, answer);
        let mut said: Vec<_> = facts.into_iter().filter(said).collect();
        if !said.is_empty() {
            let (aspect, question, answer) = said.swap_remove(random.below(said.len()));
            let answer = answer.clone();
            return Asked { beginning, question, aspect, answer };
        }
    }
}

/// Returns the first sentences.
fn beginning(story: &str) -> String {
    let (mut end, mut words) = (0, 0);
    for sentence in story.split_inclusive(". ") {
        if words >= WORDS {
            break;
        }
        end += sentence.len();
        words += sentence.split_whitespace().count();
    }
    story[..end].trim_end().to_owned()
}

/// True if a text has these words, as whole words.
pub(super) fn says(text: &str, words: &str) -> bool {
    let inside = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    text.match_indices(words).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + words.len()..]);
        !inside(before.chars().next_back()) && !inside(after.chars().next())
    })
}
