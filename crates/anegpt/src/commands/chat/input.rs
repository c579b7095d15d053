//! Where messages come from: an editor of lines in a terminal, or lines of a pipe.

use super::slash;
use crate::term::{self, Role};
use anyhow::{Context, Result};
use console::Term;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Config, Editor, Helper};
use std::io::BufRead;
use std::path::PathBuf;

/// Before a message.
const PROMPT: &str = "> ";
/// Around a text of several lines.
const QUOTES: &str = "\"\"\"";
/// Messages that are remembered from one conversation to the next.
const REMEMBERED: usize = 1000;

/// A source of messages.
pub(super) enum Input {
    Terminal(Box<Editor<Lines, FileHistory>>, Option<PathBuf>),
    Pipe,
}

/// What came.
pub(super) enum Line {
    Message(String),
    /// Ctrl-C.
    Interrupted,
    End,
}

impl Input {
    /// The terminal, if standard input and output are one; else standard input.
    pub(super) fn open() -> Result<Self> {
        let terminal =
            Term::stdout().is_term() && std::io::IsTerminal::is_terminal(&std::io::stdin());
        if !terminal {
            return Ok(Input::Pipe);
        }
        let config = Config::builder().max_history_size(REMEMBERED)?.auto_add_history(false);
        let mut editor = Editor::with_config(config.build()).context("cannot edit lines")?;
        editor.set_helper(Some(Lines));
        let history = history();
        if let Some(path) = &history {
            // The first conversation has none.
            let _ = editor.load_history(path);
        }
        Ok(Input::Terminal(Box::new(editor), history))
    }

    pub(super) fn is_terminal(&self) -> bool {
        matches!(self, Input::Terminal(..))
    }

    /// The next message.
    pub(super) fn next(&mut self) -> Result<Line> {
        match self {
            Input::Terminal(editor, history) => typed(editor, history.as_ref()),
            Input::Pipe => piped(&mut std::io::stdin().lock()),
        }
    }
}

fn typed(editor: &mut Editor<Lines, FileHistory>, history: Option<&PathBuf>) -> Result<Line> {
    let prompt = (PROMPT, term::paint(Role::Label, PROMPT));
    match editor.readline(&prompt) {
        Ok(text) => {
            if editor.add_history_entry(&text).unwrap_or(false) {
                // A conversation goes on without a history.
                let _ = history.map(|path| editor.append_history(path));
            }
            Ok(Line::Message(joined(&text)))
        }
        Err(ReadlineError::Interrupted) => Ok(Line::Interrupted),
        Err(ReadlineError::Eof) => Ok(Line::End),
        Err(error) => Err(error).context("cannot read from the terminal"),
    }
}

/// Reads lines until they are a message.
fn piped(input: &mut impl BufRead) -> Result<Line> {
    let mut text = String::new();
    loop {
        let read = input.read_line(&mut text).context("cannot read messages as UTF-8")?;
        let message = text.strip_suffix('\n').unwrap_or(&text);
        let message = message.strip_suffix('\r').unwrap_or(message);
        match read {
            0 if text.is_empty() => return Ok(Line::End),
            0 => return Ok(Line::Message(joined(message))),
            _ if is_complete(message) => return Ok(Line::Message(joined(message))),
            _ => {}
        }
    }
}

/// True unless the text goes on in another line.
fn is_complete(text: &str) -> bool {
    match text.trim_start().strip_prefix(QUOTES) {
        Some(rest) => rest.trim_end().ends_with(QUOTES),
        None => !text.ends_with('\\'),
    }
}

/// The message that lines are.
fn joined(text: &str) -> String {
    let quoted = text.trim().strip_prefix(QUOTES);
    match quoted {
        Some(rest) => rest.strip_suffix(QUOTES).unwrap_or(rest).trim_matches('\n').to_owned(),
        None => text.replace("\\\r\n", "\n").replace("\\\n", "\n"),
    }
}

/// The file of earlier messages, in a directory that is there.
fn history() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let home = || absolute("HOME");
    let state = match cfg!(target_os = "macos") {
        true => home()?.join("Library").join("Application Support"),
        false => {
            absolute("XDG_STATE_HOME").or_else(|| Some(home()?.join(".local").join("state")))?
        }
    };
    let directory = state.join("anegpt");
    std::fs::create_dir_all(&directory).ok()?;
    Some(directory.join("chat-history"))
}

/// Knows when a message is complete, and the names of commands.
pub(super) struct Lines;

impl Validator for Lines {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(match is_complete(context.input()) {
            true => ValidationResult::Valid(None),
            false => ValidationResult::Incomplete,
        })
    }
}

impl Completer for Lines {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &rustyline::Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let begun = &line[..at];
        let known = slash::names().map(|name| format!("/{name} "));
        Ok((0, known.filter(|name| begun.starts_with('/') && name.starts_with(begun)).collect()))
    }
}

impl Hinter for Lines {
    type Hint = String;
}

impl Highlighter for Lines {}

impl Helper for Lines {}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(mut text: &[u8]) -> Vec<String> {
        let next = || match piped(&mut text).unwrap() {
            Line::Message(text) => Some(text),
            _ => None,
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn lines_of_a_pipe_are_messages() {
        assert_eq!(messages(b"one\r\n\ntwo"), ["one", "", "two"]);
        assert_eq!(messages(b"one\\\nmore\ntwo\\"), ["one\nmore", "two\\"]);
        let quoted = b"\"\"\"a\n\nb\\\n\"\"\"\n\"\"\"c\"\"\"\n\"\"\"d\n";
        assert_eq!(messages(quoted), ["a\n\nb\\", "c", "d"]);
        assert_eq!(messages(b""), [""; 0]);
        let mut broken: &[u8] = b"\xff\n";
        assert!(piped(&mut broken).is_err());
    }
}
