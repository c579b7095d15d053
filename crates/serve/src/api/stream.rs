//! Answers: whole, or as a stream of server-sent events.

use super::answer::{Answering, Delta};
use crate::app::{App, json, seconds};
use crate::error::{ApiError, Result};
use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_util::stream::unfold;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use tokio::time::timeout;

/// How an interface writes choices.
pub(crate) trait Shape: Send + Sync + 'static {
    /// Beginning of the names of answers.
    const PREFIX: &'static str;
    /// The name of a whole answer's type, and of a chunk's.
    const OBJECT: (&'static str, &'static str);

    /// A complete choice.
    fn whole(&mut self, delta: Delta) -> Value;
    /// What a choice of a stream begins with, before anything was computed.
    fn opening(&mut self, choice: usize) -> Option<Value>;
    /// More of a choice.
    fn more(&mut self, delta: Delta) -> Value;
    /// The end of a choice.
    fn closing(&self, choice: usize, reason: &'static str) -> Value;
}

/// What all chunks of an answer have in common.
#[derive(Clone, Debug)]
struct Envelope {
    id: String,
    created: u64,
    model: String,
    fingerprint: String,
}

impl Envelope {
    fn new(app: &App, prefix: &str) -> Self {
        Envelope {
            id: format!("{prefix}-{:016x}{:016x}", app.random(), app.random()),
            created: seconds(),
            model: app.described.name.clone(),
            fingerprint: app.fingerprint(),
        }
    }

    fn around(&self, object: &str, choices: Vec<Value>) -> Value {
        json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": choices,
        })
    }
}

/// A complete answer.
pub(crate) async fn whole<S: Shape>(
    app: &App,
    mut answering: Answering,
    mut shape: S,
) -> Result<Response> {
    let choices = answering.all().await?.into_iter().map(|delta| shape.whole(delta)).collect();
    let mut value = Envelope::new(app, S::PREFIX).around(S::OBJECT.0, choices);
    value["usage"] = answering.usage();
    Ok(json(&value))
}

/// A stream of chunks.
pub(crate) fn streamed<S: Shape>(
    app: &Arc<App>,
    answering: Answering,
    shape: S,
    include_usage: bool,
) -> Response {
    let envelope = Envelope::new(app, S::PREFIX);
    let stream = Stream {
        app: Arc::clone(app),
        answering,
        shape,
        envelope,
        include_usage,
        state: State::New,
    };
    let chunks = unfold(stream, |mut stream| async move {
        let chunk = stream.next().await?;
        Some((Ok::<_, Infallible>(chunk), stream))
    });
    let mut response = Response::new(Body::from_stream(chunks));
    let fixed = [
        (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    for (name, value) in fixed {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    // Proxies that collect answers are asked not to.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// A stream on its way.
struct Stream<S> {
    app: Arc<App>,
    answering: Answering,
    shape: S,
    envelope: Envelope,
    include_usage: bool,
    state: State,
}

enum State {
    New,
    Open,
    Done,
}

impl<S: Shape> Stream<S> {
    /// The next bytes: all that is ready.
    async fn next(&mut self) -> Option<Bytes> {
        let mut out = String::new();
        match self.state {
            State::New => {
                self.state = State::Open;
                for choice in 0..self.answering.choices() {
                    if let Some(opening) = self.shape.opening(choice) {
                        self.chunk(vec![opening], Value::Null, &mut out);
                    }
                }
            }
            State::Open => self.more(&mut out).await,
            State::Done => return None,
        }
        // A stream of which nothing is known yet starts with a comment, so that its head is sent.
        Some(Bytes::from(if out.is_empty() { ":\n\n".to_owned() } else { out }))
    }

    async fn more(&mut self, out: &mut String) {
        let quiet = self.app.limits().comment_time;
        let Ok(next) = timeout(quiet, self.told()).await else { return };
        let mut next = Some(next);
        // What has come meanwhile goes along.
        while let Some(delta) = next {
            match delta {
                Ok(Some(delta)) => self.tell(delta, out),
                Ok(None) => return self.end(out),
                Err(error) => return self.fail(&error, out),
            }
            next = self.answering.ready().map(|delta| delta.map(Some));
        }
    }

    /// The next delta that says something.
    async fn told(&mut self) -> Result<Option<Delta>> {
        loop {
            match self.answering.next().await? {
                Some(delta) if !delta.is_told() && delta.finish.is_none() => {}
                other => return Ok(other),
            }
        }
    }

    fn tell(&mut self, delta: Delta, out: &mut String) {
        let (choice, finish) = (delta.choice, delta.finish);
        if delta.is_told() {
            let more = self.shape.more(delta);
            self.chunk(vec![more], Value::Null, out);
        }
        if let Some(finish) = finish {
            let closing = self.shape.closing(choice, super::answer::reason(finish));
            self.chunk(vec![closing], Value::Null, out);
        }
    }

    fn end(&mut self, out: &mut String) {
        if self.include_usage {
            self.chunk(vec![], self.answering.usage(), out);
        }
        out.push_str("data: [DONE]\n\n");
        self.state = State::Done;
    }

    fn fail(&mut self, error: &ApiError, out: &mut String) {
        event(&error.body(), out);
        self.state = State::Done;
    }

    fn chunk(&self, choices: Vec<Value>, usage: Value, out: &mut String) {
        let mut value = self.envelope.around(S::OBJECT.1, choices);
        if self.include_usage {
            value["usage"] = usage;
        }
        event(&value, out);
    }
}

/// Writes a server-sent event. JSON has no line breaks.
fn event(value: &Value, out: &mut String) {
    out.push_str("data: ");
    out.push_str(&value.to_string());
    out.push_str("\n\n");
}
