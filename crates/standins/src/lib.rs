//! Stand-ins for the macOS frameworks that `apple` calls, so that the code which drives a Mac's Neural
//! Engine runs, and is checked, on other systems.
//!
//! One dynamic library exports the functions that `apple` uses of the Objective-C runtime,
//! CoreFoundation, IOSurface, e5rt, IOReport and BLAS, and the classes of Foundation and
//! AppleNeuralEngine. They check every argument, the order of calls and the ownership of every object
//! against published work (docs/ane-facts.md A.4, C, D, G; the seed), execute on the emulator, and fail
//! as documented on request ([`control`]). A broken rule is recorded as a violation; tests require that
//! there is none and that no object is leaked.
//!
//! A test opens the library instead of the frameworks, as `tests/apple/in_memory.rs` does:
//!
//! ```text
//! Libraries::stand_in("target/debug/libstandins.so")  →  apple::probe::open(…, Route::InMemory, …)
//! ```
//!
//! Examples cannot run here: exported functions have the names of Apple's, and no test binary or
//! documentation test of this crate may link them.
//!
//! They are stricter than the system where that costs nothing: the memory of an unlocked surface cannot
//! be accessed at all, and surface objects do not keep their surfaces alive.
//!
//! They prove that the calls agree with this model of the private interfaces, not that the model is
//! right.

#![cfg(all(unix, not(target_vendor = "apple")))]
#![allow(
    unsafe_code,
    unreachable_pub,
    clippy::missing_safety_doc,
    reason = "a C library: its functions are called through pointers, as their namesakes are"
)]

mod accelerate;
mod client;
pub mod control;
mod core_foundation;
mod e5rt;
mod engine;
mod foundation;
mod ioreport;
mod iosurface;
mod library;
mod runtime;
mod system;
