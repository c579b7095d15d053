//! Standard output and standard error, which may end before we do.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};

/// As the standard library's, which panics when the reader has gone away (`anegpt … | head`).
macro_rules! println {
    () => { println!("") };
    ($($text:tt)*) => { $crate::output::say(format_args!($($text)*), "\n") };
}

/// As the standard library's, which panics when the reader has gone away.
macro_rules! print {
    ($($text:tt)*) => { $crate::output::say(format_args!($($text)*), "") };
}

/// As the standard library's, which panics when standard error cannot be written to (a full disk).
macro_rules! eprintln {
    () => { eprintln!("") };
    ($($text:tt)*) => { $crate::output::warn(format_args!($($text)*), "\n") };
}

/// As the standard library's, which panics when standard error cannot be written to.
macro_rules! eprint {
    ($($text:tt)*) => { $crate::output::warn(format_args!($($text)*), "") };
}

/// Writes to standard output. Ends the program if that fails: with 0 if nobody reads any more, else
/// with 1. Not for a run that has something to save.
pub(crate) fn say(text: Arguments<'_>, end: &str) {
    if let Err(error) = write!(std::io::stdout(), "{text}{end}") {
        if error.kind() == ErrorKind::BrokenPipe {
            crate::stop::at_once(0);
        }
        eprintln!("error: cannot write to standard output: {error}");
        crate::stop::at_once(1);
    }
}

/// Writes to standard error, as one write. A failure is ignored: there is nowhere left to report it,
/// and the exit code tells how the program ended.
pub(crate) fn warn(text: Arguments<'_>, end: &str) {
    let _ = std::io::stderr().write_all(format!("{text}{end}").as_bytes());
}
