//! Typed entries of a `config.json`.
//!
//! All of them fail where the entry is of another type.

use serde_json::{Map, Value};

/// Returns the entry `name`, which is `kind`, as `read` has it; `None` where it is absent or null.
fn typed<'j, T>(
    json: &'j Map<String, Value>,
    name: &str,
    kind: &str,
    read: impl Fn(&'j Value) -> Option<T>,
) -> Result<Option<T>, String> {
    match json.get(name).filter(|value| !value.is_null()) {
        None => Ok(None),
        Some(value) => {
            read(value).map(Some).ok_or_else(|| format!("`{name}` is {value}, not {kind}"))
        }
    }
}

/// Returns a whole number, if there is one.
pub(super) fn extent(json: &Map<String, Value>, name: &str) -> Result<Option<usize>, String> {
    typed(json, name, "a whole number", |v| v.as_u64().and_then(|n| usize::try_from(n).ok()))
}

/// Returns a number, if there is one.
pub(super) fn float(json: &Map<String, Value>, name: &str) -> Result<Option<f64>, String> {
    typed(json, name, "a number", Value::as_f64)
}

/// Returns a truth value, if there is one.
pub(super) fn flag(json: &Map<String, Value>, name: &str) -> Result<Option<bool>, String> {
    typed(json, name, "true or false", Value::as_bool)
}
