//! In-memory models.

use crate::bench::{Bench, expected, quick, run, run_loaded, surfaces, values};
use crate::programs;
use ane::{AneError, Call, Device, Emulator};
use apple::{AppleError, InMemory, Libraries, Options, Route, probe};
use chip::Profile;
use cpu::Numerics;

#[test]
fn programs_give_the_emulators_bits() {
    let bench = Bench::new();
    for direct in [false, true] {
        let device = InMemory::open(&bench.libraries(), Options { direct, ..quick() }).unwrap();
        for (program, weights) in [
            programs::add(),
            programs::product(),
            programs::many(),
            programs::blobs(),
            programs::single(),
        ] {
            let got = run(&device, &program, &weights).unwrap();
            assert_eq!(got, expected("in-memory", &program, &weights), "{program}");
        }
        let evaluations = if direct { bench.count("evaluations") - 5 } else { 0 };
        assert_eq!(bench.count("direct"), evaluations, "all requests by one way");
    }
}

#[test]
fn the_machine_is_recognised() {
    let bench = Bench::new();
    let device = InMemory::open(&bench.libraries(), quick()).unwrap();
    assert_eq!(device.profile().unwrap().to_string(), "m4/macos15/in-memory");
    assert_eq!(device.describe(), "Neural Engine by in-memory models, m4/macos15/in-memory");
    assert_eq!((device.least_allocation(), device.least_width()), (49_152, 16));
}

#[test]
fn the_hardwares_time_is_told_where_it_is_asked_for_and_permitted() {
    let bench = Bench::new();
    let (program, weights) = programs::add();
    for (wanted, direct, fault, told) in [
        (true, false, "", true),
        (true, true, "", true),
        (false, false, "", false),
        (true, false, "statistics forbidden", false),
        (true, true, "statistics forbidden", false),
        (true, false, "statistics empty", false),
        (true, false, "method setPerfStatsMask:", false),
        (true, false, "method perfStats", false),
        (true, false, "signature hwExecutionTime", false),
        (true, true, "class _ANEPerformanceStats", false),
    ] {
        bench.reset();
        bench.fault(fault, -1);
        let options = Options { hardware_time: wanted, direct, ..quick() };
        let device = InMemory::open(&bench.libraries(), options).unwrap();
        let mut executable = device.compile(&program, &weights).unwrap();
        let [inputs, outputs] = surfaces(&device, executable.as_ref());
        for _ in 0..3 {
            let report =
                executable.run(&inputs.iter().collect::<Vec<_>>(), &[&outputs[0]]).unwrap();
            let plausible = report.hardware_seconds.map(|t| t > 0.0 && t <= report.seconds);
            assert_eq!(plausible, told.then_some(true), "{fault}: {report:?}");
        }
        drop((executable, inputs, outputs, device));
        bench.assert_clean(fault);
    }
}

#[test]
fn requests_sent_in_other_ways_give_the_emulators_bits() {
    let bench = Bench::new();
    let (program, weights) = programs::product();
    let expected = expected("in-memory", &program, &weights);
    for direct in [false, true] {
        let device = InMemory::open(&bench.libraries(), Options { direct, ..quick() }).unwrap();
        let mut executable = device.compile(&program, &weights).unwrap();
        for (call, real_time) in [
            (Call::Quality(0), 0),
            (Call::Quality(63), 0),
            (Call::RealTime, 1),
            (Call::RealTime, 2),
        ] {
            let [inputs, outputs] = surfaces(&device, executable.as_ref());
            for (port, surface) in executable.inputs().iter().zip(&inputs) {
                surface.write(&values(port)).unwrap();
            }
            let inputs: Vec<_> = inputs.iter().collect();
            let report = executable.run_by(call, &inputs, &[&outputs[0]]).unwrap();
            assert!(report.unwrap().seconds > 0.0);
            let mut got = vec![0.0; outputs[0].ty().count()];
            outputs[0].read(&mut got).unwrap();
            let bits: Vec<u32> = got.iter().map(|v| v.to_bits()).collect();
            assert_eq!(bits, expected[0], "{call:?}");
            assert_eq!(bench.count("real time"), real_time, "{call:?}");
            let chained = executable.run_by(Call::Chained, &inputs, &[&outputs[0]]).unwrap_err();
            let chained = chained.to_string();
            assert!(
                chained.contains("chaining failed") && chained.contains("Code=15"),
                "{chained}"
            );
        }
        assert_eq!(
            executable.run_by(Call::Quality(64), &[], &[]).unwrap().map(|r| r.seconds),
            None
        );
        drop((executable, device));
        bench.assert_clean("other ways");
        bench.reset();
    }
}

#[test]
fn other_ways_that_the_system_refuses_end_in_an_error_and_leave_nothing() {
    let bench = Bench::new();
    let (program, weights) = programs::add();
    for (call, fault, part) in [
        (Call::RealTime, "real time forbidden", "beginRealTimeTask returned NO"),
        (Call::RealTime, "method beginRealTimeTask", "-[_ANEClient beginRealTimeTask]"),
        (Call::RealTime, "evaluate 0x1d", "number, size or order of the surfaces"),
        (Call::RealTime, "nil connection", "no connection"),
        (Call::Quality(21), "evaluate timeout", "took too long"),
        (Call::Chained, "class _ANEBuffer", "no class `_ANEBuffer`"),
        (Call::Chained, "nil buffer", "the system made no buffer of a chain"),
        (Call::Chained, "nil output set", "the system made no set of outputs"),
        (Call::Chained, "nil chain", "the system made no chaining request"),
        (Call::Chained, "surface create", "no surface of 16384 bytes"),
        (Call::Chained, "chaining works", ""),
    ] {
        let device = InMemory::open(&bench.libraries(), quick()).unwrap();
        let mut executable = device.compile(&program, &weights).unwrap();
        let [inputs, outputs] = surfaces(&device, executable.as_ref());
        bench.fault(fault, -1);
        match executable.run_by(call, &[&inputs[0], &inputs[1]], &[&outputs[0]]) {
            Ok(report) => assert!(part.is_empty() && report.is_some(), "{fault}"),
            Err(error) => {
                let error = error.to_string();
                assert!(!part.is_empty() && error.contains(part), "{fault}: {error}");
            }
        }
        bench.fault(fault, 0);
        // The usual way is as good as before.
        executable.run(&[&inputs[0], &inputs[1]], &[&outputs[0]]).unwrap();
        drop((executable, inputs, outputs, device));
        bench.assert_clean(fault);
    }
}

#[test]
fn a_request_is_made_once_for_each_set_of_surfaces_and_goes_with_them() {
    let bench = Bench::new();
    let device = InMemory::open(&bench.libraries(), quick()).unwrap();
    let (program, weights) = programs::add();
    let mut executable = device.compile(&program, &weights).unwrap();
    let sets: Vec<_> = (0..3).map(|_| surfaces(&device, executable.as_ref())).collect();
    let mut objects = vec![];
    for round in 0..4 {
        for (i, [inputs, outputs]) in sets.iter().enumerate() {
            inputs[0].write(&vec![i as f32; 4096]).unwrap();
            inputs[1].write(&vec![round as f32; 4096]).unwrap();
            executable.run(&[&inputs[0], &inputs[1]], &[&outputs[0]]).unwrap();
            let mut sum = vec![0.0; 4096];
            outputs[0].read(&mut sum).unwrap();
            assert!(sum.iter().all(|&v| v == (i + round) as f32));
        }
        objects.push(bench.count("objects"));
    }
    assert!(objects.iter().all(|&n| n == objects[0]), "{objects:?}");
    // Surfaces that nobody holds any more are let go when the next request is made.
    drop(sets);
    let [inputs, outputs] = surfaces(&device, executable.as_ref());
    executable.run(&[&inputs[0], &inputs[1]], &[&outputs[0]]).unwrap();
    assert_eq!(bench.count("surfaces"), 3);
}

#[test]
fn equal_programs_do_not_take_each_others_files() {
    let bench = Bench::new();
    let device = InMemory::open(&bench.libraries(), quick()).unwrap();
    let (program, weights) = programs::blobs();
    let first = device.compile(&program, &weights).unwrap();
    drop(device.compile(&program, &weights).unwrap());
    assert_eq!(run(&device, &program, &weights).unwrap(), expected("m4", &program, &weights));
    drop(first);
}

#[test]
fn requests_are_checked_before_they_are_sent() {
    let bench = Bench::new();
    let device = InMemory::open(&bench.libraries(), quick()).unwrap();
    let (program, weights) = programs::add();
    let mut executable = device.compile(&program, &weights).unwrap();
    let [inputs, outputs] = surfaces(&device, executable.as_ref());
    let emulated = Emulator::engine(Profile::default(), Numerics::Fast);
    let [foreign, _] = surfaces(&emulated, executable.as_ref());
    let small = device.surface(inputs[0].ty(), 8192).unwrap();
    for (inputs, outputs, part) in [
        (vec![&inputs[0]], vec![&outputs[0]], "needs 2 input surfaces"),
        (vec![&inputs[0], &foreign[0]], vec![&outputs[0]], "`y` was not made by this device"),
        (vec![&inputs[0], &small], vec![&outputs[0]], "ANE081"),
        (vec![&inputs[0], &inputs[1]], vec![&inputs[0]], "one surface is bound to"),
    ] {
        let error = executable.run(&inputs, &outputs).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(bench.count("evaluations"), 0);
    let int = mil::TensorType::new(mil::DType::Int8, [1, 64, 1, 64]);
    assert!(matches!(device.surface(&int, 0), Err(AneError::SurfaceDtype { .. })));
}

#[test]
fn budgets_are_kept_before_the_system_is_asked() {
    let bench = Bench::new();
    let device = InMemory::open(&bench.libraries(), quick()).unwrap();
    let (program, weights) = programs::counter();
    (0..119).for_each(|_| drop(device.compile(&program, &weights).unwrap()));
    let error = device.compile(&program, &weights).unwrap_err();
    assert_eq!(error, AneError::CompileBudget { limit: 119 });
    assert_eq!((bench.count("compiles"), device.budget().loaded()), (119, 0));
}

#[test]
fn devices_of_one_process_share_its_budget() {
    let bench = Bench::new();
    let libraries = bench.libraries();
    let devices = [(); 2].map(|()| InMemory::open(&libraries, quick()).unwrap());
    let (program, weights) = programs::counter();
    (0..119).for_each(|i| drop(devices[i % 2].compile(&program, &weights).unwrap()));
    let error = devices[0].compile(&program, &weights).unwrap_err();
    assert_eq!(error, AneError::CompileBudget { limit: 119 });
    // However often they are asked for.
    let [one, other] = [(); 2].map(|()| Libraries::system().used.budget(&Profile::default()));
    one.compile().unwrap();
    assert_eq!(other.compiled(), 1);
}

#[test]
fn a_system_that_has_none_says_so() {
    let error = InMemory::open(&Libraries::system(), Options::default()).unwrap_err();
    assert!(
        matches!(&error, AneError::NoEngine { reason } if reason.contains("libobjc")),
        "{error}"
    );
}

#[test]
fn the_canary_sings() {
    let bench = Bench::new();
    for route in Route::ALL {
        let device = probe::open(&bench.libraries(), route, quick()).unwrap();
        let findings = probe::canary(device.as_ref()).unwrap();
        assert!(findings.run_seconds > 0.0 && findings.compile_seconds > 0.0);
        bench.fault("wrong answer", 1);
        let error = probe::canary(device.as_ref()).unwrap_err();
        let own = error.as_own();
        assert!(matches!(own, Some(AppleError::WrongAnswer { .. })), "{error}");
    }
}

#[test]
fn a_program_that_is_loaded_again_has_the_constants_that_it_was_compiled_with() {
    let bench = Bench::new();
    let (program, weights) = programs::blobs();
    let mut others = weights.clone();
    // Every number of the file with one blob changes its sign.
    let file = others.values_mut().next().unwrap();
    file[128..].iter_mut().skip(1).step_by(2).for_each(|byte| *byte ^= 0x80);
    let right = expected("in-memory", &program, &weights);
    let changed = expected("in-memory", &program, &others);
    assert_ne!(right, changed);
    for direct in [false, true] {
        let device = InMemory::open(&bench.libraries(), Options { direct, ..quick() }).unwrap();
        for (fault, then) in [("none", &right), ("rewritten files work", &changed)] {
            let mut executable = device.compile(&program, &weights).unwrap();
            assert_eq!(run_loaded(&device, executable.as_mut()).unwrap(), right);
            bench.fault(fault, -1);
            let reloaded = executable.reload(&others).unwrap().expect("it has files");
            assert!(reloaded.unload_seconds > 0.0 && reloaded.load_seconds > 0.0);
            assert_eq!(run_loaded(&device, executable.as_mut()).unwrap(), *then, "{fault}");
            drop(executable);
            bench.reset();
        }
        for (fault, part) in [("load bundle", "Code=10"), ("unload", "Code=9")] {
            let mut executable = device.compile(&program, &weights).unwrap();
            bench.fault(fault, 1);
            let error = executable.reload(&others).unwrap_err().to_string();
            assert!(error.contains(part), "{fault}: {error}");
            let error = run_loaded(&device, executable.as_mut()).unwrap_err().to_string();
            assert!(error.contains("the program was lost"), "{fault}: {error}");
            drop(executable);
            bench.assert_clean(fault);
        }
        drop(device);
        bench.assert_clean("loading again");
        bench.reset();
    }
}
