//! Results that are kept as they come, so that an evaluation that was killed goes on where it was.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Why results cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The operating system refused something.
    #[error("{path}: cannot {action}: {source}", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The verb.
        action: &'static str,
        /// The operating system's error.
        source: io::Error,
    },
    /// Another process writes to it.
    #[error("{path}: another evaluation is writing here; wait for it, or write elsewhere", path = path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// It holds the results of something else.
    #[error("{path}: these are results of another evaluation: {differences}", path = path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What differs.
        differences: String,
        /// How it describes what it holds.
        there: Box<Value>,
    },
    /// A line is no result.
    #[error("{path}, line {line}: not a result of an evaluation: {reason}", path = path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The fault.
        reason: String,
    },
}

/// A file of JSON lines: the first says what was evaluated and how, each of the others is a result.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Opens the results of an evaluation that `header` describes, and reads those that are there; begins a
    /// file if there is none. What was cut off by a kill is removed. No other process may write meanwhile.
    ///
    /// # Errors
    /// When the file is of another evaluation, damaged, or in use.
    pub fn open<T: DeserializeOwned>(
        path: &Path,
        header: &Value,
    ) -> Result<(Self, Vec<T>), JournalError> {
        let fault = |action, path: &Path| {
            let path = path.to_owned();
            move |source| JournalError::Io { path, action, source }
        };
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(fault("create the directory", directory))?;
        }
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = file.map_err(fault("open", path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(JournalError::Busy { path: path.to_owned() });
            }
            // Some file systems have no locks.
            Err(TryLockError::Error(_)) => {}
        }
        let mut bytes = vec![];
        file.read_to_end(&mut bytes).map_err(fault("read", path))?;
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64).map_err(fault("cut", path))?;
        file.seek(SeekFrom::End(0)).map_err(fault("read", path))?;
        let mut journal = Journal { path: path.to_owned(), file };
        let entries = match whole {
            0 => {
                journal.add(header)?;
                vec![]
            }
            whole => journal.entries(&bytes[..whole], header)?,
        };
        Ok((journal, entries))
    }

    fn entries<T: DeserializeOwned>(
        &self,
        bytes: &[u8],
        header: &Value,
    ) -> Result<Vec<T>, JournalError> {
        let mut lines =
            (1..).zip(bytes.strip_suffix(b"\n").unwrap_or(bytes).split(|&b| b == b'\n'));
        let (_, first) = lines.next().expect("there is a line");
        let found: Value = serde_json::from_slice(first).map_err(|error| self.line(1, &error))?;
        let differences = differences(&found, header, "");
        if !differences.is_empty() {
            let (path, differences) = (self.path.clone(), differences.join("; "));
            return Err(JournalError::Other { path, differences, there: Box::new(found) });
        }
        let read =
            |(line, text)| serde_json::from_slice(text).map_err(|error| self.line(line, &error));
        lines.map(read).collect()
    }

    fn line(&self, line: usize, error: &serde_json::Error) -> JournalError {
        JournalError::Line { path: self.path.clone(), line, reason: error.to_string() }
    }

    /// Adds a result. It is kept once this returns, even if the process is killed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, entry: &impl Serialize) -> Result<(), JournalError> {
        let mut line = serde_json::to_vec(entry).expect("plain data");
        line.push(b'\n');
        let (path, action) = (self.path.clone(), "write");
        self.file.write_all(&line).map_err(|source| JournalError::Io { path, action, source })
    }

    /// Has the system write everything to the disk.
    ///
    /// # Errors
    /// When it cannot.
    pub fn sync(&self) -> Result<(), JournalError> {
        let (path, action) = (self.path.clone(), "write");
        self.file.sync_all().map_err(|source| JournalError::Io { path, action, source })
    }
}

/// The entries in which two descriptions differ; `place` is the names of the objects around them.
fn differences(there: &Value, here: &Value, place: &str) -> Vec<String> {
    let (Value::Object(one), Value::Object(other)) = (there, here) else {
        let words = format!("`{place}`: {there} there, {here} here");
        return if there == here { vec![] } else { vec![words] };
    };
    let keys = one.keys().chain(other.keys().filter(|&key| !one.contains_key(key)));
    let below = |key: &String| {
        let (one, other) = (one.get(key), other.get(key));
        let place = [place, key].into_iter().filter(|name| !name.is_empty());
        let place = place.collect::<Vec<_>>().join(".");
        differences(one.unwrap_or(&Value::Null), other.unwrap_or(&Value::Null), &place)
    };
    keys.flat_map(below).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn open(path: &Path, header: &Value) -> Result<(Journal, Vec<u32>), String> {
        Journal::open(path, header).map_err(|error| error.to_string())
    }

    #[test]
    fn goes_on_after_any_cut() {
        let directory = tempfile::tempdir().unwrap();
        let (whole, cut) = (directory.path().join("a/whole"), directory.path().join("cut"));
        let header = json!({"model": "x"});
        let write = |path: &Path| {
            let (mut journal, entries) = open(path, &header).unwrap();
            (entries.len() as u32..5).for_each(|i| journal.add(&(100 * i)).unwrap());
            entries
        };
        assert_eq!(write(&whole), [0; 0]);
        let bytes = fs::read(&whole).unwrap();
        for length in 0..=bytes.len() {
            fs::write(&cut, &bytes[..length]).unwrap();
            let found = write(&cut);
            assert_eq!(found, [0, 100, 200, 300, 400][..found.len()], "{length}");
            assert_eq!(fs::read(&cut).unwrap(), bytes, "{length}");
        }
        assert_eq!(write(&whole).len(), 5);
    }

    #[test]
    fn what_is_of_another_evaluation_is_refused_and_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        let header = json!({"model": "x", "core": {"shots": 3, "tasks": ["a"]}});
        open(&path, &header).unwrap().0.add(&1).unwrap();
        let bytes = fs::read(&path).unwrap();
        let other = json!({"model": "y", "core": {"shots": 4, "tasks": ["a"]}, "bpb": 1});
        let error = open(&path, &other).unwrap_err();
        for part in [
            "`model`: \"x\" there, \"y\" here",
            "`core.shots`: 3 there, 4 here",
            "`bpb`: null there, 1 here",
        ] {
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(fs::read(&path).unwrap(), bytes);
        fs::write(&path, [&bytes[..], b"{\n2\n"].concat()).unwrap();
        assert!(open(&path, &header).unwrap_err().contains("x, line 3: not a result"));
    }

    #[test]
    fn only_one_process_writes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        let first = open(&path, &json!({})).unwrap();
        assert!(open(&path, &json!({})).unwrap_err().contains("another evaluation is writing"));
        drop(first);
        open(&path, &json!({})).unwrap();
    }
}
