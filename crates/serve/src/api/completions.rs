//! `POST /v1/completions`: texts, continued.

use super::answer::{Answering, Delta, reason};
use super::chat::{check_count, room};
use super::fields::{Fields, tokens, wrong};
use super::logprobs::{self, OfText};
use super::settings::Settings;
use super::stream::{self, Shape};
use crate::app::{App, aside};
use crate::error::{ApiError, Result};
use axum::extract::{Request, State};
use axum::response::Response;
use infer::Job;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Instant;
use tokenizer::Tokenizer;

pub(crate) async fn create(State(app): State<Arc<App>>, request: Request) -> Result<Response> {
    let start = Instant::now();
    let body = app.read(request).await?;
    let shared = Arc::clone(&app);
    let Prepared { settings, jobs, prompts, logprobs, echo } =
        aside(move || prepare(&shared, &body)).await?;
    let answers = app.submit(jobs, "prompt").await?;
    let counts = (prompts.len(), settings.choices);
    let answering = Answering::new(Arc::clone(&app), answers, counts, start);
    let shape = Text {
        tokenizer: Arc::clone(&app.tokenizer),
        offsets: vec![0; prompts.len() * settings.choices],
        per_prompt: settings.choices,
        prompts,
        logprobs,
        echo,
    };
    match settings.stream {
        true => Ok(stream::streamed(&app, answering, shape, settings.include_usage)),
        false => stream::whole(&app, answering, shape).await,
    }
}

/// A text to be continued.
struct Prompt {
    tokens: Vec<u32>,
    /// What `echo` repeats.
    text: String,
}

struct Prepared {
    settings: Settings,
    jobs: Vec<Job>,
    prompts: Vec<Prompt>,
    logprobs: bool,
    echo: bool,
}

fn prepare(app: &App, body: &Map<String, Value>) -> Result<Prepared> {
    let fields = Fields(body);
    let settings = Settings::read(app, fields)?;
    let most = fields.whole("max_tokens", 0..=usize::MAX)?.unwrap_or(16);
    let (logprobs, echo) = (logprobs_of(fields)?, fields.flag("echo")?.unwrap_or(false));
    let prompts = prompts(app, fields.get("prompt"))?;
    let mut ends = infer::text_ends(&app.tokenizer);
    ends.extend(&app.described.ends);
    let choices = settings.choices;
    let mut jobs = vec![];
    for index in check_count(app, prompts.len().saturating_mul(choices))? {
        let prompt = &prompts[index / choices];
        let room = room(app, prompt.tokens.len(), "prompt")?;
        jobs.push(Job {
            prompt: prompt.tokens.clone(),
            max_tokens: most.min(room),
            ends: ends.clone(),
            logprobs,
            prompt_logprobs: echo && logprobs.is_some(),
            ..settings.job(index % choices)
        });
    }
    Ok(Prepared { settings, jobs, prompts, logprobs: logprobs.is_some(), echo })
}

/// A number of the most likely tokens; some programs send the flag of chats.
fn logprobs_of(fields: Fields<'_>) -> Result<Option<usize>> {
    match fields.get("logprobs") {
        Some(Value::Bool(flag)) => Ok(flag.then_some(0)),
        _ => fields.whole("logprobs", 0..=20),
    }
}

/// A string, tokens, or a list of either.
fn prompts(app: &App, value: Option<&Value>) -> Result<Vec<Prompt>> {
    let expected = "a string, a list of strings, a list of tokens, or a list of lists of tokens";
    match value {
        None => Err(ApiError::field("prompt", format!("`prompt` is required: {expected}"))),
        Some(Value::String(text)) => Ok(vec![of_text(app, text)?]),
        Some(Value::Array(list)) if list.first().is_some_and(Value::is_number) => {
            Ok(vec![of_tokens(app, list)?])
        }
        Some(Value::Array(list)) if !list.is_empty() => {
            check_count(app, list.len())?;
            let each = |value: &Value| match value {
                Value::String(text) => of_text(app, text),
                Value::Array(tokens) => of_tokens(app, tokens),
                _ => Err(wrong("prompt", expected, value)),
            };
            list.iter().map(each).collect()
        }
        Some(value) => Err(wrong("prompt", expected, value)),
    }
}

fn of_text(app: &App, text: &str) -> Result<Prompt> {
    let tokens = infer::prompt_tokens(&app.tokenizer, text);
    let tokens = tokens.map_err(|error| ApiError::of(&error, "prompt"))?;
    Ok(Prompt { tokens, text: text.to_owned() })
}

/// Tokens are taken as they are: none is put before them.
fn of_tokens(app: &App, list: &[Value]) -> Result<Prompt> {
    let tokens = tokens("prompt", list, app.vocab_size)?;
    let text = app.tokenizer.decode(&tokens);
    Ok(Prompt { tokens, text })
}

/// How completions are written.
struct Text {
    tokenizer: Arc<Tokenizer>,
    prompts: Vec<Prompt>,
    per_prompt: usize,
    /// Characters of the tokens of each choice that were told.
    offsets: Vec<usize>,
    logprobs: bool,
    echo: bool,
}

impl Text {
    fn prompt(&self, choice: usize) -> &Prompt {
        &self.prompts[choice / self.per_prompt]
    }

    /// Log probabilities of a delta; those of the prompt come first.
    fn logprobs(&mut self, delta: &Delta) -> Value {
        if !self.logprobs {
            return Value::Null;
        }
        let (mut all, mut offset) = (OfText::default(), self.offsets[delta.choice]);
        if let Some(logprobs) = &delta.prompt {
            let first = self.prompt(delta.choice).tokens.first();
            if let Some(&first) = first {
                all.unknown(&self.tokenizer, first, offset);
                offset += self.characters(first);
            }
            for token in logprobs {
                all.known(&self.tokenizer, token, offset);
                offset += self.characters(token.id);
            }
        }
        for token in &delta.logprobs {
            all.known(&self.tokenizer, token, offset);
            offset += self.characters(token.id);
        }
        self.offsets[delta.choice] = offset;
        all.value()
    }

    /// Characters that begin in a token.
    fn characters(&self, token: u32) -> usize {
        let bytes = logprobs::bytes(&self.tokenizer, token);
        bytes.iter().filter(|byte| **byte & 0xC0 != 0x80).count()
    }

    /// The text of a delta, after the prompt if it is to be repeated and comes with it.
    fn text(&self, delta: Delta, with_prompt: bool) -> String {
        match with_prompt {
            true => self.prompt(delta.choice).text.clone() + &delta.text,
            false => delta.text,
        }
    }

    fn choice(choice: usize, text: &str, logprobs: Value, reason: Option<&str>) -> Value {
        json!({ "index": choice, "text": text, "logprobs": logprobs, "finish_reason": reason })
    }
}

impl Shape for Text {
    const PREFIX: &'static str = "cmpl";
    const OBJECT: (&'static str, &'static str) = ("text_completion", "text_completion");

    fn whole(&mut self, delta: Delta) -> Value {
        let (choice, finish) = (delta.choice, delta.finish);
        let logprobs = self.logprobs(&delta);
        let text = self.text(delta, self.echo);
        Text::choice(choice, &text, logprobs, finish.map(reason))
    }

    /// The prompt, if it is to be repeated. Where its log probabilities are, it comes with them.
    fn opening(&mut self, choice: usize) -> Option<Value> {
        let alone = self.echo && !self.logprobs;
        alone.then(|| Text::choice(choice, &self.prompt(choice).text, Value::Null, None))
    }

    fn more(&mut self, delta: Delta) -> Value {
        let (choice, with_prompt) = (delta.choice, delta.prompt.is_some());
        let logprobs = self.logprobs(&delta);
        Text::choice(choice, &self.text(delta, with_prompt), logprobs, None)
    }

    fn closing(&self, choice: usize, reason: &'static str) -> Value {
        Text::choice(choice, "", Value::Null, Some(reason))
    }
}
