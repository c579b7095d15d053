//! Which chip and which system this is.

#![allow(unsafe_code, reason = "sysctlbyname is a C function")]

use super::dynamic::{Libraries, Library};
use chip::{CallPath, Chip, Os, Profile};
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

/// A Mac: its profile, and how a device describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mac {
    pub(super) profile: Profile,
    /// The profile, and a notice if limits and speed are those of another chip.
    pub(super) description: String,
}

/// This Mac, with programs reaching the engine by `path`.
pub(super) fn mac(libraries: &Libraries, path: CallPath) -> Mac {
    let library = Library::open(&libraries.system).ok();
    let ask = |name| library.as_ref().and_then(|library| ask(library, name));
    let brand = ask(c"machdep.cpu.brand_string");
    let version = ask(c"kern.osproductversion");
    named(brand.as_deref(), version.as_deref(), path)
}

/// The Mac whose system gives these names. A chip that is not known gets the limits and the speed of
/// the default one, which has the stricter rules, and works with a notice; so does a system.
fn named(brand: Option<&str>, version: Option<&str>, path: CallPath) -> Mac {
    let default = Profile { path, ..Profile::default() };
    let os = version.and_then(os).unwrap_or(default.os);
    let known = brand.and_then(chip);
    let profile = Profile { chip: known.unwrap_or(default.chip), os, path };
    let description = match known {
        Some(_) => profile.described(),
        None => format!(
            "{profile} ({}: limits and speed of {}, not measured on this chip)",
            brand.map_or("this chip has no name".to_owned(), |name| format!(
                "`{name}` is not a chip known to this version"
            )),
            profile.chip
        ),
    };
    Mac { profile, description }
}

/// Chip and build of the system in its own words; `None` where it does not say. Compiled programs
/// are of one chip and, as far as anybody knows, of one build.
pub(super) fn identity(libraries: &Libraries) -> Option<String> {
    let library = Library::open(&libraries.system).ok()?;
    let [chip, build] =
        [c"machdep.cpu.brand_string", c"kern.osversion"].map(|name| ask(&library, name));
    Some(format!("{}, {}", chip?, build?))
}

/// `Apple M4 Pro` is M4 Pro. Of a size that is not known (`Apple M4 Nano`), the generation counts.
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
            ("Apple M2 Max", Some(Chip::M2Max)),
            ("Apple M4 Nano", Some(Chip::M4)),
            ("Apple A18 Pro", None),
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

    #[test]
    fn a_chip_without_figures_works_with_a_notice() {
        let of = |brand, version| named(brand, version, CallPath::E5rt);
        let known = of(Some("Apple M1 Max"), Some("26.5"));
        assert_eq!(known.description, "m1-max/macos26/e5rt");
        let near = of(Some("Apple M2 Ultra"), Some("15.7"));
        assert_eq!(near.profile.chip, Chip::M2Ultra);
        assert_eq!(
            near.description,
            "m2-ultra/macos15/e5rt (limits and speed of m2-pro: not measured on this chip)"
        );
        let new = of(Some("Apple M9 Ultra"), Some("30.1"));
        assert_eq!((new.profile.chip, new.profile.os), (Chip::M4, Os::MacOs26));
        assert_eq!(
            new.description,
            "m4/macos26/e5rt (`Apple M9 Ultra` is not a chip known to this version: limits and speed \
             of m4, not measured on this chip)"
        );
        assert!(of(None, None).description.contains("no name"));
    }
}
