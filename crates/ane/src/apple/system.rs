//! Which chip and which system this is.

#![allow(unsafe_code, reason = "sysctlbyname is a C function")]

use super::dynamic::{Libraries, Library};
use crate::chip::{CallPath, Chip, Os, Profile};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::null_mut;

type SysctlByName = unsafe extern "C-unwind" fn(
    *const c_char,
    *mut c_void,
    *mut usize,
    *mut c_void,
    usize,
) -> c_int;

fn ask(library: &Library, name: &CStr) -> Option<String> {
    let function = library.find(c"sysctlbyname")?;
    // SAFETY: a function of libSystem with this signature.
    let function = unsafe { std::mem::transmute::<*mut c_void, SysctlByName>(function.as_ptr()) };
    let mut bytes = [0u8; 128];
    let mut length = bytes.len();
    // SAFETY: the buffer has `length` bytes; nothing is set.
    let status =
        unsafe { function(name.as_ptr(), bytes.as_mut_ptr().cast(), &mut length, null_mut(), 0) };
    let text = CStr::from_bytes_until_nul(&bytes).ok()?.to_str().ok()?;
    (status == 0 && !text.is_empty()).then(|| text.to_owned())
}

/// The profile of this Mac for `path`. A chip that is not known is taken for the nearest known one
/// of its generation, a generation or system that is not known for the default, which has the
/// stricter rules.
pub(super) fn profile(libraries: &Libraries, path: CallPath) -> Profile {
    let default = Profile { path, ..Profile::default() };
    let Ok(library) = Library::open(&libraries.system) else { return default };
    let chip = ask(&library, c"machdep.cpu.brand_string").and_then(|name| chip(&name));
    let os = ask(&library, c"kern.osproductversion").and_then(|version| os(&version));
    Profile { chip: chip.unwrap_or(default.chip), os: os.unwrap_or(default.os), path }
}

/// Chip and build of the system in its own words; `None` where it does not say. Compiled programs
/// are of one chip and, as far as anybody knows, of one build.
pub(super) fn identity(libraries: &Libraries) -> Option<String> {
    let library = Library::open(&libraries.system).ok()?;
    let [chip, build] =
        [c"machdep.cpu.brand_string", c"kern.osversion"].map(|name| ask(&library, name));
    Some(format!("{}, {}", chip?, build?))
}

/// `Apple M4 Pro` is M4 Pro; `Apple M2 Max`, of which nothing is published, is M2.
fn chip(name: &str) -> Option<Chip> {
    let mut words: Vec<&str> = name.split_whitespace().filter(|&word| word != "Apple").collect();
    while !words.is_empty() {
        if let Ok(chip) = words.join(" ").parse() {
            return Some(chip);
        }
        words.pop();
    }
    None
}

/// `15.7.4` is macOS 15; anything later than 15 follows the rules of macOS 26.
fn os(version: &str) -> Option<Os> {
    let major: u32 = version.split('.').next()?.parse().ok()?;
    Some(if major <= 15 { Os::MacOs15 } else { Os::MacOs26 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_recognised_by_name() {
        for (name, expected) in [
            ("Apple M4 Pro", Some(Chip::M4Pro)),
            ("Apple M2 Max", Some(Chip::M2)),
            ("Apple M1", Some(Chip::M1)),
            ("Apple M9 Ultra", None),
            ("Intel(R) Core(TM) i7", None),
        ] {
            assert_eq!(chip(name), expected, "{name}");
        }
        assert_eq!(os("15.7.4"), Some(Os::MacOs15));
        assert_eq!(os("26.5"), Some(Os::MacOs26));
        assert_eq!(os("beta"), None);
    }
}
