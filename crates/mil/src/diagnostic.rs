//! Faults of a program, for people: what, where, and how to mend it.

use std::fmt;

/// A range of bytes of a program text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

/// A position in a text, with the line it is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Character of the line, from 1.
    pub column: usize,
    /// The line, or the part of it around the fault when it is long.
    pub source: String,
    /// Characters of `source` before the fault.
    pub indent: usize,
    /// Characters at fault, at least 1.
    pub width: usize,
}

/// Characters of a source line that a message shows.
const EXCERPT: usize = 120;

/// Characters of a message; what is cut off was a listing of elements.
const MESSAGE: usize = 600;

impl Place {
    /// The place of `span` in `text`. A span that ends after its line is cut at the line's end.
    pub fn new(text: &str, span: Span) -> Place {
        let start = floor_boundary(text, span.start);
        let begin = text[..start].rfind('\n').map_or(0, |i| i + 1);
        let end = text[start..].find('\n').map_or(text.len(), |i| start + i);
        let stop = floor_boundary(text, span.end).clamp(start, end);
        let before = text[begin..start].chars().count();
        let width = text[start..stop].chars().count();
        let fits = before + width.min(EXCERPT / 2) <= EXCERPT;
        let skip = if fits { 0 } else { before - EXCERPT / 2 };
        let line = text[begin..end].trim_end_matches('\r');
        let mut source: String = line.chars().skip(skip).take(EXCERPT).map(visible).collect();
        let mut indent = before - skip;
        let cut = line.chars().nth(skip + EXCERPT).is_some();
        let width = width.min(EXCERPT.saturating_sub(indent)).max(1);
        if skip > 0 {
            source.insert(0, '…');
            indent += 1;
        }
        if cut {
            source.push('…');
        }
        let line = text[..start].matches('\n').count() + 1;
        Place { line, column: before + 1, source, indent, width }
    }
}

/// Tabs and control characters would move the caret.
fn visible(c: char) -> char {
    if c.is_control() { ' ' } else { c }
}

fn floor_boundary(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0)
}

/// `text` without its end if it is longer than `limit` characters.
pub(crate) fn shorten(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where in the text; `None` for programs that were not read from text.
    pub place: Option<Place>,
    /// Where in the program, such as ``function `main`, operation `y` ``; may be empty.
    pub context: String,
    /// The expectation and the finding.
    pub message: String,
    /// How to mend it; may be empty.
    pub hint: String,
}

impl Diagnostic {
    /// A fault of `text` at `span`.
    pub fn at(text: &str, span: Span, message: &str, hint: &str) -> Self {
        let place = Some(Place::new(text, span));
        Diagnostic { place, ..Self::of(String::new(), message, hint) }
    }

    /// A fault of the part of a program that `context` names.
    pub fn of(context: String, message: &str, hint: &str) -> Self {
        let (message, hint) = (shorten(message, MESSAGE), shorten(hint, MESSAGE));
        Diagnostic { place: None, context: shorten(&context, EXCERPT), message, hint }
    }
}

impl fmt::Display for Diagnostic {
    /// Several lines without a final line feed: position and message, source and caret, hint.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "line {}, column {}: ", place.line, place.column)?,
            None if !self.context.is_empty() => write!(f, "{}: ", self.context)?,
            None => {}
        }
        f.write_str(&self.message)?;
        if let Some(place) = &self.place {
            let number = place.line.to_string();
            let (gutter, indent) = (number.len(), place.indent);
            write!(f, "\n{number} | {}", place.source)?;
            write!(f, "\n{:gutter$} | {:indent$}{}", "", "", "^".repeat(place.width))?;
        }
        if !self.hint.is_empty() {
            write!(f, "\nhint: {}", self.hint)?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}

/// The candidate that is closest to `name` by edit distance, if one is close. Capitals count as
/// small letters, so that a name in other capitals is always close.
pub(crate) fn nearest<'c>(
    name: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    let limit = (name.len() / 3).min(3);
    let name = name.to_ascii_lowercase();
    candidates
        .into_iter()
        .filter(|c| c.len().abs_diff(name.len()) <= limit)
        .map(|c| (distance(&name, &c.to_ascii_lowercase()), c))
        .filter(|(d, _)| *d <= limit)
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

/// Levenshtein distance of two short byte strings; long ones count as far apart.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len().max(b.len()) > 64 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_names() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(nearest("matmull", ["mul", "matmul"]), Some("matmul"));
        assert_eq!(nearest("xyz", ["matmul", "add"]), None);
        assert_eq!(nearest("ReLU", ["relu", "relu6"]), Some("relu"));
        assert_eq!(nearest("LayerNorm", ["layer_norm"]), Some("layer_norm"));
        assert_eq!(nearest("X", ["w", "x"]), Some("x"));
        assert_eq!(nearest("y", ["x"]), None, "one letter is not close to another");
    }

    #[test]
    fn long_lines_are_cut_around_the_fault() {
        let text = format!("a\n{}FAULT{}", "é".repeat(500), "z".repeat(500));
        let start = text.find("FAULT").unwrap();
        let place = Place::new(&text, Span { start, end: start + 5 });
        assert_eq!((place.line, place.column, place.width), (2, 501, 5));
        let marked: String = place.source.chars().skip(place.indent).take(place.width).collect();
        assert_eq!(marked, "FAULT");
        assert!(place.source.chars().count() <= EXCERPT + 2);
    }
}
