//! Tools that a model calls in the middle of its answer.
//!
//! nanochat's vocabularies have tokens around a call and around what it gives:
//!
//! ```text
//! 12 a day makes <|python_start|>12*7<|python_end|><|output_start|>84<|output_end|> a week
//!                └──────── drawn ───────────────┘ └──────── forced ────────────┘
//! ```
//!
//! When the end of a call is drawn, the [`Tool`] answers, and its answer is put into the text: the model reads it
//! without having drawn it. A call that is empty or has no result is left as it stands. Only tokens that
//! were drawn make a call: a prompt that ends inside one does not.

mod calculator;

pub use calculator::Calculator;

use std::fmt::Debug;
use std::sync::Arc;
use tokenizer::Tokenizer;

/// Answers calls. The same call always has the same answer.
pub trait Tool: Debug + Send + Sync {
    /// Returns what a call gives; `None` if it gives nothing.
    fn call(&self, input: &str) -> Option<String>;
}

/// The part of an answer that a text belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// What is said.
    #[default]
    Text,
    /// The call of a tool.
    Call,
    /// What a tool gave.
    Output,
}

/// A tool, and the tokens by which a model calls it.
#[derive(Clone, Debug)]
pub struct Tools {
    tool: Arc<dyn Tool>,
    call: (u32, u32),
    output: (u32, u32),
}

impl Tools {
    /// Returns a tool for models with this vocabulary; `None` if it has no tokens for calls.
    pub fn find(tokenizer: &Tokenizer, tool: impl Tool + 'static) -> Option<Tools> {
        let pair = |name: &str| {
            let id = |side: &str| tokenizer.special(&format!("<|{name}_{side}|>"));
            Some((id("start")?, id("end")?))
        };
        Some(Tools { tool: Arc::new(tool), call: pair("python")?, output: pair("output")? })
    }
}

/// A token of a text, and what follows from it.
#[derive(Debug, PartialEq)]
pub(crate) struct Taken {
    /// The part that the text up to this token belongs to: a marker is of the part that it ends.
    pub(crate) part: Part,
    /// True if the token is a marker, which ends the part.
    pub(crate) ends: bool,
    /// Tokens that come next.
    pub(crate) forced: Vec<u32>,
}

/// Follows the tokens of a text, and makes the calls in it.
#[derive(Debug)]
pub(crate) struct Calls {
    tools: Option<Tools>,
    part: Part,
    /// Tokens of the call so far.
    call: Vec<u32>,
}

impl Calls {
    /// Follows a text from where it begins to be drawn.
    pub(crate) fn new(tools: Option<Tools>) -> Self {
        Calls { tools, part: Part::Text, call: vec![] }
    }

    /// Returns the part that the next token goes on with.
    pub(crate) fn part(&self) -> Part {
        self.part
    }

    /// Takes the next token.
    pub(crate) fn take(&mut self, id: u32, tokenizer: &Tokenizer) -> Taken {
        let part = self.part;
        let mut forced = vec![];
        let Some(tools) = &self.tools else { return Taken { part, ends: false, forced } };
        let next = match part {
            _ if id == tools.call.0 => {
                self.call.clear();
                Part::Call
            }
            Part::Call if id == tools.call.1 => {
                forced = tools.answer(&self.call, tokenizer).unwrap_or_default();
                Part::Text
            }
            Part::Call => {
                self.call.push(id);
                return Taken { part, ends: false, forced };
            }
            _ if id == tools.output.0 => Part::Output,
            Part::Output if id == tools.output.1 => Part::Text,
            _ => return Taken { part, ends: false, forced },
        };
        self.part = next;
        Taken { part, ends: true, forced }
    }
}

impl Tools {
    /// Returns the tokens of what a call gives, markers included.
    fn answer(&self, call: &[u32], tokenizer: &Tokenizer) -> Option<Vec<u32>> {
        if call.is_empty() {
            return None;
        }
        let mut stream = tokenizer.stream_after_text();
        let mut input: String = call.iter().map(|&id| stream.push(id)).collect();
        input += &stream.finish();
        let output = tokenizer.encode(&self.tool.call(&input)?).ok()?;
        Some([&[self.output.0], &output[..], &[self.output.1]].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizer::chat::NANOCHAT_TOKENS;

    fn tokenizer() -> Tokenizer {
        let tokenizer = Tokenizer::train_bpe(["1 2 3"], 260, &mut |_| {}).unwrap();
        tokenizer.with_special_tokens(&NANOCHAT_TOKENS).unwrap()
    }

    /// The parts of a text, each with its tokens, forced ones included.
    fn parts(text: &str) -> Vec<(Part, String)> {
        let tokenizer = tokenizer();
        let tools = Tools::find(&tokenizer, Calculator::default());
        assert!(tools.is_some());
        let mut calls = Calls::new(tools);
        let mut parts: Vec<(Part, String)> = vec![];
        let mut rest = text;
        let mut ahead: std::collections::VecDeque<u32> = [].into();
        loop {
            if ahead.is_empty() {
                if rest.is_empty() {
                    return parts;
                }
                let marker = NANOCHAT_TOKENS.iter().find(|name| rest.starts_with(**name));
                let length = marker.map_or(1, |name| name.len());
                match marker {
                    Some(name) => ahead.push_back(tokenizer.special(name).unwrap()),
                    None => ahead.extend(tokenizer.encode(&rest[..1]).unwrap()),
                }
                rest = &rest[length..];
            }
            let id = ahead.pop_front().unwrap();
            let taken = calls.take(id, &tokenizer);
            ahead.extend(taken.forced);
            let text = if taken.ends { "|".to_owned() } else { tokenizer.decode(&[id]) };
            match parts.last_mut().filter(|(part, _)| *part == taken.part) {
                Some((_, whole)) => *whole += &text,
                None => parts.push((taken.part, text)),
            }
        }
    }

    #[test]
    fn calls_are_answered() {
        use Part::{Call, Output, Text};
        let check = |text: &str, expected: &[(Part, &str)]| {
            let expected = expected.iter().map(|&(part, text)| (part, text.to_owned()));
            assert_eq!(parts(text), expected.collect::<Vec<_>>(), "{text}");
        };
        check(
            "a<|python_start|>2*3<|python_end|>b",
            &[(Text, "a|"), (Call, "2*3|"), (Text, "|"), (Output, "6|"), (Text, "b")],
        );
        // Nothing is called, or nothing comes of it.
        check("<|python_start|><|python_end|>b", &[(Text, "|"), (Call, "|"), (Text, "b")]);
        check("<|python_start|>1/0<|python_end|>b", &[(Text, "|"), (Call, "1/0|"), (Text, "b")]);
        check("2*3<|python_end|>b", &[(Text, "2*3b")]);
        // A second beginning forgets the first.
        check(
            "<|python_start|>9<|python_start|>1+1<|python_end|>",
            &[(Text, "|"), (Call, "9|1+1|"), (Text, "|"), (Output, "2|")],
        );
        // A model may write an output by itself.
        check("<|output_start|>7<|output_end|>b", &[(Text, "|"), (Output, "7|"), (Text, "b")]);
    }

    #[test]
    fn a_vocabulary_without_the_tokens_has_no_tools() {
        let tokenizer = Tokenizer::train_char(["abc"]).unwrap();
        assert!(Tools::find(&tokenizer, Calculator::default()).is_none());
        let mut calls = Calls::new(None);
        assert_eq!(
            calls.take(1, &tokenizer),
            Taken { part: Part::Text, ends: false, forced: vec![] }
        );
    }
}
