//! Any text is read or refused, and what is read prints back; see crates/mil/tests/property.

#![no_main]

#[path = "../../crates/mil/tests/property/mod.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|text: &str| property::text(text));
