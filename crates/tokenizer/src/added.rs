//! Tokens that are looked for in the text before anything else, by the rules of Hugging Face's library.

use std::sync::LazyLock;

use fancy_regex::Regex;
use rustc_hash::FxHashMap;

/// One such token.
#[derive(Debug, Clone, Default)]
pub(crate) struct AddedToken {
    pub(crate) name: String,
    /// The text to match: the name, normalised where the token is matched in normalised text.
    pub(crate) pattern: String,
    pub(crate) id: u32,
    /// A marker: recognised only on request.
    pub(crate) special: bool,
    /// The token swallows the white space on its left, on its right.
    pub(crate) lstrip: bool,
    pub(crate) rstrip: bool,
    /// Not recognised inside a word.
    pub(crate) single_word: bool,
}

/// A stretch of the input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Section<'t> {
    /// Text with its offset.
    Text(usize, &'t str),
    Token(u32),
}

/// The set of added tokens.
#[derive(Debug, Clone, Default)]
pub(crate) struct AddedTokens {
    tokens: Vec<AddedToken>,
    /// First byte -> tokens starting with it, the longest first.
    by_first: FxHashMap<u8, Vec<usize>>,
    has_plain: bool,
}

impl AddedTokens {
    pub(crate) fn new(tokens: Vec<AddedToken>) -> Self {
        let mut by_first: FxHashMap<u8, Vec<usize>> = FxHashMap::default();
        for (i, token) in tokens.iter().enumerate() {
            if let Some(&first) = token.pattern.as_bytes().first() {
                let bucket = by_first.entry(first).or_default();
                let place = bucket
                    .partition_point(|&j: &usize| tokens[j].pattern.len() >= token.pattern.len());
                bucket.insert(place, i);
            }
        }
        let has_plain = tokens.iter().any(|t| !t.special);
        AddedTokens { tokens, by_first, has_plain }
    }

    /// Cuts the text at added tokens, leftmost and longest first. Without `specials`, a marker is
    /// passed over as text, the whole of it, even where another token is a part of its name.
    pub(crate) fn sections<'t>(&self, text: &'t str, specials: bool) -> Vec<Section<'t>> {
        let mut out = Vec::new();
        let (mut done, mut at) = (0, 0);
        if !self.tokens.is_empty() && (specials || self.has_plain) {
            while at < text.len() {
                let Some(token) = self.token_at(text, at) else {
                    at += 1;
                    continue;
                };
                let (start, end) = (at, at + token.pattern.len());
                at = end;
                if (token.special && !specials) || (token.single_word && in_word(text, start, end))
                {
                    continue;
                }
                let before = &text[done..start];
                let before = if token.lstrip { before.trim_end() } else { before };
                if !before.is_empty() {
                    out.push(Section::Text(done, before));
                }
                out.push(Section::Token(token.id));
                if token.rstrip {
                    at = text.len() - text[end..].trim_start().len();
                }
                done = at;
            }
        }
        if done < text.len() {
            out.push(Section::Text(done, &text[done..]));
        }
        out
    }

    /// The longest token that stands at byte `at` of the text.
    pub(crate) fn token_at(&self, text: &str, at: usize) -> Option<&AddedToken> {
        let rest = &text.as_bytes()[at..];
        let bucket = self.by_first.get(rest.first()?)?;
        let mut tokens = bucket.iter().map(|&i| &self.tokens[i]);
        tokens.find(|t| rest.starts_with(t.pattern.as_bytes()))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &AddedToken> {
        self.tokens.iter()
    }
}

/// True if a word character (`\w`) touches `text[start..end]` on either side.
fn in_word(text: &str, start: usize, end: usize) -> bool {
    static WORD: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\w").expect("the pattern is valid"));
    let is_word = |c: Option<char>| {
        c.is_some_and(|c| WORD.is_match(c.encode_utf8(&mut [0; 4])).unwrap_or(false))
    };
    is_word(text[..start].chars().next_back()) || is_word(text[end..].chars().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(name: &str, id: u32) -> AddedToken {
        AddedToken { name: name.into(), pattern: name.into(), id, ..AddedToken::default() }
    }

    #[test]
    fn sections_are_leftmost_longest() {
        let added = AddedTokens::new(vec![
            AddedToken { special: true, ..token("<s>", 1) },
            token("<s><t>", 2),
            AddedToken { lstrip: true, rstrip: true, ..token("é", 3) },
        ]);
        use Section::{Text, Token};
        assert_eq!(added.sections("a<s>b", false), [Text(0, "a<s>b")]);
        assert_eq!(added.sections("a<s>b", true), [Text(0, "a"), Token(1), Text(4, "b")]);
        assert_eq!(added.sections("<s><t><s>", true), [Token(2), Token(1)]);
        assert_eq!(added.sections("x é\n y", true), [Text(0, "x"), Token(3), Text(6, "y")]);
        assert_eq!(added.sections("", true), []);
    }

    /// As tokenizers 0.23.3 does with `encode_special_tokens`.
    #[test]
    fn a_marker_taken_as_text_is_taken_whole() {
        let added = AddedTokens::new(vec![
            AddedToken { special: true, ..token("<s><t>", 1) },
            token("<s>", 2),
        ]);
        use Section::{Text, Token};
        assert_eq!(added.sections("a<s><t>b", false), [Text(0, "a<s><t>b")]);
        assert_eq!(added.sections("<s>b", false), [Token(2), Text(3, "b")]);
    }

    /// As tokenizers 0.23.3: letters, digits, marks and `_` are of a word, punctuation is not.
    #[test]
    fn single_words_stand_alone() {
        let added = AddedTokens::new(vec![AddedToken { single_word: true, ..token("xy", 1) }]);
        for (text, found) in [
            ("xy", true),
            ("a xy b", true),
            ("(xy).", true),
            ("xyz", false),
            ("axy", false),
            ("xy_", false),
            ("1xy", false),
            ("xy\u{301}", false),
            ("xy²", true),
        ] {
            let tokens = added.sections(text, false);
            assert_eq!(tokens.contains(&Section::Token(1)), found, "{text}");
        }
    }
}
