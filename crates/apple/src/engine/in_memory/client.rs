//! The connection to the system's service: requests around it, in real time, and chains of them.

use super::super::iosurface::IoSurface;
use super::super::objc::{Bool, Id, Kind, Object, Pool, Runtime, Sel, send};
use super::super::report::reported;
use super::{Engine, refused};
use ane::AneError;
use std::ffi::CStr;
use std::sync::Arc;
use std::time::Instant;

type Method = (&'static CStr, Kind, &'static CStr, &'static str);

/// Methods of every client, and of requests that bypass the system's service.
#[rustfmt::skip]
pub(super) const DIRECT: &[Method] = &[
    (c"_ANEInMemoryModel", Kind::Instance, c"model", "@@:"),
    (c"_ANEClient", Kind::Class, c"sharedConnection", "@@:"),
    (c"_ANEClient", Kind::Instance, EVALUATE_DIRECT, "B@:@@@I^@"),
];

/// Methods of the real-time call.
#[rustfmt::skip]
const REAL_TIME: &[Method] = &[
    (c"_ANEClient", Kind::Instance, c"beginRealTimeTask", "B@:"),
    (c"_ANEClient", Kind::Instance, EVALUATE_REAL_TIME, "B@:@@@^@"),
    (c"_ANEClient", Kind::Instance, c"endRealTimeTask", "B@:"),
];

/// Methods of chaining.
#[rustfmt::skip]
const CHAINING: &[Method] = &[
    (c"_ANEClient", Kind::Instance, PREPARE_CHAINING, "B@:@@@I^@"),
    (c"_ANEBuffer", Kind::Class, BUFFER, "@@:@@q"),
    (c"_ANEIOSurfaceOutputSets", Kind::Class, OUTPUT_SET, "@@:^{__IOSurface=}@"),
    (c"_ANEChainingRequest", Kind::Class, CHAIN, "@@:@@@@@@@@@"),
];

const EVALUATE_DIRECT: &CStr = c"doEvaluateDirectWithModel:options:request:qos:error:";
const EVALUATE_REAL_TIME: &CStr = c"evaluateRealTimeWithModel:options:request:error:";
const PREPARE_CHAINING: &CStr = c"prepareChainingWithModel:options:chainingReq:qos:error:";
const BUFFER: &CStr = c"bufferWithIOSurfaceObject:symbolIndex:source:";
const OUTPUT_SET: &CStr = c"objectWithstatsSurRef:outputBuffer:";
const CHAIN: &CStr = c"chainingRequestWithInputs:outputSets:lbInputSymbolId:lbOutputSymbolId:\
procedureIndex:signalEvents:transactionHandle:fwEnqueueDelay:memoryPoolId:";

/// Bytes of the surface for a chain's statistics: a page.
const STATISTICS_BYTES: usize = 1 << 14;

pub(super) fn verify(runtime: &Runtime, methods: &[Method]) -> Result<(), AneError> {
    methods
        .iter()
        .try_for_each(|(class, kind, name, types)| runtime.expect(class, *kind, name, types))
}

/// The connection, and a model as it knows it.
#[derive(Debug)]
pub(super) struct Client {
    connection: Object,
    pub(super) model: Object,
    evaluate: Sel,
}

// SAFETY: a selector is a name for the life of the process.
unsafe impl Send for Client {}

/// The objects that the system may refer to while a model is loaded: a chain, dropped before its
/// surfaces.
#[derive(Debug)]
pub(super) struct Chain {
    _request: Object,
    _memory: Vec<Arc<IoSurface>>,
}

impl Client {
    /// The client for a loaded model. Needs a pool.
    pub(super) fn new(engine: &Engine, model: &Object) -> Result<Self, AneError> {
        let runtime = &engine.runtime;
        verify(runtime, DIRECT)?;
        let class = runtime.class(c"_ANEClient")?;
        let selector = |name| runtime.selector(name);
        // SAFETY: methods without arguments that return an object of others.
        let (connection, inner) = unsafe {
            let connection = send!(runtime, class, selector(c"sharedConnection") => Id);
            let inner = send!(runtime, model.id(), selector(c"model") => Id);
            (Object::retained(runtime, connection), Object::retained(runtime, inner))
        };
        let (connection, model) = connection.zip(inner).ok_or_else(|| AneError::NoEngine {
            reason: "the system gave no connection for direct requests".to_owned(),
        })?;
        Ok(Client { connection, model, evaluate: selector(EVALUATE_DIRECT) })
    }

    /// Evaluates around the system's service.
    ///
    /// # Safety
    /// The surfaces of `request` live, and `error` is where an error may be stored.
    pub(super) unsafe fn evaluate(
        &self,
        engine: &Engine,
        options: &Object,
        request: &Object,
        qos: u32,
        error: *mut Id,
    ) -> Bool {
        // SAFETY: a loaded model, options, and what the caller promises.
        unsafe {
            send!(engine.runtime, self.connection.id(), self.evaluate,
                Id = self.model.id(), Id = options.id(), Id = request.id(),
                u32 = qos, *mut Id = error => Bool)
        }
    }

    /// Evaluates by the real-time call, in a real-time task; seconds of the call. As decompiled it is
    /// a direct one with a quality of service of its own, so that the model need not be loaded again
    /// (D-real-time-path, D-real-time-entitled). `request` is over surfaces that live.
    pub(super) fn evaluate_in_real_time(
        &self,
        engine: &Engine,
        options: &Object,
        request: &Object,
    ) -> Result<f64, AneError> {
        let Engine { runtime, foundation, .. } = engine;
        verify(runtime, REAL_TIME)?;
        let (connection, selector) = (self.connection.id(), |name| runtime.selector(name));
        // SAFETY: a verified method without arguments.
        if unsafe { send!(runtime, connection, selector(c"beginRealTimeTask") => Bool) } == 0 {
            let report = "beginRealTimeTask returned NO".to_owned();
            return Err(reported("starting a real-time task", report));
        }
        let start = Instant::now();
        let result = foundation.checked(|error| {
            // SAFETY: a loaded model, options, a request over surfaces that live, and where to store
            // an error.
            unsafe {
                send!(runtime, connection, selector(EVALUATE_REAL_TIME),
                    Id = self.model.id(), Id = options.id(), Id = request.id(),
                    *mut Id = error => Bool)
            }
        });
        let seconds = start.elapsed().as_secs_f64();
        // SAFETY: a verified method without arguments. A task that does not end goes with the process.
        unsafe { send!(runtime, connection, selector(c"endRealTimeTask") => Bool) };
        result.map(|()| seconds).map_err(|report| reported("running in real time", report))
    }

    /// Prepares a chain of one program, over surfaces in binding order: types and order of arguments
    /// are those that INF found to pass the framework's own check.
    pub(super) fn prepare_chain(
        &self,
        engine: &Engine,
        options: &Object,
        qos: u32,
        [inputs, outputs]: [&[Arc<IoSurface>]; 2],
    ) -> Result<Chain, AneError> {
        let Engine { runtime, foundation: f, surfaces, .. } = engine;
        verify(runtime, CHAINING)?;
        // Nil does not do. What refers to it takes no reference, so it outlives the pool.
        let statistics = surfaces.create(STATISTICS_BYTES)?;
        let _pool = Pool::new(runtime);
        let selector = |name| runtime.selector(name);
        let made = |id: Id, what: &str| {
            // SAFETY: nil or an object of the pool.
            unsafe { Object::retained(runtime, id) }.ok_or_else(|| refused(what))
        };
        let class = runtime.class(c"_ANEBuffer")?;
        let buffers = |surfaces: &[Arc<IoSurface>], source: i64| -> Result<Object, AneError> {
            let each = surfaces.iter().zip(0..).map(|(surface, i)| {
                let (object, symbol) = (engine.wrap(surface)?, f.number(i)?);
                // SAFETY: an object for a surface, a number, and 0 for inputs or 1 for outputs.
                let id = unsafe {
                    send!(runtime, class, selector(BUFFER),
                        Id = object.id(), Id = symbol.id(), i64 = source => Id)
                };
                made(id, "buffer of a chain")
            });
            f.array(&each.collect::<Result<Vec<_>, AneError>>()?)
        };
        let (read, written) = (buffers(inputs, 0)?, buffers(outputs, 1)?);
        // SAFETY: a surface, which lives as long as what is returned, and an array of buffers.
        let set = unsafe {
            send!(runtime, runtime.class(c"_ANEIOSurfaceOutputSets")?, selector(OUTPUT_SET),
                Id = statistics.id(), Id = written.id() => Id)
        };
        let (sets, none) = (f.array(&[made(set, "set of outputs")?])?, f.array(&[])?);
        let zero = f.number(0)?;
        // SAFETY: arrays, none of them nil, and numbers.
        let chain = unsafe {
            send!(runtime, runtime.class(c"_ANEChainingRequest")?, selector(CHAIN),
                Id = read.id(), Id = sets.id(), Id = none.id(), Id = none.id(),
                Id = zero.id(), Id = none.id(), Id = zero.id(), Id = zero.id(),
                Id = zero.id() => Id)
        };
        let chain = made(chain, "chaining request")?;
        let prepared = f.checked(|error| {
            // SAFETY: a loaded model, options, a chaining request, and where to store an error.
            unsafe {
                send!(runtime, self.connection.id(), selector(PREPARE_CHAINING),
                    Id = self.model.id(), Id = options.id(), Id = chain.id(),
                    u32 = qos, *mut Id = error => Bool)
            }
        });
        prepared.map_err(|report| reported("chaining", report))?;
        let memory = [inputs, outputs, &[statistics]].concat();
        Ok(Chain { _request: chain, _memory: memory })
    }
}
