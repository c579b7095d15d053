//! The directory in which the system looks for a program's text and weights (docs/ane-facts.md A.4).

use super::cache::unique;
use crate::error::AppleError;
use ane::AneError;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

/// The prefix of weight paths in programs.
const PREFIX: &str = "@model_path/";

/// The program's text in its directory (docs/ane-facts.md A.4).
pub(super) const PROGRAM: &str = "model.mil";

/// Directories in use by this process, and by how many programs: equal programs share one, since
/// the system names it after the contents.
fn users() -> MutexGuard<'static, BTreeMap<PathBuf, usize>> {
    static USERS: OnceLock<Mutex<BTreeMap<PathBuf, usize>>> = OnceLock::new();
    let users = USERS.get_or_init(Mutex::default);
    users.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A program's directory: `model.mil` and `weights/…`. Removed when the last of its users is gone.
#[derive(Debug)]
pub(super) struct ModelDirectory {
    path: PathBuf,
}

/// Text and weight files of a program.
#[derive(Debug)]
pub(super) struct Sources {
    pub(super) text: String,
    pub(super) weights: mil::Weights,
}

impl Sources {
    /// Writes the program's files below `path`.
    pub(super) fn write(&self, path: &Path) -> Result<(), AneError> {
        let write = |name: &str, bytes: &[u8]| -> Result<(), AneError> {
            let file = path.join(name);
            let failed = |what, error: std::io::Error| {
                let (path, reason) = (file.display().to_string(), error.to_string());
                AneError::from(AppleError::File { what, path, reason })
            };
            if let Some(parent) = file.parent() {
                fs::create_dir_all(parent).map_err(|e| failed("make the directory of", e))?;
            }
            replace(&file, bytes).map_err(|e| failed("write", e))
        };
        fs::create_dir_all(path.join("weights")).map_err(|e| AppleError::File {
            what: "make the directory",
            path: path.display().to_string(),
            reason: e.to_string(),
        })?;
        write(PROGRAM, self.text.as_bytes())?;
        for (name, bytes) in &self.weights {
            write(inside(name)?, bytes)?;
        }
        Ok(())
    }

    /// Reads what [`Sources::write`] wrote below `path`.
    pub(super) fn read(path: &Path) -> Result<Self, AneError> {
        let failed = |file: &Path| {
            let path = file.display().to_string();
            move |e: std::io::Error| AppleError::File { what: "read", path, reason: e.to_string() }
        };
        let text_file = path.join(PROGRAM);
        let text = fs::read_to_string(&text_file).map_err(failed(&text_file))?;
        let mut weights = mil::Weights::new();
        let mut left = vec![path.to_owned()];
        while let Some(next) = left.pop() {
            for item in fs::read_dir(&next).map_err(failed(&next))? {
                let file = item.map_err(failed(&next))?.path();
                if file.is_dir() {
                    left.push(file);
                } else if file != text_file {
                    let name = file.strip_prefix(path).unwrap_or(&file).to_string_lossy();
                    let bytes = fs::read(&file).map_err(failed(&file))?;
                    weights.insert(format!("{PREFIX}{name}"), bytes);
                }
            }
        }
        Ok(Sources { text, weights })
    }
}

/// Writes a file at once: a process that reads an equal program meanwhile finds all of it.
fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = file.with_file_name(format!("new-{}", unique()));
    let replaced = fs::write(&new, bytes).and_then(|()| fs::rename(&new, file));
    if replaced.is_err() {
        // There is nothing more to do if that fails as well.
        let _ = fs::remove_file(&new);
    }
    replaced
}

impl ModelDirectory {
    /// Writes the files of a program to `path`.
    pub(super) fn create(path: &Path, sources: &Arc<Sources>) -> Result<Self, AneError> {
        // Counted first, so that whatever was written is removed if a later file fails.
        *users().entry(path.to_owned()).or_default() += 1;
        let directory = ModelDirectory { path: path.to_owned() };
        sources.write(path)?;
        Ok(directory)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the directory to the process that asked for the compile, which makes the same one.
    pub(super) fn leave(self) {
        users().remove(&self.path);
        std::mem::forget(self);
    }
}

impl Drop for ModelDirectory {
    fn drop(&mut self) {
        let mut users = users();
        let left = users.get_mut(&self.path).map_or(0, |n| {
            *n -= 1;
            *n
        });
        if left == 0 {
            users.remove(&self.path);
            // The system may have removed it already; what cannot be removed stays in a temporary
            // directory.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Where a weight file lies in the directory: below it, whatever the program says.
fn inside(name: &str) -> Result<&str, AneError> {
    let inner = name.strip_prefix(PREFIX).unwrap_or_default();
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    match !inner.is_empty() && inner.split('/').all(plain) {
        true => Ok(inner),
        false => Err(AppleError::File {
            what: "place the weight file",
            path: name.to_owned(),
            reason: format!("its name must be `{PREFIX}` and a path below that"),
        }
        .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weight_files_stay_below_the_directory() {
        assert_eq!(inside("@model_path/weights/w.bin").unwrap(), "weights/w.bin");
        for bad in ["weights/w.bin", "@model_path/", "@model_path/../w", "@model_path//w", "/etc/x"]
        {
            assert!(inside(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn whoever_reads_a_file_that_is_written_again_finds_all_of_it() {
        let path = std::env::temp_dir().join(format!("anegpt-whole-{}", std::process::id()));
        let file = "weights/w.bin";
        let weights = [(format!("@model_path/{file}"), vec![7; 1 << 20])].into();
        let sources = Arc::new(Sources { text: "program(1.3)".to_owned(), weights });
        let directory = ModelDirectory::create(&path, &sources).unwrap();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| (0..50).try_for_each(|_| sources.write(&path)));
            while !writer.is_finished() {
                assert_eq!(fs::read(path.join(file)).unwrap().len(), 1 << 20);
            }
            writer.join().unwrap().unwrap();
        });
        assert_eq!(fs::read_dir(path.join("weights")).unwrap().count(), 1, "nothing else is left");
        drop(directory);
    }

    #[test]
    fn equal_programs_share_a_directory() {
        let path = std::env::temp_dir().join(format!("anegpt-files-{}", std::process::id()));
        let weights = [("@model_path/weights/w.bin".to_owned(), vec![1, 2])].into();
        let sources = Arc::new(Sources { text: "program(1.3)".to_owned(), weights });
        let first = ModelDirectory::create(&path, &sources).unwrap();
        let second = ModelDirectory::create(&path, &sources).unwrap();
        drop(first);
        assert_eq!(fs::read(path.join("weights/w.bin")).unwrap(), [1, 2]);
        assert_eq!(fs::read_to_string(second.path().join("model.mil")).unwrap(), "program(1.3)");
        drop(second);
        assert!(!path.exists());
    }
}
