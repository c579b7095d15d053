//! Being asked to stop: Ctrl-C in a terminal, SIGTERM from `kill`, launchd or systemd, SIGHUP when
//! the terminal goes away.

#![cfg_attr(
    unix,
    allow(unsafe_code, reason = "functions of the system: sigaction, write, _exit, termios")
)]

use anyhow::Result;
use train::Reason;

/// A request to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Interrupt,
    Terminate,
    HangUp,
}

impl Signal {
    /// Exit code of a program that this signal ended: 128 + its number, as shells have it.
    pub(crate) fn exit_code(self) -> i32 {
        128 + match self {
            Signal::HangUp => 1,
            Signal::Interrupt => 2,
            Signal::Terminate => 15,
        }
    }

    pub(crate) fn reason(self) -> Reason {
        match self {
            Signal::HangUp => Reason::Hangup,
            Signal::Interrupt => Reason::Interrupted,
            Signal::Terminate => Reason::Terminated,
        }
    }

    /// The signal that ended a run, if one did.
    pub(crate) fn of(reason: Reason) -> Option<Signal> {
        let all = [Signal::HangUp, Signal::Interrupt, Signal::Terminate];
        all.into_iter().find(|signal| signal.reason() == reason)
    }
}

/// An error that ends the program with a signal's exit code and no further word, once everything is
/// saved.
#[derive(Debug)]
pub(crate) struct EndedBy(pub(crate) Signal);

impl std::fmt::Display for EndedBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ended by a signal ({:?})", self.0)
    }
}

impl std::error::Error for EndedBy {}

/// Calls `handler`, on a thread of its own, each time the program is asked to stop. A SIGHUP that
/// whoever started the program had ignored, as `nohup` does, stays ignored.
///
/// # Errors
/// When there is a handler already, or the system refuses.
pub(crate) fn on_request(handler: impl FnMut(Signal) + Send + 'static) -> Result<()> {
    system::on_request(handler)
}

/// Has signals end the programs in Python that this one runs, and then this one. The system would leave them:
/// they are in groups of their own.
///
/// # Errors
/// As [`on_request`].
pub(crate) fn with_programs() -> Result<()> {
    on_request(|signal| at_once(signal.exit_code()))
}

/// Ends the process without a word to its libraries, whose threads may be anywhere: what they do at
/// an exit may wait for one that hangs. What is still to be printed is lost. Programs in Python are killed.
pub(crate) fn at_once(status: i32) -> ! {
    tasks::Python::stop_all();
    system::exit(status)
}

#[cfg(unix)]
mod system {
    use super::Signal;
    use anyhow::{Context, Result, ensure};
    use std::io::{self, Read};
    use std::os::fd::IntoRawFd;
    use std::sync::atomic::{AtomicI32, Ordering};

    const SIGNALS: [(libc::c_int, Signal); 3] = [
        (libc::SIGINT, Signal::Interrupt),
        (libc::SIGTERM, Signal::Terminate),
        (libc::SIGHUP, Signal::HangUp),
    ];

    /// The end of a pipe that handlers write to.
    static PIPE: AtomicI32 = AtomicI32::new(-1);

    /// Passes the number of a signal on to a thread that may do more than a handler.
    extern "C" fn pass_on(signal: libc::c_int) {
        let byte = signal as u8;
        // SAFETY: write(2) may be called in a handler, and `byte` outlives the call. The pipe is
        // read all the time, so the write succeeds and errno stays as it is.
        unsafe { libc::write(PIPE.load(Ordering::Relaxed), (&raw const byte).cast(), 1) };
    }

    pub(super) fn on_request(mut handler: impl FnMut(Signal) + Send + 'static) -> Result<()> {
        let (mut requests, pipe) = io::pipe().context("cannot listen for interrupts")?;
        let pipe = pipe.into_raw_fd();
        let free = PIPE.compare_exchange(-1, pipe, Ordering::Relaxed, Ordering::Relaxed);
        ensure!(free.is_ok(), "the program already listens for interrupts");
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let mut byte = [0];
            while requests.read_exact(&mut byte).is_ok() {
                let number = libc::c_int::from(byte[0]);
                if let Some((_, signal)) = SIGNALS.into_iter().find(|(n, _)| *n == number) {
                    handler(signal);
                }
            }
        })?;
        for (number, signal) in SIGNALS {
            if signal != Signal::HangUp || !is_ignored(number) {
                listen(number).context("cannot listen for interrupts")?;
            }
        }
        Ok(())
    }

    pub(super) fn exit(status: i32) -> ! {
        // SAFETY: no precondition; nothing of ours is to be done at an exit.
        unsafe { libc::_exit(status) }
    }

    fn is_ignored(number: libc::c_int) -> bool {
        // SAFETY: all zeros are a valid sigaction, and nothing but a question is asked.
        let present = unsafe {
            let mut present: libc::sigaction = std::mem::zeroed();
            libc::sigaction(number, std::ptr::null(), &raw mut present);
            present
        };
        present.sa_sigaction == libc::SIG_IGN
    }

    fn listen(number: libc::c_int) -> io::Result<()> {
        // SAFETY: all zeros are a valid sigaction; the handler does nothing that handlers may not.
        let result = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = pass_on as extern "C" fn(libc::c_int) as libc::sighandler_t;
            // Calls of the system that a signal falls into go on.
            action.sa_flags = libc::SA_RESTART;
            libc::sigaction(number, &raw const action, std::ptr::null_mut())
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

#[cfg(not(unix))]
mod system {
    use super::Signal;
    use anyhow::{Context, Result};

    pub(super) fn on_request(mut handler: impl FnMut(Signal) + Send + 'static) -> Result<()> {
        ctrlc::set_handler(move || handler(Signal::Interrupt))
            .context("cannot listen for interrupts")
    }

    pub(super) fn exit(status: i32) -> ! {
        std::process::exit(status)
    }
}

/// The modes of the terminal on standard input, which an editor of lines changes.
#[cfg(unix)]
pub(crate) struct Modes(Option<libc::termios>);

#[cfg(unix)]
impl Modes {
    /// Those that are set now.
    pub(crate) fn now() -> Self {
        // SAFETY: all zeros are a valid termios, which the call fills in if it succeeds.
        let (found, modes) = unsafe {
            let mut modes: libc::termios = std::mem::zeroed();
            (libc::tcgetattr(libc::STDIN_FILENO, &raw mut modes), modes)
        };
        Modes((found == 0).then_some(modes))
    }

    /// Sets them again.
    pub(crate) fn restore(&self) {
        if let Some(modes) = &self.0 {
            // SAFETY: the modes were read from a terminal.
            unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, modes) };
        }
    }
}

/// The modes of a console, which nobody changes for good.
#[cfg(not(unix))]
pub(crate) struct Modes;

#[cfg(not(unix))]
impl Modes {
    pub(crate) fn now() -> Self {
        Modes
    }

    pub(crate) fn restore(&self) {}
}
