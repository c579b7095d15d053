//! The thread that computes: takes requests from a queue, steps the engine, hands out events.

use infer::{Engine, Event, InferError, Job, JobId, Stats};
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Mutex, MutexGuard};
use tokio::sync::mpsc::Sender;
use tokio::sync::watch;

/// The jobs of one request: all of them are taken, or none.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) jobs: Vec<Job>,
    /// Takes the answers. Its receiver is dropped when nobody wants them any more.
    pub(crate) to: Sender<Answer>,
}

/// What a request hears.
#[derive(Debug)]
pub(crate) enum Answer {
    /// All jobs are in the engine.
    Accepted,
    /// None is.
    Refused(InferError),
    /// Something happened to a job, by its index in the request.
    Event(usize, Event),
}

/// What the thread that computes tells the others.
#[derive(Debug)]
pub(crate) struct Progress {
    now: Mutex<Now>,
    /// Tokens drawn so far; it changes with every one.
    tokens: watch::Sender<u64>,
    /// Why the engine computes no more.
    ended: watch::Sender<Option<String>>,
}

/// The engine's state after its latest step.
#[derive(Clone, Debug, Default)]
pub(crate) struct Now {
    pub(crate) stats: Stats,
    pub(crate) running: usize,
    pub(crate) waiting: usize,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Progress {
            now: Mutex::default(),
            tokens: watch::Sender::new(0),
            ended: watch::Sender::new(None),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The engine's state after its latest step.
    pub(crate) fn now(&self) -> Now {
        self.lock().clone()
    }

    /// Why the engine computes no more, if it does not.
    pub(crate) fn ended(&self) -> Option<String> {
        self.ended.borrow().clone()
    }

    /// Changes when the engine ends.
    pub(crate) fn end_of_engine(&self) -> watch::Receiver<Option<String>> {
        self.ended.subscribe()
    }

    /// Changes with every token.
    pub(crate) fn tokens(&self) -> watch::Receiver<u64> {
        self.tokens.subscribe()
    }

    /// Records why the engine computes no more.
    pub(crate) fn end(&self, reason: String) {
        self.ended.send_replace(Some(reason));
    }

    fn update(&self, engine: &Engine) {
        let stats = engine.stats();
        let waiting = engine.waiting();
        {
            let mut now = self.lock();
            (now.stats, now.waiting) = (stats, waiting);
            now.running = engine.active() - waiting;
        }
        self.tokens.send_if_modified(|tokens| {
            std::mem::replace(tokens, stats.generated_tokens) != stats.generated_tokens
        });
    }
}

/// Computes until nobody can ask any more.
///
/// # Errors
/// When the engine cannot compute.
pub(crate) fn run(
    engine: Engine,
    queue: &Receiver<Work>,
    progress: &Progress,
) -> Result<(), InferError> {
    let mut worker = Worker { engine, tickets: BTreeMap::new() };
    loop {
        if worker.engine.active() == 0 {
            progress.update(&worker.engine);
            let Ok(work) = queue.recv() else { return Ok(()) };
            worker.accept(work);
        }
        loop {
            match queue.try_recv() {
                Ok(work) => worker.accept(work),
                Err(TryRecvError::Empty) => break,
                // Every receiver of answers went with the last sender of work.
                Err(TryRecvError::Disconnected) => return Ok(()),
            }
        }
        worker.forget_the_departed();
        let events = worker.engine.step()?;
        // Who has an event finds it counted.
        progress.update(&worker.engine);
        for (id, event) in events {
            worker.deliver(id, event);
        }
    }
}

/// An engine, and who waits for its jobs.
struct Worker {
    engine: Engine,
    tickets: BTreeMap<JobId, Ticket>,
}

/// Who waits for a job.
struct Ticket {
    to: Sender<Answer>,
    index: usize,
}

impl Worker {
    fn accept(&mut self, work: Work) {
        let Work { jobs, to } = work;
        let mut taken = vec![];
        for job in jobs {
            match self.engine.submit(job) {
                Ok(id) => taken.push(id),
                Err(error) => {
                    for id in taken {
                        self.engine.cancel(id);
                    }
                    let _ = to.try_send(Answer::Refused(error));
                    return;
                }
            }
        }
        let _ = to.try_send(Answer::Accepted);
        let ticket = |(index, id)| (id, Ticket { to: to.clone(), index });
        self.tickets.extend(taken.into_iter().enumerate().map(ticket));
    }

    /// Ends the jobs whose clients left.
    fn forget_the_departed(&mut self) {
        let engine = &mut self.engine;
        self.tickets.retain(|&id, ticket| {
            let gone = ticket.to.is_closed();
            if gone {
                engine.cancel(id);
            }
            !gone
        });
    }

    /// Hands an event out. A client that does not take it, because it left or reads too slowly, loses the
    /// whole request: the other jobs' senders are dropped with it when they find the same.
    fn deliver(&mut self, id: JobId, event: Event) {
        let Some(ticket) = self.tickets.get(&id) else { return };
        let last = matches!(event, Event::Finished { .. } | Event::Failed(_));
        let taken = ticket.to.try_send(Answer::Event(ticket.index, event)).is_ok();
        if last || !taken {
            self.tickets.remove(&id);
        }
        if !taken {
            self.engine.cancel(id);
        }
    }
}
