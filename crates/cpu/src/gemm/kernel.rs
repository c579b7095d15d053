//! Micro-kernels: one register tile of a product over one block, and the two streaming loops of
//! matrix-vector products, for each instruction set.

use crate::simd::{Level, widen_bits};
use half::f16;

/// `c [MR, NV vectors] (+)= a [MR, k] b [k, NV vectors]`: arguments `k, a, a_rs, b, b_rs, c, c_rs,
/// add`. `a_rs` is the distance between rows of `a`, or ignored where rows are interleaved.
pub(super) type Micro =
    unsafe fn(usize, *const f32, usize, *const f32, usize, *mut f32, usize, bool);
/// A matrix times a vector, the matrix in `k`-long or `len`-long contiguous runs `stride` apart:
/// `y[i] = sum over p of x[p] * (matrix[i * stride + p], or matrix[p * stride + i])`; arguments `k,
/// matrix, stride, x, y, len`.
pub(super) type Streaming<T> = unsafe fn(usize, *const T, usize, *const f32, *mut f32, usize);

/// The most elements of a register tile of any kernel.
pub(super) const MAX_TILE: usize = 12 * 64;

/// Steps of the inner dimension that one turn of the micro-kernel's loop takes.
const UNROLLED: usize = 4;
/// Elements by which prefetching leads in a stream.
const AHEAD: usize = 512;

macro_rules! kernels {
    (
        $(#[$attribute:meta])* lanes: $lanes:literal, zero: $zero:expr, load: $load:path,
        load_half: $load_half:expr, store: $store:path, splat: $splat:path, fma: $fma:path,
        add: $add:path
    ) => {
        pub(super) const LANES: usize = $lanes;

        $(#[$attribute])*
        #[allow(clippy::too_many_arguments, reason = "three matrices with their strides")]
        pub(super) unsafe fn micro<const MR: usize, const NV: usize, const INTERLEAVED: bool>(
            k: usize,
            a: *const f32,
            a_rs: usize,
            b: *const f32,
            b_rs: usize,
            c: *mut f32,
            c_rs: usize,
            add: bool,
        ) {
            // SAFETY: the caller passes pointers to matrices of the stated extents.
            unsafe {
                let mut sums = [[$zero; NV]; MR];
                let (mut a, mut b) = (a, b);
                // The result comes from memory while the sums grow.
                for r in 0..MR {
                    for v in 0..NV {
                        prefetch(c.wrapping_add(r * c_rs + v * LANES));
                    }
                }
                let add_products = |sums: &mut [[_; NV]; MR], a: *const f32, b: *const f32| {
                    let mut right = [$zero; NV];
                    for v in 0..NV {
                        right[v] = $load(b.add(v * LANES));
                    }
                    for r in 0..MR {
                        let left = $splat(*a.add(if INTERLEAVED { r } else { r * a_rs }));
                        for v in 0..NV {
                            sums[r][v] = $fma(left, right[v], sums[r][v]);
                        }
                    }
                };
                let next = if INTERLEAVED { MR } else { 1 };
                // Four at a time: the loop's own instructions cost time where two threads share a core.
                for _ in 0..k / UNROLLED {
                    for u in 0..UNROLLED {
                        add_products(&mut sums, a.add(u * next), b.add(u * b_rs));
                    }
                    a = a.add(UNROLLED * next);
                    b = b.add(UNROLLED * b_rs);
                }
                for u in 0..k % UNROLLED {
                    add_products(&mut sums, a.add(u * next), b.add(u * b_rs));
                }
                for r in 0..MR {
                    for v in 0..NV {
                        let to = c.add(r * c_rs + v * LANES);
                        $store(to, if add { $add($load(to), sums[r][v]) } else { sums[r][v] });
                    }
                }
            }
        }

        kernels!(@dot $(#[$attribute])* dot_f32, f32, $load, |x: f32| x, $zero, $load, $store, $fma, $add);
        kernels!(@dot $(#[$attribute])* dot_f16, f16, $load_half, widen_one, $zero, $load, $store, $fma, $add);
        kernels!(@columns $(#[$attribute])* columns_f32, f32, $load, |x: f32| x, $load, $store, $splat, $fma);
        kernels!(@columns $(#[$attribute])* columns_f16, f16, $load_half, widen_one, $load, $store, $splat, $fma);
    };
    (
        @dot $(#[$attribute:meta])* $name:ident, $type:ty, $load_matrix:expr, $widen:expr,
        $zero:expr, $load:path, $store:path, $fma:path, $add:path
    ) => {
        $(#[$attribute])*
        pub(super) unsafe fn $name(
            k: usize,
            matrix: *const $type,
            rs: usize,
            x: *const f32,
            y: *mut f32,
            len: usize,
        ) {
            // SAFETY: the caller passes `len` runs and a vector of `k` elements, `len` results.
            unsafe {
                for r in 0..len {
                    // One run at a time: a single sequential stream is what memory serves fastest.
                    let row = matrix.add(r * rs);
                    let mut sums = [$zero; 4];
                    let mut p = 0;
                    while p + 4 * LANES <= k {
                        for v in 0..4 {
                            let left = $load_matrix(row.add(p + v * LANES));
                            prefetch(row.wrapping_add(p + v * LANES + AHEAD));
                            sums[v] = $fma(left, $load(x.add(p + v * LANES)), sums[v]);
                        }
                        p += 4 * LANES;
                    }
                    let mut lanes = [0.0f32; LANES];
                    let [s0, s1, s2, s3] = sums;
                    $store(lanes.as_mut_ptr(), $add($add(s0, s1), $add(s2, s3)));
                    let mut width = LANES / 2;
                    while width > 0 {
                        for i in 0..width {
                            lanes[i] += lanes[i + width];
                        }
                        width /= 2;
                    }
                    let mut rest = 0.0f32;
                    for q in p..k {
                        rest += $widen(*row.add(q)) * *x.add(q);
                    }
                    *y.add(r) = lanes[0] + rest;
                }
            }
        }
    };
    (
        @columns $(#[$attribute:meta])* $name:ident, $type:ty, $load_matrix:expr, $widen:expr,
        $load:path, $store:path, $splat:path, $fma:path
    ) => {
        $(#[$attribute])*
        pub(super) unsafe fn $name(
            k: usize,
            matrix: *const $type,
            cs: usize,
            x: *const f32,
            y: *mut f32,
            len: usize,
        ) {
            // SAFETY: the caller passes `k` runs of `len` elements, `k` factors, `len` results.
            unsafe {
                std::slice::from_raw_parts_mut(y, len).fill(0.0);
                let whole = len / LANES * LANES;
                let mut p = 0;
                while p + 4 <= k {
                    let factors = [0, 1, 2, 3].map(|q| *x.add(p + q));
                    let runs = [0, 1, 2, 3].map(|q| matrix.add((p + q) * cs));
                    let mut j = 0;
                    while j < whole {
                        let mut sum = $load(y.add(j));
                        for q in 0..4 {
                            sum = $fma($splat(factors[q]), $load_matrix(runs[q].add(j)), sum);
                        }
                        $store(y.add(j), sum);
                        j += LANES;
                    }
                    for j in whole..len {
                        for q in 0..4 {
                            *y.add(j) += factors[q] * $widen(*runs[q].add(j));
                        }
                    }
                    p += 4;
                }
                for p in p..k {
                    let (factor, run) = (*x.add(p), matrix.add(p * cs));
                    for j in 0..len {
                        *y.add(j) += factor * $widen(*run.add(j));
                    }
                }
            }
        }
    };
}

/// Asks for the cache line of an address, which need not be valid.
#[inline(always)]
pub(super) fn prefetch<T>(p: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch has no effect that a program can see; SSE is part of x86-64.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(p.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

#[inline(always)]
fn widen_one(x: f16) -> f32 {
    widen_bits(x.to_bits())
}

#[cfg(target_arch = "x86_64")]
#[allow(clippy::needless_range_loop, reason = "indices name registers")]
mod avx512 {
    use super::{AHEAD, UNROLLED, f16, prefetch, widen_one};
    use std::arch::x86_64::*;

    kernels! {
        #[target_feature(enable = "avx512f,avx512vl,avx2,fma,f16c")]
        lanes: 16, zero: _mm512_setzero_ps(), load: _mm512_loadu_ps,
        load_half: |p: *const f16| _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())),
        store: _mm512_storeu_ps, splat: _mm512_set1_ps, fma: _mm512_fmadd_ps, add: _mm512_add_ps
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(clippy::needless_range_loop, reason = "indices name registers")]
mod avx2 {
    use super::{AHEAD, UNROLLED, f16, prefetch, widen_one};
    use std::arch::x86_64::*;

    kernels! {
        #[target_feature(enable = "avx2,fma,f16c")]
        lanes: 8, zero: _mm256_setzero_ps(), load: _mm256_loadu_ps,
        load_half: |p: *const f16| _mm256_cvtph_ps(_mm_loadu_si128(p.cast())),
        store: _mm256_storeu_ps, splat: _mm256_set1_ps, fma: _mm256_fmadd_ps, add: _mm256_add_ps
    }
}

#[cfg(target_arch = "aarch64")]
#[allow(clippy::needless_range_loop, reason = "indices name registers")]
mod neon {
    use super::{AHEAD, UNROLLED, f16, prefetch, widen_one};
    use crate::simd::neon::load_half;
    use std::arch::aarch64::*;

    #[inline(always)]
    fn splat(x: f32) -> float32x4_t {
        // SAFETY: NEON is part of the target.
        unsafe { vdupq_n_f32(x) }
    }

    #[inline(always)]
    fn fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: NEON is part of the target.
        unsafe { vfmaq_f32(c, a, b) }
    }

    #[inline(always)]
    fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: NEON is part of the target.
        unsafe { vaddq_f32(a, b) }
    }

    kernels! {
        lanes: 4, zero: splat(0.0), load: vld1q_f32, load_half: |p: *const f16| load_half(p),
        store: vst1q_f32, splat: splat, fma: fma, add: add
    }
}

#[allow(clippy::needless_range_loop, reason = "indices name registers")]
mod portable {
    use super::{AHEAD, UNROLLED, f16, prefetch, widen_one};
    use crate::simd::{BASELINE_FUSED, madd};

    /// A vector that the compiler keeps in one 128-bit register.
    type Vector = [f32; 4];

    #[inline(always)]
    unsafe fn load(p: *const f32) -> Vector {
        // SAFETY: the caller may read 4 elements.
        unsafe { p.cast::<Vector>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn load_half(p: *const f16) -> Vector {
        // SAFETY: the caller may read 4 elements.
        unsafe { p.cast::<[f16; 4]>().read_unaligned() }.map(widen_one)
    }

    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Vector) {
        // SAFETY: the caller may write 4 elements.
        unsafe { p.cast::<Vector>().write_unaligned(v) }
    }

    #[inline(always)]
    fn splat(x: f32) -> Vector {
        [x; 4]
    }

    #[inline(always)]
    fn fma(a: Vector, b: Vector, c: Vector) -> Vector {
        std::array::from_fn(|i| madd::<BASELINE_FUSED>(a[i], b[i], c[i]))
    }

    #[inline(always)]
    fn add(a: Vector, b: Vector) -> Vector {
        std::array::from_fn(|i| a[i] + b[i])
    }

    kernels! {
        lanes: 4, zero: [0.0f32; 4], load: load, load_half: load_half, store: store, splat: splat,
        fma: fma, add: add
    }
}

/// The kernels of one instruction set, with the register tile that suits the columns at hand.
#[derive(Clone, Copy)]
pub(super) struct Kernels {
    /// Rows of the register tile.
    pub(super) mr: usize,
    /// Columns of the widest register tile.
    pub(super) nr: usize,
    /// Elements of a vector.
    pub(super) lanes: usize,
    /// Kernels for 1, 2, ... vectors of columns: rows apart, rows interleaved.
    table: &'static [[Micro; 2]],
}

macro_rules! table {
    ($set:ident, $mr:literal, $($vectors:literal)*) => {
        &[$([$set::micro::<$mr, $vectors, false> as Micro, $set::micro::<$mr, $vectors, true>]),*]
    };
}

impl Kernels {
    /// The kernels for a result of `n` columns. `level` must be available on this machine.
    pub(super) fn new(level: Level, n: usize) -> Self {
        let (lanes, mr, table): (_, _, &'static [[Micro; 2]]) = match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 if n <= 16 => (avx512::LANES, 12, table!(avx512, 12, 1)),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 if n <= 32 => (avx512::LANES, 12, table!(avx512, 12, 1 2)),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => (avx512::LANES, 6, table!(avx512, 6, 1 2 3 4)),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 if n <= 8 => (avx2::LANES, 12, table!(avx2, 12, 1)),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => (avx2::LANES, 6, table!(avx2, 6, 1 2)),
            // 24 sums, 4 vectors of the right operand and a splat fill the 32 registers.
            #[cfg(target_arch = "aarch64")]
            Level::Neon if n <= 8 => (neon::LANES, 12, table!(neon, 12, 1 2)),
            #[cfg(target_arch = "aarch64")]
            Level::Neon => (neon::LANES, 6, table!(neon, 6, 1 2 3 4)),
            _ if n <= 8 => (portable::LANES, 6, table!(portable, 6, 1 2)),
            _ => (portable::LANES, 6, table!(portable, 6, 1 2 3 4)),
        };
        Self { mr, nr: lanes * table.len(), lanes, table }
    }

    /// The kernel for `vectors` vectors of columns.
    pub(super) fn micro(&self, interleaved: bool, vectors: usize) -> Micro {
        self.table[vectors - 1][usize::from(interleaved)]
    }
}

/// An element type of operands, with its streaming loops.
pub(super) trait Element: Copy {
    /// Exact conversion.
    fn widen(self) -> f32;
    /// The product with runs of the inner dimension.
    fn dot(level: Level) -> Streaming<Self>;
    /// The product with runs of results.
    fn columns(level: Level) -> Streaming<Self>;
}

macro_rules! element {
    ($type:ty, $widen:expr, $dot:ident, $columns:ident) => {
        impl Element for $type {
            #[inline(always)]
            fn widen(self) -> f32 {
                $widen(self)
            }

            fn dot(level: Level) -> Streaming<Self> {
                match level {
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx512 => avx512::$dot,
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx2 => avx2::$dot,
                    #[cfg(target_arch = "aarch64")]
                    Level::Neon => neon::$dot,
                    _ => portable::$dot,
                }
            }

            fn columns(level: Level) -> Streaming<Self> {
                match level {
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx512 => avx512::$columns,
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx2 => avx2::$columns,
                    #[cfg(target_arch = "aarch64")]
                    Level::Neon => neon::$columns,
                    _ => portable::$columns,
                }
            }
        }
    };
}

element!(f32, |x| x, dot_f32, columns_f32);
element!(f16, widen_one, dot_f16, columns_f16);
