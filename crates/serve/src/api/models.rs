//! `GET /v1/models` and `/props`: what is served.

use super::settings;
use crate::app::{App, json};
use crate::error::Result;
use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Value, json};
use std::sync::Arc;

fn model(app: &App) -> Value {
    json!({
        "id": app.described.name,
        "object": "model",
        "created": app.started,
        "owned_by": "anegpt",
        "max_model_len": app.context,
    })
}

pub(crate) async fn list(State(app): State<Arc<App>>) -> Response {
    json(&json!({ "object": "list", "data": [model(&app)] }))
}

pub(crate) async fn one(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Response> {
    settings::known(&app, &id)?;
    Ok(json(&model(&app)))
}

/// What llama.cpp's server tells of itself, as far as it is here.
pub(crate) async fn props(State(app): State<Arc<App>>) -> Response {
    let name = |token: Option<u32>| {
        let bytes = token.and_then(|token| app.tokenizer.token_bytes(token));
        bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    json(&json!({
        "model_alias": app.described.name,
        "total_slots": app.slots,
        "default_generation_settings": { "n_ctx": app.context },
        "chat_template": app.described.template_source,
        "bos_token": name(app.tokenizer.bos()),
        "eos_token": name(app.tokenizer.eos()),
        "n_vocab": app.vocab_size,
        "build_info": app.fingerprint(),
    }))
}
