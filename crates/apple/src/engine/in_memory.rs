//! The engine by in-memory models: `_ANEInMemoryModelDescriptor` → `_ANEInMemoryModel` → compile,
//! load, evaluate a `_ANERequest` over IOSurfaces, unload (docs/ane-facts.md A.4, C.1; the seed).

#![allow(unsafe_code, reason = "messages to private classes")]

mod client;

use super::cache::{Entry, Key, Store};
use super::compile::{UNLOAD_LIMIT, Unfinished, compile, turn, unload, within};
use super::dynamic::{Libraries, Library, functions};
use super::elsewhere::Order;
use super::files::{ModelDirectory, Sources};
use super::foundation::Foundation;
use super::iosurface::{IoSurface, IoSurfaces};
use super::objc::{Bool, Id, Kind, Object, Pool, Runtime, Sel, send};
use super::options::Options;
use super::report::reported;
use super::statistics::Statistics;
use super::system::{self, Mac};
use crate::route::Route;
use ane::AneError;
use ane::binding::{Binding, alphabetical, check_request};
use ane::surface::{Surface, SurfaceKey, hold};
use ane::{Budget, LoadedProgram};
use ane::{Call, Device, Executable, Port, Reloaded, RunReport};
use chip::legal;
use chip::{CallPath, Profile};
use client::{Chain, Client, DIRECT, verify};
use mil::{Function, Program, TensorType, Weights};
use std::ffi::CStr;
use std::path::PathBuf;
use std::ptr::null_mut;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Instant;

/// Narrowest surface, in tokens: one of 1 compiles and fails (docs/ane-facts.md C.1).
pub(super) const LEAST_WIDTH: usize = 16;

functions! {
    /// The function of Foundation that is used.
    struct Functions {
        temporary_directory = c"NSTemporaryDirectory"() -> Id;
    }
}

/// Methods and their signatures. `Bool` is `B`, quality of service `I`, the error `^@`.
#[rustfmt::skip]
const METHODS: &[(&CStr, Kind, &CStr, &str)] = &[
    (c"_ANEInMemoryModelDescriptor", Kind::Class, c"modelWithMILText:weights:optionsPlist:", "@@:@@@"),
    (c"_ANEInMemoryModel", Kind::Class, c"inMemoryModelWithDescriptor:", "@@:@"),
    (c"_ANEInMemoryModel", Kind::Instance, c"hexStringIdentifier", "@@:"),
    (c"_ANEInMemoryModel", Kind::Instance, c"compileWithQoS:options:error:", "B@:I@^@"),
    (c"_ANEInMemoryModel", Kind::Instance, c"loadWithQoS:options:error:", "B@:I@^@"),
    (c"_ANEInMemoryModel", Kind::Instance, c"evaluateWithQoS:options:request:error:", "B@:I@@^@"),
    (c"_ANEInMemoryModel", Kind::Instance, c"unloadWithQoS:error:", "B@:I^@"),
    (c"_ANEIOSurfaceObject", Kind::Class, c"objectWithIOSurface:", "@@:^{__IOSurface=}"),
    (c"_ANERequest", Kind::Class, REQUEST, "@@:@@@@@@@"),
];

const REQUEST: &CStr = c"requestWithInputs:inputIndices:outputs:outputIndices:weightsBuffer:\
perfStats:procedureIndex:";

/// The framework: classes and selectors, all verified.
#[derive(Debug)]
struct Engine {
    runtime: Arc<Runtime>,
    foundation: Arc<Foundation>,
    surfaces: Arc<IoSurfaces>,
    functions: Functions,
    /// Where the hardware's own time is wanted and can be asked for.
    statistics: Option<Statistics>,
    /// Kept open for its classes.
    _framework: Library,
    descriptor: Id,
    model: Id,
    request: Id,
    surface_object: Id,
    make_descriptor: Sel,
    make_model: Sel,
    identifier: Sel,
    compile: Sel,
    load: Sel,
    /// Where the system can be asked for programs that it has compiled before.
    exists: Option<Sel>,
    evaluate: Sel,
    unload: Sel,
    make_surface_object: Sel,
    make_request: Sel,
}

// SAFETY: classes and selectors live as long as the process and may be used from any thread.
unsafe impl Send for Engine {}
// SAFETY: as above.
unsafe impl Sync for Engine {}

impl Engine {
    fn open(libraries: &Libraries, options: &Options) -> Result<Arc<Self>, AneError> {
        let runtime = Runtime::open(libraries)?;
        let foundation = Arc::new(Foundation::new(Arc::clone(&runtime))?);
        let framework = Library::open(&libraries.neural_engine)?;
        verify(&runtime, METHODS)?;
        if options.direct {
            verify(&runtime, DIRECT)?;
        }
        let selector = |name| runtime.selector(name);
        let exists = c"compiledModelExists";
        let known = runtime.expect(c"_ANEInMemoryModel", Kind::Instance, exists, "B@:");
        let exists = known.is_ok().then(|| selector(exists));
        Ok(Arc::new(Engine {
            surfaces: IoSurfaces::open(libraries, Arc::clone(&foundation))?,
            functions: Functions::load(&Library::open(&libraries.foundation)?)?,
            statistics: options.hardware_time.then(|| Statistics::find(&runtime)).flatten(),
            descriptor: runtime.class(c"_ANEInMemoryModelDescriptor")?,
            model: runtime.class(c"_ANEInMemoryModel")?,
            request: runtime.class(c"_ANERequest")?,
            surface_object: runtime.class(c"_ANEIOSurfaceObject")?,
            make_descriptor: selector(c"modelWithMILText:weights:optionsPlist:"),
            make_model: selector(c"inMemoryModelWithDescriptor:"),
            identifier: selector(c"hexStringIdentifier"),
            compile: selector(c"compileWithQoS:options:error:"),
            load: selector(c"loadWithQoS:options:error:"),
            exists,
            evaluate: selector(c"evaluateWithQoS:options:request:error:"),
            unload: selector(c"unloadWithQoS:error:"),
            make_surface_object: selector(c"objectWithIOSurface:"),
            make_request: selector(REQUEST),
            _framework: framework,
            foundation,
            runtime,
        }))
    }

    /// `{ path: { "offset": 0, "data": contents } }`, and an empty dictionary, never nil, for no
    /// weights: nil fails without a word (docs/ane-facts.md A.4).
    fn weights(&self, weights: &Weights) -> Result<Object, AneError> {
        let f = &self.foundation;
        let entry = |(path, bytes): (&String, &Vec<u8>)| {
            let file = [(f.string("offset")?, f.number(0)?), (f.string("data")?, f.data(bytes)?)];
            Ok((f.string(path)?, f.dictionary(&file)?))
        };
        f.dictionary(&weights.iter().map(entry).collect::<Result<Vec<_>, AneError>>()?)
    }

    /// The model of a program, what the system calls it, and the directory that it will be read
    /// from. Needs a pool.
    fn model(&self, sources: &Arc<Sources>) -> Result<Described, AneError> {
        let text = self.foundation.data(sources.text.as_bytes())?;
        let weights = self.weights(&sources.weights)?;
        // SAFETY: data, a dictionary, and no options; what is returned belongs to the pool.
        let descriptor = unsafe {
            let id = send!(self.runtime, self.descriptor, self.make_descriptor,
                Id = text.id(), Id = weights.id(), Id = null_mut() => Id);
            Object::retained(&self.runtime, id)
        };
        let descriptor = descriptor.ok_or_else(|| {
            let report = "no description of the program (InvalidMILProgram)".to_owned();
            reported("describing the program", report)
        })?;
        // SAFETY: a descriptor; what is returned belongs to the pool.
        let model = unsafe {
            let id = send!(self.runtime, self.model, self.make_model, Id = descriptor.id() => Id);
            Object::retained(&self.runtime, id)
        };
        let model = model.ok_or_else(|| refused("model"))?;
        // SAFETY: a method without arguments that returns a string; so does the function.
        let (name, parent) = unsafe {
            let name = send!(self.runtime, model.id(), self.identifier => Id);
            let parent = (self.functions.temporary_directory)();
            (self.foundation.text(name), self.foundation.text(parent))
        };
        if name.is_empty() || name.contains(['/', '.']) || parent.is_empty() {
            return Err(refused("name for the model's directory"));
        }
        let directory = ModelDirectory::create(&PathBuf::from(parent).join(&name), sources)?;
        Ok(Described { object: model, name, directory })
    }

    /// Sends `compile` or `load`.
    fn prepare(&self, model: &Object, selector: Sel, qos: u32) -> Result<(), String> {
        let none = self.foundation.dictionary(&[]).map_err(|e| e.to_string())?;
        self.foundation.checked(|error| {
            // SAFETY: quality of service, a dictionary, and where to store an error.
            unsafe {
                send!(self.runtime, model.id(), selector,
                    u32 = qos, Id = none.id(), *mut Id = error => Bool)
            }
        })
    }

    /// Compiles once, and loads, with a second try at loading after a pause. The outer error is the
    /// compiler's, after which compiling again may help.
    fn build(
        self: &Arc<Self>,
        sources: &Arc<Sources>,
        options: &Options,
    ) -> Result<Result<Model, AneError>, AneError> {
        let _pool = Pool::new(&self.runtime);
        let described = self.compiled(sources, options)?;
        let none = self.foundation.dictionary(&[])?;
        let load = || self.prepare(&described.object, self.load, options.qos);
        let loaded = load().or_else(|_| {
            sleep(options.load_pause);
            load()
        });
        if let Err(report) = loaded {
            return Ok(Err(reported("loading", report)));
        }
        Ok(Ok(self.loaded(described, none, options)))
    }

    /// Compiles once. Needs a pool.
    fn compiled(&self, sources: &Arc<Sources>, options: &Options) -> Result<Described, AneError> {
        let described = self.model(sources)?;
        let compiled = self.prepare(&described.object, self.compile, options.qos);
        compiled.map_err(|report| reported("compiling", report))?;
        Ok(described)
    }

    /// Sends `unload`.
    fn unload(&self, model: &Object, qos: u32) -> Result<(), String> {
        self.foundation.checked(|error| {
            // SAFETY: a loaded model, quality of service, and where to store an error.
            unsafe {
                send!(self.runtime, model.id(), self.unload,
                    u32 = qos, *mut Id = error => Bool)
            }
        })
    }

    fn loaded(self: &Arc<Self>, described: Described, none: Object, options: &Options) -> Model {
        let Described { object, name, directory } = described;
        let (engine, directory) = (Arc::clone(self), Arc::new(directory));
        let (qos, options) = (options.qos, none);
        Model { direct: None, options, object, name, qos, engine, directory, is_loaded: true }
    }

    /// Loads a program that the system compiled before under the name `identifier`. `None` where it
    /// has it no more, or calls the program otherwise now.
    fn reopen(
        self: &Arc<Self>,
        sources: &Arc<Sources>,
        options: &Options,
        identifier: &str,
    ) -> Result<Option<Model>, AneError> {
        let Some(exists) = self.exists else { return Ok(None) };
        let _pool = Pool::new(&self.runtime);
        let described = self.model(sources)?;
        let none = self.foundation.dictionary(&[])?;
        // SAFETY: a verified method without arguments.
        let exists = unsafe { send!(self.runtime, described.object.id(), exists => Bool) };
        if exists == 0 || described.name != identifier {
            return Ok(None);
        }
        let loaded = self.prepare(&described.object, self.load, options.qos);
        loaded.map_err(|report| reported("loading", report))?;
        Ok(Some(self.loaded(described, none, options)))
    }

    /// The framework's object for a surface. Needs a pool.
    fn wrap(&self, surface: &IoSurface) -> Result<Object, AneError> {
        // SAFETY: a surface; what is returned belongs to the pool.
        let object = unsafe {
            let id = send!(self.runtime, self.surface_object, self.make_surface_object,
                Id = surface.id() => Id);
            Object::retained(&self.runtime, id)
        };
        object.ok_or_else(|| refused("object for a surface"))
    }

    /// A request over surfaces in binding order. Needs a pool.
    fn request(
        &self,
        inputs: &[Arc<IoSurface>],
        outputs: &[Arc<IoSurface>],
    ) -> Result<Object, AneError> {
        let f = &self.foundation;
        let list = |surfaces: &[Arc<IoSurface>]| -> Result<(Object, Object), AneError> {
            let objects =
                surfaces.iter().map(|s| self.wrap(s)).collect::<Result<Vec<_>, AneError>>()?;
            let indices =
                (0..surfaces.len() as i64).map(|i| f.number(i)).collect::<Result<Vec<_>, _>>()?;
            Ok((f.array(&objects)?, f.array(&indices)?))
        };
        let (inputs, input_indices) = list(inputs)?;
        let (outputs, output_indices) = list(outputs)?;
        let procedure = f.number(0)?;
        // SAFETY: four arrays, no weights, no statistics, and a number; what is returned belongs to
        // the pool.
        let request = unsafe {
            let id = send!(self.runtime, self.request, self.make_request,
                Id = inputs.id(), Id = input_indices.id(),
                Id = outputs.id(), Id = output_indices.id(),
                Id = null_mut(), Id = null_mut(), Id = procedure.id() => Id);
            Object::retained(&self.runtime, id)
        };
        request.ok_or_else(|| refused("request"))
    }
}

fn refused(what: &str) -> AneError {
    AneError::NoEngine { reason: format!("the system made no {what}") }
}

/// A model that is neither compiled nor loaded yet.
#[derive(Debug)]
struct Described {
    object: Object,
    /// The system's name for it, and its directory.
    name: String,
    directory: ModelDirectory,
}

/// A loaded model. Dropping it unloads it, then releases it, then removes its directory.
#[derive(Debug)]
struct Model {
    direct: Option<Client>,
    options: Object,
    object: Object,
    name: String,
    qos: u32,
    engine: Arc<Engine>,
    directory: Arc<ModelDirectory>,
    /// False once it was to be loaded again and that failed: it is lost then.
    is_loaded: bool,
}

impl Model {
    /// The actions after each load.
    fn connect(&mut self, direct: bool) -> Result<(), AneError> {
        if direct {
            let _pool = Pool::new(&self.engine.runtime);
            self.direct = Some(self.client()?);
        }
        self.ask_for_statistics();
        Ok(())
    }

    /// Asks for the hardware's own time, if that is wanted.
    fn ask_for_statistics(&self) {
        let Engine { runtime, statistics: Some(statistics), .. } = &*self.engine else { return };
        let inner = self.direct.as_ref().map(|client| &client.model);
        [&self.object].into_iter().chain(inner).for_each(|model| statistics.ask(runtime, model));
    }

    /// Evaluates, with this quality of service; seconds.
    fn evaluate(&self, request: &Object, qos: u32) -> Result<f64, AneError> {
        let Engine { runtime, foundation, .. } = &*self.engine;
        let start = Instant::now();
        let result = foundation.checked(|error| {
            // SAFETY: a loaded model, options, a request over surfaces that live, and where to store
            // an error.
            unsafe {
                match &self.direct {
                    Some(client) => {
                        client.evaluate(&self.engine, &self.options, request, qos, error)
                    }
                    None => send!(runtime, self.object.id(), self.engine.evaluate,
                        u32 = qos, Id = self.options.id(), Id = request.id(),
                        *mut Id = error => Bool),
                }
            }
        });
        let seconds = start.elapsed().as_secs_f64();
        result.map(|()| seconds).map_err(|report| reported("running", report))
    }

    /// The object by which the system's service knows the model. Needs a pool.
    fn client(&self) -> Result<Client, AneError> {
        Client::new(&self.engine, &self.object)
    }

    /// As [`Model::evaluate`], by the real-time call.
    fn evaluate_in_real_time(&self, request: &Object) -> Result<f64, AneError> {
        let _pool = Pool::new(&self.engine.runtime);
        self.client()?.evaluate_in_real_time(&self.engine, &self.options, request)
    }

    /// True if it is there.
    fn check(&self) -> Result<(), AneError> {
        let lost = || "the program was lost when it was to be loaded again".to_owned();
        self.is_loaded.then_some(()).ok_or_else(|| AneError::NoEngine { reason: lost() })
    }

    /// Unloads it, writes `weights` over its files, and loads it again.
    fn reload(&mut self, weights: &Weights) -> Result<Reloaded, AneError> {
        let (engine, qos) = (Arc::clone(&self.engine), self.qos);
        let (object, directory) = (self.object.clone(), Arc::clone(&self.directory));
        // All of them, as the system removes the directory with the program.
        let mut sources = Sources::read(directory.path())?;
        sources.weights.extend(weights.clone());
        let attempt = move || -> Result<Reloaded, AneError> {
            let _pool = Pool::new(&engine.runtime);
            let start = Instant::now();
            engine.unload(&object, qos).map_err(|report| reported("unloading", report))?;
            let unload_seconds = start.elapsed().as_secs_f64();
            sources.write(directory.path())?;
            let start = Instant::now();
            let loaded = engine.prepare(&object, engine.load, qos);
            loaded.map_err(|report| reported("loading", report))?;
            Ok(Reloaded { unload_seconds, load_seconds: start.elapsed().as_secs_f64() })
        };
        let _turn = turn();
        self.is_loaded = false;
        let reloaded = within(UNLOAD_LIMIT, attempt).map_err(|unfinished| match unfinished {
            Unfinished::Late(_) => AneError::CompileTimeout { seconds: UNLOAD_LIMIT.as_secs() },
            Unfinished::Failed(reason) => AneError::NoEngine { reason },
        })??;
        self.is_loaded = true;
        Ok(reloaded)
    }

    /// Prepares a chain of one program, over surfaces in binding order.
    fn prepare_chain(&self, surfaces: [&[Arc<IoSurface>]; 2]) -> Result<Chain, AneError> {
        let _pool = Pool::new(&self.engine.runtime);
        self.client()?.prepare_chain(&self.engine, &self.options, self.qos, surfaces)
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        if !self.is_loaded {
            return;
        }
        let (engine, qos) = (Arc::clone(&self.engine), self.qos);
        let (object, directory) = (self.object.clone(), Arc::clone(&self.directory));
        unload(move || {
            // A program that cannot be unloaded is lost until the process ends; there is nobody to tell.
            let _ = engine.unload(&object, qos);
            drop(object);
            drop(directory);
        });
    }
}

/// The Neural Engine by in-memory models.
#[derive(Debug)]
pub struct InMemory {
    engine: Arc<Engine>,
    mac: Mac,
    budget: Budget,
    options: Options,
    store: Option<Store>,
}

impl InMemory {
    /// Opens the libraries and verifies everything that will be called.
    ///
    /// # Errors
    /// [`AneError::NoEngine`] when a library cannot be opened, [`AppleError::Missing`](crate::AppleError::Missing) and
    /// [`AppleError::Signature`](crate::AppleError::Signature) when it is not the one that is known.
    pub fn open(libraries: &Libraries, options: Options) -> Result<Self, AneError> {
        let engine = Engine::open(libraries, &options)?;
        let mac = system::mac(libraries, CallPath::InMemory);
        let budget = libraries.used.budget(&mac.profile);
        let store = options.cache.as_ref();
        let store = store.and_then(|cache| Store::open(cache, libraries, Route::InMemory));
        Ok(InMemory { engine, mac, budget, options, store })
    }

    /// Compiles for another process; what the system calls the program. Its directory stays.
    pub(super) fn compile_for_another(&self, sources: &Arc<Sources>) -> Result<String, AneError> {
        let _pool = Pool::new(&self.engine.runtime);
        let Described { name, directory, .. } = self.engine.compiled(sources, &self.options)?;
        directory.leave();
        Ok(name)
    }

    /// A program that the system has compiled before, or one compiled here.
    ///
    /// The system has a cache of its own, across processes (published programs load from it after
    /// `compiledModelExists`), by a name whose contents are disputed: ORI takes it for a hash of the
    /// text and of the names of weight files, others measured that other bytes of weights give another
    /// name. So a compile is skipped only where both agree that the name stands for
    /// this very program: it has no weight files; we compiled it ourselves, on this chip and build;
    /// and the system called it then what it calls it now. How long the system keeps programs is not
    /// known; where it forgot one, or anything fails, the program is compiled as ever. Programs of the
    /// cache do not count as compiles.
    fn model(
        &self,
        sources: &Arc<Sources>,
        name: &str,
    ) -> Result<(Model, Option<Entry>), AneError> {
        let Some(store) = &self.store else { return Ok((self.compile_here(sources)?, None)) };
        let key = &store.key(&format!("qos {}", self.options.qos), sources);
        let known = || self.reopen(store, key, sources);
        if let Some((model, entry)) = known()? {
            return Ok((model, Some(entry)));
        }
        if let Some(elsewhere) = &self.options.elsewhere
            && store.is_trusted()
        {
            let (elsewhere, options) = (&**elsewhere, &self.options);
            let order = Order { elsewhere, store, options, key, sources, name };
            if order.compile()? && reusable(store, sources) {
                if let Some((model, entry)) = known()? {
                    return Ok((model, Some(entry)));
                }
                // The system does not hand over what it has just compiled.
                let model = self.compile_here(sources)?;
                store.refused_for_certain();
                return Ok((model, None));
            }
        }
        let model = self.compile_here(sources)?;
        if reusable(store, sources) {
            // What cannot be noted costs the next process a compile.
            let _ = store.staging().and_then(|s| store.keep(s, key, Some(model.name.clone())));
        }
        Ok((model, None))
    }

    /// The program, if it was compiled before and the system still has it.
    ///
    /// # Errors
    /// [`AneError::CompileTimeout`] when loading hangs: so would a compile behind it.
    fn reopen(
        &self,
        store: &Store,
        key: &Key,
        sources: &Arc<Sources>,
    ) -> Result<Option<(Model, Entry)>, AneError> {
        if !reusable(store, sources) {
            return Ok(None);
        }
        let Some(entry) = store.find(key) else { return Ok(None) };
        let (engine, options) = (Arc::clone(&self.engine), self.options.clone());
        let sources = Arc::clone(sources);
        let attempt = move || {
            let loaded = entry.opening().and_then(|_opening| {
                let identifier = entry.identifier().unwrap_or_default();
                engine.reopen(&sources, &options, identifier)
            });
            (loaded, entry)
        };
        let turn = turn();
        Ok(match within(self.options.open_limit, attempt) {
            Ok((Ok(Some(model)), entry)) => Some((model, entry)),
            // The system forgot it: nothing is wrong, and it will be compiled now.
            Ok((Ok(None), entry)) => {
                store.discard(entry);
                None
            }
            Ok((Err(_), entry)) => {
                store.refused();
                store.discard(entry);
                None
            }
            Err(Unfinished::Late(receiver)) => {
                // What came too late may lie in the channel, and needs the turn to be unloaded.
                drop(turn);
                drop(receiver);
                store.refused();
                let seconds = self.options.open_limit.as_secs();
                return Err(AneError::CompileTimeout { seconds });
            }
            Err(Unfinished::Failed(_)) => None,
        })
    }

    /// Compiles in this process, and loads.
    fn compile_here(&self, sources: &Arc<Sources>) -> Result<Model, AneError> {
        self.build(sources, self.options.clone(), || self.budget.compile())
    }

    /// Compiles, and loads; `before` is asked before every try.
    fn build(
        &self,
        sources: &Arc<Sources>,
        options: Options,
        before: impl Fn() -> Result<(), AneError>,
    ) -> Result<Model, AneError> {
        let (engine, sources) = (Arc::clone(&self.engine), Arc::clone(sources));
        let how = options.clone();
        compile(&options, before, move || engine.build(&sources, &how))?
    }

    /// A loaded program with the ports of `function`.
    fn loaded(
        &self,
        function: &Function,
        (mut model, entry): (Model, Option<Entry>),
        place: LoadedProgram,
        rules: Option<Profile>,
    ) -> Result<Box<dyn Executable>, AneError> {
        let (inputs, outputs) = ports(function);
        model.connect(self.options.direct)?;
        Ok(Box::new(Loaded {
            requests: vec![],
            model,
            chains: vec![],
            entry,
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

/// True if the system's name for a program stands for all of it, by every source.
fn reusable(store: &Store, sources: &Sources) -> bool {
    sources.weights.is_empty() && store.is_trusted()
}

/// Ports of a function in binding order.
pub(super) fn ports(function: &Function) -> (Binding, Binding) {
    let port = |id| Port { name: function.value(id).name.clone(), ty: function.ty(id).clone() };
    (
        alphabetical(function.inputs().map(port).collect()),
        alphabetical(function.outputs.iter().map(|&id| port(id)).collect()),
    )
}

/// The program's text and files, if it keeps the rules of `profile`, and its constants' bytes.
pub(super) fn admit(
    program: &Program,
    weights: &Weights,
    profile: &Profile,
    options: &Options,
) -> Result<(Arc<Sources>, u64), AneError> {
    let allowed: Vec<&str> = options.allowed.iter().map(String::as_str).collect();
    let verdict = legal::check_allowing(program, profile, &allowed)
        .map_err(|violations| AneError::refused(profile.path, violations))?;
    let sources = Sources { text: program.to_string(), weights: weights.clone() };
    Ok((Arc::new(sources), verdict.legal.constant_bytes()))
}

impl Device for InMemory {
    fn describe(&self) -> String {
        let direct = if self.options.direct { ", requests sent directly" } else { "" };
        format!("Neural Engine by in-memory models, {}{direct}", self.mac.description)
    }

    fn profile(&self) -> Option<Profile> {
        Some(self.mac.profile)
    }

    fn surface(&self, ty: &TensorType, allocation: usize) -> Result<Surface, AneError> {
        let allocation = allocation.max(ty.bytes()).max(1);
        Surface::foreign(ty, allocation, self.engine.surfaces.create(allocation)?)
    }

    fn least_allocation(&self) -> usize {
        self.mac.profile.limits().min_surface_bytes
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
        let model = self.model(&sources, &function.name)?;
        self.loaded(function, model, place, Some(self.mac.profile))
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
            // It counts, but what the count says is not heeded.
            let _ = self.budget.compile();
            let sources = Arc::new(Sources { text: text.to_owned(), weights: weights.clone() });
            let model = self.build(&sources, self.options.once(), || Ok(()))?;
            self.loaded(function, (model, None), place, None)
        };
        Some(compiled())
    }
}

/// A request and what it is bound to. The request goes before the surfaces.
#[derive(Debug)]
struct Bound {
    request: Object,
    keys: Vec<SurfaceKey>,
    _memory: Vec<Arc<IoSurface>>,
}

/// A program ready to run. Requests go before the model, the model before its place.
#[derive(Debug)]
struct Loaded {
    /// One per set of surfaces that was ever bound and is still in use.
    requests: Vec<Bound>,
    model: Model,
    chains: Vec<Chain>,
    /// Where the program comes from, if it was compiled before.
    entry: Option<Entry>,
    /// The machine whose rules its requests keep.
    rules: Option<Profile>,
    inputs: Binding,
    outputs: Binding,
    _place: LoadedProgram,
}

impl Loaded {
    /// The request over these surfaces: the one made before, or a new one.
    fn request(&mut self, inputs: &[&Surface], outputs: &[&Surface]) -> Result<usize, AneError> {
        let bound = || inputs.iter().chain(outputs);
        let known = self.requests.iter().position(|b| {
            b.keys.len() == bound().count() && b.keys.iter().zip(bound()).all(|(k, s)| k.is(s))
        });
        if let Some(known) = known {
            return Ok(known);
        }
        self.requests.retain(|bound| bound.keys.iter().all(SurfaceKey::is_alive));
        let (read, written) = (memory(&self.inputs, inputs)?, memory(&self.outputs, outputs)?);
        let engine = &self.model.engine;
        let _pool = Pool::new(&engine.runtime);
        let request = engine.request(&read, &written)?;
        let keys = bound().map(|surface| surface.key()).collect();
        let _memory = read.into_iter().chain(written).collect();
        self.requests.push(Bound { request, keys, _memory });
        Ok(self.requests.len() - 1)
    }

    /// The program is there, and a request over these surfaces keeps the rules.
    fn check(&self, inputs: &[&Surface], outputs: &[&Surface]) -> Result<(), AneError> {
        self.model.check()?;
        check_request(self.rules.as_ref(), (&self.inputs, inputs), (&self.outputs, outputs))
    }

    /// Has `evaluate` send a request over these surfaces.
    fn send(
        &mut self,
        inputs: &[&Surface],
        outputs: &[&Surface],
        evaluate: impl FnOnce(&Model, &Object) -> Result<f64, AneError>,
    ) -> Result<RunReport, AneError> {
        self.check(inputs, outputs)?;
        let request = self.request(inputs, outputs)?;
        let _in_flight = hold(inputs, outputs);
        let request = &self.requests[request].request;
        let result = evaluate(&self.model, request);
        let seconds = match &mut self.entry {
            Some(entry) => entry.judged(result)?,
            None => result?,
        };
        let Engine { runtime, statistics, .. } = &*self.model.engine;
        let hardware_seconds = statistics.as_ref().and_then(|s| s.seconds(runtime, request));
        Ok(RunReport { seconds, hardware_seconds })
    }

    fn chain(&mut self, inputs: &[&Surface], outputs: &[&Surface]) -> Result<RunReport, AneError> {
        self.check(inputs, outputs)?;
        let (read, written) = (memory(&self.inputs, inputs)?, memory(&self.outputs, outputs)?);
        let start = Instant::now();
        let chain = self.model.prepare_chain([&read, &written])?;
        let seconds = start.elapsed().as_secs_f64();
        self.chains.push(chain);
        Ok(RunReport { seconds, hardware_seconds: None })
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
        self.send(inputs, outputs, |model, request| model.evaluate(request, model.qos))
    }

    fn run_by(
        &mut self,
        call: Call,
        inputs: &[&Surface],
        outputs: &[&Surface],
    ) -> Result<Option<RunReport>, AneError> {
        let report = match call {
            Call::Quality(qos @ 0..=63) => {
                self.send(inputs, outputs, |model, request| model.evaluate(request, qos))
            }
            Call::Quality(_) => return Ok(None),
            Call::RealTime => self.send(inputs, outputs, Model::evaluate_in_real_time),
            Call::Chained => self.chain(inputs, outputs),
        };
        report.map(Some)
    }

    fn reload(&mut self, weights: &Weights) -> Result<Option<Reloaded>, AneError> {
        self.model.check()?;
        self.requests.clear();
        self.chains.clear();
        let reloaded = self.model.reload(weights)?;
        self.model.connect(self.model.direct.is_some())?;
        Ok(Some(reloaded))
    }
}

/// Memory of surfaces in binding order.
fn memory(binding: &Binding, surfaces: &[&Surface]) -> Result<Vec<Arc<IoSurface>>, AneError> {
    let each = binding.ports.iter().zip(surfaces).map(|(port, surface)| {
        let another = || AneError::SurfaceOfAnother { port: port.name.clone() };
        surface.memory::<IoSurface>().ok_or_else(another)
    });
    each.collect()
}
