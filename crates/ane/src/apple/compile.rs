//! Compiling with a time limit, and again after a pause.
//!
//! A compile cannot move to a child process: a compiled program belongs to the process that
//! compiled it (docs/ane-facts.md D "HWX", AF). So it runs on a thread of its own. One that hangs is
//! abandoned with everything it holds, which it releases when, and if, the system lets it return.

use super::Options;
use crate::error::AneError;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// One compile at a time in a process: the compiler's service fails under load (docs/ane-facts.md A.7).
static TURN: Mutex<()> = Mutex::new(());

/// Waits for, and keeps, the turn to compile. Unloading takes it too: the system then removes the
/// directory of the program, which an equal one may be about to be compiled from.
pub(super) fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `attempt` on a thread of its own until it succeeds, the tries are used up, its error is one
/// that does not pass, or a try takes too long. `before` is asked before every try.
///
/// What `attempt` makes may not be unloaded by `attempt` itself, since the turn is taken meanwhile.
///
/// # Errors
/// That of the last try, of `before`, or [`AneError::CompileTimeout`].
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
        let (sender, receiver) = channel();
        let once = Arc::clone(&attempt);
        let spawned = thread::Builder::new().name("compile".to_owned()).spawn(move || {
            // Nobody listens any more if the time was up; the result is dropped here then.
            let _ = sender.send(once());
        });
        spawned.map_err(|e| AneError::NoEngine { reason: format!("no thread to compile: {e}") })?;
        let seconds = options.compile_limit.as_secs();
        let result = match receiver.recv_timeout(options.compile_limit) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => {
                // What came too late may lie in the channel, and needs the turn to be unloaded.
                drop(turn);
                drop(receiver);
                return Err(AneError::CompileTimeout { seconds });
            }
            Err(RecvTimeoutError::Disconnected) => {
                let reason = "the thread that compiled ended without a result".to_owned();
                return Err(AneError::NoEngine { reason });
            }
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
    use std::time::Duration;

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
