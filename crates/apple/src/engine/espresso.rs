//! The engine by the C interface of Espresso, e5rt: named ports, buffers of any size, operations
//! encoded in streams (docs/ane-facts.md C.2, G.1; signatures and order of calls as published by AF in
//! its e5rt reference).
//!
//! A surface may be bound to an input and to an output of one request: state then stays where it is
//! from step to step (docs/ane-facts.md G.2 (c)).
//!
//! Espresso sends Objective-C messages for us, on threads that have no pool of their own: whatever it
//! leaves to a pool would stay until the thread ends, so every call of consequence is within one.

#![allow(unsafe_code, reason = "e5rt is a C interface")]

use super::cache::{self, BUNDLES, Entry, Key, Store};
use super::compile::{compile, within};
use super::dynamic::{Libraries, Library, functions, text};
use super::elsewhere::Order;
use super::files::{ModelDirectory, PROGRAM, Sources};
use super::in_memory::{LEAST_WIDTH, admit, ports};
use super::objc::{Pool, Runtime};
use super::options::Options;
use super::report::reported;
use super::system::{self, Mac};
use crate::route::Route;
use ane::AneError;
use ane::binding::{Binding, check_sharing, check_surfaces};
use ane::surface::{Access, ForeignMemory, Surface, SurfaceKey, hold};
use ane::{Budget, LoadedProgram};
use ane::{Device, Executable, Port, RunReport};
use chip::{CallPath, Profile};
use mil::{Function, Program, TensorType, Weights};
use std::ffi::{CString, c_char, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;
use std::time::Instant;

/// The status that every function returns: 0 for success. Callers look at the low 32 bits alone.
type Status = i32;
/// An object of e5rt.
type Raw = *mut c_void;
/// Where a function stores the object that it makes, or finds the one that it releases.
type Out = *mut Raw;
type Text = *const c_char;

functions! {
    /// The functions that are used. Those that make something take the place to store it first,
    /// but for `compile` and `retain…`, which take it last.
    struct Functions {
        config_create = c"e5rt_e5_compiler_config_options_create"(Out) -> Status;
        config_set_cache = c"e5rt_e5_compiler_config_options_set_cache_bundle_location"(Raw, Text) -> Status;
        config_release = c"e5rt_e5_compiler_config_options_release"(Out) -> Status;
        compiler_create = c"e5rt_e5_compiler_create_with_config"(Out, Raw) -> Status;
        compiler_compile = c"e5rt_e5_compiler_compile"(Raw, Text, Raw, Out) -> Status;
        compiler_release = c"e5rt_e5_compiler_release"(Out) -> Status;
        options_create = c"e5rt_e5_compiler_options_create"(Out) -> Status;
        options_set_devices = c"e5rt_e5_compiler_options_set_compute_device_types_mask"(Raw, u64) -> Status;
        options_set_force = c"e5rt_e5_compiler_options_set_force_recompilation"(Raw, i32) -> Status;
        options_set_segmenter = c"e5rt_e5_compiler_options_set_segmenter"(Raw, Text) -> Status;
        options_release = c"e5rt_e5_compiler_options_release"(Out) -> Status;
        library_function = c"e5rt_program_library_retain_program_function"(Raw, Text, Out) -> Status;
        library_release = c"e5rt_program_library_release"(Out) -> Status;
        function_release = c"e5rt_program_function_release"(Out) -> Status;
        plan_create = c"e5rt_precompiled_compute_op_create_options_create_with_program_function"(Out, Raw) -> Status;
        plan_set_name = c"e5rt_precompiled_compute_op_create_options_set_operation_name"(Raw, Text) -> Status;
        plan_set_buffers = c"e5rt_precompiled_compute_op_create_options_set_allocate_intermediate_buffers"(Raw, i32) -> Status;
        plan_release = c"e5rt_precompiled_compute_op_create_options_release"(Out) -> Status;
        operation_create = c"e5rt_execution_stream_operation_create_precompiled_compute_operation_with_options"(Out, Raw) -> Status;
        operation_input = c"e5rt_execution_stream_operation_retain_input_port"(Raw, Text, Out) -> Status;
        operation_output = c"e5rt_execution_stream_operation_retain_output_port"(Raw, Text, Out) -> Status;
        operation_release = c"e5rt_execution_stream_operation_release"(Out) -> Status;
        port_bind = c"e5rt_io_port_bind_buffer_object"(Raw, Raw) -> Status;
        port_release = c"e5rt_io_port_release"(Out) -> Status;
        buffer_alloc = c"e5rt_buffer_object_alloc"(Out, u64, u32) -> Status;
        buffer_data = c"e5rt_buffer_object_get_data_ptr"(Raw, *mut *mut u8) -> Status;
        buffer_release = c"e5rt_buffer_object_release"(Out) -> Status;
        stream_create = c"e5rt_execution_stream_create"(Out) -> Status;
        stream_encode = c"e5rt_execution_stream_encode_operation"(Raw, Raw) -> Status;
        stream_execute = c"e5rt_execution_stream_execute_sync"(Raw) -> Status;
        stream_reset = c"e5rt_execution_stream_reset"(Raw) -> Status;
        stream_release = c"e5rt_execution_stream_release"(Out) -> Status;
    }
}

/// `e5rt_get_last_error_message`, which Apple's own frameworks call after a failure; optional.
type LastError = unsafe extern "C-unwind" fn() -> Text;

/// `e5rt_program_library_create(place, bundle)`, which opens a bundle that was compiled before, here
/// or in another process (tmc/apple, x/ane/e5rt; ANEForge has the same order of arguments); optional.
type OpenLibrary = unsafe extern "C-unwind" fn(Out, Text) -> Status;

/// The bit of the Neural Engine in the mask of devices: alone, so that nothing falls back to the
/// CPU in silence.
const NEURAL_ENGINE: u64 = 4;

/// The compiler's settings besides the program.
const COMPILE_OPTIONS: &str = "devices 4, segmenter graph";

/// Kind of buffer: plain memory of the process.
const HOST_BUFFER: u32 = 0;

/// Sizes of buffers are multiples of this.
const BUFFER_STEP: usize = 64;

/// The framework.
#[derive(Debug)]
struct Engine {
    f: Functions,
    last_error: Option<LastError>,
    open_library: Option<OpenLibrary>,
    runtime: Arc<Runtime>,
    _library: Library,
}

/// An object of e5rt; released when dropped.
#[derive(Debug)]
struct Handle {
    raw: Raw,
    release: unsafe extern "C-unwind" fn(Out) -> Status,
    runtime: Arc<Runtime>,
}

// SAFETY: handles are used by one thread at a time: those of a program through `&mut`, those of
// buffers only to be bound.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        let _pool = Pool::new(&self.runtime);
        // SAFETY: a live object that is ours.
        unsafe { (self.release)(&mut self.raw) };
    }
}

impl Engine {
    fn open(libraries: &Libraries) -> Result<Arc<Self>, AneError> {
        let library = Library::open(&libraries.espresso)?;
        let f = Functions::load(&library)?;
        let runtime = Runtime::open(libraries)?;
        // SAFETY: a function without arguments that returns a C string or null.
        let last_error = library.find(c"e5rt_get_last_error_message").map(|address| unsafe {
            std::mem::transmute::<*mut c_void, LastError>(address.as_ptr())
        });
        // SAFETY: a function of that signature, as far as published work shows.
        let open_library = library.find(c"e5rt_program_library_create").map(|address| unsafe {
            std::mem::transmute::<*mut c_void, OpenLibrary>(address.as_ptr())
        });
        Ok(Arc::new(Engine { f, last_error, open_library, runtime, _library: library }))
    }

    fn check(&self, action: &'static str, call: &str, status: Status) -> Result<(), AneError> {
        if status == 0 {
            return Ok(());
        }
        // SAFETY: the message, if there is one, is a C string until the next call.
        let message = self.last_error.and_then(|ask| unsafe {
            let message = ask();
            (!message.is_null()).then(|| text(message))
        });
        let message = message.unwrap_or_else(|| "no message".to_owned());
        Err(reported(action, format!("{call}: {message} ({status})")))
    }

    /// An object that `make` stores where it is told.
    fn make(
        &self,
        action: &'static str,
        call: &str,
        release: unsafe extern "C-unwind" fn(Out) -> Status,
        make: impl FnOnce(Out) -> Status,
    ) -> Result<Handle, AneError> {
        let _pool = Pool::new(&self.runtime);
        let mut raw = null_mut();
        let status = make(&mut raw);
        let runtime = Arc::clone(&self.runtime);
        let handle = (!raw.is_null()).then(|| Handle { raw, release, runtime });
        self.check(action, call, status)?;
        handle.ok_or_else(|| reported(action, format!("{call}: nothing was made (0)")))
    }

    /// Compiles `directory`/model.mil once, and leaves the bundle below `bundles`.
    fn library(&self, directory: &Path, bundles: &Path) -> Result<Handle, AneError> {
        let f = &self.f;
        let (path, cache) = (c_path(&directory.join(PROGRAM))?, c_path(bundles)?);
        let compiling = "compiling";
        // SAFETY: all calls below take objects made by the calls above them and still alive, C strings
        // that are copied, and places to store results.
        unsafe {
            let config =
                self.make(compiling, "config_options_create", f.config_release, |out| {
                    (f.config_create)(out)
                })?;
            let status = (f.config_set_cache)(config.raw, cache.as_ptr());
            self.check(compiling, "set_cache_bundle_location", status)?;
            let compiler =
                self.make(compiling, "create_with_config", f.compiler_release, |out| {
                    (f.compiler_create)(out, config.raw)
                })?;
            let options = self.make(compiling, "options_create", f.options_release, |out| {
                (f.options_create)(out)
            })?;
            let status = (f.options_set_devices)(options.raw, NEURAL_ENGINE);
            self.check(compiling, "set_compute_device_types_mask", status)?;
            let status = (f.options_set_force)(options.raw, 1);
            self.check(compiling, "set_force_recompilation", status)?;
            let status = (f.options_set_segmenter)(options.raw, c"graph".as_ptr());
            self.check(compiling, "set_segmenter", status)?;
            self.make(compiling, "compile", f.library_release, |out| {
                (f.compiler_compile)(compiler.raw, path.as_ptr(), options.raw, out)
            })
        }
    }

    /// Compiles the program once in a directory of its own, and loads it. The outer error is the
    /// compiler's, after which compiling again may help; the inner is that of loading.
    fn build(
        &self,
        sources: &Arc<Sources>,
        directory: &Path,
        interface: &Interface,
    ) -> Result<Result<Parts, AneError>, AneError> {
        let directory = ModelDirectory::create(directory, sources)?;
        let library = self.library(directory.path(), &directory.path().join(BUNDLES))?;
        let loaded = self.load(library, interface);
        Ok(loaded.map(|loaded| Parts { loaded, origin: Origin::Directory(directory) }))
    }

    /// Loads a program that was compiled before, by whatever process.
    fn reopen(&self, entry: &Entry, interface: &Interface) -> Result<Operation, AneError> {
        let _opening = entry.opening()?;
        let unknown = || AneError::NoEngine { reason: "there is no bundle to open".to_owned() };
        let (open, bundle) = self.open_library.zip(entry.bundle()).ok_or_else(unknown)?;
        let bundle = c_path(&bundle)?;
        let release = self.f.library_release;
        // SAFETY: a place for the library, and a C string.
        let library = self.make("loading", "library_create", release, |out| unsafe {
            open(out, bundle.as_ptr())
        })?;
        self.load(library, interface)
    }

    /// The operation of a compiled library, and its ports. This loads the program.
    fn load(&self, library: Handle, interface: &Interface) -> Result<Operation, AneError> {
        let f = &self.f;
        let (loading, name) = ("loading", &interface.name);
        // SAFETY: as in `library`.
        unsafe {
            let function =
                self.make(loading, "retain_program_function", f.function_release, |out| {
                    (f.library_function)(library.raw, name.as_ptr(), out)
                })?;
            let plan =
                self.make(loading, "create_with_program_function", f.plan_release, |out| {
                    (f.plan_create)(out, function.raw)
                })?;
            let status = (f.plan_set_name)(plan.raw, name.as_ptr());
            self.check(loading, "set_operation_name", status)?;
            let status = (f.plan_set_buffers)(plan.raw, 1);
            self.check(loading, "set_allocate_intermediate_buffers", status)?;
            let operation = self.make(
                loading,
                "create_precompiled_compute_operation_with_options",
                f.operation_release,
                |out| (f.operation_create)(out, plan.raw),
            )?;
            let mut ports = self.ports(&operation, &interface.inputs, true)?;
            ports.extend(self.ports(&operation, &interface.outputs, false)?);
            Ok(Operation { ports, operation, _plan: plan, _function: function, _library: library })
        }
    }

    /// The ports of an operation, in binding order.
    fn ports(
        &self,
        operation: &Handle,
        names: &[CString],
        input: bool,
    ) -> Result<Vec<Handle>, AneError> {
        let f = &self.f;
        let (call, retain) = match input {
            true => ("retain_input_port", f.operation_input),
            false => ("retain_output_port", f.operation_output),
        };
        let port = |name: &CString| {
            self.make("loading", call, f.port_release, |out| {
                // SAFETY: a live operation, a C string, and a place for the port.
                unsafe { retain(operation.raw, name.as_ptr(), out) }
            })
        };
        names.iter().map(port).collect()
    }
}

/// Names of a program's function and of its ports, in binding order.
#[derive(Debug)]
struct Interface {
    name: CString,
    inputs: Vec<CString>,
    outputs: Vec<CString>,
}

impl Interface {
    fn new(name: &str, inputs: &Binding, outputs: &Binding) -> Result<Arc<Self>, AneError> {
        let names = |binding: &Binding| {
            binding.ports.iter().map(|port| c_string(&port.name)).collect::<Result<_, _>>()
        };
        let (inputs, outputs) = (names(inputs)?, names(outputs)?);
        Ok(Arc::new(Interface { name: c_string(name)?, inputs, outputs }))
    }
}

/// A loaded operation and what it is made of, in the order in which they are released.
#[derive(Debug)]
struct Operation {
    /// Ports in binding order, inputs first.
    ports: Vec<Handle>,
    operation: Handle,
    _plan: Handle,
    _function: Handle,
    _library: Handle,
}

/// An operation and the files that it comes from, which must outlive it.
#[derive(Debug)]
struct Parts {
    loaded: Operation,
    origin: Origin,
}

/// Where a program was compiled.
#[derive(Debug)]
enum Origin {
    /// Here, and now.
    Directory(ModelDirectory),
    /// By another process, or before.
    Cache(Entry),
}

fn c_string(text: &str) -> Result<CString, AneError> {
    CString::new(text).map_err(|_| AneError::NoEngine { reason: format!("{text:?} is no name") })
}

fn c_path(path: &Path) -> Result<CString, AneError> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| AneError::NoEngine { reason: format!("{} is no path", path.display()) })
}

/// A buffer that ports are bound to.
#[derive(Debug)]
struct Buffer {
    handle: Handle,
    address: NonNull<u8>,
}

// SAFETY: the address is only given out under the locks of the surface made of the buffer.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl Buffer {
    fn new(engine: &Engine, bytes: usize) -> Result<Arc<Self>, AneError> {
        let making = "making a surface";
        let f = &engine.f;
        let bytes = bytes.max(1).checked_next_multiple_of(BUFFER_STEP);
        let bytes = bytes.ok_or_else(|| reported(making, "too large".to_owned()))?;
        // SAFETY: a place for the buffer.
        let handle =
            engine.make(making, "buffer_object_alloc", f.buffer_release, |out| unsafe {
                (f.buffer_alloc)(out, bytes as u64, HOST_BUFFER)
            })?;
        let mut address = null_mut();
        // SAFETY: a live buffer and a place for its address.
        let status = unsafe { (f.buffer_data)(handle.raw, &mut address) };
        engine.check(making, "buffer_object_get_data_ptr", status)?;
        let address = NonNull::new(address)
            .filter(|address| address.as_ptr().addr().is_multiple_of(16))
            .ok_or_else(|| reported(making, "a buffer has no aligned address".to_owned()))?;
        // SAFETY: the buffer is ours alone and has that many bytes.
        unsafe { address.as_ptr().write_bytes(0, bytes) };
        Ok(Arc::new(Buffer { handle, address }))
    }
}

// SAFETY: plain memory of the size asked for, aligned as was checked, written when it was made;
// the engine touches it only in requests, during which the surface is held.
unsafe impl ForeignMemory for Buffer {
    fn lock(&self, _access: Access) -> Result<NonNull<u8>, AneError> {
        Ok(self.address)
    }

    fn unlock(&self, _access: Access) {}
}

/// The Neural Engine by Espresso's runtime.
#[derive(Debug)]
pub struct Espresso {
    engine: Arc<Engine>,
    mac: Mac,
    budget: Budget,
    options: Options,
    store: Option<Store>,
}

impl Espresso {
    /// Opens the library and looks up everything that will be called.
    ///
    /// # Errors
    /// [`AneError::NoEngine`] when it cannot be opened, [`AppleError::Missing`](crate::AppleError::Missing) with the names of all
    /// functions that it lacks.
    pub fn open(libraries: &Libraries, options: Options) -> Result<Self, AneError> {
        let engine = Engine::open(libraries)?;
        let mac = system::mac(libraries, CallPath::E5rt);
        let budget = libraries.used.budget(&mac.profile);
        let store = options.cache.as_ref().filter(|_| engine.open_library.is_some());
        let store = store.and_then(|cache| Store::open(cache, libraries, Route::Espresso));
        Ok(Espresso { engine, mac, budget, options, store })
    }

    /// Compiles `directory`/model.mil for another process, and leaves what came of it in `bundles`.
    pub(super) fn compile_for_another(
        &self,
        directory: &Path,
        bundles: &Path,
    ) -> Result<(), AneError> {
        self.engine.library(directory, bundles).map(drop)
    }

    /// A program of the cache, of another process, or compiled here, in this order.
    fn parts(&self, sources: Arc<Sources>, interface: &Arc<Interface>) -> Result<Parts, AneError> {
        let Some(store) = self.store.as_ref().filter(|store| store.is_trusted()) else {
            return self.compile_here(sources, interface, &self.options);
        };
        let key = &store.key(COMPILE_OPTIONS, &sources);
        if let Some(Ok(parts)) = self.reopen(store, key, interface) {
            return Ok(parts);
        }
        if let Some(elsewhere) = &self.options.elsewhere
            && store.is_trusted()
        {
            let name = &interface.name.to_string_lossy();
            let (elsewhere, options) = (&**elsewhere, &self.options);
            let order = Order { elsewhere, store, options, key, sources: &sources, name };
            if order.compile()? {
                match self.reopen(store, key, interface) {
                    Some(Ok(parts)) => return Ok(parts),
                    Some(Err(Refused)) => {
                        let parts = self.compile_here(sources, interface, &self.options)?;
                        store.refused_for_certain();
                        return Ok(parts);
                    }
                    // Some other process has removed it meanwhile.
                    None => {}
                }
            }
        }
        let parts = self.compile_here(sources, interface, &self.options)?;
        if store.is_trusted()
            && let Origin::Directory(directory) = &parts.origin
        {
            // What cannot be kept costs the next process a compile.
            let _ = keep(store, key, &directory.path().join(BUNDLES));
        }
        Ok(parts)
    }

    /// The program of that name, if the cache has it, and if the system takes it within the time
    /// limit.
    fn reopen(
        &self,
        store: &Store,
        key: &Key,
        interface: &Arc<Interface>,
    ) -> Option<Result<Parts, Refused>> {
        let entry = store.find(key)?;
        let (engine, interface) = (Arc::clone(&self.engine), Arc::clone(interface));
        // The entry goes along, so that it stays locked as long as an opening hangs.
        let attempt = move || (engine.reopen(&entry, &interface), entry);
        Some(match within(self.options.open_limit, attempt) {
            Ok((Ok(loaded), entry)) => Ok(Parts { loaded, origin: Origin::Cache(entry) }),
            Ok((Err(_), entry)) => {
                if entry.is_recent() {
                    store.refused();
                }
                store.discard(entry);
                Err(Refused)
            }
            Err(_) => {
                store.refused();
                Err(Refused)
            }
        })
    }

    /// Compiles in this process, and loads.
    fn compile_here(
        &self,
        sources: Arc<Sources>,
        interface: &Arc<Interface>,
        options: &Options,
    ) -> Result<Parts, AneError> {
        let directory = self.options.bundles.join(format!("anegpt-e5-{}", cache::unique()));
        let (engine, interface) = (Arc::clone(&self.engine), Arc::clone(interface));
        let build = move || engine.build(&sources, &directory, &interface);
        compile(options, || self.budget.compile(), build)?
    }

    /// A program with the ports of `function`, made by `compile`.
    fn loaded(
        &self,
        function: &Function,
        place: LoadedProgram,
        rules: Option<Profile>,
        compile: impl FnOnce(&Arc<Interface>) -> Result<Parts, AneError>,
    ) -> Result<Box<dyn Executable>, AneError> {
        let (inputs, outputs) = ports(function);
        let interface = Interface::new(&function.name, &inputs, &outputs)?;
        let parts = compile(&interface)?;
        let engine = &self.engine;
        let f = &engine.f;
        // SAFETY: a place for the stream.
        let stream = engine.make("loading", "stream_create", f.stream_release, |out| unsafe {
            (f.stream_create)(out)
        })?;
        Ok(Box::new(Loaded {
            stream,
            bound: vec![],
            encoded: false,
            parts,
            engine: Arc::clone(engine),
            rules,
            inputs,
            outputs,
            _place: place,
        }))
    }

    /// The resources that this process has used up.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }
}

/// The system did not take a program that was compiled before.
#[derive(Clone, Copy, Debug)]
struct Refused;

/// Keeps the bundles of a program that is in use.
fn keep(store: &Store, key: &Key, bundles: &Path) -> Result<(), AneError> {
    let staging = store.staging()?;
    cache::copy(bundles, &staging.path().join(BUNDLES))?;
    store.keep(staging, key, None)
}

impl Device for Espresso {
    fn describe(&self) -> String {
        format!("Neural Engine by Espresso, {}", self.mac.description)
    }

    fn profile(&self) -> Option<Profile> {
        Some(self.mac.profile)
    }

    fn surface(&self, ty: &TensorType, allocation: usize) -> Result<Surface, AneError> {
        let allocation = allocation.max(ty.bytes());
        Surface::foreign(ty, allocation, Buffer::new(&self.engine, allocation)?)
    }

    fn least_width(&self) -> usize {
        LEAST_WIDTH
    }

    fn overlaps(&self) -> bool {
        true
    }

    fn compile(
        &self,
        program: &Program,
        weights: &Weights,
    ) -> Result<Box<dyn Executable>, AneError> {
        let function = program.functions.first().ok_or(AneError::NoFunction)?;
        let (sources, constants) = admit(program, weights, &self.mac.profile, &self.options)?;
        let place = self.budget.load(constants)?;
        self.loaded(function, place, Some(self.mac.profile), |interface| {
            self.parts(sources, interface)
        })
    }

    fn compile_unchecked(
        &self,
        text: &str,
        weights: &Weights,
        like: &Program,
    ) -> Option<Result<Box<dyn Executable>, AneError>> {
        let compiled = || {
            let function = like.functions.first().ok_or(AneError::NoFunction)?;
            let place = self.budget.load(0)?;
            let sources = Arc::new(Sources { text: text.to_owned(), weights: weights.clone() });
            let compile =
                |interface: &_| self.compile_here(sources, interface, &self.options.once());
            self.loaded(function, place, None, compile)
        };
        Some(compiled())
    }
}

/// A program ready to run, in the order in which its parts are released: stream, buffers, ports,
/// operation.
#[derive(Debug)]
struct Loaded {
    stream: Handle,
    /// The surface bound to each port; empty while any port is unbound.
    bound: Vec<(SurfaceKey, Arc<Buffer>)>,
    /// True if the operation is in the stream.
    encoded: bool,
    parts: Parts,
    engine: Arc<Engine>,
    /// The machine whose rules its requests keep.
    rules: Option<Profile>,
    inputs: Binding,
    outputs: Binding,
    _place: LoadedProgram,
}

impl Loaded {
    /// Binds the ports and puts the operation into the stream, unless that is how things are. A
    /// port may only be bound while its operation is in no stream, so the stream is emptied first.
    ///
    /// Apple's own users of e5rt follow this order, for every set of surfaces anew (speech
    /// recognition, camera, scene and body tracking, as decompiled). They do not call
    /// `prepare_op_for_encode`, which on an operation that is in a stream left both unusable
    /// (tmc/apple, macOS 26).
    fn bind(&mut self, inputs: &[&Surface], outputs: &[&Surface]) -> Result<(), AneError> {
        let surfaces: Vec<&Surface> = inputs.iter().chain(outputs).copied().collect();
        let same = self.bound.len() == surfaces.len()
            && self.bound.iter().zip(&surfaces).all(|((key, _), surface)| key.is(surface));
        if same && self.encoded {
            return Ok(());
        }
        let ports = self.inputs.ports.iter().chain(&self.outputs.ports);
        let wanted = (ports.zip(&surfaces))
            .map(|(port, surface)| {
                let another = || AneError::SurfaceOfAnother { port: port.name.clone() };
                Ok((surface.key(), surface.memory::<Buffer>().ok_or_else(another)?))
            })
            .collect::<Result<Vec<_>, AneError>>()?;
        let Engine { f, .. } = &*self.engine;
        let binding = "binding surfaces";
        let check = |call, status| self.engine.check(binding, call, status);
        // SAFETY: a live stream, a live operation that is in it, live ports and buffers.
        unsafe {
            if self.encoded {
                check("stream_reset", (f.stream_reset)(self.stream.raw))?;
                self.encoded = false;
            }
            let before = std::mem::take(&mut self.bound);
            for (i, (port, (key, buffer))) in
                self.parts.loaded.ports.iter().zip(&wanted).enumerate()
            {
                let kept = before.get(i).is_some_and(|(old, _)| old.same(key));
                if !kept {
                    check("bind_buffer_object", (f.port_bind)(port.raw, buffer.handle.raw))?;
                }
            }
            let (stream, operation) = (self.stream.raw, self.parts.loaded.operation.raw);
            check("encode_operation", (f.stream_encode)(stream, operation))?;
        }
        self.encoded = true;
        self.bound = wanted;
        Ok(())
    }
}

impl Executable for Loaded {
    fn inputs(&self) -> &[Port] {
        &self.inputs.ports
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs.ports
    }

    fn run(&mut self, inputs: &[&Surface], outputs: &[&Surface]) -> Result<RunReport, AneError> {
        check_surfaces(self.rules.as_ref(), (&self.inputs, inputs), (&self.outputs, outputs))?;
        check_sharing(&[], &[], (&self.outputs, outputs))?;
        let engine = Arc::clone(&self.engine);
        let _pool = Pool::new(&engine.runtime);
        self.bind(inputs, outputs)?;
        let _in_flight = hold(inputs, outputs);
        let start = Instant::now();
        // SAFETY: a live stream with one operation whose ports are all bound.
        let status = unsafe { (self.engine.f.stream_execute)(self.stream.raw) };
        let seconds = start.elapsed().as_secs_f64();
        let result = self.engine.check("running", "execute_sync", status);
        match &mut self.parts.origin {
            Origin::Cache(entry) => entry.judged(result)?,
            Origin::Directory(_) => result?,
        }
        // None of the calls that are known of e5rt tells the hardware's own time.
        Ok(RunReport { seconds, hardware_seconds: None })
    }
}
