//! What chats and completions have in common: sampling, stops, choices, streaming.

use super::fields::{Fields, wrong};
use super::refused;
use crate::app::App;
use crate::error::{ApiError, Result};
use axum::http::StatusCode;
use infer::{Job, Sampling};
use serde_json::Value;

/// How a request is to be answered.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    sampling: Sampling,
    seed: u64,
    stop: Vec<String>,
    logit_bias: Vec<(u32, f32)>,
    /// Choices for each prompt.
    pub(crate) choices: usize,
    pub(crate) stream: bool,
    /// A stream ends with a chunk that counts tokens.
    pub(crate) include_usage: bool,
}

impl Settings {
    /// Reads them, and refuses what is not supported.
    pub(crate) fn read(app: &App, fields: Fields<'_>) -> Result<Self> {
        refused::check(fields)?;
        check_model(app, fields)?;
        let options = fields.object("stream_options")?;
        let include_usage = options.map(|options| options.flag("include_usage")).transpose()?;
        Ok(Settings {
            sampling: sampling(fields)?,
            seed: seed(fields)?.unwrap_or_else(|| app.random()),
            stop: stop(fields, app.limits().stop_bytes)?,
            logit_bias: logit_bias(fields, app.vocab_size)?,
            choices: fields.whole("n", 1..=app.limits().choices)?.unwrap_or(1),
            stream: fields.flag("stream")?.unwrap_or(false),
            include_usage: include_usage.flatten().unwrap_or(false),
        })
    }

    /// The job of one choice: it draws from the request's seed plus its index.
    pub(crate) fn job(&self, choice: usize) -> Job {
        Job {
            sampling: self.sampling,
            seed: self.seed.wrapping_add(choice as u64),
            stop: self.stop.clone(),
            logit_bias: self.logit_bias.clone(),
            ..Job::default()
        }
    }
}

/// Checks that the request is for this model, if it says for which.
fn check_model(app: &App, fields: Fields<'_>) -> Result<()> {
    match fields.text("model")? {
        None => Ok(()),
        Some(name) => known(app, name),
    }
}

/// An error if the model is not the one that is served.
pub(crate) fn known(app: &App, name: &str) -> Result<()> {
    let own = &app.described.name;
    if name == own || name.is_empty() {
        return Ok(());
    }
    let message = format!("there is no model `{name}` here; this server has `{own}`");
    let error = ApiError::new(StatusCode::NOT_FOUND, message).coded("model_not_found");
    Err(ApiError { param: Some("model".to_owned()), ..error })
}

fn sampling(fields: Fields<'_>) -> Result<Sampling> {
    let number = |name, range, default| {
        Ok(fields.number(name, range)?.map_or(default, |number| number as f32))
    };
    let sampling = Sampling {
        temperature: number("temperature", 0.0..=2.0, 1.0)?,
        top_k: top_k(fields)?,
        top_p: number("top_p", 0.0..=1.0, 1.0)?,
        min_p: number("min_p", 0.0..=1.0, 0.0)?,
        repetition_penalty: number("repetition_penalty", 0.01..=100.0, 1.0)?,
        presence_penalty: number("presence_penalty", -2.0..=2.0, 0.0)?,
        frequency_penalty: number("frequency_penalty", -2.0..=2.0, 0.0)?,
    };
    match sampling.top_p {
        // Of no probability at all, the most likely token is left.
        0.0 => Ok(Sampling { top_p: 1.0, top_k: 1, ..sampling }),
        _ => Ok(sampling),
    }
}

/// 0 and −1 keep all tokens: programs differ.
fn top_k(fields: Fields<'_>) -> Result<usize> {
    match fields.get("top_k").and_then(Value::as_i64) {
        Some(-1) => Ok(0),
        _ => Ok(fields.whole("top_k", 0..=usize::MAX)?.unwrap_or(0)),
    }
}

fn seed(fields: Fields<'_>) -> Result<Option<u64>> {
    let Some(value) = fields.get("seed") else { return Ok(None) };
    let seed = value.as_u64().or_else(|| value.as_i64().map(i64::cast_unsigned));
    seed.map(Some).ok_or_else(|| wrong("seed", "a whole number of 64 bits", value))
}

fn stop(fields: Fields<'_>, most_bytes: usize) -> Result<Vec<String>> {
    let Some(value) = fields.get("stop") else { return Ok(vec![]) };
    let expected = format!("a string of 1 to {most_bytes} bytes, or a list of at most 4 of them");
    let list = match value {
        Value::Array(list) if list.len() <= 4 => list.as_slice(),
        Value::Array(_) => return Err(wrong("stop", &expected, value)),
        one => std::slice::from_ref(one),
    };
    let string = |value: &Value| {
        let text = value.as_str().filter(|text| (1..=most_bytes).contains(&text.len()));
        text.map(str::to_owned).ok_or_else(|| wrong("stop", &expected, value))
    };
    list.iter().map(string).collect()
}

fn logit_bias(fields: Fields<'_>, vocab_size: usize) -> Result<Vec<(u32, f32)>> {
    let Some(Fields(map)) = fields.object("logit_bias")? else { return Ok(vec![]) };
    let entry = |(token, bias): (&String, &Value)| {
        let id = token.parse().ok().filter(|&id: &u32| (id as usize) < vocab_size);
        let bias = bias.as_f64().filter(|bias| (-100.0..=100.0).contains(bias));
        match (id, bias) {
            (Some(id), Some(bias)) => Ok((id, bias as f32)),
            _ => {
                let message = format!(
                    "`logit_bias` maps tokens below {vocab_size} to numbers from -100 to 100; \
                     `{token}` does not"
                );
                Err(ApiError::field("logit_bias", message))
            }
        }
    };
    map.iter().map(entry).collect()
}
