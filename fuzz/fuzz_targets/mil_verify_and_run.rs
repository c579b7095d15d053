//! A program without faults runs in the reference interpreter, if it is small.

#![no_main]

#[path = "../../crates/mil/tests/property/mod.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|text: &str| {
    property::run(text);
});
