//! Counting letters: once by hand, letter by letter, and once by the calculator.

use super::{Built, Problem, Rule, computed, words};
use crate::random::PythonRandom;
use std::fmt::Write;
use tokenizer::chat::Part;

pub(super) const TASK: Built = Built {
    name: "counting",
    describe: "count a letter in a made-up word: `How many o are in 'tiroon'?`, a running count, then \
               `'tiroon'.count('o')` by the calculator, then `#### 2`; one time in ten the letter is any",
    rule: Rule::Number,
    draw,
};

fn draw(random: &mut PythonRandom) -> Problem {
    let word = words::word(random);
    let letters: Vec<char> = word.chars().collect();
    let letter = match random.below(10) {
        0 => char::from(b'a' + random.below(26) as u8),
        _ => letters[random.below(letters.len())],
    };
    let count = letters.iter().filter(|&&other| other == letter).count();
    let mut answer = vec![Part::Text(counted(&letters, letter))];
    answer.extend(computed(format!("'{word}'.count('{letter}')"), count));
    Problem { question: format!("How many {letter} are in '{word}'?"), answer, about: word }
}

/// Returns the letters with the count after each that is counted: `t i r o1 o2 n`.
fn counted(letters: &[char], wanted: char) -> String {
    let (mut text, mut count) = (String::new(), 0);
    for &letter in letters {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push(letter);
        if letter == wanted {
            count += 1;
            let _ = write!(text, "{count}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_stand_behind_the_letters_counted() {
        let letters: Vec<char> = "tiroon".chars().collect();
        assert_eq!(counted(&letters, 'o'), "t i r o1 o2 n");
        assert_eq!(counted(&letters, 'x'), "t i r o o n");
    }
}
