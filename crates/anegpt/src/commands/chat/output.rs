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

    /// Writes a piece of a part of an answer. What a tool was asked and gave is for people alone, below each other
    /// between the lines of the answer.
    pub(super) fn piece(&mut self, part: Part, text: &str) {
        print!("{}", self.shown(part, text));
        // What fails here fails again at the next write, which ends the program.
        let _ = std::io::stdout().flush();
    }

    /// Returns a piece of a part of an answer as it is shown, with what separates it from the part before.
    fn shown(&mut self, part: Part, text: &str) -> String {
        if text.is_empty() || !self.terminal && part != Part::Text {
            return String::new();
        }
        let changes = std::mem::replace(&mut self.part, part) != part;
        let line_break = if changes && !self.at_line_start && self.terminal { "\n" } else { "" };
        self.at_line_start = part == Part::Text && text.ends_with('\n');
        let begin = if changes { label(part) } else { "" };
        match (self.terminal, part) {
            (true, Part::Text) => format!("{line_break}{}", visible(text)),
            (true, _) => {
                let margin = " ".repeat(label(part).len());
                let below = visible(text).replace('\n', &format!("\n{margin}"));
                format!("{line_break}{}", term::paint(Role::Quiet, &format!("{begin}{below}")))
            }
            (false, _) => text.to_owned(),
        }
    }

    /// Ends an answer, and says why if that is not plain.
    pub(super) fn end(&mut self, why: Option<&str>) {
        self.part = Part::Text;
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

/// What stands before a part of an answer, as wide for what a tool was asked as for what it gave.
fn label(part: Part) -> &'static str {
    match part {
        Part::Text => "",
        Part::Call => "call:   ",
        Part::Output => "result: ",
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
    fn people_see_what_a_tool_was_asked_and_gave() {
        let shown = |mut out: Output, parts: &[(Part, &str)]| {
            let text: String = parts.iter().map(|&(part, text)| out.shown(part, text)).collect();
            console::strip_ansi_codes(&text).into_owned()
        };
        let call = [(Part::Call, "12"), (Part::Call, "*7"), (Part::Output, "84")];
        let whole = [&[(Part::Text, "It is ")], &call[..], &[(Part::Text, "."), (Part::Text, "")]];
        let lines = "It is \ncall:   12*7\nresult: 84\n.";
        assert_eq!(shown(Output::terminal(), &whole.concat()), lines);
        assert_eq!(shown(Output::plain(), &whole.concat()), "It is .");
        let twice = [&call[..2], &[(Part::Text, "x\n")], &call].concat();
        let lines = "call:   12*7\nx\ncall:   12*7\nresult: 84";
        assert_eq!(shown(Output::terminal(), &twice), lines);
        let long = [(Part::Call, "a = 1\n"), (Part::Call, "print(a)"), (Part::Output, "1\n2")];
        let lines = "call:   a = 1\n        print(a)\nresult: 1\n        2";
        assert_eq!(shown(Output::terminal(), &long), lines);
    }

    #[test]
    fn what_a_model_writes_moves_no_cursor() {
        assert_eq!(visible("a\x1b[2J\tb\r\n\u{9b}c"), "a�[2J\tb�\n�c");
    }
}
