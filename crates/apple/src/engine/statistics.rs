//! The time that the hardware itself took for a request, where the system lets a program ask.
//!
//! Sources contradict each other: RUS and ESP read it on M3 and M4 Max after setting a mask on the
//! model; GUIDE found that the system's service sets the mask of third parties to zero
//! (docs/ane-facts.md G.1). So it is asked for on request only, and its absence is never an error.
//!
//! They also disagree on whether the statistics given to a request are an object or a list of them,
//! and the wrong one raises an exception. So none are given; the framework makes its own object when
//! the mask is set, and the request is asked for it afterwards.

#![allow(unsafe_code, reason = "messages to private classes")]

use super::objc::{Id, Kind, Object, Pool, Runtime, Sel, send};
use std::ffi::CStr;

/// The mask that published probes set: which bit is the time is not known.
const MASK: u32 = 0xf;

#[rustfmt::skip]
const METHODS: &[(&CStr, Kind, &CStr, &str)] = &[
    (c"_ANEInMemoryModel", Kind::Instance, c"setPerfStatsMask:", "v@:I"),
    (c"_ANEModel", Kind::Instance, c"setPerfStatsMask:", "v@:I"),
    (c"_ANERequest", Kind::Instance, c"perfStats", "@@:"),
    (c"_ANEPerformanceStats", Kind::Instance, c"hwExecutionTime", "Q@:"),
];

/// The selectors, all verified.
#[derive(Debug)]
pub(super) struct Statistics {
    set_mask: Sel,
    of_request: Sel,
    time: Sel,
}

impl Statistics {
    /// `None` where a method is missing or is not the one that is known.
    pub(super) fn find(runtime: &Runtime) -> Option<Self> {
        for (class, kind, name, signature) in METHODS {
            runtime.expect(class, *kind, name, signature).ok()?;
        }
        Some(Statistics {
            set_mask: runtime.selector(c"setPerfStatsMask:"),
            of_request: runtime.selector(c"perfStats"),
            time: runtime.selector(c"hwExecutionTime"),
        })
    }

    /// Asks for statistics of the requests of `model`, an in-memory model or the one within it,
    /// which is loaded: loading sets the mask anew.
    pub(super) fn ask(&self, runtime: &Runtime, model: &Object) {
        let _pool = Pool::new(runtime);
        // SAFETY: a verified method of a model, which takes an integer.
        unsafe { send!(runtime, model.id(), self.set_mask, u32 = MASK => ()) }
    }

    /// Seconds of the last evaluation of `request`; `None` where the system keeps them to itself.
    pub(super) fn seconds(&self, runtime: &Runtime, request: &Object) -> Option<f64> {
        let _pool = Pool::new(runtime);
        // SAFETY: verified methods without arguments; the statistics belong to the request, which
        // nobody evaluates meanwhile.
        let nanoseconds = unsafe {
            let statistics = send!(runtime, request.id(), self.of_request => Id);
            match statistics.is_null() {
                true => 0,
                false => send!(runtime, statistics, self.time => u64),
            }
        };
        (nanoseconds > 0).then_some(nanoseconds as f64 * 1e-9)
    }
}
