//! Test of the commands in the README files.

use crate::Cli;
use clap::Parser;

/// The words of a command line, with quotes as a shell has them and without what follows a `#`.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (vec![], None::<String>, false);
    for c in line.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '#' if !quoted && word.is_none() => break,
            ' ' if !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[test]
fn commands_can_be_typed_and_write_to_places_of_their_own() {
    let mut places = vec![];
    let mut count = 0;
    for text in [include_str!("../../../README.md"), include_str!("../../../docs/on-a-mac.md")] {
        for line in text.lines().filter(|line| line.starts_with("anegpt ")) {
            let words = words(line);
            let parsed = Cli::try_parse_from(&words);
            assert!(parsed.is_ok(), "{line}\n{}", parsed.unwrap_err());
            let out = words.iter().position(|word| word == "--out");
            places.extend(out.map(|at| words[at + 1].clone()));
            count += 1;
        }
    }
    assert!(count > 20, "{count} commands");
    let all = places.len();
    places.sort();
    places.dedup();
    assert_eq!(places.len(), all, "{places:?}");
}
