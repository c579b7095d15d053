//! Fields of a request: read one by one, so that an error names the field and what it may be.

use crate::error::{ApiError, Result};
use serde_json::{Map, Value};
use std::ops::RangeInclusive;

/// The fields of an object. `null` counts as absent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a>(pub(crate) &'a Map<String, Value>);

impl<'a> Fields<'a> {
    pub(crate) fn get(self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A number within a range.
    pub(crate) fn number(self, name: &str, range: RangeInclusive<f64>) -> Result<Option<f64>> {
        let expected = || format!("a number from {} to {}", range.start(), range.end());
        self.read(name, expected, |value| value.as_f64().filter(|number| range.contains(number)))
    }

    /// A whole number within a range.
    pub(crate) fn whole(self, name: &str, range: RangeInclusive<usize>) -> Result<Option<usize>> {
        let expected = || match *range.end() {
            usize::MAX => format!("a whole number of at least {}", range.start()),
            end => format!("a whole number from {} to {end}", range.start()),
        };
        let read = |value: &Value| {
            let whole = value.as_u64().or_else(|| value.as_f64().and_then(exact))?;
            usize::try_from(whole).ok().filter(|whole| range.contains(whole))
        };
        self.read(name, expected, read)
    }

    pub(crate) fn flag(self, name: &str) -> Result<Option<bool>> {
        self.read(name, || "true or false".to_owned(), Value::as_bool)
    }

    pub(crate) fn text(self, name: &str) -> Result<Option<&'a str>> {
        self.read(name, || "a string".to_owned(), Value::as_str)
    }

    pub(crate) fn object(self, name: &str) -> Result<Option<Fields<'a>>> {
        self.read(name, || "an object".to_owned(), |value| value.as_object().map(Fields))
    }

    /// A field, if `read` makes something of it.
    fn read<T>(
        self,
        name: &str,
        expected: impl Fn() -> String,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| wrong(name, &expected(), value))
    }
}

/// A whole number written as `3.0`.
fn exact(number: f64) -> Option<u64> {
    (number.fract() == 0.0 && (0.0..=9e15).contains(&number)).then_some(number as u64)
}

/// An error that names what a field may be, and what it is.
pub(crate) fn wrong(name: &str, expected: &str, value: &Value) -> ApiError {
    let mut shown = value.to_string();
    if let Some((end, _)) = shown.char_indices().nth(60) {
        shown.truncate(end);
        shown.push('…');
    }
    ApiError::field(name, format!("`{name}` must be {expected}, not {shown}"))
}

/// A list of tokens, all below `vocab_size`.
pub(crate) fn tokens(name: &str, values: &[Value], vocab_size: usize) -> Result<Vec<u32>> {
    let token = |value: &Value| {
        let token = value.as_u64().filter(|&token| token < vocab_size as u64);
        token
            .map(|token| token as u32)
            .ok_or_else(|| wrong(name, &format!("made of whole numbers below {vocab_size}"), value))
    };
    values.iter().map(token).collect()
}
