//! The controls of the stand-ins: faults to have, counts, violations.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Objects alive, by kind, and calls made.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) objects: AtomicI64,
    pub(crate) surfaces: AtomicI64,
    pub(crate) handles: AtomicI64,
    pub(crate) pools: AtomicI64,
    pub(crate) loaded: AtomicI64,
    pub(crate) compiles: AtomicI64,
    pub(crate) opened: AtomicI64,
    pub(crate) evaluations: AtomicI64,
    pub(crate) direct: AtomicI64,
    pub(crate) slow: AtomicI64,
    pub(crate) real_time: AtomicI64,
    pub(crate) tasks: AtomicI64,
    pub(crate) products: AtomicI64,
}

pub(crate) static COUNTERS: Counters = Counters {
    objects: AtomicI64::new(0),
    surfaces: AtomicI64::new(0),
    handles: AtomicI64::new(0),
    pools: AtomicI64::new(0),
    loaded: AtomicI64::new(0),
    compiles: AtomicI64::new(0),
    opened: AtomicI64::new(0),
    evaluations: AtomicI64::new(0),
    direct: AtomicI64::new(0),
    slow: AtomicI64::new(0),
    real_time: AtomicI64::new(0),
    tasks: AtomicI64::new(0),
    products: AtomicI64::new(0),
};

#[derive(Debug, Default)]
struct State {
    /// Faults and how often they are still to happen; negative: for good.
    faults: BTreeMap<String, i64>,
    violations: Vec<String>,
}

fn state() -> MutexGuard<'static, State> {
    static STATE: OnceLock<Mutex<State>> = OnceLock::new();
    let state = STATE.get_or_init(|| {
        let mut state = State::default();
        // `STANDINS_FAULTS=name:times,name:times` for programs that tests start.
        for entry in std::env::var("STANDINS_FAULTS").unwrap_or_default().split(',') {
            if let Some((name, times)) = entry.rsplit_once(':') {
                state.faults.insert(name.to_owned(), times.parse().unwrap_or(-1));
            }
        }
        Mutex::new(state)
    });
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts a compile; `STANDINS_LOG=FILE` gets a line for each, of all processes.
pub(crate) fn count_compile() -> i64 {
    note("compile");
    COUNTERS.compiles.fetch_add(1, Ordering::SeqCst)
}

/// Counts a program that was taken as it had been compiled before.
pub(crate) fn count_opened() {
    note("open");
    COUNTERS.opened.fetch_add(1, Ordering::SeqCst);
}

fn note(what: &str) {
    use std::io::Write;
    let Some(path) = std::env::var_os("STANDINS_LOG") else { return };
    let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
    // One write, so that lines of several processes do not mix.
    if file.and_then(|mut file| file.write_all(format!("{what}\n").as_bytes())).is_err() {
        violation("STANDINS_LOG cannot be written");
    }
}

/// True if the fault of `STANDINS_ONCE=NAME=FILE` happens: once, to whichever process comes first.
fn once(name: &str) -> bool {
    let once = std::env::var("STANDINS_ONCE").unwrap_or_default();
    once.split_once('=').is_some_and(|(fault, file)| {
        fault == name && std::fs::OpenOptions::new().write(true).create_new(true).open(file).is_ok()
    })
}

unsafe extern "C" {
    fn atexit(then: extern "C" fn()) -> c_int;
}

/// The behaviour of libraries at an exit: they wait for a compile that hangs.
extern "C" fn at_exit() {
    while is_on("hang") {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// Hangs while a test wants it, or for good in the one process that is to hang.
pub(crate) fn hang(name: &str) {
    let forever = once(name);
    if is_on(name) {
        // SAFETY: a function of the C library; what is registered stays.
        unsafe { atexit(at_exit) };
    }
    while forever || is_on(name) {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// True if the fault happens now; one occurrence is used up.
pub(crate) fn fault(name: &str) -> bool {
    if once(name) {
        return true;
    }
    match state().faults.get_mut(name) {
        None | Some(0) => false,
        Some(times) => {
            if *times > 0 {
                *times -= 1;
            }
            true
        }
    }
}

/// True if a fault is switched on; nothing is used up.
pub(crate) fn is_on(name: &str) -> bool {
    state().faults.get(name).is_some_and(|&times| times != 0)
}

/// Waits while a test holds requests back.
pub(crate) fn wait_for_release() {
    while is_on("hold requests") {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Writes down that a rule was broken.
pub(crate) fn violation(text: impl Into<String>) {
    let text = text.into();
    if std::env::var_os("STANDINS_ABORT").is_some() {
        #[allow(clippy::print_stderr, reason = "the program that a test started dies of it")]
        {
            eprintln!("stand-ins: {text}");
        }
        std::process::abort();
    }
    state().violations.push(text);
}

/// # Safety
/// `name` is a C string.
unsafe fn name(name: *const c_char) -> String {
    // SAFETY: promised by the caller.
    unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
}

/// Makes the fault `name` happen the next `times` times; negative: until told otherwise.
pub(crate) fn set_fault(name: &str, times: i64) {
    state().faults.insert(name.to_owned(), times);
}

/// `set_fault`, for tests.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn standins_fault(fault: *const c_char, times: i64) {
    // SAFETY: a C string by contract.
    set_fault(&unsafe { name(fault) }, times);
}

/// Forgets faults and violations, and counts calls from zero. Objects alive stay.
pub(crate) fn reset() {
    *state() = State::default();
    COUNTERS.compiles.store(0, Ordering::SeqCst);
    COUNTERS.opened.store(0, Ordering::SeqCst);
    COUNTERS.evaluations.store(0, Ordering::SeqCst);
    COUNTERS.direct.store(0, Ordering::SeqCst);
    COUNTERS.slow.store(0, Ordering::SeqCst);
    COUNTERS.real_time.store(0, Ordering::SeqCst);
    COUNTERS.products.store(0, Ordering::SeqCst);
}

/// A count by name, −1 if there is none of that name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn standins_count(what: *const c_char) -> i64 {
    // SAFETY: a C string by contract.
    let counter = match unsafe { name(what) }.as_str() {
        "objects" => &COUNTERS.objects,
        "surfaces" => &COUNTERS.surfaces,
        "handles" => &COUNTERS.handles,
        "pools" => &COUNTERS.pools,
        "loaded" => &COUNTERS.loaded,
        "compiles" => &COUNTERS.compiles,
        "opened" => &COUNTERS.opened,
        "evaluations" => &COUNTERS.evaluations,
        "direct" => &COUNTERS.direct,
        "slow" => &COUNTERS.slow,
        "real time" => &COUNTERS.real_time,
        "tasks" => &COUNTERS.tasks,
        "products" => &COUNTERS.products,
        _ => return -1,
    };
    counter.load(Ordering::SeqCst)
}

/// Copies the violations, one per line, as far as there is room; returns their whole length.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn standins_violations(to: *mut u8, room: usize) -> usize {
    let text = state().violations.join("\n");
    // SAFETY: `to` has room for `room` bytes by contract.
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), to, text.len().min(room)) };
    text.len()
}
