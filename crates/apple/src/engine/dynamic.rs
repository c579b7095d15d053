//! Libraries opened, and functions looked up, at run time.

#![allow(unsafe_code, reason = "dlopen and dlsym")]

use crate::error::AppleError;
use ane::AneError;
use ane::Used;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::OnceLock;

unsafe extern "C" {
    fn dlopen(path: *const c_char, mode: c_int) -> *mut c_void;
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
    fn dlerror() -> *const c_char;
}

/// Resolve everything at once, so that a broken library fails when it is opened.
const NOW: c_int = 2;

/// Where the system's libraries are, and what was used up of them.
#[derive(Clone, Debug)]
pub struct Libraries {
    /// The Objective-C runtime.
    pub objc: PathBuf,
    /// Foundation: strings, data, dictionaries.
    pub foundation: PathBuf,
    /// CoreFoundation: `CFRelease`.
    pub core_foundation: PathBuf,
    /// IOSurface: memory shared with the engine.
    pub io_surface: PathBuf,
    /// The private framework of in-memory models.
    pub neural_engine: PathBuf,
    /// The private framework of the e5rt interface.
    pub espresso: PathBuf,
    /// libSystem, for the names of chip and system.
    pub system: PathBuf,
    /// Accelerate: BLAS.
    pub accelerate: PathBuf,
    /// IOReport: counters of energy.
    pub io_report: PathBuf,
    /// Programs compiled and loaded by all devices that were opened with these libraries: those of the
    /// system count together, since what the compiler leaks is the process's.
    pub used: Used,
}

impl Libraries {
    /// Those of macOS.
    pub fn system() -> Self {
        static USED: OnceLock<Used> = OnceLock::new();
        let framework = |folder: &str, name: &str| {
            PathBuf::from(format!("/System/Library/{folder}/{name}.framework/{name}"))
        };
        Libraries {
            objc: "/usr/lib/libobjc.A.dylib".into(),
            foundation: framework("Frameworks", "Foundation"),
            core_foundation: framework("Frameworks", "CoreFoundation"),
            io_surface: framework("Frameworks", "IOSurface"),
            neural_engine: framework("PrivateFrameworks", "AppleNeuralEngine"),
            espresso: framework("PrivateFrameworks", "Espresso"),
            system: "/usr/lib/libSystem.B.dylib".into(),
            accelerate: framework("Frameworks", "Accelerate"),
            io_report: "/usr/lib/libIOReport.dylib".into(),
            used: USED.get_or_init(Used::default).clone(),
        }
    }

    /// One library that stands in for all of them, for tests.
    pub fn stand_in(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Libraries {
            objc: path.clone(),
            foundation: path.clone(),
            core_foundation: path.clone(),
            io_surface: path.clone(),
            neural_engine: path.clone(),
            espresso: path.clone(),
            system: path.clone(),
            accelerate: path.clone(),
            io_report: path,
            used: Used::default(),
        }
    }
}

/// An open library. It is never closed: classes that it registered stay in use.
#[derive(Debug)]
pub(super) struct Library {
    path: PathBuf,
    handle: NonNull<c_void>,
}

// SAFETY: a handle of dlopen may be used from any thread.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

impl Library {
    pub(super) fn open(path: &Path) -> Result<Self, AneError> {
        let unreachable = |reason: String| AneError::NoEngine { reason };
        let name = CString::new(path.as_os_str().as_bytes())
            .map_err(|_| unreachable(format!("{} is no path", path.display())))?;
        // SAFETY: `name` is a C string; the initialisers of a system library are trusted.
        let handle = NonNull::new(unsafe { dlopen(name.as_ptr(), NOW) });
        let handle = handle.ok_or_else(|| {
            // SAFETY: after a failure, dlerror gives a C string, or null if there is none.
            let reason = unsafe { dlerror() };
            match reason.is_null() {
                true => unreachable(format!("cannot open {}", path.display())),
                // SAFETY: as above.
                false => unreachable(unsafe { text(reason) }),
            }
        })?;
        Ok(Library { path: path.to_owned(), handle })
    }

    /// Address of a function or variable, if the library exports it.
    pub(super) fn find(&self, name: &CStr) -> Option<NonNull<c_void>> {
        // SAFETY: the handle is open and `name` is a C string.
        NonNull::new(unsafe { dlsym(self.handle.as_ptr(), name.as_ptr()) })
    }

    /// Address of a function or variable.
    pub(super) fn symbol(&self, name: &CStr) -> Result<NonNull<c_void>, AneError> {
        self.find(name).ok_or_else(|| self.missing("symbol", &name.to_string_lossy()))
    }

    pub(super) fn missing(&self, what: &'static str, name: &str) -> AneError {
        let place = self.path.display().to_string();
        AppleError::Missing { what, name: name.to_owned(), place }.into()
    }
}

/// Says of a library or a function of it that is missing what cannot be used without.
pub(super) fn unavailable(what: &'static str) -> impl Fn(AneError) -> AneError {
    move |error| match (error.as_own(), &error) {
        (_, AneError::NoEngine { reason }) => {
            AneError::Unavailable { what, reason: reason.clone() }
        }
        (Some(AppleError::Missing { what: kind, name, place }), _) => {
            AneError::Unavailable { what, reason: format!("{place} has no {kind} `{name}`") }
        }
        _ => error,
    }
}

/// A C string as text.
///
/// # Safety
/// `string` is a C string.
pub(super) unsafe fn text(string: *const c_char) -> String {
    // SAFETY: promised by the caller.
    unsafe { CStr::from_ptr(string) }.to_string_lossy().into_owned()
}

/// A table of C functions of one library: the fields are the functions, [`load`] looks all of them
/// up and names every one that is missing.
macro_rules! functions {
    ($(#[$doc:meta])* struct $table:ident {
        $($field:ident = $name:literal($($arg:ty),*) $(-> $ret:ty)?;)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub(super) struct $table {
            $(pub(super) $field: unsafe extern "C-unwind" fn($($arg),*) $(-> $ret)?,)*
        }

        impl $table {
            pub(super) fn load(
                library: &$crate::engine::dynamic::Library,
            ) -> Result<Self, ane::AneError> {
                let missing: Vec<&str> = [$($name),*]
                    .into_iter()
                    .filter(|name| library.find(name).is_none())
                    .map(|name| name.to_str().unwrap_or_default())
                    .collect();
                if !missing.is_empty() {
                    return Err(library.missing("symbol", &missing.join("`, `")));
                }
                Ok($table {
                    // SAFETY: the symbol is a function of this signature, as far as published work
                    // shows; a pointer to data and one to a function have one size here.
                    $($field: unsafe {
                        std::mem::transmute::<
                            *mut std::ffi::c_void,
                            unsafe extern "C-unwind" fn($($arg),*) $(-> $ret)?,
                        >(library.symbol($name)?.as_ptr())
                    },)*
                })
            }
        }
    };
}
pub(super) use functions;
