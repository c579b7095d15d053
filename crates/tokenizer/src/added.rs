//! Tokens that are looked for in the text before anything else.

use rustc_hash::FxHashMap;

/// One such token.
#[derive(Debug, Clone)]
pub(crate) struct AddedToken {
    pub(crate) content: String,
    pub(crate) id: u32,
    /// A marker: recognised only on request.
    pub(crate) special: bool,
    /// The token swallows the white space on its left, on its right.
    pub(crate) lstrip: bool,
    pub(crate) rstrip: bool,
}

/// A stretch of the input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Section<'t> {
    Text(&'t str),
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
            if let Some(&first) = token.content.as_bytes().first() {
                let bucket = by_first.entry(first).or_default();
                let place = bucket
                    .partition_point(|&j: &usize| tokens[j].content.len() >= token.content.len());
                bucket.insert(place, i);
            }
        }
        let has_plain = tokens.iter().any(|t| !t.special);
        AddedTokens { tokens, by_first, has_plain }
    }

    /// Cuts the text at added tokens, leftmost and longest first; markers count only if `specials`.
    pub(crate) fn sections<'t>(&self, text: &'t str, specials: bool) -> Vec<Section<'t>> {
        let mut out = Vec::new();
        let (mut done, mut at) = (0, 0);
        if !self.tokens.is_empty() && (specials || self.has_plain) {
            while at < text.len() {
                let Some(token) = self.token_at(text, at, specials) else {
                    at += 1;
                    continue;
                };
                let before = &text[done..at];
                let before = if token.lstrip { before.trim_end() } else { before };
                if !before.is_empty() {
                    out.push(Section::Text(before));
                }
                out.push(Section::Token(token.id));
                at += token.content.len();
                if token.rstrip {
                    at = text.len() - text[at..].trim_start().len();
                }
                done = at;
            }
        }
        if done < text.len() {
            out.push(Section::Text(&text[done..]));
        }
        out
    }

    fn token_at(&self, text: &str, at: usize, specials: bool) -> Option<&AddedToken> {
        let rest = &text.as_bytes()[at..];
        let bucket = self.by_first.get(&rest[0])?;
        let tokens = bucket.iter().map(|&i| &self.tokens[i]);
        let mut known = tokens.filter(|t| specials || !t.special);
        known.find(|t| rest.starts_with(t.content.as_bytes()))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &AddedToken> {
        self.tokens.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_leftmost_longest() {
        let token = |content: &str, id, special, strip| AddedToken {
            content: content.into(),
            id,
            special,
            lstrip: strip,
            rstrip: strip,
        };
        let added = AddedTokens::new(vec![
            token("<s>", 1, true, false),
            token("<s><t>", 2, false, false),
            token("é", 3, false, true),
        ]);
        use Section::{Text, Token};
        assert_eq!(added.sections("a<s>b", false), [Text("a<s>b")]);
        assert_eq!(added.sections("a<s>b", true), [Text("a"), Token(1), Text("b")]);
        assert_eq!(added.sections("<s><t><s>", true), [Token(2), Token(1)]);
        assert_eq!(added.sections("x é\n y", true), [Text("x"), Token(3), Text("y")]);
        assert_eq!(added.sections("", true), []);
    }
}
