//! Elementwise arithmetic on f16: widened, computed in f32 and rounded ([`Round::ELEMENTWISE`]) in one
//! pass, 16 elements at a time in registers.

use super::{Level, Round, SliceKernel, narrow_bits, round_one, widen_bits};
use half::f16;

/// Elements taken at a time.
const LANES: usize = 16;

/// How 16 elements travel between memory and registers.
trait Vector {
    /// 16 elements, widened.
    ///
    /// # Safety
    /// They may be read, and the machine has the instructions.
    unsafe fn load(p: *const f16) -> [f32; LANES];

    /// Rounds 16 elements to f16, NaN to +0, and stores them.
    ///
    /// # Safety
    /// They may be written, and the machine has the instructions.
    unsafe fn store(p: *mut f16, v: [f32; LANES]);
}

/// A loop over f16 slices that [`dispatch`] compiles for each [`Level`]; `run` is
/// `#[inline(always)]`.
trait Kernel {
    /// The loop.
    ///
    /// # Safety
    /// The machine has the instructions of `V`.
    unsafe fn run<V: Vector>(self);
}

fn dispatch<K: Kernel>(level: Level, kernel: K) {
    // SAFETY: `Level::best` and the tests pass a level only if the machine has it.
    unsafe {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => x86::run_avx512(kernel),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => x86::run_avx2(kernel),
            #[cfg(target_arch = "aarch64")]
            Level::Neon => kernel.run::<neon::Neon>(),
            _ => kernel.run::<Portable>(),
        }
    }
}

struct Map<'a, F>(&'a mut [f16], F);

impl<F: Fn(f32) -> f32> Kernel for Map<'_, F> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Map(x, f) = self;
        let mut chunks = x.chunks_exact_mut(LANES);
        for x in &mut chunks {
            // SAFETY: the chunk has as many elements; the caller's promise.
            unsafe {
                let v = V::load(x.as_ptr());
                V::store(x.as_mut_ptr(), std::array::from_fn(|i| f(v[i])));
            }
        }
        for x in chunks.into_remainder() {
            *x = rounded(f(widen_bits(x.to_bits())));
        }
    }
}

struct Zip<'a, F>(&'a mut [f16], &'a [f16], F);

impl<F: Fn(f32, f32) -> f32> Kernel for Zip<'_, F> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Zip(x, y, f) = self;
        let (mut xs, ys) = (x.chunks_exact_mut(LANES), y.chunks_exact(LANES));
        let rest = ys.remainder();
        for (x, y) in (&mut xs).zip(ys) {
            // SAFETY: the chunks have as many elements; the caller's promise.
            unsafe {
                let (v, w) = (V::load(x.as_ptr()), V::load(y.as_ptr()));
                V::store(x.as_mut_ptr(), std::array::from_fn(|i| f(v[i], w[i])));
            }
        }
        for (x, y) in xs.into_remainder().iter_mut().zip(rest) {
            *x = rounded(f(widen_bits(x.to_bits()), widen_bits(y.to_bits())));
        }
    }
}

#[inline(always)]
fn rounded(x: f32) -> f16 {
    f16::from_bits(narrow_bits(round_one(x, Round::ELEMENTWISE)))
}

/// x ← round(f(x)), for an `f` of a few operations without calls.
pub(crate) fn map(x: &mut [f16], f: impl Fn(f32) -> f32) {
    dispatch(Level::best(), Map(x, f));
}

/// x ← round(f(x, y)), for an `f` of a few operations without calls.
///
/// # Panics
/// If the lengths differ.
pub(crate) fn zip(x: &mut [f16], y: &[f16], f: impl Fn(f32, f32) -> f32) {
    assert_eq!(x.len(), y.len(), "slices of one length");
    dispatch(Level::best(), Zip(x, y, f));
}

struct CopyWithoutNan<'a>(&'a [f16], &'a mut [f16]);

impl SliceKernel for CopyWithoutNan<'_> {
    type Output = ();
    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        for (from, to) in self.0.iter().zip(self.1) {
            let bits = from.to_bits();
            *to = f16::from_bits(if bits & 0x7fff > 0x7c00 { 0x7c00 } else { bits });
        }
    }
}

/// to ← from, NaN as +∞.
pub(crate) fn copy_without_nan(from: &[f16], to: &mut [f16]) {
    super::dispatch(CopyWithoutNan(from, to));
}

struct Portable;

impl Vector for Portable {
    #[inline(always)]
    unsafe fn load(p: *const f16) -> [f32; LANES] {
        // SAFETY: the caller's promise.
        std::array::from_fn(|i| widen_bits(unsafe { *p.add(i) }.to_bits()))
    }

    #[inline(always)]
    unsafe fn store(p: *mut f16, v: [f32; LANES]) {
        for (i, &v) in v.iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { *p.add(i) = rounded(v) };
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Kernel, LANES, Vector, f16};
    use std::arch::x86_64::*;
    use std::mem::transmute;

    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,f16c")]
    pub(super) unsafe fn run_avx512<K: Kernel>(kernel: K) {
        // SAFETY: the caller's promise.
        unsafe { kernel.run::<Avx512>() }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) unsafe fn run_avx2<K: Kernel>(kernel: K) {
        // SAFETY: the caller's promise.
        unsafe { kernel.run::<Avx2>() }
    }

    struct Avx512;

    impl Vector for Avx512 {
        #[inline]
        #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,f16c")]
        unsafe fn load(p: *const f16) -> [f32; LANES] {
            // SAFETY: the caller's promise; one size.
            unsafe { transmute(_mm512_cvtph_ps(_mm256_loadu_si256(p.cast()))) }
        }

        #[inline]
        #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,f16c")]
        unsafe fn store(p: *mut f16, v: [f32; LANES]) {
            // SAFETY: the caller's promise; one size.
            unsafe {
                let v: __m512 = transmute(v);
                let number = _mm512_cmp_ps_mask::<_CMP_ORD_Q>(v, v);
                let v = _mm512_maskz_mov_ps(number, v);
                _mm256_storeu_si256(p.cast(), _mm512_cvtps_ph::<_MM_FROUND_NO_EXC>(v));
            }
        }
    }

    struct Avx2;

    impl Vector for Avx2 {
        #[inline]
        #[target_feature(enable = "avx2,f16c")]
        unsafe fn load(p: *const f16) -> [f32; LANES] {
            // SAFETY: the caller's promise; one size.
            unsafe {
                let half = |i: usize| _mm256_cvtph_ps(_mm_loadu_si128(p.add(i).cast()));
                transmute([half(0), half(8)])
            }
        }

        #[inline]
        #[target_feature(enable = "avx2,f16c")]
        unsafe fn store(p: *mut f16, v: [f32; LANES]) {
            // SAFETY: the caller's promise; one size.
            unsafe {
                let v: [__m256; 2] = transmute(v);
                for (i, v) in v.into_iter().enumerate() {
                    let v = _mm256_and_ps(v, _mm256_cmp_ps::<_CMP_ORD_Q>(v, v));
                    let h = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v);
                    _mm_storeu_si128(p.add(8 * i).cast(), h);
                }
            }
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use super::super::neon::{load_half, store_half};
    use super::{LANES, Vector, f16};
    use std::arch::aarch64::*;
    use std::mem::transmute;

    pub(super) struct Neon;

    impl Vector for Neon {
        #[inline(always)]
        unsafe fn load(p: *const f16) -> [f32; LANES] {
            // SAFETY: the caller's promise; one size.
            unsafe { transmute([0, 4, 8, 12].map(|i| load_half(p.add(i)))) }
        }

        #[inline(always)]
        unsafe fn store(p: *mut f16, v: [f32; LANES]) {
            // SAFETY: the caller's promise; one size; NEON is part of the target.
            unsafe {
                let v: [float32x4_t; 4] = transmute(v);
                for (i, v) in v.into_iter().enumerate() {
                    let number = vandq_u32(vreinterpretq_u32_f32(v), vceqq_f32(v, v));
                    store_half(p.add(4 * i), vreinterpretq_f32_u32(number));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels() -> impl Iterator<Item = Level> {
        [Level::Avx512, Level::Avx2, Level::Neon, Level::Portable]
            .into_iter()
            .filter(|level| level.available())
    }

    /// Every f16 but NaN, and a length that leaves a remainder.
    fn all() -> Vec<f16> {
        let all = (0..=u16::MAX).map(f16::from_bits).filter(|v| !v.is_nan());
        all.chain([f16::ONE; 5]).collect()
    }

    #[test]
    fn each_operation_is_rounded_once() {
        let xs = all();
        for level in levels() {
            let mut ys = xs.clone();
            dispatch(level, Map(&mut ys, |v| v * 1.000_9 - 3.0));
            for (x, y) in xs.iter().zip(&ys) {
                let want = f16::from_f32(x.to_f32() * 1.000_9 - 3.0);
                assert_eq!(y.to_bits(), want.to_bits(), "{level:?} {x}");
            }
            for shift in [1, 77, 30_011] {
                let mut other = xs.clone();
                other.rotate_left(shift);
                let mut ys = xs.clone();
                dispatch(level, Zip(&mut ys, &other, |v, w| v * w));
                for ((x, o), y) in xs.iter().zip(&other).zip(&ys) {
                    let product = x.to_f32() * o.to_f32();
                    let want = if product.is_nan() { f16::ZERO } else { f16::from_f32(product) };
                    assert_eq!(y.to_bits(), want.to_bits(), "{level:?} {x} · {o}");
                }
            }
        }
    }

    #[test]
    fn undefined_forms_are_zero() {
        for level in levels() {
            let mut x = vec![f16::INFINITY; 19];
            let y = x.clone();
            dispatch(level, Zip(&mut x, &y, |v, w| v - w));
            assert!(x.iter().all(|v| v.to_bits() == 0), "{level:?} {x:?}");
        }
    }
}
