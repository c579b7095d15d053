//! Keeps names of special tokens in messages from becoming special tokens, although a template puts
//! messages and special tokens into one text.
//!
//! A character of each such name is replaced by a stand-in: `<|im_end|>` of a user becomes `·|im_end|>`,
//! where the dot is a character that occurs nowhere else. The rendered text is cut at special tokens first;
//! then stand-ins become what they stand for. Templates may meanwhile trim, split and join messages.

use crate::Tokenizer;
use crate::added::{AddedTokens, Section};
use crate::error::{Error, Result};
use std::collections::BTreeSet;

/// Hides names of special tokens, and shows them again.
#[derive(Debug, Clone)]
pub(super) struct Guard<'m> {
    markers: &'m AddedTokens,
    /// First and last characters of names, with their stand-ins.
    stand_ins: Vec<(char, char)>,
}

impl<'m> Guard<'m> {
    /// A guard whose stand-ins are in none of these texts.
    pub(super) fn new(markers: &'m AddedTokens, texts: &[&str]) -> Result<Self> {
        let used: BTreeSet<char> = names(markers)
            .flat_map(|name| name.chars().next().into_iter().chain(name.chars().next_back()))
            .collect();
        // Noncharacters, which Unicode reserves for such use; then those for private use.
        let free = ('\u{fdd0}'..='\u{fdef}')
            .chain('\u{f0000}'..='\u{ffffd}')
            .filter(|&c| !texts.iter().any(|text| text.contains(c)));
        let stand_ins: Vec<(char, char)> = used.iter().copied().zip(free).collect();
        if stand_ins.len() < used.len() {
            let none = "the messages have too many characters of Unicode's areas for private use";
            return Err(Error::Conversation(none.to_owned()));
        }
        Ok(Guard { markers, stand_ins })
    }

    /// A text in which no name of a special token stands, nor a part of one that the text around it
    /// could complete.
    pub(super) fn hide(&self, text: &str) -> String {
        let hidden: BTreeSet<usize> =
            names(self.markers).flat_map(|name| places(text, name)).collect();
        let hide = |(at, c): (usize, char)| match hidden.contains(&at) {
            true => self.stand_ins.iter().find(|pair| pair.0 == c).map_or(c, |pair| pair.1),
            false => c,
        };
        text.char_indices().map(hide).collect()
    }

    /// The text without stand-ins.
    pub(super) fn show(&self, text: &str) -> String {
        let show = |c| self.stand_ins.iter().find(|pair| pair.1 == c).map_or(c, |pair| pair.0);
        text.chars().map(show).collect()
    }

    /// Appends the tokens of a part of a rendered text, which is its beginning if `at_start`.
    pub(super) fn encode(
        &self,
        rendered: &str,
        at_start: bool,
        tokenizer: &Tokenizer,
        out: &mut Vec<u32>,
    ) -> Result<()> {
        for section in self.markers.sections(rendered, true) {
            match section {
                Section::Token(id) => out.push(id),
                Section::Text(at, text) => {
                    tokenizer.encode_part(&self.show(text), at_start && at == 0, false, out)?;
                }
            }
        }
        Ok(())
    }
}

/// Names of special tokens.
fn names(markers: &AddedTokens) -> impl Iterator<Item = &str> {
    let special = markers.iter().filter(|token| token.special && !token.name.is_empty());
    special.map(|token| token.name.as_str())
}

/// Where a character must be hidden so that the name is not in the text: the first one of each
/// occurrence and of a beginning of the name with which the text ends, the last one of an end of the name
/// with which the text begins.
fn places(text: &str, name: &str) -> Vec<usize> {
    let first = name.chars().next().unwrap_or_default();
    let begins = text.char_indices().filter(|&(at, c)| {
        c == first && (text[at..].starts_with(name) || name.starts_with(&text[at..]))
    });
    let ends = name.char_indices().skip(1).filter(|&(at, _)| text.starts_with(&name[at..]));
    let last = name.char_indices().next_back().map_or(0, |(at, _)| at);
    begins.map(|(at, _)| at).chain(ends.map(|(at, _)| last - at)).collect()
}
