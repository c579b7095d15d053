//! Everything that can be wrong with a task's files: what, where, and how to fix it.

use std::path::{Path, PathBuf};

/// Result of this crate.
pub type Result<T> = std::result::Result<T, TaskError>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// The operating system refused something.
    #[error("{path}: cannot be read: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A line that is not what the format says.
    #[error("{path}, line {line}: {reason}", path = path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The field, the fault and its remedy.
        reason: String,
    },
    /// A file or directory that lacks something, or has nothing.
    #[error("{path}: {reason}", path = path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// The fault and its remedy.
        reason: String,
    },
    /// A task that the bundle does not have.
    #[error("{path} has no task `{task}`: it has {known}", path = path.display())]
    Unknown {
        /// The list of tasks.
        path: PathBuf,
        /// The name asked for.
        task: String,
        /// Names of the tasks that there are.
        known: String,
    },
    /// A task that there is not.
    #[error("there is no task `{name}`: there are {known}")]
    Name {
        /// The name asked for.
        name: String,
        /// Names of the tasks that there are.
        known: String,
    },
    /// A task with a count that is none.
    #[error("`{text}`: behind `*` stands how often the task comes, at least once: `gsm8k*4`")]
    Count {
        /// What was given.
        text: String,
    },
    /// A part that a task does not have.
    #[error("the task `{name}` has no {split} part")]
    Split {
        /// The task.
        name: &'static str,
        /// The part asked for.
        split: &'static str,
    },
    /// A Parquet file cannot be read.
    #[error(transparent)]
    Data(#[from] data::Error),
    /// A row that is not what the task's rows are.
    #[error("{path}, row {row}: {reason}: these are not the rows of the task", path = path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// The row, from 0.
        row: usize,
        /// The field and its fault.
        reason: String,
    },
    /// A program was stopped by whoever runs this one.
    #[error("the program was stopped")]
    Stopped,
    /// Python cannot be run.
    #[error("python3 cannot be run: {reason}")]
    Python {
        /// The fault and its remedy.
        reason: String,
    },
    /// Answers are programs, which were not to be run.
    #[error("answers to `{name}` are programs, which only --allow-code-exec runs")]
    NoPython {
        /// The task.
        name: &'static str,
    },
}

impl TaskError {
    pub(crate) fn line(path: &Path, line: usize, reason: impl Into<String>) -> Self {
        TaskError::Line { path: path.to_owned(), line, reason: reason.into() }
    }

    pub(crate) fn file(path: &Path, reason: impl Into<String>) -> Self {
        TaskError::File { path: path.to_owned(), reason: reason.into() }
    }
}

/// Reads a file of text, without its byte order mark.
pub(crate) fn read(path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path);
    let mut text = text.map_err(|source| TaskError::Io { path: path.to_owned(), source })?;
    if text.starts_with('\u{feff}') {
        text.remove(0);
    }
    Ok(text)
}
