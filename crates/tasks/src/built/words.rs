//! Made-up words: no vocabulary has them as single tokens, so they are spelled from their parts.

use crate::random::PythonRandom;

const BEGINNINGS: [&str; 20] = [
    "b", "c", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "st", "tr",
    "br", "pl",
];
const VOWELS: [&str; 7] = ["a", "e", "i", "o", "u", "ee", "oo"];
const ENDS: [&str; 8] = ["", "", "", "n", "r", "l", "t", "s"];

/// Draws a word of two or three syllables, with 4 to 15 letters.
pub(super) fn word(random: &mut PythonRandom) -> String {
    let syllables = 2 + random.below(2);
    let mut word = String::new();
    for _ in 0..syllables {
        for sounds in [&BEGINNINGS[..], &VOWELS, &ENDS] {
            word += sounds[random.below(sounds.len())];
        }
    }
    word
}
