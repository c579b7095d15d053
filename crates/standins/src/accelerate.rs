//! BLAS: the product that is called, with every argument held against the standard.

use crate::control::{COUNTERS, fault, is_on, violation};
use std::ffi::c_int;
use std::sync::atomic::Ordering;

const ROW_MAJOR: c_int = 101;
const NO_TRANS: c_int = 111;
const TRANS: c_int = 112;

/// A matrix in memory: first element, rows, columns, distance of rows.
struct Matrix {
    at: *const f32,
    rows: usize,
    cols: usize,
    stride: usize,
}

impl Matrix {
    /// Checks what must hold of an argument; `None` where it does not.
    fn new(name: &str, at: *const f32, [rows, cols]: [c_int; 2], stride: c_int) -> Option<Self> {
        let fault = match () {
            () if at.is_null() => "is null",
            () if !at.is_aligned() => "is not aligned",
            () if rows < 1 || cols < 1 => "has no elements",
            () if stride < cols => "has rows that overlap",
            () => {
                let [rows, cols, stride] = [rows, cols, stride].map(|n| n as usize);
                return Some(Matrix { at, rows, cols, stride });
            }
        };
        violation(format!("sgemm: {name} [{rows}, {cols}], {stride} apart, {fault}"));
        None
    }

    /// Addresses from the first element to behind the last.
    fn range(&self) -> std::ops::Range<usize> {
        let length = (self.rows - 1) * self.stride + self.cols;
        self.at as usize..self.at as usize + 4 * length
    }

    fn shares_with(&self, other: &Matrix) -> bool {
        let (a, b) = (self.range(), other.range());
        a.start < b.end && b.start < a.end
    }

    /// The elements row by row, or column by column.
    ///
    /// # Safety
    /// The matrix is in memory.
    unsafe fn read(&self, transposed: bool) -> Vec<f32> {
        let (rows, cols) = (self.rows, self.cols);
        // SAFETY: promised by the caller.
        let at = |i: usize, j: usize| unsafe { *self.at.add(i * self.stride + j) };
        match transposed {
            true => (0..cols).flat_map(|j| (0..rows).map(move |i| at(i, j))).collect(),
            false => (0..rows).flat_map(|i| (0..cols).map(move |j| at(i, j))).collect(),
        }
    }
}

#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments, reason = "as the standard has it")]
pub unsafe extern "C" fn cblas_sgemm(
    order: c_int,
    trans_a: c_int,
    trans_b: c_int,
    m: c_int,
    n: c_int,
    k: c_int,
    alpha: f32,
    a: *const f32,
    lda: c_int,
    b: *const f32,
    ldb: c_int,
    beta: f32,
    c: *mut f32,
    ldc: c_int,
) {
    let known = |trans| trans == NO_TRANS || trans == TRANS;
    if order != ROW_MAJOR || !known(trans_a) || !known(trans_b) {
        return violation(format!("sgemm: order {order}, transpositions {trans_a}, {trans_b}"));
    }
    if alpha != 1.0 || (beta != 0.0 && beta != 1.0) {
        violation(format!("sgemm: factors {alpha} and {beta}"));
    }
    let stored = |trans, rows, cols| if trans == TRANS { [cols, rows] } else { [rows, cols] };
    let a = Matrix::new("A", a, stored(trans_a, m, k), lda);
    let b = Matrix::new("B", b, stored(trans_b, k, n), ldb);
    let result = Matrix::new("C", c, [m, n], ldc);
    let (Some(a), Some(b), Some(result)) = (a, b, result) else { return };
    if result.shares_with(&a) || result.shares_with(&b) {
        return violation("sgemm: C shares memory with an operand");
    }
    let call = COUNTERS.products.fetch_add(1, Ordering::SeqCst);
    let (n, k) = (n as usize, k as usize);
    // SAFETY: as the arguments say, by contract.
    let (a, b) = unsafe { (a.read(trans_a == TRANS), b.read(trans_b == TRANS)) };
    let mut row = vec![0.0f32; n];
    for i in 0..m as usize {
        row.fill(0.0);
        for (p, &factor) in a[i * k..][..k].iter().enumerate() {
            row.iter_mut().zip(&b[p * n..][..n]).for_each(|(sum, b)| *sum += factor * b);
        }
        // SAFETY: a row of C, by contract.
        let to = unsafe { std::slice::from_raw_parts_mut(c.add(i * result.stride), n) };
        match beta {
            0.0 => to.copy_from_slice(&row),
            _ => to.iter_mut().zip(&row).for_each(|(to, sum)| *to += sum),
        }
    }
    // SAFETY: C has at least one element.
    let first = unsafe { &mut *c };
    if fault("wrong product") {
        *first += 1e6;
    }
    if is_on("unsteady products") && call % 2 == 1 {
        *first = f32::from_bits(first.to_bits() ^ 1);
    }
}
