//! Conversations as tokens: as a model was tuned to read them, with a mask of what it learned to say.
//!
//! A model has its own format of conversations. [`ChatTemplate::find`] takes it from what comes with the
//! model: a template in Jinja, as Hugging Face directories and GGUF files have, or the tokens of
//! nanochat's vocabularies:
//!
//! ```text
//! <|bos|><|user_start|>Hello<|user_end|><|assistant_start|>Hi there<|assistant_end|>
//!                                                         └────── mask is 1 ──────┘
//! ```
//!
//! A model that has neither was tuned for no conversations; it can only be continued.
//!
//! Text of a message never becomes a special token: `<|assistant_end|>` typed by a user is spelled out.
//!
//! ```
//! use tokenizer::chat::{ChatTemplate, Message, NANOCHAT_TOKENS, Role};
//! use tokenizer::Tokenizer;
//!
//! let tokenizer = Tokenizer::train_bpe(["Hello, hello"], 270, &mut |_| {})?;
//! let tokenizer = tokenizer.with_special_tokens(&NANOCHAT_TOKENS)?;
//! let template = ChatTemplate::find(&tokenizer, None)?.expect("the tokens are there");
//! let messages = [Message::new(Role::User, "Hello"), Message::new(Role::Assistant, "hello")];
//! let rendered = template.render(&messages, &tokenizer)?.remove(0);
//! let learned = rendered.tokens.iter().zip(&rendered.mask).filter(|(_, mask)| **mask == 1);
//! let learned: Vec<u32> = learned.map(|(token, _)| *token).collect();
//! assert_eq!(template.answer(&learned, &tokenizer), messages[1]);
//!
//! let prompt = template.render_for_completion(&messages[..1], &tokenizer)?;
//! assert!(rendered.tokens.starts_with(&prompt));
//! # Ok::<(), tokenizer::Error>(())
//! ```

mod date;
mod guard;
mod jinja;
mod message;
mod nanochat;
#[cfg(test)]
mod tests;

use crate::{Result, Tokenizer};
use jinja::Jinja;
use nanochat::Nanochat;

pub use message::{Message, Part, Role};

/// Tokens that end a message in known vocabularies.
const ENDS: [&str; 8] = [
    "<|assistant_end|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<end_of_turn>",
    "<|end|>",
    "</s>",
];

/// The special tokens of nanochat's vocabularies, in their order.
pub const NANOCHAT_TOKENS: [&str; 9] = [
    crate::BOS_NAME,
    "<|user_start|>",
    "<|user_end|>",
    "<|assistant_start|>",
    "<|assistant_end|>",
    "<|python_start|>",
    "<|python_end|>",
    "<|output_start|>",
    "<|output_end|>",
];

/// nanochat's format as a template in Jinja, for programs that read no other, and the token that ends an answer in
/// it; `None` if the vocabulary does not have its tokens.
pub fn nanochat_in_jinja(tokenizer: &Tokenizer) -> Option<(&'static str, u32)> {
    let end = tokenizer.special("<|assistant_end|>");
    Nanochat::find(tokenizer).and(end).map(|end| (include_str!("nanochat.jinja"), end))
}

/// The format of a model's conversations.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    kind: Kind,
    ends: Vec<u32>,
}

#[derive(Debug, Clone)]
enum Kind {
    Nanochat(Nanochat),
    Jinja(Box<Jinja>),
}

/// A conversation as tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The tokens.
    pub tokens: Vec<u32>,
    /// For each token: 1 if the assistant is to learn to say it, else 0.
    pub mask: Vec<u8>,
}

impl Rendered {
    fn new() -> Self {
        Rendered { tokens: vec![], mask: vec![] }
    }

    fn push(&mut self, tokens: &[u32], learned: bool) {
        self.tokens.extend_from_slice(tokens);
        self.mask.resize(self.tokens.len(), u8::from(learned));
    }
}

/// A piece of a conversation: what is rendered of it at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The number of messages, from the first.
    messages: u32,
    /// The answers that are learned, by their places among the messages, in order.
    answers: Vec<u32>,
}

impl ChatTemplate {
    /// Finds the format of a model's conversations: `template`, in Jinja, if it came with one, else
    /// nanochat's if the vocabulary has its tokens. `None` if neither: the model can only be continued.
    ///
    /// # Errors
    /// [`Error::Template`](crate::Error::Template) if the template cannot be parsed.
    pub fn find(tokenizer: &Tokenizer, template: Option<&str>) -> Result<Option<Self>> {
        let kind = match template.filter(|text| !text.trim().is_empty()) {
            Some(text) => Some(Kind::Jinja(Box::new(Jinja::new(tokenizer, text)?))),
            None => Nanochat::find(tokenizer).map(Kind::Nanochat),
        };
        Ok(kind.map(|kind| ChatTemplate { kind, ends: ends(tokenizer) }))
    }

    /// Renders a conversation as a model is trained on it: in one piece, or in several, of which each ends with an answer
    /// that the template writes in another way when messages follow it. Every answer is learned once, after what the
    /// model reads when it is asked for it.
    ///
    /// # Errors
    /// [`Error::Conversation`](crate::Error::Conversation) if the format cannot express it,
    /// [`Error::Template`](crate::Error::Template) if the template fails.
    pub fn render(&self, messages: &[Message], tokenizer: &Tokenizer) -> Result<Vec<Rendered>> {
        match &self.kind {
            Kind::Nanochat(nanochat) => Ok(vec![nanochat.render(messages, tokenizer)?]),
            Kind::Jinja(jinja) => jinja.render(messages, tokenizer, &self.ends),
        }
    }

    /// Returns the pieces that [`ChatTemplate::render`] gives, to be rendered one by one; `None` if it is 1 for every
    /// conversation.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`].
    pub fn pieces(&self, messages: &[Message]) -> Result<Option<Vec<Piece>>> {
        match &self.kind {
            Kind::Nanochat(_) => Ok(None),
            Kind::Jinja(jinja) => jinja.cuts(messages).map(Some),
        }
    }

    /// Renders a piece of a conversation as [`ChatTemplate::render`] does, without its other pieces; `None` if it is none of
    /// this conversation.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`].
    pub fn render_piece(
        &self,
        messages: &[Message],
        piece: &Piece,
        tokenizer: &Tokenizer,
    ) -> Result<Option<Rendered>> {
        match &self.kind {
            Kind::Nanochat(_) => Ok(None),
            Kind::Jinja(jinja) => jinja.render_piece(messages, piece, tokenizer, &self.ends),
        }
    }

    /// Renders a conversation up to where the assistant is to speak. A last message of the assistant is
    /// left open, to be continued.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`].
    pub fn render_for_completion(
        &self,
        messages: &[Message],
        tokenizer: &Tokenizer,
    ) -> Result<Vec<u32>> {
        match &self.kind {
            Kind::Nanochat(nanochat) => nanochat.render_for_completion(messages, tokenizer),
            Kind::Jinja(jinja) => jinja.render_for_completion(messages, tokenizer),
        }
    }

    /// The message of the assistant that `tokens` are, without the one that ended it.
    pub fn answer(&self, tokens: &[u32], tokenizer: &Tokenizer) -> Message {
        let tokens = match tokens.split_last() {
            Some((last, rest)) if self.ends.contains(last) => rest,
            _ => tokens,
        };
        match &self.kind {
            Kind::Nanochat(nanochat) => nanochat.answer(tokens, tokenizer),
            Kind::Jinja(_) => Message::new(Role::Assistant, text_of(tokens, tokenizer)),
        }
    }

    /// The tokens that end an answer.
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// A few words for people: where the format came from.
    pub fn describe(&self) -> &'static str {
        match self.kind {
            Kind::Nanochat(_) => "nanochat's chat tokens",
            Kind::Jinja(_) => "the model's chat template",
        }
    }
}

/// The tokens that end a message, and those that begin or end a text.
fn ends(tokenizer: &Tokenizer) -> Vec<u32> {
    let known = ENDS.iter().filter_map(|name| tokenizer.special(name));
    let mut ends = vec![];
    for id in known.chain(tokenizer.eos()).chain(tokenizer.bos()) {
        if !ends.contains(&id) {
            ends.push(id);
        }
    }
    ends
}

/// The text of tokens that follow others.
fn text_of(tokens: &[u32], tokenizer: &Tokenizer) -> String {
    let mut stream = tokenizer.stream_after_text();
    let mut text: String = tokens.iter().map(|&token| stream.push(token)).collect();
    text.push_str(&stream.finish());
    text
}
