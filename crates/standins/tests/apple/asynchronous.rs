//! Requests that are submitted and waited for, by both routes.

use crate::bench::{Bench, quick};
use crate::programs;
use ane::{AneError, Device, Queue, Surface};
use apple::{Route, probe::open};

fn counting(device: &dyn Device) -> (Queue, impl Fn() -> Surface) {
    let (program, weights) = programs::counter();
    let queue = Queue::new(device.compile(&program, &weights).unwrap()).unwrap();
    let ty = queue.inputs()[0].ty.clone();
    (queue, move || device.surface(&ty, device.least_allocation()).unwrap())
}

fn first(surface: &Surface) -> f32 {
    let mut values = vec![0.0; surface.ty().count()];
    surface.read(&mut values).unwrap();
    assert!(values.iter().all(|&v| v == values[0]));
    values[0]
}

#[test]
fn a_submission_returns_while_its_request_is_held_and_all_run_in_order() {
    let bench = Bench::new();
    for route in Route::ALL {
        bench.reset();
        let device = open(&bench.libraries(), route, quick()).unwrap();
        let (queue, surface) = counting(device.as_ref());
        let (a, b) = (surface(), surface());
        bench.fault("hold requests", -1);
        // Were a submission to wait, this would never end.
        let all: Vec<_> =
            (0..6)
                .map(|i| {
                    if i % 2 == 0 { queue.submit(&[&a], &[&b]) } else { queue.submit(&[&b], &[&a]) }
                })
                .collect();
        bench.fault("hold requests", 0);
        for pending in all {
            assert!(pending.wait().unwrap().seconds > 0.0);
        }
        assert_eq!((first(&a), first(&b)), (6.0, 5.0), "{route}");
        assert_eq!(bench.count("evaluations"), 6);
    }
}

#[test]
fn handles_outlive_queue_surfaces_and_device() {
    let bench = Bench::new();
    for route in Route::ALL {
        bench.reset();
        let device = open(&bench.libraries(), route, quick()).unwrap();
        let (last, handle) = {
            let (queue, surface) = counting(device.as_ref());
            let (a, b, last) = (surface(), surface(), surface());
            // Dropped without being waited for: it is done all the same.
            drop(queue.submit(&[&a], &[&b]));
            assert_eq!(bench.count("evaluations"), 1);
            let middle = queue.submit(&[&b], &[&a]);
            let handle = queue.submit(&[&a], &[&last]);
            drop(middle);
            (last, handle)
        };
        drop(device);
        handle.wait().unwrap();
        assert_eq!(first(&last), 3.0, "{route}");
        assert_eq!(bench.count("loaded"), 0, "the program went with its queue");
        drop(last);
        bench.assert_clean(&route.to_string());
    }
}

#[test]
fn an_error_is_told_to_its_own_request_only() {
    let bench = Bench::new();
    for (route, fault) in [(Route::InMemory, "evaluate 0x1d"), (Route::Espresso, "e5 execute")] {
        let device = open(&bench.libraries(), route, quick()).unwrap();
        let (queue, surface) = counting(device.as_ref());
        let (a, b) = (surface(), surface());
        queue.submit(&[&a], &[&b]).wait().unwrap();
        bench.fault(fault, 1);
        let failing = queue.submit(&[&b], &[&a]);
        let next = queue.submit(&[&b], &[&a]);
        let error = failing.wait().unwrap_err();
        assert!(error.to_string().contains("0x1d"), "{error}");
        next.wait().unwrap();
        assert_eq!(first(&a), 2.0);
        let error = queue.submit(&[&a, &b], &[&b]).wait().unwrap_err();
        assert!(matches!(error, AneError::SurfaceCount { .. }), "{error}");
    }
}
