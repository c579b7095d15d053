//! `POST /tokenize` and `/detokenize`, in the shapes of llama.cpp (`content`) and vLLM (`prompt`,
//! `messages`).

use super::chat;
use super::fields::{Fields, tokens, wrong};
use crate::app::{App, aside, json};
use crate::error::{ApiError, Result};
use crate::template::render;
use axum::extract::{Request, State};
use axum::response::Response;
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub(crate) async fn tokenize(State(app): State<Arc<App>>, request: Request) -> Result<Response> {
    let body = app.read(request).await?;
    aside(move || {
        let tokens = encode(&app, &body)?;
        let count = tokens.len();
        Ok(json(&json!({ "tokens": tokens, "count": count, "max_model_len": app.context })))
    })
    .await
}

fn encode(app: &App, body: &Map<String, Value>) -> Result<Vec<u32>> {
    let fields = Fields(body);
    if fields.get("messages").is_some() {
        let messages = chat::messages(app, fields)?;
        let rendered = render(app.described.template.as_ref(), &app.tokenizer, &messages)?;
        return Ok(rendered.tokens);
    }
    // llama.cpp adds the token that begins a text if asked to, vLLM unless asked not to.
    let (name, text, default) = match (fields.text("content")?, fields.text("prompt")?) {
        (Some(text), _) => ("content", text, false),
        (None, Some(text)) => ("prompt", text, true),
        (None, None) => {
            let message = "`content` (or `prompt`, or `messages`) is required";
            return Err(ApiError::field("content", message));
        }
    };
    let with_markers = match fields.flag("add_special")? {
        Some(flag) => flag,
        None => fields.flag("add_special_tokens")?.unwrap_or(default),
    };
    let encoded = app.tokenizer.encode(text);
    let encoded = encoded.map_err(|error| ApiError::field(name, error.to_string()))?;
    let begin = app.tokenizer.prompt_bos().filter(|_| with_markers);
    Ok(begin.into_iter().chain(encoded).collect())
}

pub(crate) async fn detokenize(State(app): State<Arc<App>>, request: Request) -> Result<Response> {
    let body = app.read(request).await?;
    aside(move || {
        let list = match Fields(&body).get("tokens") {
            Some(Value::Array(list)) => list,
            Some(other) => return Err(wrong("tokens", "a list of tokens", other)),
            None => {
                return Err(ApiError::field("tokens", "`tokens` is required: a list of tokens"));
            }
        };
        let text = app.tokenizer.decode(&tokens("tokens", list, app.vocab_size)?);
        Ok(json(&json!({ "content": text, "prompt": text })))
    })
    .await
}
