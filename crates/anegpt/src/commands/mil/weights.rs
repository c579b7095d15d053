//! The weight files that a program names: found, read and checked in one place, whatever is done with
//! the program then.

use anyhow::{Result, anyhow};
use mil::diagnostic::Diagnostic;
use mil::text::Spans;
use mil::weights::{Finding, Found, inspect, stored};
use mil::{Program, Weights};
use std::path::{Path, PathBuf};

/// The directory that stands for `@model_path`: the one given, or that of the program.
pub(crate) fn base(program: &Path, given: Option<&PathBuf>) -> PathBuf {
    let beside = || program.parent().map(Path::to_owned).unwrap_or_default();
    given.cloned().unwrap_or_else(beside)
}

/// The findings about the weight files of a program.
#[derive(Debug, Default)]
pub(crate) struct Files {
    /// Those that are there, by the path that the program writes.
    pub(crate) weights: Weights,
    /// For each of the others, which literal needs it and why it cannot be read.
    missing: Vec<String>,
}

impl Files {
    /// Reads every file that `program` names, with `base` for `@model_path`.
    pub(crate) fn read(program: &Program, base: &Path) -> Self {
        let mut files = Files::default();
        let mut seen = std::collections::BTreeSet::new();
        for literal in stored(program) {
            if !seen.insert(literal.path) {
                continue;
            }
            let place =
                base.join(literal.path.strip_prefix("@model_path/").unwrap_or(literal.path));
            match std::fs::read(&place) {
                Ok(bytes) => drop(files.weights.insert(literal.path.to_owned(), bytes)),
                Err(error) => files.missing.push(format!(
                    "cannot read the weight file {}, which has the {}: {error}",
                    place.display(),
                    literal.name
                )),
            }
        }
        files
    }

    /// All files.
    ///
    /// # Errors
    /// When one of them is not there.
    pub(crate) fn complete(self) -> Result<Weights> {
        match self.missing.first() {
            Some(missing) => Err(anyhow!("{missing}")),
            None => Ok(self.weights),
        }
    }
}

/// The findings in the weight files, with their places in the text.
pub(crate) struct Findings {
    /// Literals that cannot be read.
    pub(crate) faults: Vec<Diagnostic>,
    /// Those that can, although their records are not as they should be.
    pub(crate) warnings: Vec<Diagnostic>,
}

/// Reads every literal of `program` that is in one of the files.
pub(crate) fn findings(
    text: &str,
    program: &Program,
    spans: &Spans,
    weights: &Weights,
) -> Findings {
    let found = inspect(program, weights);
    let (odd, unreadable): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|found| matches!(found.finding, Finding::Odd(_)));
    let diagnose = |found: &Found<'_>| {
        let span = spans.locate(found.stored.site).unwrap_or_default();
        Diagnostic::at(text, span, &found.message(), &found.hint)
    };
    Findings {
        faults: unreadable.iter().map(diagnose).collect(),
        warnings: odd.iter().map(diagnose).collect(),
    }
}
