//! The facts of a run, in words, as a table of one or several runs shows them.

use super::{Record, Series};
use crate::progress;

/// Columns of a label, and of a value beside others.
pub(crate) const LABEL: usize = 11;
pub(crate) const COLUMN: usize = 12;

/// Names of the facts.
pub(crate) const LABELS: [&str; 19] = [
    "step",
    "loss",
    "validation",
    "best",
    "bits/byte",
    "CORE",
    "rate",
    "tokens/s",
    "ms/step",
    "forecast",
    "grad norm",
    "loss scale",
    "skipped",
    "tokens",
    "time",
    "parameters",
    "CPU",
    "memory",
    "energy",
];

/// A fact for each label, where it is known.
pub(crate) type Facts = [Option<String>; LABELS.len()];

/// A number with about four digits.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => "not finite".to_owned(),
        0.0 => "0".to_owned(),
        v if v >= 1e4 => progress::count(value),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 0.01 => format!("{value:.3}"),
        _ => format!("{value:.2e}"),
    }
}

pub(crate) fn of(record: &Record, now: f64) -> Facts {
    let newest = |series: &Series| series.newest().map(|(_, value)| value);
    let four = |value: f64| match value.is_finite() {
        true => format!("{value:.4}"),
        false => "not finite".to_owned(),
    };
    let begun = record.begun.as_ref();
    let stepped = record.steps > 0;
    let forecast = begun.and_then(|begun| begun.settings.forecast.as_ref());
    [
        (record.step > 0 || begun.is_some()).then(|| record.step.to_string()),
        newest(&record.loss).map(four),
        newest(&record.validation).map(four),
        record.validation.least().map(four),
        newest(&record.bits_per_byte).map(four),
        newest(&record.core).map(four),
        newest(&record.lr).map(|lr| format!("{lr:.2e}")),
        newest(&record.speed).filter(|speed| speed.is_finite()).map(progress::count),
        stepped.then(|| format!("{:.1}", record.recent_ms)),
        forecast.map(|f| format!("{:.1} ms", f.ms)),
        newest(&record.grad_norm).map(short),
        newest(&record.loss_scale).map(short),
        stepped.then(|| record.skipped.to_string()),
        (record.tokens > 0).then(|| progress::count(record.tokens as f64)),
        elapsed(record, now),
        begun.map(|begun| progress::count(begun.params as f64)),
        newest(&record.cpu).map(|cores| format!("{cores:.2} cores")),
        newest(&record.memory).map(|mib| format!("{mib:.0} MiB")),
        newest(&record.joules_per_token).map(|joules| format!("{} J/tok", short(joules))),
    ]
}

/// Time since a run began.
fn elapsed(record: &Record, now: f64) -> Option<String> {
    let end = if record.ended.is_some() { record.last_time? } else { now };
    Some(duration(end - record.first_time?))
}

/// Seconds as `2 d 3 h`, `3 h 5 min`, `3 min 12 s`.
pub(crate) fn duration(seconds: f64) -> String {
    let s = seconds.max(0.0) as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        3600..86400 => format!("{} h {} min", s / 3600, s / 60 % 60),
        _ => format!("{} d {} h", s / 86400, s / 3600 % 24),
    }
}
