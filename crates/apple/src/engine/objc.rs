//! Objective-C: classes, selectors, messages, ownership and pools.

#![allow(unsafe_code, reason = "the Objective-C runtime is a C library")]

use super::dynamic::{Libraries, Library, functions, text};
use crate::error::AppleError;
use ane::AneError;
use std::ffi::{CStr, c_char, c_void};
use std::ptr::NonNull;
use std::sync::Arc;

/// An object or a class; null is `nil`.
pub(super) type Id = *mut c_void;

/// A selector.
pub(super) type Sel = *const c_void;

/// `BOOL`: a byte, whatever the architecture calls it; anything but 0 is true.
pub(super) type Bool = u8;

functions! {
    /// The runtime's functions that are used.
    struct Functions {
        get_class = c"objc_getClass"(*const c_char) -> Id;
        register_selector = c"sel_registerName"(*const c_char) -> Sel;
        instance_method = c"class_getInstanceMethod"(Id, Sel) -> *const c_void;
        class_method = c"class_getClassMethod"(Id, Sel) -> *const c_void;
        encoding = c"method_getTypeEncoding"(*const c_void) -> *const c_char;
        retain = c"objc_retain"(Id) -> Id;
        release = c"objc_release"(Id);
        push_pool = c"objc_autoreleasePoolPush"() -> *mut c_void;
        pop_pool = c"objc_autoreleasePoolPop"(*mut c_void);
        send = c"objc_msgSend"();
    }
}

/// The Objective-C runtime.
#[derive(Debug)]
pub(super) struct Runtime {
    pub(super) functions: Functions,
    library: Library,
    /// Kept open for its classes.
    _foundation: Library,
}

/// Sends a message: `send!(runtime, receiver, selector, u32 = 21, Id = options => Bool)`.
///
/// The caller vouches, in an `unsafe` block, that the method has this signature.
macro_rules! send {
    ($runtime:expr, $to:expr, $selector:expr $(, $ty:ty = $value:expr)* => $ret:ty) => {{
        let function = std::mem::transmute::<
            unsafe extern "C-unwind" fn(),
            unsafe extern "C-unwind" fn(
                $crate::engine::objc::Id, $crate::engine::objc::Sel $(, $ty)*
            ) -> $ret,
        >($runtime.functions.send);
        function($to, $selector $(, $value)*)
    }};
}
pub(super) use send;

/// Whose method it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Class,
    Instance,
}

impl Runtime {
    pub(super) fn open(libraries: &Libraries) -> Result<Arc<Self>, AneError> {
        let library = Library::open(&libraries.objc)?;
        let functions = Functions::load(&library)?;
        let foundation = Library::open(&libraries.foundation)?;
        Ok(Arc::new(Runtime { functions, library, _foundation: foundation }))
    }

    pub(super) fn selector(&self, name: &CStr) -> Sel {
        // SAFETY: `name` is a C string; the runtime copies it.
        unsafe { (self.functions.register_selector)(name.as_ptr()) }
    }

    /// The class of that name, if some library registered it.
    pub(super) fn class(&self, name: &CStr) -> Result<Id, AneError> {
        // SAFETY: `name` is a C string.
        let class = unsafe { (self.functions.get_class)(name.as_ptr()) };
        match class.is_null() {
            true => Err(self.library.missing("class", &name.to_string_lossy())),
            false => Ok(class),
        }
    }

    /// Verifies that a method exists and takes and returns what is expected, so that sending it
    /// neither raises nor misreads a register. Sizes of integers are not compared: they go in
    /// registers of one size.
    pub(super) fn expect(
        &self,
        class: &CStr,
        kind: Kind,
        name: &CStr,
        expected: &str,
    ) -> Result<(), AneError> {
        let id = self.class(class)?;
        let selector = self.selector(name);
        let method = match kind {
            Kind::Class => self.functions.class_method,
            Kind::Instance => self.functions.instance_method,
        };
        let sign = if kind == Kind::Class { '+' } else { '-' };
        let shown = format!("{sign}[{} {}]", class.to_string_lossy(), name.to_string_lossy());
        // SAFETY: `id` is a class and `selector` a registered selector.
        let method = unsafe { method(id, selector) };
        if method.is_null() {
            return Err(self.library.missing("method", &shown));
        }
        // SAFETY: `method` is a method; the encoding is a C string or null.
        let found = unsafe {
            let encoding = (self.functions.encoding)(method);
            if encoding.is_null() { String::new() } else { text(encoding) }
        };
        match classes(&found) == classes(expected) {
            true => Ok(()),
            false => {
                let expected = expected.into();
                Err(AppleError::Signature { method: shown, found, expected }.into())
            }
        }
    }
}

/// Kinds of the types in a method's encoding such as `B36@0:8I16@20^@28`, result first: `p` for
/// pointers and objects, `i` for integers and truth values, `f` for floats, `v` for nothing, `s`
/// for structures.
fn classes(encoding: &str) -> String {
    let bytes = encoding.as_bytes();
    let mut found = String::new();
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            // Qualifiers (const, in, out …), offsets, and the `?` of a block.
            b'r' | b'n' | b'N' | b'o' | b'O' | b'R' | b'V' | b'A' | b'j' | b'?' => i += 1,
            b'0'..=b'9' | b'-' | b'+' => i += 1,
            b'^' => {
                found.push('p');
                while i < bytes.len() && bytes[i] == b'^' {
                    i += 1;
                }
                i = after_type(bytes, i);
            }
            b'@' | b'#' | b':' | b'*' => {
                found.push('p');
                i += 1;
                if bytes.get(i) == Some(&b'"') {
                    i = bytes[i + 1..].iter().position(|&b| b == b'"').map_or(i, |n| i + n + 2);
                }
            }
            b'f' | b'd' | b'D' => {
                found.push('f');
                i += 1;
            }
            b'v' => {
                found.push('v');
                i += 1;
            }
            b'{' | b'(' | b'[' => {
                found.push('s');
                i = after_type(bytes, i);
            }
            _ => {
                found.push('i');
                i += 1;
            }
        }
    }
    found
}

/// Index after the type that starts at `i`: a bracketed one as a whole, any other one letter.
fn after_type(bytes: &[u8], mut i: usize) -> usize {
    let mut depth = 0usize;
    while i < bytes.len() {
        match bytes[i] {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => depth = depth.saturating_sub(1),
            b'r' | b'n' | b'N' | b'o' | b'O' | b'R' | b'V' | b'A' | b'j' if depth == 0 => {
                i += 1;
                continue;
            }
            _ => {}
        }
        i += 1;
        if depth == 0 {
            break;
        }
    }
    i
}

/// An object that we own one reference of.
#[derive(Debug)]
pub(super) struct Object {
    id: NonNull<c_void>,
    runtime: Arc<Runtime>,
}

// SAFETY: references are counted atomically by the runtime; which objects are used by one thread at
// a time is the business of those who hold them.
unsafe impl Send for Object {}
// SAFETY: as above; through `&Object` only messages of immutable objects are sent.
unsafe impl Sync for Object {}

impl Object {
    /// Takes over a reference, as `alloc`, `new` and `copy` give; `None` for nil.
    ///
    /// # Safety
    /// `id` is nil or an object of which the caller owns a reference.
    pub(super) unsafe fn owned(runtime: &Arc<Runtime>, id: Id) -> Option<Self> {
        Some(Object { id: NonNull::new(id)?, runtime: Arc::clone(runtime) })
    }

    /// Takes a reference of an object that belongs to a pool or to another object; `None` for nil.
    ///
    /// # Safety
    /// `id` is nil or an object.
    pub(super) unsafe fn retained(runtime: &Arc<Runtime>, id: Id) -> Option<Self> {
        let id = NonNull::new(id)?;
        // SAFETY: promised by the caller.
        unsafe { (runtime.functions.retain)(id.as_ptr()) };
        Some(Object { id, runtime: Arc::clone(runtime) })
    }

    pub(super) fn id(&self) -> Id {
        self.id.as_ptr()
    }
}

impl Clone for Object {
    fn clone(&self) -> Self {
        // SAFETY: an object; the reference that this takes is the clone's.
        unsafe { (self.runtime.functions.retain)(self.id()) };
        Object { id: self.id, runtime: Arc::clone(&self.runtime) }
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // What dies of it may leave something to a pool.
        let _pool = Pool::new(&self.runtime);
        // SAFETY: the reference is ours.
        unsafe { (self.runtime.functions.release)(self.id.as_ptr()) }
    }
}

/// A pool for objects that the system returns without giving them to us, and for those that it leaves
/// behind in any other call: no thread of ours has one of its own. Pools nest, and belong to the thread
/// that made them.
#[derive(Debug)]
pub(super) struct Pool<'r> {
    token: *mut c_void,
    runtime: &'r Runtime,
}

impl<'r> Pool<'r> {
    pub(super) fn new(runtime: &'r Runtime) -> Self {
        // SAFETY: no precondition.
        Pool { token: unsafe { (runtime.functions.push_pool)() }, runtime }
    }
}

impl Drop for Pool<'_> {
    fn drop(&mut self) {
        // SAFETY: the token is that of this thread's innermost open pool: guards nest, and a raw
        // pointer keeps them on their thread.
        unsafe { (self.runtime.functions.pop_pool)(self.token) }
    }
}

#[cfg(test)]
mod tests {
    use super::classes;

    #[test]
    fn encodings_are_compared_by_kind_of_register() {
        for (encoding, expected) in [
            ("B36@0:8I16@20^@28", "ippipp"),
            ("c40@0:8Q16@24^@32", "ippipp"),
            ("@24@0:8^{__IOSurface=}16", "pppp"),
            ("@\"NSString\"16@0:8", "ppp"),
            ("v16@0:8", "vpp"),
            ("r*16@0:8", "ppp"),
            ("{CGRect={CGPoint=dd}{CGSize=dd}}16@0:8d20f24", "sppff"),
            ("^^{a=i^{b}}8@0", "pp"),
            ("", ""),
        ] {
            assert_eq!(classes(encoding), expected, "{encoding}");
        }
        assert_ne!(classes("B@:@^@"), classes("B@:I@^@"));
    }
}
