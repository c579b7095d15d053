//! Templates in Jinja, as Hugging Face's library renders them.
//!
//! The template is not trusted: what it may compute and write is bounded.

use super::guard::Guard;
use super::message::{Message, Role};
use super::{Piece, Rendered, date};
use crate::Tokenizer;
use crate::added::{AddedToken, AddedTokens};
use crate::error::{Error, Result};
use fancy_regex::Regex;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Environment, ErrorKind, Output, State, context, escape_formatter};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::LazyLock;
use std::time::SystemTime;

/// Instructions that a rendering may take.
const FUEL: u64 = 5_000_000;
/// Bytes that it may write, beside those of the messages.
const LONGEST: usize = 1 << 20;
/// The template's name in its environment.
const NAME: &str = "chat template";

/// A template, and what it needs of its tokenizer.
#[derive(Debug, Clone)]
pub(super) struct Jinja {
    environment: Environment<'static>,
    markers: AddedTokens,
    bos: Option<String>,
    eos: Option<String>,
}

impl Jinja {
    pub(super) fn new(tokenizer: &Tokenizer, template: &str) -> Result<Jinja> {
        let name = |id: Option<u32>| {
            let bytes = tokenizer.token_bytes(id?)?;
            Some(String::from_utf8_lossy(bytes).into_owned())
        };
        Ok(Jinja {
            environment: environment(template).map_err(fault)?,
            markers: markers(tokenizer),
            bos: name(tokenizer.bos()),
            eos: name(tokenizer.eos()),
        })
    }

    /// The conversation in as many pieces as it takes (see [`Written`]).
    pub(super) fn render(
        &self,
        messages: &[Message],
        tokenizer: &Tokenizer,
        ends: &[u32],
    ) -> Result<Vec<Rendered>> {
        let (texts, guard) = self.hidden(messages)?;
        let pieces = self.pieces(messages, &texts)?;
        pieces.iter().map(|piece| piece.encode(&guard, tokenizer, ends)).collect()
    }

    /// The pieces that [`Jinja::render`] gives.
    pub(super) fn cuts(&self, messages: &[Message]) -> Result<Vec<Piece>> {
        let (texts, _) = self.hidden(messages)?;
        Ok(self.pieces(messages, &texts)?.into_iter().map(|written| written.piece).collect())
    }

    /// One of the pieces of [`Jinja::render`]; `None` if it is none of this conversation.
    pub(super) fn render_piece(
        &self,
        messages: &[Message],
        piece: &Piece,
        tokenizer: &Tokenizer,
        ends: &[u32],
    ) -> Result<Option<Rendered>> {
        let Some(messages) = messages.get(..piece.messages as usize) else { return Ok(None) };
        let (texts, guard) = self.hidden(messages)?;
        let text = self.text(messages, &texts, false)?;
        let mut spoken = vec![];
        for &at in &piece.answers {
            let at = at as usize;
            if messages.get(at).is_none_or(|message| message.role != Role::Assistant) {
                return Ok(None);
            }
            let (place, through) = self.spoken(messages, &texts, at)?;
            if !text.starts_with(&through) {
                return Ok(None);
            }
            spoken.push(place);
        }
        let written = Written { text, spoken, piece: piece.clone() };
        written.encode(&guard, tokenizer, ends).map(Some)
    }

    pub(super) fn render_for_completion(
        &self,
        messages: &[Message],
        tokenizer: &Tokenizer,
    ) -> Result<Vec<u32>> {
        let (texts, guard) = self.hidden(messages)?;
        let open = messages.last().is_some_and(|message| message.role == Role::Assistant);
        let mut text = self.text(messages, &texts, !open)?;
        if open {
            let begun = texts.last().map_or("", |text| text.trim());
            let at = text.rfind(begun).ok_or_else(|| {
                let lost =
                    "the chat template leaves out the assistant's message that is to be continued";
                Error::Conversation(lost.to_owned())
            })?;
            text.truncate(at + begun.len());
        }
        let mut tokens = vec![];
        guard.encode(&text, true, tokenizer, &mut tokens)?;
        Ok(tokens)
    }

    /// The texts of messages without names of special tokens, and what brings these back.
    fn hidden(&self, messages: &[Message]) -> Result<(Vec<String>, Guard<'_>)> {
        let texts: Vec<String> = messages.iter().map(Message::text).collect();
        let all: Vec<&str> = texts.iter().map(String::as_str).collect();
        let guard = Guard::new(&self.markers, &all)?;
        Ok((texts.iter().map(|text| guard.hide(text)).collect(), guard))
    }

    /// Renders messages with these texts; `open`: up to where the assistant is to speak.
    fn text(&self, messages: &[Message], texts: &[String], open: bool) -> Result<String> {
        let turns = messages.iter().zip(texts);
        let turns: Vec<Value> = turns
            .map(|(message, text)| context! { role => message.role.name(), content => text })
            .collect();
        let mut context = BTreeMap::from([
            ("messages", Value::from(turns)),
            ("add_generation_prompt", open.into()),
            ("tools", ().into()),
            ("documents", ().into()),
        ]);
        let markers = [("bos_token", &self.bos), ("eos_token", &self.eos)];
        context.extend(markers.into_iter().filter_map(|(n, v)| Some((n, v.as_deref()?.into()))));
        let room = LONGEST + 2 * texts.iter().map(String::len).sum::<usize>();
        let mut bounded = Bounded { bytes: vec![], room };
        let template = self.environment.get_template(NAME).map_err(fault)?;
        template.render_captured_to(Value::from(context), &mut bounded).map_err(fault)?;
        Ok(String::from_utf8_lossy(&bounded.bytes).into_owned())
    }

    /// The rendered text, special tokens by name.
    #[cfg(test)]
    pub(super) fn whole_text(&self, messages: &[Message], open: bool) -> Result<String> {
        let (texts, guard) = self.hidden(messages)?;
        Ok(guard.show(&self.text(messages, &texts, open)?))
    }

    /// The place of the answer that is message `at`, and the text up to its end.
    fn spoken(
        &self,
        messages: &[Message],
        texts: &[String],
        at: usize,
    ) -> Result<(Range<usize>, String)> {
        let before = self.text(&messages[..at], &texts[..at], true)?;
        let through = self.text(&messages[..=at], &texts[..=at], false)?;
        if !through.starts_with(&before) {
            return Err(Error::Conversation(format!(
                "the chat template's prompt for message {} is not how it begins that message, so it is not \
                 known which tokens are to be learned",
                at + 1
            )));
        }
        Ok((before.len()..through.len(), through))
    }

    /// Every answer of the assistant once, in the order of the conversation.
    fn pieces(&self, messages: &[Message], texts: &[String]) -> Result<Vec<Written>> {
        let piece = |messages: usize, answers| Piece { messages: messages as u32, answers };
        let whole = self.text(messages, texts, false)?;
        let mut pieces =
            vec![Written { text: whole, spoken: vec![], piece: piece(messages.len(), vec![]) }];
        for at in (0..messages.len()).rev().filter(|&at| messages[at].role == Role::Assistant) {
            let (spoken, through) = self.spoken(messages, texts, at)?;
            // A template that leaves out earlier turns may give two answers the same place.
            let fits = |piece: &&mut Written| {
                let next = piece.spoken.first();
                piece.text.starts_with(&through) && next.is_none_or(|next| spoken.end <= next.start)
            };
            match pieces.iter_mut().find(fits) {
                Some(written) => {
                    written.spoken.insert(0, spoken);
                    written.piece.answers.insert(0, at as u32);
                }
                None => pieces.push(Written {
                    text: through,
                    spoken: vec![spoken],
                    piece: piece(at + 1, vec![at as u32]),
                }),
            }
        }
        // What follows the last answer teaches nothing.
        if pieces.len() > 1 && pieces[0].spoken.is_empty() {
            pieces.remove(0);
        }
        pieces.reverse();
        Ok(pieces)
    }
}

/// A text to learn from. One is enough where the template writes an answer in the same way whatever follows it. Where it
/// does not (Qwen 3 leaves thoughts out of earlier answers), the conversation up to that answer is a piece of its
/// own: the history as the model reads it when it is asked, then the answer as it is to say it.
struct Written {
    text: String,
    /// What the assistant is to learn of it, in order.
    spoken: Vec<Range<usize>>,
    piece: Piece,
}

impl Written {
    fn encode(&self, guard: &Guard<'_>, tokenizer: &Tokenizer, ends: &[u32]) -> Result<Rendered> {
        let (text, mut out, mut at) = (&self.text, Rendered::new(), 0);
        for spoken in &self.spoken {
            let mut tokens = vec![];
            guard.encode(&text[at..spoken.start], at == 0, tokenizer, &mut tokens)?;
            out.push(&tokens, false);
            tokens.clear();
            guard.encode(&text[spoken.clone()], spoken.start == 0, tokenizer, &mut tokens)?;
            // A line break behind the token that ends the answer is the template's.
            let last = tokens.iter().rposition(|token| ends.contains(token));
            let (learned, rest) = tokens.split_at(last.map_or(tokens.len(), |last| last + 1));
            out.push(learned, true);
            out.push(rest, false);
            at = spoken.end;
        }
        let mut tokens = vec![];
        guard.encode(&text[at..], at == 0, tokenizer, &mut tokens)?;
        out.push(&tokens, false);
        Ok(out)
    }
}

/// All tokens that are looked for in a rendered text, by their names.
fn markers(tokenizer: &Tokenizer) -> AddedTokens {
    let frozen = tokenizer.frozen.iter().filter(|token| token.special);
    let frozen = frozen.map(|token| AddedToken { pattern: token.name.clone(), ..token.clone() });
    AddedTokens::new(tokenizer.added.iter().cloned().chain(frozen).collect())
}

/// The settings and functions that templates of Hugging Face's library rely on.
fn environment(template: &str) -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_fuel(Some(FUEL));
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_formatter(write_value);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_filter("tojson", to_json);
    environment
        .add_function("raise_exception", |message: String| Err::<Value, _>(refusal(&message)));
    environment.add_function("strftime_now", |pattern: String| {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let seconds = since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0));
        let unknown = |directive| invalid(format!("strftime_now does not know {directive}"));
        date::format(&pattern, seconds).map_err(unknown)
    });
    environment.add_template_owned(NAME, without_generation(template))?;
    Ok(environment)
}

/// The template without the tags that mark what the assistant says, which are an extension of Hugging
/// Face's; their trimming of white space stays.
fn without_generation(template: &str) -> String {
    static TAG: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}").expect("the pattern is valid")
    });
    let replace = |found: &fancy_regex::Captures<'_>| match found.get(2) {
        Some(_) => format!("{{%{} endif {}%}}", &found[1], &found[3]),
        None => format!("{{%{} if true {}%}}", &found[1], &found[3]),
    };
    TAG.replace_all(template, replace).into_owned()
}

/// Prints a value as Python does.
fn write_value(
    out: &mut Output<'_>,
    state: &mut State<'_, '_>,
    value: &Value,
) -> Result<(), minijinja::Error> {
    let text = match value.kind() {
        ValueKind::None => "None",
        ValueKind::Bool if value.is_true() => "True",
        ValueKind::Bool => "False",
        _ => return escape_formatter(out, state, value),
    };
    Ok(out.write_str(text)?)
}

/// Writes JSON as Python's `json.dumps` does, with characters beyond ASCII as they are.
fn to_json(value: &Value, options: Kwargs) -> Result<Value, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    let _: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let mut bytes = vec![];
    let written = match indent {
        Some(indent) => {
            let indent = " ".repeat(indent.min(16));
            let formatter = PrettyFormatter::with_indent(indent.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut bytes, formatter))
        }
        None => value.serialize(&mut Serializer::with_formatter(&mut bytes, Spaced)),
    };
    written.map_err(|error| invalid(format!("tojson: {error}")))?;
    Ok(Value::from(String::from_utf8_lossy(&bytes).into_owned()))
}

/// JSON on one line, with a space after each comma and colon.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }
}

/// Takes a limited number of bytes.
struct Bounded {
    bytes: Vec<u8>,
    room: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.room {
            return Err(io::Error::other("the text is longer than a conversation can be"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a template says of a conversation that it does not take.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

fn refusal(message: &str) -> minijinja::Error {
    invalid(message.to_owned()).with_source(Refusal(message.to_owned()))
}

fn invalid(what: String) -> minijinja::Error {
    minijinja::Error::new(ErrorKind::InvalidOperation, what)
}

fn fault(error: minijinja::Error) -> Error {
    let source = std::error::Error::source(&error);
    if let Some(Refusal(message)) = source.and_then(|source| source.downcast_ref()) {
        return Error::Conversation(format!("the chat template refuses it: {message}"));
    }
    let line = error.line();
    let what = match (error.kind(), source) {
        (ErrorKind::OutOfFuel, _) => "it takes too long".to_owned(),
        (ErrorKind::WriteFailure, Some(source)) => source.to_string(),
        (kind, _) => match error.detail() {
            Some(detail) => format!("{kind}: {detail}"),
            None => kind.to_string(),
        },
    };
    Error::Template { line, what }
}
