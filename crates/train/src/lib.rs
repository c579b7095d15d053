//! Training: optimizer, schedule, step, checkpoint, events.
