//! Python's methods of strings, as far as the calculator has them, on ASCII.

/// A string, or what [`Text::method`] makes of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Text {
    Str(String),
    List(Vec<String>),
    Count(usize),
}

use Text::{Count, List, Str};

impl Text {
    /// Returns the result of a method with this argument, or without one; `None` if there is no such
    /// method, or Python refuses the argument.
    pub(super) fn method(&self, name: &str, argument: Option<&str>) -> Option<Text> {
        let text = match self {
            Str(text) => text,
            List(list) => {
                let equal = |wanted: &str| list.iter().filter(|item| *item == wanted).count();
                return (name == "count").then(|| argument.map(|wanted| Count(equal(wanted))))?;
            }
            Count(_) => return None,
        };
        let stripped = |c: char| argument.map_or(c == ' ', |set| set.contains(c));
        Some(match (name, argument) {
            ("count", Some("")) => Count(text.len() + 1),
            ("count", Some(part)) => Count(text.matches(part).count()),
            ("lower", None) => Str(text.to_ascii_lowercase()),
            ("upper", None) => Str(text.to_ascii_uppercase()),
            ("strip", _) => Str(text.trim_matches(stripped).to_owned()),
            ("lstrip", _) => Str(text.trim_start_matches(stripped).to_owned()),
            ("rstrip", _) => Str(text.trim_end_matches(stripped).to_owned()),
            ("split", None) => List(text.split_ascii_whitespace().map(str::to_owned).collect()),
            ("split", Some(between)) if !between.is_empty() => {
                List(text.split(between).map(str::to_owned).collect())
            }
            _ => return None,
        })
    }
}
