//! The messages of a run that is asked to end, and the command to type next.

use crate::view::resume;
use std::path::Path;
use train::checkpoint;

/// Said as soon as a run is asked to stop.
pub(super) const STOPPING: &str =
    "stopping after this step, saving a checkpoint; Ctrl-C again ends at once";

/// The command to type after a run that a signal ended.
pub(super) fn interrupted(out: &Path) -> String {
    match checkpoint::exists(out) {
        true => format!("\nNext: {}", resume(out)),
        false => "nothing is saved: no step was done".to_owned(),
    }
}
