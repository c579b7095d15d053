//! The machine for other languages: `libane_bridge`, a C interface over [`ane::Device`].
//!
//! A *device* compiles MIL text into a *kernel*; a kernel owns one surface per port, is evaluated,
//! and is freed. [`abi`] is the list of functions, of which [`header`] prints the C header; behind
//! it everything is safe Rust. Handles are numbers that are looked up, never followed, so that a
//! stale one gives an error; panics stop at the boundary. Nothing here knows models or training.

#![warn(missing_docs)]

pub mod abi;
mod blob;
mod check;
mod device;
mod error;
mod handles;
pub mod header;
mod kernel;
mod memory;
mod wire;

pub use device::{Chosen, choose, open_device};
pub use error::BridgeError;
