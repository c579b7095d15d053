//! The few objects of Foundation that messages take: made with `alloc` and `init…`, so that each is
//! ours and no pool is needed.

#![allow(unsafe_code, reason = "messages to objects")]

use super::dynamic::text;
use super::objc::{Id, Object, Runtime, Sel, send};
use ane::AneError;
use std::ffi::c_char;
use std::ptr::null_mut;
use std::sync::Arc;

/// `NSUTF8StringEncoding`.
const UTF8: usize = 4;

/// Classes and selectors of Foundation.
#[derive(Debug)]
pub(super) struct Foundation {
    pub(super) runtime: Arc<Runtime>,
    string: Id,
    data: Id,
    number: Id,
    array: Id,
    dictionary: Id,
    alloc: Sel,
    init_string: Sel,
    init_data: Sel,
    init_number: Sel,
    init_array: Sel,
    init_dictionary: Sel,
    utf8: Sel,
    description: Sel,
}

// SAFETY: classes and selectors live as long as the process and may be used from any thread.
unsafe impl Send for Foundation {}
// SAFETY: as above.
unsafe impl Sync for Foundation {}

impl Foundation {
    pub(super) fn new(runtime: Arc<Runtime>) -> Result<Self, AneError> {
        Ok(Foundation {
            string: runtime.class(c"NSString")?,
            data: runtime.class(c"NSData")?,
            number: runtime.class(c"NSNumber")?,
            array: runtime.class(c"NSArray")?,
            dictionary: runtime.class(c"NSDictionary")?,
            alloc: runtime.selector(c"alloc"),
            init_string: runtime.selector(c"initWithBytes:length:encoding:"),
            init_data: runtime.selector(c"initWithBytes:length:"),
            init_number: runtime.selector(c"initWithLongLong:"),
            init_array: runtime.selector(c"initWithObjects:count:"),
            init_dictionary: runtime.selector(c"initWithObjects:forKeys:count:"),
            utf8: runtime.selector(c"UTF8String"),
            description: runtime.selector(c"description"),
            runtime,
        })
    }

    fn alloc(&self, class: Id) -> Id {
        // SAFETY: every class has `alloc`.
        unsafe { send!(self.runtime, class, self.alloc => Id) }
    }

    fn made(&self, id: Id, what: &'static str) -> Result<Object, AneError> {
        // SAFETY: `init…` gives nil or an object that is ours.
        unsafe { Object::owned(&self.runtime, id) }
            .ok_or_else(|| AneError::NoEngine { reason: format!("the system made no {what}") })
    }

    pub(super) fn string(&self, text: &str) -> Result<Object, AneError> {
        let object = self.alloc(self.string);
        // SAFETY: the bytes are copied.
        let object = unsafe {
            send!(self.runtime, object, self.init_string,
                *const u8 = text.as_ptr(), usize = text.len(), usize = UTF8 => Id)
        };
        self.made(object, "NSString")
    }

    pub(super) fn data(&self, bytes: &[u8]) -> Result<Object, AneError> {
        let object = self.alloc(self.data);
        // SAFETY: the bytes are copied.
        let object = unsafe {
            send!(self.runtime, object, self.init_data,
                *const u8 = bytes.as_ptr(), usize = bytes.len() => Id)
        };
        self.made(object, "NSData")
    }

    pub(super) fn number(&self, value: i64) -> Result<Object, AneError> {
        let object = self.alloc(self.number);
        // SAFETY: takes a `long long`.
        let object = unsafe { send!(self.runtime, object, self.init_number, i64 = value => Id) };
        self.made(object, "NSNumber")
    }

    /// An array, which keeps its elements.
    pub(super) fn array(&self, elements: &[Object]) -> Result<Object, AneError> {
        let ids: Vec<Id> = elements.iter().map(Object::id).collect();
        let object = self.alloc(self.array);
        // SAFETY: `ids` are objects; the list is copied.
        let object = unsafe {
            send!(self.runtime, object, self.init_array,
                *const Id = ids.as_ptr(), usize = ids.len() => Id)
        };
        self.made(object, "NSArray")
    }

    /// A dictionary, which keeps its keys and values; an empty one for no entries.
    pub(super) fn dictionary(&self, entries: &[(Object, Object)]) -> Result<Object, AneError> {
        let keys: Vec<Id> = entries.iter().map(|(key, _)| key.id()).collect();
        let values: Vec<Id> = entries.iter().map(|(_, value)| value.id()).collect();
        let object = self.alloc(self.dictionary);
        // SAFETY: keys are strings, values objects; the lists are copied.
        let object = unsafe {
            send!(self.runtime, object, self.init_dictionary,
                *const Id = values.as_ptr(), *const Id = keys.as_ptr(), usize = keys.len() => Id)
        };
        self.made(object, "NSDictionary")
    }

    /// The text of a string; empty for nil. Needs a pool around it.
    ///
    /// # Safety
    /// `string` is nil or an `NSString`.
    pub(super) unsafe fn text(&self, string: Id) -> String {
        if string.is_null() {
            return String::new();
        }
        // SAFETY: promised by the caller; the characters live as long as the pool.
        unsafe {
            let characters = send!(self.runtime, string, self.utf8 => *const c_char);
            if characters.is_null() { String::new() } else { text(characters) }
        }
    }

    /// An error in the system's own words, `Error Domain=… Code=… "…"`. Needs a pool around it.
    ///
    /// # Safety
    /// `error` is nil or an `NSError`.
    pub(super) unsafe fn error(&self, error: Id) -> String {
        if error.is_null() {
            return "nothing (the call failed without an error object)".to_owned();
        }
        // SAFETY: promised by the caller; every object has a description.
        let description = unsafe {
            let description = send!(self.runtime, error, self.description => Id);
            self.text(description)
        };
        // Descriptions of user information are spread over lines.
        description.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Sends a message that returns `BOOL` and an error, through `call`, in a pool of its own.
    pub(super) fn checked(
        &self,
        call: impl FnOnce(&mut Id) -> super::objc::Bool,
    ) -> Result<(), String> {
        let _pool = super::objc::Pool::new(&self.runtime);
        let mut error: Id = null_mut();
        match call(&mut error) {
            // SAFETY: a method that returns NO has stored nil or an error that the pool owns.
            0 => Err(unsafe { self.error(error) }),
            _ => Ok(()),
        }
    }
}
