//! Products of host programs by Accelerate: right within the bound of any summation, with arguments
//! that BLAS accepts, and only where they belong.

use crate::bench::Bench;
use ane::{Device, Emulator};
use apple::{Accelerate, Libraries};
use cpu::blas::{HostShape, Sgemm, compare};
use cpu::{Elements, HostProgram, Numerics, OutputMut};
use mil::{Builder, TensorType};
use std::ffi::{c_int, c_void};
use std::sync::Arc;
use std::time::Duration;

fn accelerate(bench: &Bench) -> Arc<dyn Sgemm> {
    Arc::new(Accelerate::open(&bench.libraries()).unwrap())
}

/// Numbers below 1 in magnitude that binary16 has too.
fn values(n: usize, seed: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + seed * 104_729) % 2039) as f32 / 1024.0 - 0.995_117_2).collect()
}

/// Element (i, j) of a matrix stored as [rows, cols], or of its transpose.
fn element(x: &[f32], cols: usize, transposed: bool, i: usize, j: usize) -> f64 {
    let (i, j) = if transposed { (j, i) } else { (i, j) };
    f64::from(x[i * cols + j])
}

/// Holds c [m, n] against `before` + A·B in f64: γₖ₊₁·(Σ|a||b| + |before|) bounds any order of
/// summation, γₖ = k·u/(1 − k·u), u = 2⁻²⁴ (Higham 2002, §3.1).
fn hold(
    c: &[f32],
    before: f32,
    [m, n, k]: [usize; 3],
    (a, turned_a): (&[f32], bool),
    (b, turned_b): (&[f32], bool),
) {
    let ku = (k + 1) as f64 * 2f64.powi(-24);
    for i in 0..m {
        for j in 0..n {
            let terms = (0..k).map(|p| {
                element(a, if turned_a { m } else { k }, turned_a, i, p)
                    * element(b, if turned_b { k } else { n }, turned_b, p, j)
            });
            let (sum, size) = terms.fold((f64::from(before), f64::from(before.abs())), |s, t| {
                (s.0 + t, s.1 + t.abs())
            });
            let off = (f64::from(c[i * n + j]) - sum).abs();
            assert!(off <= ku / (1.0 - ku) * size, "({i}, {j}): {} for {sum}", c[i * n + j]);
        }
    }
}

#[test]
fn products_of_host_programs_are_right_and_are_its() {
    let bench = Bench::new();
    products(&accelerate(&bench), Some(&bench));
}

/// The conventions of the call, held against a BLAS that others wrote.
#[test]
fn products_by_a_real_blas_are_right() {
    let Some(path) = std::env::var_os("ANEGPT_TEST_CBLAS") else {
        eprintln!("skipped: ANEGPT_TEST_CBLAS names no library with `cblas_sgemm`");
        return;
    };
    let bench = Bench::new();
    let libraries = Libraries { accelerate: path.into(), ..bench.libraries() };
    let library: Arc<dyn Sgemm> = Arc::new(Accelerate::open(&libraries).unwrap());
    products(&library, None);
    let shape = HostShape { m: 352, n: 128, k: 1024, transposed: true, half: true, at_once: 1 };
    let found = compare(library.as_ref(), &[shape], Duration::from_secs(1));
    assert_eq!(found.fault, None);
    eprintln!("{found:?}: {:.2}x ours", found.ratio());
}

/// Products of every shape, storage and layout, alone and added to what is there; of the stand-in, if
/// it is one, also that it was asked.
fn products(library: &Arc<dyn Sgemm>, counted: Option<&Bench>) {
    let device = Emulator::cpu(Numerics::Fast);
    let mut calls = 0;
    for [m, n, k] in [[5, 7, 3], [64, 48, 96], [1, 9, 17], [33, 1, 8], [2, 3, 1]] {
        for (turned_a, turned_b, half, accumulate) in
            (0..16).map(|i| (i & 1 > 0, i & 2 > 0, i & 4 > 0, i & 8 > 0))
        {
            let stored = |rows, cols, turned| if turned { [cols, rows] } else { [rows, cols] };
            let (shape_a, shape_b) = (stored(m, k, turned_a), stored(k, n, turned_b));
            let builder = Builder::new("product");
            let x = builder.input("x", TensorType::fp32(shape_a));
            let y = builder.input("y", TensorType::fp32(shape_b));
            let f = builder.finish(&[x.matmul(y, turned_a, turned_b)]).unwrap();
            let mut program = HostProgram::new(&f).unwrap();
            program.multiply_with(Some(Arc::clone(library)));
            let (a, b) = (values(m * k, 1), values(k * n, 2));
            let (sa, sb) = (
                device.surface(&TensorType::fp16(shape_a), 0).unwrap(),
                device.surface(&TensorType::fp16(shape_b), 0).unwrap(),
            );
            sa.write(&a).unwrap();
            sb.write(&b).unwrap();
            let (ga, gb) = (sa.lock().unwrap(), sb.lock().unwrap());
            let inputs = match half {
                true => [ga.elements(), gb.elements()],
                false => [Elements::F32(&a), Elements::F32(&b)],
            };
            let (mut a, mut b) = (a.clone(), b.clone());
            if half {
                // What the surfaces hold.
                sa.read(&mut a).unwrap();
                sb.read(&mut b).unwrap();
            }
            let before = 0.75;
            let mut c = vec![before; m * n];
            let output = OutputMut::F32 { data: &mut c, accumulate };
            program.run(&inputs, &mut [output]).unwrap();
            let before = if accumulate { before } else { 0.0 };
            hold(&c, before, [m, n, k], (&a, turned_a), (&b, turned_b));
            calls += 1;
            if let Some(bench) = counted {
                assert_eq!(bench.count("products"), calls, "it was asked");
                assert_eq!(bench.violations(), "", "{m} {n} {k} {turned_a} {turned_b} {half}");
            }
            program.multiply_with(None);
            program.run(&inputs, &mut [OutputMut::F32 { data: &mut c, accumulate }]).unwrap();
            if let Some(bench) = counted {
                assert_eq!(bench.count("products"), calls, "and is not any more");
            }
        }
    }
}

#[test]
fn parts_of_matrices_and_batches_are_told_by_their_strides() {
    let bench = Bench::new();
    let builder = Builder::new("parts");
    let x = builder.input("x", TensorType::fp32([2, 6, 10]));
    let y = builder.input("y", TensorType::fp32([2, 10, 9]));
    let (left, right) = (x.narrow(2, 1, 5), y.narrow(1, 3, 5));
    let f = builder.finish(&[left.matmul(right, false, false)]).unwrap();
    let mut program = HostProgram::new(&f).unwrap();
    program.multiply_with(Some(accelerate(&bench)));
    let (a, b) = (values(120, 3), values(180, 4));
    let mut c = vec![0.0; 108];
    let output = OutputMut::F32 { data: &mut c, accumulate: false };
    program.run(&[Elements::F32(&a), Elements::F32(&b)], &mut [output]).unwrap();
    assert_eq!(bench.count("products"), 2);
    for batch in 0..2 {
        let a: Vec<f32> = (0..30).map(|i| a[batch * 60 + i / 5 * 10 + 1 + i % 5]).collect();
        let b: Vec<f32> = (0..45).map(|i| b[batch * 90 + (3 + i / 9) * 9 + i % 9]).collect();
        hold(&c[batch * 54..][..54], 0.0, [6, 9, 5], (&a, false), (&b, false));
    }
}

#[test]
fn a_library_that_is_wrong_or_unsteady_is_not_taken() {
    let bench = Bench::new();
    let library = accelerate(&bench);
    let shapes = [
        HostShape { m: 31, n: 20, k: 24, transposed: true, half: true, at_once: 1 },
        HostShape { m: 16, n: 33, k: 40, transposed: false, half: false, at_once: 1 },
        HostShape { m: 12, n: 8, k: 64, transposed: true, half: false, at_once: 3 },
    ];
    let limit = Duration::from_secs(1);
    let found = compare(library.as_ref(), &shapes, limit);
    assert_eq!(found.fault, None);
    assert!(found.ratio() > 0.0);
    // Once without a clock, five rounds with; 1, 1 and 3 at once, so that the parity of calls changes.
    assert_eq!(bench.count("products"), 30);
    bench.fault("wrong product", 1);
    let fault = compare(library.as_ref(), &shapes, limit).fault.expect("it was wrong");
    assert!(fault.contains("wrong result for a product [31, 24]·[24, 20]"), "{fault}");
    bench.fault("unsteady products", -1);
    let fault = compare(library.as_ref(), &shapes, limit).fault.expect("it was unsteady");
    assert!(fault.contains("other bits the second time"), "{fault}");
}

#[test]
fn what_is_missing_is_named() {
    let bench = Bench::new();
    let other = Libraries { accelerate: "libm.so.6".into(), ..bench.libraries() };
    let error = Accelerate::open(&other).unwrap_err().to_string();
    assert_eq!(error, "Accelerate cannot be used here: libm.so.6 has no symbol `cblas_sgemm`");
    let nowhere = Libraries { accelerate: "/nowhere/Accelerate".into(), ..bench.libraries() };
    let error = Accelerate::open(&nowhere).unwrap_err().to_string();
    assert!(error.contains("/nowhere/Accelerate"), "{error}");
}

/// The stand-in itself: each wrong argument is one violation.
#[test]
fn wrong_arguments_are_noticed() {
    type Sgemm = unsafe extern "C" fn(
        c_int,
        c_int,
        c_int,
        c_int,
        c_int,
        c_int,
        f32,
        *const f32,
        c_int,
        *const f32,
        c_int,
        f32,
        *mut f32,
        c_int,
    );
    let bench = Bench::new();
    // SAFETY: the function of that name has this signature.
    let sgemm = unsafe { std::mem::transmute::<*mut c_void, Sgemm>(bench.symbol("cblas_sgemm")) };
    let a = [1.0f32; 12];
    let mut c = [0.0f32; 12];
    let (from, to, none) = (a.as_ptr(), c.as_mut_ptr(), std::ptr::null());
    let ask = |order, trans, [m, k, lda]: [c_int; 3], a: *const f32, words: &str| {
        // SAFETY: the stand-in reads nothing of a call that it refuses; those that it does not
        // refuse are [2, 3]·[3, 2] of what is there.
        unsafe { sgemm(order, trans, 111, m, 2, k, 1.0, a, lda, from, 2, 0.0, to, 2) };
        assert!(bench.violations().contains(words) || words.is_empty(), "{}", bench.violations());
        assert_eq!(bench.violations().is_empty(), words.is_empty(), "{}", bench.violations());
        bench.reset();
    };
    ask(101, 111, [2, 3, 3], from, "");
    ask(101, 112, [2, 3, 2], from, "");
    ask(102, 111, [2, 3, 3], from, "order 102");
    ask(101, 113, [2, 3, 3], from, "transpositions 113");
    ask(101, 111, [2, 3, 2], from, "A [2, 3], 2 apart, has rows that overlap");
    ask(101, 112, [2, 3, 1], from, "A [3, 2], 1 apart, has rows that overlap");
    ask(101, 111, [0, 3, 3], from, "has no elements");
    ask(101, 111, [2, 3, 3], none, "is null");
    ask(101, 111, [2, 3, 3], to, "shares memory");
}
