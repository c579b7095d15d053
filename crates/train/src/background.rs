//! Checkpoints written while training goes on.
//!
//! Between two updates nothing changes weights and the optimizer's state, so a thread may write them, without a
//! copy, while forward and backward passes run; the next update waits for it.

use crate::checkpoint::{self, CheckpointError, Contents, Tensors};
use crate::update::Descent;
use gpt::Parameters;
use gpt::params::Stored;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

/// Everything that a checkpoint holds.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) step: u64,
    /// Step of the checkpoint with the lowest validation loss, perhaps this one.
    pub(crate) best: Option<u64>,
    pub(crate) parameters: Parameters,
    pub(crate) descent: Arc<Descent>,
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
        let Snapshot { step, best, parameters, descent, texts, state, directory, keep } = self;
        let (values, moments) = (parameters.read(), descent.state());
        let contents = Contents {
            step,
            best,
            tensors: vec![
                ("model.safetensors", weights(&parameters, &values)),
                ("optimizer.safetensors", moments.tensors()),
            ],
            texts,
            state,
        };
        let path = checkpoint::write(&directory, &contents, keep)?;
        let best = best == Some(step);
        Ok(Written { step, path, seconds: start.elapsed().as_secs_f64(), best })
    }
}

fn weights<'a>(parameters: &Parameters, values: &'a [f32]) -> Tensors<'a> {
    let layout = parameters.layout();
    let named = |t: &Stored| (t.name.clone(), t.shape.clone(), layout.stored(t, values));
    layout.tensors().iter().map(named).collect()
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
    /// The step of the checkpoint before.
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
