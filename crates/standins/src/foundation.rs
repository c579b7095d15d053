//! Strings, data, numbers, arrays, dictionaries and errors.

use crate::control::violation;
use crate::runtime::{
    Body, Id, Imp, Ref, Sel, Table, autorelease, body, initialise, make, objc_release,
};
use std::any::Any;
use std::ffi::{CString, c_char};
use std::fmt::Debug;
use std::ptr::null_mut;
use std::slice::from_raw_parts;

/// The contents of Foundation's objects.
#[derive(Debug)]
pub(crate) enum Value {
    String(CString),
    Data(Vec<u8>),
    Number(i64),
    Array(Vec<Ref>),
    Dictionary(Vec<(Ref, Ref)>),
    Error(Ref),
}

impl Body for Value {}

/// The contents of an object of a class whose code is not known: it may leave objects to the pool as
/// it dies.
pub(crate) trait Opaque: Any + Debug {}

impl<T: Opaque> Body for T {
    fn release(&self) {
        temporary();
    }
}

/// Leaves an object to the pool, as code that the compiler counts references for may in any call.
pub(crate) fn temporary() {
    autorelease(string("a temporary object"));
}

pub(crate) fn classes() -> Vec<Table> {
    vec![
        (
            "NSString",
            vec![],
            vec![
                ("initWithBytes:length:encoding:", init_string as Imp, "@40@0:8r^v16Q24Q32"),
                ("UTF8String", utf8 as Imp, "r*16@0:8"),
            ],
        ),
        ("NSData", vec![], vec![("initWithBytes:length:", init_data as Imp, "@32@0:8r^v16Q24")]),
        ("NSNumber", vec![], vec![("initWithLongLong:", init_number as Imp, "@24@0:8q16")]),
        ("NSArray", vec![], vec![("initWithObjects:count:", init_array as Imp, "@32@0:8r^@16Q24")]),
        (
            "NSDictionary",
            vec![],
            vec![(
                "initWithObjects:forKeys:count:",
                init_dictionary as Imp,
                "@40@0:8r^@16r^@24Q32",
            )],
        ),
        ("NSMutableDictionary", vec![], vec![]),
        ("NSError", vec![], vec![("description", description as Imp, "@16@0:8")]),
    ]
}

/// # Safety
/// `bytes` points to `length` elements, or `length` is 0.
unsafe fn slice<'a, T>(bytes: *const T, length: usize) -> &'a [T] {
    // SAFETY: promised by the caller.
    if length == 0 { &[] } else { unsafe { from_raw_parts(bytes, length) } }
}

unsafe extern "C" fn init_string(s: Id, _: Sel, bytes: *const u8, n: usize, encoding: usize) -> Id {
    if encoding != 4 {
        violation(format!("a string in encoding {encoding} instead of 4 (UTF-8)"));
    }
    // SAFETY: by contract.
    let bytes = unsafe { slice(bytes, n) };
    match CString::new(bytes) {
        Ok(text) if text.to_str().is_ok() => initialise(s, Value::String(text)),
        _ => {
            violation("a string that is no UTF-8 or has a null");
            // SAFETY: a failing initialiser gives the object back.
            unsafe { objc_release(s) };
            null_mut()
        }
    }
}

unsafe extern "C" fn utf8(s: Id, _: Sel) -> *const c_char {
    match body(s) {
        Some(Value::String(text)) => text.as_ptr(),
        _ => std::ptr::null(),
    }
}

unsafe extern "C" fn init_data(s: Id, _: Sel, bytes: *const u8, n: usize) -> Id {
    // SAFETY: by contract.
    initialise(s, Value::Data(unsafe { slice(bytes, n) }.to_vec()))
}

unsafe extern "C" fn init_number(s: Id, _: Sel, value: i64) -> Id {
    initialise(s, Value::Number(value))
}

/// References of all of `objects`; nil among them is a violation, as it raises there.
unsafe fn references(objects: *const Id, n: usize) -> Vec<Ref> {
    // SAFETY: by contract.
    let objects = unsafe { slice(objects, n) };
    if objects.iter().any(|object| object.is_null()) {
        violation("a collection with nil in it");
    }
    objects.iter().map(|&object| Ref::new(object)).collect()
}

unsafe extern "C" fn init_array(s: Id, _: Sel, objects: *const Id, n: usize) -> Id {
    // SAFETY: by contract.
    initialise(s, Value::Array(unsafe { references(objects, n) }))
}

unsafe extern "C" fn init_dictionary(
    s: Id,
    _: Sel,
    objects: *const Id,
    keys: *const Id,
    n: usize,
) -> Id {
    // SAFETY: by contract.
    let (keys, objects) = unsafe { (references(keys, n), references(objects, n)) };
    initialise(s, Value::Dictionary(keys.into_iter().zip(objects).collect()))
}

unsafe extern "C" fn description(s: Id, _: Sel) -> Id {
    match body(s) {
        Some(Value::Error(text)) => autorelease(Ref::new(text.0).into_id()),
        _ => null_mut(),
    }
}

/// An array owned by the caller, which takes over its elements.
pub(crate) fn make_array(elements: Vec<Id>) -> Id {
    make("NSArray", Value::Array(elements.into_iter().map(Ref).collect()))
}

/// A dictionary owned by the caller, of the class of that name, which takes over its values.
pub(crate) fn make_dictionary(class: &str, entries: Vec<(&str, Id)>) -> Id {
    let entries = entries.into_iter().map(|(key, value)| (Ref(string(key)), Ref(value)));
    make(class, Value::Dictionary(entries.collect()))
}

/// A number owned by the caller.
pub(crate) fn make_number(value: i64) -> Id {
    make("NSNumber", Value::Number(value))
}

/// A string owned by the caller.
pub(crate) fn string(text: &str) -> Id {
    make("NSString", Value::String(CString::new(text).unwrap_or_default()))
}

/// Stores an error, which the pool owns, where a method was told to.
pub(crate) fn store_error(to: *mut Id, text: &str) {
    if to.is_null() {
        return;
    }
    let error = make("NSError", Value::Error(Ref(string(text))));
    // SAFETY: a place for an error by contract.
    unsafe { *to = autorelease(error) };
}

pub(crate) fn text<'a>(id: Id) -> Option<&'a str> {
    match body(id)? {
        Value::String(text) => text.to_str().ok(),
        _ => None,
    }
}

pub(crate) fn data<'a>(id: Id) -> Option<&'a [u8]> {
    match body(id)? {
        Value::Data(bytes) => Some(bytes),
        _ => None,
    }
}

pub(crate) fn number(id: Id) -> Option<i64> {
    match body(id)? {
        Value::Number(value) => Some(*value),
        _ => None,
    }
}

pub(crate) fn array<'a>(id: Id) -> Option<&'a [Ref]> {
    match body(id)? {
        Value::Array(elements) => Some(elements),
        _ => None,
    }
}

pub(crate) fn dictionary<'a>(id: Id) -> Option<&'a [(Ref, Ref)]> {
    match body(id)? {
        Value::Dictionary(entries) => Some(entries),
        _ => None,
    }
}

/// The value of a key of a dictionary.
pub(crate) fn value(id: Id, key: &str) -> Option<Id> {
    dictionary(id)?.iter().find(|(k, _)| text(k.0) == Some(key)).map(|(_, v)| v.0)
}
