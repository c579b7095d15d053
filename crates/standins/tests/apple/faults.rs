//! Faults, one at a time: each ends in an error that names it, or in a recovery, and leaves nothing
//! behind.

use crate::bench::{Bench, expected, quick, run};
use crate::programs;
use apple::{Libraries, Options};
use apple::{Route, probe::open};
use mil::{DType, TensorType};
use std::time::{Duration, Instant};

/// A fault, how often it happens, and a part of the error that it ends in; none for a recovery.
type Case = (&'static str, i64, Option<&'static str>);

/// Runs a program with each fault on, then without.
fn suffer(route: Route, cases: &[Case]) {
    let bench = Bench::new();
    let (program, weights) = programs::blobs();
    let path = if route == Route::InMemory { "in-memory" } else { "e5rt" };
    let right = expected(path, &program, &weights);
    for &(fault, times, part) in cases {
        bench.fault(fault, times);
        let result = open(&bench.libraries(), route, quick())
            .and_then(|device| run(device.as_ref(), &program, &weights));
        match (result, part) {
            (Ok(got), None) => assert_eq!(got, right, "{fault}"),
            (Err(error), Some(part)) => {
                let error = error.to_string();
                assert!(error.contains(part), "{fault}: {error}");
            }
            (Ok(_), Some(part)) => panic!("{fault}: no error, expected {part}"),
            (Err(error), None) => panic!("{fault}: expected a recovery, got {error}"),
        }
        bench.assert_clean(fault);
        bench.reset();
        let device = open(&bench.libraries(), route, quick()).unwrap();
        assert_eq!(run(device.as_ref(), &program, &weights).unwrap(), right, "after {fault}");
        drop(device);
        bench.assert_clean(fault);
    }
}

#[test]
fn in_memory() {
    let now_and_then = Some("now and then under load");
    suffer(
        Route::InMemory,
        &[
            ("class _ANERequest", -1, Some("no class `_ANERequest`")),
            ("class NSData", -1, Some("no class `NSData`")),
            ("method unloadWithQoS:error:", -1, Some("-[_ANEInMemoryModel unloadWithQoS:error:]")),
            (
                "signature evaluateWithQoS:options:request:error:",
                -1,
                Some("has the signature v24@0:8d16 here, expected B@:I@@^@"),
            ),
            ("nil descriptor", 1, Some("no description of the program")),
            ("nil model", 1, Some("the system made no model")),
            ("bad identifier", 1, Some("name for the model's directory")),
            ("no temporary directory", -1, Some("cannot make the directory")),
            ("refuse program", 1, Some("err=( InvalidMILProgram )")),
            ("flaky compile", 1, None),
            ("flaky compile", 3, None),
            ("flaky compile", 4, now_and_then),
            ("compile silent", 1, Some("failed without an error object")),
            ("load 0x50004", 1, None),
            ("load 0x50004", -1, Some("no room for another program")),
            ("load 0x20004", -1, Some("does not fit the engine's address window")),
            ("load bundle", -1, Some("Code=10")),
            ("load silent", -1, Some("loading failed")),
            ("unload", 1, None),
            ("surface create", 1, Some("no surface of 49152 bytes")),
            ("surface short", 1, Some("the system made a smaller one")),
            ("surface lock", 1, Some("could not be locked (status 0xe00002c2)")),
            ("nil surface object", 1, Some("no object for a surface")),
            ("nil request", 1, Some("the system made no request")),
            ("evaluate 0x1d", 1, Some("number, size or order of the surfaces")),
            ("evaluate 0x2", 1, Some("a procedure or symbol index is wrong")),
            ("evaluate timeout", 1, Some("took too long")),
            ("evaluate map", 1, Some("could not be mapped")),
            ("evaluate chaining", 1, Some("cannot be chained")),
            ("evaluate silent", 1, Some("running failed")),
        ],
    );
}

#[test]
fn espresso() {
    suffer(
        Route::Espresso,
        &[
            ("refuse program", 1, Some("MIL parse error: InvalidMILProgram (11)")),
            ("flaky compile", 2, None),
            ("flaky compile", 4, Some("ANECCompile() FAILED (11)")),
            ("load 0x20004", 1, Some("address window")),
            ("load slots", 1, Some("GetANEFModel: must re-compile (13)")),
            ("e5 functions", 1, Some("room for 15, of all processes together")),
            ("e5 nothing", 1, Some("nothing was made")),
            ("e5 port", 1, Some("retain_input_port: no port x (1)")),
            ("e5 alloc", 1, Some("buffer_object_alloc: AllocMemory (4)")),
            ("e5 bind", 1, Some("bind_buffer_object: bind (3)")),
            ("e5 encode", 1, Some("encode_operation: encode (3)")),
            ("e5 execute", 1, Some("execute_sync: ANEProgramProcessRequestDirect()")),
        ],
    );
}

#[test]
fn a_request_that_failed_can_be_repeated() {
    let bench = Bench::new();
    let (program, weights) = programs::add();
    for (route, faults) in [
        (Route::InMemory, &["evaluate timeout", "nil request", "nil surface object"][..]),
        (Route::Espresso, &["e5 execute", "e5 bind", "e5 encode"]),
    ] {
        let device = open(&bench.libraries(), route, quick()).unwrap();
        let mut executable = device.compile(&program, &weights).unwrap();
        for fault in faults {
            let [inputs, outputs] = crate::bench::surfaces(device.as_ref(), executable.as_ref());
            inputs[0].write(&[2.0; 4096]).unwrap();
            inputs[1].write(&[3.0; 4096]).unwrap();
            bench.fault(fault, 1);
            executable.run(&[&inputs[0], &inputs[1]], &[&outputs[0]]).unwrap_err();
            executable.run(&[&inputs[0], &inputs[1]], &[&outputs[0]]).unwrap();
            let mut sum = vec![0.0; 4096];
            outputs[0].read(&mut sum).unwrap();
            assert!(sum.iter().all(|&v| v == 5.0), "{fault}");
        }
    }
}

#[test]
fn a_compile_that_hangs_is_left_behind() {
    let bench = Bench::new();
    let (program, weights) = programs::add();
    for route in Route::ALL {
        let options = Options { compile_limit: Duration::from_secs(2), ..quick() };
        let device = open(&bench.libraries(), route, options).unwrap();
        bench.fault("hang", -1);
        let start = Instant::now();
        let error = device.compile(&program, &weights).unwrap_err();
        // Not tried again: the service that hangs would only have more to do.
        assert!(error.to_string().contains("did not end"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
        assert!(error.is_retryable());
        bench.fault("hang", 0);
        // The abandoned try ends, and gives back what it holds, even while the device lives.
        bench.assert_clean("hang");
        device.compile(&program, &weights).unwrap();
    }
}

#[test]
fn programs_are_let_go_while_a_compile_hangs() {
    let bench = Bench::new();
    let options = Options { compile_limit: Duration::from_secs(2), ..quick() };
    let device = open(&bench.libraries(), Route::InMemory, options).unwrap();
    let (program, weights) = programs::add();
    let loaded = [(); 2].map(|()| device.compile(&program, &weights).unwrap());
    bench.fault("hang", -1);
    device.compile(&program, &weights).unwrap_err();
    let (done, dropped) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        drop(loaded);
        done.send(()).unwrap();
    });
    let dropped = dropped.recv_timeout(Duration::from_secs(5));
    // They are unloaded when the system gets to it.
    assert_eq!(bench.count("loaded"), 2);
    bench.fault("hang", 0);
    dropped.expect("the error is not kept waiting");
    bench.assert_clean("unloading late");
}

#[test]
fn a_program_without_its_direct_way_is_unloaded() {
    let bench = Bench::new();
    let options = Options { direct: true, ..quick() };
    let device = open(&bench.libraries(), Route::InMemory, options).unwrap();
    let (program, weights) = programs::add();
    bench.fault("nil connection", 1);
    let error = device.compile(&program, &weights).unwrap_err().to_string();
    assert!(error.contains("no connection for direct requests"), "{error}");
    bench.assert_clean("nil connection");
    device.compile(&program, &weights).unwrap();
}

#[test]
fn a_library_that_is_not_there_is_named() {
    let bench = Bench::new();
    let nowhere = std::path::PathBuf::from("/nowhere/AppleNeuralEngine");
    let libraries = Libraries { neural_engine: nowhere, ..bench.libraries() };
    let error = open(&libraries, Route::InMemory, quick()).unwrap_err().to_string();
    assert!(error.contains("/nowhere/AppleNeuralEngine"), "{error}");
}

#[test]
fn surfaces_that_no_memory_holds_are_refused() {
    let bench = Bench::new();
    let ty = TensorType { dtype: DType::Fp16, shape: vec![1, 1, 1, 32] };
    for route in Route::ALL {
        let device = open(&bench.libraries(), route, quick()).unwrap();
        for bytes in [usize::MAX, usize::MAX - 62, usize::MAX / 2, 1 << 60] {
            let error = device.surface(&ty, bytes).unwrap_err().to_string();
            assert!(error.contains("surface"), "{route}, {bytes}: {error}");
        }
        drop(device);
        bench.assert_clean("large surfaces");
    }
}
