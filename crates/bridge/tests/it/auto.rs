//! How `auto` chooses, over the stand-ins of `crates/standins`.

use ane_bridge::{Chosen, choose};
use apple::{Libraries, Options};
use std::ffi::{CString, c_char, c_int, c_void};
use std::path::PathBuf;
use std::time::{Duration, Instant};

unsafe extern "C" {
    fn dlopen(path: *const c_char, mode: c_int) -> *mut c_void;
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// The library of stand-ins, which Cargo puts beside the tests.
fn library() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().join("libstandins.so")
}

fn symbol(name: &str) -> *mut c_void {
    let path = CString::new(library().display().to_string()).unwrap();
    let name = CString::new(name).unwrap();
    // SAFETY: C strings; the library is opened once and stays open.
    let address = unsafe { dlsym(dlopen(path.as_ptr(), 2), name.as_ptr()) };
    assert!(!address.is_null(), "{name:?} is missing from {path:?}");
    address
}

fn fault(name: &str, times: i64) {
    let name = CString::new(name).unwrap();
    type Fault = extern "C" fn(*const c_char, i64);
    // SAFETY: the function of that name has this signature.
    let set = unsafe { std::mem::transmute::<*mut c_void, Fault>(symbol("standins_fault")) };
    set(name.as_ptr(), times);
}

fn count(what: &str) -> i64 {
    let what = CString::new(what).unwrap();
    type Count = extern "C" fn(*const c_char) -> i64;
    // SAFETY: the function of that name has this signature.
    let get = unsafe { std::mem::transmute::<*mut c_void, Count>(symbol("standins_count")) };
    get(what.as_ptr())
}

/// The choice of `auto` on a system with these faults, which must leave nothing alive.
fn chosen(faults: &[&str], limit: Duration) -> (String, Option<String>) {
    faults.iter().for_each(|name| fault(name, -1));
    let options = Options {
        compile_limit: Duration::from_secs(5),
        compile_pauses: vec![],
        load_pause: Duration::from_millis(1),
        ..Options::default()
    };
    let start = Instant::now();
    let Chosen { device, warning } = choose(&Libraries::stand_in(library()), &options, limit);
    assert!(start.elapsed() < limit + Duration::from_secs(10), "{faults:?}");
    let description = device.describe();
    drop(device);
    faults.iter().for_each(|name| fault(name, 0));
    // A thread that was left behind gives back what it holds in its own time.
    let alive = || ["objects", "surfaces", "handles", "loaded"].iter().any(|kind| count(kind) != 0);
    let start = Instant::now();
    while alive() {
        assert!(start.elapsed() < Duration::from_secs(10), "{faults:?}: left alive");
        std::thread::sleep(Duration::from_millis(5));
    }
    (description, warning)
}

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(500);

/// One test, since the stand-ins are one system.
#[test]
fn auto_takes_the_engine_only_where_it_works() {
    let emulator = |(description, warning): (String, Option<String>), parts: &[&str]| {
        assert!(description.contains("numerics fast"), "{description}");
        let warning = warning.expect("a reason");
        for part in parts.iter().chain(&["the emulator computes instead"]) {
            assert!(warning.contains(part), "{part} is missing: {warning}");
        }
    };
    let engine = |(description, warning): (String, Option<String>), part: &str| {
        assert_eq!(warning, None);
        assert!(description.contains(part), "{description}");
        assert!(!description.contains("numerics"), "{description}");
    };
    engine(chosen(&["e5 execute"], LONG), "in-memory models");
    engine(chosen(&["evaluate 0x2"], LONG), "Espresso");
    engine(chosen(&["several inputs fail", "e5 execute"], LONG), "in-memory models");
    let fails = chosen(&["evaluate 0x1d", "e5 execute"], LONG);
    emulator(fails, &["in-memory: ", "espresso: ", "0x1d"]);
    let wrong = chosen(&["wrong answer"], LONG);
    emulator(wrong, &["in-memory: ", "espresso: ", "answer"]);
    // A compile that hangs, and a request that does.
    for hangs in ["hang", "hold requests"] {
        emulator(chosen(&[hangs], SHORT), &["in-memory: ", "did not end within 0.5 s"]);
    }
    // Where both work, the faster one is taken.
    let (description, warning) = chosen(&[], LONG);
    assert!(["in-memory models", "Espresso"].iter().any(|way| description.contains(way)));
    assert_eq!(warning, None);
    engine(chosen(&["e5 execute"], LONG), "in-memory models");
}
