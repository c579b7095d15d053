//! What the conversation writes: answers to standard output, everything else beside them.

use crate::term::{self, Role};
use infer::Part;
use std::io::Write;

/// Where a conversation is shown.
#[derive(Debug)]
pub(super) struct Output {
    terminal: bool,
    /// The answer ended a line.
    at_line_start: bool,
    /// The part of the answer that was written last.
    part: Part,
}

impl Output {
    /// A person's terminal.
    pub(super) fn terminal() -> Self {
        Output { terminal: true, at_line_start: true, part: Part::Text }
    }

    /// Another program, which gets answers and nothing else.
    pub(super) fn plain() -> Self {
        Output { terminal: false, at_line_start: true, part: Part::Text }
    }

    pub(super) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Writes a piece of a part of an answer. What a tool was asked and gave is for people alone, as
    /// `[12*7 = 84]`.
    pub(super) fn piece(&mut self, part: Part, text: &str) {
        if text.is_empty() || !self.terminal && part != Part::Text {
            return;
        }
        let sign = between(std::mem::replace(&mut self.part, part), part);
        self.at_line_start = part == Part::Text && text.ends_with('\n');
        match (self.terminal, part) {
            (true, Part::Text) => print!("{}{}", quiet(sign), visible(text)),
            (true, _) => print!("{}", quiet(&format!("{sign}{}", visible(text)))),
            (false, _) => print!("{text}"),
        }
        // What fails here fails again at the next write, which ends the program.
        let _ = std::io::stdout().flush();
    }

    /// Ends an answer, and says why if that is not plain.
    pub(super) fn end(&mut self, why: Option<&str>) {
        let sign = between(std::mem::take(&mut self.part), Part::Text);
        print!("{}", quiet(sign));
        if !self.at_line_start || !self.terminal {
            println!();
        }
        self.at_line_start = true;
        if let Some(why) = why {
            self.note(why);
        }
    }

    /// Says something that is not of the conversation.
    pub(super) fn say(&self, text: &str) {
        for line in text.lines() {
            match self.terminal {
                true => println!("{}", term::paint(Role::Quiet, line)),
                false => eprintln!("{line}"),
            }
        }
    }

    /// Says something in passing.
    pub(super) fn note(&self, text: &str) {
        match self.terminal {
            true => self.say(&term::wrap(&format!("[{text}]"), term::text_width(), "", " ")),
            false => eprintln!("note: {text}"),
        }
    }

    pub(super) fn error(&self, message: &str) {
        eprintln!("{} {message}", term::paint_error(Role::Error, "error:"));
    }
}

fn quiet(text: &str) -> String {
    if text.is_empty() { String::new() } else { term::paint(Role::Quiet, text) }
}

/// What stands between parts of an answer.
fn between(before: Part, after: Part) -> &'static str {
    match (before, after) {
        (Part::Call | Part::Output, Part::Text) => "]",
        (Part::Call, Part::Output) => " = ",
        (Part::Text, Part::Call) => "[",
        (Part::Text, Part::Output) => "[= ",
        (Part::Output, Part::Call) => "] [",
        _ => "",
    }
}

/// Text that moves no cursor: what a model writes may be anything.
fn visible(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' | '\t' => c,
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_model_writes_moves_no_cursor() {
        assert_eq!(visible("a\x1b[2J\tb\r\n\u{9b}c"), "a�[2J\tb�\n�c");
    }
}
