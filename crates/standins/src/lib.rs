//! Stand-ins for the frameworks of macOS that `apple` calls, so that the very code that talks
//! to a Mac's Neural Engine runs, and is checked, elsewhere.
//!
//! One dynamic library has the functions of the Objective-C runtime, CoreFoundation, IOSurface, e5rt,
//! IOReport and BLAS that are called, and the classes of Foundation and AppleNeuralEngine. They hold every argument, the order
//! of calls and the ownership of every object against what published work says (docs/ane-facts.md A.4,
//! C, D, G; the seed), execute through the emulator, and fail as documented when told to
//! ([`control`]). What breaks a rule is written down as a violation; tests demand that there is
//! none and that nothing is left alive.
//!
//! They are stricter than the system where that costs nothing: memory of a surface that is not
//! locked cannot be touched at all, and objects of surfaces do not keep them alive.
//!
//! What they prove is that the calls agree with this idea of the private interfaces, not that the
//! idea is right.

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
mod runtime;
mod system;
