//! The two ways to the engine.

use chip::UnknownName;
use std::fmt;
use std::str::FromStr;

/// A way to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Route {
    /// In-memory models.
    InMemory,
    /// The e5rt interface of Espresso.
    Espresso,
}

impl Route {
    /// Both, the one with more published training runs first.
    pub const ALL: [Route; 2] = [Route::InMemory, Route::Espresso];
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Route::InMemory => "in-memory",
            Route::Espresso => "espresso",
        })
    }
}

impl FromStr for Route {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        Route::ALL.into_iter().find(|route| route.to_string() == text).ok_or_else(|| {
            let known = Route::ALL.map(|route| route.to_string()).join(", ");
            UnknownName { what: "route", got: text.to_owned(), known }
        })
    }
}
