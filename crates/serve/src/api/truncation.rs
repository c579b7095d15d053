//! Conversations that do not fit: `"truncation": "auto"` forgets the oldest turns, as `anegpt chat` does.

use super::fields::{Fields, wrong};
use crate::app::App;
use crate::error::Result;
use crate::template::{Rendered, render};
use axum::http::HeaderValue;
use axum::response::Response;
use serde_json::json;
use tokenizer::chat::{Message, Role};

/// The header of an answer that tells how many messages, system messages not counted, were not read.
const FORGOTTEN: &str = "anegpt-forgotten-messages";

/// True if the oldest turns may be left out.
pub(super) fn is_asked(fields: Fields<'_>) -> Result<bool> {
    match fields.text("truncation")? {
        None | Some("disabled") => Ok(false),
        Some("auto") => Ok(true),
        Some(other) => Err(wrong("truncation", "`auto` or `disabled`", &json!(other))),
    }
}

/// The prompt of the newest turns that leave room for an answer of `most` tokens, at most a quarter of the
/// context, and how many messages are left out. If any are, half of the context becomes free, so that this
/// happens rarely. The last turn stays in any case, and so does the system message.
pub(super) fn fit(
    app: &App,
    messages: &[Message],
    most: Option<usize>,
) -> Result<(Rendered, usize)> {
    let render =
        |messages: &[Message]| render(app.described.template.as_ref(), &app.tokenizer, messages);
    let all = render(messages)?;
    let room = most.unwrap_or(usize::MAX).min(app.context / 4).max(1);
    if all.tokens.len() <= app.context.saturating_sub(room) {
        return Ok((all, 0));
    }
    let system = messages.iter().take_while(|message| message.role == Role::System).count();
    let (system, said) = messages.split_at(system);
    // Where turns begin, but for the first one.
    let is_user = |at: &usize| said[*at].role == Role::User;
    let starts: Vec<usize> = (1..said.len()).filter(is_user).collect();
    let from = |start: usize| render(&[system, &said[start..]].concat());
    // Each turn that is left out makes the prompt shorter: a few prompts tell how many are too many.
    let (mut low, mut high) = (0, starts.len().saturating_sub(1));
    while low < high {
        let middle = (low + high) / 2;
        match from(starts[middle])?.tokens.len() <= app.context / 2 {
            true => high = middle,
            false => low = middle + 1,
        }
    }
    match starts.get(low) {
        Some(&start) => Ok((from(start)?, start)),
        None => Ok((all, 0)),
    }
}

/// The answer, with a header that tells how many messages were left out, if any were.
pub(super) fn told(mut response: Response, forgotten: usize) -> Response {
    if forgotten > 0 {
        response.headers_mut().insert(FORGOTTEN, HeaderValue::from(forgotten));
    }
    response
}
