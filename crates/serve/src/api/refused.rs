//! Fields that would change the meaning of an answer and are not supported. Ignoring them in silence would
//! give an answer that was not asked for.

use super::fields::Fields;
use crate::error::{ApiError, Result};
use serde_json::Value;

/// Fields that are refused unless they say nothing, and why.
const FIELDS: [(&str, &str); 14] = [
    ("tools", "this server calls no tools"),
    ("functions", "this server calls no functions"),
    ("function_call", "this server calls no functions"),
    ("audio", "this server makes no sound"),
    ("web_search_options", "this server does not search"),
    ("grammar", "answers cannot be held to a grammar"),
    ("json_schema", "answers cannot be held to a schema"),
    ("guided_json", "answers cannot be held to a schema"),
    ("guided_regex", "answers cannot be held to a pattern"),
    ("guided_choice", "answers cannot be held to a choice"),
    ("guided_grammar", "answers cannot be held to a grammar"),
    ("structured_outputs", "answers cannot be held to a schema"),
    ("suffix", "this server does not fill gaps: it continues the prompt"),
    ("use_beam_search", "this server samples"),
];

/// Refuses what would otherwise be ignored and be missed.
pub(crate) fn check(fields: Fields<'_>) -> Result<()> {
    for (name, reason) in FIELDS {
        if fields.get(name).is_some_and(|value| !says_nothing(value)) {
            return Err(ApiError::unsupported(
                name,
                format!("`{name}` is not supported: {reason}"),
            ));
        }
    }
    tool_choice(fields)?;
    response_format(fields)?;
    modalities(fields)?;
    best_of(fields)
}

/// True for what asks for nothing.
fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::String(text) => ["", "none", "auto"].contains(&text.as_str()),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Number(_) => false,
    }
}

fn tool_choice(fields: Fields<'_>) -> Result<()> {
    match fields.get("tool_choice") {
        Some(value) if !says_nothing(value) => Err(ApiError::unsupported(
            "tool_choice",
            "`tool_choice` is not supported: this server calls no tools",
        )),
        _ => Ok(()),
    }
}

fn response_format(fields: Fields<'_>) -> Result<()> {
    let Some(format) = fields.object("response_format")? else { return Ok(()) };
    match format.text("type")? {
        None | Some("text") => Ok(()),
        Some(kind) => Err(ApiError::unsupported(
            "response_format",
            format!("`response_format` of type `{kind}` is not supported: answers are plain text"),
        )),
    }
}

fn modalities(fields: Fields<'_>) -> Result<()> {
    match fields.get("modalities").and_then(Value::as_array) {
        Some(list) if list.iter().any(|kind| kind != "text") => Err(ApiError::unsupported(
            "modalities",
            "`modalities` other than text are not supported",
        )),
        _ => Ok(()),
    }
}

/// Several texts, of which the best is returned, are as many as are returned.
fn best_of(fields: Fields<'_>) -> Result<()> {
    let (Some(best), n) = (fields.get("best_of"), fields.get("n")) else { return Ok(()) };
    match best.as_u64() == Some(n.and_then(Value::as_u64).unwrap_or(1)) {
        true => Ok(()),
        false => {
            Err(ApiError::unsupported("best_of", "`best_of` is not supported unless it equals `n`"))
        }
    }
}
