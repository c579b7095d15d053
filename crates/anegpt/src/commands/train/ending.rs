//! What is said of a run that is asked to end, or whose text is small, and what to type next.

use crate::view::resume;
use std::path::Path;
use train::{Pretrain, checkpoint};

/// Said as soon as a run is asked to stop.
pub(super) const STOPPING: &str =
    "stopping after this step, saving a checkpoint; Ctrl-C again ends at once";

/// Times that a text is seen before a warning is due.
const OFTEN: f64 = 4.0;
/// Times that a small text is seen in the advice.
const ADVISED: f64 = 3.0;

/// A warning where the text is seen more often than a model learns from.
pub(super) fn too_often(pretrain: &Pretrain, epochs: f64) -> Option<String> {
    let steps = pretrain.config().schedule.total;
    let fewer = ((steps as f64 * ADVISED / epochs) as u64).max(1);
    (epochs > OFTEN).then(|| {
        format!(
            "the text is small: all of it will be seen {epochs:.1} times in {steps} steps, and a model \
             may learn it by heart instead of learning from it. More text helps, or --steps {fewer}; \
             the checkpoint with the lowest validation loss is kept as `best`"
        )
    })
}

/// What to type after a run that a signal ended.
pub(super) fn interrupted(out: &Path) -> String {
    match checkpoint::exists(out) {
        true => format!("\nNext: {}", resume(out)),
        false => "nothing is saved: no step was done".to_owned(),
    }
}
