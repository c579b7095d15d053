//! Products that are symmetric: half of the elements, and their mirror images.

use super::{Extents, Items, Job, Offsets, Operand, Output, run, thread_count};
use crate::team::fan_out;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Rows and columns of a square that is mirrored at once: two of them lie in the first-level cache.
const SQUARE: usize = 32;

/// Computes C [n, n] = A [n, k] · B [k, n] for a product that is symmetric, such as X·Xᵀ, or the square of
/// a symmetric matrix. Register tiles above the diagonal are not computed: their elements are copied from
/// below it.
///
/// The bits are those of [`super::gemm`]: there too, elements (i, j) and (j, i) add up the same products in
/// the same order.
///
/// # Panics
/// As [`super::gemm`], for an f32 result in rows of n.
pub fn symmetric(n: usize, k: usize, a: Operand<'_>, b: Operand<'_>, c: &mut [f32]) {
    if n == 0 {
        return;
    }
    let shape = Extents::new(n, n, k);
    let threads = thread_count(shape.flops() / 2);
    let output = Output::F32 { data: &mut *c, accumulate: false };
    let start = [Offsets::default()];
    let items = Items::new(shape, a, b, &start, false, output, n, None);
    run(Job { lower: true, ..items.job(0) }, threads);
    mirror(&mut c[..n * n], n, threads);
}

/// A matrix whose elements above the diagonal are written while those below it are read.
struct Halves(*mut f32);

// SAFETY: threads write disjoint rows above the diagonal, and read only below it.
unsafe impl Sync for Halves {}

impl Halves {
    /// Copies the elements below the diagonal into their places above it, for the rows of one square.
    ///
    /// # Safety
    /// The matrix has `n` rows of `n` elements, and no other thread writes these rows.
    unsafe fn mirror(&self, n: usize, first: usize) {
        let end = n.min(first + SQUARE);
        for across in (first..n).step_by(SQUARE) {
            for i in first..end {
                for j in across.max(i + 1)..n.min(across + SQUARE) {
                    // SAFETY: i < j < n.
                    unsafe { *self.0.add(i * n + j) = *self.0.add(j * n + i) };
                }
            }
        }
    }
}

fn mirror(c: &mut [f32], n: usize, threads: usize) {
    let (halves, next) = (Halves(c.as_mut_ptr()), AtomicUsize::new(0));
    let halves = &halves;
    fan_out(threads, &|| {
        loop {
            let first = next.fetch_add(1, Ordering::Relaxed) * SQUARE;
            if first >= n {
                break;
            }
            // SAFETY: `c` holds n² elements, and each square of rows has one taker.
            unsafe { halves.mirror(n, first) };
        }
    });
}
