//! Everything that can go wrong with data: what, where, and how to fix it.

use std::path::{Path, PathBuf};

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused something.
    #[error("{path}: cannot {action}: {source}", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The verb: "read", "write", …
        action: &'static str,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// No space left where a file was to be written.
    #[error(
        "{path}: the disk is full after {written} bytes; free some space and run the command \
         again{}", if *resumable { " (it continues where it stopped)" } else { "" },
        path = path.display()
    )]
    DiskFull {
        /// The file being written.
        path: PathBuf,
        /// Bytes that were written before.
        written: u64,
        /// True if the partial file is kept and continued.
        resumable: bool,
    },
    /// A token file that is not what its name or header says.
    #[error("{path}: {problem}", path = path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// The fault and its remedy.
        problem: String,
    },
    /// A token id outside the vocabulary.
    #[error(
        "{place}: token {position} is {id}, but the vocabulary has only {vocab_size} tokens; use \
         the tokenizer that made these tokens"
    )]
    TokenId {
        /// The file, or "memory".
        place: String,
        /// Index of the first bad token, from 0.
        position: u64,
        /// Its id.
        id: u32,
        /// Number of ids that are allowed.
        vocab_size: u32,
    },
    /// Not enough tokens to train or to validate.
    #[error(
        "{place}: {tokens} tokens are too few for sequences of {seq} (at least {needed} are \
         needed, for training and validation); use more text or a shorter --seq"
    )]
    TooShort {
        /// The file, or "memory".
        place: String,
        /// Tokens that there are.
        tokens: u64,
        /// Sequence length asked for.
        seq: usize,
        /// Fewest tokens that would do.
        needed: u64,
    },
    /// A setting outside its range.
    #[error("{name} is {value}, but must be {expected}")]
    Setting {
        /// Name of the setting.
        name: &'static str,
        /// Its value.
        value: String,
        /// The rule.
        expected: &'static str,
    },
    /// A cursor that belongs to other data.
    #[error(
        "cannot resume: the data has changed since the checkpoint ({what} was {expected}, is \
         {got}); give the same --data and tokenizer, or start a new run"
    )]
    Cursor {
        /// The difference.
        what: &'static str,
        /// As recorded.
        expected: String,
        /// As found.
        got: String,
    },
    /// What is no place of this kind of loader.
    #[error("not a place in this run's data: {0}")]
    Place(#[source] serde_json::Error),
    /// Text that is not UTF-8.
    #[error("{path}: byte {offset} is not valid UTF-8; {advice}", path = path.display())]
    Utf8 {
        /// The file.
        path: PathBuf,
        /// Offset of the first bad byte, from 0.
        offset: u64,
        /// The kind of file, or advice.
        advice: &'static str,
    },
    /// Text of two or four bytes a character.
    #[error(
        "{path}: the text is {encoding}, not UTF-8; convert it first: iconv -f {encoding} -t utf-8 \
         {path} > new.txt", path = path.display()
    )]
    Encoding {
        /// The file.
        path: PathBuf,
        /// The encoding, as `iconv` names it.
        encoding: &'static str,
    },
    /// A line of a `.jsonl` file without a text.
    #[error("{path}:{line}: {problem}", path = path.display())]
    Jsonl {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: u64,
        /// The fault.
        problem: String,
    },
    /// A Parquet file that is damaged, or has no column of texts.
    #[error("{path}: {problem}", path = path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// The fault and its remedy.
        problem: String,
    },
    /// No text where some was expected.
    #[error("{path}: {problem}", path = path.display())]
    NoText {
        /// The file or directory.
        path: PathBuf,
        /// The name that was looked for.
        problem: &'static str,
    },
    /// The tokenizer refused a document.
    #[error("cannot tokenize the document that ends at byte {byte} of the input: {message}")]
    Tokenize {
        /// Bytes of input up to the end of the document.
        byte: u64,
        /// The tokenizer's error.
        message: String,
    },
    /// An example that cannot be read, or not be written in tokens.
    #[error("{place}: {reason}")]
    Example {
        /// Where it stands.
        place: String,
        /// What is wrong, and where.
        reason: String,
    },
    /// No example has anything to learn in its first tokens.
    #[error(
        "none of the {examples} conversations has an answer to learn in its first {seq} tokens; use a longer --seq, or \
         conversations that are shorter"
    )]
    NothingToLearn {
        /// How many there are.
        examples: usize,
        /// Sequence length.
        seq: usize,
    },
    /// The `curl` program is not installed.
    #[error(
        "cannot run `{program}`, which does the transfer; install curl, or download {url} by other \
         means and give the path of the file"
    )]
    CurlMissing {
        /// The program looked for.
        program: String,
        /// The name of the download.
        url: String,
    },
    /// A transfer that failed for good.
    #[error("cannot download {url}: {problem}; {advice}")]
    Transfer {
        /// The name of the download.
        url: String,
        /// The failure.
        problem: String,
        /// The advice.
        advice: String,
    },
    /// A server that refuses access.
    #[error("cannot download {url}: the server answered {status} (access denied): {advice}")]
    Denied {
        /// The name of the download.
        url: String,
        /// Its answer: 401 or 403.
        status: u16,
        /// The advice.
        advice: String,
    },
    /// Downloaded bytes that are not the published ones.
    #[error(
        "{path}: the sha256 is {got}, but {expected} was expected; {advice}", path = path.display()
    )]
    Checksum {
        /// The file.
        path: PathBuf,
        /// Sum expected, in hexadecimal.
        expected: String,
        /// Sum found.
        got: String,
        /// The advice.
        advice: &'static str,
    },
    /// Another process is writing the same file.
    #[error("{path}: another process is downloading this file; wait for it to end", path = path.display())]
    Busy {
        /// The partial file.
        path: PathBuf,
    },
    /// An archive that cannot be unpacked, or that must not.
    #[error("{path}: {problem}", path = path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// Its fault.
        problem: String,
    },
}

impl Error {
    /// Adapter for `map_err`: an I/O error at `path` while doing `action`.
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Error {
        move |source| Error::Io { path: path.to_owned(), action, source }
    }

    /// A failed write, telling a full disk from other causes.
    pub(crate) fn write(
        path: &Path,
        written: u64,
        resumable: bool,
        source: std::io::Error,
    ) -> Error {
        match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Error::DiskFull { path: path.to_owned(), written, resumable }
            }
            _ => Error::Io { path: path.to_owned(), action: "write", source },
        }
    }
}
