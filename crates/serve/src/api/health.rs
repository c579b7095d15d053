//! `GET /health`: can a token be generated, now; and `GET /metrics`.

use crate::app::{App, json};
use crate::error::{ApiError, Result};
use crate::worker::Answer;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::future::{Either, select};
use infer::{Event, Job, Sampling};
use serde_json::json;
use std::pin::pin;
use std::sync::Arc;
use tokio::time::timeout;

/// Healthy is who draws a token: for this request, or for any other while this one waits.
pub(crate) async fn health(State(app): State<Arc<App>>) -> Result<Response> {
    if let Some(reason) = app.progress.ended() {
        return Err(ApiError::unavailable(reason));
    }
    let limit = app.limits().health_time;
    let mut tokens = app.progress.tokens();
    let work = {
        let others = pin!(tokens.changed());
        let own = pin!(generate(&app));
        timeout(limit, async {
            match select(own, others).await {
                Either::Left((Ok(()), _)) | Either::Right((Ok(()), _)) => Ok(()),
                // With a full queue, the others' tokens are the proof.
                Either::Left((Err(error), others)) if error.retry_after.is_some() => {
                    match others.await {
                        Ok(()) => Ok(()),
                        Err(_) => Err(app.broken().await),
                    }
                }
                Either::Left((Err(error), _)) => Err(error),
                Either::Right((Err(_), own)) => own.await,
            }
        })
        .await
    };
    match work {
        Ok(Ok(())) => Ok(json(&json!({ "status": "ok" }))),
        Ok(Err(error)) => Err(ApiError::unavailable(error.message)),
        Err(_) => Err(ApiError::unavailable(format!(
            "no token was generated in {} s",
            limit.as_secs_f32()
        ))),
    }
}

/// Draws a token after the shortest prompt.
async fn generate(app: &App) -> Result<()> {
    let prompt = infer::prompt_tokens(&app.tokenizer, "").unwrap_or_else(|_| vec![0]);
    let job = Job { prompt, max_tokens: 1, sampling: Sampling::GREEDY, ..Job::default() };
    let mut answers = app.submit(vec![job], "prompt").await?;
    while let Some(Answer::Event(_, event)) = answers.recv().await {
        match event {
            Event::Finished { .. } => return Ok(()),
            Event::Failed(error) => return Err(ApiError::of(&error, "prompt")),
            Event::Prompt { .. } | Event::Token { .. } => {}
        }
    }
    Err(app.broken().await)
}

pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let up = app.progress.ended().is_none();
    let mut response = app.metrics.text(&app.progress.now(), up, app.slots).into_response();
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
