//! Reads programs, and says what is wrong with them.

use anyhow::{Context, Result, anyhow};
use mil::{Diagnostic, Program};
use std::path::Path;

/// Reads the text of a program.
pub(super) fn read_text(file: &Path) -> Result<String> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    String::from_utf8(bytes).map_err(|e| {
        anyhow!("{} is not UTF-8 text: byte {}", file.display(), e.utf8_error().valid_up_to())
    })
}

/// Reads a program and checks it against the language.
pub(super) fn read_program(file: &Path) -> Result<Program> {
    mil::check_text(&read_text(file)?)
        .map_err(|faults| anyhow!("{} is not a valid program\n{}", file.display(), list(&faults)))
}

/// Returns faults with their places, one after the other.
pub(super) fn list(faults: &[Diagnostic]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n")
}
