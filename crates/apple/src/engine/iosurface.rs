//! Memory that the CPU and the engine share: IOSurfaces (docs/ane-facts.md C.1).

#![allow(unsafe_code, reason = "IOSurface is a C library")]

use super::dynamic::{Libraries, Library, functions};
use super::foundation::Foundation;
use super::objc::{Id, Object, Pool};
use ane::AneError;
use ane::surface::{Access, ForeignMemory};
use std::ffi::{CStr, c_void};
use std::ptr::NonNull;
use std::sync::Arc;

functions! {
    /// The functions of IOSurface that are used.
    struct Functions {
        create = c"IOSurfaceCreate"(Id) -> *mut c_void;
        lock = c"IOSurfaceLock"(*mut c_void, u32, *mut u32) -> i32;
        unlock = c"IOSurfaceUnlock"(*mut c_void, u32, *mut u32) -> i32;
        address = c"IOSurfaceGetBaseAddress"(*mut c_void) -> *mut u8;
        size = c"IOSurfaceGetAllocSize"(*mut c_void) -> usize;
    }
}

functions! {
    /// The function of CoreFoundation that is used.
    struct CoreFoundation {
        release = c"CFRelease"(*mut c_void);
    }
}

/// `kIOSurfaceLockReadOnly`.
const READ_ONLY: u32 = 1;

/// The properties of a surface: one row of as many bytes as are allocated.
const PROPERTIES: [(&CStr, Property); 6] = [
    (c"kIOSurfaceWidth", Property::Bytes),
    (c"kIOSurfaceHeight", Property::Is(1)),
    (c"kIOSurfaceBytesPerElement", Property::Is(1)),
    (c"kIOSurfaceBytesPerRow", Property::Bytes),
    (c"kIOSurfaceAllocSize", Property::Bytes),
    (c"kIOSurfacePixelFormat", Property::Is(0)),
];

#[derive(Clone, Copy)]
enum Property {
    Bytes,
    Is(i64),
}

/// The IOSurface framework.
#[derive(Debug)]
pub(super) struct IoSurfaces {
    functions: Functions,
    core_foundation: CoreFoundation,
    foundation: Arc<Foundation>,
    /// The keys of [`PROPERTIES`]: constants of the framework, strings by another name.
    keys: Vec<Id>,
}

// SAFETY: the keys are immutable constants of the framework.
unsafe impl Send for IoSurfaces {}
// SAFETY: as above.
unsafe impl Sync for IoSurfaces {}

impl IoSurfaces {
    pub(super) fn open(
        libraries: &Libraries,
        foundation: Arc<Foundation>,
    ) -> Result<Arc<Self>, AneError> {
        let library = Library::open(&libraries.io_surface)?;
        let core_foundation = CoreFoundation::load(&Library::open(&libraries.core_foundation)?)?;
        let functions = Functions::load(&library)?;
        let key = |(name, _): &(&CStr, Property)| {
            // SAFETY: the symbol is a variable that holds a constant string.
            library.symbol(name).map(|address| unsafe { *address.as_ptr().cast::<Id>() })
        };
        let keys = PROPERTIES.iter().map(key).collect::<Result<_, _>>()?;
        Ok(Arc::new(IoSurfaces { functions, core_foundation, foundation, keys }))
    }

    /// Zeroed memory of `bytes` bytes.
    pub(super) fn create(self: &Arc<Self>, bytes: usize) -> Result<Arc<IoSurface>, AneError> {
        let refused = |reason: &str| AneError::NoEngine {
            reason: format!("no surface of {bytes} bytes: {reason}"),
        };
        let size = i64::try_from(bytes).map_err(|_| refused("too large"))?;
        let _pool = Pool::new(&self.foundation.runtime);
        let entries = (PROPERTIES.iter().zip(&self.keys))
            .map(|((_, property), &key)| {
                let value = match property {
                    Property::Bytes => size,
                    Property::Is(value) => *value,
                };
                // SAFETY: the key is a string.
                let key = unsafe { Object::retained(&self.foundation.runtime, key) };
                let key = key.ok_or_else(|| refused("a property has no name"))?;
                Ok((key, self.foundation.number(value)?))
            })
            .collect::<Result<Vec<_>, AneError>>()?;
        let properties = self.foundation.dictionary(&entries)?;
        // SAFETY: a dictionary of strings and numbers; what is created is ours.
        let surface = unsafe { (self.functions.create)(properties.id()) };
        let surface = NonNull::new(surface).ok_or_else(|| refused("the system made none"))?;
        let memory = IoSurface { surface, library: Arc::clone(self) };
        // SAFETY: a surface.
        let allocated = unsafe { (self.functions.size)(surface.as_ptr()) };
        if allocated < bytes {
            return Err(refused("the system made a smaller one"));
        }
        let address = memory.lock(Access::Write)?;
        // SAFETY: the surface is locked for writing and has that many bytes; nobody else has it.
        unsafe { address.as_ptr().write_bytes(0, bytes) };
        memory.unlock(Access::Write);
        Ok(Arc::new(memory))
    }
}

/// One surface.
#[derive(Debug)]
pub(super) struct IoSurface {
    surface: NonNull<c_void>,
    library: Arc<IoSurfaces>,
}

// SAFETY: references are counted atomically, and locks may be taken from any thread.
unsafe impl Send for IoSurface {}
// SAFETY: as above.
unsafe impl Sync for IoSurface {}

impl IoSurface {
    /// The `IOSurfaceRef`.
    pub(super) fn id(&self) -> Id {
        self.surface.as_ptr()
    }
}

// SAFETY: the base address of a locked surface is that of its whole allocation, whose size was
// compared when it was made, and which is aligned to a page.
unsafe impl ForeignMemory for IoSurface {
    fn lock(&self, access: Access) -> Result<NonNull<u8>, AneError> {
        let functions = &self.library.functions;
        let options = if access == Access::Read { READ_ONLY } else { 0 };
        // SAFETY: a surface; no seed is asked for.
        let status = unsafe { (functions.lock)(self.id(), options, std::ptr::null_mut()) };
        let refused = |reason: String| AneError::NoEngine { reason };
        if status != 0 {
            return Err(refused(format!("a surface could not be locked (status {status:#x})")));
        }
        // SAFETY: a locked surface.
        let address = unsafe { (functions.address)(self.id()) };
        NonNull::new(address).ok_or_else(|| {
            self.unlock(access);
            refused("a locked surface has no address".to_owned())
        })
    }

    fn unlock(&self, access: Access) {
        let options = if access == Access::Read { READ_ONLY } else { 0 };
        // SAFETY: locked by us with the same options. A failure leaves nothing to do.
        unsafe { (self.library.functions.unlock)(self.id(), options, std::ptr::null_mut()) };
    }
}

impl Drop for IoSurface {
    fn drop(&mut self) {
        let _pool = Pool::new(&self.library.foundation.runtime);
        // SAFETY: the reference is ours.
        unsafe { (self.library.core_foundation.release)(self.id()) }
    }
}
