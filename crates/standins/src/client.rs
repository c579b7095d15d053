//! The connection to the system's service: requests around it, in real time, and chains of them.

use crate::control::{COUNTERS, fault, is_on, violation};
use crate::engine::{SurfaceObject, as_inner, check_call, fail, process, words};
use crate::foundation::{Opaque, array, number, temporary};
use crate::iosurface;
use crate::runtime::{Body, Bool, Id, Imp, Ref, Sel, Table, body, factory, make};
use ane::AneError;
use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

#[rustfmt::skip]
pub(crate) fn classes() -> Vec<Table> {
    vec![
        ("_ANEClient", vec![
            ("sharedConnection", shared_connection as Imp, "@16@0:8"),
        ], vec![
            ("doEvaluateDirectWithModel:options:request:qos:error:", evaluate_direct as Imp,
                "B52@0:8@16@24@32I40^@44"),
            ("beginRealTimeTask", begin_real_time as Imp, "B16@0:8"),
            ("evaluateRealTimeWithModel:options:request:error:", evaluate_in_real_time as Imp,
                "B48@0:8@16@24@32^@40"),
            ("endRealTimeTask", end_real_time as Imp, "B16@0:8"),
            ("prepareChainingWithModel:options:chainingReq:qos:error:", prepare_chain as Imp,
                "B52@0:8@16@24@32I40^@44"),
        ]),
        ("_ANEBuffer", vec![
            ("bufferWithIOSurfaceObject:symbolIndex:source:", buffer as Imp, "@40@0:8@16@24q32"),
        ], vec![]),
        ("_ANEIOSurfaceOutputSets", vec![
            ("objectWithstatsSurRef:outputBuffer:", output_set as Imp,
                "@32@0:8^{__IOSurface=}16@24"),
        ], vec![]),
        ("_ANEChainingRequest", vec![
            ("chainingRequestWithInputs:outputSets:lbInputSymbolId:lbOutputSymbolId:procedureIndex:\
              signalEvents:transactionHandle:fwEnqueueDelay:memoryPoolId:",
                chain as Imp, "@88@0:8@16@24@32@40@48@56@64@72@80"),
        ], vec![]),
    ]
}

/// The connection, which is never released.
#[derive(Debug)]
struct Client;

impl Body for Client {}

unsafe extern "C" fn shared_connection(_: Id, _: Sel) -> Id {
    if fault("nil connection") {
        return null_mut();
    }
    static CLIENT: OnceLock<usize> = OnceLock::new();
    let client = *CLIENT.get_or_init(|| {
        let client = make("_ANEClient", Client);
        // It belongs to the framework, not to those who are asked about leaks.
        COUNTERS.objects.fetch_sub(1, Ordering::SeqCst);
        client as usize
    });
    client as Id
}

fn evaluated(model: Id, request: Id, error: *mut Id) -> Bool {
    match process(as_inner(model), request) {
        Ok(()) => 1,
        Err(text) => fail(error, &text),
    }
}

unsafe extern "C" fn evaluate_direct(
    _: Id,
    _: Sel,
    model: Id,
    options: Id,
    request: Id,
    qos: u32,
    error: *mut Id,
) -> Bool {
    check_call(qos, Some(options));
    COUNTERS.direct.fetch_add(1, Ordering::SeqCst);
    evaluated(model, request, error)
}

unsafe extern "C" fn begin_real_time(_: Id, _: Sel) -> Bool {
    temporary();
    if fault("real time forbidden") {
        return 0;
    }
    if COUNTERS.tasks.fetch_add(1, Ordering::SeqCst) != 0 {
        violation("a real-time task was begun within another");
    }
    1
}

unsafe extern "C" fn end_real_time(_: Id, _: Sel) -> Bool {
    temporary();
    if COUNTERS.tasks.fetch_sub(1, Ordering::SeqCst) != 1 {
        violation("a real-time task was ended that was not begun");
    }
    1
}

unsafe extern "C" fn evaluate_in_real_time(
    _: Id,
    _: Sel,
    model: Id,
    options: Id,
    request: Id,
    error: *mut Id,
) -> Bool {
    check_call(0, Some(options));
    if COUNTERS.tasks.load(Ordering::SeqCst) == 0 {
        violation("a real-time request outside of a real-time task");
    }
    COUNTERS.real_time.fetch_add(1, Ordering::SeqCst);
    evaluated(model, request, error)
}

/// A surface at the port of a chain.
#[derive(Debug)]
struct Buffer {
    _surface: Ref,
    symbol: i64,
    source: i64,
}

impl Opaque for Buffer {}

unsafe extern "C" fn buffer(_: Id, _: Sel, surface: Id, symbol: Id, source: i64) -> Id {
    let known = body::<SurfaceObject>(surface).is_some();
    let Some(symbol) = number(symbol).filter(|_| known) else {
        violation("a chain's buffer is not a surface's object with the number of a symbol");
        return null_mut();
    };
    factory("nil buffer", || {
        let buffer = Buffer { _surface: Ref::new(surface), symbol, source };
        Some(make("_ANEBuffer", buffer))
    })
}

/// Where a chain writes. It does not keep the surface of its statistics alive.
#[derive(Debug)]
struct OutputSet {
    _statistics: SurfaceObject,
    buffers: Ref,
}

impl Opaque for OutputSet {}

unsafe extern "C" fn output_set(_: Id, _: Sel, statistics: Id, buffers: Id) -> Id {
    // As the framework does.
    if statistics.is_null() || iosurface::memory(statistics).is_none() {
        return null_mut();
    }
    factory("nil output set", || {
        let set =
            OutputSet { _statistics: SurfaceObject::new(statistics), buffers: Ref::new(buffers) };
        Some(make("_ANEIOSurfaceOutputSets", set))
    })
}

/// Requests in one.
#[derive(Debug)]
struct Chain {
    inputs: Ref,
    sets: Ref,
}

impl Opaque for Chain {}

#[allow(clippy::too_many_arguments, reason = "the framework's method")]
unsafe extern "C" fn chain(
    _: Id,
    _: Sel,
    inputs: Id,
    sets: Id,
    loopback_inputs: Id,
    loopback_outputs: Id,
    procedure: Id,
    events: Id,
    transaction: Id,
    delay: Id,
    pool: Id,
) -> Id {
    let lists = [inputs, sets, loopback_inputs, loopback_outputs, events];
    let numbers = [procedure, transaction, delay, pool];
    if lists.iter().any(|&list| array(list).is_none())
        || numbers.iter().any(|&n| number(n).is_none())
    {
        violation("a chaining request's lists are no arrays, or its numbers no numbers");
        return null_mut();
    }
    factory("nil chain", || {
        let chain = Chain { inputs: Ref::new(inputs), sets: Ref::new(sets) };
        Some(make("_ANEChainingRequest", chain))
    })
}

/// Buffers of an array, if they are those of `ports` ports in order.
fn are_buffers(list: &Ref, ports: usize, source: i64) -> bool {
    let right = |(i, object): (i64, &Ref)| {
        let buffer = body::<Buffer>(object.0);
        buffer.is_some_and(|buffer| buffer.symbol == i && buffer.source == source)
    };
    array(list.0).is_some_and(|all| all.len() == ports && (0..).zip(all).all(right))
}

unsafe extern "C" fn prepare_chain(
    _: Id,
    _: Sel,
    model: Id,
    options: Id,
    chain: Id,
    qos: u32,
    error: *mut Id,
) -> Bool {
    check_call(qos, Some(options));
    let Some((inputs, outputs)) = as_inner(model).and_then(|model| model.ports()) else {
        violation("a chain of a model that is not loaded");
        return 0;
    };
    let Some(chain) = body::<Chain>(chain) else {
        violation("what is no chaining request was prepared");
        return 0;
    };
    let writes = |set: &Ref| {
        body::<OutputSet>(set.0).is_some_and(|set| are_buffers(&set.buffers, outputs, 1))
    };
    let sets = array(chain.sets.0).unwrap_or_default();
    if !are_buffers(&chain.inputs, inputs, 0) || sets.is_empty() || !sets.iter().all(writes) {
        violation("a chain's buffers are not those of the model's ports");
    }
    match is_on("chaining works") {
        true => 1,
        false => fail(error, &words(&AneError::Chaining)),
    }
}
