//! The classes of AppleNeuralEngine, over the emulator.

use crate::control::{
    COUNTERS, count_compile, count_opened, fault, hang, is_on, set_fault, violation,
    wait_for_release,
};
use crate::foundation::{
    Opaque, array, data, dictionary, number, store_error, string, temporary, text, value,
};
use crate::iosurface;
use crate::runtime::{Bool, Id, Imp, Ref, Sel, Table, autorelease, body, factory, is_alive, make};
use ane::{AneError, Device, Emulator, Executable, Port, Precision, Surface};
use chip::{CallPath, Chip, Os, Profile, legal};
use cpu::Numerics;
use half::f16;
use mil::{DType, Program, Weights};
use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Programs that the compiler survives in a process (docs/ane-facts.md D).
const COMPILES: i64 = 119;

#[rustfmt::skip]
pub(crate) fn classes() -> Vec<Table> {
    vec![
        ("_ANEInMemoryModelDescriptor", vec![
            ("modelWithMILText:weights:optionsPlist:", descriptor as Imp, "@40@0:8@16@24@32"),
        ], vec![]),
        ("_ANEInMemoryModel", vec![
            ("inMemoryModelWithDescriptor:", model as Imp, "@24@0:8@16"),
        ], vec![
            ("hexStringIdentifier", identifier as Imp, "@16@0:8"),
            ("compiledModelExists", exists as Imp, "B16@0:8"),
            ("compileWithQoS:options:error:", compile as Imp, "B36@0:8I16@20^@28"),
            ("loadWithQoS:options:error:", load as Imp, "B36@0:8I16@20^@28"),
            ("evaluateWithQoS:options:request:error:", evaluate as Imp, "B44@0:8I16@20@28^@36"),
            ("unloadWithQoS:error:", unload as Imp, "B28@0:8I16^@20"),
            ("model", inner_model as Imp, "@16@0:8"),
            ("setPerfStatsMask:", set_mask as Imp, "v20@0:8I16"),
        ]),
        ("_ANEModel", vec![], vec![("setPerfStatsMask:", set_mask as Imp, "v20@0:8I16")]),
        ("_ANEPerformanceStats", vec![], vec![
            ("hwExecutionTime", hardware_time as Imp, "Q16@0:8"),
        ]),
        ("_ANERequest", vec![
            ("requestWithInputs:inputIndices:outputs:outputIndices:weightsBuffer:perfStats:procedureIndex:",
                request as Imp, "@72@0:8@16@24@32@40@48@56@64"),
        ], vec![
            ("perfStats", statistics as Imp, "@16@0:8"),
        ]),
        ("_ANEIOSurfaceObject", vec![
            ("objectWithIOSurface:", surface_object as Imp, "@24@0:8^{__IOSurface=}16"),
        ], vec![]),
    ]
}

/// The machine behind a call path: what it has used up is forgotten by [`reset`].
pub(crate) fn emulator(path: CallPath) -> Arc<Emulator> {
    static EMULATORS: Mutex<Vec<(CallPath, Arc<Emulator>)>> = Mutex::new(Vec::new());
    let mut all = EMULATORS.lock().unwrap_or_else(PoisonError::into_inner);
    if is_on("new machine") {
        fault("new machine");
        all.clear();
    }
    if let Some((_, emulator)) = all.iter().find(|(of, _)| *of == path) {
        return Arc::clone(emulator);
    }
    let emulator = fresh(path);
    all.push((path, Arc::clone(&emulator)));
    emulator
}

fn fresh(path: CallPath) -> Arc<Emulator> {
    let profile = Profile { chip: Chip::M4, os: Os::MacOs15, path };
    Arc::new(Emulator::engine(profile, Numerics::Fast))
}

/// Forgets what the process has compiled and used up.
pub(crate) fn reset() {
    compiled_before().clear();
    set_fault("new machine", 1);
}

#[derive(Debug)]
struct Descriptor {
    mil: Vec<u8>,
    weights: Weights,
}

impl Opaque for Descriptor {}

unsafe extern "C" fn descriptor(_: Id, _: Sel, mil: Id, weights: Id, options: Id) -> Id {
    if !options.is_null() {
        violation("options of a model, which nobody knows");
    }
    let Some(mil) = data(mil) else {
        violation("the text of a program is no NSData");
        return null_mut();
    };
    let Some(entries) = dictionary(weights) else {
        violation("weights are no dictionary: nil fails without a word");
        return null_mut();
    };
    let mut files = Weights::new();
    for (path, file) in entries {
        let contents = value(file.0, "data").and_then(data);
        let offset = value(file.0, "offset").and_then(number);
        match (text(path.0), contents, offset) {
            (Some(path), Some(contents), Some(0)) => {
                files.insert(path.to_owned(), contents.to_vec());
            }
            _ => violation("a weight file is not { offset: 0, data: NSData }"),
        }
    }
    let mil = mil.to_vec();
    factory("nil descriptor", || {
        Some(make("_ANEInMemoryModelDescriptor", Descriptor { mil, weights: files }))
    })
}

/// The programs that the system has compiled, by its own names: they outlive models.
fn compiled_before() -> MutexGuard<'static, BTreeMap<String, Compiled>> {
    static PROGRAMS: Mutex<BTreeMap<String, Compiled>> = Mutex::new(BTreeMap::new());
    PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Text and weights of a program that was compiled.
type Compiled = (String, Weights);

/// The program of that name; with `STANDINS_SYSTEM_CACHE=DIR` also one that another process compiled.
fn known(name: &str) -> Option<Compiled> {
    if is_on("system forgets") {
        return None;
    }
    let kept = std::env::var_os("STANDINS_SYSTEM_CACHE").map(|at| PathBuf::from(at).join(name));
    let elsewhere = || Some((std::fs::read_to_string(kept?).ok()?, Weights::new()));
    compiled_before().get(name).cloned().or_else(elsewhere)
}

fn remember(name: &str, text: &str, weights: &Weights) {
    if let Some(at) = std::env::var_os("STANDINS_SYSTEM_CACHE")
        && weights.is_empty()
        && std::fs::write(PathBuf::from(at).join(name), text).is_err()
    {
        violation("STANDINS_SYSTEM_CACHE cannot be written");
    }
    compiled_before().insert(name.to_owned(), (text.to_owned(), weights.clone()));
}

unsafe extern "C" fn exists(id: Id, _: Sel) -> Bool {
    temporary();
    as_model(id).is_some_and(|model| known(&model.name).is_some()).into()
}

/// Where a model is in its life.
#[derive(Debug)]
enum Stage {
    New,
    Compiled(Box<Program>),
    Loaded(Box<Run>),
    Unloaded,
}

/// A loaded program and surfaces of the emulator, made for the allocations that requests have.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) executable: Box<dyn Executable>,
    /// True if the program was compiled before.
    opened: bool,
    inputs: Vec<Surface>,
    outputs: Vec<Surface>,
}

/// The receiver of requests: a model in memory, or the `_ANEModel` within it that its client knows.
#[derive(Debug)]
pub(crate) struct Target {
    stage: Arc<Mutex<Stage>>,
    /// Which statistics of requests are kept.
    mask: AtomicU32,
}

impl Opaque for Target {}

impl Target {
    fn of(stage: &Arc<Mutex<Stage>>) -> Self {
        Target { stage: Arc::clone(stage), mask: AtomicU32::new(0) }
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many inputs and outputs it has, once it is loaded.
    pub(crate) fn ports(&self) -> Option<(usize, usize)> {
        match &*self.stage() {
            Stage::Loaded(run) => {
                Some((run.executable.inputs().len(), run.executable.outputs().len()))
            }
            _ => None,
        }
    }
}

/// A model in memory.
#[derive(Debug)]
struct Model {
    name: String,
    descriptor: Ref,
    target: Target,
    /// Made whenever it is loaded.
    inner: Mutex<Option<Ref>>,
}

impl Opaque for Model {}

impl Drop for Model {
    fn drop(&mut self) {
        if matches!(*self.stage(), Stage::Loaded(_)) {
            COUNTERS.loaded.fetch_sub(1, Ordering::SeqCst);
            violation("a model was released while it is loaded: its program is lost");
        }
    }
}

impl Model {
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.target.stage()
    }

    fn inner(&self) -> MutexGuard<'_, Option<Ref>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sources(&self) -> Option<&Descriptor> {
        body(self.descriptor.0)
    }

    /// The weight files as they lie where the system reads them.
    fn files(&self, sources: &Descriptor) -> Weights {
        let directory = temporary_directory().join(&self.name);
        let read = |path: &String| {
            let file = directory.join(path.trim_start_matches("@model_path/"));
            std::fs::read(&file).unwrap_or_else(|_| {
                violation(format!("there is no {}", file.display()));
                vec![]
            })
        };
        sources.weights.keys().map(|path| (path.clone(), read(path))).collect()
    }

    /// True if the files of the program lie where the system reads them.
    fn check_files(&self, sources: &Descriptor) {
        let directory = temporary_directory().join(&self.name);
        if std::fs::read(directory.join("model.mil")).ok().as_deref() != Some(&sources.mil) {
            violation(format!("{}/model.mil is not the program", directory.display()));
        }
        for (path, bytes) in &sources.weights {
            let file = directory.join(path.trim_start_matches("@model_path/"));
            if std::fs::read(&file).ok().as_ref() != Some(bytes) {
                violation(format!("{} is not the weight file", file.display()));
            }
        }
    }
}

unsafe extern "C" fn model(_: Id, _: Sel, descriptor: Id) -> Id {
    let Some(sources) = body::<Descriptor>(descriptor) else {
        violation("a model of what is no descriptor");
        return null_mut();
    };
    let mut hasher = DefaultHasher::new();
    // Sources disagree on whether the bytes of weights are part of the name.
    let weights = (!is_on("names without weights")).then_some(&sources.weights);
    (&sources.mil, weights, sources.weights.keys().collect::<Vec<_>>()).hash(&mut hasher);
    let name = format!("{:016X}", hasher.finish());
    factory("nil model", || {
        let target = Target::of(&Arc::new(Mutex::new(Stage::New)));
        let (descriptor, inner) = (Ref::new(descriptor), Mutex::default());
        let model = Model { name, descriptor, target, inner };
        Some(make("_ANEInMemoryModel", model))
    })
}

fn as_model<'a>(id: Id) -> Option<&'a Model> {
    let model = body(id);
    if model.is_none() {
        violation("what is no model was used as one");
    }
    model
}

unsafe extern "C" fn identifier(id: Id, _: Sel) -> Id {
    let Some(model) = as_model(id) else { return null_mut() };
    match fault("bad identifier") {
        true => autorelease(string("../escape")),
        false => autorelease(string(&model.name)),
    }
}

unsafe extern "C" fn inner_model(id: Id, _: Sel) -> Id {
    let Some(model) = as_model(id) else { return null_mut() };
    let inner = model.inner();
    inner.as_ref().map_or(null_mut(), |inner| autorelease(Ref::new(inner.0).into_id()))
}

/// The receiver to which a client sends a request.
pub(crate) fn as_inner<'a>(id: Id) -> Option<&'a Target> {
    let target = body(id);
    if target.is_none() {
        violation("what is no _ANEModel was given to a client as one");
    }
    target
}

unsafe extern "C" fn set_mask(id: Id, _: Sel, mask: u32) {
    temporary();
    let target = body::<Model>(id).map(|model| &model.target).or_else(|| body(id));
    let Some(target) = target else { return violation("what is no model was used as one") };
    // For programs without an entitlement the system's service may make it zero.
    let mask = if is_on("statistics forbidden") { 0 } else { mask };
    target.mask.store(mask, Ordering::SeqCst);
}

/// One for each process, so that runs at the same time do not remove each other's files.
fn temporary_directory() -> PathBuf {
    std::env::temp_dir().join(format!("standins-{}", std::process::id()))
}

#[unsafe(no_mangle)]
pub extern "C" fn NSTemporaryDirectory() -> Id {
    match is_on("no temporary directory") {
        true => autorelease(string("/proc/no-such-directory")),
        false => autorelease(string(&temporary_directory().display().to_string())),
    }
}

/// The machine's words for an error of the emulator.
pub(crate) fn words(error: &AneError) -> String {
    error
        .ns_error()
        .map_or_else(|| format!("Error Domain=emulator Code=0 \"{error}\""), |e| e.to_string())
}

pub(crate) fn check_call(qos: u32, options: Option<Id>) {
    temporary();
    if qos > 63 {
        violation(format!("quality of service {qos}"));
    }
    if options.is_some_and(|options| dictionary(options).is_none()) {
        violation("options are no dictionary");
    }
}

/// Fails with an error object, or without one if the text is empty.
pub(crate) fn fail(error: *mut Id, text: &str) -> Bool {
    if error.is_null() {
        violation("a call without a place for its error");
    }
    if !text.is_empty() {
        store_error(error, text);
    }
    0
}

/// The client's queue of what is compiled, loaded and unloaded: one after the other.
fn queue() -> MutexGuard<'static, ()> {
    static QUEUE: Mutex<()> = Mutex::new(());
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}

unsafe extern "C" fn compile(id: Id, _: Sel, qos: u32, options: Id, error: *mut Id) -> Bool {
    check_call(qos, Some(options));
    let _queue = queue();
    let Some(model) = as_model(id) else { return 0 };
    let Some(sources) = model.sources() else { return 0 };
    if fault("slow compile") {
        COUNTERS.slow.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(200));
    }
    model.check_files(sources);
    if count_compile() >= COMPILES {
        violation("more programs were compiled than the compiler survives");
        return fail(error, &words(&AneError::CompileBudget { limit: COMPILES as usize }));
    }
    if fault("crash") {
        std::process::abort();
    }
    hang("hang");
    if fault("compile silent") {
        return fail(error, "");
    }
    if fault("flaky compile") {
        return fail(error, &words(&AneError::CompileBudget { limit: 0 }));
    }
    let refused = "Error Domain=com.apple.appleneuralengine.compiler Code=1 \
                   \"_ANECompiler : ANECCompile() FAILED\" err=( InvalidMILProgram )";
    let parsed = std::str::from_utf8(&sources.mil).ok().and_then(|text| mil::parse(text).ok());
    let Some(program) = parsed.filter(|_| !fault("refuse program")) else {
        return fail(error, refused);
    };
    let profile = Profile { chip: Chip::M4, os: Os::MacOs15, path: CallPath::InMemory };
    if let Err(violations) = legal::check(&program, &profile) {
        return fail(error, &words(&AneError::refused(profile.path, violations)));
    }
    let mut stage = model.stage();
    if !matches!(*stage, Stage::New) {
        violation("a model was compiled twice");
    }
    remember(&model.name, &program.to_string(), &sources.weights);
    *stage = Stage::Compiled(Box::new(program));
    1
}

unsafe extern "C" fn load(id: Id, _: Sel, qos: u32, options: Id, error: *mut Id) -> Bool {
    check_call(qos, Some(options));
    let _queue = queue();
    let Some(model) = as_model(id) else { return 0 };
    for (name, text) in [
        ("load 0x20004", words(&AneError::ProgramTooLarge { bytes: 0, limit: 0 })),
        ("load 0x50004", words(&AneError::ResourcesExhausted)),
        ("load bundle", words(&AneError::InvalidBundle)),
        ("load silent", String::new()),
    ] {
        if fault(name) {
            return fail(error, &text);
        }
    }
    let mut stage = model.stage();
    let (program, weights) = match &*stage {
        Stage::Compiled(program) => {
            let weights = model.sources().map(|sources| sources.weights.clone());
            (program.as_ref().clone(), weights.unwrap_or_default())
        }
        Stage::New => {
            let before = known(&model.name);
            let before =
                before.and_then(|(text, weights)| Some((mil::parse(&text).ok()?, weights)));
            let Some(before) = before else {
                violation("a model was loaded that is not compiled");
                return 0;
            };
            if fault("open crash") {
                std::process::abort();
            }
            hang("open hang");
            if fault("open fails") {
                return fail(error, &words(&AneError::InvalidBundle));
            }
            count_opened();
            before
        }
        Stage::Unloaded => {
            let Some(sources) = model.sources() else { return 0 };
            let (before, files) = (known(&model.name), model.files(sources));
            let Some((program, weights)) =
                before.and_then(|(text, weights)| Some((mil::parse(&text).ok()?, weights)))
            else {
                return fail(error, &words(&AneError::InvalidBundle));
            };
            // What was compiled has its constants within; some say that the files are read again.
            (program, if is_on("rewritten files work") { files } else { weights })
        }
        Stage::Loaded(_) => {
            violation("a model was loaded twice");
            return 0;
        }
    };
    // The emulator counts compiles, and a program of before is none.
    let path = CallPath::InMemory;
    let opened = matches!(*stage, Stage::New);
    let compiled = matches!(*stage, Stage::Compiled(_));
    let machine = if compiled { emulator(path) } else { fresh(path) };
    match machine.compile(&program, &weights) {
        Ok(executable) => {
            COUNTERS.loaded.fetch_add(1, Ordering::SeqCst);
            *stage = Stage::Loaded(Box::new(Run::new(executable, opened)));
            // What was set before is replaced by what the service gives.
            model.target.mask.store(0, Ordering::SeqCst);
            *model.inner() = Some(Ref(make("_ANEModel", Target::of(&model.target.stage))));
            1
        }
        Err(reason) => fail(error, &words(&reason)),
    }
}

unsafe extern "C" fn unload(id: Id, _: Sel, qos: u32, error: *mut Id) -> Bool {
    check_call(qos, None);
    let _queue = queue();
    let Some(model) = as_model(id) else { return 0 };
    let mut stage = model.stage();
    if !matches!(*stage, Stage::Loaded(_)) {
        violation("a model was unloaded that is not loaded");
        return 0;
    }
    *stage = Stage::Unloaded;
    COUNTERS.loaded.fetch_sub(1, Ordering::SeqCst);
    // As the system does; our own directory goes with the last of them.
    let _ = std::fs::remove_dir_all(temporary_directory().join(&model.name));
    let _ = std::fs::remove_dir(temporary_directory());
    match fault("unload") {
        true => fail(error, "Error Domain=com.apple.appleneuralengine Code=9 \"unload\""),
        false => 1,
    }
}

/// A surface in a request. Unlike the system's, it does not keep the surface alive.
#[derive(Debug)]
pub(crate) struct SurfaceObject(usize);

impl Opaque for SurfaceObject {}

impl SurfaceObject {
    pub(crate) fn new(surface: Id) -> Self {
        SurfaceObject(surface as usize)
    }
}

impl Drop for SurfaceObject {
    fn drop(&mut self) {
        if !is_alive(self.0 as Id) {
            violation("a surface was released before the request that it is bound to");
        }
    }
}

unsafe extern "C" fn surface_object(_: Id, _: Sel, surface: Id) -> Id {
    if iosurface::memory(surface).is_none() {
        return null_mut();
    }
    factory("nil surface object", || Some(make("_ANEIOSurfaceObject", SurfaceObject::new(surface))))
}

/// Arrays of a request.
#[derive(Debug)]
struct Request {
    inputs: Ref,
    outputs: Ref,
    /// Of the last evaluation, where they are kept.
    statistics: Mutex<Option<Ref>>,
}

impl Opaque for Request {}

#[allow(clippy::too_many_arguments, reason = "the framework's method")]
unsafe extern "C" fn request(
    _: Id,
    _: Sel,
    inputs: Id,
    input_indices: Id,
    outputs: Id,
    output_indices: Id,
    weights: Id,
    statistics: Id,
    procedure: Id,
) -> Id {
    for (surfaces, indices) in [(inputs, input_indices), (outputs, output_indices)] {
        let of_surfaces = |s: &Ref| body::<SurfaceObject>(s.0).is_some();
        let n = array(surfaces).filter(|all| all.iter().all(of_surfaces)).map(<[Ref]>::len);
        let found: Option<Vec<i64>> =
            array(indices).and_then(|all| all.iter().map(|i| number(i.0)).collect());
        if n.is_none() || found != n.map(|n| (0..n as i64).collect()) {
            violation("a request's surfaces or indices are not as they should be");
            return null_mut();
        }
    }
    if !weights.is_null() || !statistics.is_null() || number(procedure) != Some(0) {
        violation("a request with a weights buffer, statistics or another procedure than 0");
    }
    factory("nil request", || {
        let (inputs, outputs) = (Ref::new(inputs), Ref::new(outputs));
        let request = Request { inputs, outputs, statistics: Mutex::default() };
        Some(make("_ANERequest", request))
    })
}

/// The statistics of a request, which keeps them.
unsafe extern "C" fn statistics(id: Id, _: Sel) -> Id {
    let Some(request) = body::<Request>(id) else { return null_mut() };
    let statistics = request.statistics.lock().unwrap_or_else(PoisonError::into_inner);
    statistics.as_ref().map_or(null_mut(), |statistics| statistics.0)
}

unsafe extern "C" fn hardware_time(id: Id, _: Sel) -> u64 {
    body::<Statistics>(id).map_or(0, |statistics| statistics.nanoseconds)
}

/// The measurements of an evaluation.
#[derive(Debug)]
struct Statistics {
    nanoseconds: u64,
}

impl Opaque for Statistics {}

impl Request {
    /// Keeps the time of an evaluation.
    fn note(&self, took: Duration) {
        let took = if is_on("statistics empty") { 0 } else { took.as_nanos().max(1) as u64 };
        let made = Ref(make("_ANEPerformanceStats", Statistics { nanoseconds: took }));
        *self.statistics.lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
    }
}

/// Memory of the surfaces of an array.
fn surfaces<'a>(list: &Ref) -> Option<Vec<&'a iosurface::Memory>> {
    let memory = |object: &Ref| iosurface::memory(body::<SurfaceObject>(object.0)?.0 as Id);
    array(list.0)?.iter().map(memory).collect()
}

impl Run {
    pub(crate) fn new(executable: Box<dyn Executable>, opened: bool) -> Self {
        Run { executable, opened, inputs: vec![], outputs: vec![] }
    }

    /// Runs on memory with these allocations; `read` and `write` move the bytes of one port.
    pub(crate) fn run(
        &mut self,
        allocations: (&[usize], &[usize]),
        read: impl Fn(usize, usize, &mut dyn FnMut(&[u8])),
        write: impl Fn(usize, usize, &mut dyn FnMut(&mut [u8])),
    ) -> Result<(), AneError> {
        if self.opened && fault("opened programs fail") {
            return Err(AneError::Procedure { index: 0, count: 0 });
        }
        fit(&mut self.inputs, self.executable.inputs(), allocations.0)?;
        fit(&mut self.outputs, self.executable.outputs(), allocations.1)?;
        for (i, surface) in self.inputs.iter().enumerate() {
            let mut result = Ok(());
            read(i, surface.ty().bytes(), &mut |bytes| {
                result = surface.write(&decode(surface.ty().dtype, bytes));
            });
            result?;
        }
        let inputs: Vec<&Surface> = self.inputs.iter().collect();
        let outputs: Vec<&Surface> = self.outputs.iter().collect();
        self.executable.run(&inputs, &outputs)?;
        for (i, surface) in self.outputs.iter().enumerate() {
            let mut values = vec![0.0; surface.ty().count()];
            surface.read(&mut values)?;
            write(i, surface.ty().bytes(), &mut |bytes| encode(surface.ty().dtype, &values, bytes));
        }
        Ok(())
    }
}

/// Surfaces of the emulator for ports, as large as those that are bound.
fn fit(surfaces: &mut Vec<Surface>, ports: &[Port], allocations: &[usize]) -> Result<(), AneError> {
    if ports.len() != allocations.len() {
        let (expected, got) = (ports.len(), allocations.len());
        return Err(AneError::SurfaceCount { what: "bound", expected, got });
    }
    let fits = surfaces.len() == ports.len()
        && surfaces.iter().zip(allocations).all(|(s, &n)| s.allocation() == n);
    if !fits {
        for (index, (port, &got)) in ports.iter().zip(allocations).enumerate() {
            let minimum = port.ty.bytes();
            if got < minimum {
                return Err(AneError::SurfaceTooSmall { what: "bound", index, minimum, got });
            }
        }
        let all = ports.iter().zip(allocations);
        *surfaces = all.map(|(p, &n)| Surface::new(&p.ty, n, Precision::Half)).collect();
    }
    Ok(())
}

fn decode(dtype: DType, bytes: &[u8]) -> Vec<f32> {
    match dtype {
        DType::Fp16 => {
            bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
        }
        _ => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
    }
}

fn encode(dtype: DType, values: &[f32], bytes: &mut [u8]) {
    match dtype {
        DType::Fp16 => (bytes.chunks_exact_mut(2).zip(values))
            .for_each(|(b, &v)| b.copy_from_slice(&f16::from_f32(v).to_le_bytes())),
        _ => (bytes.chunks_exact_mut(4).zip(values))
            .for_each(|(b, v)| b.copy_from_slice(&v.to_le_bytes())),
    }
}

/// Runs a request, or fails as told to.
pub(crate) fn process(target: Option<&Target>, request: Id) -> Result<(), String> {
    for (name, error) in [
        ("evaluate 0x1d", AneError::SurfaceCount { what: "input", expected: 0, got: 0 }),
        ("evaluate 0x2", AneError::Procedure { index: 0, count: 0 }),
        ("evaluate timeout", AneError::Timeout),
        ("evaluate map", AneError::SurfaceMap { code: 4 }),
        ("evaluate chaining", AneError::Chaining),
    ] {
        if fault(name) {
            return Err(words(&error));
        }
    }
    if fault("evaluate silent") {
        return Err(String::new());
    }
    let Some(target) = target else { return Err(String::new()) };
    let Some(request) = body::<Request>(request) else {
        violation("what is no request was evaluated");
        return Err(String::new());
    };
    let mut stage = target.stage();
    let Stage::Loaded(run) = &mut *stage else {
        violation("a model was evaluated that is not loaded");
        return Err(words(&AneError::Procedure { index: 0, count: 0 }));
    };
    let Some((inputs, outputs)) = surfaces(&request.inputs).zip(surfaces(&request.outputs)) else {
        return Err(words(&AneError::SurfaceMap { code: 4 }));
    };
    if inputs.len() > 1 && is_on("several inputs fail") {
        return Err(words(&AneError::SurfaceCount {
            what: "input",
            expected: 1,
            got: inputs.len(),
        }));
    }
    COUNTERS.evaluations.fetch_add(1, Ordering::SeqCst);
    wait_for_release();
    let start = Instant::now();
    let sizes = |all: &[&iosurface::Memory]| all.iter().map(|m| m.bytes).collect::<Vec<_>>();
    let wrong = fault("wrong answer");
    run.run(
        (&sizes(&inputs), &sizes(&outputs)),
        |i, n, read| inputs[i].engine_reads(n, |bytes| read(bytes)),
        |i, n, write| {
            outputs[i].engine_writes(n, |bytes| {
                write(bytes);
                if wrong {
                    bytes.fill(0);
                }
            });
        },
    )
    .map_err(|error| words(&error))?;
    if target.mask.load(Ordering::SeqCst) != 0 {
        request.note(start.elapsed());
    }
    Ok(())
}

unsafe extern "C" fn evaluate(
    id: Id,
    _: Sel,
    qos: u32,
    options: Id,
    request: Id,
    error: *mut Id,
) -> Bool {
    check_call(qos, Some(options));
    match process(as_model(id).map(|model| &model.target), request) {
        Ok(()) => 1,
        Err(text) => fail(error, &text),
    }
}
