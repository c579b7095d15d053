//! Comments of a text, and the line of the canonical text that each of them stays with.
//!
//! A comment that stands behind a statement on its line stays behind it; every other one goes above
//! the line that follows it, or of which it interrupts the text.

use super::Spans;
use super::lexer;
use super::printer;
use crate::diagnostic::Span;
use crate::ir::Program;
use std::collections::{HashMap, HashSet};
use std::fmt;

/// A line of the canonical text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Line {
    Version,
    BuildInfo,
    Open,
    Function(usize),
    /// A statement, by function and by the name of its first result.
    Statement(usize, String),
    Returns(usize),
    Close,
    /// Behind the last line.
    End,
}

/// A line and its comments, slashes included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Commented {
    pub(super) line: Line,
    pub(super) above: Vec<String>,
    pub(super) beside: Option<String>,
}

/// The comments of a text. Programs do not hold them; [`Comments::on`] prints a program with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comments {
    /// Every line in the order of the text, the last one being [`Line::End`].
    lines: Vec<Commented>,
}

impl Comments {
    /// The comments of `text`, from which `program` and `spans` were read
    /// ([`super::parse_with_spans`]).
    pub fn of(text: &str, program: &Program, spans: &Spans) -> Self {
        let (names, places): (Vec<Line>, Vec<Span>) = places(program, spans).into_iter().unzip();
        let plain = |line| Commented { line, above: vec![], beside: None };
        let mut lines: Vec<Commented> = names.into_iter().map(plain).collect();
        for span in lexer::comments(text) {
            let comment = text[span.start..span.end].trim_end().to_owned();
            let next = places.partition_point(|line| line.end <= span.start);
            let inside = places[next].start <= span.start;
            let before = next.checked_sub(1).filter(|&line| {
                let gap = &text[places[line].end..span.start];
                !inside && !gap.contains('\n') && lines[line].beside.is_none()
            });
            match before {
                Some(line) => lines[line].beside = Some(comment),
                None => lines[next].above.push(comment),
            }
        }
        Comments { lines }
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.lines.iter().all(|line| line.above.is_empty() && line.beside.is_none())
    }

    /// Prints `program`, which is the one that was read or one rewritten from it, with the comments:
    /// those of statements that it no longer has go with them, except that what stood above such a
    /// statement moves to the next one that is left. `{:#}` writes long constants, as for a program.
    pub fn on<'p>(&'p self, program: &'p Program) -> impl fmt::Display + 'p {
        let left = lines(program);
        let mut kept = HashMap::new();
        let mut homeless: Vec<String> = vec![];
        for line in &self.lines {
            if line.line == Line::End || left.contains(&line.line) {
                let above = homeless.drain(..).chain(line.above.iter().cloned()).collect();
                kept.insert(&line.line, Commented { above, ..line.clone() });
            } else {
                homeless.extend(line.above.iter().cloned());
            }
        }
        printer::WithComments { program, kept }
    }
}

/// Every line of the canonical text, with its place in the text that was read.
fn places(program: &Program, spans: &Spans) -> Vec<(Line, Span)> {
    let mut places = vec![(Line::Version, spans.version)];
    places.extend(spans.build_info.map(|span| (Line::BuildInfo, span)));
    places.push((Line::Open, spans.open));
    for (i, (function, spans)) in program.functions.iter().zip(&spans.functions).enumerate() {
        places.push((Line::Function(i), spans.head));
        for (op, spans) in function.ops.iter().zip(&spans.ops) {
            let name = &function.value(op.results[0]).name;
            places.push((Line::Statement(i, name.clone()), spans.whole));
        }
        places.push((Line::Returns(i), spans.tail));
    }
    places.push((Line::Close, spans.close));
    places.push((Line::End, Span { start: usize::MAX, end: usize::MAX }));
    places
}

/// Every line of the canonical text of `program`.
fn lines(program: &Program) -> HashSet<Line> {
    let mut lines = HashSet::from([Line::Version, Line::BuildInfo, Line::Open, Line::Close]);
    if program.build_info.is_empty() {
        lines.remove(&Line::BuildInfo);
    }
    for (i, function) in program.functions.iter().enumerate() {
        lines.extend([Line::Function(i), Line::Returns(i)]);
        let first = function.ops.iter().filter_map(|op| op.results.first());
        let values = first.filter_map(|id| function.values.get(id.index()));
        lines.extend(values.map(|value| Line::Statement(i, value.name.clone())));
    }
    lines
}
