//! Many threads at once.

use crate::programs::*;
use ane_bridge::abi::*;
use half::f16;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

fn handle(address: usize) -> Kernel {
    ptr::without_provenance_mut(address)
}

#[test]
fn ten_thousand_runs_of_eight_threads() {
    let device = open("emulator");
    let kernels: Vec<usize> =
        (0..3).map(|_| compile(device.0, &difference(), None).addr()).collect();
    for &kernel in &kernels {
        assert!(write(handle(kernel), 1, &[f16::ONE; 64]));
    }
    let runs = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (kernels, runs) = (&kernels, &runs);
            scope.spawn(move || {
                for i in 0..1250 {
                    let kernel = handle(kernels[(thread + i) % kernels.len()]);
                    match i % 4 {
                        0 => {
                            // SAFETY: handles are only looked up.
                            let submitted = unsafe { ane_bridge_submit(kernel) };
                            // Others may have it in flight: no other failure is possible.
                            assert!(submitted || last_error().contains("in flight"));
                        }
                        1 => assert!(write(kernel, 1, &[f16::ONE; 64])),
                        2 => assert!(read::<f16>(kernel, 0, 64).iter().all(|y| y.to_f32() <= 1.0)),
                        _ => {}
                    }
                    assert!(eval(kernel), "{}", last_error());
                    runs.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(runs.into_inner(), 10_000);
    for kernel in kernels {
        assert!(read::<f16>(handle(kernel), 0, 64).iter().all(|&y| y == f16::ONE));
        free(handle(kernel));
    }
}

#[test]
fn kernels_are_freed_under_the_hands_of_others() {
    let device = open("cpu:fast");
    for _ in 0..40 {
        let kernel = compile(device.0, &difference(), None).addr();
        let freed = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let freed = &freed;
                scope.spawn(move || {
                    let kernel = handle(kernel);
                    for _ in 0..thread * 5 {
                        if !eval(kernel) {
                            let text = last_error();
                            assert!(text.contains("freed"), "{text}");
                        }
                        // SAFETY: handles are only looked up.
                        unsafe { ane_bridge_submit(kernel) };
                        // SAFETY: as above.
                        unsafe { ane_bridge_wait(kernel, -1) };
                    }
                    free(kernel);
                    freed.fetch_add(usize::from(last_error().is_empty()), Ordering::Relaxed);
                });
            }
        });
        assert_eq!(freed.into_inner(), 1, "one of four threads frees it");
    }
}
