//! A C interface over [`ane::Device`]: the library `libane_bridge`.
//!
//! A *device* compiles MIL text into a *kernel*; a kernel owns one surface per port, is evaluated, and
//! is freed. [`abi`] lists the functions; [`header`] prints their C header. Everything behind them is
//! safe Rust. Handles are numbers that are looked up, never followed, so a stale handle is an error;
//! panics stop at the boundary. Nothing here knows models or training.
//!
//! `examples/relu.c` is a complete program; README.md shows how to build it:
//!
//! ```c
#![doc = include_str!("../examples/relu.c")]
//! ```

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
