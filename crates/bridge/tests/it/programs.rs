//! Programs for the tests, and calls in the types of Rust.

use ane_bridge::abi::*;
use std::ffi::{CStr, CString, c_void};
use std::ptr;

pub(crate) type Kernel = *mut ANEKernelHandle;
pub(crate) type Device = *mut ANEDeviceHandle;

fn program(input: &str, body: &str) -> String {
    format!("program(1.3)\n{{\n    func main<ios18>({input}) {{\n{body}\n    }} -> (y);\n}}\n")
}

/// y [1, out, 1, width] = W [out, inp] · x [1, inp, 1, width] in fp16, with fp32 ports.
pub(crate) fn linear(inp: usize, out: usize, width: usize) -> String {
    let input = format!("tensor<fp32, [1,{inp},1,{width}]> x");
    let body = format!(
        r#"string half = const()[name=string("half"), val=string("fp16")];
string single = const()[name=string("single"), val=string("fp32")];
string valid = const()[name=string("valid"), val=string("valid")];
tensor<int32, [2]> ones = const()[name=string("ones"), val=tensor<int32, [2]>([1,1])];
tensor<int32, [4]> none = const()[name=string("none"), val=tensor<int32, [4]>([0,0,0,0])];
int32 one = const()[name=string("one"), val=int32(1)];
tensor<fp16, [{out},{inp},1,1]> w = const()[name=string("w"), val=tensor<fp16, [{out},{inp},1,1]>(BLOBFILE(path=string("@model_path/weights/weight.bin"), offset=uint64(64)))];
tensor<fp16, [1,{inp},1,{width}]> h = cast(dtype=half, x=x)[name=string("h")];
tensor<fp16, [1,{out},1,{width}]> p = conv(dilations=ones, groups=one, pad=none, pad_type=valid, strides=ones, weight=w, x=h)[name=string("p")];
tensor<fp32, [1,{out},1,{width}]> y = cast(dtype=single, x=p)[name=string("y")];"#
    );
    program(&input, &body)
}

/// y = b − 2·a, [1, 4, 1, 16] in fp16; `a` comes before `b` in the order of binding, though the
/// program declares `b` first.
pub(crate) fn difference() -> String {
    let input = "tensor<fp16, [1,4,1,16]> b, tensor<fp16, [1,4,1,16]> a";
    let body = r#"fp16 two = const()[name=string("two"), val=fp16(2)];
tensor<fp16, [1,4,1,16]> d = mul(x=a, y=two)[name=string("d")];
tensor<fp16, [1,4,1,16]> y = sub(x=b, y=d)[name=string("y")];"#;
    program(input, body)
}

/// y = x as fp32, of an int32 input.
pub(crate) fn from_integers() -> String {
    let body = r#"string single = const()[name=string("single"), val=string("fp32")];
tensor<fp32, [1,1,1,16]> y = cast(dtype=single, x=x)[name=string("y")];"#;
    program("tensor<int32, [1,1,1,16]> x", body)
}

/// A device that is closed when it is dropped.
pub(crate) struct Opened(pub(crate) Device);

pub(crate) fn open(name: &str) -> Opened {
    let name = CString::new(name).unwrap();
    // SAFETY: a string that ends with a zero byte.
    let device = unsafe { ane_bridge_open(name.as_ptr()) };
    assert!(!device.is_null(), "{}", last_error());
    Opened(device)
}

impl Drop for Opened {
    fn drop(&mut self) {
        // SAFETY: handles are only looked up.
        unsafe { ane_bridge_close(self.0) };
    }
}

pub(crate) fn last_error() -> String {
    // SAFETY: the text is valid until this thread's next call.
    unsafe { CStr::from_ptr(ane_bridge_last_error()) }.to_str().unwrap().to_owned()
}

/// Takes a text that the bridge gave out.
pub(crate) fn text(given: *mut std::ffi::c_char) -> String {
    assert!(!given.is_null(), "{}", last_error());
    // SAFETY: the bridge gave a string, which is freed once, afterwards.
    unsafe {
        let text = CStr::from_ptr(given).to_str().unwrap().to_owned();
        ane_bridge_free_blob(given.cast());
        text
    }
}

/// Compiles with at most one weight file; null if it fails.
pub(crate) fn try_compile(
    device: Device,
    text: &str,
    weights: Option<&[u8]>,
    inputs: &[usize],
    outputs: &[usize],
) -> Kernel {
    let name = c"@model_path/weights/weight.bin".as_ptr();
    let data = weights.map_or(ptr::null(), <[u8]>::as_ptr);
    let length = weights.map_or(0, <[u8]>::len);
    // SAFETY: all pointers are to as much as their lengths say.
    unsafe {
        ane_bridge_compile_on(
            device,
            text.as_ptr().cast(),
            text.len(),
            &name,
            &data,
            &length,
            i32::from(weights.is_some()),
            inputs.len() as i32,
            inputs.as_ptr(),
            outputs.len() as i32,
            outputs.as_ptr(),
        )
    }
}

pub(crate) fn compile(device: Device, text: &str, weights: Option<&[u8]>) -> Kernel {
    let kernel = try_compile(device, text, weights, &[], &[]);
    assert!(!kernel.is_null(), "{}", last_error());
    kernel
}

pub(crate) fn write<T>(kernel: Kernel, idx: i32, data: &[T]) -> bool {
    // SAFETY: the length is that of the slice.
    unsafe { ane_bridge_write_input(kernel, idx, data.as_ptr().cast(), size_of_val(data)) }
}

pub(crate) fn read<T: Clone + Default>(kernel: Kernel, idx: i32, count: usize) -> Vec<T> {
    let mut data = vec![T::default(); count];
    let start: *mut c_void = data.as_mut_ptr().cast();
    // SAFETY: the length is that of the vector.
    let read = unsafe { ane_bridge_read_output(kernel, idx, start, count * size_of::<T>()) };
    assert!(read, "{}", last_error());
    data
}

pub(crate) fn eval(kernel: Kernel) -> bool {
    // SAFETY: handles are only looked up.
    unsafe { ane_bridge_eval(kernel) }
}

pub(crate) fn free(kernel: Kernel) {
    // SAFETY: handles are only looked up.
    unsafe { ane_bridge_free(kernel) }
}

/// The weight file of a matrix.
pub(crate) fn blob(matrix: &[f32], rows: usize, cols: usize) -> Vec<u8> {
    let mut length = 0;
    // SAFETY: the matrix has rows · cols elements; the blob is copied before it is freed.
    unsafe {
        let blob =
            ane_bridge_build_weight_blob(matrix.as_ptr(), rows as i32, cols as i32, &mut length);
        assert!(!blob.is_null(), "{}", last_error());
        let copy = std::slice::from_raw_parts(blob, length).to_vec();
        ane_bridge_free_blob(blob.cast());
        assert_eq!(last_error(), "");
        copy
    }
}

/// Numbers in [-1, 1) that look random (a Weyl sequence of the golden ratio).
pub(crate) fn numbers(count: usize, start: usize) -> Vec<f32> {
    let at = |i: usize| (((start + i) as f64 * 0.618_033_988_749_894_9).fract() * 2.0 - 1.0) as f32;
    (1..=count).map(at).collect()
}
