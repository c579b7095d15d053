//! CoreFoundation, whose strings, arrays and dictionaries are those of Foundation by other names.

use crate::control::violation;
use crate::foundation::{Value, array, dictionary, string, text, value};
use crate::runtime::{Id, Ref, body, make, objc_release};
use std::ffi::c_char;
use std::ptr::null_mut;

/// `kCFStringEncodingUTF8`.
const UTF8: u32 = 0x0800_0100;

/// Identities of types, as they are on macOS.
const STRING: usize = 7;
const DICTIONARY: usize = 18;
const ARRAY: usize = 19;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn CFRelease(object: Id) {
    if object.is_null() {
        violation("CFRelease of null, which ends the process");
    }
    // SAFETY: an object by contract.
    unsafe { objc_release(object) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn CFGetTypeID(object: Id) -> usize {
    if object.is_null() {
        violation("CFGetTypeID of null, which ends the process");
    }
    match body(object) {
        Some(Value::String(_)) => STRING,
        Some(Value::Dictionary(_)) => DICTIONARY,
        Some(Value::Array(_)) => ARRAY,
        _ => 1,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn CFStringGetTypeID() -> usize {
    STRING
}

#[unsafe(no_mangle)]
pub extern "C" fn CFDictionaryGetTypeID() -> usize {
    DICTIONARY
}

#[unsafe(no_mangle)]
pub extern "C" fn CFArrayGetTypeID() -> usize {
    ARRAY
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn CFStringCreateWithBytes(
    allocator: Id,
    bytes: *const u8,
    length: isize,
    encoding: u32,
    is_external: u8,
) -> Id {
    if !allocator.is_null() || encoding != UTF8 || is_external != 0 || length < 0 {
        violation(format!("a string of {length} bytes in encoding {encoding:#x}"));
        return null_mut();
    }
    // SAFETY: by contract.
    let bytes = unsafe { std::slice::from_raw_parts(bytes, length as usize) };
    match std::str::from_utf8(bytes) {
        Ok(text) => string(text),
        Err(_) => null_mut(),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn CFStringGetCString(
    object: Id,
    to: *mut c_char,
    room: isize,
    encoding: u32,
) -> u8 {
    let Some(text) = text(object) else {
        violation("what is no string was read as one");
        return 0;
    };
    if encoding != UTF8 {
        violation(format!("a string was read in encoding {encoding:#x}"));
    }
    // Text and null must fit.
    if to.is_null() || text.len() as isize >= room {
        return 0;
    }
    // SAFETY: `to` has `room` bytes by contract.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr(), to.cast(), text.len());
        *to.add(text.len()) = 0;
    }
    1
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn CFDictionaryGetValue(object: Id, key: Id) -> Id {
    match (dictionary(object), text(key)) {
        (Some(_), Some(key)) => value(object, key).unwrap_or(null_mut()),
        _ => {
            violation("a value was looked up in what is no dictionary, or by what is no string");
            null_mut()
        }
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn CFDictionaryCreateMutableCopy(
    allocator: Id,
    capacity: isize,
    object: Id,
) -> Id {
    let Some(entries) = dictionary(object) else {
        violation("what is no dictionary was copied as one");
        return null_mut();
    };
    if !allocator.is_null() || (capacity != 0 && (capacity as usize) < entries.len()) {
        violation(format!("a dictionary was copied with capacity {capacity}"));
    }
    let copy = entries.iter().map(|(key, value)| (Ref::new(key.0), Ref::new(value.0)));
    make("NSMutableDictionary", Value::Dictionary(copy.collect()))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn CFArrayGetCount(object: Id) -> isize {
    match array(object) {
        Some(elements) => elements.len() as isize,
        None => {
            violation("what is no array was counted as one");
            0
        }
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn CFArrayGetValueAtIndex(object: Id, index: isize) -> Id {
    match array(object).and_then(|elements| elements.get(usize::try_from(index).ok()?)) {
        Some(element) => element.0,
        None => {
            violation(format!("element {index} of what has none there, or is no array"));
            null_mut()
        }
    }
}
