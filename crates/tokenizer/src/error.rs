//! The crate's one error type.

use std::path::PathBuf;

/// Errors of learning, reading, writing and applying a tokenizer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file of a tokenizer was refused; the cause says why.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The fault in its content.
        source: Box<Error>,
    },
    /// The bytes are none of the formats that this crate reads.
    #[error(
        "not a tokenizer in a known format; expected a Hugging Face tokenizer.json, a llama2.c \
         tokenizer.bin or a SentencePiece tokenizer.model"
    )]
    UnknownFormat,
    /// The data ends inside a record.
    #[error("{format}: truncated at byte {at} while reading {what}; fetch the file again")]
    Truncated {
        /// Name of the format.
        format: &'static str,
        /// The part that was being read.
        what: &'static str,
        /// Offset in bytes at which data was missing.
        at: usize,
    },
    /// The data is complete but contradicts the format.
    #[error("{format}: {what}")]
    Invalid {
        /// Name of the format.
        format: &'static str,
        /// The finding, its place, and the expectation.
        what: String,
    },
    /// The file asks for something that this crate does not do.
    #[error("{format}: {what} is not supported")]
    Unsupported {
        /// Name of the format.
        format: &'static str,
        /// The feature, as the format names it.
        what: String,
    },
    /// The text holds a character for which the vocabulary has no token.
    #[error(
        "character {character:?} at byte {at} of the text is not in the vocabulary; \
         use a tokenizer learned from text that contains it, or a byte-level one"
    )]
    UnknownCharacter {
        /// The character.
        character: char,
        /// Its byte offset in the text given to `encode`, after normalisation.
        at: usize,
    },
    /// A splitting pattern gave up (its backtracking limit was reached).
    #[error("splitting pattern failed: {0}")]
    Pattern(Box<fancy_regex::Error>),
    /// The template of conversations cannot be parsed, or failed.
    #[error("chat template{}: {what}", line.map_or(String::new(), |line| format!(", line {line}")))]
    Template {
        /// The line of the template, from 1, if it is known.
        line: Option<usize>,
        /// What is wrong there.
        what: String,
    },
    /// A conversation that the model's format cannot express.
    #[error("{0}")]
    Conversation(String),
    /// There is nothing to learn from, or the requested size is impossible.
    #[error("cannot learn a vocabulary: {0}")]
    Learn(String),
}

impl Error {
    pub(crate) fn invalid(format: &'static str, what: impl Into<String>) -> Self {
        Error::Invalid { format, what: what.into() }
    }

    pub(crate) fn unsupported(format: &'static str, what: impl Into<String>) -> Self {
        Error::Unsupported { format, what: what.into() }
    }
}

impl From<fancy_regex::Error> for Error {
    fn from(source: fancy_regex::Error) -> Self {
        Error::Pattern(Box::new(source))
    }
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
