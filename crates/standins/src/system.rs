//! The names of the machine that is stood in for.

use crate::control::{is_on, violation};
use std::ffi::{CStr, c_char, c_int, c_void};

#[unsafe(no_mangle)]
pub unsafe extern "C" fn sysctlbyname(
    name: *const c_char,
    to: *mut c_void,
    length: *mut usize,
    from: *mut c_void,
    from_length: usize,
) -> c_int {
    if !from.is_null() || from_length != 0 {
        violation("sysctlbyname was told to change something");
        return -1;
    }
    // SAFETY: a C string by contract.
    let answer = match unsafe { CStr::from_ptr(name) }.to_bytes() {
        b"machdep.cpu.brand_string" => c"Apple M4",
        b"kern.osproductversion" => c"15.5",
        b"kern.osversion" if is_on("no build") => return -1,
        b"kern.osversion" if is_on("new build") => c"24G90",
        b"kern.osversion" => c"24F74",
        _ => return -1,
    };
    let bytes = answer.to_bytes_with_nul();
    // SAFETY: `to` has `length` bytes by contract.
    unsafe {
        if *length < bytes.len() {
            return -1;
        }
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), to.cast(), bytes.len());
        *length = bytes.len();
    }
    0
}
