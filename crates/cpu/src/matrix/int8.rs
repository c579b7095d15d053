//! Kernels for int8: columns rounded to codes, and a panel of codes times a few columns, for each instruction set.
//!
//! The sum of a group is at most 32·127² < 2²⁴: f32 holds it exactly. llama.cpp multiplies Q8_0 in this way too.

use super::{GROUP, PANEL};
use crate::simd::{Level, SliceKernel};
use half::f16;

/// Codes of a row that lie side by side, those of one 32-bit lane: element (row, k) of a panel is at
/// (k / 4)·128 + row·4 + k mod 4.
pub(super) const QUAD: usize = 4;

/// 32 consecutive elements of a column, rounded.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct Group {
    pub(super) codes: [i8; GROUP],
    /// What a code of 1 stands for. Not a number where an element is none, or infinite.
    pub(super) scale: f32,
    /// What products with codes of weights that are 128 too large have too much: −128·Σ code.
    offset: i32,
}

/// Adding 1.5·2²³ to a number below 2²² rounds it to an integer, which the lowest bits then are.
const ROUND: f32 = 12_582_912.0;

impl Group {
    /// Rounds `values`; those too small for a normal scale become 0.
    #[inline(always)]
    fn new(values: &[f32; GROUP]) -> Self {
        // Bits of magnitudes are ordered as they are, and those of NaN come last.
        let mut largest = 0;
        values.iter().for_each(|v| largest = largest.max(v.abs().to_bits()));
        let largest = f32::from_bits(largest);
        let scale = if largest < f32::INFINITY { largest / 127.0 } else { f32::NAN };
        let inverse = if scale >= f32::MIN_POSITIVE { 127.0 / largest } else { 0.0 };
        let mut bits = [0; GROUP];
        bits.iter_mut().zip(values).for_each(|(b, v)| *b = (v * inverse + ROUND).to_bits());
        let mut codes = [0; GROUP];
        codes.iter_mut().zip(&bits).for_each(|(code, bits)| *code = *bits as i8);
        // Sums of every eighth, which a vector holds.
        let mut sums = [0i32; 8];
        for bits in bits.as_chunks::<8>().0 {
            let codes = bits.map(|bits| bits.wrapping_sub(ROUND.to_bits()) as i32);
            sums.iter_mut().zip(codes).for_each(|(sum, code)| *sum = sum.wrapping_add(code));
        }
        let sum = sums.iter().fold(0i32, |sum, part| sum.wrapping_add(*part));
        Group { codes, scale, offset: sum.wrapping_mul(-128) }
    }
}

/// to ← groups of one column. The last may have fewer elements, and zeros after them.
pub(super) struct Quantise<'a> {
    pub(super) column: &'a [f32],
    pub(super) to: &'a mut [Group],
}

impl SliceKernel for Quantise<'_> {
    type Output = ();
    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let (whole, rest) = self.column.as_chunks::<GROUP>();
        self.to.iter_mut().zip(whole).for_each(|(to, values)| *to = Group::new(values));
        if let (Some(to), false) = (self.to.get_mut(whole.len()), rest.is_empty()) {
            let mut values = [0.0; GROUP];
            values[..rest.len()].copy_from_slice(rest);
            *to = Group::new(&values);
        }
    }
}

/// `to [MR, 32] = x [MR, groups] · panel`: arguments `groups, codes, scales, x, to, distance between columns
/// of to`.
type Kernel = unsafe fn(usize, *const i8, *const f16, *const Group, *mut f32, usize);

/// The kernels of one instruction set, each for its number of columns, those for the most first.
type Set = &'static [(usize, Kernel)];

/// The kernels of one instruction set.
#[derive(Clone, Copy)]
pub(super) struct Kernels(pub(super) Set);

impl Kernels {
    /// The best that this machine has at `level`.
    pub(super) fn new(level: Level) -> Self {
        let best = Self::of(level).into_iter().find_map(|(has, set)| has.then_some(set));
        Kernels(best.expect("the last needs nothing more"))
    }

    /// Kernels for `level`, the best first, and whether this machine has their instructions.
    pub(super) fn of(level: Level) -> [(bool, Set); 2] {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => {
                let vnni = std::is_x86_feature_detected!("avx512vnni");
                [(vnni, avx512_vnni::KERNELS), (true, avx2::KERNELS)]
            }
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => {
                let vnni = std::is_x86_feature_detected!("avxvnni");
                [(vnni, avx_vnni::KERNELS), (true, avx2::KERNELS)]
            }
            #[cfg(target_arch = "aarch64")]
            Level::Neon => {
                let products = std::arch::is_aarch64_feature_detected!("dotprod");
                [(products, neon_dot::KERNELS), (true, neon::KERNELS)]
            }
            _ => [(false, portable::KERNELS), (true, portable::KERNELS)],
        }
    }

    /// Computes the products of a panel with all columns of `x`, which are `groups` apart.
    ///
    /// # Safety
    /// `codes` and `scales` point to `groups` groups of each of 32 rows; `to` has room for 32 results of every
    /// column, which are `column` apart.
    pub(super) unsafe fn run(
        &self,
        groups: usize,
        (codes, scales): (*const i8, *const f16),
        x: &[Group],
        (to, column): (*mut f32, usize),
    ) {
        let (mut t, count) = (0, x.len() / groups);
        while t < count {
            let fits = self.0.iter().find(|(tokens, _)| *tokens <= count - t);
            let &(tokens, kernel) = fits.expect("the last is for one column");
            let x = &x[t * groups..];
            // SAFETY: the caller's promise; the machine has the instructions, as the table was chosen by them.
            unsafe { kernel(groups, codes, scales, x.as_ptr(), to.add(t * column), column) };
            t += tokens;
        }
    }
}

macro_rules! kernels {
    (
        $(#[$attribute:meta])* lanes: $lanes:literal, tokens: [$($tokens:literal),*],
        start: $start:expr, codes: $codes:expr, quad: $quad:expr, dot: $dot:path, float: $float:path,
        zero: $zero:expr, half: $half:expr, splat: $splat:path, mul: $mul:path, fma: $fma:path, store: $store:path
    ) => {
        const LANES: usize = $lanes;
        /// Vectors of a row of a panel.
        const NV: usize = PANEL / LANES;

        pub(super) static KERNELS: &[(usize, Kernel)] = &[$(($tokens, kernel::<$tokens>)),*];

        $(#[$attribute])*
        unsafe fn kernel<const MR: usize>(
            groups: usize,
            codes: *const i8,
            scales: *const f16,
            x: *const Group,
            to: *mut f32,
            distance: usize,
        ) {
            // SAFETY: the caller passes pointers to matrices of the stated extents.
            unsafe {
                let mut totals = [[$zero; NV]; MR];
                for group in 0..groups {
                    let column = |r: usize| &*x.add(r * groups + group);
                    let mut acc: [_; MR] = std::array::from_fn(|r| [$start(column(r)); NV]);
                    for k in (0..GROUP).step_by(QUAD) {
                        let codes = codes.add((group * GROUP + k) * PANEL);
                        let weights: [_; NV] = std::array::from_fn(|v| $codes(codes.add(v * LANES * QUAD)));
                        for r in 0..MR {
                            let quad = $quad(column(r).codes.as_ptr().add(k));
                            for v in 0..NV {
                                acc[r][v] = $dot(acc[r][v], weights[v], quad);
                            }
                        }
                    }
                    for v in 0..NV {
                        let scale = $half(scales.add(group * PANEL + v * LANES));
                        for r in 0..MR {
                            let scale = $mul(scale, $splat(column(r).scale));
                            totals[r][v] = $fma($float(acc[r][v]), scale, totals[r][v]);
                        }
                    }
                }
                for r in 0..MR {
                    for v in 0..NV {
                        $store(to.add(r * distance + v * LANES), totals[r][v]);
                    }
                }
            }
        }
    };
}

/// `vpdpbusd` multiplies unsigned bytes by signed ones: it takes codes of weights 128 too large, and sums begin
/// with what that adds.
#[cfg(target_arch = "x86_64")]
#[allow(clippy::needless_range_loop, reason = "indices name registers")]
mod avx512_vnni {
    use super::{GROUP, Group, Kernel, PANEL, QUAD, f16};
    use std::arch::x86_64::*;

    kernels! {
        #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512vnni,avx2,fma,f16c")]
        lanes: 16, tokens: [8, 4, 2, 1],
        start: |group: &Group| _mm512_set1_epi32(group.offset),
        codes: |p: *const i8| _mm512_xor_si512(_mm512_loadu_si512(p.cast()), _mm512_set1_epi8(-128)),
        quad: |p: *const i8| _mm512_set1_epi32(p.cast::<i32>().read_unaligned()),
        dot: _mm512_dpbusd_epi32, float: _mm512_cvtepi32_ps,
        zero: _mm512_setzero_ps(), half: |p: *const f16| _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())),
        splat: _mm512_set1_ps, mul: _mm512_mul_ps, fma: _mm512_fmadd_ps, store: _mm512_storeu_ps
    }
}

/// As with AVX-512, on shorter vectors.
#[cfg(target_arch = "x86_64")]
#[allow(clippy::needless_range_loop, reason = "indices name registers")]
mod avx_vnni {
    use super::{GROUP, Group, Kernel, PANEL, QUAD, f16};
    use std::arch::x86_64::*;

    kernels! {
        #[target_feature(enable = "avxvnni,avx2,fma,f16c")]
        lanes: 8, tokens: [3, 2, 1],
        start: |group: &Group| _mm256_set1_epi32(group.offset),
        codes: |p: *const i8| _mm256_xor_si256(_mm256_loadu_si256(p.cast()), _mm256_set1_epi8(-128)),
        quad: |p: *const i8| _mm256_set1_epi32(p.cast::<i32>().read_unaligned()),
        dot: _mm256_dpbusd_avx_epi32, float: _mm256_cvtepi32_ps,
        zero: _mm256_setzero_ps(), half: |p: *const f16| _mm256_cvtph_ps(_mm_loadu_si128(p.cast())),
        splat: _mm256_set1_ps, mul: _mm256_mul_ps, fma: _mm256_fmadd_ps, store: _mm256_storeu_ps
    }
}

/// `vpmaddubsw` too takes unsigned bytes, and adds pairs in 16 bits: it gets magnitudes of the column's codes,
/// whose signs go to the weights'. A pair is at most 2·127² < 2¹⁵.
#[cfg(target_arch = "x86_64")]
#[allow(clippy::needless_range_loop, reason = "indices name registers")]
mod avx2 {
    use super::{GROUP, Group, Kernel, PANEL, QUAD, f16};
    use std::arch::x86_64::*;

    #[inline]
    #[target_feature(enable = "avx2")]
    fn dot(acc: __m256i, weights: __m256i, quad: __m256i) -> __m256i {
        let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(quad), _mm256_sign_epi8(weights, quad));
        _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    }

    kernels! {
        #[target_feature(enable = "avx2,fma,f16c")]
        lanes: 8, tokens: [3, 2, 1],
        start: |_: &Group| _mm256_setzero_si256(), codes: |p: *const i8| _mm256_loadu_si256(p.cast()),
        quad: |p: *const i8| _mm256_set1_epi32(p.cast::<i32>().read_unaligned()),
        dot: dot, float: _mm256_cvtepi32_ps,
        zero: _mm256_setzero_ps(), half: |p: *const f16| _mm256_cvtph_ps(_mm_loadu_si128(p.cast())),
        splat: _mm256_set1_ps, mul: _mm256_mul_ps, fma: _mm256_fmadd_ps, store: _mm256_storeu_ps
    }
}

#[cfg(target_arch = "aarch64")]
#[allow(clippy::needless_range_loop, reason = "indices name registers")]
mod neon_dot {
    use super::{GROUP, Group, Kernel, PANEL, QUAD, f16, neon::fma};
    use crate::simd::neon::load_half;
    use std::arch::{aarch64::*, asm};

    /// Rust's intrinsic for it is not stable yet.
    #[inline]
    #[target_feature(enable = "dotprod")]
    fn dot(mut acc: int32x4_t, weights: int8x16_t, quad: int8x16_t) -> int32x4_t {
        // SAFETY: the function's feature; registers alone are touched.
        unsafe {
            asm!("sdot {:v}.4s, {:v}.16b, {:v}.16b", inout(vreg) acc, in(vreg) weights, in(vreg) quad,
                options(pure, nomem, nostack, preserves_flags));
        }
        acc
    }

    kernels! {
        #[target_feature(enable = "dotprod")]
        lanes: 4, tokens: [2, 1],
        start: |_: &Group| vdupq_n_s32(0), codes: vld1q_s8,
        quad: |p: *const i8| vreinterpretq_s8_s32(vdupq_n_s32(p.cast::<i32>().read_unaligned())),
        dot: dot, float: vcvtq_f32_s32,
        zero: vdupq_n_f32(0.0), half: load_half,
        splat: vdupq_n_f32, mul: vmulq_f32, fma: fma, store: vst1q_f32
    }
}

#[cfg(target_arch = "aarch64")]
#[allow(clippy::needless_range_loop, reason = "indices name registers")]
mod neon {
    use super::{GROUP, Group, Kernel, PANEL, QUAD, f16};
    use crate::simd::neon::load_half;
    use std::arch::aarch64::*;

    #[inline(always)]
    pub(super) fn fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: NEON is part of the target.
        unsafe { vfmaq_f32(c, a, b) }
    }

    /// Sums of two products fit 16 bits, as 2·127² < 2¹⁵.
    #[inline(always)]
    fn dot(acc: int32x4_t, weights: int8x16_t, quad: int8x16_t) -> int32x4_t {
        // SAFETY: NEON is part of the target.
        unsafe {
            let low = vmull_s8(vget_low_s8(weights), vget_low_s8(quad));
            vpadalq_s16(acc, vpaddq_s16(low, vmull_high_s8(weights, quad)))
        }
    }

    kernels! {
        lanes: 4, tokens: [2, 1],
        start: |_: &Group| vdupq_n_s32(0), codes: vld1q_s8,
        quad: |p: *const i8| vreinterpretq_s8_s32(vdupq_n_s32(p.cast::<i32>().read_unaligned())),
        dot: dot, float: vcvtq_f32_s32,
        zero: vdupq_n_f32(0.0), half: load_half,
        splat: vdupq_n_f32, mul: vmulq_f32, fma: fma, store: vst1q_f32
    }
}

#[allow(clippy::needless_range_loop, reason = "indices name registers")]
mod portable {
    use super::{GROUP, Group, Kernel, PANEL, QUAD, f16};
    use crate::simd::widen_bits;

    type Vector = [f32; 4];

    fn dot(acc: [i32; 4], weights: [[i8; QUAD]; 4], quad: [i8; QUAD]) -> [i32; 4] {
        std::array::from_fn(|i| {
            let products = weights[i].iter().zip(quad).map(|(w, x)| i32::from(*w) * i32::from(x));
            acc[i] + products.sum::<i32>()
        })
    }

    fn float(v: [i32; 4]) -> Vector {
        v.map(|v| v as f32)
    }

    fn splat(v: f32) -> Vector {
        [v; 4]
    }

    fn mul(a: Vector, b: Vector) -> Vector {
        std::array::from_fn(|i| a[i] * b[i])
    }

    /// Fused on every machine, though it may be a call: once for 32 products.
    fn fma(a: Vector, b: Vector, c: Vector) -> Vector {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }

    unsafe fn store(p: *mut f32, v: Vector) {
        // SAFETY: the caller may write 4 elements.
        unsafe { p.cast::<Vector>().write_unaligned(v) }
    }

    kernels! {
        lanes: 4, tokens: [1],
        start: |_: &Group| [0; 4], codes: |p: *const i8| p.cast::<[[i8; QUAD]; 4]>().read(),
        quad: |p: *const i8| p.cast::<[i8; QUAD]>().read(),
        dot: dot, float: float,
        zero: [0.0; 4],
        half: |p: *const f16| p.cast::<[f16; 4]>().read().map(|x| widen_bits(x.to_bits())),
        splat: splat, mul: mul, fma: fma, store: store
    }
}
