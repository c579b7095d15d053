//! Hostile traces: any bytes are read to a trace or an error, and what is read is written and read
//! back the same.

#![no_main]

use lab::Trace;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(trace) = Trace::from_bytes(bytes) else { return };
    let Ok(written) = trace.to_bytes() else { return };
    // Not `==` on the trace: NaN is not equal to itself.
    let again = Trace::from_bytes(&written).expect("what was written is read");
    assert_eq!(again.to_bytes().expect("it was written before"), written);
});
