//! From the caller's text to the words that a model segments: normalisation, then splitting.

use std::borrow::Cow;

use fancy_regex::Regex;
use unicode_normalization::UnicodeNormalization;

use crate::added::AddedTokens;
use crate::error::Result;

/// GPT-2's splitting pattern (Radford et al. 2019): contractions, words, numbers and other runs each
/// with one leading space, then the remaining white space.
pub(crate) const GPT2_PATTERN: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// nanochat's splitting pattern: GPT-4's, with numbers cut into groups of two digits.
pub(crate) const NANOCHAT_PATTERN: &str = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
/// White space, of which a last character that a word follows is left to that word.
const LOOK_AHEAD: &str = r"\s+(?!\S)";
/// The same without looking ahead, so that an automaton can match it: a run of white space, of which
/// [`Pattern::cut`] gives the last character back.
const RUN: &str = r"(?P<run>\s{2,}|\s\z)";
/// Alternatives of widely used patterns (cl100k, nanochat) whose possessive quantifiers change nothing,
/// with what an automaton can match instead. Either all that follows the quantifier may be empty, or it
/// begins with a letter, which the quantified class lacks.
const POSSESSIVE: [(&str, &str); 5] = [
    (r"[^\r\n\p{L}\p{N}]?+\p{L}+", r"[^\r\n\p{L}\p{N}]?\p{L}+"),
    (r"[^\r\n\p{L}\p{N}]?+\p{L}++", r"[^\r\n\p{L}\p{N}]?\p{L}+"),
    (r"\p{N}{1,3}+", r"\p{N}{1,3}"),
    (r" ?[^\s\p{L}\p{N}]++[\r\n]*", r" ?[^\s\p{L}\p{N}]+[\r\n]*"),
    (r" ?[^\s\p{L}\p{N}]++[\r\n]*+", r" ?[^\s\p{L}\p{N}]+[\r\n]*"),
];

/// One change of the text as a whole.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Put a prefix before a text that is not empty.
    Prepend(String),
    /// The same, unless the text starts with it already; `first`: only at the start of the input.
    PrependUnless {
        prefix: char,
        first: bool,
    },
    Replace(String, String),
    ReplacePattern(Box<Regex>, String),
    /// Drop spaces at both ends and shrink runs of them to one. A mark that stands for a space in the
    /// text itself is dropped at the end only, as SentencePiece does.
    CollapseSpaces {
        mark: char,
        /// Left as they are, their spaces too, unless a space is dropped before them.
        kept: AddedTokens,
    },
    Strip {
        left: bool,
        right: bool,
    },
    Lowercase,
    Nfc,
    Nfd,
    Nfkc,
    Nfkd,
}

impl Step {
    fn apply<'t>(&self, text: Cow<'t, str>, at_start: bool) -> Result<Cow<'t, str>> {
        Ok(match self {
            _ if text.is_empty() => text,
            Step::Prepend(prefix) => Cow::Owned(format!("{prefix}{text}")),
            Step::PrependUnless { prefix, first } => {
                if text.starts_with(*prefix) || (*first && !at_start) {
                    text
                } else {
                    Cow::Owned(format!("{prefix}{text}"))
                }
            }
            Step::Replace(from, to) if text.contains(from.as_str()) => {
                Cow::Owned(text.replace(from.as_str(), to))
            }
            Step::Replace(..) => text,
            Step::ReplacePattern(regex, to) => Cow::Owned(replace_all(regex, &text, to)?),
            Step::CollapseSpaces { mark, kept } => {
                let mut text = collapse_spaces(&text, kept);
                text.truncate(text.trim_end_matches([' ', *mark]).len());
                Cow::Owned(text)
            }
            Step::Strip { left, right } => {
                let kept = if *left { text.trim_start() } else { &text };
                let kept = if *right { kept.trim_end() } else { kept };
                Cow::Owned(kept.to_string())
            }
            // Character by character: no final sigma.
            Step::Lowercase => Cow::Owned(text.chars().flat_map(char::to_lowercase).collect()),
            Step::Nfc if unicode_normalization::is_nfc(&text) => text,
            Step::Nfc => Cow::Owned(text.nfc().collect()),
            Step::Nfd => Cow::Owned(text.nfd().collect()),
            Step::Nfkc => Cow::Owned(text.nfkc().collect()),
            Step::Nfkd => Cow::Owned(text.nfkd().collect()),
        })
    }
}

/// Drops the spaces at the start and behind a space.
fn collapse_spaces(text: &str, kept: &AddedTokens) -> String {
    let (mut out, mut at, mut after_space) = (String::with_capacity(text.len()), 0, true);
    while let Some(c) = text[at..].chars().next() {
        let length = kept.token_at(text, at).map_or(c.len_utf8(), |symbol| symbol.pattern.len());
        let unit = &text[at..at + length];
        let unit = if after_space { unit.trim_start_matches(' ') } else { unit };
        if !unit.is_empty() {
            out.push_str(unit);
            after_space = unit.ends_with(' ');
        }
        at += length;
    }
    out
}

/// Every match becomes `to`, literally (a `$` in it has no meaning). As in Hugging Face's library, the
/// search goes on where a match ended, even an empty one, and no empty match follows another match.
fn replace_all(regex: &Regex, text: &str, to: &str) -> Result<String> {
    let (mut out, mut done) = (String::with_capacity(text.len()), 0);
    let (mut search, mut last) = (0, None);
    while search <= text.len() {
        let Some(found) = regex.find_from_pos(text, search)? else { break };
        let (start, end) = (found.start(), found.end());
        if start == end && last == Some(end) {
            search += text[search..].chars().next().map_or(1, char::len_utf8);
            continue;
        }
        out.push_str(&text[done..start]);
        out.push_str(to);
        (done, search, last) = (end, end, Some(end));
    }
    out.push_str(&text[done..]);
    Ok(out)
}

/// One way to cut text into words; no character is lost.
#[derive(Debug, Clone)]
pub(crate) enum Split {
    Pattern(Pattern),
    /// Before every occurrence of the character.
    Before(char),
    /// Numbers apart; every digit on its own if `individual`.
    Digits {
        individual: bool,
    },
}

impl Split {
    fn cut<'t>(&self, text: &'t str, out: &mut Vec<&'t str>) -> Result<()> {
        match self {
            Split::Pattern(pattern) => return pattern.cut(text, out),
            Split::Before(mark) => cut_where(text, out, |_, c| c == *mark),
            Split::Digits { individual } => cut_where(text, out, |before, c| {
                let (was, is) = (before.is_numeric(), c.is_numeric());
                was != is || (is && *individual)
            }),
        }
        Ok(())
    }
}

/// Cuts between two characters where `boundary(before, after)`.
fn cut_where<'t>(
    text: &'t str,
    out: &mut Vec<&'t str>,
    mut boundary: impl FnMut(char, char) -> bool,
) {
    let mut chars = text.char_indices();
    let Some((_, mut before)) = chars.next() else { return };
    let mut start = 0;
    for (i, c) in chars {
        if boundary(before, c) {
            out.push(&text[start..i]);
            start = i;
        }
        before = c;
    }
    out.push(&text[start..]);
}

/// A regular expression whose matches are words, and so is the text between them.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    regex: Regex,
    /// The expression has the group of [`RUN`].
    gives_back: bool,
}

impl Pattern {
    /// Compiles a pattern. Alternatives that need backtracking, whose stack a long run of white space
    /// would exhaust, are replaced by equal ones that do not, where that is known to be possible.
    pub(crate) fn new(source: &str) -> Result<Self, Box<fancy_regex::Error>> {
        let plainer = alternatives(source).into_iter().map(|alternative| {
            if alternative == LOOK_AHEAD {
                return RUN;
            }
            let known = POSSESSIVE.iter().find(|(possessive, _)| *possessive == alternative);
            known.map_or(alternative, |(_, plain)| plain)
        });
        let plainer: Vec<&str> = plainer.collect();
        let gives_back = plainer.iter().filter(|a| **a == RUN).count() == 1;
        match gives_back {
            true => Ok(Pattern { regex: Regex::new(&plainer.join("|"))?, gives_back }),
            false => Ok(Pattern { regex: Regex::new(source)?, gives_back }),
        }
    }

    fn cut<'t>(&self, text: &'t str, out: &mut Vec<&'t str>) -> Result<()> {
        let (mut done, mut search) = (0, 0);
        while search < text.len() {
            let Some(found) = self.regex.find_from_pos(text, search)? else { break };
            let (start, mut end) = (found.start(), found.end());
            if start == end {
                // An empty match cuts nothing; look on behind the next character.
                search = end + text[end..].chars().next().map_or(1, char::len_utf8);
                continue;
            }
            if self.gives_back && end < text.len() {
                end -= self.given_back(text, start, end)?;
            }
            if done < start {
                out.push(&text[done..start]);
            }
            out.push(&text[start..end]);
            (done, search) = (end, end);
        }
        if done < text.len() {
            out.push(&text[done..]);
        }
        Ok(())
    }

    /// Bytes at the end of a match that belong to the next word.
    fn given_back(&self, text: &str, start: usize, end: usize) -> Result<usize> {
        let run = &text[start..end];
        let Some(last) = run.chars().next_back() else { return Ok(0) };
        if run.len() == last.len_utf8() || !run.chars().all(char::is_whitespace) {
            return Ok(0);
        }
        // Another alternative may take white space too.
        let groups = self.regex.captures_from_pos(text, start)?;
        let by_run = groups.is_some_and(|groups| groups.name("run").is_some());
        Ok(if by_run { last.len_utf8() } else { 0 })
    }
}

/// The alternatives of a pattern, outside its groups and classes.
fn alternatives(source: &str) -> Vec<&str> {
    let (mut out, mut start, mut groups, mut class) = (Vec::new(), 0, 0_u32, false);
    let mut chars = source.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '[' => class = true,
            ']' => class = false,
            '(' if !class => groups += 1,
            ')' if !class => groups = groups.saturating_sub(1),
            '|' if !class && groups == 0 => {
                out.push(&source[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    out.push(&source[start..]);
    out
}

/// All that happens to text before a model sees it.
#[derive(Debug, Clone, Default)]
pub(crate) struct TextRules {
    /// The steps of the normaliser, before tokens are looked for in normalised text.
    pub(crate) steps: Vec<Step>,
    /// The changes of the pre-tokenizer to the text between such tokens.
    pub(crate) between: Vec<Step>,
    pub(crate) splits: Vec<Split>,
    /// The model gives the same ids if a word is cut further, before every run of this character.
    pub(crate) cut: Option<char>,
}

impl TextRules {
    pub(crate) fn normalise<'t>(&self, text: &'t str) -> Result<Cow<'t, str>> {
        apply(&self.steps, text, true)
    }

    /// `at_start`: the text stands at the start of the input, not behind an added token.
    pub(crate) fn prepare<'t>(&self, text: &'t str, at_start: bool) -> Result<Cow<'t, str>> {
        apply(&self.between, text, at_start)
    }

    /// The words of prepared text, in order; together they are the text.
    pub(crate) fn words<'t>(&self, text: &'t str) -> Result<Vec<&'t str>> {
        let mut words = if text.is_empty() { vec![] } else { vec![text] };
        for split in &self.splits {
            let mut cut = Vec::with_capacity(words.len());
            for word in words {
                split.cut(word, &mut cut)?;
            }
            words = cut;
        }
        Ok(words)
    }

    /// The parts of a word that can be encoded one by one.
    pub(crate) fn parts<'t>(&self, word: &'t str) -> Vec<&'t str> {
        let mut parts = Vec::new();
        match self.cut {
            Some(mark) => cut_where(word, &mut parts, |before, c| c == mark && before != c),
            None => parts.push(word),
        }
        parts
    }
}

fn apply<'t>(steps: &[Step], text: &'t str, at_start: bool) -> Result<Cow<'t, str>> {
    steps.iter().try_fold(Cow::Borrowed(text), |text, step| step.apply(text, at_start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Llama 3's pattern: numbers in groups of up to three digits, line ends apart.
    const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    /// Qwen 2's pattern: as Llama 3's with single digits.
    const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    const CL100K: &str = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s*[\r\n]|\s+(?!\S)|\s";
    const O200K: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    /// The look-ahead not at the end, and a class with a bar and a bracket in it.
    const OTHER: &str = r"\s+(?!\S)|\s|[|)(]+|(?:a|b)+|\w";

    const PATTERNS: [&str; 7] =
        [GPT2_PATTERN, LLAMA3, QWEN2, NANOCHAT_PATTERN, CL100K, O200K, OTHER];

    fn split_plainly(source: &str, text: &str) -> Vec<String> {
        let pattern = Pattern { regex: Regex::new(source).unwrap(), gives_back: false };
        let mut out = vec![];
        pattern.cut(text, &mut out).unwrap();
        out.into_iter().map(str::to_string).collect()
    }

    fn no_files() -> ProptestConfig {
        ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
    }

    proptest! {
        #![proptest_config(no_files())]

        #[test]
        fn rewritten_patterns_split_as_the_originals(
            text in "([a-zA-Z'’0-9 \\t\\r\\n!?é漢|(\u{a0}\u{85}\u{2003}]|'s|'LL|  | \\n){0,40}"
        ) {
            for source in PATTERNS {
                let pattern = Pattern::new(source).unwrap();
                assert!(pattern.gives_back);
                let mut got = vec![];
                pattern.cut(&text, &mut got).unwrap();
                prop_assert_eq!(got, split_plainly(source, &text), "{}", source);
            }
        }

        #[test]
        fn no_split_loses_text(text in ".{0,40}") {
            for split in [
                Split::Pattern(Pattern::new(r"\d*").unwrap()),
                Split::Before('▁'),
                Split::Digits { individual: true },
                Split::Digits { individual: false },
            ] {
                let rules =
                    TextRules { splits: vec![split], cut: Some(' '), ..TextRules::default() };
                let words = rules.words(&text).unwrap();
                prop_assert_eq!(words.concat(), text.as_str());
                let parts = words.iter().flat_map(|word| rules.parts(word));
                prop_assert_eq!(parts.collect::<String>(), text.as_str());
            }
        }
    }

    /// Backtracking would put every blank on a stack that holds a million.
    #[test]
    fn a_run_of_a_million_blanks_is_one_word() {
        let text = format!("a{}b", " ".repeat(1_000_001));
        for source in PATTERNS {
            let mut words = vec![];
            Pattern::new(source).unwrap().cut(&text, &mut words).unwrap();
            let lengths: Vec<usize> = words.iter().map(|word| word.len()).collect();
            let want: &[usize] =
                if source == OTHER { &[1, 1_000_000, 1, 1] } else { &[1, 1_000_000, 2] };
            assert_eq!(lengths, want, "{source}");
        }
    }

    #[test]
    fn alternatives_are_those_at_the_top() {
        assert_eq!(alternatives(r"a|(b|c)|[|(]|\||d"), ["a", "(b|c)", "[|(]", r"\|", "d"]);
        assert_eq!(alternatives(""), [""]);
    }

    #[test]
    fn gpt2_words() {
        assert_eq!(
            split_plainly(GPT2_PATTERN, "I'm  42 years,\n\nold "),
            ["I", "'m", " ", " 42", " years", ",", "\n", "\n", "old", " "]
        );
    }

    #[test]
    fn steps() {
        let check = |step: Step, text: &str, want: &str| {
            assert_eq!(step.apply(Cow::Borrowed(text), true).unwrap(), want);
        };
        check(Step::Prepend("▁".into()), "a", "▁a");
        check(Step::Prepend("▁".into()), "", "");
        check(Step::PrependUnless { prefix: ' ', first: false }, " a", " a");
        let kept = AddedTokens::default();
        check(Step::CollapseSpaces { mark: '▁', kept }, "  a ▁  b\n ▁ ", "a ▁ b\n");
        check(Step::Lowercase, "ΣΑΣ ΚΟΣΜΟΣ İ", "σασ κοσμοσ i\u{307}");
        check(
            Step::ReplacePattern(Box::new(Regex::new(" {2,}").unwrap()), "$0".into()),
            "a  b",
            "a$0b",
        );
        let digits = Step::ReplacePattern(Box::new(Regex::new("x*").unwrap()), "-".into());
        check(digits, "axxb", "-a-b-");
        // What stands before \K is kept, and the search goes on behind it.
        let kept = Step::ReplacePattern(Box::new(Regex::new(r"ab\K|b").unwrap()), "".into());
        check(kept, "ababb", "abab");
        check(Step::Nfc, "e\u{301}", "é");
        check(Step::Strip { left: true, right: false }, " a ", "a ");
    }
}
