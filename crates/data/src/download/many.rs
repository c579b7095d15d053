//! Several files at once.

use super::{Download, Downloaded, Progress};
use crate::error::Result;
use std::collections::VecDeque;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};

/// How far several files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overall {
    /// Files that are complete.
    pub files: usize,
    /// Bytes done.
    pub done: u64,
    /// Bytes in all; an estimate while the sizes of some files are not known.
    pub total: Option<u64>,
}

/// What a worker tells.
enum Told {
    Progress(usize, Progress),
    End(usize, Result<Downloaded>),
}

/// Fetches files, `at_once` of them at a time, and returns what became of them in their order. After a
/// failure no further file is begun; those under way are finished.
///
/// # Errors
/// The first failure.
pub fn fetch_all(
    downloads: &[Download],
    at_once: usize,
    progress: &mut dyn FnMut(Overall),
) -> Result<Vec<Downloaded>> {
    let waiting: Mutex<VecDeque<usize>> = Mutex::new((0..downloads.len()).collect());
    let mut state = State::new(downloads.len());
    std::thread::scope(|scope| {
        let (tell, told) = channel();
        for _ in 0..at_once.clamp(1, downloads.len().max(1)) {
            let (tell, waiting) = (tell.clone(), &waiting);
            scope.spawn(move || work(downloads, waiting, &tell));
        }
        drop(tell);
        for told in told {
            state.hear(told);
            progress(state.overall());
        }
    });
    state.result()
}

/// Fetches one file after the other while there are any.
fn work(downloads: &[Download], waiting: &Mutex<VecDeque<usize>>, tell: &Sender<Told>) {
    let lock = || waiting.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let Some(n) = lock().pop_front() else { return };
        let result = downloads[n].run(&mut |progress| {
            // The receiver is there until all workers have ended.
            let _ = tell.send(Told::Progress(n, progress));
        });
        if result.is_err() {
            lock().clear();
        }
        let _ = tell.send(Told::End(n, result));
    }
}

struct State {
    /// Bytes done and in all, of files that were begun.
    bytes: Vec<Option<(u64, Option<u64>)>>,
    ended: Vec<Option<Downloaded>>,
    failure: Option<crate::error::Error>,
}

impl State {
    fn new(files: usize) -> State {
        State { bytes: vec![None; files], ended: vec![None; files], failure: None }
    }

    fn hear(&mut self, told: Told) {
        match told {
            Told::Progress(n, progress) => {
                // Checking a file counts from its beginning again.
                let before = self.bytes[n].map_or(0, |(done, _)| done);
                self.bytes[n] = Some((progress.done.max(before), progress.total));
            }
            Told::End(n, Ok(downloaded)) => {
                self.bytes[n] = Some((downloaded.bytes, Some(downloaded.bytes)));
                self.ended[n] = Some(downloaded);
            }
            Told::End(_, Err(error)) => drop(self.failure.get_or_insert(error)),
        }
    }

    fn overall(&self) -> Overall {
        let begun = self.bytes.iter().flatten();
        let done = begun.clone().map(|(done, _)| done).sum();
        let sizes: Vec<u64> = begun.filter_map(|(_, total)| *total).collect();
        // Files of one data set are nearly of one size.
        let known: u128 = sizes.iter().map(|size| u128::from(*size)).sum();
        let all = self.bytes.len() as u128;
        let total = (!sizes.is_empty()).then(|| (known * all / sizes.len() as u128) as u64);
        let files = self.ended.iter().flatten().count();
        Overall { files, done, total: total.map(|total| total.max(done)) }
    }

    fn result(self) -> Result<Vec<Downloaded>> {
        match self.failure {
            Some(error) => Err(error),
            None => Ok(self.ended.into_iter().flatten().collect()),
        }
    }
}
