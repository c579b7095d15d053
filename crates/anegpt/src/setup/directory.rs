//! Where a run writes.

use crate::usage;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use train::{Lock, checkpoint};

/// The place of a run, locked from the first look at it.
pub(crate) struct Place {
    /// The directory, where it is known before the run begins.
    named: Option<(Lock, PathBuf)>,
    /// A directory that was created to be locked, which is removed again if no run begins in it.
    created: Option<PathBuf>,
}

impl Place {
    /// Locks the directory of a run that resumes from `resume`, or writes to `out`, if either is given, and tidies
    /// it up.
    ///
    /// # Errors
    /// When it cannot be written to, or holds a run that is not to go on.
    pub(crate) fn claim(resume: Option<&Path>, out: Option<&Path>) -> Result<Place> {
        let Some(out) = output_directory(resume, out)? else {
            return Ok(Place { named: None, created: None });
        };
        let created = Some(out.clone()).filter(|out| !out.exists());
        let place = Place { named: Some((Lock::acquire(&out)?, out.clone())), created };
        checkpoint::remove_unfinished(&out)?;
        Ok(place)
    }

    /// The directory, for a run that begins now, and the right to write to it.
    ///
    /// # Errors
    /// When none can be created.
    pub(crate) fn take(mut self) -> Result<(Lock, PathBuf)> {
        self.created = None;
        match self.named.take() {
            Some(named) => Ok(named),
            None => next_free_directory(),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(out) = &self.created {
            // What cannot be removed does no harm.
            let _ = Lock::remove(out);
        }
    }
}

/// The directory to write to, where it is known: that of the resumed run or the one asked for.
pub(crate) fn output_directory(
    resume: Option<&Path>,
    out: Option<&Path>,
) -> Result<Option<PathBuf>> {
    if let (Some(directory), None) = (resume, out) {
        return match directory.join("state.json").exists() {
            true => run_of(directory).map(Some),
            // Locking a directory creates it; a mistyped path is to leave nothing behind.
            false if !directory.exists() => {
                bail!("{}: no checkpoint here: there is no such directory", directory.display())
            }
            false if !directory.is_dir() => Err(usage(format!(
                "{}: no checkpoint here: it is a file; --resume takes the directory of a run or of a checkpoint",
                directory.display()
            ))),
            false => Ok(Some(directory.to_owned())),
        };
    }
    match out {
        Some(out) if resume.is_none() && checkpoint::exists(out) => Err(usage(format!(
            "{} already holds a run: go on with --resume {0}, or choose another --out",
            out.display()
        ))),
        out => Ok(out.map(Path::to_owned)),
    }
}

/// The directory of the run that a checkpoint belongs to.
fn run_of(checkpoint: &Path) -> Result<PathBuf> {
    let parent = match checkpoint.file_name() {
        Some(_) => checkpoint.parent().map(Path::to_owned),
        // `.` and `..` do not tell by their names where they are.
        None => {
            let place = checkpoint.canonicalize();
            let place = place.with_context(|| format!("cannot find {}", checkpoint.display()))?;
            place.parent().map(Path::to_owned)
        }
    };
    Ok(parent.filter(|path| !path.as_os_str().is_empty()).unwrap_or_else(|| PathBuf::from(".")))
}

/// Creates and locks the first out/run-N that does not exist: last thing before the first step, so
/// that requests that cannot be met leave nothing behind.
fn next_free_directory() -> Result<(Lock, PathBuf)> {
    let path = reserve_directory()?;
    Ok((Lock::acquire(&path)?, path))
}

/// Creates the first out/run-N that does not exist: never that of another run that begins at the same time.
///
/// # Errors
/// When none can be created.
pub(crate) fn reserve_directory() -> Result<PathBuf> {
    std::fs::create_dir_all("out").context("cannot create the directory out")?;
    for n in 1u64.. {
        let path = PathBuf::from(format!("out/run-{n}"));
        match std::fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => {
                return Err(e).with_context(|| format!("cannot create {}", path.display()));
            }
        }
    }
    unreachable!("there are more numbers than directories")
}
