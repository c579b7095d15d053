//! The functions of e5rt, over the emulator.

use crate::control::{
    COUNTERS, count_compile, count_opened, fault, hang, is_on, violation, wait_for_release,
};
use crate::engine::{Run, emulator, words};
use crate::foundation::string as object;
use crate::runtime::autorelease;
use ane::{AneError, Device};
use chip::CallPath;
use mil::{Program, Weights};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::ffi::{CStr, CString, c_char, c_void};
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::ptr::null_mut;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

type Status = i32;
type Raw = *mut c_void;
type Out = *mut Raw;
type Text = *const c_char;

/// Memory of a buffer.
#[derive(Debug)]
struct Buffer {
    address: usize,
    layout: Layout,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.address as *mut u8, self.layout) };
    }
}

/// Where an operation is with respect to streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Ready,
    Encoded,
}

#[derive(Debug)]
struct Operation {
    program: Arc<Program>,
    run: Run,
    place: Place,
    buffers: BTreeMap<(bool, String), Arc<Buffer>>,
}

/// A compiled program.
#[derive(Clone, Debug)]
struct Code {
    program: Arc<Program>,
    weights: Arc<Weights>,
    /// From a bundle that was there already.
    opened: bool,
}

/// The object of a handle.
#[derive(Clone, Debug)]
enum Thing {
    Config { cache: Option<PathBuf> },
    Compiler { cache: PathBuf },
    Options { devices: u64, force: bool, segmenter: String },
    Library(Code),
    Function(Code),
    Plan { code: Code, set: [bool; 2] },
    Operation(Arc<Mutex<Operation>>),
    Port { operation: Arc<Mutex<Operation>>, input: bool, name: String },
    Buffer(Arc<Buffer>),
    Stream(Arc<Mutex<Vec<Arc<Mutex<Operation>>>>>),
}

impl Thing {
    /// True if it is an operation of that program, or a port of that operation: published work
    /// releases these first.
    fn is_of(&self, other: &Thing) -> bool {
        match (self, other) {
            (
                Thing::Operation(operation),
                Thing::Library(code) | Thing::Function(code) | Thing::Plan { code, .. },
            ) => Arc::ptr_eq(&lock(operation).program, &code.program),
            (Thing::Port { operation, .. }, Thing::Operation(other)) => {
                Arc::ptr_eq(operation, other)
            }
            _ => false,
        }
    }
}

#[derive(Debug, Default)]
struct Table {
    next: usize,
    things: BTreeMap<usize, Thing>,
    message: CString,
}

fn table() -> MutexGuard<'static, Table> {
    static TABLE: LazyLock<Mutex<Table>> = LazyLock::new(Mutex::default);
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn fail(message: impl Into<Vec<u8>>, status: Status) -> Status {
    table().message = CString::new(message).unwrap_or_default();
    status
}

/// The thing of a handle; none, or one that was released, is a violation.
fn thing(raw: Raw) -> Option<Thing> {
    let found = table().things.get(&(raw as usize)).cloned();
    if found.is_none() {
        violation("a handle of e5rt was used that is none, or was released");
    }
    found
}

/// Does as Objective-C does on the way to the engine: leaves an object to the caller's pool.
fn leave_an_object() {
    autorelease(object("of Espresso"));
}

/// Makes a handle and stores it.
unsafe fn store(out: Out, thing: Thing) -> Status {
    leave_an_object();
    if fault("e5 nothing") {
        // SAFETY: a place for a handle by contract.
        unsafe { *out = null_mut() };
        return 0;
    }
    let mut table = table();
    table.next += 1;
    // Odd addresses that nothing has.
    let id = table.next * 16 + 1;
    table.things.insert(id, thing);
    COUNTERS.handles.fetch_add(1, Ordering::SeqCst);
    // SAFETY: a place for a handle by contract.
    unsafe { *out = id as Raw };
    0
}

unsafe fn release(out: Out, kind: &str, is: impl Fn(&Thing) -> bool) -> Status {
    leave_an_object();
    // SAFETY: a place with a handle by contract.
    let id = unsafe { *out } as usize;
    let removed = table().things.remove(&id);
    match &removed {
        Some(thing) if is(thing) => {}
        _ => violation(format!("a {kind} was released that is none")),
    }
    if let Some(thing) = &removed {
        COUNTERS.handles.fetch_sub(1, Ordering::SeqCst);
        // Not under the lock of the table: a request holds that of its operation.
        let others: Vec<Thing> = table().things.values().cloned().collect();
        if others.iter().any(|other| other.is_of(thing)) {
            violation(format!("a {kind} was released before what was made of it"));
        }
    }
    if let Some(Thing::Operation(operation)) = &removed {
        if lock(operation).place == Place::Encoded {
            violation("an operation was released while a stream holds it");
        }
        COUNTERS.loaded.fetch_sub(1, Ordering::SeqCst);
    }
    if let Some(Thing::Stream(operations)) = &removed {
        lock(operations).iter().for_each(|operation| lock(operation).place = Place::Ready);
    }
    // SAFETY: as above.
    unsafe { *out = null_mut() };
    0
}

macro_rules! releases {
    ($($name:ident: $kind:literal = $pattern:pat,)*) => {$(
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(out: Out) -> Status {
            // SAFETY: by contract.
            unsafe { release(out, $kind, |thing| matches!(thing, $pattern)) }
        }
    )*};
}

releases! {
    e5rt_e5_compiler_config_options_release: "configuration" = Thing::Config { .. },
    e5rt_e5_compiler_release: "compiler" = Thing::Compiler { .. },
    e5rt_e5_compiler_options_release: "list of options" = Thing::Options { .. },
    e5rt_program_library_release: "library" = Thing::Library(_),
    e5rt_program_function_release: "function" = Thing::Function(_),
    e5rt_precompiled_compute_op_create_options_release: "plan" = Thing::Plan { .. },
    e5rt_execution_stream_operation_release: "operation" = Thing::Operation(_),
    e5rt_io_port_release: "port" = Thing::Port { .. },
    e5rt_buffer_object_release: "buffer" = Thing::Buffer(_),
    e5rt_execution_stream_release: "stream" = Thing::Stream(_),
}

fn string(text: Text) -> String {
    // SAFETY: C strings by contract.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// Changes the thing of a handle.
fn change(raw: Raw, change: impl FnOnce(&mut Thing) -> bool) -> Status {
    let done = table().things.get_mut(&(raw as usize)).is_some_and(change);
    match done {
        true => 0,
        false => {
            violation("a setting of e5rt on a handle of another kind");
            fail("Invalid Function Argument", 2)
        }
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn e5rt_get_last_error_message() -> Text {
    table().message.as_ptr()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn e5rt_e5_compiler_config_options_create(out: Out) -> Status {
    // SAFETY: by contract.
    unsafe { store(out, Thing::Config { cache: None }) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn e5rt_e5_compiler_config_options_set_cache_bundle_location(
    config: Raw,
    path: Text,
) -> Status {
    let path = PathBuf::from(string(path));
    change(config, |thing| match thing {
        Thing::Config { cache } => {
            *cache = Some(path);
            true
        }
        _ => false,
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn e5rt_e5_compiler_create_with_config(out: Out, config: Raw) -> Status {
    match thing(config) {
        // SAFETY: by contract.
        Some(Thing::Config { cache: Some(cache) }) => unsafe {
            store(out, Thing::Compiler { cache })
        },
        _ => {
            violation("a compiler without a place for its bundles");
            fail("Invalid Function Argument: config", 2)
        }
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn e5rt_e5_compiler_options_create(out: Out) -> Status {
    let options = Thing::Options { devices: 7, force: false, segmenter: String::new() };
    // SAFETY: by contract.
    unsafe { store(out, options) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn e5rt_e5_compiler_options_set_compute_device_types_mask(
    options: Raw,
    mask: u64,
) -> Status {
    change(options, |thing| match thing {
        Thing::Options { devices, .. } => {
            *devices = mask;
            true
        }
        _ => false,
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn e5rt_e5_compiler_options_set_force_recompilation(
    options: Raw,
    value: i32,
) -> Status {
    change(options, |thing| match thing {
        Thing::Options { force, .. } => {
            *force = value != 0;
            true
        }
        _ => false,
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn e5rt_e5_compiler_options_set_segmenter(
    options: Raw,
    value: Text,
) -> Status {
    let value = string(value);
    change(options, |thing| match thing {
        Thing::Options { segmenter, .. } => {
            *segmenter = value;
            true
        }
        _ => false,
    })
}

/// The weight files that lie beside a program.
fn weights_beside(path: &Path) -> Weights {
    let Some(directory) = path.parent().map(|parent| parent.join("weights")) else {
        return Weights::new();
    };
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
    files
        .filter_map(|file| {
            let name = format!("@model_path/weights/{}", file.file_name().to_string_lossy());
            Some((name, std::fs::read(file.path()).ok()?))
        })
        .collect()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn e5rt_e5_compiler_compile(
    compiler: Raw,
    path: Text,
    options: Raw,
    out: Out,
) -> Status {
    let path = PathBuf::from(string(path));
    let Some(Thing::Compiler { cache }) = thing(compiler) else {
        violation("what is no compiler compiles");
        return fail("Invalid Function Argument: compiler", 2);
    };
    match thing(options) {
        Some(Thing::Options { devices: 4, force: true, segmenter }) if segmenter == "graph" => {}
        other => violation(format!("options of a compile are {other:?}")),
    }
    count_compile();
    if fault("crash") {
        std::process::abort();
    }
    hang("hang");
    let failed = |error: &AneError| fail(words(error), 11);
    if fault("flaky compile") {
        return fail(
            "MILCompilerForANE error: failed to compile ANE model using ANEF. \
             Error=_ANECompiler : ANECCompile() FAILED",
            11,
        );
    }
    let program = std::fs::read_to_string(&path).ok().and_then(|text| mil::parse(&text).ok());
    let Some(program) = program.filter(|_| !fault("refuse program")) else {
        return fail("MIL parse error: InvalidMILProgram", 11);
    };
    if let Err(violations) = chip::legal::check(&program, &profile()) {
        return failed(&AneError::refused(CallPath::E5rt, violations));
    }
    let (program, weights) = (Arc::new(program), Arc::new(weights_beside(&path)));
    if write_bundle(&cache, &program, &weights).is_err() {
        return fail("the bundle cannot be written", 4);
    }
    // SAFETY: by contract.
    unsafe { store(out, Thing::Library(Code { program, weights, opened: false })) }
}

/// Names in bundles: text, weights, and a sum of both.
const TEXT: &str = "program";
const WEIGHTS: &str = "weights";
const SUM: &str = "sum";

fn sum(text: &str, weights: &Weights) -> String {
    let mut hasher = DefaultHasher::new();
    (text, weights).hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Leaves a bundle as the compiler does: one for all kinds of hardware, with one for each within.
fn write_bundle(cache: &Path, program: &Program, weights: &Weights) -> std::io::Result<()> {
    if is_on("no bundle") {
        return Ok(());
    }
    let text = program.to_string();
    let sum = sum(&text, weights);
    let inner = cache.join(&sum).join("model.bundle").join("H16G.bundle");
    std::fs::create_dir_all(inner.join(WEIGHTS))?;
    std::fs::write(inner.join(TEXT), text)?;
    for (name, bytes) in weights {
        std::fs::write(inner.join(WEIGHTS).join(name.replace('/', ":")), bytes)?;
    }
    std::fs::write(inner.join(SUM), sum)
}

/// The program of a bundle that is whole.
fn read_bundle(path: &Path) -> Option<(Program, Weights)> {
    let inner = path.join("H16G.bundle");
    let text = std::fs::read_to_string(inner.join(TEXT)).ok()?;
    let mut weights = Weights::new();
    for file in std::fs::read_dir(inner.join(WEIGHTS)).ok()? {
        let file = file.ok()?;
        let name = file.file_name().to_str()?.replace(':', "/");
        weights.insert(name, std::fs::read(file.path()).ok()?);
    }
    let whole = std::fs::read_to_string(inner.join(SUM)).ok()? == sum(&text, &weights);
    Some((mil::parse(&text).ok().filter(|_| whole)?, weights))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn e5rt_program_library_create(out: Out, path: Text) -> Status {
    let path = PathBuf::from(string(path));
    if fault("open crash") {
        std::process::abort();
    }
    hang("open hang");
    match read_bundle(&path).filter(|_| !fault("open fails")) {
        Some((program, weights)) => {
            count_opened();
            let (program, weights) = (Arc::new(program), Arc::new(weights));
            // SAFETY: by contract.
            unsafe { store(out, Thing::Library(Code { program, weights, opened: true })) }
        }
        None => fail("Invalid E5 path specified. @ GetE5PathFromCompositeBundle", 1),
    }
}

fn profile() -> chip::Profile {
    chip::Profile { path: CallPath::E5rt, ..chip::Profile::default() }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn e5rt_program_library_retain_program_function(
    library: Raw,
    name: Text,
    out: Out,
) -> Status {
    let name = string(name);
    match thing(library) {
        Some(Thing::Library(code)) => {
            if code.program.functions.iter().all(|function| function.name != name) {
                return fail(format!("no function {name}"), 1);
            }
            // SAFETY: by contract.
            unsafe { store(out, Thing::Function(code)) }
        }
        _ => fail("Invalid E5 path specified. @ GetE5PathFromCompositeBundle", 1),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn e5rt_precompiled_compute_op_create_options_create_with_program_function(
    out: Out,
    function: Raw,
) -> Status {
    match thing(function) {
        Some(Thing::Function(code)) => {
            let plan = Thing::Plan { code, set: [false; 2] };
            // SAFETY: by contract.
            unsafe { store(out, plan) }
        }
        _ => fail("Cannot provide program function as nullptr. @ Create", 1),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn e5rt_precompiled_compute_op_create_options_set_operation_name(
    plan: Raw,
    name: Text,
) -> Status {
    let given = string(name);
    change(plan, |thing| match thing {
        Thing::Plan { set, .. } => {
            set[0] = !given.is_empty();
            true
        }
        _ => false,
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn e5rt_precompiled_compute_op_create_options_set_allocate_intermediate_buffers(
    plan: Raw,
    value: i32,
) -> Status {
    change(plan, |thing| match thing {
        Thing::Plan { set, .. } => {
            set[1] = value == 1;
            true
        }
        _ => false,
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn e5rt_execution_stream_operation_create_precompiled_compute_operation_with_options(
    out: Out,
    plan: Raw,
) -> Status {
    let Some(Thing::Plan { code, set: [true, true] }) = thing(plan) else {
        violation("an operation of a plan without name or buffers");
        return fail("Invalid Function Argument: options", 2);
    };
    if fault("load 0x20004") {
        return fail(words(&AneError::ProgramTooLarge { bytes: 0, limit: 0 }), 13);
    }
    if fault("e5 functions") {
        return fail("the operation cannot be made", 13);
    }
    if fault("load slots") {
        return fail("GetANEFModel: must re-compile", 13);
    }
    if code.opened && is_on("bundles refused") {
        return fail("ANE model load has failed. Must re-compile the E5 bundle", 13);
    }
    match emulator(CallPath::E5rt).compile(&code.program, &code.weights) {
        Ok(executable) => {
            COUNTERS.loaded.fetch_add(1, Ordering::SeqCst);
            let run = Run::new(executable, code.opened);
            let (program, place) = (code.program, Place::Ready);
            let operation = Operation { program, run, place, buffers: BTreeMap::new() };
            // SAFETY: by contract.
            unsafe { store(out, Thing::Operation(Arc::new(Mutex::new(operation)))) }
        }
        Err(error) => fail(words(&error), 13),
    }
}

unsafe fn port(operation: Raw, name: Text, out: Out, input: bool) -> Status {
    let name = string(name);
    let Some(Thing::Operation(operation)) = thing(operation) else {
        return fail("Invalid Function Argument: operation", 2);
    };
    let known = {
        let operation = lock(&operation);
        let ports = match input {
            true => operation.run.executable.inputs(),
            false => operation.run.executable.outputs(),
        };
        ports.iter().any(|port| port.name == name)
    };
    if !known || fault("e5 port") {
        return fail(format!("no port {name}"), 1);
    }
    // SAFETY: by contract.
    unsafe { store(out, Thing::Port { operation, input, name }) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn e5rt_execution_stream_operation_retain_input_port(
    operation: Raw,
    name: Text,
    out: Out,
) -> Status {
    // SAFETY: by contract.
    unsafe { port(operation, name, out, true) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn e5rt_execution_stream_operation_retain_output_port(
    operation: Raw,
    name: Text,
    out: Out,
) -> Status {
    // SAFETY: by contract.
    unsafe { port(operation, name, out, false) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn e5rt_buffer_object_alloc(out: Out, size: u64, kind: u32) -> Status {
    if kind > 2 {
        return fail("Invalid BufferType @ AllocMemory", 2);
    }
    if kind != 0 || size == 0 {
        violation(format!("a buffer of kind {kind} and {size} bytes"));
    }
    if fault("e5 alloc") {
        return fail("AllocMemory", 4);
    }
    let Ok(layout) = Layout::from_size_align(size.max(1) as usize, 64) else {
        return fail("AllocMemory", 4);
    };
    // SAFETY: the layout is not empty.
    let address = unsafe { alloc_zeroed(layout) } as usize;
    if address == 0 {
        return fail("AllocMemory", 4);
    }
    // SAFETY: by contract.
    unsafe { store(out, Thing::Buffer(Arc::new(Buffer { address, layout }))) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn e5rt_buffer_object_get_data_ptr(buffer: Raw, out: *mut *mut u8) -> Status {
    match thing(buffer) {
        Some(Thing::Buffer(buffer)) => {
            // SAFETY: a place for an address by contract.
            unsafe { *out = buffer.address as *mut u8 };
            0
        }
        _ => fail("Invalid Function Argument: buffer", 2),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn e5rt_io_port_bind_buffer_object(port: Raw, buffer: Raw) -> Status {
    let (Some(Thing::Port { operation, input, name }), Some(Thing::Buffer(buffer))) =
        (thing(port), thing(buffer))
    else {
        return fail("Invalid Function Argument", 2);
    };
    leave_an_object();
    let mut operation = lock(&operation);
    if operation.place != Place::Ready {
        violation("a port was bound while its operation is in a stream");
        return fail("operation is in use", 3);
    }
    if fault("e5 bind") {
        return fail("bind", 3);
    }
    operation.buffers.insert((input, name), buffer);
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn e5rt_execution_stream_create(out: Out) -> Status {
    // SAFETY: by contract.
    unsafe { store(out, Thing::Stream(Arc::default())) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn e5rt_execution_stream_encode_operation(
    stream: Raw,
    operation: Raw,
) -> Status {
    let (Some(Thing::Stream(stream)), Some(Thing::Operation(operation))) =
        (thing(stream), thing(operation))
    else {
        return fail("Invalid Function Argument", 2);
    };
    leave_an_object();
    if fault("e5 encode") {
        return fail("encode", 3);
    }
    let mut inner = lock(&operation);
    if inner.place != Place::Ready {
        violation("an operation was encoded that is not ready");
        return fail("operation is not ready", 3);
    }
    inner.place = Place::Encoded;
    drop(inner);
    lock(&stream).push(operation);
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn e5rt_execution_stream_reset(stream: Raw) -> Status {
    let Some(Thing::Stream(stream)) = thing(stream) else {
        return fail("Invalid Function Argument: stream", 2);
    };
    leave_an_object();
    let operations = std::mem::take(&mut *lock(&stream));
    if operations.is_empty() {
        return fail("stream was not used", 3);
    }
    operations.iter().for_each(|operation| lock(operation).place = Place::Ready);
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn e5rt_execution_stream_execute_sync(stream: Raw) -> Status {
    let Some(Thing::Stream(stream)) = thing(stream) else {
        return fail("Invalid Function Argument: stream", 2);
    };
    leave_an_object();
    if fault("e5 execute") {
        return fail("ANEProgramProcessRequestDirect() Failed with status=0x1d", 5);
    }
    let operations = lock(&stream).clone();
    if operations.is_empty() {
        violation("an empty stream was executed");
    }
    for operation in operations {
        COUNTERS.evaluations.fetch_add(1, Ordering::SeqCst);
        wait_for_release();
        if let Err(message) = lock(&operation).execute() {
            return fail(message, 5);
        }
    }
    0
}

impl Operation {
    fn execute(&mut self) -> Result<(), String> {
        let Operation { run, buffers, .. } = self;
        let bound = |input: bool, ports: &[ane::Port]| {
            let each = ports.iter().map(|port| {
                let buffer = buffers.get(&(input, port.name.clone()));
                buffer.cloned().ok_or_else(|| format!("port {} is not bound", port.name))
            });
            each.collect::<Result<Vec<_>, String>>()
        };
        let inputs = bound(true, run.executable.inputs())?;
        let outputs = bound(false, run.executable.outputs())?;
        if inputs.len() > 1 && is_on("several inputs fail") {
            return Err("ANEProgramProcessRequestDirect() Failed with status=0x1d".to_owned());
        }
        let sizes = |all: &[Arc<Buffer>]| all.iter().map(|b| b.layout.size()).collect::<Vec<_>>();
        let wrong = fault("wrong answer");
        run.run(
            (&sizes(&inputs), &sizes(&outputs)),
            |i, n, read| {
                // SAFETY: the buffer has `n` bytes: allocations were compared.
                read(unsafe { std::slice::from_raw_parts(inputs[i].address as *const u8, n) });
            },
            |i, n, write| {
                // SAFETY: as above; the executor's caller keeps everybody else off.
                let bytes =
                    unsafe { std::slice::from_raw_parts_mut(outputs[i].address as *mut u8, n) };
                write(bytes);
                if wrong {
                    bytes.fill(0);
                }
            },
        )
        .map_err(|error| words(&error))
    }
}
