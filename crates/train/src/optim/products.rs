//! Products of matrices of f32, as optimizers need them: plain, in the order of [`cpu::gemm`], on all cores.

use cpu::gemm::{Elements, Offsets, Operand, Output, Shape, gemm};

/// C [m, n] ← A [m, k]·B [k, n].
pub(super) fn product([m, n, k]: [usize; 3], a: Operand<'_>, b: Operand<'_>, c: &mut [f32]) {
    let shape = Shape { m, n, k, rs_c: n, cs_c: 1 };
    gemm(shape, a, b, &[Offsets::default()], Output::F32 { data: c, accumulate: false }, None);
}

/// Returns a row-major matrix of so many columns, as it lies in memory.
pub(super) fn as_it_lies(x: &[f32], columns: usize) -> Operand<'_> {
    Operand { data: Elements::F32(x), rs: columns, cs: 1 }
}

/// Returns the transpose of a row-major matrix of so many columns.
pub(super) fn transposed(x: &[f32], columns: usize) -> Operand<'_> {
    Operand { data: Elements::F32(x), rs: 1, cs: columns }
}
