//! Compiling with a time limit, and again after a pause.
//!
//! A compile in this process runs on a thread of its own. One that hangs is abandoned with everything
//! it holds, which it releases when, and if, the system lets it return. [`super::elsewhere`] has
//! another process compile first, where that is wanted.
//!
//! The system's client has one queue for whatever is compiled, loaded and unloaded with one quality of
//! service, and takes the next from it when the last has ended (as decompiled). So unloading may hang
//! behind a compile that was abandoned, and is abandoned as well.

use super::options::Options;
use ane::AneError;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

/// One compile at a time in a process: the compiler's service fails under load (docs/ane-facts.md A.7).
static TURN: Mutex<()> = Mutex::new(());

/// Time that unloading may take, and loading again; they take 0.5 and 4 ms (docs/ane-facts.md D), and an
/// engine that slept wakes in 0.3 s.
pub(super) const UNLOAD_LIMIT: Duration = Duration::from_secs(10);

/// The abandoned compiles, alive as long as their threads run.
static ABANDONED: Mutex<Vec<Weak<()>>> = Mutex::new(vec![]);

fn abandoned() -> MutexGuard<'static, Vec<Weak<()>>> {
    let mut all = ABANDONED.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|attempt| attempt.strong_count() > 0);
    all
}

/// Waits for, and keeps, the turn to compile. Unloading takes it too, unless it is abandoned: the
/// system then removes the directory of the program, which an equal one may be about to be compiled
/// from.
pub(super) fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why an attempt has no result.
#[derive(Debug)]
pub(super) enum Unfinished<T> {
    /// It takes too long; its result may come here yet.
    Late(Receiver<T>),
    /// No thread, or one that ended without a result.
    Failed(String),
}

/// Runs `attempt` on a thread of its own, which is abandoned after `limit`.
pub(super) fn within<T: Send + 'static>(
    limit: Duration,
    attempt: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Unfinished<T>> {
    let (sender, receiver) = channel();
    let alive = Arc::new(());
    let watched = Arc::downgrade(&alive);
    let spawned = thread::Builder::new().name("engine".to_owned()).spawn(move || {
        let result = attempt();
        drop(alive);
        // Nobody listens any more if the time was up; the result is dropped here then.
        let _ = sender.send(result);
    });
    spawned.map_err(|e| Unfinished::Failed(format!("no thread for the engine: {e}")))?;
    receiver.recv_timeout(limit).map_err(|error| match error {
        RecvTimeoutError::Timeout => {
            abandoned().push(watched);
            Unfinished::Late(receiver)
        }
        RecvTimeoutError::Disconnected => Unfinished::Failed(
            "the thread that called the system ended without a result".to_owned(),
        ),
    })
}

/// Runs `unload` on a thread of its own, which is abandoned when it takes too long, and at once while
/// something that was abandoned hangs. It holds whatever it needs until it ends.
pub(super) fn unload(unload: impl FnOnce() + Send + 'static) {
    let _turn = turn();
    let limit = if abandoned().is_empty() { UNLOAD_LIMIT } else { Duration::ZERO };
    // Without a thread the program is lost until the process ends; there is nobody to tell.
    let _ = within(limit, unload);
}

/// Runs `attempt` on a thread of its own until it succeeds, the tries are used up, its error is one
/// that does not pass, or a try takes too long. `before` is asked before every try.
///
/// `attempt` may not unload its own result, since the turn is taken meanwhile.
///
/// # Errors
/// The error of the last try, of `before`, or [`AneError::CompileTimeout`].
pub(super) fn compile<T: Send + 'static>(
    options: &Options,
    before: impl Fn() -> Result<(), AneError>,
    attempt: impl Fn() -> Result<T, AneError> + Send + Sync + 'static,
) -> Result<T, AneError> {
    let turn = turn();
    let attempt = Arc::new(attempt);
    let mut pauses = options.compile_pauses.iter();
    loop {
        before()?;
        let once = Arc::clone(&attempt);
        let result = match within(options.compile_limit, move || once()) {
            Ok(result) => result,
            Err(Unfinished::Late(receiver)) => {
                // What came too late may lie in the channel, and needs the turn to be unloaded.
                drop(turn);
                drop(receiver);
                let seconds = options.compile_limit.as_secs();
                return Err(AneError::CompileTimeout { seconds });
            }
            Err(Unfinished::Failed(reason)) => return Err(AneError::NoEngine { reason }),
        };
        match (result, pauses.next()) {
            (Err(error), Some(&pause)) if error.is_retryable() => thread::sleep(pause),
            (result, _) => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn quick() -> Options {
        Options {
            compile_limit: Duration::from_millis(50),
            compile_pauses: vec![Duration::from_millis(1); 2],
            ..Options::default()
        }
    }

    fn run(
        attempt: impl Fn(usize) -> Result<u32, AneError> + Send + Sync + 'static,
    ) -> (String, usize) {
        let tries = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&tries);
        let attempt = move || attempt(counted.fetch_add(1, Ordering::SeqCst));
        let result = compile(&quick(), || Ok(()), attempt);
        (result.map_or_else(|e| e.to_string(), |v| v.to_string()), tries.load(Ordering::SeqCst))
    }

    #[test]
    fn passing_failures_are_tried_again_and_others_are_not() {
        let flaky = |n| if n < 2 { Err(AneError::ResourcesExhausted) } else { Ok(7) };
        assert_eq!(run(flaky), ("7".to_owned(), 3));
        assert_eq!(run(|_| Err(AneError::ResourcesExhausted)).1, 3);
        assert_eq!(run(|_| Err(AneError::NoFunction)).1, 1);
        let (message, tries) = run(|_| {
            thread::sleep(Duration::from_millis(200));
            Ok(1)
        });
        assert!(message.contains("did not end") && tries == 1, "{message}");
    }
}
