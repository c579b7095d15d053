//! Where a run writes.

use crate::setup::RunArgs;
use crate::usage;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use train::{Lock, checkpoint};

/// The directory to write to, where it is known: that of the resumed run or the one asked for.
pub(super) fn output_directory(args: &RunArgs) -> Result<Option<PathBuf>> {
    if let (Some(directory), None) = (&args.resume, &args.out) {
        return match directory.join("state.json").exists() {
            true => run_of(directory).map(Some),
            // Locking a directory creates it; a mistyped path is to leave nothing behind.
            false if !directory.exists() => {
                bail!("{}: no checkpoint here: there is no such directory", directory.display())
            }
            false => Ok(Some(directory.clone())),
        };
    }
    match &args.out {
        Some(out) if args.resume.is_none() && checkpoint::exists(out) => Err(usage(format!(
            "{} already holds a run: go on with --resume {0}, or choose another --out",
            out.display()
        ))),
        out => Ok(out.clone()),
    }
}

/// The directory of the run that a checkpoint belongs to.
pub(super) fn run_of(checkpoint: &Path) -> Result<PathBuf> {
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

/// A directory that was created to be locked, which is removed again if no run begins in it.
pub(super) struct Unused(pub(super) Option<PathBuf>);

impl Drop for Unused {
    fn drop(&mut self) {
        if let Some(out) = &self.0 {
            // What cannot be removed does no harm.
            let _ = Lock::remove(out);
        }
    }
}

/// Creates and locks the first out/run-N that does not exist: last thing before the first step, so
/// that requests that cannot be met leave nothing behind, and never that of another run that
/// begins at the same time.
pub(super) fn next_free_directory() -> Result<(Lock, PathBuf)> {
    std::fs::create_dir_all("out").context("cannot create the directory out")?;
    for n in 1u64.. {
        let path = PathBuf::from(format!("out/run-{n}"));
        match std::fs::create_dir(&path) {
            Ok(()) => return Ok((Lock::acquire(&path)?, path)),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => {
                return Err(e).with_context(|| format!("cannot create {}", path.display()));
            }
        }
    }
    unreachable!("there are more numbers than directories")
}
