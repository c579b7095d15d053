//! Errors that only a Mac has.

use ane::AneError;

/// An error that only the devices of a Mac have. Their methods carry it in an [`AneError`], which
/// gives it back ([`AneError::as_own`]).
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum AppleError {
    #[error(
        "{place} has no {what} `{name}`: this version of the system is not one that the device \
         knows; use another device, and report the system's version"
    )]
    Missing { what: &'static str, name: String, place: String },
    #[error(
        "the method `{method}` has the signature {found} here, expected {expected}: it is not \
         called, since arguments would be misread; use another device, and report the system's \
         version"
    )]
    Signature { method: String, found: String, expected: String },
    #[error(
        "`{program}` could not be compiled in a process of its own, tried {tries} times: {reason}; \
         its MIL is kept in {kept} (please send it); wait a minute and try again, or compile in this \
         process, which may then hang or crash"
    )]
    CompileElsewhere { program: String, reason: String, tries: u32, kept: String },
    #[error("cannot {what} {path}: {reason}")]
    File { what: &'static str, path: String, reason: String },
    #[error(
        "the known-answer program gave {got} where {expected} is right: what runs here is not the \
         engine as it is known; do not train on it"
    )]
    WrongAnswer { expected: f32, got: f32 },
}

impl From<AppleError> for AneError {
    fn from(error: AppleError) -> Self {
        AneError::own(error)
    }
}
