//! Being asked to stop: Ctrl-C in a terminal, SIGTERM from `kill`, launchd or systemd, SIGHUP when
//! the terminal goes away.

#![cfg_attr(unix, allow(unsafe_code, reason = "functions of the system: signal, _exit"))]

use anyhow::{Context, Result};

/// Exit code of a program that was interrupted: 128 + SIGINT, as shells have it.
pub(crate) const INTERRUPTED: i32 = 130;

/// Calls `handler`, on a thread of its own, each time the program is asked to stop. A SIGHUP that
/// whoever started the program had ignored, as `nohup` does, stays ignored.
///
/// # Errors
/// When there is a handler already, or the system refuses.
pub(crate) fn on_request(handler: impl FnMut() + Send + 'static) -> Result<()> {
    let hang_up = HangUp::ignore();
    let set = ctrlc::set_handler(handler).context("cannot listen for interrupts");
    hang_up.keep();
    set
}

/// Ends the process without a word to its libraries, whose threads may be anywhere: what they do at
/// an exit may wait for one that hangs. What is still to be printed is lost.
#[cfg(unix)]
pub(crate) fn at_once(status: i32) -> ! {
    // SAFETY: no precondition; nothing of ours is to be done at an exit.
    unsafe { libc::_exit(status) }
}

/// Ends the process.
#[cfg(not(unix))]
pub(crate) fn at_once(status: i32) -> ! {
    std::process::exit(status)
}

/// What SIGHUP did before.
#[cfg(unix)]
struct HangUp(libc::sighandler_t);

#[cfg(unix)]
impl HangUp {
    /// Ignores SIGHUP until the handler is set.
    fn ignore() -> Self {
        // SAFETY: no code of ours runs in the handler.
        HangUp(unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) })
    }

    /// Ignores SIGHUP for good if it was ignored before.
    fn keep(self) {
        if self.0 == libc::SIG_IGN {
            HangUp::ignore();
        }
    }
}

#[cfg(not(unix))]
struct HangUp;

#[cfg(not(unix))]
impl HangUp {
    fn ignore() -> Self {
        HangUp
    }

    fn keep(self) {}
}
