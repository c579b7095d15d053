//! The policy of `auto`: which way to the engine is taken, and whether its programs are packed.

use crate::route::Route;
use serde::{Deserialize, Serialize};

/// The findings of the known-answer program about a route on which it gave the right answers.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub struct Findings {
    /// Seconds to compile and load the program.
    pub compile_seconds: f64,
    /// Median seconds of a run.
    pub run_seconds: f64,
    /// True if its inputs were packed into one, since several fail.
    pub packed: bool,
}

/// The route that is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The route.
    pub route: Route,
    /// True if its programs are packed.
    pub packed: bool,
    /// Why it is taken.
    pub reason: String,
}

/// Returns, of the routes that work, the one whose requests take the least time; the first of equals.
pub fn choose(working: &[(Route, Findings)]) -> Option<Choice> {
    let &(route, Findings { run_seconds, packed, .. }) =
        working.iter().min_by(|a, b| a.1.run_seconds.total_cmp(&b.1.run_seconds))?;
    let why = if packed { ", packed: several inputs fail here" } else { "" };
    let reason = format!("its known-answer request took {:.3} ms{why}", run_seconds * 1e3);
    Some(Choice { route, packed, reason })
}

/// True if programs are packed: one input and one output in place of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Where a request with several inputs fails.
    IfNeeded,
    /// Always.
    Always,
    /// Never.
    Never,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_route_is_taken() {
        let found = |run_seconds, packed| Findings { compile_seconds: 1.0, run_seconds, packed };
        let of = |a, b| choose(&[(Route::InMemory, a), (Route::Espresso, b)]).unwrap();
        assert_eq!(of(found(1e-3, false), found(2e-3, false)).route, Route::InMemory);
        assert_eq!(of(found(1e-3, false), found(1e-3, false)).route, Route::InMemory);
        let packed = of(found(3e-3, false), found(2e-3, true));
        assert_eq!((packed.route, packed.packed), (Route::Espresso, true));
        let says = "its known-answer request took 2.000 ms, packed: several inputs fail here";
        assert_eq!(packed.reason, says);
        assert_eq!(choose(&[]), None);
    }
}
