//! The numbers and texts of a log under names, for programs that know nothing of our events: `train/loss`,
//! `validation/val_loss`, `train/parts/io`. The names follow from the events alone, so that those of later versions
//! have some too.

use crate::view::Skipped;
use anyhow::{Context, Result};
use serde_json::{Map, Value};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// Names in place of those of events.
const GROUPS: [(&str, &str); 2] = [("step", "train"), ("eval", "validation")];
/// Fields that are no quantities.
const LEFT_OUT: [&str; 3] = ["event", "time", "step"];
/// Texts that are kept.
const TEXTS: [&str; 2] = ["text", "message"];
/// Fields in which null stands for a number that is not finite.
const MAY_BE_NULL: [&str; 3] = ["loss", "val_loss", "grad_norm"];

/// An event under names.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Tagged {
    /// The kind of event.
    pub(crate) event: String,
    /// Updates so far; 0 where the event tells none and none did before.
    pub(crate) step: u64,
    /// Seconds since 1970, where they are told.
    pub(crate) time: Option<f64>,
    pub(crate) numbers: Vec<(String, f64)>,
    pub(crate) texts: Vec<(String, String)>,
}

/// Calls `each` with every event of the log at `path`; lines that are no events are left out, and counted.
///
/// # Errors
/// When the log cannot be read, or `each` fails.
pub(crate) fn read(path: &Path, mut each: impl FnMut(Tagged) -> Result<()>) -> Result<Skipped> {
    let unread = || format!("cannot read {}", path.display());
    let mut log = BufReader::new(File::open(path).with_context(unread)?);
    let (mut line, mut step, mut skipped) = (vec![], 0, Skipped::default());
    loop {
        line.clear();
        if log.read_until(b'\n', &mut line).with_context(unread)? == 0 {
            return Ok(skipped);
        }
        if let Ok(Value::Object(fields)) = serde_json::from_slice(&line)
            && let Some(tagged) = tagged(&fields, step)
        {
            step = tagged.step;
            each(tagged)?;
        } else {
            skipped.count(&line);
        }
    }
}

/// An event under names; `step` is that of the event before. `None` for what is no event.
fn tagged(fields: &Map<String, Value>, step: u64) -> Option<Tagged> {
    let event = fields.get("event")?.as_str()?;
    let mut tagged = Tagged {
        event: event.to_owned(),
        step: fields.get("step").and_then(Value::as_u64).unwrap_or(step),
        time: fields.get("time").and_then(Value::as_f64),
        ..Tagged::default()
    };
    let group = GROUPS.iter().find(|group| group.0 == event).map_or(event, |group| group.1);
    if event == "start" {
        // Settings: read as a whole, by people.
        let text = serde_json::to_string_pretty(fields).unwrap_or_default();
        tagged.texts.push(("start/settings".to_owned(), text));
        return Some(tagged);
    }
    for (name, value) in fields.iter().filter(|(name, _)| !LEFT_OUT.contains(&name.as_str())) {
        let tag = format!("{group}/{name}");
        match value {
            Value::String(text) if TEXTS.contains(&name.as_str()) => {
                tagged.texts.push((tag, text.clone()));
            }
            Value::Null if MAY_BE_NULL.contains(&name.as_str()) && event != "done" => {
                tagged.numbers.push((tag, f64::NAN));
            }
            value => numbers(tag, value, &mut tagged.numbers),
        }
    }
    Some(tagged)
}

/// The numbers in a value, however deep.
fn numbers(tag: String, value: &Value, found: &mut Vec<(String, f64)>) {
    match value {
        Value::Number(number) => found.extend(number.as_f64().map(|number| (tag, number))),
        Value::Bool(is) => found.push((tag, f64::from(u8::from(*is)))),
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| numbers(format!("{tag}/{name}"), value, found));
        }
        Value::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                let name =
                    ["label", "tensor", "name"].iter().find_map(|key| value.get(key)?.as_str());
                let name = name.map_or(index.to_string(), str::to_owned);
                numbers(format!("{tag}/{name}"), value, found);
            }
        }
        Value::Null | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Tagged {
        let Value::Object(fields) = serde_json::from_str(line).unwrap() else { panic!("{line}") };
        tagged(&fields, 7).unwrap()
    }

    #[test]
    fn events_have_names() {
        let step = of(
            r#"{"event":"step","step":3,"loss":null,"lr":0.5,"skipped":true,"parts":{"io":2.0},"time":9.0}"#,
        );
        let names: Vec<&str> = step.numbers.iter().map(|number| number.0.as_str()).collect();
        assert_eq!(names, ["train/loss", "train/lr", "train/parts/io", "train/skipped"]);
        assert!(step.numbers[0].1.is_nan() && step.numbers[3].1 == 1.0);
        assert_eq!((step.step, step.time), (3, Some(9.0)));
        let core =
            of(r#"{"event":"core","step":4,"core":0.1,"tasks":[{"label":"arc","accuracy":0.5}]}"#);
        assert_eq!(core.numbers[1], ("core/tasks/arc/accuracy".to_owned(), 0.5));
        let done = of(r#"{"event":"done","steps":4,"val_loss":null,"spent":{"total_s":1.5}}"#);
        assert_eq!((done.numbers.len(), done.step), (2, 7));
        let sample = of(r#"{"event":"sample","step":4,"text":"Once","ms":1.0}"#);
        assert_eq!(sample.texts, [("sample/text".to_owned(), "Once".to_owned())]);
        let start = of(r#"{"event":"start","step":0,"params":5}"#);
        assert!(start.numbers.is_empty() && start.texts[0].1.contains("\"params\": 5"));
    }
}
