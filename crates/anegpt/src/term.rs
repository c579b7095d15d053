//! The terminal: its width, its colours, and text that fits.

use clap::ValueEnum;
use console::{Style, Term};
use std::ffi::OsString;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Columns where the width is unknown, as in a pipe.
pub(crate) const UNKNOWN: usize = 80;
/// Fewest columns that text is wrapped to; a narrower terminal wraps by itself.
const LEAST: usize = 40;
/// Most columns that text is wrapped to: longer lines are hard to read.
const MOST: usize = 100;
/// Columns of the labels in front of a block of text.
const LABEL: usize = 11;

/// When to use colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// In pipes and files too.
    Always,
    /// Never.
    Never,
}

/// The role of a piece of text, which decides its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Label,
    Loss,
    Validation,
    Quiet,
    Warning,
    Error,
}

impl Role {
    fn style(self) -> Style {
        match self {
            Role::Label => Style::new().bold(),
            Role::Loss => Style::new().cyan(),
            Role::Validation => Style::new().green().bold(),
            Role::Quiet => Style::new().dim(),
            Role::Warning => Style::new().yellow().bold(),
            Role::Error => Style::new().red().bold(),
        }
    }
}

/// Switches colour on or off for the rest of the process.
pub(crate) fn configure(color: Color) {
    let on = |term: &Term| match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => {
            wants_colour(term.is_term() && !console::is_dumb(), |name| std::env::var_os(name))
        }
    };
    console::set_colors_enabled(on(&Term::stdout()));
    console::set_colors_enabled_stderr(on(&Term::stderr()));
}

/// Applies NO_COLOR, CLICOLOR_FORCE and CLICOLOR, in this order (no-color.org, bixense.com/clicolors).
fn wants_colour(terminal: bool, variable: impl Fn(&str) -> Option<OsString>) -> bool {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    if set("NO_COLOR").is_some() {
        return false;
    }
    if set("CLICOLOR_FORCE").is_some_and(|value| value != "0") {
        return true;
    }
    terminal && set("CLICOLOR").is_none_or(|value| value != "0")
}

/// Text for standard output, coloured where that is on.
pub(crate) fn paint(role: Role, text: &str) -> String {
    role.style().apply_to(text).to_string()
}

/// Text for standard error, coloured where that is on.
pub(crate) fn paint_error(role: Role, text: &str) -> String {
    role.style().for_stderr().apply_to(text).to_string()
}

/// Writes a warning to standard error.
pub(crate) fn warn(message: &str) {
    eprintln!("{} {message}", paint_error(Role::Warning, "warning:"));
}

/// True if the locale can show more than ASCII.
pub(crate) fn unicode() -> bool {
    cfg!(windows) || is_utf8(|name| std::env::var_os(name))
}

/// The first of the three variables that is set decides, as POSIX has it.
fn is_utf8(variable: impl Fn(&str) -> Option<OsString>) -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .find_map(|name| variable(name).filter(|value| !value.is_empty()));
    locale.is_some_and(|locale| {
        let locale = locale.to_string_lossy().to_ascii_lowercase();
        locale.ends_with("utf-8") || locale.ends_with("utf8") || locale.contains("utf-8@")
    })
}

/// Columns of the terminal on standard output, or of `term`, for a progress bar.
pub(crate) fn columns(term: &Term) -> usize {
    let said = || std::env::var("COLUMNS").ok()?.parse().ok();
    let known = term.size_checked().map(|(_, columns)| usize::from(columns)).or_else(said);
    known.filter(|&columns| columns > 0).unwrap_or(UNKNOWN)
}

/// Columns that text on standard output is wrapped to.
pub(crate) fn text_width() -> usize {
    columns(&Term::stdout()).clamp(LEAST, MOST)
}

/// A label and a text behind it, whose further lines begin below its first.
pub(crate) fn labelled(label: &str, text: &str) -> String {
    let block = hanging(label, text, LABEL, text_width());
    format!("{}{}", paint(Role::Label, &block[..label.len()]), &block[label.len()..])
}

/// As [`labelled`], plain, with the text at a column.
pub(crate) fn hanging(label: &str, text: &str, column: usize, width: usize) -> String {
    wrap(text, width, &format!("{label:<column$}"), &" ".repeat(column))
}

/// Fields with two spaces between them: the first, and as many of the others as fit.
pub(crate) fn fit(fields: &[String], width: usize) -> String {
    let mut line = String::new();
    for field in fields {
        if line.is_empty() {
            line.clone_from(field);
        } else if line.width() + 2 + field.width() <= width {
            line.push_str("  ");
            line.push_str(field);
        } else {
            break;
        }
    }
    line
}

/// Text as lines of at most `width` columns, broken between words; a word that is longer than a line
/// is broken where the line ends. Lines begin with `rest`, the first one with `first`. Control
/// characters do not reach the terminal.
pub(crate) fn wrap(text: &str, width: usize, first: &str, rest: &str) -> String {
    let mut lines: Vec<String> = vec![];
    for paragraph in text.split('\n') {
        let begin = if lines.is_empty() { first } else { rest };
        lines.extend(wrapped(&printable(paragraph), width, begin, rest));
    }
    lines.join("\n")
}

/// One paragraph as lines.
fn wrapped(text: &str, width: usize, first: &str, rest: &str) -> Vec<String> {
    let (mut lines, mut line) = (vec![], first.to_owned());
    // True before the first word of a line, spaces in front of a paragraph being words.
    let mut fresh = true;
    for word in text.split(' ') {
        if !fresh && line.width() + 1 + word.width() > width {
            lines.push(std::mem::replace(&mut line, rest.to_owned()));
            fresh = true;
        }
        if fresh && word.is_empty() && !lines.is_empty() {
            continue;
        }
        if !fresh {
            line.push(' ');
        }
        let mut alone = fresh;
        for c in word.chars() {
            if !alone && line.width() + c.width().unwrap_or(0) > width {
                lines.push(std::mem::replace(&mut line, rest.to_owned()));
            }
            line.push(c);
            alone = false;
        }
        fresh = false;
    }
    lines.push(line);
    lines.iter_mut().for_each(|line| line.truncate(line.trim_end().len()));
    lines
}

/// A line without control characters: a tab is four spaces, what else would move the cursor is �.
fn printable(line: &str) -> String {
    let line = line.strip_suffix('\r').unwrap_or(line).replace('\t', "    ");
    line.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup<'a>(pairs: &'a [(&str, &str)]) -> impl Fn(&str) -> Option<OsString> + 'a {
        |name| pairs.iter().find(|pair| pair.0 == name).map(|pair| pair.1.into())
    }

    #[test]
    fn text_is_broken_between_words() {
        let text = "device emulated Neural Engine";
        assert_eq!(wrap(text, 15, "", ""), "device emulated\nNeural Engine");
        assert_eq!(wrap(text, 16, "> ", "  "), "> device\n  emulated\n  Neural Engine");
        assert_eq!(hanging("ab", "one two three", 4, 11), "ab  one two\n    three");
        assert_eq!(wrap("", 10, "x ", "  "), "x");
    }

    #[test]
    fn long_words_are_broken_where_the_line_ends() {
        assert_eq!(wrap("aa bbbbbbb c", 4, "", ""), "aa\nbbbb\nbbb\nc");
        assert_eq!(wrap("abcdefgh", 5, "- ", "  "), "- abc\n  def\n  gh");
        // Narrower than the indent: a character a line, and an end.
        assert_eq!(wrap("abc", 1, "    ", "    "), "    a\n    b\n    c");
    }

    #[test]
    fn width_is_counted_in_columns() {
        // Wide characters take two columns, combining ones none.
        assert_eq!(wrap("日本語日本語", 7, "", ""), "日本語\n日本語");
        assert_eq!(wrap("日本 日本", 9, "", ""), "日本 日本");
        assert_eq!(wrap("e\u{301}e\u{301}e\u{301}", 2, "", ""), "e\u{301}e\u{301}\ne\u{301}");
    }

    #[test]
    fn paragraphs_and_leading_spaces_stay() {
        assert_eq!(wrap("a\n\n  b c\r\nd", 20, "│ ", "│ "), "│ a\n│\n│   b c\n│ d");
        assert_eq!(wrap("one  two", 4, "", ""), "one\ntwo");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(wrap("\x1b[31mred\x07\tx\u{9b}", 40, "", ""), "�[31mred�    x�");
    }

    #[test]
    fn fields_that_do_not_fit_are_left_out() {
        let fields = ["loss 1.0", "val 2.0", "9 tok/s"].map(str::to_owned);
        assert_eq!(fit(&fields, 26), "loss 1.0  val 2.0  9 tok/s");
        assert_eq!(fit(&fields, 25), "loss 1.0  val 2.0");
        assert_eq!(fit(&fields, 3), "loss 1.0");
    }

    #[test]
    fn variables_and_the_terminal_decide_on_colour() {
        for (terminal, pairs, expected) in [
            (true, &[][..], true),
            (false, &[], false),
            (true, &[("NO_COLOR", "1")], false),
            (true, &[("NO_COLOR", "")], true),
            (false, &[("CLICOLOR_FORCE", "1")], true),
            (false, &[("CLICOLOR_FORCE", "0")], false),
            (true, &[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")], false),
            (true, &[("CLICOLOR", "0")], false),
        ] {
            assert_eq!(wants_colour(terminal, lookup(pairs)), expected, "{terminal} {pairs:?}");
        }
    }

    #[test]
    fn the_first_variable_that_is_set_tells_the_locale() {
        for (pairs, expected) in [
            (&[("LANG", "de_DE.UTF-8")][..], true),
            (&[("LANG", "C.utf8")], true),
            (&[("LANG", "ca_ES.UTF-8@valencia")], true),
            (&[("LC_ALL", "C"), ("LANG", "en_US.UTF-8")], false),
            (&[("LC_ALL", ""), ("LC_CTYPE", "UTF-8")], true),
            (&[("LANG", "ja_JP.eucJP")], false),
            (&[], false),
        ] {
            assert_eq!(is_utf8(lookup(pairs)), expected, "{pairs:?}");
        }
    }
}
