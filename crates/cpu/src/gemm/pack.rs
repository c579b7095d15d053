//! Copies of parts of operands in the order in which the micro-kernels read them, as f32.

use super::kernel::Element;
use super::{Ptr, View};
use crate::simd::{self, Level};

/// Copies `rows` runs of `cols` contiguous elements, `from.rs` apart, to rows `stride` apart.
/// Elements between `cols` and `stride` are zero or, if there are none, a surplus of up to 15
/// elements is written past the last row.
///
/// # Safety
/// The view holds the elements, `to` has room for them and the surplus.
unsafe fn runs(level: Level, from: View, rows: usize, cols: usize, to: *mut f32, stride: usize) {
    // SAFETY: the caller's promise.
    if unsafe { vectors::runs(level, from, rows, cols, to, stride) } {
        return;
    }
    for r in 0..rows {
        // SAFETY: the caller's promise.
        unsafe {
            let to = std::slice::from_raw_parts_mut(to.add(r * stride), stride);
            match from.at(r, 0).ptr {
                Ptr::F32(p) => {
                    to[..cols].copy_from_slice(std::slice::from_raw_parts(p, cols));
                }
                Ptr::F16(p) => {
                    simd::widen(std::slice::from_raw_parts(p, cols), &mut to[..cols]);
                }
            }
            to[cols..].fill(0.0);
        }
    }
}

/// Gathers `rows` x `cols` elements to rows `stride` apart.
///
/// # Safety
/// The view holds the elements, `to` has room for them.
unsafe fn gather(from: View, rows: usize, cols: usize, to: *mut f32, stride: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        match from.ptr {
            Ptr::F32(p) => gather_from(p, &from, rows, cols, to, stride),
            Ptr::F16(p) => gather_from(p, &from, rows, cols, to, stride),
        }
    }
}

unsafe fn gather_from<T: Element>(
    p: *const T,
    from: &View,
    rows: usize,
    cols: usize,
    to: *mut f32,
    stride: usize,
) {
    for i in 0..rows {
        for j in 0..cols {
            // SAFETY: the caller's promise.
            unsafe { *to.add(i * stride + j) = (*p.add(i * from.rs + j * from.cs)).widen() };
        }
    }
}

/// Packs rows of the left operand: `mr` rows of `len` elements, those past `rows` zero.
///
/// # Safety
/// `from` holds `rows` x `len` elements, `to` has room for `mr * len + 16`.
pub(super) unsafe fn rows(
    level: Level,
    from: View,
    rows: usize,
    mr: usize,
    len: usize,
    to: *mut f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        if from.cs == 1 {
            runs(level, from, rows, len, to, len);
        } else {
            gather(from, rows, len, to, len);
        }
        std::slice::from_raw_parts_mut(to.add(rows * len), (mr - rows) * len).fill(0.0);
    }
}

/// Packs a left operand whose columns are contiguous: slivers of `mr` interleaved rows, `sliver`
/// elements apart.
///
/// # Safety
/// `from` holds `rows` x `len` elements with row stride 1; `to` has room for the slivers, each of
/// `mr * len + 16` elements.
pub(super) unsafe fn columns(
    level: Level,
    from: View,
    rows: usize,
    mr: usize,
    len: usize,
    to: *mut f32,
    sliver: usize,
) {
    let slivers = rows.div_ceil(mr);
    // Elements read from one column by whole vectors: rows past the last are read from what
    // follows in memory (their products are dropped), so near the end of the data they may not be.
    let reach = (slivers - 1) * mr + mr.next_multiple_of(8);
    let whole = if from.len < reach { 0 } else { (from.len - reach) / from.cs.max(1) + 1 };
    // SAFETY: the reads end within the data; a store's surplus falls on the next step's place or
    // the sliver's spare room.
    let done = unsafe { vectors::columns(level, from, slivers, mr, whole.min(len), to, sliver) };
    for p in done..len {
        for i in 0..slivers * mr {
            // SAFETY: element (i, p) is read only if it exists.
            unsafe {
                let value = if i < rows { from.at(i, p).first() } else { 0.0 };
                *to.add(i / mr * sliver + p * mr + i % mr) = value;
            }
        }
    }
}

impl View {
    /// The first element.
    ///
    /// # Safety
    /// There is one.
    unsafe fn first(&self) -> f32 {
        // SAFETY: the caller's promise.
        unsafe {
            match self.ptr {
                Ptr::F32(p) => *p,
                Ptr::F16(p) => (*p).widen(),
            }
        }
    }
}

/// Packs a panel of the right operand: `len` rows of `cols` elements, each padded with zeros to
/// `width`.
///
/// # Safety
/// `from` holds `len` x `cols` elements, `to` has room for `len * width`.
pub(super) unsafe fn panel(
    level: Level,
    from: View,
    len: usize,
    cols: usize,
    width: usize,
    to: *mut f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        if from.cs == 1 {
            return runs(level, from, len, cols, to, width);
        }
        if from.rs == 1 {
            transpose(level, from, len, cols, width, to);
        } else {
            gather(from, len, cols, to, width);
        }
        if cols < width {
            for p in 0..len {
                std::slice::from_raw_parts_mut(to.add(p * width + cols), width - cols).fill(0.0);
            }
        }
    }
}

/// Copies `len` x `cols` elements, whose columns are contiguous, to rows `width` apart: in squares of 8 where
/// possible.
///
/// # Safety
/// `from` holds the elements with row stride 1; `to` has room for them.
pub(super) unsafe fn transpose(
    level: Level,
    from: View,
    len: usize,
    cols: usize,
    width: usize,
    to: *mut f32,
) {
    // SAFETY: the caller's promise.
    let (done_rows, done_cols) = unsafe { vectors::squares(level, from, len, cols, to, width) };
    // SAFETY: the remaining columns, then the remaining rows of the others.
    unsafe {
        gather(from.at(0, done_cols), len, cols - done_cols, to.add(done_cols), width);
        let below = to.add(done_rows * width);
        gather(from.at(done_rows, 0), len - done_rows, done_cols, below, width);
    }
}

#[cfg(target_arch = "x86_64")]
mod vectors {
    use super::{Level, Ptr, View};
    use crate::gemm::kernel::prefetch;
    use half::f16;
    use std::arch::x86_64::*;

    /// Columns by which prefetching leads.
    const AHEAD: usize = 12;

    /// See [`super::runs`]; `false` if left to the caller.
    ///
    /// # Safety
    /// As there.
    pub(super) unsafe fn runs(
        level: Level,
        from: View,
        rows: usize,
        cols: usize,
        to: *mut f32,
        stride: usize,
    ) -> bool {
        // SAFETY: the levels are available; the caller's promise.
        unsafe {
            match level {
                Level::Avx512 => runs_avx512(from, rows, cols, to, stride),
                Level::Avx2 => runs_avx2(from, rows, cols, to, stride),
                _ => return false,
            }
        }
        true
    }

    /// Distributes `len` contiguous columns over slivers of `mr` rows; returns how many were.
    ///
    /// # Safety
    /// Of each column, rows up to the last sliver's end, rounded up to whole vectors, may be read;
    /// `to` has room for the slivers with a surplus.
    pub(super) unsafe fn columns(
        level: Level,
        from: View,
        slivers: usize,
        mr: usize,
        len: usize,
        to: *mut f32,
        sliver: usize,
    ) -> usize {
        // SAFETY: the levels are available; the caller's promise.
        unsafe {
            match (level, mr) {
                (Level::Avx512 | Level::Avx2, 6) => distribute::<6>(from, slivers, len, to, sliver),
                (Level::Avx512 | Level::Avx2, 12) => {
                    distribute::<12>(from, slivers, len, to, sliver);
                }
                _ => return 0,
            }
        }
        len
    }

    /// Transposes as many squares of 8 as there are; returns the extents that they cover.
    ///
    /// # Safety
    /// As for [`super::transpose`].
    pub(super) unsafe fn squares(
        level: Level,
        from: View,
        len: usize,
        cols: usize,
        to: *mut f32,
        width: usize,
    ) -> (usize, usize) {
        if level == Level::Portable {
            return (0, 0);
        }
        let (rows, cols) = (len / 8 * 8, cols / 8 * 8);
        for j in (0..cols).step_by(8) {
            for p in (0..rows).step_by(8) {
                // SAFETY: whole squares lie within both extents; AVX2 is available.
                unsafe {
                    let to = to.add(p * width + j);
                    match from.at(p, j).ptr {
                        Ptr::F32(q) => square_f32(q, from.cs, to, width),
                        Ptr::F16(q) => square_f16(q, from.cs, to, width),
                    }
                }
            }
        }
        (rows, cols)
    }

    /// Defines the copy of [`runs`] for one instruction set: vectors of $lanes elements of either type, and the last
    /// $n of a row at $p.
    macro_rules! runs {
        (
            $features:literal $name:ident, lanes: $lanes:literal, zero: $zero:expr, store: $store:path,
            load: $load:path, load_half: $load_half:expr,
            last: |$p:ident, $n:ident| $last:expr, last_half: |$q:ident, $m:ident| $last_half:expr
        ) => {
            #[target_feature(enable = $features)]
            unsafe fn $name(from: View, rows: usize, cols: usize, to: *mut f32, stride: usize) {
                let (whole, rest) = (cols / $lanes * $lanes, cols % $lanes);
                let width = cols.next_multiple_of($lanes);
                // SAFETY: reads stay within the row; a store's surplus is overwritten by the next row or
                // falls into the room that the caller leaves.
                unsafe {
                    for r in 0..rows {
                        let to = to.add(r * stride);
                        match from.ptr {
                            Ptr::F32(p) => {
                                let p = p.add(r * from.rs);
                                for i in (0..whole).step_by($lanes) {
                                    $store(to.add(i), $load(p.add(i)));
                                }
                                if rest > 0 {
                                    let ($p, $n) = (p.add(whole), rest);
                                    $store(to.add(whole), $last);
                                }
                            }
                            Ptr::F16(p) => {
                                let p = p.add(r * from.rs);
                                for i in (0..whole).step_by($lanes) {
                                    $store(to.add(i), $load_half(p.add(i)));
                                }
                                if rest > 0 {
                                    let ($q, $m) = (p.add(whole), rest);
                                    $store(to.add(whole), $last_half);
                                }
                            }
                        }
                        for i in (width..stride).step_by($lanes) {
                            $store(to.add(i), $zero);
                        }
                    }
                }
            }
        };
    }

    runs! {
        "avx2,f16c" runs_avx2, lanes: 8, zero: _mm256_setzero_ps(), store: _mm256_storeu_ps,
        load: _mm256_loadu_ps, load_half: |p: *const f16| _mm256_cvtph_ps(_mm_loadu_si128(p.cast())),
        last: |p, n| {
            let numbers = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            _mm256_maskload_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), numbers))
        },
        last_half: |p, n| {
            // There is no masked load of 16-bit elements.
            let mut last = [f16::ZERO; 8];
            for (i, to) in last[..n].iter_mut().enumerate() {
                *to = *p.add(i);
            }
            _mm256_cvtph_ps(_mm_loadu_si128(last.as_ptr().cast()))
        }
    }

    runs! {
        "avx512f,avx512vl,avx512bw,f16c" runs_avx512, lanes: 16, zero: _mm512_setzero_ps(),
        store: _mm512_storeu_ps, load: _mm512_loadu_ps,
        load_half: |p: *const f16| _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())),
        last: |p, n| _mm512_maskz_loadu_ps(((1u32 << n) - 1) as u16, p),
        last_half: |p, n| {
            _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(((1u32 << n) - 1) as u16, p.cast()))
        }
    }

    /// Distributes `len` contiguous columns over slivers of `MR` rows, 8 elements at a time.
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn distribute<const MR: usize>(
        from: View,
        slivers: usize,
        len: usize,
        to: *mut f32,
        sliver: usize,
    ) {
        macro_rules! each {
            ($p:ident, $line:literal, $load:expr) => {
                for k in 0..len {
                    let (column, to) = ($p.add(k * from.cs), to.add(k * MR));
                    // Columns lie too far apart for the machine to foresee.
                    let ahead = $p.wrapping_add((k + AHEAD) * from.cs);
                    for i in (0..slivers * MR).step_by($line) {
                        prefetch(ahead.wrapping_add(i));
                    }
                    for s in 0..slivers {
                        for i in (0..MR).step_by(8) {
                            _mm256_storeu_ps(to.add(s * sliver + i), $load(column.add(s * MR + i)));
                        }
                    }
                }
            };
        }
        // SAFETY: the caller leaves room for whole vectors on both sides. Within a sliver, steps
        // are written in order, so that a surplus is overwritten.
        unsafe {
            match from.ptr {
                Ptr::F32(p) => each!(p, 16, |q: *const f32| _mm256_loadu_ps(q)),
                Ptr::F16(p) => {
                    each!(p, 32, |q: *const f16| { _mm256_cvtph_ps(_mm_loadu_si128(q.cast())) })
                }
            }
        }
    }

    /// Transposes 8 runs of 8 elements, `stride` apart, into rows `width` apart.
    #[target_feature(enable = "avx2")]
    unsafe fn square_f32(from: *const f32, stride: usize, to: *mut f32, width: usize) {
        // SAFETY: the caller's squares lie within both matrices.
        unsafe {
            // Rows i and i + 4 side by side, so that no 128-bit exchange follows.
            let half = |i: usize, p: usize| {
                let low = _mm_loadu_ps(from.add(i * stride + p));
                let high = _mm_loadu_ps(from.add((i + 4) * stride + p));
                _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(low), high)
            };
            for p in [0, 4] {
                let rows = [half(0, p), half(1, p), half(2, p), half(3, p)];
                store_quads(rows, to.add(p * width), width);
            }
        }
    }

    /// As [`square_f32`], converting.
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn square_f16(from: *const f16, stride: usize, to: *mut f32, width: usize) {
        // SAFETY: the caller's squares lie within both matrices.
        unsafe {
            let half = |i: usize, p: usize| {
                let low = _mm_loadl_epi64(from.add(i * stride + p).cast());
                let high = _mm_loadl_epi64(from.add((i + 4) * stride + p).cast());
                _mm256_cvtph_ps(_mm_unpacklo_epi64(low, high))
            };
            for p in [0, 4] {
                let rows = [half(0, p), half(1, p), half(2, p), half(3, p)];
                store_quads(rows, to.add(p * width), width);
            }
        }
    }

    /// Transposes the 4 x 4 squares in both halves of 4 vectors.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn store_quads(rows: [__m256; 4], to: *mut f32, width: usize) {
        let [a, b, c, d] = rows;
        let (ab_low, ab_high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        let (cd_low, cd_high) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
        // SAFETY: the caller has room for 4 rows of 8.
        unsafe {
            _mm256_storeu_ps(to, _mm256_shuffle_ps::<0x44>(ab_low, cd_low));
            _mm256_storeu_ps(to.add(width), _mm256_shuffle_ps::<0xee>(ab_low, cd_low));
            _mm256_storeu_ps(to.add(2 * width), _mm256_shuffle_ps::<0x44>(ab_high, cd_high));
            _mm256_storeu_ps(to.add(3 * width), _mm256_shuffle_ps::<0xee>(ab_high, cd_high));
        }
    }
}

/// The same in NEON.
#[cfg(target_arch = "aarch64")]
mod vectors {
    use super::{Level, Ptr, View};
    use crate::simd::neon::load_half;
    use std::arch::aarch64::*;

    /// Runs are copied and widened by the caller as well as here.
    pub(super) unsafe fn runs(
        _: Level,
        _: View,
        _: usize,
        _: usize,
        _: *mut f32,
        _: usize,
    ) -> bool {
        false
    }

    /// 4 elements of a view, widened.
    #[inline(always)]
    unsafe fn load(from: View, at: usize) -> float32x4_t {
        // SAFETY: the caller may read 4 elements from `at` on.
        unsafe {
            match from.ptr {
                Ptr::F32(p) => vld1q_f32(p.add(at)),
                Ptr::F16(p) => load_half(p.add(at)),
            }
        }
    }

    /// See the version for x86-64.
    pub(super) unsafe fn columns(
        level: Level,
        from: View,
        slivers: usize,
        mr: usize,
        len: usize,
        to: *mut f32,
        sliver: usize,
    ) -> usize {
        if level == Level::Portable {
            return 0;
        }
        for k in 0..len {
            for s in 0..slivers {
                for i in (0..mr).step_by(4) {
                    // SAFETY: the caller leaves room for whole vectors on both sides. Within a
                    // sliver, steps are written in order, so that a surplus is overwritten.
                    unsafe {
                        let v = load(from, k * from.cs + s * mr + i);
                        vst1q_f32(to.add(s * sliver + k * mr + i), v);
                    }
                }
            }
        }
        len
    }

    /// See the version for x86-64; squares of 4.
    pub(super) unsafe fn squares(
        level: Level,
        from: View,
        len: usize,
        cols: usize,
        to: *mut f32,
        width: usize,
    ) -> (usize, usize) {
        if level == Level::Portable {
            return (0, 0);
        }
        let (rows, cols) = (len / 4 * 4, cols / 4 * 4);
        for j in (0..cols).step_by(4) {
            for p in (0..rows).step_by(4) {
                // SAFETY: whole squares lie within both matrices.
                unsafe {
                    let column = |i: usize| load(from, (j + i) * from.cs + p);
                    store_transposed([0, 1, 2, 3].map(column), to.add(p * width + j), width);
                }
            }
        }
        (rows, cols)
    }

    /// Stores the transpose of a square of 4.
    #[inline(always)]
    unsafe fn store_transposed([a, b, c, d]: [float32x4_t; 4], to: *mut f32, width: usize) {
        // SAFETY: the caller has room for 4 rows of 4.
        unsafe {
            let pairs = |x, y| (vreinterpretq_f64_f32(x), vreinterpretq_f64_f32(y));
            let (ab_even, cd_even) = pairs(vtrn1q_f32(a, b), vtrn1q_f32(c, d));
            let (ab_odd, cd_odd) = pairs(vtrn2q_f32(a, b), vtrn2q_f32(c, d));
            vst1q_f32(to, vreinterpretq_f32_f64(vtrn1q_f64(ab_even, cd_even)));
            vst1q_f32(to.add(width), vreinterpretq_f32_f64(vtrn1q_f64(ab_odd, cd_odd)));
            vst1q_f32(to.add(2 * width), vreinterpretq_f32_f64(vtrn2q_f64(ab_even, cd_even)));
            vst1q_f32(to.add(3 * width), vreinterpretq_f32_f64(vtrn2q_f64(ab_odd, cd_odd)));
        }
    }
}

/// The same for machines without intrinsics here: everything is left to the caller.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod vectors {
    use super::{Level, View};

    pub(super) unsafe fn runs(
        _: Level,
        _: View,
        _: usize,
        _: usize,
        _: *mut f32,
        _: usize,
    ) -> bool {
        false
    }

    pub(super) unsafe fn columns(
        _: Level,
        _: View,
        _: usize,
        _: usize,
        _: usize,
        _: *mut f32,
        _: usize,
    ) -> usize {
        0
    }

    pub(super) unsafe fn squares(
        _: Level,
        _: View,
        _: usize,
        _: usize,
        _: *mut f32,
        _: usize,
    ) -> (usize, usize) {
        (0, 0)
    }
}
