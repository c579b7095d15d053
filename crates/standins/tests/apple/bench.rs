//! The stand-ins as tests use them: one test at a time, faults by name, nothing left behind.

use ane::{AneError, Device, Emulator, Executable, Port, Surface};
use apple::{Libraries, Options};
use cpu::Numerics;
use mil::{Program, Weights};
use std::ffi::{CString, c_char, c_int, c_void};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

unsafe extern "C" {
    fn dlopen(path: *const c_char, mode: c_int) -> *mut c_void;
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
}

static TURN: Mutex<()> = Mutex::new(());

/// The library of stand-ins, which Cargo puts beside the tests.
pub(crate) fn library() -> PathBuf {
    let test = std::env::current_exe().expect("a path");
    test.parent().expect("a directory").join("libstandins.so")
}

/// The stand-ins, for one test at a time. Dropping it demands that no rule was broken and nothing
/// is left alive.
pub(crate) struct Bench {
    handle: *mut c_void,
    _turn: MutexGuard<'static, ()>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let path = CString::new(library().display().to_string()).expect("a path");
        // SAFETY: a C string; the library's initialiser makes some strings.
        let handle = unsafe { dlopen(path.as_ptr(), 2) };
        assert!(!handle.is_null(), "{path:?} cannot be opened");
        let bench = Bench { handle, _turn: turn };
        bench.reset();
        bench
    }

    pub(crate) fn symbol(&self, name: &str) -> *mut c_void {
        let name = CString::new(name).expect("a name");
        // SAFETY: an open library and a C string.
        let address = unsafe { dlsym(self.handle, name.as_ptr()) };
        assert!(!address.is_null(), "{name:?} is missing");
        address
    }

    pub(crate) fn reset(&self) {
        // SAFETY: the function of that name has this signature.
        unsafe {
            let reset = self.symbol("standins_reset");
            std::mem::transmute::<*mut c_void, extern "C" fn()>(reset)();
        }
    }

    /// Makes a fault happen so many times; for good if negative.
    pub(crate) fn fault(&self, name: &str, times: i64) {
        let name = CString::new(name).expect("a name");
        // SAFETY: the function of that name has this signature.
        unsafe {
            let fault = self.symbol("standins_fault");
            std::mem::transmute::<*mut c_void, extern "C" fn(*const c_char, i64)>(fault)(
                name.as_ptr(),
                times,
            );
        }
    }

    pub(crate) fn count(&self, what: &str) -> i64 {
        let what = CString::new(what).expect("a name");
        // SAFETY: the function of that name has this signature.
        unsafe {
            let count = self.symbol("standins_count");
            std::mem::transmute::<*mut c_void, extern "C" fn(*const c_char) -> i64>(count)(
                what.as_ptr(),
            )
        }
    }

    pub(crate) fn violations(&self) -> String {
        let mut text = vec![0u8; 1 << 16];
        // SAFETY: the function of that name has this signature; the buffer has that length.
        let length = unsafe {
            let violations = self.symbol("standins_violations");
            std::mem::transmute::<*mut c_void, extern "C" fn(*mut u8, usize) -> usize>(violations)(
                text.as_mut_ptr(),
                text.len(),
            )
        };
        text.truncate(length);
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Everything that is alive, by kind.
    fn alive(&self) -> Vec<(&'static str, i64)> {
        let kinds = ["objects", "surfaces", "handles", "pools", "loaded", "tasks"];
        kinds.into_iter().map(|kind| (kind, self.count(kind))).filter(|(_, n)| *n != 0).collect()
    }

    /// Fails unless no rule was broken and nothing is alive; `what` names the case.
    pub(crate) fn assert_clean(&self, what: &str) {
        // A compile that was abandoned gives back what it holds in its own time.
        let start = Instant::now();
        while !self.alive().is_empty() && start.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(self.alive(), [], "{what}: left alive");
        assert_eq!(self.violations(), "", "{what}");
    }

    pub(crate) fn libraries(&self) -> Libraries {
        Libraries::stand_in(library())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.assert_clean("at the end");
        }
    }
}

/// Pauses that do not slow tests down.
pub(crate) fn quick() -> Options {
    Options {
        compile_limit: Duration::from_secs(30),
        compile_pauses: vec![Duration::from_millis(1); 3],
        load_pause: Duration::from_millis(1),
        ..Options::default()
    }
}

/// Surfaces for ports, of one size.
pub(crate) fn try_surfaces(
    device: &dyn Device,
    executable: &dyn Executable,
) -> Result<[Vec<Surface>; 2], AneError> {
    let all = executable.inputs().iter().chain(executable.outputs());
    let largest = all.map(|port| port.ty.bytes()).max().unwrap_or(0);
    let allocation = largest.max(device.least_allocation());
    let make = |ports: &[Port]| -> Result<Vec<Surface>, AneError> {
        ports.iter().map(|p| device.surface(&p.ty, allocation)).collect()
    };
    Ok([make(executable.inputs())?, make(executable.outputs())?])
}

/// Surfaces for ports, of one size.
pub(crate) fn surfaces(device: &dyn Device, executable: &dyn Executable) -> [Vec<Surface>; 2] {
    try_surfaces(device, executable).expect("memory")
}

/// Numbers that differ, with both signs.
pub(crate) fn values(port: &Port) -> Vec<f32> {
    let seed: usize = port.name.bytes().map(usize::from).sum();
    (0..port.ty.count()).map(|i| ((i * 37 + seed * 11) % 101) as f32 / 32.0 - 1.5).collect()
}

/// Compiles and runs a program once on values of [`values`].
pub(crate) fn run(
    device: &dyn Device,
    program: &Program,
    weights: &Weights,
) -> Result<Vec<Vec<u32>>, AneError> {
    run_loaded(device, device.compile(program, weights)?.as_mut())
}

/// As [`run`], a program that is loaded.
pub(crate) fn run_loaded(
    device: &dyn Device,
    executable: &mut dyn Executable,
) -> Result<Vec<Vec<u32>>, AneError> {
    let [inputs, outputs] = try_surfaces(device, executable)?;
    for (port, surface) in executable.inputs().iter().zip(&inputs) {
        surface.write(&values(port))?;
    }
    executable.run(&inputs.iter().collect::<Vec<_>>(), &outputs.iter().collect::<Vec<_>>())?;
    outputs
        .iter()
        .map(|surface| {
            let mut values = vec![0.0; surface.ty().count()];
            surface.read(&mut values)?;
            Ok(values.iter().map(|v| v.to_bits()).collect())
        })
        .collect()
}

/// The emulator's results for a program.
pub(crate) fn expected(path: &str, program: &Program, weights: &Weights) -> Vec<Vec<u32>> {
    let profile = path.parse().expect("a profile");
    run(&Emulator::engine(profile, Numerics::Fast), program, weights).expect("the emulator runs it")
}
