//! Wrong calls fail, say why, and do nothing else.

use crate::programs::*;
use ane_bridge::abi::*;
use half::f16;
use std::ffi::c_char;
use std::ptr;

fn says(words: &str) {
    let text = last_error();
    assert!(text.contains(words), "`{text}` should say `{words}`");
}

/// Every function that takes a kernel, with `kernel`.
fn every_call_fails(kernel: Kernel, words: &str) {
    let (mut bytes, mut data) = (7usize, [0.0f32; 64]);
    let (start, length) = (data.as_mut_ptr(), &raw mut bytes);
    // SAFETY: the handle is only looked up, the buffer is as long as the calls say.
    unsafe {
        let calls: [(&str, &mut dyn FnMut() -> bool); 17] = [
            ("eval", &mut || ane_bridge_eval(kernel)),
            ("write", &mut || ane_bridge_write_input(kernel, 0, start.cast(), 4)),
            ("read", &mut || ane_bridge_read_output(kernel, 0, start.cast(), 4)),
            ("write f32", &mut || ane_bridge_write_input_f32(kernel, 0, start, 64)),
            ("read f32", &mut || ane_bridge_read_output_f32(kernel, 0, start, 64)),
            ("input count", &mut || ane_bridge_input_count(kernel) >= 0),
            ("output count", &mut || ane_bridge_output_count(kernel) >= 0),
            ("input bytes", &mut || ane_bridge_input_bytes(kernel, 0) > 0),
            ("output bytes", &mut || ane_bridge_output_bytes(kernel, 0) > 0),
            ("lock input", &mut || !ane_bridge_lock_input(kernel, 0, length).is_null()),
            ("lock output", &mut || !ane_bridge_lock_output(kernel, 0, length).is_null()),
            ("unlock input", &mut || ane_bridge_unlock_input(kernel, 0)),
            ("unlock output", &mut || ane_bridge_unlock_output(kernel, 0)),
            ("submit", &mut || ane_bridge_submit(kernel)),
            ("poll", &mut || ane_bridge_poll(kernel) >= 0),
            ("wait", &mut || ane_bridge_wait(kernel, -1) >= 0),
            ("describe", &mut || !ane_bridge_describe(kernel).is_null()),
        ];
        for (name, call) in calls {
            assert!(!call(), "{name}");
            says(words);
        }
        assert!(ane_bridge_run_seconds(kernel) < 0.0);
    }
    assert_eq!((bytes, data), (7, [0.0; 64]));
}

#[test]
fn null_freed_and_invented_handles() {
    let device = open("emulator");
    let freed = compile(device.0, &difference(), None);
    free(freed);
    assert_eq!(last_error(), "");
    // SAFETY: handles are only looked up.
    unsafe { ane_bridge_free(freed) };
    says("is not a kernel in use");
    every_call_fails(ptr::null_mut(), "kernel is null");
    let invented = [1, usize::MAX, (&raw const device).addr(), freed.addr() + 1];
    for address in [freed.addr(), device.0.addr()].into_iter().chain(invented) {
        every_call_fails(ptr::without_provenance_mut(address), "is not a kernel in use");
    }
    // A new kernel takes the place of the freed one, and is not what the old handle means.
    let next = compile(device.0, &difference(), None);
    assert_ne!(next, freed);
    every_call_fails(freed, "is not a kernel in use");
    assert!(eval(next));
    free(next);
    // SAFETY: null is allowed.
    unsafe { ane_bridge_free(ptr::null_mut()) };
    assert_eq!(last_error(), "");
}

#[test]
fn devices_closed_twice_and_unknown() {
    // SAFETY: handles are only looked up; names end with a zero byte.
    unsafe {
        let device = ane_bridge_open(c"cpu".as_ptr());
        ane_bridge_close(device);
        assert_eq!(last_error(), "");
        ane_bridge_close(device);
        says("is not a device in use");
        assert!(try_compile(device, &difference(), None, &[], &[]).is_null());
        says("is not a device in use");
        assert!(ane_bridge_describe_device(device).is_null());
        assert!(ane_bridge_open(ptr::null()).is_null());
        says("name is null");
        assert!(ane_bridge_open(c"gpu".as_ptr()).is_null());
        says("there is no device called `gpu`");
        assert!(ane_bridge_open(c"\xff".as_ptr()).is_null());
        says("not UTF-8");
        assert!(ane_bridge_open(c"emulator:m9".as_ptr()).is_null());
        says("m9");
        if !cfg!(all(target_os = "macos", target_arch = "aarch64")) {
            assert!(ane_bridge_open(c"in-memory".as_ptr()).is_null());
            says("no Neural Engine");
        }
    }
}

#[test]
fn wrong_indices_and_lengths() {
    let device = open("emulator");
    let kernel = compile(device.0, &difference(), None);
    let some = [f16::ONE; 80];
    for idx in [-1, 2, i32::MAX, i32::MIN] {
        assert!(!write(kernel, idx, &some[..64]));
        says("there is no input");
        let mut data = [0u8; 2];
        // SAFETY: the length is that of the array.
        assert!(!unsafe { ane_bridge_read_output(kernel, idx, data.as_mut_ptr().cast(), 2) });
        says("there is no output");
    }
    assert!(!write(kernel, 0, &some));
    says("input 0, port `a`, has 128 bytes, but 160 were asked for");
    assert!(!write(kernel, 0, &[0u8; 3]));
    says("elements of 2 bytes");
    // SAFETY: no byte is touched through null, nor beyond the lengths given.
    unsafe {
        assert!(!ane_bridge_write_input(kernel, 0, ptr::null(), 128));
        says("data is null");
        assert!(!ane_bridge_write_input(kernel, 0, some.as_ptr().cast(), usize::MAX));
        says("data is");
        assert!(!ane_bridge_read_output(kernel, 0, ptr::null_mut(), 128));
        says("data is null");
        assert!(!ane_bridge_write_input_f32(kernel, 0, [0.0; 3].as_ptr(), 3));
        says("64 elements was given 3");
        assert!(ane_bridge_write_input(kernel, 0, ptr::null(), 0));
    }
    free(kernel);
}

#[test]
fn programs_that_do_not_compile() {
    let device = open("emulator");
    let refused = |text: &str, inputs: &[usize], outputs: &[usize], words: &str| {
        assert!(try_compile(device.0, text, None, inputs, outputs).is_null());
        says(words);
    };
    refused("", &[], &[], "not a valid MIL program");
    refused("program(1.3) {", &[], &[], "line 1");
    refused(&difference(), &[128], &[], "1 input sizes are given, but the program has 2 inputs");
    refused(&difference(), &[128, 127], &[], "input 1 is given 127 bytes, but port `b`");
    refused(
        &difference(),
        &[128, 1 << 40],
        &[],
        "input 1 is given 1099511627776 bytes: the engine",
    );
    refused(&difference(), &[], &[usize::MAX], "no more than 3758096384");
    refused(&difference(), &[], &[1, 2], "2 output sizes are given");
    refused(&linear(64, 64, 16), &[], &[], "`@model_path/weights/weight.bin` was not given");
    let short = &blob(&numbers(64, 0), 8, 8);
    assert!(try_compile(device.0, &linear(64, 64, 16), Some(short), &[], &[]).is_null());
    says("holds 128 bytes");
}

#[test]
fn wrong_arguments_of_compile() {
    let device = open("emulator");
    let text = difference();
    let compile = |start: *const c_char, length: usize, weights: i32, inputs: i32| {
        // SAFETY: arrays are null, which is checked before they are read.
        unsafe {
            let none = ptr::null();
            let (names, datas, lengths) = (ptr::null(), ptr::null(), ptr::null());
            ane_bridge_compile_on(
                device.0, start, length, names, datas, lengths, weights, inputs, none, 0, none,
            )
        }
    };
    let start = text.as_ptr().cast();
    assert!(compile(ptr::null(), 10, 0, 0).is_null());
    says("mil_text is null");
    assert!(compile(start, usize::MAX, 0, 0).is_null());
    says("mil_text is");
    assert!(compile(start, text.len(), 1, 0).is_null());
    says("weight_names is null");
    assert!(compile(start, text.len(), -1, 0).is_null());
    says("weight_names is -1");
    assert!(compile(start, text.len(), 0, 2).is_null());
    says("input_sizes is null");
    assert!(compile(start, text.len(), 0, -2).is_null());
    says("input_sizes is -2");
    assert!(compile(c"\xff\xfe".as_ptr(), 2, 0, 0).is_null());
    says("mil_text is not UTF-8 text: byte 0");
    let name = c"@model_path/weights/weight.bin".as_ptr();
    let (names, datas, lengths) = ([name, name], [ptr::null(); 2], [0usize; 2]);
    // SAFETY: the arrays have two elements; files of no bytes are not read.
    let kernel = unsafe {
        ane_bridge_compile_on(
            device.0,
            start,
            text.len(),
            names.as_ptr(),
            datas.as_ptr(),
            lengths.as_ptr(),
            2,
            0,
            ptr::null(),
            0,
            ptr::null(),
        )
    };
    assert!(kernel.is_null());
    says("is given twice");
}

#[test]
fn blobs_of_nothing_and_freed_twice() {
    let (one, mut length) = ([1.0f32], 9usize);
    // SAFETY: pointers are null or as long as the calls say; sizes made up are refused first.
    unsafe {
        assert!(ane_bridge_build_weight_blob(ptr::null(), 1, 1, &mut length).is_null());
        says("src is null");
        for (rows, cols) in [(0, 1), (1, 0), (-1, 1), (1, i32::MIN)] {
            assert!(ane_bridge_build_weight_blob(one.as_ptr(), rows, cols, &mut length).is_null());
            says("both must be at least 1");
        }
        let transposed = ane_bridge_build_weight_blob_transposed;
        assert!(transposed(one.as_ptr(), i32::MAX, i32::MAX, &mut length).is_null());
        assert_eq!(length, 9);
        assert!(ane_bridge_build_weight_blob(one.as_ptr(), 1, 1, ptr::null_mut()).is_null());
        says("out_len is null");
        let odd = [0.0f32; 2].as_ptr().byte_add(1);
        assert!(ane_bridge_build_weight_blob(odd, 1, 1, &mut length).is_null());
        says("src is not at a multiple of 4 bytes");
        let quantized = ane_bridge_build_weight_blob_quantized;
        assert!(quantized(one.as_ptr(), 1, 1, ptr::null_mut(), &mut length).is_null());
        says("out_scale is null");
        let blob = ane_bridge_build_weight_blob(one.as_ptr(), 1, 1, &mut length);
        assert_eq!(length, 130);
        ane_bridge_free_blob(blob.cast());
        assert_eq!(last_error(), "");
        ane_bridge_free_blob(blob.cast());
        says("is not memory that the bridge gave out");
        ane_bridge_free_blob((&raw mut length).cast());
        says("is not memory that the bridge gave out");
        // Freeing well does not hide what went wrong before.
        ane_bridge_free_blob(ptr::null_mut());
        says("is not memory that the bridge gave out");
        assert!(ane_bridge_check(ptr::null(), ptr::null(), 0).is_null());
        says("mil_text is null");
        assert!(ane_bridge_check(c"m9".as_ptr(), c"".as_ptr(), 0).is_null());
        says("m9");
        assert!(ane_bridge_estimate(ptr::null(), ptr::null(), 0).is_null());
        says("mil_text is null");
        assert!(ane_bridge_estimate(c"m9".as_ptr(), c"".as_ptr(), 0).is_null());
        says("m9");
        assert!(ane_bridge_estimate(ptr::null(), c"x".as_ptr(), 1).is_null());
        says("not a valid MIL program");
    }
}
