//! An Objective-C runtime: as much of one as is called. It knows no class: [`define`] is given them.

use crate::control::{COUNTERS, fault, is_on, violation};
use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_void};
use std::fmt::Debug;
use std::mem::ManuallyDrop;
use std::ptr::null;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

pub(crate) type Id = *mut c_void;
pub(crate) type Sel = *const c_char;
pub(crate) type Bool = u8;
pub(crate) type Imp = *const c_void;

const LIVE: usize = 0x4c49_5645;
const CLASS: usize = 0x434c_4153;
const DEAD: usize = 0x4445_4144;

/// The contents of an object, of any type: [`body`] finds them by it.
pub(crate) trait Body: Any + Debug {
    /// Runs when the last reference is given back, while the object is still alive.
    fn release(&self) {}
}

/// An object. Its memory is never given back, so that the use of a dead one is seen.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Object {
    isa: *const Class,
    state: AtomicUsize,
    references: AtomicUsize,
    body: ManuallyDrop<OnceLock<Box<dyn Body>>>,
}

/// A class, or the class of a class.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Class {
    isa: *const Class,
    state: AtomicUsize,
    pub(crate) name: &'static str,
    methods: Vec<Method>,
}

/// A method of a table: name, code, encoding of its types.
#[derive(Debug)]
pub(crate) struct Method {
    selector: Sel,
    imp: Imp,
    encoding: CString,
    name: &'static str,
}

/// A method as tables have it.
pub(crate) type Row = (&'static str, Imp, &'static str);

/// A class as tables have it: name, methods of the class, methods of its objects.
pub(crate) type Table = (&'static str, Vec<Row>, Vec<Row>);

struct Classes(BTreeMap<&'static str, *const Class>);
// SAFETY: classes are made once and never change.
unsafe impl Send for Classes {}
// SAFETY: as above.
unsafe impl Sync for Classes {}

fn methods(rows: &[Row]) -> Vec<Method> {
    let row = |&(name, imp, types): &Row| Method {
        selector: intern(name),
        imp,
        encoding: CString::new(types).unwrap_or_default(),
        name,
    };
    rows.iter().map(row).collect()
}

static CLASSES: OnceLock<Classes> = OnceLock::new();

/// Defines the classes, once, when the library is opened.
pub(crate) fn define(tables: impl Iterator<Item = Table>) {
    let base: [Row; 3] = [
        ("retain", retain_method as Imp, "@16@0:8"),
        ("release", release_method as Imp, "v16@0:8"),
        ("autorelease", autorelease_method as Imp, "@16@0:8"),
    ];
    let made = tables.map(|(name, class, object)| {
        let class: Vec<Row> =
            class.into_iter().chain([("alloc", alloc_method as Imp, "@16@0:8")]).collect();
        let object: Vec<Row> = object.into_iter().chain(base).collect();
        let make = |isa, rows: &[Row]| {
            let state = AtomicUsize::new(CLASS);
            &*Box::leak(Box::new(Class { isa, state, name, methods: methods(rows) }))
        };
        let meta: *const Class = make(null(), &class);
        (name, make(meta, &object) as *const Class)
    });
    if CLASSES.set(Classes(made.collect())).is_err() {
        violation("the classes were defined twice");
    }
}

/// One address per name.
fn intern(name: &str) -> Sel {
    static NAMES: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    let leak = || CString::new(name).unwrap_or_default().into_raw() as usize;
    *names.entry(name.to_owned()).or_insert_with(leak) as Sel
}

/// # Safety
/// `receiver` is an object or class that was made here.
unsafe fn class_of<'a>(receiver: Id) -> &'a Class {
    // SAFETY: both start with their class.
    unsafe { &**receiver.cast::<*const Class>() }
}

extern "C" fn nothing() -> usize {
    0
}

/// The code that a message runs. Messages to nil and to the dead do nothing.
extern "C" fn lookup(receiver: Id, selector: Sel) -> Imp {
    if receiver.is_null() {
        return nothing as Imp;
    }
    // SAFETY: selectors are C strings.
    let name = || unsafe { CStr::from_ptr(selector) }.to_string_lossy();
    // SAFETY: objects and classes both have their state in the second word.
    let state = unsafe { (*receiver.cast::<Object>()).state.load(Ordering::SeqCst) };
    if state != LIVE && state != CLASS {
        violation(format!("-{} was sent to what is no object any more", name()));
        return nothing as Imp;
    }
    // SAFETY: just verified.
    let class = unsafe { class_of(receiver) };
    match class.methods.iter().find(|method| method.selector == selector) {
        Some(method) => method.imp,
        None => {
            // What would be an exception.
            violation(format!("{} does not know {}", class.name, name()));
            nothing as Imp
        }
    }
}

/// Finds the code and jumps to it, arguments untouched. Registers of floats are not kept: no method
/// takes one.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn objc_msgSend() {
    std::arch::naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "push rdi",
        "push rsi",
        "push rdx",
        "push rcx",
        "push r8",
        "push r9",
        "call {lookup}",
        "mov r11, rax",
        "pop r9",
        "pop r8",
        "pop rcx",
        "pop rdx",
        "pop rsi",
        "pop rdi",
        "pop rbp",
        "jmp r11",
        lookup = sym lookup,
    )
}

/// Finds the code and jumps to it, arguments untouched. Registers of floats are not kept: no method
/// takes one.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn objc_msgSend() {
    std::arch::naked_asm!(
        "stp x29, x30, [sp, #-80]!",
        "mov x29, sp",
        "stp x0, x1, [sp, #16]",
        "stp x2, x3, [sp, #32]",
        "stp x4, x5, [sp, #48]",
        "stp x6, x7, [sp, #64]",
        "bl {lookup}",
        "mov x16, x0",
        "ldp x0, x1, [sp, #16]",
        "ldp x2, x3, [sp, #32]",
        "ldp x4, x5, [sp, #48]",
        "ldp x6, x7, [sp, #64]",
        "ldp x29, x30, [sp], #80",
        "br x16",
        lookup = sym lookup,
    )
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn objc_getClass(name: *const c_char) -> Id {
    // SAFETY: a C string by contract.
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
    match is_on(&format!("class {name}")) {
        true => std::ptr::null_mut(),
        false => class(&name),
    }
}

/// The class of that name; null if there is none.
pub(crate) fn class(name: &str) -> Id {
    let found = CLASSES.get().and_then(|classes| classes.0.get(name));
    found.map_or(std::ptr::null_mut(), |&class| class.cast_mut().cast())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn sel_registerName(name: *const c_char) -> Sel {
    // SAFETY: a C string by contract.
    intern(&unsafe { CStr::from_ptr(name) }.to_string_lossy())
}

fn method(class: &Class, selector: Sel) -> *const Method {
    let found = class.methods.iter().find(|method| method.selector == selector);
    match found {
        Some(method) if !is_on(&format!("method {}", method.name)) => method,
        _ => null(),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn class_getInstanceMethod(class: Id, selector: Sel) -> *const Method {
    // SAFETY: a class by contract.
    method(unsafe { &*class.cast::<Class>() }, selector)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn class_getClassMethod(class: Id, selector: Sel) -> *const Method {
    // SAFETY: a class by contract.
    method(unsafe { class_of(class) }, selector)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn method_getTypeEncoding(method: *const Method) -> *const c_char {
    // SAFETY: a method by contract.
    let method = unsafe { &*method };
    match is_on(&format!("signature {}", method.name)) {
        true => c"v24@0:8d16".as_ptr(),
        false => method.encoding.as_ptr(),
    }
}

/// An object without contents, owned by the caller.
pub(crate) fn allocate(class: Id) -> Id {
    COUNTERS.objects.fetch_add(1, Ordering::SeqCst);
    let object = Object {
        isa: class.cast_const().cast(),
        state: AtomicUsize::new(LIVE),
        references: AtomicUsize::new(1),
        body: ManuallyDrop::new(OnceLock::new()),
    };
    Box::into_raw(Box::new(object)).cast()
}

/// An object with contents, owned by the caller.
pub(crate) fn make(name: &str, body: impl Body) -> Id {
    let object = allocate(class(name));
    initialise(object, body);
    object
}

/// Gives an allocated object its contents.
pub(crate) fn initialise(object: Id, body: impl Body) -> Id {
    if let Some(object) = live(object)
        && object.body.set(Box::new(body)).is_err()
    {
        violation("an object was initialised twice");
    }
    object
}

/// The object, if it is alive; anything else but nil is a violation.
pub(crate) fn live<'a>(id: Id) -> Option<&'a Object> {
    if id.is_null() {
        return None;
    }
    // SAFETY: the memory of objects is never given back.
    let object = unsafe { &*id.cast::<Object>() };
    match object.state.load(Ordering::SeqCst) {
        LIVE => Some(object),
        _ => {
            violation("what is no object any more was used");
            None
        }
    }
}

/// True if the object is alive; asking is no violation.
pub(crate) fn is_alive(id: Id) -> bool {
    // SAFETY: the memory of objects is never given back.
    !id.is_null() && unsafe { &*id.cast::<Object>() }.state.load(Ordering::SeqCst) == LIVE
}

/// The name of an object's class; empty for nil and the dead.
pub(crate) fn class_name(id: Id) -> &'static str {
    // SAFETY: a live object starts with its class.
    live(id).map_or("", |_| unsafe { class_of(id) }.name)
}

/// Returns the contents of an object; `None` for nil, the dead, the uninitialised, and those whose
/// contents are of another type.
pub(crate) fn body<'a, T: Body>(id: Id) -> Option<&'a T> {
    let body: &dyn Any = &**live(id)?.body.get()?;
    body.downcast_ref()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn objc_retain(id: Id) -> Id {
    if let Some(object) = live(id) {
        object.references.fetch_add(1, Ordering::SeqCst);
    }
    id
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn objc_release(id: Id) {
    let Some(object) = live(id) else { return };
    if object.references.fetch_sub(1, Ordering::SeqCst) > 1 {
        return;
    }
    if let Some(body) = object.body.get() {
        body.release();
    }
    object.state.store(DEAD, Ordering::SeqCst);
    COUNTERS.objects.fetch_sub(1, Ordering::SeqCst);
    // SAFETY: the last reference is gone and the state forbids further use.
    unsafe { ManuallyDrop::drop(&mut (*id.cast::<Object>()).body) };
}

extern "C" fn alloc_method(class: Id, _: Sel) -> Id {
    allocate(class)
}

extern "C" fn retain_method(object: Id, _: Sel) -> Id {
    // SAFETY: an object.
    unsafe { objc_retain(object) }
}

extern "C" fn release_method(object: Id, _: Sel) {
    // SAFETY: an object.
    unsafe { objc_release(object) }
}

extern "C" fn autorelease_method(object: Id, _: Sel) -> Id {
    autorelease(object)
}

thread_local! {
    static POOLS: RefCell<Vec<Vec<Id>>> = const { RefCell::new(Vec::new()) };
}

/// Leaves a reference to the innermost pool.
pub(crate) fn autorelease(object: Id) -> Id {
    let kept = POOLS.with_borrow_mut(|pools| pools.last_mut().map(|pool| pool.push(object)));
    if kept.is_none() && !object.is_null() {
        violation("an object was left to a pool where there is none: it leaks");
    }
    object
}

#[unsafe(no_mangle)]
pub extern "C" fn objc_autoreleasePoolPush() -> *mut c_void {
    COUNTERS.pools.fetch_add(1, Ordering::SeqCst);
    POOLS.with_borrow_mut(|pools| {
        pools.push(vec![]);
        pools.len() as *mut c_void
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn objc_autoreleasePoolPop(token: *mut c_void) {
    if token.is_null() || POOLS.with_borrow(Vec::len) != token as usize {
        return violation("a pool was closed that is not this thread's innermost");
    }
    // One by one: what an object leaves to the pool as it dies goes with it.
    let last = || POOLS.with_borrow_mut(|pools| pools.last_mut().and_then(Vec::pop));
    while let Some(object) = last() {
        // SAFETY: left with a reference.
        unsafe { objc_release(object) };
    }
    POOLS.with_borrow_mut(Vec::pop);
    COUNTERS.pools.fetch_sub(1, Ordering::SeqCst);
}

/// A reference of an object, given back when dropped.
#[derive(Debug)]
pub(crate) struct Ref(pub(crate) Id);

// SAFETY: references are counted atomically.
unsafe impl Send for Ref {}
// SAFETY: as above.
unsafe impl Sync for Ref {}

impl Ref {
    pub(crate) fn new(id: Id) -> Self {
        // SAFETY: an object or nil.
        Ref(unsafe { objc_retain(id) })
    }

    /// Hands the reference over.
    pub(crate) fn into_id(self) -> Id {
        let id = self.0;
        std::mem::forget(self);
        id
    }
}

impl Drop for Ref {
    fn drop(&mut self) {
        // SAFETY: ours.
        unsafe { objc_release(self.0) }
    }
}

/// A factory's result: nil if the fault is on, else left to the pool.
pub(crate) fn factory(name: &str, make: impl FnOnce() -> Option<Id>) -> Id {
    match fault(name) {
        true => std::ptr::null_mut(),
        false => make().map_or(std::ptr::null_mut(), autorelease),
    }
}
