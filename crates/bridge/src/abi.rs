//! The functions that C sees.
//!
//! The macro writes each function twice: as an exported function and as a [`Declaration`] from
//! which the header is printed, from one text.

#![allow(unsafe_code, reason = "the boundary to C: exported symbols, raw pointers")]
#![allow(clippy::missing_safety_doc, reason = "one rule for all, at the top of the header")]

use crate::blob;
use crate::check;
use crate::device::OpenDevice;
use crate::error::{self, BridgeError, explained, guard, guard_release};
use crate::handles::Table;
use crate::header::Declaration;
use crate::kernel::{Kernel, Side};
use crate::memory;
use chip::Profile;
use mil::Weights;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// The type that a kernel's handle seems to point to.
#[derive(Debug)]
#[repr(C)]
pub struct ANEKernelHandle {
    _nothing: [u8; 0],
}

/// The type that a device's handle seems to point to.
#[derive(Debug)]
#[repr(C)]
pub struct ANEDeviceHandle {
    _nothing: [u8; 0],
}

static DEVICES: Table<OpenDevice> = Table::new("device", 1);
static KERNELS: Table<Kernel> = Table::new("kernel", 2);
static DEFAULT: Mutex<Option<Arc<OpenDevice>>> = Mutex::new(None);
static COMPILES: AtomicI32 = AtomicI32::new(0);

/// The path at which programs find the only weight file of `ane_bridge_compile`.
const ONLY_WEIGHTS: &str = "@model_path/weights/weight.bin";

fn default_device() -> MutexGuard<'static, Option<Arc<OpenDevice>>> {
    DEFAULT.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn initialize() -> Result<(), BridgeError> {
    let mut device = default_device();
    if device.is_none() {
        let kind = std::env::var("ANE_BRIDGE_DEVICE").unwrap_or_else(|_| "auto".to_owned());
        *device = Some(OpenDevice::open(&kind)?);
        COMPILES.store(0, Ordering::Relaxed);
    }
    Ok(())
}

fn initialized() -> Result<Arc<OpenDevice>, BridgeError> {
    default_device().clone().ok_or(BridgeError::NotInitialized)
}

fn device(handle: *const ANEDeviceHandle) -> Result<Arc<OpenDevice>, BridgeError> {
    if handle.is_null() { initialized() } else { DEVICES.get(handle.addr()) }
}

fn kernel(handle: *const ANEKernelHandle) -> Result<Arc<Kernel>, BridgeError> {
    if handle.is_null() {
        return Err(BridgeError::Null { what: "kernel" });
    }
    KERNELS.get(handle.addr())
}

/// `count` elements at `start`, which may be null if there are none.
///
/// # Safety
/// `start` is null or points to `count` elements that nobody changes meanwhile.
unsafe fn slice<'a, T>(
    what: &'static str,
    start: *const T,
    count: usize,
) -> Result<&'a [T], BridgeError> {
    if count == 0 {
        return Ok(&[]);
    }
    check_span(what, start, count)?;
    // SAFETY: not null, aligned, not longer than memory can be; the rest is the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(start, count) })
}

/// As [`slice`], to write to.
///
/// # Safety
/// `start` is null or points to `count` elements that nobody else uses meanwhile.
unsafe fn slice_mut<'a, T>(
    what: &'static str,
    start: *mut T,
    count: usize,
) -> Result<&'a mut [T], BridgeError> {
    if count == 0 {
        return Ok(&mut []);
    }
    check_span(what, start.cast_const(), count)?;
    // SAFETY: as in `slice`.
    Ok(unsafe { std::slice::from_raw_parts_mut(start, count) })
}

fn check_span<T>(what: &'static str, start: *const T, count: usize) -> Result<(), BridgeError> {
    let limit = isize::MAX as usize / size_of::<T>();
    if start.is_null() {
        return Err(BridgeError::Null { what });
    }
    if !start.is_aligned() {
        return Err(BridgeError::Unaligned { what, bytes: align_of::<T>() });
    }
    if count > limit {
        let got = i64::try_from(count).unwrap_or(i64::MAX);
        return Err(BridgeError::Count { what, got, limit });
    }
    Ok(())
}

/// As [`slice`] with a count as C has it.
///
/// # Safety
/// As [`slice`].
unsafe fn array<'a, T>(
    what: &'static str,
    start: *const T,
    count: c_int,
) -> Result<&'a [T], BridgeError> {
    let limit = c_int::MAX as usize;
    let length = usize::try_from(count).map_err(|_| BridgeError::Count {
        what,
        got: i64::from(count),
        limit,
    })?;
    // SAFETY: the caller's promise.
    unsafe { slice(what, start, length) }
}

fn utf8<'a>(what: &'static str, bytes: &'a [u8]) -> Result<&'a str, BridgeError> {
    std::str::from_utf8(bytes).map_err(|e| BridgeError::NotText { what, at: e.valid_up_to() })
}

/// A string that ends with a zero byte.
///
/// # Safety
/// `start` is null or points to one.
unsafe fn string<'a>(what: &'static str, start: *const c_char) -> Result<&'a str, BridgeError> {
    if start.is_null() {
        return Err(BridgeError::Null { what });
    }
    // SAFETY: the caller's promise.
    utf8(what, unsafe { CStr::from_ptr(start) }.to_bytes())
}

/// The program's text, of which C gives the length.
///
/// # Safety
/// As [`slice`].
unsafe fn program<'a>(start: *const c_char, length: usize) -> Result<&'a str, BridgeError> {
    if start.is_null() {
        return Err(BridgeError::Null { what: "mil_text" });
    }
    // SAFETY: the caller's promise.
    utf8("mil_text", unsafe { slice("mil_text", start.cast::<u8>(), length) }?)
}

/// The machine of that name, the default one for null.
///
/// # Safety
/// As [`string`].
unsafe fn machine(name: *const c_char) -> Result<Profile, BridgeError> {
    match name.is_null() {
        true => Ok(Profile::default()),
        // SAFETY: the caller's promise.
        false => Ok(unsafe { string("profile", name) }?.parse()?),
    }
}

/// Copies the weight files.
///
/// # Safety
/// The arrays hold `count` elements, each file as many bytes as its length.
unsafe fn weight_files(
    names: *const *const c_char,
    datas: *const *const u8,
    lengths: *const usize,
    count: c_int,
) -> Result<Weights, BridgeError> {
    let mut weights = Weights::new();
    // SAFETY: the caller's promise, as for all that follow.
    let names = unsafe { array("weight_names", names, count) }?;
    // SAFETY: as above.
    let datas = unsafe { array("weight_datas", datas, count) }?;
    // SAFETY: as above.
    let lengths = unsafe { array("weight_lens", lengths, count) }?;
    for ((&name, &data), &length) in names.iter().zip(datas).zip(lengths) {
        // SAFETY: as above.
        let name = unsafe { string("a name of weight_names", name) }?.to_owned();
        // SAFETY: as above.
        let data = unsafe { slice("an entry of weight_datas", data, length) }?.to_vec();
        if weights.contains_key(&name) {
            return Err(BridgeError::DuplicateWeight { name });
        }
        weights.insert(name, data);
    }
    Ok(weights)
}

/// Sizes of surfaces as C gives them; none means those of the program.
///
/// # Safety
/// As [`slice`].
unsafe fn sizes<'a>(
    what: &'static str,
    start: *const usize,
    count: c_int,
) -> Result<Option<&'a [usize]>, BridgeError> {
    // SAFETY: the caller's promise.
    let sizes = unsafe { array(what, start, count) }?;
    Ok(Some(sizes).filter(|sizes| !sizes.is_empty()))
}

fn compiled(
    device: Arc<OpenDevice>,
    text: &str,
    weights: &Weights,
    inputs: Option<&[usize]>,
    outputs: Option<&[usize]>,
) -> Result<*mut ANEKernelHandle, BridgeError> {
    let kernel = Kernel::compile(device, text, weights, inputs, outputs)?;
    COMPILES.fetch_add(1, Ordering::Relaxed);
    Ok(ptr::without_provenance_mut(KERNELS.insert(Arc::new(kernel))))
}

fn give_blob(bytes: Vec<u8>, length: *mut usize) -> Result<*mut u8, BridgeError> {
    if length.is_null() {
        return Err(BridgeError::Null { what: "out_len" });
    }
    // SAFETY: not null; that it points to a size is the caller's promise.
    unsafe { length.write(bytes.len()) };
    Ok(memory::give(bytes))
}

fn give_text(text: &str) -> *mut c_char {
    let mut bytes = text.replace('\0', "\u{fffd}").into_bytes();
    bytes.push(0);
    memory::give(bytes).cast()
}

/// A matrix of the caller.
///
/// # Safety
/// `start` is null or points to rows · cols elements.
unsafe fn matrix<'a, T>(start: *const T, rows: c_int, cols: c_int) -> Result<&'a [T], BridgeError> {
    if start.is_null() {
        return Err(BridgeError::Null { what: "src" });
    }
    let count = blob::count(i64::from(rows), i64::from(cols), size_of::<T>())?;
    // SAFETY: the caller's promise.
    unsafe { slice("src", start, count) }
}

fn lent(
    handle: *mut ANEKernelHandle,
    side: Side,
    index: c_int,
    bytes: *mut usize,
) -> Result<*mut c_void, BridgeError> {
    let (start, length) = kernel(handle)?.lend(side, i64::from(index))?;
    if !bytes.is_null() {
        // SAFETY: not null; that it points to a size is the caller's promise.
        unsafe { bytes.write(length) };
    }
    Ok(start.cast())
}

fn waited(handle: *mut ANEKernelHandle, limit: Option<Duration>) -> c_int {
    guard(-1, || Ok(c_int::from(kernel(handle)?.wait(limit)?)))
}

fn counted(handle: *const ANEKernelHandle, side: Side) -> c_int {
    guard(-1, || Ok(c_int::try_from(kernel(handle)?.count(side)).unwrap_or(c_int::MAX)))
}

macro_rules! abi {
    ($(
        $(#[doc = $doc:literal])+
        fn $name:ident($($parameter:ident: $ty:ty),* $(,)?) -> $returns:ty $body:block
    )*) => {
        $(
            $(#[doc = $doc])+
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $name($($parameter: $ty),*) -> $returns $body
        )*

        /// Every function, in the order of the header.
        pub const DECLARATIONS: &[Declaration] = &[$(Declaration {
            doc: &[$($doc),+],
            name: stringify!($name),
            parameters: &[$((stringify!($ty), stringify!($parameter))),*],
            returns: stringify!($returns),
        }),*];
    };
}

abi! {
    /// Opens the default device, on which ane_bridge_compile and ane_bridge_compile_multi_weights
    /// compile: the one named by the environment variable ANE_BRIDGE_DEVICE (see ane_bridge_open),
    /// else `auto`. 0, also when it is open already, or -1. The first success sets the compile
    /// count to 0.
    fn ane_bridge_init() -> c_int {
        let status = guard(-1, || initialize().map(|()| 0));
        explained(status, status != 0)
    }

    /// Compiles a program on the default device. weight_data is the file
    /// `@model_path/weights/weight.bin` of the program; null or 0 bytes for none. input_sizes and
    /// output_sizes are the bytes of each surface, at least those of its tensor; with a count of 0
    /// they are taken from the program. Everything is copied. A handle to give to
    /// ane_bridge_free, or null.
    fn ane_bridge_compile(
        mil_text: *const c_char,
        mil_len: usize,
        weight_data: *const u8,
        weight_len: usize,
        n_inputs: c_int,
        input_sizes: *const usize,
        n_outputs: c_int,
        output_sizes: *const usize,
    ) -> *mut ANEKernelHandle {
        let kernel = guard(ptr::null_mut(), || {
            let device = initialized()?;
            let mut weights = Weights::new();
            if !weight_data.is_null() && weight_len > 0 {
                // SAFETY: the caller's promise, as for all that follow.
                let bytes = unsafe { slice("weight_data", weight_data, weight_len) }?.to_vec();
                weights.insert(ONLY_WEIGHTS.to_owned(), bytes);
            }
            // SAFETY: as above.
            let text = unsafe { program(mil_text, mil_len) }?;
            // SAFETY: as above.
            let inputs = unsafe { sizes("input_sizes", input_sizes, n_inputs) }?;
            // SAFETY: as above.
            let outputs = unsafe { sizes("output_sizes", output_sizes, n_outputs) }?;
            compiled(device, text, &weights, inputs, outputs)
        });
        explained(kernel, kernel.is_null())
    }

    /// As ane_bridge_compile, with n_weights weight files, named as in the program, for instance
    /// `@model_path/weights/wq.bin`.
    fn ane_bridge_compile_multi_weights(
        mil_text: *const c_char,
        mil_len: usize,
        weight_names: *const *const c_char,
        weight_datas: *const *const u8,
        weight_lens: *const usize,
        n_weights: c_int,
        n_inputs: c_int,
        input_sizes: *const usize,
        n_outputs: c_int,
        output_sizes: *const usize,
    ) -> *mut ANEKernelHandle {
        // SAFETY: the caller's promise is the same.
        let kernel = unsafe {
            ane_bridge_compile_on(
                ptr::null(), mil_text, mil_len, weight_names, weight_datas, weight_lens, n_weights,
                n_inputs, input_sizes, n_outputs, output_sizes,
            )
        };
        explained(kernel, kernel.is_null())
    }

    /// Runs the program on what its inputs hold, and returns when it has finished; after a run that
    /// is in flight. False if it failed; the outputs are then not to be used.
    fn ane_bridge_eval(kernel_handle: *mut ANEKernelHandle) -> bool {
        guard(false, || kernel(kernel_handle)?.eval().map(|()| true))
    }

    /// Copies the first bytes of an input from data; what is behind the tensor, in a surface that
    /// was asked to be larger, is not kept. False, and nothing is copied, if there are more bytes
    /// than the surface has, or part of an element.
    fn ane_bridge_write_input(
        kernel_handle: *mut ANEKernelHandle,
        idx: c_int,
        data: *const c_void,
        bytes: usize,
    ) -> bool {
        guard(false, || {
            let kernel = kernel(kernel_handle)?;
            // SAFETY: the caller's promise.
            let data = unsafe { slice("data", data.cast::<u8>(), bytes) }?;
            kernel.write(i64::from(idx), data).map(|()| true)
        })
    }

    /// Copies the first bytes of an output to data; what is behind the tensor reads as 0. False, and
    /// nothing is copied, as in ane_bridge_write_input.
    fn ane_bridge_read_output(
        kernel_handle: *mut ANEKernelHandle,
        idx: c_int,
        data: *mut c_void,
        bytes: usize,
    ) -> bool {
        guard(false, || {
            let kernel = kernel(kernel_handle)?;
            // SAFETY: the caller's promise.
            let data = unsafe { slice_mut("data", data.cast::<u8>(), bytes) }?;
            kernel.read(Side::Output, i64::from(idx), data).map(|()| true)
        })
    }

    /// Unloads the program, after a run in flight, and frees its surfaces. Null is allowed.
    fn ane_bridge_free(kernel_handle: *mut ANEKernelHandle) -> () {
        guard_release(|| {
            if !kernel_handle.is_null() {
                KERNELS.remove(kernel_handle.addr())?.release();
            }
            Ok(())
        })
    }

    /// Programs compiled since the start or the last reset, on all devices together.
    fn ane_bridge_get_compile_count() -> c_int {
        guard(0, || Ok(COMPILES.load(Ordering::Relaxed)))
    }

    /// Sets the count to 0. What the machine counts for itself is not changed by it.
    fn ane_bridge_reset_compile_count() -> () {
        guard((), || {
            COMPILES.store(0, Ordering::Relaxed);
            Ok(())
        })
    }

    /// A weight file of one fp16 matrix [rows, cols], to be named with offset 64 in the program.
    /// Its length is stored in out_len. Null if it fails; else to be given to
    /// ane_bridge_free_blob.
    fn ane_bridge_build_weight_blob(
        src: *const f32,
        rows: c_int,
        cols: c_int,
        out_len: *mut usize,
    ) -> *mut u8 {
        guard(ptr::null_mut(), || {
            // SAFETY: the caller's promise.
            let matrix = unsafe { matrix(src, rows, cols) }?;
            give_blob(blob::fp16(matrix), out_len)
        })
    }

    /// As ane_bridge_build_weight_blob, of the transpose [cols, rows].
    fn ane_bridge_build_weight_blob_transposed(
        src: *const f32,
        rows: c_int,
        cols: c_int,
        out_len: *mut usize,
    ) -> *mut u8 {
        guard(ptr::null_mut(), || {
            // SAFETY: the caller's promise.
            let matrix = unsafe { matrix(src, rows, cols) }?;
            give_blob(blob::fp16_transposed(matrix, cols as usize), out_len)
        })
    }

    /// As ane_bridge_build_weight_blob, of int8 elements.
    fn ane_bridge_build_weight_blob_int8(
        src: *const i8,
        rows: c_int,
        cols: c_int,
        out_len: *mut usize,
    ) -> *mut u8 {
        guard(ptr::null_mut(), || {
            // SAFETY: the caller's promise.
            let matrix = unsafe { matrix(src, rows, cols) }?;
            give_blob(blob::int8(matrix), out_len)
        })
    }

    /// As ane_bridge_build_weight_blob_int8, of src divided by one scale for the whole matrix, which
    /// is stored in out_scale: the largest magnitude divided by 127.
    fn ane_bridge_build_weight_blob_quantized(
        src: *const f32,
        rows: c_int,
        cols: c_int,
        out_scale: *mut f32,
        out_len: *mut usize,
    ) -> *mut u8 {
        guard(ptr::null_mut(), || {
            if out_scale.is_null() {
                return Err(BridgeError::Null { what: "out_scale" });
            }
            // SAFETY: the caller's promise.
            let (bytes, scale) = blob::quantized(unsafe { matrix(src, rows, cols) }?)?;
            let blob = give_blob(bytes, out_len)?;
            // SAFETY: not null; that it points to a float is the caller's promise.
            unsafe { out_scale.write(scale) };
            Ok(blob)
        })
    }

    /// Frees a weight file or a text that a function of this header returned. Null is allowed.
    fn ane_bridge_free_blob(blob: *mut c_void) -> () {
        guard_release(|| if blob.is_null() { Ok(()) } else { memory::take_back(blob.cast()) })
    }

    /// Returns the error of this thread's last call, in words; empty if there was none. Frees and closes
    /// that succeed leave it as it was. Valid until the thread's next call. Such texts of
    /// ane_bridge_init, ane_bridge_compile and ane_bridge_compile_multi_weights are written to standard
    /// error, too; with the environment variable ANE_BRIDGE_VERBOSE=1 those of all functions are, with
    /// ANE_BRIDGE_VERBOSE=0 none.
    fn ane_bridge_last_error() -> *const c_char {
        error::last()
    }

    /// The version of the library, for instance `0.1.0`.
    fn ane_bridge_version() -> *const c_char {
        concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
    }

    /// Opens a device of its own:
    /// `auto` (the engine where there is a driver for it and it gives the right answers to a program
    /// whose answers are known, else the emulator; see ane_bridge_device_warning);
    /// `ane`, `in-memory`, `espresso` (the engine);
    /// `emulator`, with chip, system, call path and arithmetic (`fast`, `exact` or `f32`) if wanted,
    /// for instance `emulator:m1/macos26/in-memory:exact`;
    /// `cpu`, without an engine's rules.
    /// A handle to give to ane_bridge_close, or null.
    fn ane_bridge_open(name: *const c_char) -> *mut ANEDeviceHandle {
        guard(ptr::null_mut(), || {
            // SAFETY: the caller's promise.
            let device = OpenDevice::open(unsafe { string("name", name) }?)?;
            Ok(ptr::without_provenance_mut(DEVICES.insert(device)))
        })
    }

    /// Closes a device. Its kernels go on working until they are freed. Null is allowed.
    fn ane_bridge_close(device_handle: *mut ANEDeviceHandle) -> () {
        guard_release(|| {
            if !device_handle.is_null() {
                DEVICES.remove(device_handle.addr())?;
            }
            Ok(())
        })
    }

    /// One line that says which machine a device is (null: the default one). Null if it fails; else
    /// to be given to ane_bridge_free_blob.
    fn ane_bridge_describe_device(device_handle: *const ANEDeviceHandle) -> *mut c_char {
        guard(ptr::null_mut(), || Ok(give_text(&device(device_handle)?.device.describe())))
    }

    /// Why the emulator computes on a device (null: the default one) that was opened as `auto`,
    /// although there is an engine: it failed, gave wrong answers, or did not answer in time. Empty
    /// where there is nothing to warn of. Null if it fails; else to be given to
    /// ane_bridge_free_blob.
    fn ane_bridge_device_warning(device_handle: *const ANEDeviceHandle) -> *mut c_char {
        guard(ptr::null_mut(), || {
            Ok(give_text(device(device_handle)?.warning.as_deref().unwrap_or_default()))
        })
    }

    /// As ane_bridge_compile_multi_weights, on a device (null: the default one).
    fn ane_bridge_compile_on(
        device_handle: *const ANEDeviceHandle,
        mil_text: *const c_char,
        mil_len: usize,
        weight_names: *const *const c_char,
        weight_datas: *const *const u8,
        weight_lens: *const usize,
        n_weights: c_int,
        n_inputs: c_int,
        input_sizes: *const usize,
        n_outputs: c_int,
        output_sizes: *const usize,
    ) -> *mut ANEKernelHandle {
        guard(ptr::null_mut(), || {
            let device = device(device_handle)?;
            // SAFETY: the caller's promise, as for all that follow.
            let text = unsafe { program(mil_text, mil_len) }?;
            // SAFETY: as above.
            let weights =
                unsafe { weight_files(weight_names, weight_datas, weight_lens, n_weights) }?;
            // SAFETY: as above.
            let inputs = unsafe { sizes("input_sizes", input_sizes, n_inputs) }?;
            // SAFETY: as above.
            let outputs = unsafe { sizes("output_sizes", output_sizes, n_outputs) }?;
            compiled(device, text, &weights, inputs, outputs)
        })
    }

    /// The device of a kernel and its ports in order, as a JSON object with `device`, `inputs` and
    /// `outputs`; a port has `name`, `dtype`, `shape` and `bytes`. Null if it fails; else to be
    /// given to ane_bridge_free_blob.
    fn ane_bridge_describe(kernel_handle: *const ANEKernelHandle) -> *mut c_char {
        guard(ptr::null_mut(), || Ok(give_text(&kernel(kernel_handle)?.describe().to_string())))
    }

    /// Number of inputs, or -1.
    fn ane_bridge_input_count(kernel_handle: *const ANEKernelHandle) -> c_int {
        counted(kernel_handle, Side::Input)
    }

    /// Number of outputs, or -1.
    fn ane_bridge_output_count(kernel_handle: *const ANEKernelHandle) -> c_int {
        counted(kernel_handle, Side::Output)
    }

    /// Bytes of an input's surface, or 0 if it fails.
    fn ane_bridge_input_bytes(kernel_handle: *const ANEKernelHandle, idx: c_int) -> usize {
        guard(0, || kernel(kernel_handle)?.bytes(Side::Input, i64::from(idx)))
    }

    /// Bytes of an output's surface, or 0 if it fails.
    fn ane_bridge_output_bytes(kernel_handle: *const ANEKernelHandle, idx: c_int) -> usize {
        guard(0, || kernel(kernel_handle)?.bytes(Side::Output, i64::from(idx)))
    }

    /// Replaces a whole input of any element type by count floats; fp16 is rounded to nearest even.
    fn ane_bridge_write_input_f32(
        kernel_handle: *mut ANEKernelHandle,
        idx: c_int,
        data: *const f32,
        count: usize,
    ) -> bool {
        guard(false, || {
            let kernel = kernel(kernel_handle)?;
            // SAFETY: the caller's promise.
            let data = unsafe { slice("data", data, count) }?;
            kernel.write_f32(i64::from(idx), data).map(|()| true)
        })
    }

    /// Copies a whole output of any element type as count floats.
    fn ane_bridge_read_output_f32(
        kernel_handle: *mut ANEKernelHandle,
        idx: c_int,
        data: *mut f32,
        count: usize,
    ) -> bool {
        guard(false, || {
            let kernel = kernel(kernel_handle)?;
            // SAFETY: the caller's promise.
            let data = unsafe { slice_mut("data", data, count) }?;
            kernel.read_f32(Side::Output, i64::from(idx), data).map(|()| true)
        })
    }

    /// The memory of an input, to be filled in place; its length is stored in bytes unless that is
    /// null. Until ane_bridge_unlock_input, evaluating the kernel and writing the input fail. The
    /// memory is gone when the kernel is freed. Null if it fails, also where the device holds
    /// elements in another type than the program's (numerics f32 with fp16 ports).
    fn ane_bridge_lock_input(
        kernel_handle: *mut ANEKernelHandle,
        idx: c_int,
        bytes: *mut usize,
    ) -> *mut c_void {
        guard(ptr::null_mut(), || lent(kernel_handle, Side::Input, idx, bytes))
    }

    /// Ends ane_bridge_lock_input.
    fn ane_bridge_unlock_input(kernel_handle: *mut ANEKernelHandle, idx: c_int) -> bool {
        guard(false, || {
            kernel(kernel_handle)?.unlend(Side::Input, i64::from(idx)).map(|()| true)
        })
    }

    /// The memory of an output, to be read in place, as ane_bridge_lock_input.
    fn ane_bridge_lock_output(
        kernel_handle: *mut ANEKernelHandle,
        idx: c_int,
        bytes: *mut usize,
    ) -> *const c_void {
        guard(ptr::null(), || Ok(lent(kernel_handle, Side::Output, idx, bytes)?.cast_const()))
    }

    /// Ends ane_bridge_lock_output.
    fn ane_bridge_unlock_output(kernel_handle: *mut ANEKernelHandle, idx: c_int) -> bool {
        guard(false, || {
            kernel(kernel_handle)?.unlend(Side::Output, i64::from(idx)).map(|()| true)
        })
    }

    /// Starts a run and returns at once. Runs of one device are carried out in the order in which
    /// they were submitted. Until the run has finished, submitting the kernel again fails, and
    /// every other function that takes the kernel waits, except ane_bridge_poll.
    fn ane_bridge_submit(kernel_handle: *mut ANEKernelHandle) -> bool {
        guard(false, || kernel(kernel_handle)?.submit().map(|()| true))
    }

    /// Returns 1 if the last run has finished, 0 if it is in flight, -1 if it failed or there was
    /// none.
    fn ane_bridge_poll(kernel_handle: *mut ANEKernelHandle) -> c_int {
        waited(kernel_handle, Some(Duration::ZERO))
    }

    /// Waits until the run in flight has finished, at most timeout_ms milliseconds (for ever if
    /// negative). As ane_bridge_poll.
    fn ane_bridge_wait(kernel_handle: *mut ANEKernelHandle, timeout_ms: c_int) -> c_int {
        waited(kernel_handle, u64::try_from(timeout_ms).ok().map(Duration::from_millis))
    }

    /// Seconds that the last run took on the device, or a negative number.
    fn ane_bridge_run_seconds(kernel_handle: *mut ANEKernelHandle) -> f64 {
        guard(-1.0, || kernel(kernel_handle)?.seconds())
    }

    /// Holds a program against the rules of the language and of a machine, for instance
    /// `m4/macos15/in-memory` (null: this one). A JSON object with `profile`, `legal`, `faults` of the
    /// language (`line`, `column`, `context`, `message`, `hint`) and broken `rules` (`id`, `title`,
    /// `severity`, `confidence`, `evidence`, `function`, `place`, `name`, `message`, `hint`). Null if
    /// it fails; else to be given to ane_bridge_free_blob.
    fn ane_bridge_check(
        profile: *const c_char,
        mil_text: *const c_char,
        mil_len: usize,
    ) -> *mut c_char {
        guard(ptr::null_mut(), || {
            // SAFETY: the caller's promise.
            let profile = unsafe { machine(profile) }?;
            // SAFETY: the caller's promise.
            let text = unsafe { program(mil_text, mil_len) }?;
            Ok(give_text(&check::check(text, &profile).to_string()))
        })
    }

    /// Forecasts how long a program takes on a machine (null: as for ane_bridge_check), from a law
    /// fitted to published timings; not confirmed on hardware. A JSON object with `profile`,
    /// `confirmed_on_hardware` and `functions`; a function has `function`, `seconds`, `low` and `high`
    /// (the ends of the error bar), `bound_by`, `fitted`, `parts` (seconds by cause) and `operations`
    /// (`op`, `name`, `seconds`, `flops`, `bytes`, `bound_by`, `notch`). Null if it fails; else to be
    /// given to ane_bridge_free_blob.
    fn ane_bridge_estimate(
        profile: *const c_char,
        mil_text: *const c_char,
        mil_len: usize,
    ) -> *mut c_char {
        guard(ptr::null_mut(), || {
            // SAFETY: the caller's promise.
            let profile = unsafe { machine(profile) }?;
            // SAFETY: the caller's promise.
            let text = unsafe { program(mil_text, mil_len) }?;
            Ok(give_text(&check::estimate(text, &profile)?.to_string()))
        })
    }
}
