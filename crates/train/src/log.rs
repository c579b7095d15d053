//! The lines of a run's log: an event in each, as JSON.

use crate::event::{Event, or_nan};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A step event, borrowed from its line: nearly all lines of a long log are steps.
#[derive(Debug, Deserialize)]
pub struct StepLine<'l> {
    /// Updates so far.
    pub step: u64,
    /// Mean loss; NaN if it is not finite.
    #[serde(deserialize_with = "or_nan")]
    pub loss: f64,
    /// Learning rate.
    pub lr: f64,
    /// Tokens so far.
    pub tokens: u64,
    /// Wall time in milliseconds.
    pub ms: f64,
    /// Norm of the gradients; NaN if it is not finite.
    #[serde(deserialize_with = "or_nan")]
    pub grad_norm: f64,
    /// Loss scale used.
    pub loss_scale: f64,
    /// True if the update was left out.
    pub skipped: bool,
    /// Milliseconds by part.
    #[serde(borrow)]
    pub parts: BTreeMap<&'l str, f64>,
    /// Seconds since 1970, where they are told.
    #[serde(default)]
    pub time: Option<f64>,
}

/// What a line tells.
#[derive(Debug)]
pub enum Line<'l> {
    /// Nothing: it is empty.
    Empty,
    /// A step.
    Step(StepLine<'l>),
    /// Another event, and all fields of its line.
    Event(Box<Event>, Map<String, Value>),
    /// An event of a kind that is not known, as of a later version.
    Other(String, Map<String, Value>),
    /// The beginning of an event, as where a run was killed.
    Torn,
    /// No event.
    Foreign,
}

/// Reads a line, without its end.
pub fn parse(line: &[u8]) -> Line<'_> {
    if line.iter().all(u8::is_ascii_whitespace) {
        return Line::Empty;
    }
    // As we write it; another order of the fields takes the slow way.
    if line.starts_with(br#"{"event":"step","#)
        && let Ok(step) = serde_json::from_slice(line)
    {
        return Line::Step(step);
    }
    let Ok(Value::Object(fields)) = serde_json::from_slice(line) else {
        return if line.starts_with(br#"{"event":"#) { Line::Torn } else { Line::Foreign };
    };
    let Some(kind) = fields.get("event").and_then(Value::as_str).map(str::to_owned) else {
        return Line::Foreign;
    };
    match Event::deserialize(&fields) {
        Ok(event) => Line::Event(Box::new(event), fields),
        Err(_) => Line::Other(kind, fields),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_apart() {
        let step = br#"{"event":"step","step":1,"loss":null,"lr":0.1,"tokens":2,"ms":1.0,"grad_norm":1.0,"loss_scale":1.0,"skipped":true,"parts":{"io":2.0}}"#;
        let Line::Step(read) = parse(step) else { panic!("a step") };
        assert!(read.loss.is_nan() && read.parts["io"] == 2.0 && read.time.is_none());
        assert!(matches!(parse(&step[..50]), Line::Torn));
        assert!(matches!(parse(b" "), Line::Empty));
        assert!(matches!(parse(b"[1]"), Line::Foreign) && matches!(parse(b"\xff"), Line::Foreign));
        assert!(
            matches!(parse(br#"{"event":"new","x":1}"#), Line::Other(kind, _) if kind == "new")
        );
        let warning = parse(br#"{"message":"m","event":"warning"}"#);
        assert!(
            matches!(warning, Line::Event(event, _) if matches!(*event, Event::Warning { .. }))
        );
    }
}
