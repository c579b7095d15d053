//! The clock of events and of what is shown beside them.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970 (UTC), to the millisecond.
pub(crate) fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as f64 / 1e3
}
