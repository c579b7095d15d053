//! Errors at the boundary, and their text for each thread.

use ane::AneError;
use chip::UnknownName;
use mil::DType;
use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// An error of the bridge.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum BridgeError {
    #[error(transparent)]
    Ane(#[from] AneError),
    #[error(transparent)]
    Name(#[from] UnknownName),
    #[error("the text is not a valid MIL program\n{0}")]
    Program(String),
    #[error("not initialized: call ane_bridge_init, or open a device with ane_bridge_open")]
    NotInitialized,
    #[error(
        "there is no device called `{got}`: write auto, cpu, or emulator, with a profile and \
         numerics if wanted, for instance emulator:m1/macos26:f32"
    )]
    UnknownDevice { got: String },
    #[error("{reason}; use the device `emulator`, which runs the same programs")]
    NoEngine { reason: String },
    #[error("{what} is null")]
    Null { what: &'static str },
    #[error("{what} is not at a multiple of {bytes} bytes, as its elements must be")]
    Unaligned { what: &'static str, bytes: usize },
    #[error("{what} is not UTF-8 text: byte {at} is wrong")]
    NotText { what: &'static str, at: usize },
    #[error("{what} is {got}: it must not be negative or larger than {limit}")]
    Count { what: &'static str, got: i64, limit: usize },
    #[error("{handle:#x} is not a {what} in use: it was freed, or never was one")]
    Handle { what: &'static str, handle: usize },
    #[error("{handle:#x} is not memory that the bridge gave out and has not taken back")]
    Memory { handle: usize },
    #[error("there is no {what} {index}: the kernel has {count}")]
    Index { what: &'static str, index: i64, count: usize },
    #[error("weight file `{name}` is given twice")]
    DuplicateWeight { name: String },
    #[error(
        "{got} {what} sizes are given, but the program has {count} {what}s: give one size per \
         port, in alphabetical order of the ports' names, or none"
    )]
    SizeCount { what: &'static str, count: usize, got: usize },
    #[error(
        "{what} {index} is given {got} bytes, but port `{port}` is a {ty} of {needed}: give at \
         least as many (ports are in alphabetical order of their names)"
    )]
    SizeTooSmall {
        what: &'static str,
        index: usize,
        port: String,
        ty: String,
        needed: usize,
        got: usize,
    },
    #[error(
        "{what} {index} is given {got} bytes: the engine sees no more than {limit} of memory at once"
    )]
    SizeTooLarge { what: &'static str, index: usize, limit: usize, got: usize },
    #[error("{what} {index}, port `{port}`, has {limit} bytes, but {got} were asked for")]
    Bytes { what: &'static str, index: usize, port: String, limit: usize, got: usize },
    #[error("port `{port}` has elements of {size} bytes, of which {got} bytes are no whole number")]
    Partial { port: String, size: usize, got: usize },
    #[error("port `{port}` is a tensor of {dtype}, which has no form in C: cast it in the program")]
    ElementType { port: String, dtype: DType },
    #[error("{what} {index}, port `{port}`, is locked: unlock it first")]
    Locked { what: &'static str, index: usize, port: String },
    #[error("{what} {index}, port `{port}`, is not locked")]
    NotLocked { what: &'static str, index: usize, port: String },
    #[error(
        "{what} {index}, port `{port}`, is not held in its own element type on this device, so \
         that its memory cannot be shared: write and read it instead"
    )]
    NotShared { what: &'static str, index: usize, port: String },
    #[error("the kernel is in flight: wait for it before submitting it again")]
    InFlight,
    #[error("the kernel was never submitted or evaluated")]
    NothingSubmitted,
    #[error("the kernel was freed in the meantime")]
    Freed,
    #[error(
        "this process was forked from one that had opened a device, whose threads it does not have: \
         start it anew (with exec; in Python, by the start method `spawn`) or fork before the first \
         device is opened"
    )]
    Forked,
    #[error("a matrix of {rows} by {cols} cannot be a weight file: both must be at least 1")]
    Matrix { rows: i64, cols: i64 },
    #[error("element {index} is {value}: only finite numbers can be quantized")]
    NotFinite { index: usize, value: f32 },
    #[error("there is no memory for {bytes} bytes")]
    NoMemory { bytes: usize },
    #[error("no thread could be started for submitted kernels: {0}")]
    Thread(String),
    #[error(
        "a defect of the bridge stopped the call: {0}; please report it with the program that \
         was run"
    )]
    Panic(String),
}

impl BridgeError {
    /// The error for a panic with this payload.
    pub(crate) fn panicked(payload: &(dyn Any + Send)) -> Self {
        let text = (payload.downcast_ref::<&str>().copied())
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        BridgeError::Panic(text.unwrap_or("no message").to_owned())
    }
}

/// The process that opened the first device; 0 before that.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// Binds the library to this process. One that is forked from it later has none of the threads that
/// compute, locks that nobody will ever release, and no right to the parent's engine.
pub(crate) fn claim_process() {
    PROCESS.store(std::process::id(), Ordering::Relaxed);
}

fn check_process() -> Result<(), BridgeError> {
    match PROCESS.load(Ordering::Relaxed) {
        0 => Ok(()),
        process if process == std::process::id() => Ok(()),
        _ => Err(BridgeError::Forked),
    }
}

thread_local! {
    static LAST: RefCell<CString> = RefCell::new(CString::default());
}

fn store(text: &str) {
    let text = CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default();
    // A thread that is ending has no message left; nobody can ask for it either.
    let _ = LAST.try_with(|last| *last.borrow_mut() = text);
}

/// True if the errors of all calls are also written to standard error, false if those of none are; `None`
/// where the environment does not say: then those of the calls for which the original bridge did so
/// ([`explained`]).
fn verbose() -> Option<bool> {
    static VERBOSE: OnceLock<Option<bool>> = OnceLock::new();
    *VERBOSE.get_or_init(|| {
        let value = std::env::var_os("ANE_BRIDGE_VERBOSE").filter(|value| !value.is_empty());
        value.map(|value| value != "0")
    })
}

fn print(text: &str) {
    // Nobody is left to tell if that fails; the text can still be asked for.
    let _ = writeln!(io::stderr(), "ane_bridge: {text}");
}

/// Passes on what a call returned that the original bridge has as well: where it `failed`, that one
/// wrote why to standard error, and so does this, unless the environment has decided.
pub(crate) fn explained<R>(returned: R, failed: bool) -> R {
    if failed && verbose().is_none() {
        let _ = LAST.try_with(|last| print(&last.borrow().to_string_lossy()));
    }
    returned
}

/// The text of this thread's last call, empty if it succeeded (releases that succeed do not count);
/// valid until the next call.
pub(crate) fn last() -> *const c_char {
    const NOTHING: &CStr = c"";
    LAST.try_with(|last| last.borrow().as_ptr()).unwrap_or(NOTHING.as_ptr())
}

/// Runs the body of a function of the interface: errors and panics become the thread's error text
/// and the value `failed`; success clears the text.
pub(crate) fn guard<R>(failed: R, body: impl FnOnce() -> Result<R, BridgeError>) -> R {
    let checked = || check_process().and_then(|()| body());
    let result = catch_unwind(AssertUnwindSafe(checked))
        .unwrap_or_else(|payload| Err(BridgeError::panicked(payload.as_ref())));
    match result {
        Ok(value) => {
            store("");
            value
        }
        Err(error) => {
            let text = error.to_string();
            store(&text);
            if verbose() == Some(true) {
                print(&text);
            }
            failed
        }
    }
}

/// As [`guard`], but success leaves the text: what frees things is called between a failure and the
/// question why.
pub(crate) fn guard_release(body: impl FnOnce() -> Result<(), BridgeError>) {
    let before = LAST.try_with(|last| last.borrow().clone()).unwrap_or_default();
    let released = guard(false, || body().map(|()| true));
    if released {
        let _ = LAST.try_with(|last| *last.borrow_mut() = before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> String {
        // SAFETY: `last` returns a string of this thread, and no call is made while it is read.
        #[allow(unsafe_code, reason = "reads the string as C would")]
        unsafe { CStr::from_ptr(last()) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn panics_and_errors_become_text_and_success_clears_it() {
        assert_eq!(guard(-1, || panic!("seven {}", 7)), -1);
        assert!(text().contains("seven 7"), "{}", text());
        assert_eq!(guard(-1, || Err(BridgeError::Null { what: "a\0b" })), -1);
        assert_eq!(text(), "a\u{fffd}b is null");
        std::thread::spawn(|| assert_eq!(text(), "")).join().unwrap();
        guard_release(|| Ok(()));
        assert_eq!(text(), "a\u{fffd}b is null");
        guard_release(|| Err(BridgeError::Freed));
        assert_eq!(text(), "the kernel was freed in the meantime");
        assert_eq!(guard(-1, || Ok(3)), 3);
        assert_eq!(text(), "");
    }
}
