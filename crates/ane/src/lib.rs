//! The Apple Neural Engine.
pub mod emulator;
