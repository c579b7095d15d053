//! What the conversation writes: answers to standard output, everything else beside them.

use crate::term::{self, Role};
use std::io::Write;

/// Where a conversation is shown.
#[derive(Debug)]
pub(super) struct Output {
    terminal: bool,
    /// The answer ended a line.
    at_line_start: bool,
}

impl Output {
    /// A person's terminal.
    pub(super) fn terminal() -> Self {
        Output { terminal: true, at_line_start: true }
    }

    /// Another program, which gets answers and nothing else.
    pub(super) fn plain() -> Self {
        Output { terminal: false, at_line_start: true }
    }

    pub(super) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Writes a piece of an answer.
    pub(super) fn piece(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        self.at_line_start = text.ends_with('\n');
        match self.terminal {
            true => print!("{}", visible(text)),
            false => print!("{text}"),
        }
        // What fails here fails again at the next write, which ends the program.
        let _ = std::io::stdout().flush();
    }

    /// Ends an answer, and says why if that is not plain.
    pub(super) fn end(&mut self, why: Option<&str>) {
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
