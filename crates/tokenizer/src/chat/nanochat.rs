//! nanochat's conversations: special tokens around messages, which alternate between user and assistant.

use super::message::{Message, Part, Role};
use super::{Rendered, text_of};
use crate::error::{Error, Result};
use crate::{BOS_NAME, Tokenizer};

/// The tokens before and behind a piece.
#[derive(Debug, Clone, Copy)]
struct Pair {
    start: u32,
    end: u32,
}

impl Pair {
    fn find(tokenizer: &Tokenizer, name: &str) -> Option<Pair> {
        let id = |side: &str| tokenizer.special(&format!("<|{name}_{side}|>"));
        Some(Pair { start: id("start")?, end: id("end")? })
    }

    fn around(self, tokens: &[u32]) -> Vec<u32> {
        [&[self.start], tokens, &[self.end]].concat()
    }
}

/// The format's special tokens.
#[derive(Debug, Clone)]
pub(super) struct Nanochat {
    bos: u32,
    user: Pair,
    assistant: Pair,
    /// Calls of the calculator, and what it gave back: not every vocabulary has them.
    python: Option<Pair>,
    output: Option<Pair>,
}

impl Nanochat {
    /// The format, if the vocabulary has its tokens.
    pub(super) fn find(tokenizer: &Tokenizer) -> Option<Nanochat> {
        Some(Nanochat {
            bos: tokenizer.special(BOS_NAME)?,
            user: Pair::find(tokenizer, "user")?,
            assistant: Pair::find(tokenizer, "assistant")?,
            python: Pair::find(tokenizer, "python"),
            output: Pair::find(tokenizer, "output"),
        })
    }

    pub(super) fn render(&self, messages: &[Message], tokenizer: &Tokenizer) -> Result<Rendered> {
        let mut out = Rendered::new();
        out.push(&[self.bos], false);
        for (at, message) in turns(messages)?.iter().enumerate() {
            let expected = if at % 2 == 0 { Role::User } else { Role::Assistant };
            if message.role != expected {
                return Err(Error::Conversation(format!(
                    "message {} is of the {}, where one of the {} must stand: after an optional system \
                     message, user and assistant alternate",
                    at + 1 + usize::from(messages[0].role == Role::System),
                    message.role.name(),
                    expected.name()
                )));
            }
            match expected {
                Role::User => {
                    let text = tokenizer.encode(&message.text())?;
                    out.push(&self.user.around(&text), false);
                }
                _ => self.speak(message, tokenizer, &mut out)?,
            }
        }
        Ok(out)
    }

    /// Renders what the assistant says.
    fn speak(&self, message: &Message, tokenizer: &Tokenizer, out: &mut Rendered) -> Result<()> {
        out.push(&[self.assistant.start], false);
        for part in &message.content {
            let text = tokenizer.encode(part.text())?;
            match part {
                Part::Text(_) => out.push(&text, true),
                Part::Python(_) => out.push(&called(self.python)?.around(&text), true),
                Part::PythonOutput(_) => out.push(&called(self.output)?.around(&text), false),
            }
        }
        out.push(&[self.assistant.end], true);
        Ok(())
    }

    pub(super) fn render_for_completion(
        &self,
        messages: &[Message],
        tokenizer: &Tokenizer,
    ) -> Result<Vec<u32>> {
        let mut tokens = self.render(messages, tokenizer)?.tokens;
        match messages.last().map(|message| message.role) {
            Some(Role::Assistant) => drop(tokens.pop()),
            Some(_) => tokens.push(self.assistant.start),
            None => {
                return Err(Error::Conversation("the conversation has no message".to_owned()));
            }
        }
        Ok(tokens)
    }

    /// Tells calls of the calculator and their results from text.
    pub(super) fn answer(&self, tokens: &[u32], tokenizer: &Tokenizer) -> Message {
        let (mut content, mut rest) = (vec![], tokens);
        let kind =
            |id| [self.python, self.output].iter().flatten().copied().find(|p| p.start == id);
        while let Some(&first) = rest.first() {
            let (pair, inner) = match kind(first) {
                Some(pair) => (Some(pair), &rest[1..]),
                None => (None, rest),
            };
            let ends = |&id: &u32| pair.map_or(kind(id).is_some(), |pair| id == pair.end);
            let length = inner.iter().position(ends).unwrap_or(inner.len());
            let text = text_of(&inner[..length], tokenizer);
            content.push(match pair.map(|pair| pair.start) {
                None => Part::Text(text),
                start if start == self.python.map(|pair| pair.start) => Part::Python(text),
                Some(_) => Part::PythonOutput(text),
            });
            rest = &inner[inner.len().min(length + usize::from(pair.is_some()))..];
        }
        Message { role: Role::Assistant, content }
    }
}

/// The tokens of a tool, which the vocabulary must have.
fn called(pair: Option<Pair>) -> Result<Pair> {
    let missing = "the assistant calls a tool, for which this vocabulary has no tokens";
    pair.ok_or_else(|| Error::Conversation(missing.to_owned()))
}

/// The messages, of which a system message became a part of the first one of the user.
fn turns(messages: &[Message]) -> Result<Vec<Message>> {
    match messages {
        [system, user, rest @ ..] if (system.role, user.role) == (Role::System, Role::User) => {
            let text = format!("{}\n\n{}", system.text(), user.text());
            let first = Message::new(Role::User, text);
            Ok(std::iter::once(first).chain(rest.iter().cloned()).collect())
        }
        [system, ..] if system.role == Role::System => Err(Error::Conversation(
            "a message of the user must follow the system message".to_owned(),
        )),
        _ => Ok(messages.to_vec()),
    }
}
