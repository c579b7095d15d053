//! IOSurfaces: memory that nobody can touch unless it is locked.

use crate::control::{COUNTERS, fault, violation};
use crate::foundation::{Opaque, dictionary, number, string, temporary, value};
use crate::runtime::{Id, Table, body, make};
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

unsafe extern "C" {
    fn mmap(
        at: *mut c_void,
        n: usize,
        protection: c_int,
        flags: c_int,
        file: c_int,
        from: i64,
    ) -> *mut c_void;
    fn munmap(at: *mut c_void, n: usize) -> c_int;
    fn mprotect(at: *mut c_void, n: usize, protection: c_int) -> c_int;
}

const NONE: c_int = 0;
const READ: c_int = 1;
const WRITE: c_int = 2;
const PRIVATE_ANONYMOUS: c_int = 0x22;
const PAGE: usize = 16_384;

pub(crate) fn classes() -> Vec<Table> {
    vec![("IOSurface", vec![], vec![])]
}

/// Who is at the memory.
#[derive(Debug, Default)]
struct Users {
    readers: usize,
    writers: usize,
    engine_readers: usize,
    engine_writers: usize,
}

/// The memory of a surface.
#[derive(Debug)]
pub(crate) struct Memory {
    address: usize,
    mapped: usize,
    pub(crate) bytes: usize,
    users: Mutex<Users>,
}

impl Opaque for Memory {}

impl Memory {
    fn change(&self, change: impl FnOnce(&mut Users)) {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut users);
        let cpu = users.readers + users.writers;
        if (users.engine_writers > 0 && cpu > 0) || (users.engine_readers > 0 && users.writers > 0)
        {
            violation("the CPU has a surface locked that the engine is working on");
        }
        let protection =
            match (users.writers + users.engine_writers, users.readers + users.engine_readers) {
                (0, 0) => NONE,
                (0, _) => READ,
                _ => READ | WRITE,
            };
        // SAFETY: our own mapping.
        unsafe { mprotect(self.address as *mut c_void, self.mapped, protection) };
    }

    /// The engine reads the first `n` bytes.
    pub(crate) fn engine_reads<T>(&self, n: usize, read: impl FnOnce(&[u8]) -> T) -> T {
        self.change(|users| users.engine_readers += 1);
        // SAFETY: mapped for reading, and `n` bytes long at least.
        let result = read(unsafe {
            std::slice::from_raw_parts(self.address as *const u8, n.min(self.bytes))
        });
        self.change(|users| users.engine_readers -= 1);
        result
    }

    /// The engine writes the first `n` bytes.
    pub(crate) fn engine_writes(&self, n: usize, write: impl FnOnce(&mut [u8])) {
        self.change(|users| users.engine_writers += 1);
        // SAFETY: mapped for writing, and `n` bytes long at least; the count above is exclusive
        // but for violations.
        write(unsafe {
            std::slice::from_raw_parts_mut(self.address as *mut u8, n.min(self.bytes))
        });
        self.change(|users| users.engine_writers -= 1);
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let users = self.users.get_mut().unwrap_or_else(PoisonError::into_inner);
        if users.readers + users.writers + users.engine_readers + users.engine_writers > 0 {
            violation("a surface was released while it is locked");
        }
        COUNTERS.surfaces.fetch_sub(1, Ordering::SeqCst);
        // SAFETY: our own mapping.
        unsafe { munmap(self.address as *mut c_void, self.mapped) };
    }
}

/// A constant of the framework: the address of a string.
#[repr(transparent)]
pub struct Key(LazyKey);

/// A string made when the library is opened.
#[repr(transparent)]
struct LazyKey(std::sync::atomic::AtomicPtr<c_void>);

macro_rules! keys {
    ($($name:ident = $text:literal;)*) => {
        $(
            #[unsafe(no_mangle)]
            #[allow(non_upper_case_globals, reason = "the framework's names")]
            pub static $name: Key = Key(LazyKey(std::sync::atomic::AtomicPtr::new(null_mut())));
        )*

        /// Gives the constants their values, once, before anyone reads one.
        pub(crate) fn fill_keys() {
            $($name.0.0.store(string($text), Ordering::SeqCst);)*
            // They belong to the framework, not to those who are asked about leaks.
            COUNTERS.objects.fetch_sub([$($text),*].len() as i64, Ordering::SeqCst);
        }
    };
}

keys! {
    kIOSurfaceWidth = "IOSurfaceWidth";
    kIOSurfaceHeight = "IOSurfaceHeight";
    kIOSurfaceBytesPerElement = "IOSurfaceBytesPerElement";
    kIOSurfaceBytesPerRow = "IOSurfaceBytesPerRow";
    kIOSurfaceAllocSize = "IOSurfaceAllocSize";
    kIOSurfacePixelFormat = "IOSurfacePixelFormat";
}

/// The memory of a surface; anything else is a violation.
pub(crate) fn memory<'a>(surface: Id) -> Option<&'a Memory> {
    let memory = body(surface);
    if memory.is_none() {
        violation("what is no surface was used as one");
    }
    memory
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn IOSurfaceCreate(properties: Id) -> Id {
    temporary();
    let get = |key| value(properties, key).and_then(number).unwrap_or(-1);
    let bytes = get("IOSurfaceAllocSize");
    // One row of bytes (docs/ane-facts.md C.1).
    let expected = [
        ("IOSurfaceWidth", bytes),
        ("IOSurfaceHeight", 1),
        ("IOSurfaceBytesPerElement", 1),
        ("IOSurfaceBytesPerRow", bytes),
        ("IOSurfacePixelFormat", 0),
    ];
    for (key, expected) in expected {
        if get(key) != expected {
            violation(format!("{key} is {} instead of {expected}", get(key)));
        }
    }
    if dictionary(properties).is_none_or(|entries| entries.len() != expected.len() + 1) {
        violation("a surface was asked for with other properties");
    }
    if bytes < 1 || fault("surface create") {
        return null_mut();
    }
    let bytes = bytes as usize;
    let mapped = bytes.next_multiple_of(PAGE);
    // SAFETY: a fresh mapping.
    let address = unsafe { mmap(null_mut(), mapped, NONE, PRIVATE_ANONYMOUS, -1, 0) } as usize;
    if address == usize::MAX {
        return null_mut();
    }
    COUNTERS.surfaces.fetch_add(1, Ordering::SeqCst);
    let bytes = if fault("surface short") { bytes / 2 } else { bytes };
    make("IOSurface", Memory { address, mapped, bytes, users: Mutex::default() })
}

fn lock(surface: Id, options: u32, seed: *mut u32, change: i64) -> i32 {
    if options > 1 || !seed.is_null() {
        violation(format!("a surface was locked with options {options}"));
    }
    let Some(memory) = memory(surface) else { return -1 };
    memory.change(|users| {
        let count = if options == 1 { &mut users.readers } else { &mut users.writers };
        match count.checked_add_signed(change as isize) {
            Some(n) => *count = n,
            None => violation("a surface was unlocked more often than locked"),
        }
    });
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn IOSurfaceLock(surface: Id, options: u32, seed: *mut u32) -> i32 {
    if fault("surface lock") {
        return 0xe000_02c2_u32 as i32;
    }
    lock(surface, options, seed, 1)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn IOSurfaceUnlock(surface: Id, options: u32, seed: *mut u32) -> i32 {
    lock(surface, options, seed, -1)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn IOSurfaceGetBaseAddress(surface: Id) -> *mut u8 {
    memory(surface).map_or(null_mut(), |memory| memory.address as *mut u8)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn IOSurfaceGetAllocSize(surface: Id) -> usize {
    memory(surface).map_or(0, |memory| memory.bytes)
}
