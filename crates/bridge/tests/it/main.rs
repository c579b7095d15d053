//! The interface as C calls it.

#![allow(unsafe_code, reason = "calls the functions that C calls")]

#[cfg(all(unix, not(target_vendor = "apple")))]
mod auto;
mod calls;
mod header;
mod misuse;
mod programs;
mod threads;
