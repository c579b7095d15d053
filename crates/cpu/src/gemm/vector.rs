//! Products with a vector: the matrix is streamed once, in the order of its storage.

use super::kernel::Element;
use super::{Extents, Job, OutPtr, PRIVATE, Ptr, SHARED, Tile, View, fan_out, with};
use half::f16;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Results of one unit of work where rows are contiguous.
const ROWS: usize = 64;
/// Results of one unit of work where columns are contiguous: their sums stay in the first-level
/// cache.
const COLUMNS: usize = 1024;

/// A matrix [count, k] times a vector [k].
struct Stream<'a> {
    job: &'a Job,
    matrix: View,
    /// Number of results and length of each sum.
    count: usize,
    k: usize,
    /// The vector, `k` contiguous elements.
    x: *const f32,
}

// SAFETY: units write disjoint results; everything else is read only.
unsafe impl Sync for Stream<'_> {}

/// Computes a product with one row or one column; `false` if the matrix is contiguous in neither
/// direction.
pub(super) fn product(job: &Job, threads: usize) -> bool {
    let Extents { m, n, k } = job.shape;
    let (matrix, vector, count) =
        if m == 1 { (job.b.transposed(), job.a, n) } else { (job.a, job.b.transposed(), m) };
    let by_rows = matrix.cs == 1;
    if !by_rows && matrix.rs != 1 {
        return false;
    }
    // A multiple of every vector's length, so that the same results are computed one by one at the
    // end whatever the number of threads.
    let size =
        if by_rows { ROWS } else { COLUMNS.min(count.div_ceil(2 * threads).next_multiple_of(64)) };
    let next = AtomicUsize::new(0);
    with(&SHARED, |shared| {
        let x = shared.b.get(k + 16);
        // SAFETY: the buffer holds `k` elements and a surplus, the view one row of as many.
        unsafe { super::pack::rows(job.level, vector, 1, 1, k, x) };
        let stream = Stream { job, matrix, count, k, x };
        let units = count.div_ceil(size);
        fan_out(threads.min(units), &|| {
            with(&PRIVATE, |private| {
                loop {
                    let start = next.fetch_add(1, Ordering::Relaxed) * size;
                    if start >= count {
                        break;
                    }
                    // SAFETY: this thread alone has the unit.
                    unsafe { stream.unit(start, size, by_rows, private.c.get(size)) };
                }
            });
        });
    });
    true
}

impl Stream<'_> {
    /// Results `start .. start + size`.
    ///
    /// # Safety
    /// `sums` has room for them; no other thread computes them.
    unsafe fn unit(&self, start: usize, size: usize, by_rows: bool, sums: *mut f32) {
        let len = size.min(self.count - start);
        // SAFETY: the unit lies within the matrix.
        unsafe {
            match self.matrix.at(start, 0).ptr {
                Ptr::F32(p) => self.sums(p, len, by_rows, sums),
                Ptr::F16(p) => self.sums(p, len, by_rows, sums),
            }
            if self.job.shape.m == 1 {
                let tile = Tile { row: 0, rows: 1, column: start, columns: len };
                self.job.finish(tile, sums, 0);
            } else {
                self.scatter(start, std::slice::from_raw_parts_mut(sums, len));
            }
        }
    }

    /// # Safety
    /// `p` points to the first of `len` rows of the matrix, `sums` has room for as many results.
    unsafe fn sums<T: Element>(&self, p: *const T, len: usize, by_rows: bool, sums: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe {
            let (product, stride) = if by_rows {
                (T::dot(self.job.level), self.matrix.rs)
            } else {
                (T::columns(self.job.level), self.matrix.cs)
            };
            product(self.k, p, stride, self.x, sums, len);
        }
    }

    /// Applies the epilogue to results in one column, `c.rs` apart.
    ///
    /// # Safety
    /// Results from `start` on exist; no other thread touches them.
    unsafe fn scatter(&self, start: usize, sums: &mut [f32]) {
        let rs = self.job.c.rs;
        for (i, sums) in sums.chunks_mut(64).enumerate() {
            let first = (start + i * 64) * rs;
            // SAFETY: the caller's promise.
            unsafe {
                match self.job.c.ptr {
                    OutPtr::F32(c) => {
                        let mut column = [0.0f32; 64];
                        let column = &mut column[..sums.len()];
                        for (r, v) in column.iter_mut().enumerate() {
                            *v = *c.add(first + r * rs);
                        }
                        self.job.finish_f32(sums, column);
                        for (r, v) in column.iter().enumerate() {
                            *c.add(first + r * rs) = *v;
                        }
                    }
                    OutPtr::F16(c) => {
                        let mut column = [f16::ZERO; 64];
                        let column = &mut column[..sums.len()];
                        self.job.finish_f16(sums, column);
                        for (r, v) in column.iter().enumerate() {
                            *c.add(first + r * rs) = *v;
                        }
                    }
                }
            }
        }
    }
}
