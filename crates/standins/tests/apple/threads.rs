//! Many threads at once.

use crate::bench::{Bench, quick};
use crate::programs;
use ane::Device;
use apple::{Route, probe::open};
use std::sync::mpsc::channel;
use std::time::Duration;

const THREADS: usize = 8;
const CALLS: usize = 10_000;

/// Half of the threads read A and write B, the other half read B and write A, and the main thread
/// reads both meanwhile: no order of locks could be wrong without a deadlock here.
fn cross(route: Route) {
    let bench = Bench::new();
    let device = open(&bench.libraries(), route, quick()).unwrap();
    let (program, weights) = programs::counter();
    let ty = mil::TensorType::fp16([1, 32, 1, 32]);
    let allocation = device.least_allocation();
    let [a, b] = [(); 2].map(|()| device.surface(&ty, allocation).unwrap());
    let executables: Vec<_> =
        (0..THREADS).map(|_| device.compile(&program, &weights).unwrap()).collect();
    let (done, finished) = channel();
    std::thread::scope(|scope| {
        for (i, mut executable) in executables.into_iter().enumerate() {
            let (from, to) = if i % 2 == 0 { (&a, &b) } else { (&b, &a) };
            let done = done.clone();
            scope.spawn(move || {
                for _ in 0..CALLS / THREADS {
                    executable.run(&[from], &[to]).unwrap();
                }
                done.send(()).unwrap();
            });
        }
        let mut values = vec![0.0; ty.count()];
        let mut left = THREADS;
        while left > 0 {
            a.read(&mut values).unwrap();
            // One element's value: requests are whole or not at all.
            assert!(values.iter().all(|&v| v == values[0]), "a request was seen half done");
            b.read(&mut values).unwrap();
            if finished.recv_timeout(Duration::from_millis(20)).is_ok() {
                left -= 1;
            }
        }
    });
    assert_eq!(bench.count("evaluations"), CALLS as i64);
}

#[test]
fn requests_that_cross_each_other_in_memory() {
    cross(Route::InMemory);
}

#[test]
fn requests_that_cross_each_other_by_espresso() {
    cross(Route::Espresso);
}

#[test]
fn programs_are_compiled_and_dropped_by_many_threads() {
    let bench = Bench::new();
    for route in Route::ALL {
        let device = open(&bench.libraries(), route, quick()).unwrap();
        let device: &dyn Device = device.as_ref();
        std::thread::scope(|scope| {
            for i in 0..THREADS {
                scope.spawn(move || {
                    for round in 0..3 {
                        let (program, weights) = match (i + round) % 3 {
                            0 => programs::counter(),
                            1 => programs::add(),
                            _ => programs::blobs(),
                        };
                        crate::bench::run(device, &program, &weights).unwrap();
                    }
                });
            }
        });
    }
}

#[test]
fn a_program_is_not_unloaded_while_its_equal_is_compiled() {
    let bench = Bench::new();
    let device = open(&bench.libraries(), Route::InMemory, quick()).unwrap();
    let device: &dyn Device = device.as_ref();
    let (program, weights) = programs::blobs();
    let first = device.compile(&program, &weights).unwrap();
    bench.fault("slow compile", 1);
    std::thread::scope(|scope| {
        let second = scope.spawn(|| device.compile(&program, &weights).map(drop));
        while bench.count("slow") == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        // The system removes the directory now; the second program's files lie in it.
        drop(first);
        second.join().unwrap().unwrap();
    });
}
