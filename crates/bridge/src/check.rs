//! Programs held against the rules of the language and of a machine, and forecasts of their time, as
//! JSON.

use crate::error::BridgeError;
use chip::Profile;
use chip::legal::{Place, Severity, Violation};
use mil::{Diagnostic, Program};
use serde_json::{Value, json};

/// Everything that is wrong with the program `text` on `profile`: one object with `profile`,
/// `legal`, `faults` of the language and `rules` that are broken.
pub(crate) fn check(text: &str, profile: &Profile) -> Value {
    let (faults, broken) = match mil::check_text(text) {
        Ok(program) => (vec![], chip::legal::violations(&program, profile)),
        Err(faults) => (faults, vec![]),
    };
    let refused = broken.iter().any(|v| v.rule.severity != Severity::Warning);
    json!({
        "profile": profile.to_string(),
        "legal": faults.is_empty() && !refused,
        "faults": faults.iter().map(fault).collect::<Vec<_>>(),
        "rules": broken.iter().map(violation).collect::<Vec<_>>(),
    })
}

/// The program `text`.
pub(crate) fn program(text: &str) -> Result<Program, BridgeError> {
    mil::check_text(text).map_err(|faults| {
        let list: Vec<String> = faults.iter().map(ToString::to_string).collect();
        BridgeError::Program(list.join("\n\n"))
    })
}

/// How long each function of the program `text` takes on `profile`: one object with `profile`,
/// `confirmed_on_hardware` and `functions`.
pub(crate) fn estimate(text: &str, profile: &Profile) -> Result<Value, BridgeError> {
    let functions = program(text)?.functions;
    let functions = functions.iter().map(|f| chip::estimate(f, profile).json(&f.name));
    Ok(json!({
        "profile": profile.to_string(),
        "confirmed_on_hardware": false,
        "functions": functions.collect::<Vec<_>>(),
    }))
}

fn fault(d: &Diagnostic) -> Value {
    json!({
        "line": d.place.as_ref().map(|p| p.line),
        "column": d.place.as_ref().map(|p| p.column),
        "context": d.context,
        "message": d.message,
        "hint": d.hint,
    })
}

fn violation(v: &Violation) -> Value {
    let (place, name) = match &v.place {
        Place::Whole => ("whole", None),
        Place::Parameter(name) => ("parameter", Some(name)),
        Place::Output(name) => ("output", Some(name)),
        Place::Operation { name, .. } => ("operation", Some(name)),
    };
    json!({
        "id": v.rule.id,
        "title": v.rule.title,
        "severity": format!("{:?}", v.rule.severity).to_lowercase(),
        "confidence": format!("{:?}", v.rule.confidence).to_lowercase(),
        "evidence": v.rule.evidence,
        "function": v.function,
        "place": place,
        "name": name,
        "message": v.message,
        "hint": v.hint,
    })
}
