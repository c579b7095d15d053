//! Counters of energy: what is read is what was counted, nothing leaks, what is missing is named.

use crate::bench::Bench;
use ane::PowerSample;
use apple::{Libraries, PowerMeter};

/// Joules by part between two readings.
fn joules(sample: &PowerSample) -> [Option<f64>; 4] {
    // Rounded to nanojoules, which is finer than any counter and coarser than the arithmetic.
    sample.parts().map(|w| w.map(|w| (w * sample.seconds * 1e9).round() / 1e9))
}

const ALL: [Option<f64>; 4] = [Some(0.5), Some(2.0), Some(1.0), Some(0.25)];

#[test]
fn energy_is_what_the_counters_rose_by() {
    let bench = Bench::new();
    let mut meter = PowerMeter::open(&bench.libraries()).unwrap();
    for _ in 0..20 {
        let sample = meter.read().unwrap();
        assert!(sample.seconds > 0.0);
        assert_eq!(joules(&sample), ALL);
    }
    drop(meter);
    bench.assert_clean("after readings");
    bench.fault("two dies", -1);
    let mut meter = PowerMeter::open(&bench.libraries()).unwrap();
    assert_eq!(joules(&meter.read().unwrap()), ALL);
}

#[test]
fn a_part_that_cannot_be_read_is_absent() {
    let bench = Bench::new();
    for (fault, expected) in [
        ("no ane channel", [None, ALL[1], ALL[2], ALL[3]]),
        ("strange unit", [None, ALL[1], ALL[2], ALL[3]]),
        ("no unit", [None; 4]),
        // Without channels of its own in return, the wanted ones are sampled.
        ("no subscribed channels", ALL),
    ] {
        bench.reset();
        bench.fault(fault, -1);
        let mut meter = PowerMeter::open(&bench.libraries()).unwrap();
        assert_eq!(joules(&meter.read().unwrap()), expected, "{fault}");
        drop(meter);
        bench.assert_clean(fault);
    }
}

#[test]
fn counters_that_start_anew_spoil_one_reading_only() {
    let bench = Bench::new();
    let mut meter = PowerMeter::open(&bench.libraries()).unwrap();
    bench.fault("counters start anew", 1);
    assert_eq!(meter.read().unwrap().watts(), None);
    // From 0 to what all samples so far add up to.
    assert!(meter.read().unwrap().watts().is_some_and(|w| w > 0.0));
    assert_eq!(joules(&meter.read().unwrap()), ALL);
}

#[test]
fn what_the_system_refuses_is_an_error() {
    let bench = Bench::new();
    for (fault, words) in [
        ("no channels", "the system has no counters of energy"),
        ("no subscription", "the system gave no subscription"),
        ("no sample", "the system gave no sample"),
    ] {
        bench.fault(fault, 1);
        let error = PowerMeter::open(&bench.libraries()).unwrap_err().to_string();
        assert_eq!(error, format!("IOReport cannot be used here: {words}"));
        bench.assert_clean(fault);
    }
    let mut meter = PowerMeter::open(&bench.libraries()).unwrap();
    for fault in ["no sample", "no difference"] {
        bench.fault(fault, 1);
        assert!(meter.read().is_err(), "{fault}");
        assert!(meter.read().is_ok(), "{fault}");
    }
}

#[test]
fn what_is_missing_is_named() {
    let bench = Bench::new();
    let missing = |libraries: Libraries, names: &[&str]| {
        let error = PowerMeter::open(&libraries).unwrap_err().to_string();
        assert!(error.starts_with("IOReport cannot be used here: "), "{error}");
        names.iter().for_each(|name| assert!(error.contains(name), "{name}: {error}"));
    };
    let libraries = bench.libraries();
    missing(
        Libraries { io_report: "libm.so.6".into(), ..libraries.clone() },
        &["libm.so.6", "IOReportCopyChannelsInGroup", "IOReportSimpleGetIntegerValue"],
    );
    missing(
        Libraries { core_foundation: "libm.so.6".into(), ..libraries.clone() },
        &["libm.so.6", "CFDictionaryCreateMutableCopy", "CFRelease"],
    );
    let nowhere = "/nowhere/libIOReport.dylib";
    missing(Libraries { io_report: nowhere.into(), ..libraries }, &[nowhere]);
}
