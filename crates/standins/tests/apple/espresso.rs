//! The e5rt interface.

use crate::bench::{Bench, expected, library, quick, run, surfaces};
use crate::programs;
use ane::Device;
use apple::{Espresso, Libraries};

#[test]
fn programs_give_the_emulators_bits() {
    let bench = Bench::new();
    let device = Espresso::open(&bench.libraries(), quick()).unwrap();
    for (program, weights) in
        [programs::add(), programs::product(), programs::many(), programs::blobs()]
    {
        let got = run(&device, &program, &weights).unwrap();
        assert_eq!(got, expected("e5rt", &program, &weights), "{program}");
    }
    assert_eq!(device.describe(), "Neural Engine by Espresso, m4/macos15/e5rt");
}

#[test]
fn state_stays_where_it_is() {
    let bench = Bench::new();
    let device = Espresso::open(&bench.libraries(), quick()).unwrap();
    let (program, weights) = programs::counter();
    let mut executable = device.compile(&program, &weights).unwrap();
    let state = device.surface(&executable.inputs()[0].ty, 0).unwrap();
    for _ in 0..5 {
        executable.run(&[&state], &[&state]).unwrap();
    }
    let mut values = vec![0.0; 1024];
    state.read(&mut values).unwrap();
    assert!(values.iter().all(|&v| v == 5.0));
}

#[test]
fn ports_are_bound_again_when_surfaces_change() {
    let bench = Bench::new();
    let device = Espresso::open(&bench.libraries(), quick()).unwrap();
    let (program, weights) = programs::add();
    let mut executable = device.compile(&program, &weights).unwrap();
    let sets: Vec<_> = (0..3).map(|_| surfaces(&device, executable.as_ref())).collect();
    for round in 0..3 {
        for (i, [inputs, outputs]) in sets.iter().enumerate() {
            inputs[0].write(&vec![i as f32; 4096]).unwrap();
            inputs[1].write(&vec![round as f32; 4096]).unwrap();
            (0..2).for_each(|_| {
                executable.run(&[&inputs[0], &inputs[1]], &[&outputs[0]]).unwrap();
            });
            let mut sum = vec![0.0; 4096];
            outputs[0].read(&mut sum).unwrap();
            assert!(sum.iter().all(|&v| v == (i + round) as f32));
        }
    }
}

#[test]
fn a_place_is_free_again_when_a_program_goes() {
    let bench = Bench::new();
    let device = Espresso::open(&bench.libraries(), quick()).unwrap();
    let (program, weights) = programs::counter();
    let mut held: Vec<_> = (0..128).map(|_| device.compile(&program, &weights).unwrap()).collect();
    let error = device.compile(&program, &weights).unwrap_err().to_string();
    assert!(error.contains("128 programs are loaded"), "{error}");
    held.pop();
    held.push(device.compile(&program, &weights).unwrap());
    assert_eq!(device.budget().loaded(), 128);
}

#[test]
fn every_missing_function_is_named() {
    let bench = Bench::new();
    let other = Libraries { espresso: "libm.so.6".into(), ..bench.libraries() };
    let error = Espresso::open(&other, quick()).unwrap_err().to_string();
    for name in ["libm.so.6", "e5rt_e5_compiler_compile", "e5rt_execution_stream_execute_sync"] {
        assert!(error.contains(name), "{error}");
    }
    assert!(library().exists());
}
