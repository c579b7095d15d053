//! Requests that run while their sender does something else.
//!
//! A [`Queue`] owns an executable and a thread that runs it. The machine's own ways are not used:
//! `evaluateWithQoS` returns when the request is done; of events shared with the engine one source
//! says that they hang, another that they work; e5rt's `submit_async` has another name in macOS 26
//! (docs/ane-facts.md D, G.1). A thread costs two context switches and works with every device.

use crate::device::{Executable, Port, RunReport};
use crate::error::AneError;
use crate::surface::Surface;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

type Outcome = Result<RunReport, AneError>;

/// A request on its way, with surfaces that live until it is done.
#[derive(Debug)]
struct Job {
    inputs: Vec<Surface>,
    outputs: Vec<Surface>,
    done: Sender<Outcome>,
}

/// An executable whose requests run on a thread of its own, one after the other, in the order in
/// which they are submitted.
///
/// Dropping it waits for what was submitted, then releases the program.
#[derive(Debug)]
pub struct Queue {
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    /// Closed first: the thread then ends when it has nothing left to do.
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Queue {
    /// Gives `executable` a thread.
    ///
    /// # Errors
    /// [`AneError::NoThread`] when the system has no thread left.
    pub fn new(executable: Box<dyn Executable>) -> Result<Self, AneError> {
        let (inputs, outputs) = (executable.inputs().to_vec(), executable.outputs().to_vec());
        let (jobs, received) = channel();
        let thread = Builder::new()
            .name("requests".to_owned())
            .spawn(move || work(executable, &received))
            .map_err(|e| AneError::NoThread {
                reason: format!("no thread could be started: {e}"),
            })?;
        Ok(Queue { inputs, outputs, jobs: Some(jobs), thread: Some(thread) })
    }

    /// Input ports in binding order.
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// Output ports in binding order.
    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// Submits a request on surfaces given in binding order, and returns at once.
    ///
    /// The inputs are read when the request's turn comes: write them, and read the outputs, after
    /// [`Pending::wait`]. The surfaces may be dropped before.
    #[must_use = "dropping it waits for the request"]
    pub fn submit(&self, inputs: &[&Surface], outputs: &[&Surface]) -> Pending {
        let (done, outcome) = channel();
        let owned = |surfaces: &[&Surface]| surfaces.iter().map(|&s| s.clone()).collect();
        let job = Job { inputs: owned(inputs), outputs: owned(outputs), done };
        // A thread that has ended drops the job: `Pending::wait` then returns an error.
        let _ = self.jobs.as_ref().map(|jobs| jobs.send(job));
        Pending { outcome }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.jobs = None;
        // A panic of the thread was told to those who waited.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn work(mut executable: Box<dyn Executable>, jobs: &Receiver<Job>) {
    for Job { inputs, outputs, done } in jobs {
        let read: Vec<&Surface> = inputs.iter().collect();
        let written: Vec<&Surface> = outputs.iter().collect();
        let outcome = executable.run(&read, &written);
        // The surfaces are free before the outcome is sent.
        drop((inputs, outputs));
        // Nobody listens if the program panics elsewhere.
        let _ = done.send(outcome);
    }
}

/// A request that was submitted. Dropping it waits until the request is done.
#[derive(Debug)]
pub struct Pending {
    outcome: Receiver<Outcome>,
}

impl Pending {
    /// Waits until the request is done.
    ///
    /// # Errors
    /// As [`Executable::run`]; [`AneError::NoThread`] when the thread that runs requests has ended,
    /// as after a panic.
    pub fn wait(self) -> Outcome {
        self.outcome
            .recv()
            .unwrap_or_else(|_| Err(AneError::NoThread { reason: "their thread has ended".into() }))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // Returns at once after `wait`, which took what was sent.
        let _ = self.outcome.recv();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, Emulator};
    use chip::Profile;
    use cpu::Numerics;
    use mil::{Builder, Program, TensorType, Weights};
    use std::sync::{Arc, Mutex};

    #[test]
    fn requests_run_in_order_and_outlive_queue_and_surfaces() {
        let device = Emulator::engine(Profile::default(), Numerics::Fast);
        let b = Builder::new("main");
        let a = b.input("a", TensorType::fp16([1, 32, 1, 32]));
        let program = Program::new(b.finish(&[(a + 1.0).named("y")]).unwrap());
        let queue = Queue::new(device.compile(&program, &Weights::new()).unwrap()).unwrap();
        assert_eq!((queue.inputs()[0].name.as_str(), queue.outputs().len()), ("a", 1));
        let ty = TensorType::fp16([1, 32, 1, 32]);
        let surface = || device.surface(&ty, device.least_allocation()).unwrap();
        let (a, b, last) = (surface(), surface(), surface());
        let mut all = vec![queue.submit(&[&a], &[&b]), queue.submit(&[&b], &[&a])];
        all.push(queue.submit(&[&a], &[&last]));
        let refused = queue.submit(&[&a], &[]);
        drop((a, b));
        drop(queue);
        assert!(matches!(refused.wait(), Err(AneError::SurfaceCount { .. })));
        let last_of_all = all.pop().unwrap();
        drop(all);
        last_of_all.wait().unwrap();
        let mut values = vec![0.0; ty.count()];
        last.read(&mut values).unwrap();
        assert!(values.iter().all(|&v| v == 3.0), "{:?}", &values[..4]);
    }

    /// Says when it is dropped, and panics when it is run.
    #[derive(Debug)]
    struct Bomb(Arc<Mutex<Vec<&'static str>>>);

    impl Executable for Bomb {
        fn inputs(&self) -> &[Port] {
            &[]
        }

        fn outputs(&self) -> &[Port] {
            &[]
        }

        fn run(&mut self, _: &[&Surface], _: &[&Surface]) -> Outcome {
            panic!("as the test wants it");
        }
    }

    impl Drop for Bomb {
        fn drop(&mut self) {
            self.0.lock().unwrap().push("dropped");
        }
    }

    #[test]
    fn a_panic_is_an_error_of_every_request_and_the_program_is_released() {
        let log = Arc::new(Mutex::new(vec![]));
        let queue = Queue::new(Box::new(Bomb(Arc::clone(&log)))).unwrap();
        for pending in [queue.submit(&[], &[]), queue.submit(&[], &[])] {
            let error = pending.wait().unwrap_err().to_string();
            assert!(error.contains("cannot run requests: their thread has ended"), "{error}");
        }
        assert!(queue.submit(&[], &[]).wait().is_err());
        drop(queue);
        assert_eq!(*log.lock().unwrap(), ["dropped"]);
    }
}
