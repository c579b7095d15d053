//! Checkpoints written while training goes on.
//!
//! Between two updates nothing changes weights and moments, so a thread may write them, without a
//! copy, while forward and backward passes run; the next update waits for it.

use crate::checkpoint::{self, CheckpointError, Contents, Tensors};
use gpt::Layout;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

/// What the optimizer changes: the arena of weights and those of its moments.
#[derive(Debug)]
pub(crate) struct Arenas {
    /// f32 masters.
    pub(crate) params: Vec<f32>,
    /// Means of gradients.
    pub(crate) m: Vec<f32>,
    /// Means of squared gradients.
    pub(crate) v: Vec<f32>,
}

/// Everything that a checkpoint holds.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) step: u64,
    /// Step of the checkpoint with the lowest validation loss, perhaps this one.
    pub(crate) best: Option<u64>,
    pub(crate) layout: Layout,
    pub(crate) arenas: Arc<Arenas>,
    pub(crate) texts: Vec<(&'static str, String)>,
    pub(crate) state: serde_json::Value,
    pub(crate) directory: PathBuf,
    pub(crate) keep: usize,
}

/// A checkpoint that was written.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) step: u64,
    pub(crate) path: PathBuf,
    pub(crate) seconds: f64,
    /// True if it is the best so far.
    pub(crate) best: bool,
}

impl Snapshot {
    pub(crate) fn write(self) -> Result<Written, CheckpointError> {
        let start = Instant::now();
        let Snapshot { step, best, layout, arenas, texts, state, directory, keep } = self;
        let mut moments = tensors(&layout, &arenas.m, ".m");
        moments.extend(tensors(&layout, &arenas.v, ".v"));
        let contents = Contents {
            step,
            best,
            tensors: vec![
                ("model.safetensors", tensors(&layout, &arenas.params, "")),
                ("optimizer.safetensors", moments),
            ],
            texts,
            state,
        };
        let path = checkpoint::write(&directory, &contents, keep)?;
        let best = best == Some(step);
        Ok(Written { step, path, seconds: start.elapsed().as_secs_f64(), best })
    }
}

fn tensors<'a>(layout: &Layout, arena: &'a [f32], suffix: &str) -> Tensors<'a> {
    (layout.params().iter())
        .map(|p| (format!("{}{suffix}", p.name), p.shape.clone(), &arena[p.range()]))
        .collect()
}

/// At most one checkpoint in the making. Dropping it waits for that one.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    running: Option<JoinHandle<Result<Written, CheckpointError>>>,
    written: Vec<Written>,
}

impl Writer {
    /// Starts to write, after what is being written.
    ///
    /// # Errors
    /// That of the checkpoint before.
    pub(crate) fn start(&mut self, snapshot: Snapshot) -> Result<(), CheckpointError> {
        self.wait()?;
        self.running = Some(std::thread::spawn(|| snapshot.write()));
        Ok(())
    }

    /// Waits until nothing is being written.
    ///
    /// # Errors
    /// When the checkpoint could not be written; earlier ones stay.
    pub(crate) fn wait(&mut self) -> Result<(), CheckpointError> {
        if let Some(thread) = self.running.take() {
            match thread.join() {
                Ok(result) => self.written.push(result?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(())
    }

    /// Checkpoints finished since the last call.
    ///
    /// # Errors
    /// As [`Writer::wait`].
    pub(crate) fn finished(&mut self) -> Result<Vec<Written>, CheckpointError> {
        if self.running.as_ref().is_some_and(JoinHandle::is_finished) {
            self.wait()?;
        }
        Ok(std::mem::take(&mut self.written))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Whatever ended the run, a checkpoint that was begun is finished; if it fails, earlier ones
        // are there.
        if let Some(thread) = self.running.take() {
            let _ = thread.join();
        }
    }
}
