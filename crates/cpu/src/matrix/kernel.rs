//! Kernels: a panel of floating-point weights times a few columns, for each instruction set and format.

use super::{PANEL, Source};
use crate::simd::Level;
use half::f16;

/// `sums [MR, 32] (+)= x [MR, k] · panel [k, 32]`: arguments `k, panel, x, [distance between
/// columns, between rows], sums, first`. Unless `first`, the chains of `sums` go on.
type Kernel<T> = unsafe fn(usize, *const T, *const f32, [usize; 2], *mut f32, bool);

/// Weights of a row that one turn of a loop takes.
const UNROLLED: usize = 4;

/// The kernels of one instruction set for one number of columns.
#[derive(Clone, Copy)]
struct Set {
    tokens: usize,
    f32: Kernel<f32>,
    /// For columns side by side: the strides are 1 and `tokens`.
    packed: Kernel<f32>,
    f16: Kernel<f16>,
}

/// The kernels of one instruction set, those for the most columns first.
#[derive(Clone, Copy)]
pub(super) struct Kernels(&'static [Set]);

impl Kernels {
    /// `level` must be available on this machine.
    pub(super) fn new(level: Level) -> Self {
        Kernels(match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => avx512::SETS,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => avx2::SETS,
            #[cfg(target_arch = "aarch64")]
            Level::Neon => neon::SETS,
            _ => portable::SETS,
        })
    }

    fn set(&self, most: usize) -> &'static Set {
        let fits = self.0.iter().find(|set| set.tokens <= most);
        fits.expect("the last is for one column")
    }

    /// The number of columns, of `count`, that are taken at once.
    pub(super) fn tokens(&self, count: usize) -> usize {
        self.set(count).tokens
    }

    /// Runs the kernel for `tokens` columns that lie side by side: element (k, t) at k·tokens + t of `x`.
    ///
    /// # Safety
    /// As for [`Kernels::run`], with widened weights.
    pub(super) unsafe fn run_packed(
        &self,
        tokens: usize,
        weights: *const f32,
        k: usize,
        x: *const f32,
        sums: *mut f32,
        first: bool,
    ) {
        // SAFETY: the caller's promise; the level was available when the table was chosen.
        unsafe { (self.set(tokens).packed)(k, weights, x, [1, tokens], sums, first) };
    }

    /// Runs the kernel for `tokens` columns.
    ///
    /// # Safety
    /// `source` points to `k` weights of each of 32 rows; `x` to the columns, with these strides; `sums`
    /// has room for them.
    #[allow(clippy::too_many_arguments, reason = "three matrices with their strides")]
    pub(super) unsafe fn run(
        &self,
        tokens: usize,
        source: Source,
        k: usize,
        x: *const f32,
        strides: [usize; 2],
        sums: *mut f32,
        first: bool,
    ) {
        let set = self.set(tokens);
        // SAFETY: the caller's promise; the level was available when the table was chosen.
        unsafe {
            match source {
                Source::F32(p) => (set.f32)(k, p, x, strides, sums, first),
                Source::F16(p) => (set.f16)(k, p, x, strides, sums, first),
            }
        }
    }
}

macro_rules! kernels {
    (
        $(#[$attribute:meta])* lanes: $lanes:literal, tokens: [$($tokens:literal),*],
        zero: $zero:expr, load: $load:path, load_half: $load_half:expr,
        store: $store:path, splat: $splat:path, fma: $fma:path
    ) => {
        const LANES: usize = $lanes;
        /// Vectors of a row of a panel.
        const NV: usize = PANEL / LANES;

        pub(super) static SETS: &[Set] = &[
            $(Set {
                tokens: $tokens,
                f32: f32_kernel::<$tokens, false>,
                packed: f32_kernel::<$tokens, true>,
                f16: f16_kernel::<$tokens, false>,
            }),*
        ];

        kernels!(@of $(#[$attribute])* f32_kernel, f32, $load, $zero, $load, $store, $splat, $fma);
        kernels!(@of $(#[$attribute])* f16_kernel, f16, $load_half, $zero, $load, $store, $splat, $fma);
    };
    (
        @of $(#[$attribute:meta])* $name:ident, $type:ty, $load_weight:expr, $zero:expr,
        $load:path, $store:path, $splat:path, $fma:path
    ) => {
        $(#[$attribute])*
        unsafe fn $name<const MR: usize, const PACKED: bool>(
            k: usize,
            panel: *const $type,
            x: *const f32,
            [column, row]: [usize; 2],
            sums: *mut f32,
            first: bool,
        ) {
            // SAFETY: the caller passes pointers to matrices of the stated extents.
            unsafe {
                let (column, row) = if PACKED { (1, MR) } else { (column, row) };
                let add_products = |acc: &mut [[_; NV]; MR], panel: *const $type, x: *const f32| {
                    let mut weights = [$zero; NV];
                    for v in 0..NV {
                        weights[v] = $load_weight(panel.add(v * LANES));
                    }
                    for r in 0..MR {
                        let factor = $splat(*x.add(r * column));
                        for v in 0..NV {
                            acc[r][v] = $fma(factor, weights[v], acc[r][v]);
                        }
                    }
                };
                let (mut panel, mut x) = (panel, x);
                let mut acc = [[$zero; NV]; MR];
                if !first {
                    for r in 0..MR {
                        for v in 0..NV {
                            acc[r][v] = $load(sums.add(r * PANEL + v * LANES));
                        }
                    }
                }
                for _ in 0..k / UNROLLED {
                    for u in 0..UNROLLED {
                        add_products(&mut acc, panel.add(u * PANEL), x.add(u * row));
                    }
                    panel = panel.add(UNROLLED * PANEL);
                    // Past the last row nothing is read.
                    x = x.wrapping_add(UNROLLED * row);
                }
                for u in 0..k % UNROLLED {
                    add_products(&mut acc, panel.add(u * PANEL), x.add(u * row));
                }
                for r in 0..MR {
                    for v in 0..NV {
                        $store(sums.add(r * PANEL + v * LANES), acc[r][v]);
                    }
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
#[allow(clippy::needless_range_loop, reason = "indices name registers")]
mod avx512 {
    use super::{PANEL, Set, UNROLLED, f16};
    use std::arch::x86_64::*;

    kernels! {
        #[target_feature(enable = "avx512f,avx512vl,avx2,fma,f16c")]
        lanes: 16, tokens: [12, 8, 4, 2, 1], zero: _mm512_setzero_ps(), load: _mm512_loadu_ps,
        load_half: |p: *const f16| _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())),
        store: _mm512_storeu_ps, splat: _mm512_set1_ps, fma: _mm512_fmadd_ps
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(clippy::needless_range_loop, reason = "indices name registers")]
mod avx2 {
    use super::{PANEL, Set, UNROLLED, f16};
    use std::arch::x86_64::*;

    kernels! {
        #[target_feature(enable = "avx2,fma,f16c")]
        lanes: 8, tokens: [2, 1], zero: _mm256_setzero_ps(), load: _mm256_loadu_ps,
        load_half: |p: *const f16| _mm256_cvtph_ps(_mm_loadu_si128(p.cast())),
        store: _mm256_storeu_ps, splat: _mm256_set1_ps, fma: _mm256_fmadd_ps
    }
}

#[cfg(target_arch = "aarch64")]
#[allow(clippy::needless_range_loop, reason = "indices name registers")]
mod neon {
    use super::{PANEL, Set, UNROLLED, f16};
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

    kernels! {
        lanes: 4, tokens: [2, 1], zero: splat(0.0), load: vld1q_f32,
        load_half: |p: *const f16| load_half(p),
        store: vst1q_f32, splat: splat, fma: fma
    }
}

#[allow(clippy::needless_range_loop, reason = "indices name registers")]
mod portable {
    use super::{PANEL, Set, UNROLLED, f16};
    use crate::simd::{BASELINE_FUSED, madd, widen_bits};

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
        unsafe { p.cast::<[f16; 4]>().read_unaligned() }.map(|x| widen_bits(x.to_bits()))
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

    kernels! {
        lanes: 4, tokens: [1], zero: [0.0f32; 4], load: load, load_half: load_half,
        store: store, splat: splat, fma: fma
    }
}
