//! The links `latest` and `best` in the directory of a run: names that stay while steps go on.

use super::disk::Disk;
use super::{REPLACED, UNFINISHED, finished, name_of};
use std::fs;
use std::path::{Path, PathBuf};

/// The newest checkpoint.
const LATEST: &str = "latest";
/// The one with the lowest validation loss.
const BEST: &str = "best";

/// Points the links to the newest checkpoint and to that of step `best`. Some file systems have no
/// links; all checkpoints can be found without.
pub(super) fn update(disk: &mut impl Disk, out: &Path, best: Option<u64>) {
    let found = finished(out).unwrap_or_default();
    let newest =
        found.iter().map(|f| &f.1).find(|path| !path.to_string_lossy().ends_with(REPLACED));
    if let Some(name) = newest.and_then(|path| path.file_name()?.to_str()) {
        link(disk, out, LATEST, name);
    }
    if let Some(name) = best.map(name_of).filter(|name| out.join(name).exists()) {
        link(disk, out, BEST, &name);
    }
}

/// Points a link to a neighbour. At every instant the link is the old or the new one. What is there
/// and is not a link stays.
fn link(disk: &mut impl Disk, out: &Path, name: &str, to: &str) {
    let (place, temporary) = (out.join(name), out.join(format!("{UNFINISHED}{name}")));
    match fs::read_link(&place) {
        Ok(present) if present == Path::new(to) => return,
        Err(_) if place.exists() => return,
        _ => {}
    }
    if fs::symlink_metadata(&temporary).is_ok() && disk.remove(&temporary).is_err() {
        return;
    }
    if disk.symlink(Path::new(to), &temporary).is_ok() && disk.rename(&temporary, &place).is_err() {
        let _ = disk.remove(&temporary);
    }
}

/// The checkpoint that a link points to now, else the path itself: the link may point elsewhere while
/// the files of a checkpoint are read.
pub(super) fn target(path: &Path) -> PathBuf {
    match (fs::read_link(path), path.parent()) {
        (Ok(to), Some(parent)) => parent.join(to),
        _ => path.to_owned(),
    }
}
