//! The devices of a Mac against the stand-ins: same bits as the emulator, every fault an error with
//! a name or a recovery, nothing leaked, nothing stuck.

#![cfg(all(unix, not(target_vendor = "apple")))]
#![allow(unsafe_code, reason = "the stand-ins are controlled through C functions")]
#![allow(clippy::print_stderr, reason = "skipped tests say so")]

mod accelerate;
mod bench;
mod cache;
mod espresso;
mod faults;
mod in_memory;
mod power;
mod programs;
mod threads;
