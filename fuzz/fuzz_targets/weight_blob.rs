//! Any bytes are read as a weight file or refused.

#![no_main]

#[path = "../../crates/mil/tests/property/mod.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|file: &[u8]| property::weight_blob(file));
