//! From tokens back to text, one at a time.

use crate::Tokenizer;
use crate::vocab::Kind;
use std::ops::Deref;

/// Turns tokens into text as they come. Text is given out as soon as it is valid UTF-8: a character
/// whose bytes are spread over several tokens appears with the last of them.
///
/// The concatenation of everything given out equals [`Tokenizer::decode`] of all the tokens.
#[derive(Debug, Clone)]
pub struct Stream<T> {
    tokenizer: T,
    pending: Vec<u8>,
    at_start: bool,
}

impl<T: Deref<Target = Tokenizer>> Stream<T> {
    /// A decoder that has a tokenizer, or shares it, `at_start` of a text or behind some text (see
    /// [`Tokenizer::stream`]).
    pub fn new(tokenizer: T, at_start: bool) -> Self {
        Stream { tokenizer, pending: Vec::new(), at_start }
    }

    /// Takes the next token; returns the text that it completes, often the empty string.
    pub fn push(&mut self, id: u32) -> String {
        self.append(id);
        let mut text = String::new();
        let mut rest = self.pending.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (valid, bad) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    rest = bad;
                    // No length: the bytes may become a character yet.
                    let Some(n) = error.error_len() else { break };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &rest[n..];
                }
            }
        }
        self.pending = rest.to_vec();
        text
    }

    /// Ends the text: bytes that never became a character turn into U+FFFD.
    pub fn finish(mut self) -> String {
        self.cut()
    }

    /// Ends a part of the text, as [`Stream::finish`] ends all of it, and goes on behind it.
    pub fn cut(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned()
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.pending
    }

    /// Adds the token's bytes without the space that encoding put before the text.
    pub(crate) fn append(&mut self, id: u32) {
        let tokenizer = &*self.tokenizer;
        let bytes = tokenizer.text_of(id);
        let kind = tokenizer.token_kind(id);
        if kind == Kind::Control {
            self.at_start |= Some(id) == tokenizer.bos();
            return;
        }
        let drop = self.at_start && tokenizer.strip_leading_space && kind == Kind::Text;
        let bytes = bytes.strip_prefix(b" ").filter(|_| drop).unwrap_or(bytes);
        self.pending.extend_from_slice(bytes);
        self.at_start = false;
    }
}
