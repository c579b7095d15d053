//! `POST /v1/chat/completions`: the answer to a conversation.

use super::answer::{Answering, Delta, reason};
use super::fields::{Fields, wrong};
use super::logprobs;
use super::settings::Settings;
use super::stream::{self, Shape};
use super::truncation;
use crate::app::{App, aside};
use crate::error::{ApiError, Result};
use crate::template::render;
use axum::extract::{Request, State};
use axum::response::Response;
use infer::Job;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Instant;
use tokenizer::Tokenizer;
use tokenizer::chat::{Message, Role};

pub(crate) async fn create(State(app): State<Arc<App>>, request: Request) -> Result<Response> {
    let start = Instant::now();
    let body = app.read(request).await?;
    let shared = Arc::clone(&app);
    let Prepared { settings, jobs, logprobs, forgotten } =
        aside(move || prepare(&shared, &body)).await?;
    let choices = settings.choices;
    let answers = app.submit(jobs, "messages").await?;
    let answering = Answering::new(Arc::clone(&app), answers, (1, choices), start);
    let shape = Chat { tokenizer: Arc::clone(&app.tokenizer), logprobs };
    let response = match settings.stream {
        true => stream::streamed(&app, answering, shape, settings.include_usage),
        false => stream::whole(&app, answering, shape).await?,
    };
    Ok(truncation::told(response, forgotten))
}

/// What a request asks for.
struct Prepared {
    settings: Settings,
    jobs: Vec<Job>,
    /// True if log probabilities are asked for.
    logprobs: bool,
    /// Messages that are not read.
    forgotten: usize,
}

fn prepare(app: &App, body: &Map<String, Value>) -> Result<Prepared> {
    let fields = Fields(body);
    let settings = Settings::read(app, fields)?;
    let logprobs = logprobs_of(fields)?;
    let messages = messages(app, fields)?;
    let most = match fields.whole("max_completion_tokens", 1..=usize::MAX)? {
        Some(most) => Some(most),
        None => fields.whole("max_tokens", 1..=usize::MAX)?,
    };
    let (rendered, forgotten) = match truncation::is_asked(fields)? {
        true => truncation::fit(app, &messages, most)?,
        false => (render(app.described.template.as_ref(), &app.tokenizer, &messages)?, 0),
    };
    let room = room(app, rendered.tokens.len(), "messages")?;
    let mut ends = infer::text_ends(&app.tokenizer);
    ends.extend(app.described.ends.iter().chain(&rendered.ends));
    let job = |choice| {
        let mut job = settings.job(choice);
        job.stop.extend(rendered.stop.iter().cloned());
        Job {
            prompt: rendered.tokens.clone(),
            max_tokens: most.map_or(room, |most| most.min(room)),
            ends: ends.clone(),
            logprobs,
            tools: app.described.tools.clone(),
            ..job
        }
    };
    let jobs = check_count(app, settings.choices)?.map(job).collect();
    Ok(Prepared { settings, jobs, logprobs: logprobs.is_some(), forgotten })
}

/// The tokens that may follow a prompt.
pub(crate) fn room(app: &App, tokens: usize, param: &str) -> Result<usize> {
    match tokens > app.context {
        true => Err(ApiError::too_long(param, tokens, app.context)),
        false => Ok(app.context - tokens + 1),
    }
}

/// The indices of a request's jobs, if the engine can ever take so many.
pub(crate) fn check_count(app: &App, jobs: usize) -> Result<std::ops::Range<usize>> {
    let most = app.most_jobs.min(app.limits().choices);
    match jobs > most {
        true => {
            let message = format!("{jobs} choices are too many: this server takes {most} at once");
            Err(ApiError::field("n", message))
        }
        false => Ok(0..jobs),
    }
}

fn logprobs_of(fields: Fields<'_>) -> Result<Option<usize>> {
    let wanted = fields.flag("logprobs")?.unwrap_or(false);
    match (wanted, fields.whole("top_logprobs", 0..=20)?) {
        (true, top) => Ok(Some(top.unwrap_or(0))),
        (false, None | Some(0)) => Ok(None),
        (false, Some(_)) => {
            Err(ApiError::field("top_logprobs", "`top_logprobs` requires `logprobs` to be true"))
        }
    }
}

/// The conversation of a request.
pub(crate) fn messages(app: &App, fields: Fields<'_>) -> Result<Vec<Message>> {
    let most = app.limits().messages;
    match fields.get("messages") {
        None => Err(ApiError::field("messages", "`messages` is required: a list of messages")),
        Some(Value::Array(list)) if list.len() > most => {
            let message = format!("{} messages are too many: at most {most} are read", list.len());
            Err(ApiError::field("messages", message))
        }
        Some(Value::Array(list)) if !list.is_empty() => {
            list.iter().enumerate().map(|(i, value)| message(i, value)).collect()
        }
        Some(value) => Err(wrong("messages", "a list of at least one message", value)),
    }
}

fn message(index: usize, value: &Value) -> Result<Message> {
    let at = |name: &str| format!("messages[{index}]{name}");
    let Value::Object(map) = value else {
        return Err(wrong(&at(""), "an object with role and content", value));
    };
    let fields = Fields(map);
    let role = match fields.get("role") {
        None => return Err(ApiError::field(at(".role"), format!("`{}` is required", at(".role")))),
        Some(Value::String(role)) => role.as_str(),
        Some(other) => return Err(wrong(&at(".role"), "a string", other)),
    };
    let role = match role {
        "developer" | "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" | "function" => {
            let message = format!("`{}` is `{role}`, but this server calls no tools", at(".role"));
            return Err(ApiError::unsupported(&at(".role"), message));
        }
        _ => {
            let known = "`system`, `developer`, `user` or `assistant`";
            return Err(wrong(&at(".role"), known, &json!(role)));
        }
    };
    for name in ["tool_calls", "function_call", "audio"] {
        if fields.get(name).is_some_and(|value| value.as_array().is_none_or(|l| !l.is_empty())) {
            let (name, message) = (at(&format!(".{name}")), "tools and audio are not supported");
            return Err(ApiError::unsupported(&name, format!("`{name}`: {message}")));
        }
    }
    let content = content(&at(".content"), role, fields.get("content"))?;
    Ok(Message::new(role, content))
}

/// A text, or parts that are texts.
fn content(name: &str, role: Role, value: Option<&Value>) -> Result<String> {
    match value {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Array(parts)) => {
            parts.iter().enumerate().map(|(i, part)| part_text(name, i, part)).collect()
        }
        None if role == Role::Assistant => Ok(String::new()),
        None => Err(ApiError::field(name, format!("`{name}` is required"))),
        Some(other) => Err(wrong(name, "a string or a list of parts", other)),
    }
}

fn part_text(name: &str, index: usize, part: &Value) -> Result<String> {
    let name = format!("{name}[{index}]");
    match (part.get("type").and_then(Value::as_str), part.get("text").and_then(Value::as_str)) {
        (Some("text"), Some(text)) => Ok(text.to_owned()),
        (Some(kind), _) if kind != "text" => {
            let message = format!("`{name}` is of type `{kind}`: this model reads text only");
            Err(ApiError::unsupported(&name, message))
        }
        _ => Err(wrong(&name, "{\"type\": \"text\", \"text\": …}", part)),
    }
}

/// How chats are written.
struct Chat {
    tokenizer: Arc<Tokenizer>,
    logprobs: bool,
}

impl Chat {
    fn logprobs(&self, delta: &Delta) -> Value {
        match self.logprobs {
            true => logprobs::of_chat(&self.tokenizer, &delta.logprobs),
            false => Value::Null,
        }
    }

    fn delta(choice: usize, delta: &Value, logprobs: Value, reason: Option<&str>) -> Value {
        json!({ "index": choice, "delta": delta, "logprobs": logprobs, "finish_reason": reason })
    }
}

impl Shape for Chat {
    const PREFIX: &'static str = "chatcmpl";
    const OBJECT: (&'static str, &'static str) = ("chat.completion", "chat.completion.chunk");

    fn whole(&mut self, delta: Delta) -> Value {
        json!({
            "index": delta.choice,
            "logprobs": self.logprobs(&delta),
            "finish_reason": delta.finish.map(reason),
            "message": { "role": "assistant", "content": delta.text, "refusal": null },
        })
    }

    fn opening(&mut self, choice: usize) -> Option<Value> {
        let role = json!({ "role": "assistant", "content": "" });
        Some(Chat::delta(choice, &role, Value::Null, None))
    }

    fn more(&mut self, delta: Delta) -> Value {
        let logprobs = self.logprobs(&delta);
        Chat::delta(delta.choice, &json!({ "content": delta.text }), logprobs, None)
    }

    fn closing(&self, choice: usize, reason: &'static str) -> Value {
        Chat::delta(choice, &json!({}), Value::Null, Some(reason))
    }
}
