//! Accelerate's single-precision product, which runs on the matrix units of the CPU's clusters that
//! no published instruction reaches.
//!
//! Accelerate is public and always there on a Mac; it is looked up at run time as everything else is,
//! so that the call is tested elsewhere. `cblas_sgemm` takes 32-bit extents; Apple declares it
//! deprecated since macOS 13.3 in favour of the same function by another symbol
//! (`cblas_sgemm$NEWLAPACK`), and exports both.
//!
//! Its results are not ours to the bit (see [`cpu::blas`]), and Apple does not promise
//! the same bits from one system or chip to the next.

#![allow(unsafe_code, reason = "cblas_sgemm is a C function")]

use super::dynamic::{Libraries, Library, functions, unavailable};
use ane::AneError;
use cpu::blas::{Sgemm, Stored};
use std::ffi::c_int;

functions! {
    /// The function that is used: order, transA, transB, m, n, k, alpha, A, lda, B, ldb, beta, C,
    /// ldc (BLAS Technical Forum Standard, 2001, C.2).
    struct Functions {
        sgemm = c"cblas_sgemm"(
            c_int, c_int, c_int, c_int, c_int, c_int,
            f32, *const f32, c_int, *const f32, c_int, f32, *mut f32, c_int
        );
    }
}

/// `CblasRowMajor`, `CblasNoTrans`, `CblasTrans`.
const ROW_MAJOR: c_int = 101;
const NO_TRANS: c_int = 111;
const TRANS: c_int = 112;

/// The Accelerate framework.
#[derive(Debug)]
pub struct Accelerate {
    functions: Functions,
}

impl Accelerate {
    /// Opens the framework.
    ///
    /// # Errors
    /// When there is none, or it has no `cblas_sgemm`.
    pub fn open(libraries: &Libraries) -> Result<Self, AneError> {
        let library = Library::open(&libraries.accelerate);
        let functions = library.and_then(|library| Functions::load(&library));
        Ok(Accelerate { functions: functions.map_err(unavailable("Accelerate"))? })
    }
}

/// An extent or a stride as C has it.
fn int(n: usize) -> c_int {
    c_int::try_from(n).expect("callers of `multiply` keep extents and strides to a C `int`")
}

impl Sgemm for Accelerate {
    fn name(&self) -> &'static str {
        "Accelerate"
    }

    fn multiply(
        &self,
        [m, n, k]: [usize; 3],
        a: Stored<'_>,
        b: Stored<'_>,
        (c, stride): (&mut [f32], usize),
        accumulate: bool,
    ) {
        let check = |x: &Stored<'_>, [rows, cols]: [usize; 2]| {
            let [rows, cols] = if x.transposed { [cols, rows] } else { [rows, cols] };
            assert!(rows > 0 && cols > 0 && x.stride >= cols, "[{rows}, {cols}] of {}", x.stride);
            assert!(x.elements.len() >= (rows - 1) * x.stride + cols, "elements of an operand");
        };
        check(&a, [m, k]);
        check(&b, [k, n]);
        assert!(stride >= n && c.len() >= (m - 1) * stride + n, "elements of the result");
        let trans = |x: &Stored<'_>| if x.transposed { TRANS } else { NO_TRANS };
        let beta = if accumulate { 1.0 } else { 0.0 };
        // SAFETY: the matrices lie within their slices, as just checked; C is borrowed mutably, so
        // that it shares nothing with A and B; the function is BLAS's.
        unsafe {
            (self.functions.sgemm)(
                ROW_MAJOR,
                trans(&a),
                trans(&b),
                int(m),
                int(n),
                int(k),
                1.0,
                a.elements.as_ptr(),
                int(a.stride),
                b.elements.as_ptr(),
                int(b.stride),
                beta,
                c.as_mut_ptr(),
                int(stride),
            );
        }
    }
}
