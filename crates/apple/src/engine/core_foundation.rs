//! The few functions of CoreFoundation that reading dictionaries of strings takes. What is found in
//! a dictionary is looked at only after its type was asked for.

#![allow(unsafe_code, reason = "CoreFoundation is a C library")]

use super::dynamic::{Libraries, Library, functions};
use ane::AneError;
use std::ffi::{CStr, c_char, c_void};
use std::ptr::{NonNull, null_mut};

/// Any object of CoreFoundation; null for none.
pub(super) type CfRef = *mut c_void;

/// `kCFStringEncodingUTF8`.
const UTF8: u32 = 0x0800_0100;

/// Longest name that is read.
const NAME: usize = 256;

functions! {
    /// The functions that are used.
    struct Functions {
        release = c"CFRelease"(CfRef);
        type_of = c"CFGetTypeID"(CfRef) -> usize;
        string_type = c"CFStringGetTypeID"() -> usize;
        array_type = c"CFArrayGetTypeID"() -> usize;
        dictionary_type = c"CFDictionaryGetTypeID"() -> usize;
        make_string = c"CFStringCreateWithBytes"(CfRef, *const u8, isize, u32, u8) -> CfRef;
        copy_string = c"CFStringGetCString"(CfRef, *mut c_char, isize, u32) -> u8;
        value = c"CFDictionaryGetValue"(CfRef, CfRef) -> CfRef;
        mutable_copy = c"CFDictionaryCreateMutableCopy"(CfRef, isize, CfRef) -> CfRef;
        count = c"CFArrayGetCount"(CfRef) -> isize;
        at = c"CFArrayGetValueAtIndex"(CfRef, isize) -> CfRef;
    }
}

/// CoreFoundation.
#[derive(Clone, Copy, Debug)]
pub(super) struct CoreFoundation {
    functions: Functions,
}

/// A reference that is given back.
#[derive(Debug)]
pub(super) struct Owned {
    object: NonNull<c_void>,
    release: unsafe extern "C-unwind" fn(CfRef),
}

impl Owned {
    pub(super) fn get(&self) -> CfRef {
        self.object.as_ptr()
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the reference is ours.
        unsafe { (self.release)(self.object.as_ptr()) }
    }
}

impl CoreFoundation {
    pub(super) fn open(libraries: &Libraries) -> Result<Self, AneError> {
        let library = Library::open(&libraries.core_foundation)?;
        Ok(CoreFoundation { functions: Functions::load(&library)? })
    }

    /// Takes over a reference, if there is one.
    ///
    /// # Safety
    /// `object` is null or an object of which the caller owns a reference.
    pub(super) unsafe fn owned(&self, object: CfRef) -> Option<Owned> {
        let object = NonNull::new(object)?;
        Some(Owned { object, release: self.functions.release })
    }

    /// A string.
    pub(super) fn string(&self, text: &str) -> Option<Owned> {
        // A slice is never longer than `isize::MAX`.
        let length = text.len() as isize;
        // SAFETY: the bytes are copied; what is created is ours.
        unsafe {
            let made = (self.functions.make_string)(null_mut(), text.as_ptr(), length, UTF8, 0);
            self.owned(made)
        }
    }

    /// True if an object is of a type.
    ///
    /// # Safety
    /// `object` is null or an object.
    unsafe fn is(&self, object: CfRef, ty: unsafe extern "C-unwind" fn() -> usize) -> bool {
        // SAFETY: promised by the caller.
        !object.is_null() && unsafe { (self.functions.type_of)(object) == ty() }
    }

    /// True if an object is a dictionary.
    ///
    /// # Safety
    /// `object` is null or an object.
    pub(super) unsafe fn is_dictionary(&self, object: CfRef) -> bool {
        // SAFETY: promised by the caller.
        unsafe { self.is(object, self.functions.dictionary_type) }
    }

    /// The text of a string of at most [`NAME`] bytes.
    ///
    /// # Safety
    /// `string` is null or an object.
    pub(super) unsafe fn text(&self, string: CfRef) -> Option<String> {
        let mut bytes = [0u8; NAME];
        let to = bytes.as_mut_ptr().cast();
        // SAFETY: promised by the caller; a string, as just asked; the buffer has that many bytes.
        let copied = unsafe {
            self.is(string, self.functions.string_type)
                && (self.functions.copy_string)(string, to, NAME as isize, UTF8) != 0
        };
        if !copied {
            return None;
        }
        Some(CStr::from_bytes_until_nul(&bytes).ok()?.to_str().ok()?.to_owned())
    }

    /// A copy of a dictionary that can be changed.
    ///
    /// # Safety
    /// `dictionary` is null or an object.
    pub(super) unsafe fn mutable_copy(&self, dictionary: CfRef) -> Option<Owned> {
        // SAFETY: promised by the caller; a dictionary, as asked first; what is created is ours.
        unsafe {
            if !self.is_dictionary(dictionary) {
                return None;
            }
            self.owned((self.functions.mutable_copy)(null_mut(), 0, dictionary))
        }
    }

    /// The dictionaries in the array that is the value of `key`. They live as long as `dictionary`.
    ///
    /// # Safety
    /// `dictionary` is null or an object.
    pub(super) unsafe fn dictionaries(&self, dictionary: CfRef, key: &Owned) -> Vec<CfRef> {
        let functions = &self.functions;
        // SAFETY: promised by the caller; each function is called on what is of its type, with an
        // index below the count.
        unsafe {
            if !self.is_dictionary(dictionary) {
                return vec![];
            }
            let array = (functions.value)(dictionary, key.get());
            if !self.is(array, functions.array_type) {
                return vec![];
            }
            let all = (0..(functions.count)(array)).map(|i| (functions.at)(array, i));
            all.filter(|&element| self.is_dictionary(element)).collect()
        }
    }
}
