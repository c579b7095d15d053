//! Log probabilities, in the shape of chats and in that of completions.

use infer::TokenLogprob;
use serde_json::{Map, Value, json};
use tokenizer::Tokenizer;

/// What a token adds to a text. A marker adds nothing.
pub(crate) fn bytes(tokenizer: &Tokenizer, token: u32) -> Vec<u8> {
    tokenizer.decode_bytes(token)
}

/// A token's name where it adds nothing, else its text; bytes that are no text alone are written out if
/// `escape`, else replaced.
fn name(tokenizer: &Tokenizer, token: u32, escape: bool) -> String {
    let mut bytes = bytes(tokenizer, token);
    if bytes.is_empty() {
        bytes = tokenizer.token_bytes(token).unwrap_or_default().to_vec();
    }
    match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if escape => {
            let escaped = error.as_bytes().iter().map(|byte| format!("\\x{byte:02x}"));
            format!("bytes:{}", escaped.collect::<String>())
        }
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    }
}

/// The shape of chats.
pub(crate) fn of_chat(tokenizer: &Tokenizer, tokens: &[TokenLogprob]) -> Value {
    let entry = |token: u32, logprob: f32| {
        json!({
            "token": name(tokenizer, token, false),
            "logprob": finite(logprob),
            "bytes": bytes(tokenizer, token),
        })
    };
    let content = tokens.iter().map(|token| {
        let mut value = entry(token.id, token.logprob);
        value["top_logprobs"] = token.top.iter().map(|&(id, lp)| entry(id, lp)).collect();
        value
    });
    json!({ "content": content.collect::<Vec<_>>(), "refusal": null })
}

/// The shape of completions.
#[derive(Debug, Default)]
pub(crate) struct OfText {
    tokens: Vec<String>,
    token_logprobs: Vec<Value>,
    top_logprobs: Vec<Value>,
    text_offset: Vec<usize>,
}

impl OfText {
    /// Adds a token of which nothing is known, at an offset in characters.
    pub(crate) fn unknown(&mut self, tokenizer: &Tokenizer, token: u32, offset: usize) {
        self.tokens.push(name(tokenizer, token, true));
        self.token_logprobs.push(Value::Null);
        self.top_logprobs.push(Value::Null);
        self.text_offset.push(offset);
    }

    /// Adds a token at an offset in characters.
    pub(crate) fn known(&mut self, tokenizer: &Tokenizer, token: &TokenLogprob, offset: usize) {
        self.tokens.push(name(tokenizer, token.id, true));
        self.token_logprobs.push(finite(token.logprob));
        let mut top = Map::new();
        for &(id, logprob) in &token.top {
            // Of tokens with one name, the first is the most likely.
            top.entry(name(tokenizer, id, true)).or_insert_with(|| finite(logprob));
        }
        self.top_logprobs.push(Value::Object(top));
        self.text_offset.push(offset);
    }

    pub(crate) fn value(self) -> Value {
        json!({
            "tokens": self.tokens,
            "token_logprobs": self.token_logprobs,
            "top_logprobs": self.top_logprobs,
            "text_offset": self.text_offset,
        })
    }
}

/// A log probability as JSON, which has no infinity: OpenAI's stand-in is −9999.
fn finite(logprob: f32) -> Value {
    json!(if logprob.is_finite() { logprob } else { -9999.0 })
}
