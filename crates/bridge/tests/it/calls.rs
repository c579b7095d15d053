//! The results of the functions.

use crate::programs::*;
use ane_bridge::abi::*;
use half::f16;
use std::ptr;

/// fp16 rounds each factor by 2^-11 and the result once; f32 sums of n terms add n·2^-24.
fn bound(terms: f64, magnitude: f64, n: usize) -> f64 {
    let half = 2f64.powi(-11);
    terms * (2.0 * half + n as f64 * 2f64.powi(-24)) + magnitude * half + 2f64.powi(-24)
}

fn check_linear(device: Device, inp: usize, out: usize, width: usize) {
    let (w, x) = (numbers(out * inp, 0), numbers(inp * width, 17));
    let sizes = (inp * width * 4, out * width * 4);
    let text = linear(inp, out, width);
    let kernel = try_compile(device, &text, Some(&blob(&w, out, inp)), &[sizes.0], &[sizes.1]);
    assert!(!kernel.is_null(), "{}", last_error());
    assert!(write(kernel, 0, &x) && eval(kernel));
    let y = read::<f32>(kernel, 0, out * width);
    for i in 0..out {
        for j in 0..width {
            let products =
                (0..inp).map(|k| f64::from(w[i * inp + k]) * f64::from(x[k * width + j]));
            let (want, terms) =
                products.fold((0.0, 0.0), |(sum, abs), p| (sum + p, abs + f64::abs(p)));
            let error = (f64::from(y[i * width + j]) - want).abs();
            assert!(error <= bound(terms, want.abs(), inp), "({i}, {j}): off by {error}");
        }
    }
    free(kernel);
}

#[test]
fn a_product_agrees_with_f64() {
    let device = open("emulator");
    check_linear(device.0, 64, 128, 16);
    check_linear(device.0, 33, 65, 31);
}

#[test]
fn ports_are_bound_in_alphabetical_order_and_hold_fp16() {
    let device = open("emulator");
    let kernel = compile(device.0, &difference(), None);
    let a: Vec<f16> = numbers(64, 0).into_iter().map(f16::from_f32).collect();
    let b: Vec<f16> = numbers(64, 99).into_iter().map(f16::from_f32).collect();
    assert!(write(kernel, 0, &a) && write(kernel, 1, &b) && eval(kernel));
    let y = read::<f16>(kernel, 0, 64);
    let want = |a: &f16, b: &f16| f16::from_f32(b.to_f32() - 2.0 * a.to_f32());
    let want: Vec<f16> = a.iter().zip(&b).map(|(a, b)| want(a, b)).collect();
    assert_eq!(y, want);
    // The same through f32, which is exact for values on the grid.
    let wide: Vec<f32> = a.iter().map(|a| a.to_f32()).collect();
    let mut out = [0.0f32; 64];
    // SAFETY: lengths are those of the arrays.
    unsafe {
        assert!(ane_bridge_write_input_f32(kernel, 0, wide.as_ptr(), 64));
        assert!(eval(kernel));
        assert!(ane_bridge_read_output_f32(kernel, 0, out.as_mut_ptr(), 64));
        assert!(ane_bridge_run_seconds(kernel) >= 0.0);
    }
    assert_eq!(out.map(f16::from_f32).as_slice(), want);
    free(kernel);
}

#[test]
fn numerics_are_part_of_a_device_s_name() {
    // 1 + 2^-11 lies halfway between two fp16 numbers: `fast` takes the even one, the engine the one
    // that is farther from 0.
    for (name, want) in [("emulator:fast", 1.0), ("emulator:m4:exact", 1.0 + 2f32.powi(-10))] {
        let device = open(name);
        let kernel = compile(device.0, &difference(), None);
        let (a, b) = ([f16::from_f32(-2f32.powi(-12)); 64], [f16::ONE; 64]);
        assert!(write(kernel, 0, &a) && write(kernel, 1, &b) && eval(kernel));
        assert_eq!(read::<f16>(kernel, 0, 64), [f16::from_f32(want); 64], "{name}");
        free(kernel);
    }
}

#[test]
fn the_first_bytes_can_be_written_and_read_alone() {
    let device = open("emulator");
    // Also where the device holds elements in f32, so that bytes are converted.
    let single = open("cpu:f32");
    for device in [&device, &single] {
        let kernel = compile(device.0, &difference(), None);
        let two = f16::from_f32(2.0);
        assert!(write(kernel, 1, &[two; 64]) && write(kernel, 1, &[f16::ONE; 3]) && eval(kernel));
        let y = read::<f16>(kernel, 0, 5);
        assert_eq!(y, [f16::ONE, f16::ONE, f16::ONE, two, two]);
        free(kernel);
    }
}

#[test]
fn surfaces_may_be_larger_than_their_tensors() {
    let device = open("emulator");
    let kernel = try_compile(device.0, &difference(), None, &[128, 65_536], &[49_152]);
    assert!(!kernel.is_null(), "{}", last_error());
    let large = vec![f16::ONE; 32_768];
    assert!(write(kernel, 1, &large) && eval(kernel));
    let y = read::<f16>(kernel, 0, 24_576);
    assert!(y[..64].iter().all(|&y| y == f16::ONE) && y[64..].iter().all(|&y| y == f16::ZERO));
    // SAFETY: handles are only looked up.
    unsafe {
        assert_eq!((ane_bridge_input_count(kernel), ane_bridge_output_count(kernel)), (2, 1));
        assert_eq!(ane_bridge_input_bytes(kernel, 0), 128);
        assert_eq!(ane_bridge_input_bytes(kernel, 1), 65_536);
        assert_eq!(ane_bridge_output_bytes(kernel, 0), 49_152);
    }
    free(kernel);
}

#[test]
fn integers_are_converted() {
    let device = open("cpu");
    let kernel = compile(device.0, &from_integers(), None);
    let x: Vec<i32> = (0..16).map(|i| i * i - 100).collect();
    assert!(write(kernel, 0, &x) && eval(kernel));
    let want: Vec<f32> = x.iter().map(|&x| x as f32).collect();
    assert_eq!(read::<f32>(kernel, 0, 16), want);
    // SAFETY: handles are only looked up.
    assert!(unsafe { ane_bridge_lock_input(kernel, 0, ptr::null_mut()) }.is_null());
    assert!(last_error().contains("cannot be shared"), "{}", last_error());
    free(kernel);
}

#[test]
fn memory_is_shared_while_it_is_locked() {
    let device = open("emulator");
    let kernel = compile(device.0, &difference(), None);
    let mut bytes = 0;
    // SAFETY: the memory is used while it is locked, within its length.
    unsafe {
        let b = ane_bridge_lock_input(kernel, 1, &mut bytes).cast::<f16>();
        assert!(!b.is_null() && bytes == 128, "{}", last_error());
        for i in 0..64 {
            b.add(i).write(f16::from_f32(i as f32));
        }
        assert!(!eval(kernel) && last_error().contains("input 1, port `b`, is locked"));
        assert!(!ane_bridge_submit(kernel) && last_error().contains("is locked"));
        assert!(!write(kernel, 1, &[f16::ONE]) && last_error().contains("is locked"));
        assert!(ane_bridge_lock_input(kernel, 1, &mut bytes).is_null());
        assert!(write(kernel, 0, &[f16::ZERO; 64]), "the other input is free");
        assert!(ane_bridge_unlock_input(kernel, 1) && eval(kernel));
        assert!(!ane_bridge_unlock_input(kernel, 1) && last_error().contains("is not locked"));
        let y = ane_bridge_lock_output(kernel, 0, &mut bytes).cast::<f16>();
        assert!(!y.is_null() && bytes == 128, "{}", last_error());
        assert!((0..64).all(|i| y.add(i).read().to_f32() == i as f32));
        assert!(!eval(kernel) && last_error().contains("output 0, port `y`, is locked"));
        assert!(ane_bridge_unlock_output(kernel, 0) && eval(kernel));
    }
    free(kernel);
}

#[test]
fn submitted_runs_finish() {
    let device = open("emulator");
    let kernels: Vec<_> = (0..4).map(|_| compile(device.0, &difference(), None)).collect();
    // SAFETY: handles are only looked up.
    unsafe {
        assert_eq!(ane_bridge_poll(kernels[0]), -1);
        assert!(last_error().contains("never submitted"));
        for round in 0..50 {
            for (i, &kernel) in kernels.iter().enumerate() {
                let b = f16::from_f32((round + i) as f32);
                assert!(write(kernel, 1, &[b; 64]) && ane_bridge_submit(kernel));
            }
            for (i, &kernel) in kernels.iter().enumerate() {
                if i % 2 == 0 {
                    assert_eq!(ane_bridge_wait(kernel, -1), 1);
                    assert_eq!(ane_bridge_poll(kernel), 1);
                }
                // Reading waits by itself.
                let want = f16::from_f32((round + i) as f32);
                assert!(read::<f16>(kernel, 0, 64).iter().all(|&y| y == want));
            }
        }
        // Freed in flight, closed before the last kernels: nothing is lost, nothing hangs.
        kernels.iter().for_each(|&kernel| assert!(ane_bridge_submit(kernel)));
        free(kernels[0]);
        drop(device);
        kernels[1..].iter().for_each(|&kernel| assert_eq!(ane_bridge_wait(kernel, -1), 1));
    }
    kernels[1..].iter().for_each(|&kernel| free(kernel));
}

#[test]
fn kernels_and_devices_describe_themselves() {
    let device = open("emulator:m5-pro/macos26/e5rt");
    // SAFETY: handles are only looked up.
    let described = text(unsafe { ane_bridge_describe_device(device.0) });
    assert!(described.contains("m5-pro/macos26/e5rt"), "{described}");
    let kernel = compile(device.0, &difference(), None);
    // SAFETY: handles are only looked up.
    let json: serde_json::Value =
        serde_json::from_str(&text(unsafe { ane_bridge_describe(kernel) })).unwrap();
    let names: Vec<_> = [&json["inputs"][0], &json["inputs"][1], &json["outputs"][0]]
        .map(|port| port["name"].as_str().unwrap())
        .into();
    assert_eq!(names, ["a", "b", "y"]);
    let port =
        serde_json::json!({"name": "y", "dtype": "fp16", "shape": [1, 4, 1, 16], "bytes": 128});
    assert_eq!(json["outputs"][0], port);
    free(kernel);
}

#[test]
fn profiles_differ_in_what_they_refuse() {
    let (x, w) = (linear(64, 64, 16), blob(&numbers(4096, 0), 64, 64));
    let (m1, m4) = (open("emulator:m1"), open("emulator:m4"));
    assert!(try_compile(m1.0, &x, Some(&w), &[], &[]).is_null());
    assert!(last_error().contains("ANE021"), "{}", last_error());
    free(compile(m4.0, &x, Some(&w)));
    assert_eq!(last_error(), "");
    let found = |profile: &std::ffi::CStr, program: &str| -> serde_json::Value {
        let (start, length) = (program.as_ptr().cast(), program.len());
        // SAFETY: the length is that of the text.
        let json = text(unsafe { ane_bridge_check(profile.as_ptr(), start, length) });
        serde_json::from_str(&json).unwrap()
    };
    let json = found(c"m1", &x);
    assert_eq!(json["legal"], false);
    let broken = json["rules"].as_array().unwrap();
    let ports = broken.iter().find(|rule| rule["id"] == "ANE021").unwrap();
    assert_eq!((&ports["severity"], &ports["place"]), (&"error".into(), &"parameter".into()));
    assert_eq!(found(c"m4", &x)["legal"], true);
    let json = found(c"m4", &x.replace("conv(", "convolve("));
    assert_eq!((&json["legal"], &json["faults"][0]["line"]), (&false.into(), &12.into()), "{json}");
}

#[test]
fn a_forecast_names_its_machine_and_its_causes() {
    let program = linear(64, 64, 16);
    let (start, length) = (program.as_ptr().cast(), program.len());
    let forecast = |profile: *const std::ffi::c_char| -> serde_json::Value {
        // SAFETY: the name ends with a zero byte or is null, the length is that of the text.
        serde_json::from_str(&text(unsafe { ane_bridge_estimate(profile, start, length) })).unwrap()
    };
    let m1 = forecast(c"m1".as_ptr());
    assert_eq!(m1["profile"], "m1/macos15/in-memory");
    assert_eq!(m1["confirmed_on_hardware"], false);
    let main = &m1["functions"][0];
    assert_eq!(main["function"], "main");
    let seconds = main["seconds"].as_f64().unwrap();
    assert!(main["low"].as_f64().unwrap() < seconds && seconds < main["high"].as_f64().unwrap());
    let parts = main["parts"].as_object().unwrap().values().map(|s| s.as_f64().unwrap());
    assert!((parts.sum::<f64>() - seconds).abs() < 1e-9);
    assert!(main["operations"].as_array().unwrap().iter().any(|o| o["op"] == "conv"));
    assert_eq!(forecast(std::ptr::null())["profile"], "m4/macos15/in-memory");
}

#[test]
fn the_120th_compile_of_an_engine_fails_and_says_why() {
    let device = open("emulator");
    for _ in 0..119 {
        free(compile(device.0, &difference(), None));
    }
    assert!(try_compile(device.0, &difference(), None, &[], &[]).is_null());
    assert!(last_error().contains("ANE083"), "{}", last_error());
}

#[test]
fn quantized_weights_have_one_scale() {
    let (mut scale, mut length) = (0.0, 0);
    let w = [0.5f32, -1.27, 0.0, 0.01];
    // SAFETY: the matrix has 4 elements; the blob is 132 bytes long and freed once.
    unsafe {
        let blob =
            ane_bridge_build_weight_blob_quantized(w.as_ptr(), 2, 2, &mut scale, &mut length);
        assert!((scale - 0.01).abs() < 1e-8 && length == 132);
        let data = std::slice::from_raw_parts(blob.add(128).cast::<i8>(), 4);
        assert_eq!(data, [50, -127, 0, 1]);
        ane_bridge_free_blob(blob.cast());
    }
}
