//! Vectorised arithmetic over slices: elementary functions, arithmetic, row reductions, conversions
//! between f16 and f32, and rounding to the f16 grid.
//!
//! Every loop is written once, as plain Rust without branches, and compiled for each instruction set:
//! on x86-64 for AVX-512, for AVX2 with FMA, and for the build's baseline, of which [`Level::best`]
//! picks one at run time; on AArch64, where NEON is the baseline, once. Only the f16 conversions use
//! intrinsics or assembly, because Rust has no stable f16 arithmetic that the compiler could
//! vectorise.
//!
//! Maximum errors, in units in the last place of the f32 nearest to the exact value, measured over
//! every 37th f32 of both signs against f64: [`exp`] 0.85, [`sigmoid`] 1.88, [`tanh`] 1.50, [`erf`]
//! 1.40, [`log`] 0.81, [`rsqrt`] 1.49, [`sqrt`] 0.5; the tests hold every 509th to bounds just
//! above. NaN, infinities, subnormal arguments and subnormal results are handled as IEEE 754 would
//! have them. Results may differ in the last bit between instruction sets (with and without fused
//! multiply-add), never between runs or threads.
#![allow(unsafe_code, reason = "entry points compiled for instruction sets found at run time")]

use half::f16;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU8, Ordering};

pub(crate) mod halves;

/// An instruction set for which the loops are compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// AVX-512 F, VL, BW, DQ with FMA and F16C.
    Avx512,
    /// AVX2 with FMA and F16C.
    Avx2,
    /// NEON, part of every AArch64 processor.
    Neon,
    /// Plain Rust, as the compiler translates it for the build's target.
    Portable,
}

/// The variable of the environment that chooses a level.
pub const ASKED: &str = "ANEGPT_SIMD";

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Level::Avx512 => "AVX-512",
            Level::Avx2 => "AVX2",
            Level::Neon => "NEON",
            Level::Portable => "none",
        })
    }
}

/// The best level as a number; [`u8::MAX`] before it is known.
static BEST: AtomicU8 = AtomicU8::new(u8::MAX);

impl Level {
    /// All levels, the best first.
    const ALL: [Level; 4] = [Self::Avx512, Self::Avx2, Self::Neon, Self::Portable];

    /// The best level that this machine runs, or the one that is [asked](Level::asked) for; found once.
    pub fn best() -> Self {
        match BEST.load(Ordering::Relaxed) {
            0 => Self::Portable,
            1 => Self::Avx2,
            2 => Self::Avx512,
            3 => Self::Neon,
            _ => {
                let level = Self::detect();
                level.set_best();
                level
            }
        }
    }

    fn set_best(self) {
        let code = match self {
            Self::Portable => 0,
            Self::Avx2 => 1,
            Self::Avx512 => 2,
            Self::Neon => 3,
        };
        BEST.store(code, Ordering::Relaxed);
    }

    /// The level that [`ASKED`] names, in place of the best one: to measure and to test what other machines do.
    ///
    /// # Errors
    /// When there is no level of this name, or this machine does not run it.
    pub fn asked() -> Result<Option<Self>, String> {
        let asked = std::env::var(ASKED).ok().filter(|name| !name.is_empty());
        let Some(name) = asked else { return Ok(None) };
        let plain = |name: &str| name.replace('-', "").to_lowercase();
        let named = |level: &Self| plain(&name) == plain(&level.to_string());
        let known = || Self::ALL.into_iter().filter(|level| level.available());
        let found = known().find(named);
        found.map(Some).ok_or_else(|| {
            let known: Vec<_> = known().map(|level| format!("`{level}`")).collect();
            format!("{ASKED}={name}: this machine has {}", known.join(", "))
        })
    }

    fn detect() -> Self {
        let asked = Self::asked().unwrap_or_default();
        let best = || Self::ALL.into_iter().find(|level| level.available());
        asked.or_else(best).unwrap_or(Self::Portable)
    }

    /// True if this machine can run the level.
    pub fn available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                std::is_x86_feature_detected!("avx2")
                    && std::is_x86_feature_detected!("fma")
                    && std::is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.available()
                    && std::is_x86_feature_detected!("avx512f")
                    && std::is_x86_feature_detected!("avx512vl")
                    && std::is_x86_feature_detected!("avx512bw")
                    && std::is_x86_feature_detected!("avx512dq")
            }
            #[cfg(target_arch = "aarch64")]
            Self::Neon => true,
            #[allow(unreachable_patterns, reason = "levels of other architectures")]
            _ => false,
        }
    }
}

/// True if the baseline of the build has a fused multiply-add instruction; without one,
/// `f32::mul_add` would be a library call.
pub(crate) const BASELINE_FUSED: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));

/// A loop over slices that [`dispatch`] compiles for each [`Level`].
///
/// `run` must be `#[inline(always)]`, as must everything it calls in its inner loop; use [`madd`]
/// for multiply-add.
pub(crate) trait SliceKernel {
    /// The loop's result.
    type Output;
    /// The loop. `FUSED` says whether a fused multiply-add instruction exists.
    fn run<const FUSED: bool>(self) -> Self::Output;
}

/// Runs `kernel`, compiled for the best instruction set of this machine.
#[inline]
pub(crate) fn dispatch<K: SliceKernel>(kernel: K) -> K::Output {
    dispatch_at(Level::best(), kernel)
}

#[inline]
fn dispatch_at<K: SliceKernel>(level: Level, kernel: K) -> K::Output {
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `Level::best` and the tests pass a level only if the machine has it.
        Level::Avx512 => unsafe { x86::run_avx512(kernel) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::Avx2 => unsafe { x86::run_avx2(kernel) },
        _ => kernel.run::<BASELINE_FUSED>(),
    }
}

/// `a * b + c`, fused where `FUSED`.
#[inline(always)]
pub(crate) fn madd<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// Horner's rule, coefficients from the constant term up.
#[inline(always)]
fn poly<const FUSED: bool, const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let mut y = coefficients[N - 1];
    let mut i = N - 1;
    while i > 0 {
        i -= 1;
        y = madd::<FUSED>(y, x, coefficients[i]);
    }
    y
}

// ---------------------------------------------------------------------------------------------
// Functions of one element
// ---------------------------------------------------------------------------------------------

/// A function of one element, free of branches and `#[inline(always)]`.
trait Unary {
    /// The function's value at `x`.
    fn eval<const FUSED: bool>(x: f32) -> f32;
}

/// ln 2 split so that a small integer times the high part is exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;
/// Adding and subtracting 1.5 * 2^23 rounds |x| < 2^22 to the nearest integer.
const ROUND_MAGIC: f32 = 12_582_912.0;

/// 2^n for -126 <= n <= 127.
#[inline(always)]
fn pow2(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// The exponential function: e^x.
///
/// x = n ln 2 + r with |r| <= ln 2 / 2, a polynomial in r, then scaling by 2^n in two steps so that
/// subnormal results are right.
struct Exp;

impl Unary for Exp {
    #[inline(always)]
    fn eval<const FUSED: bool>(x: f32) -> f32 {
        // Beyond these bounds the result is +inf or 0; NaN passes both comparisons.
        let x = if x > 89.0 { 89.0 } else { x };
        let x = if x < -104.5 { -104.5 } else { x };
        let shifted = madd::<FUSED>(x, std::f32::consts::LOG2_E, ROUND_MAGIC);
        let n = (shifted.to_bits() as i32).wrapping_sub(ROUND_MAGIC.to_bits() as i32);
        let nf = shifted - ROUND_MAGIC;
        let high = madd::<FUSED>(nf, -LN2_HIGH, x);
        let r = madd::<FUSED>(nf, -LN2_LOW, high);
        // What rounding `r` lost.
        let lost = madd::<FUSED>(nf, -LN2_LOW, high - r);
        // (e^r - 1 - r) / r^2, interpolated at Chebyshev nodes.
        let q = poly::<FUSED, 6>(
            r,
            [5.0e-1, 1.666_666_7e-1, 4.166_646_3e-2, 8.333_310_5e-3, 1.393_368_6e-3, 1.989_103e-4],
        );
        let p = 1.0 + (r + madd::<FUSED>(r * r, q, lost));
        let half = n >> 1;
        (p * pow2(half)) * pow2(n.wrapping_sub(half))
    }
}

/// The logistic function: 1 / (1 + e^-x).
struct Sigmoid;

impl Unary for Sigmoid {
    #[inline(always)]
    fn eval<const FUSED: bool>(x: f32) -> f32 {
        let e = Exp::eval::<FUSED>(-x.abs());
        let numerator = if x < 0.0 { e } else { 1.0 };
        let denominator = 1.0 + e;
        let y = numerator / denominator;
        // What rounding the denominator lost, times a linear approximation of its inverse.
        let lost = e - (denominator - 1.0);
        madd::<FUSED>(y * lost, 0.5 * denominator - 1.457, y)
    }
}

/// x * sigmoid(x), also called swish.
struct Silu;

impl Unary for Silu {
    #[inline(always)]
    fn eval<const FUSED: bool>(x: f32) -> f32 {
        x * Sigmoid::eval::<FUSED>(x)
    }
}

/// The hyperbolic tangent.
struct Tanh;

impl Unary for Tanh {
    #[inline(always)]
    fn eval<const FUSED: bool>(x: f32) -> f32 {
        let z = x * x;
        // (tanh(x) - x) / x^3 as a polynomial in x^2.
        let q = poly::<FUSED, 6>(
            z,
            [
                -3.333_333_4e-1,
                1.333_33e-1,
                -5.395_846e-2,
                2.176_250_3e-2,
                -8.323_187e-3,
                2.269_501_8e-3,
            ],
        );
        let small = madd::<FUSED>(x * z, q, x);
        let e = Exp::eval::<FUSED>(-2.0 * x.abs());
        let large = ((1.0 - e) / (1.0 + e)).copysign(x);
        // At |x| below 2^-12, z may underflow; `small` is then x itself, as it should be.
        if x.abs() < 0.625 { small } else { large }
    }
}

/// The error function.
struct Erf;

impl Unary for Erf {
    #[inline(always)]
    fn eval<const FUSED: bool>(x: f32) -> f32 {
        let a = x.abs();
        let z = x * x;
        // erf(x) / x - 1 as a polynomial in x^2.
        let q = poly::<FUSED, 7>(
            z,
            [
                1.283_791_7e-1,
                -3.761_263_5e-1,
                1.128_369_4e-1,
                -2.685_929_6e-2,
                5.200_729_7e-3,
                -8.138_792_5e-4,
                8.351_897e-5,
            ],
        );
        let small = madd::<FUSED>(x, q, x);
        // ln(erfc(|x|)) on [0.9, 4]; erf rounds to 1 beyond 3.92. NaN passes the comparison.
        let t = if a > 4.0 { 4.0 } else { a };
        let l = poly::<FUSED, 10>(
            t,
            [
                3.495_821_1e-4,
                -1.130_388_4,
                -6.314_835e-1,
                -1.104_995_7e-1,
                2.673_623_3e-2,
                -4.910_78e-3,
                6.433_165e-4,
                -5.493_617e-5,
                2.594_339_3e-6,
                -4.453_896_5e-8,
            ],
        );
        let large = (1.0 - Exp::eval::<FUSED>(l)).copysign(x);
        if a < 0.92 { small } else { large }
    }
}

/// The natural logarithm: -inf at 0, NaN below.
///
/// x = m 2^e with m in [sqrt(1/2), sqrt(2)), a polynomial in m - 1, which is exact.
struct Log;

impl Unary for Log {
    #[inline(always)]
    fn eval<const FUSED: bool>(x: f32) -> f32 {
        const SQRT_HALF_BITS: u32 = 0x3f35_04f3;
        let subnormal = x < f32::MIN_POSITIVE;
        let scaled = if subnormal { x * 8_388_608.0 } else { x };
        let bias = if subnormal { 23.0 } else { 0.0 };
        let offset = scaled.to_bits().wrapping_sub(SQRT_HALF_BITS);
        let e = ((offset as i32) >> 23) as f32 - bias;
        let m = f32::from_bits((offset & 0x007f_ffff).wrapping_add(SQRT_HALF_BITS));
        let r = m - 1.0;
        let z = r * r;
        // (log(1 + r) - r + r^2 / 2) / r^3.
        let q = poly::<FUSED, 10>(
            r,
            [
                3.333_333_4e-1,
                -2.499_999e-1,
                2.000_001e-1,
                -1.666_800_1e-1,
                1.428_652_4e-1,
                -1.245_074_35e-1,
                1.103_778_3e-1,
                -1.064_619_2e-1,
                1.053_086_44e-1,
                -6.201_5e-2,
            ],
        );
        let tail = madd::<FUSED>(e, LN2_LOW, madd::<FUSED>(z * r, q, -0.5 * z));
        let y = madd::<FUSED>(e, LN2_HIGH, r + tail);
        let y = if x == 0.0 { f32::NEG_INFINITY } else { y };
        let y = if x == f32::INFINITY { x } else { y };
        if x >= 0.0 { y } else { f32::NAN }
    }
}

struct Map<'a, U>(&'a mut [f32], PhantomData<U>);

impl<U: Unary> SliceKernel for Map<'_, U> {
    type Output = ();
    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        for v in self.0.iter_mut() {
            *v = U::eval::<FUSED>(*v);
        }
    }
}

fn map<U: Unary>(x: &mut [f32]) {
    dispatch(Map::<U>(x, PhantomData));
}

/// x ← e^x.
pub fn exp(x: &mut [f32]) {
    map::<Exp>(x);
}

/// x ← 1 / (1 + e^−x).
pub fn sigmoid(x: &mut [f32]) {
    map::<Sigmoid>(x);
}

/// x ← x / (1 + e^−x).
pub fn silu(x: &mut [f32]) {
    map::<Silu>(x);
}

/// x ← tanh x.
pub fn tanh(x: &mut [f32]) {
    map::<Tanh>(x);
}

/// x ← erf x.
pub fn erf(x: &mut [f32]) {
    map::<Erf>(x);
}

/// x ← ln x: −∞ at 0, NaN below.
pub fn log(x: &mut [f32]) {
    map::<Log>(x);
}

// ---------------------------------------------------------------------------------------------
// Arithmetic
// ---------------------------------------------------------------------------------------------

struct Each<'a, F>(&'a mut [f32], F);

impl<F: Fn(f32) -> f32> SliceKernel for Each<'_, F> {
    type Output = ();
    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        for v in self.0.iter_mut() {
            *v = (self.1)(*v);
        }
    }
}

/// x ← f(x), for an `f` of a few operations without calls.
pub(crate) fn each(x: &mut [f32], f: impl Fn(f32) -> f32) {
    dispatch(Each(x, f));
}

struct Zip<'a, F>(&'a mut [f32], &'a [f32], F);

impl<F: Fn(f32, f32) -> f32> SliceKernel for Zip<'_, F> {
    type Output = ();
    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        for (x, &y) in self.0.iter_mut().zip(self.1) {
            *x = (self.2)(*x, y);
        }
    }
}

/// x ← f(x, y), for an `f` of a few operations without calls.
///
/// # Panics
/// If the lengths differ.
pub(crate) fn zip(x: &mut [f32], y: &[f32], f: impl Fn(f32, f32) -> f32) {
    assert_eq!(x.len(), y.len(), "slices of one length");
    dispatch(Zip(x, y, f));
}

/// x ← √x, correctly rounded.
pub fn sqrt(x: &mut [f32]) {
    each(x, f32::sqrt);
}

/// x ← 1 / √x.
pub fn rsqrt(x: &mut [f32]) {
    each(x, |x| 1.0 / x.sqrt());
}

/// x ← 1 / x.
pub fn inverse(x: &mut [f32]) {
    each(x, |x| 1.0 / x);
}

/// x ← x².
pub fn square(x: &mut [f32]) {
    each(x, |x| x * x);
}

/// x ← |x|.
pub fn abs(x: &mut [f32]) {
    each(x, f32::abs);
}

/// x ← a·x + b, the product rounded first.
pub fn affine(x: &mut [f32], a: f32, b: f32) {
    each(x, |x| x * a + b);
}

/// x ← a·x.
pub fn scale(x: &mut [f32], a: f32) {
    each(x, |x| x * a);
}

/// `a` if `first`, else `b`: by bits, as a choice would become a branch per element.
#[inline(always)]
fn choose(first: bool, a: f32, b: f32) -> f32 {
    let mask = u32::from(first).wrapping_neg();
    f32::from_bits((a.to_bits() & mask) | (b.to_bits() & !mask))
}

/// The larger one; of a number and a NaN, the number; of two zeros +0 if one of them is (IEEE 754-2019
/// maximumNumber). `f32::max` leaves the sign of a zero to the compiler, and so to the machine and to
/// the place in a loop; a comparison alone does so too, as compilers take it for `f32::max`.
#[inline(always)]
pub fn larger(x: f32, y: f32) -> f32 {
    let equal = f32::from_bits(x.to_bits() & y.to_bits());
    choose(x == y, equal, choose((x > y) | y.is_nan(), x, y))
}

/// The smaller one; of a number and a NaN, the number; of two zeros -0 if one of them is. See
/// [`larger`].
#[inline(always)]
pub fn smaller(x: f32, y: f32) -> f32 {
    let equal = f32::from_bits(x.to_bits() | y.to_bits());
    choose(x == y, equal, choose((x < y) | y.is_nan(), x, y))
}

/// x ← min(max(x, lo), hi); NaN becomes `lo`.
pub fn clip(x: &mut [f32], lo: f32, hi: f32) {
    each(x, |x| smaller(larger(x, lo), hi));
}

/// NaN becomes `value`.
pub fn replace_nan(x: &mut [f32], value: f32) {
    each(x, |x| choose(x.is_nan(), value, x));
}

/// x ← x + y. As all functions of two slices, panics if their lengths differ.
pub fn add(x: &mut [f32], y: &[f32]) {
    zip(x, y, |x, y| x + y);
}

/// x ← x − y.
pub fn sub(x: &mut [f32], y: &[f32]) {
    zip(x, y, |x, y| x - y);
}

/// x ← x · y.
pub fn mul(x: &mut [f32], y: &[f32]) {
    zip(x, y, |x, y| x * y);
}

/// x ← x / y.
pub fn div(x: &mut [f32], y: &[f32]) {
    zip(x, y, |x, y| x / y);
}

/// x ← [`larger`] of x and y.
pub fn max(x: &mut [f32], y: &[f32]) {
    zip(x, y, larger);
}

/// x ← [`smaller`] of x and y.
pub fn min(x: &mut [f32], y: &[f32]) {
    zip(x, y, smaller);
}

struct Select<'a>(&'a mut [f32], &'a [f32], &'a [f32], &'a [f32]);

impl SliceKernel for Select<'_> {
    type Output = ();
    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        for (((to, &c), &a), &b) in self.0.iter_mut().zip(self.1).zip(self.2).zip(self.3) {
            *to = choose(c != 0.0, a, b);
        }
    }
}

/// to ← c ≠ 0 ? a : b.
///
/// # Panics
/// If the lengths differ.
pub fn select(to: &mut [f32], c: &[f32], a: &[f32], b: &[f32]) {
    assert!([c.len(), a.len(), b.len()] == [to.len(); 3], "slices of one length");
    dispatch(Select(to, c, a, b));
}

// ---------------------------------------------------------------------------------------------
// Reductions of a row: a fixed tree, the same at every level and length of vector
// ---------------------------------------------------------------------------------------------

/// Partial sums kept side by side; element i goes to sum i mod 64.
const LANES: usize = 64;

#[inline(always)]
fn tree(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

struct Sum<'a>(&'a [f32]);

impl SliceKernel for Sum<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<const FUSED: bool>(self) -> f32 {
        let mut lanes = [0.0; LANES];
        let chunks = self.0.chunks_exact(LANES);
        let rest = chunks.remainder();
        for chunk in chunks {
            for (l, &v) in lanes.iter_mut().zip(chunk) {
                *l += v;
            }
        }
        for (l, &v) in lanes.iter_mut().zip(rest) {
            *l += v;
        }
        tree(lanes)
    }
}

/// The sum of a row. The order of additions depends on its length only.
pub fn sum(x: &[f32]) -> f32 {
    dispatch(Sum(x))
}

struct SumSquare<'a>(&'a [f32]);

impl SliceKernel for SumSquare<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<const FUSED: bool>(self) -> f32 {
        let mut lanes = [0.0; LANES];
        let chunks = self.0.chunks_exact(LANES);
        let rest = chunks.remainder();
        for chunk in chunks {
            for (l, &v) in lanes.iter_mut().zip(chunk) {
                *l = madd::<FUSED>(v, v, *l);
            }
        }
        for (l, &v) in lanes.iter_mut().zip(rest) {
            *l = madd::<FUSED>(v, v, *l);
        }
        tree(lanes)
    }
}

/// The sum of squares of a row.
pub fn sum_square(x: &[f32]) -> f32 {
    dispatch(SumSquare(x))
}

struct Max<'a>(&'a [f32]);

impl SliceKernel for Max<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<const FUSED: bool>(self) -> f32 {
        // By value: a choice stored in place would become a masked store that the next one waits for.
        let larger = |l: f32, v: f32| if v > l { v } else { l };
        let mut lanes = [f32::NEG_INFINITY; LANES];
        let (chunks, rest) = self.0.as_chunks::<LANES>();
        for chunk in chunks {
            lanes = std::array::from_fn(|i| larger(lanes[i], chunk[i]));
        }
        for (l, &v) in lanes.iter_mut().zip(rest) {
            *l = larger(*l, v);
        }
        let mut width = LANES / 2;
        while width > 0 {
            for i in 0..width {
                lanes[i] = larger(lanes[i], lanes[i + width]);
            }
            width /= 2;
        }
        lanes[0]
    }
}

/// The largest element of a row, NaN ignored; -inf for an empty row.
pub fn max_of(x: &[f32]) -> f32 {
    dispatch(Max(x))
}

struct ExpSub<'a>(&'a mut [f32], f32);

impl SliceKernel for ExpSub<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<const FUSED: bool>(self) -> f32 {
        let mut lanes = [0.0; LANES];
        let mut chunks = self.0.chunks_exact_mut(LANES);
        for chunk in &mut chunks {
            for (l, v) in lanes.iter_mut().zip(chunk) {
                *v = Exp::eval::<FUSED>(*v - self.1);
                *l += *v;
            }
        }
        for (l, v) in lanes.iter_mut().zip(chunks.into_remainder()) {
            *v = Exp::eval::<FUSED>(*v - self.1);
            *l += *v;
        }
        tree(lanes)
    }
}

/// `x[i] = e^(x[i] - shift)`; returns the sum of the results (a softmax's numerators and
/// denominator in one pass).
pub fn exp_sub_sum(x: &mut [f32], shift: f32) -> f32 {
    dispatch(ExpSub(x, shift))
}

struct SoftmaxRows<'a>(&'a mut [f32], usize);

impl SliceKernel for SoftmaxRows<'_> {
    type Output = ();
    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        for row in self.0.chunks_exact_mut(self.1) {
            let max = Max(row).run::<FUSED>();
            let inverse = 1.0 / ExpSub(row, max).run::<FUSED>();
            row.iter_mut().for_each(|v| *v *= inverse);
        }
    }
}

/// The softmax of each row of x `[_, n]`.
///
/// # Panics
/// If n is 0.
pub fn softmax_rows(x: &mut [f32], n: usize) {
    dispatch(SoftmaxRows(x, n));
}

struct ColumnMax<'a>(&'a [f32], &'a mut [f32]);

impl SliceKernel for ColumnMax<'_> {
    type Output = ();
    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        for row in self.0.chunks_exact(self.1.len().max(1)) {
            for (m, &v) in self.1.iter_mut().zip(row) {
                *m = if v > *m { v } else { *m };
            }
        }
    }
}

/// `max[j]` ← max(`max[j]`, `x[i, j]`) over the rows i of x `[_, n]`, NaN ignored; n is the length of
/// `max`.
pub fn column_max(x: &[f32], max: &mut [f32]) {
    dispatch(ColumnMax(x, max));
}

struct ColumnExp<'a>(&'a mut [f32], &'a [f32], &'a mut [f32]);

impl SliceKernel for ColumnExp<'_> {
    type Output = ();
    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        for row in self.0.chunks_exact_mut(self.1.len().max(1)) {
            for ((x, &shift), sum) in row.iter_mut().zip(self.1).zip(self.2.iter_mut()) {
                *x = Exp::eval::<FUSED>(*x - shift);
                *sum += *x;
            }
        }
    }
}

/// `x[i, j]` ← e^(`x[i, j]` − `shift[j]`), `sum[j]` ← `sum[j]` + Σ `x[i, j]` over the rows i of x `[_, n]`:
/// many softmaxes side by side.
///
/// # Panics
/// If `shift` and `sum` are not of one length n.
pub fn column_exp(x: &mut [f32], shift: &[f32], sum: &mut [f32]) {
    assert_eq!(shift.len(), sum.len(), "slices of one length");
    dispatch(ColumnExp(x, shift, sum));
}

struct ColumnScale<'a>(&'a mut [f32], &'a [f32]);

impl SliceKernel for ColumnScale<'_> {
    type Output = ();
    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        for row in self.0.chunks_exact_mut(self.1.len().max(1)) {
            row.iter_mut().zip(self.1).for_each(|(x, &scale)| *x *= scale);
        }
    }
}

/// `x[i, j]` ← `scale[j]`·`x[i, j]` for x `[_, n]`; n is the length of `scale`.
pub fn column_scale(x: &mut [f32], scale: &[f32]) {
    dispatch(ColumnScale(x, scale));
}

// ---------------------------------------------------------------------------------------------
// f16
// ---------------------------------------------------------------------------------------------

/// How values are brought to the f16 grid: to the nearest, ties to even, and then:
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Round {
    /// A rounded magnitude of at least this becomes infinite. `f32::INFINITY` leaves the format's
    /// own limit (values that round past 65504).
    pub saturate: f32,
    /// The replacement of NaN.
    pub nan: f32,
}

impl Round {
    /// f16 as IEEE 754 has it.
    pub const IEEE: Self = Self { saturate: f32::INFINITY, nan: f32::NAN };
    /// The engine outside of the multiply-accumulate array: undefined forms such as ∞ − ∞ give +0
    /// (docs/ane-facts.md E.3).
    pub const ELEMENTWISE: Self = Self { saturate: f32::INFINITY, nan: 0.0 };
    /// The engine's multiply-accumulate array: its accumulator overflows at 2^15, so that the
    /// largest finite result is 32752 (docs/ane-facts.md E.2), and a NaN leaves it as +∞.
    pub const PRODUCT: Self = Self { saturate: 32_768.0, nan: f32::INFINITY };
}

/// The f32 with the value of an f16, by its bits; exact.
#[inline(always)]
pub(crate) fn widen_bits(h: u16) -> f32 {
    let sign = (h as u32 & 0x8000) << 16;
    let magnitude = h as u32 & 0x7fff;
    // Both formats' exponents start at zero; multiplying by 2^112 moves the bias and normalises
    // subnormals.
    let value = f32::from_bits(magnitude << 13) * f32::from_bits(0x7780_0000);
    let special = if magnitude >= 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(value.to_bits() | special | sign)
}

/// The bits of the f16 nearest to an f32, ties to even.
#[inline(always)]
fn narrow_bits(x: f32) -> u16 {
    let sign = (x.to_bits() >> 16) & 0x8000;
    let a = x.to_bits() & 0x7fff_ffff;
    let normal = (a.wrapping_add(0xfff + ((a >> 13) & 1)) >> 13).wrapping_sub(112 << 10);
    // An f32 in [1/2, 1) has the spacing of f16's subnormals, 2^-24: the addition rounds.
    let subnormal = (f32::from_bits(a) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
    let h = if a < 0x3880_0000 { subnormal } else { normal };
    let h = if a >= 0x477f_f000 { 0x7c00 } else { h };
    let h = if a > 0x7f80_0000 { 0x7e00 } else { h };
    (h | sign) as u16
}

#[inline(always)]
fn round_one(x: f32, round: Round) -> f32 {
    let y = widen_bits(narrow_bits(x));
    let y = if y.abs() >= round.saturate { f32::INFINITY.copysign(y) } else { y };
    if x.is_nan() { round.nan } else { y }
}

/// `y[i] = x[i]`, from f16 to f32; exact.
///
/// # Panics
/// If the lengths differ.
pub fn widen(x: &[f16], y: &mut [f32]) {
    widen_at(Level::best(), x, y);
}

fn widen_at(level: Level, x: &[f16], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "widen needs slices of one length");
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the machine has the level; the lengths are equal.
        Level::Avx512 => unsafe { x86::widen_avx512(x, y) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::Avx2 => unsafe { x86::widen_avx2(x, y) },
        #[cfg(target_arch = "aarch64")]
        Level::Neon => neon::widen(x, y),
        _ => {
            for (y, x) in y.iter_mut().zip(x) {
                *y = widen_bits(x.to_bits());
            }
        }
    }
}

/// `y[i] = round(x[i])`, from f32 to f16 storage.
///
/// # Panics
/// If the lengths differ.
pub fn narrow(x: &[f32], y: &mut [f16], round: Round) {
    narrow_at(Level::best(), x, y, round);
}

fn narrow_at(level: Level, x: &[f32], y: &mut [f16], round: Round) {
    assert_eq!(x.len(), y.len(), "narrow needs slices of one length");
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the machine has the level; the lengths are equal.
        Level::Avx512 => unsafe { x86::narrow_avx512(x, y, round) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::Avx2 => unsafe { x86::narrow_avx2(x, y, round) },
        #[cfg(target_arch = "aarch64")]
        Level::Neon => neon::narrow(x, y, round),
        _ => narrow_portable(x, y, round),
    }
}

#[inline(always)]
fn narrow_portable(x: &[f32], y: &mut [f16], round: Round) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = f16::from_bits(narrow_bits(round_one(x, round)));
    }
}

/// Rounds each element to the f16 grid in place.
pub fn round_f16(x: &mut [f32], round: Round) {
    round_at(Level::best(), x, round);
}

fn round_at(level: Level, x: &mut [f32], round: Round) {
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the machine has the level.
        Level::Avx512 => unsafe { x86::round_avx512(x, round) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::Avx2 => unsafe { x86::round_avx2(x, round) },
        #[cfg(target_arch = "aarch64")]
        Level::Neon => neon::round(x, round),
        _ => round_portable(x, round),
    }
}

#[inline(always)]
fn round_portable(x: &mut [f32], round: Round) {
    for v in x {
        *v = round_one(*v, round);
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Round, SliceKernel, narrow_portable, round_portable, widen_bits};
    use half::f16;
    use std::arch::x86_64::*;

    const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,f16c")]
    pub(super) unsafe fn run_avx512<K: SliceKernel>(kernel: K) -> K::Output {
        kernel.run::<true>()
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) unsafe fn run_avx2<K: SliceKernel>(kernel: K) -> K::Output {
        kernel.run::<true>()
    }

    /// A magnitude below which every value rounds to a finite f16 below `saturate`: one f16 step
    /// below either limit.
    fn harmless(saturate: f32) -> f32 {
        (saturate * (1.0 - 2.0 * f32::EPSILON * 4096.0)).min(65504.0)
    }

    /// The mask of the first `rest` lanes.
    fn mask(rest: usize) -> u16 {
        ((1u32 << rest) - 1) as u16
    }

    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,f16c")]
    pub(super) unsafe fn widen_avx512(x: &[f16], y: &mut [f32]) {
        let (n, src, dst) = (x.len(), x.as_ptr().cast::<i16>(), y.as_mut_ptr());
        let mut i = 0;
        // SAFETY: whole vectors lie below `n`; the last one is masked to it.
        unsafe {
            while i + 16 <= n {
                let h = _mm256_loadu_si256(src.add(i).cast());
                _mm512_storeu_ps(dst.add(i), _mm512_cvtph_ps(h));
                i += 16;
            }
            if i < n {
                let m = mask(n - i);
                let h = _mm256_maskz_loadu_epi16(m, src.add(i));
                _mm512_mask_storeu_ps(dst.add(i), m, _mm512_cvtph_ps(h));
            }
        }
    }

    #[target_feature(enable = "avx2,f16c")]
    pub(super) unsafe fn widen_avx2(x: &[f16], y: &mut [f32]) {
        let (n, src, dst) = (x.len(), x.as_ptr(), y.as_mut_ptr());
        let mut i = 0;
        // SAFETY: whole vectors lie below `n`, the length of both slices.
        unsafe {
            while i + 8 <= n {
                let h = _mm_loadu_si128(src.add(i).cast());
                _mm256_storeu_ps(dst.add(i), _mm256_cvtph_ps(h));
                i += 8;
            }
        }
        for (y, x) in y[i..].iter_mut().zip(&x[i..]) {
            *y = widen_bits(x.to_bits());
        }
    }

    /// The values of `x` on the f16 grid under the rule.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,f16c")]
    fn grid_avx512(x: __m512, saturate: __m512, nan: __m512) -> __m512 {
        let inf = _mm512_set1_ps(f32::INFINITY);
        let sign = _mm512_set1_ps(-0.0);
        let y = _mm512_cvtph_ps(_mm512_cvtps_ph::<NEAREST>(x));
        let over = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(_mm512_abs_ps(y), saturate);
        let y = _mm512_mask_or_ps(y, over, _mm512_and_ps(y, sign), inf);
        _mm512_mask_mov_ps(y, _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x), nan)
    }

    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,f16c")]
    pub(super) unsafe fn narrow_avx512(x: &[f32], y: &mut [f16], round: Round) {
        let (n, src, dst) = (x.len(), x.as_ptr(), y.as_mut_ptr().cast::<i16>());
        let (limit, nan) = (_mm512_set1_ps(round.saturate), _mm512_set1_ps(round.nan));
        let harmless = _mm512_set1_ps(harmless(round.saturate));
        let mut i = 0;
        // SAFETY: whole vectors lie below `n`; the last one is masked to it.
        unsafe {
            while i + 16 <= n {
                let mut v = _mm512_loadu_ps(src.add(i));
                if _mm512_cmp_ps_mask::<_CMP_LT_OQ>(_mm512_abs_ps(v), harmless) != 0xffff {
                    v = grid_avx512(v, limit, nan);
                }
                _mm256_storeu_si256(dst.add(i).cast(), _mm512_cvtps_ph::<NEAREST>(v));
                i += 16;
            }
            if i < n {
                let m = mask(n - i);
                let v = grid_avx512(_mm512_maskz_loadu_ps(m, src.add(i)), limit, nan);
                _mm256_mask_storeu_epi16(dst.add(i), m, _mm512_cvtps_ph::<NEAREST>(v));
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,f16c")]
    pub(super) unsafe fn round_avx512(x: &mut [f32], round: Round) {
        let (n, ptr) = (x.len(), x.as_mut_ptr());
        let (limit, nan) = (_mm512_set1_ps(round.saturate), _mm512_set1_ps(round.nan));
        let harmless = _mm512_set1_ps(harmless(round.saturate));
        let mut i = 0;
        // SAFETY: whole vectors lie below `n`; the last one is masked to it.
        unsafe {
            while i + 16 <= n {
                let v = _mm512_loadu_ps(ptr.add(i));
                let common = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(_mm512_abs_ps(v), harmless);
                let v = if common == 0xffff {
                    _mm512_cvtph_ps(_mm512_cvtps_ph::<NEAREST>(v))
                } else {
                    grid_avx512(v, limit, nan)
                };
                _mm512_storeu_ps(ptr.add(i), v);
                i += 16;
            }
            if i < n {
                let m = mask(n - i);
                let v = grid_avx512(_mm512_maskz_loadu_ps(m, ptr.add(i)), limit, nan);
                _mm512_mask_storeu_ps(ptr.add(i), m, v);
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    fn grid_avx2(x: __m256, saturate: __m256, nan: __m256) -> __m256 {
        let inf = _mm256_set1_ps(f32::INFINITY);
        let sign = _mm256_set1_ps(-0.0);
        let y = _mm256_cvtph_ps(_mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x));
        let over = _mm256_cmp_ps::<_CMP_GE_OQ>(_mm256_andnot_ps(sign, y), saturate);
        let y = _mm256_blendv_ps(y, _mm256_or_ps(_mm256_and_ps(y, sign), inf), over);
        _mm256_blendv_ps(y, nan, _mm256_cmp_ps::<_CMP_UNORD_Q>(x, x))
    }

    #[target_feature(enable = "avx2,f16c")]
    pub(super) unsafe fn narrow_avx2(x: &[f32], y: &mut [f16], round: Round) {
        let (n, src, dst) = (x.len(), x.as_ptr(), y.as_mut_ptr());
        let (limit, nan) = (_mm256_set1_ps(round.saturate), _mm256_set1_ps(round.nan));
        let harmless = _mm256_set1_ps(harmless(round.saturate));
        let mut i = 0;
        // SAFETY: whole vectors lie below `n`, the length of both slices.
        unsafe {
            while i + 8 <= n {
                let mut v = _mm256_loadu_ps(src.add(i));
                let size = _mm256_andnot_ps(_mm256_set1_ps(-0.0), v);
                if _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(size, harmless)) != 0xff {
                    v = grid_avx2(v, limit, nan);
                }
                _mm_storeu_si128(
                    dst.add(i).cast(),
                    _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v),
                );
                i += 8;
            }
        }
        narrow_portable(&x[i..], &mut y[i..], round);
    }

    #[target_feature(enable = "avx2,f16c")]
    pub(super) unsafe fn round_avx2(x: &mut [f32], round: Round) {
        let (n, ptr) = (x.len(), x.as_mut_ptr());
        let (limit, nan) = (_mm256_set1_ps(round.saturate), _mm256_set1_ps(round.nan));
        let mut i = 0;
        // SAFETY: whole vectors lie below `n`.
        unsafe {
            while i + 8 <= n {
                let v = grid_avx2(_mm256_loadu_ps(ptr.add(i)), limit, nan);
                _mm256_storeu_ps(ptr.add(i), v);
                i += 8;
            }
        }
        round_portable(&mut x[i..], round);
    }
}

/// Conversions by FCVTL and FCVTN, which are part of the base instruction set; the intrinsics for them
/// are newer than the oldest compiler that builds this.
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon {
    use super::{Round, narrow_portable, round_portable, widen_bits};
    use half::f16;
    use std::arch::aarch64::*;
    use std::arch::asm;

    /// 4 elements of `p`, widened.
    ///
    /// # Safety
    /// 4 elements may be read.
    #[inline(always)]
    pub(crate) unsafe fn load_half(p: *const f16) -> float32x4_t {
        let wide: float32x4_t;
        // SAFETY: the caller's promise; the instructions touch nothing but the named registers.
        unsafe {
            asm!(
                "ldr {half:d}, [{p}]",
                "fcvtl {wide:v}.4s, {half:v}.4h",
                p = in(reg) p, half = out(vreg) _, wide = lateout(vreg) wide,
                options(pure, readonly, nostack, preserves_flags)
            );
        }
        wide
    }

    /// Rounds 4 elements to f16, ties to even, and stores them.
    ///
    /// # Safety
    /// 4 elements may be written.
    #[inline(always)]
    pub(super) unsafe fn store_half(p: *mut f16, v: float32x4_t) {
        // SAFETY: the caller's promise; the instructions touch nothing but the named registers.
        unsafe {
            asm!(
                "fcvtn {half:v}.4h, {wide:v}.4s",
                "str {half:d}, [{p}]",
                p = in(reg) p, wide = in(vreg) v, half = out(vreg) _,
                options(nostack, preserves_flags)
            );
        }
    }

    /// The values of `x` on the f16 grid under the rule.
    #[inline(always)]
    fn grid(x: float32x4_t, round: Round) -> float32x4_t {
        let wide: float32x4_t;
        // SAFETY: arithmetic on registers; NEON is part of the target.
        unsafe {
            asm!(
                "fcvtn {half:v}.4h, {x:v}.4s",
                "fcvtl {wide:v}.4s, {half:v}.4h",
                x = in(vreg) x, half = out(vreg) _, wide = lateout(vreg) wide,
                options(pure, nomem, nostack, preserves_flags)
            );
            let over = vcgeq_f32(vabsq_f32(wide), vdupq_n_f32(round.saturate));
            // The sign of the element on an infinity.
            let infinite = vbslq_f32(vdupq_n_u32(1 << 31), wide, vdupq_n_f32(f32::INFINITY));
            let limited = vbslq_f32(over, infinite, wide);
            vbslq_f32(vceqq_f32(x, x), limited, vdupq_n_f32(round.nan))
        }
    }

    pub(super) fn widen(x: &[f16], y: &mut [f32]) {
        let whole = x.len().min(y.len()) / 4 * 4;
        for i in (0..whole).step_by(4) {
            // SAFETY: 4 elements from `i` on lie below `whole`.
            unsafe { vst1q_f32(y.as_mut_ptr().add(i), load_half(x.as_ptr().add(i))) };
        }
        for (y, x) in y[whole..].iter_mut().zip(&x[whole..]) {
            *y = widen_bits(x.to_bits());
        }
    }

    pub(super) fn narrow(x: &[f32], y: &mut [f16], round: Round) {
        let whole = x.len().min(y.len()) / 4 * 4;
        for i in (0..whole).step_by(4) {
            // SAFETY: 4 elements from `i` on lie below `whole`.
            unsafe {
                let v = grid(vld1q_f32(x.as_ptr().add(i)), round);
                store_half(y.as_mut_ptr().add(i), v);
            }
        }
        narrow_portable(&x[whole..], &mut y[whole..], round);
    }

    pub(super) fn round(x: &mut [f32], round: Round) {
        let whole = x.len() / 4 * 4;
        for i in (0..whole).step_by(4) {
            // SAFETY: 4 elements from `i` on lie below `whole`.
            unsafe {
                let p = x.as_mut_ptr().add(i);
                vst1q_f32(p, grid(vld1q_f32(p), round));
            }
        }
        round_portable(&mut x[whole..], round);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels() -> Vec<Level> {
        [Level::Avx512, Level::Avx2, Level::Neon, Level::Portable]
            .into_iter()
            .filter(|level| level.available())
            .collect()
    }

    /// A dense sweep: every 509th f32 of both signs (509 is prime, so that all low bits vary),
    /// over all exponents, subnormals and infinities included.
    fn sweep() -> Vec<f32> {
        let positive = (0..=0x7f80_0000u32).step_by(509).map(f32::from_bits);
        positive.flat_map(|v| [v, -v]).chain([f32::INFINITY, f32::NEG_INFINITY]).collect()
    }

    /// |got - want| in units in the last place of `want` as an f32.
    fn ulps(got: f32, want: f64) -> f64 {
        let rounded = want as f32;
        if !rounded.is_finite() || !got.is_finite() {
            // One step below overflow counts as one unit.
            let same = got == rounded || (got.abs() == f32::MAX || rounded.abs() == f32::MAX);
            return if same { 0.0 } else { f64::INFINITY };
        }
        let bits = rounded.abs().to_bits();
        let spacing = f64::from(f32::from_bits(bits + 1)) - f64::from(f32::from_bits(bits));
        let spacing = if spacing.is_finite() { spacing } else { 2f64.powi(104) };
        (f64::from(got) - want).abs() / spacing
    }

    fn check<U: Unary>(name: &str, bound: f64, reference: impl Fn(f64) -> f64) {
        let at = |level, x: &mut [f32]| dispatch_at(level, Map::<U>(x, PhantomData));
        check_at(name, bound, at, reference);
    }

    fn check_at(
        name: &str,
        bound: f64,
        f: impl Fn(Level, &mut [f32]),
        reference: impl Fn(f64) -> f64,
    ) {
        let xs = sweep();
        for level in levels() {
            let mut ys = xs.clone();
            f(level, &mut ys);
            let mut worst = (0.0, 0.0f32, 0.0f32);
            for (&x, &y) in xs.iter().zip(&ys) {
                let want = reference(f64::from(x));
                if want.is_nan() {
                    assert!(y.is_nan(), "{name}({x:e}) = {y:e} at {level:?}, expected NaN");
                    continue;
                }
                let error = ulps(y, want);
                if error > worst.0 {
                    worst = (error, x, y);
                }
            }
            assert!(worst.0 <= bound, "{name} {level:?}: {worst:?} exceeds {bound} ulp");
            let mut nan = [f32::NAN; 17];
            f(level, &mut nan);
            assert!(nan.iter().all(|v| v.is_nan()), "{name} {level:?} loses NaN: {nan:?}");
        }
    }

    /// erf in f64 by its Taylor series below 2 and the continued fraction of erfc above.
    fn erf_reference(x: f64) -> f64 {
        let a = x.abs();
        let scale = 2.0 / std::f64::consts::PI.sqrt();
        let y = if a < 2.0 {
            let (mut term, mut total, mut k) = (a, a, 0.0);
            while term.abs() > 1e-18 * total.abs() {
                k += 1.0;
                term *= -a * a / k;
                total += term / (2.0 * k + 1.0);
            }
            if a == 0.0 { 0.0 } else { scale * total }
        } else if a > 6.0 {
            1.0
        } else {
            let mut fraction = 0.0;
            for k in (1..200).rev() {
                fraction = f64::from(k) / 2.0 / (a + fraction);
            }
            1.0 - (-a * a).exp() / (std::f64::consts::PI.sqrt() * (a + fraction))
        };
        y.copysign(x)
    }

    #[test]
    fn exp_is_within_one_ulp() {
        check::<Exp>("exp", 0.9, f64::exp);
    }

    #[test]
    fn sigmoid_is_within_two_ulp() {
        let reference = |x: f64| {
            if x < 0.0 { x.exp() / (1.0 + x.exp()) } else { 1.0 / (1.0 + (-x).exp()) }
        };
        // At -inf the reference is exp(-inf) / 1 = 0.
        check::<Sigmoid>("sigmoid", 1.95, reference);
    }

    #[test]
    fn tanh_is_within_two_ulp() {
        check::<Tanh>("tanh", 1.55, f64::tanh);
    }

    #[test]
    fn erf_is_within_two_ulp() {
        assert!((erf_reference(0.5) - 0.520_499_877_813_046_5).abs() < 1e-15);
        assert!((erf_reference(2.5) - 0.999_593_047_982_555).abs() < 1e-14);
        check::<Erf>("erf", 1.45, erf_reference);
    }

    #[test]
    fn log_is_within_one_ulp() {
        check::<Log>("log", 0.85, f64::ln);
        for level in levels() {
            let mut x = [0.0, -0.0, -1.0, 1.0, f32::INFINITY];
            dispatch_at(level, Map::<Log>(&mut x, PhantomData));
            assert_eq!(x[0], f32::NEG_INFINITY);
            assert_eq!(x[1], f32::NEG_INFINITY);
            assert!(x[2].is_nan());
            assert_eq!(x[3].to_bits(), 0, "log(1) is +0");
            assert_eq!(x[4], f32::INFINITY);
        }
    }

    #[test]
    fn roots_are_within_two_ulp() {
        check_at("sqrt", 0.5, |level, x| dispatch_at(level, Each(x, f32::sqrt)), f64::sqrt);
        let rsqrt = |x: f32| 1.0 / x.sqrt();
        let at = |level, x: &mut [f32]| dispatch_at(level, Each(x, rsqrt));
        check_at("rsqrt", 1.5, at, |x| 1.0 / x.sqrt());
    }

    #[test]
    fn exp_keeps_its_limits() {
        for level in levels() {
            let mut x =
                [f32::INFINITY, f32::NEG_INFINITY, 0.0, 88.73, 88.72, -87.4, -103.9, -104.0];
            dispatch_at(level, Map::<Exp>(&mut x, PhantomData));
            assert_eq!(x[..4], [f32::INFINITY, 0.0, 1.0, f32::INFINITY]);
            assert!(x[4].is_finite());
            assert!(x[5] > 0.0 && x[5] < f32::MIN_POSITIVE, "subnormal results are kept");
            assert_eq!(x[6], f32::from_bits(1));
            assert_eq!(x[7], 0.0);
        }
    }

    #[test]
    fn every_f16_widens_exactly_and_returns() {
        let all: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
        for level in levels() {
            let mut wide = vec![0.0; all.len()];
            widen_at(level, &all, &mut wide);
            let mut back = vec![f16::ZERO; all.len()];
            narrow_at(level, &wide, &mut back, Round::IEEE);
            for ((h, w), b) in all.iter().zip(&wide).zip(&back) {
                if h.is_nan() {
                    assert!(w.is_nan() && b.is_nan());
                } else {
                    assert_eq!(w.to_bits(), h.to_f32_const().to_bits(), "{level:?} {h:?}");
                    assert_eq!(h.to_bits(), b.to_bits(), "{level:?} {h:?}");
                }
            }
        }
    }

    #[test]
    fn narrowing_agrees_with_half_and_between_levels() {
        let mut xs = sweep();
        // Every midpoint of neighbouring f16 and its f32 neighbours.
        for bits in 0..0x7c00u16 {
            let low = f16::from_bits(bits).to_f32();
            let high = if bits == 0x7bff { 65536.0 } else { f16::from_bits(bits + 1).to_f32() };
            let middle = ((low + high) / 2.0).to_bits();
            xs.extend([middle - 1, middle, middle + 1].map(f32::from_bits));
            xs.extend([middle - 1, middle, middle + 1].map(|b| -f32::from_bits(b)));
        }
        for level in levels() {
            let mut narrowed = vec![f16::ZERO; xs.len()];
            narrow_at(level, &xs, &mut narrowed, Round::IEEE);
            let mut rounded = xs.clone();
            round_at(level, &mut rounded, Round::IEEE);
            for ((x, h), r) in xs.iter().zip(&narrowed).zip(&rounded) {
                let want = f16::from_f32_const(*x);
                assert_eq!(h.to_bits(), want.to_bits(), "{level:?} {x:e}");
                assert_eq!(r.to_bits(), want.to_f32_const().to_bits(), "{level:?} {x:e}");
            }
        }
    }

    #[test]
    fn the_engine_saturates_and_never_emits_nan() {
        let inf = f32::INFINITY;
        let input =
            [32751.0, 32759.9, 32760.0, -32760.0, 40000.0, -inf, f32::NAN, 1.0 + 2f32.powi(-11)];
        let mac = [32752.0, 32752.0, inf, -inf, inf, -inf, inf, 1.0];
        let elementwise = [32752.0, 32752.0, 32768.0, -32768.0, 40000.0, -inf, 0.0, 1.0];
        for level in levels() {
            // 3 copies, so that whole vectors and the remainder are both exercised.
            for (round, want) in [(Round::PRODUCT, mac), (Round::ELEMENTWISE, elementwise)] {
                let mut x = input.repeat(3);
                round_at(level, &mut x, round);
                assert_eq!(x, want.repeat(3), "{level:?} {round:?}");
                let mut h = vec![f16::ZERO; 24];
                narrow_at(level, &input.repeat(3), &mut h, round);
                let h: Vec<f32> = h.iter().map(|v| v.to_f32()).collect();
                assert_eq!(h, want.repeat(3), "{level:?} {round:?}");
                let single: Vec<f32> = input.iter().map(|&v| round_one(v, round)).collect();
                assert_eq!(single, want);
            }
            // Whole vectors of one value on both sides of the limits.
            for v in
                [31.9e3, 32736.0, 32743.9, 32752.0, 32759.9, 32760.0, 32768.0, 65519.0, 65520.0]
            {
                for round in [Round::PRODUCT, Round::ELEMENTWISE] {
                    let (mut x, mut h) = ([v; 16], [f16::ZERO; 16]);
                    narrow_at(level, &x, &mut h, round);
                    round_at(level, &mut x, round);
                    assert_eq!(x, [round_one(v, round); 16], "{level:?} {v} {round:?}");
                    assert_eq!(h.map(f16::to_f32), x);
                }
            }
            let mut x = [f32::NAN; 19];
            round_at(level, &mut x, Round::IEEE);
            assert!(x.iter().all(|v| v.is_nan()));
        }
    }

    #[test]
    fn reductions_match_f64() {
        for n in [0, 1, 2, 63, 64, 65, 200, 1000, 4097] {
            let x: Vec<f32> = (0..n).map(|i| ((i * 37 % 101) as f32 - 50.0) / 7.0).collect();
            let total = |f: &dyn Fn(usize) -> f64| (0..n).map(f).sum::<f64>();
            let eps = f64::from(f32::EPSILON);
            // Each lane adds at most n/64 + 1 terms, then six levels of the tree.
            let bound = |s: f64| eps * (n as f64 / 64.0 + 8.0) * s + 1e-30;
            let (want, size) = (total(&|i| x[i].into()), total(&|i| x[i].abs().into()));
            let squares = total(&|i| f64::from(x[i]).powi(2));
            for level in levels() {
                assert!((f64::from(dispatch_at(level, Sum(&x))) - want).abs() <= bound(size));
                let got = f64::from(dispatch_at(level, SumSquare(&x)));
                assert!((got - squares).abs() <= bound(squares));
                let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                assert_eq!(dispatch_at(level, Max(&x)), largest);
                let mut e = x.clone();
                let got = f64::from(dispatch_at(level, ExpSub(&mut e, largest)));
                let want = total(&|i| f64::from(x[i] - largest).exp());
                assert!((got - want).abs() <= bound(want) + 2.0 * eps * want);
                let (mut rows, mut sums) = (x.clone(), vec![1.0; n]);
                dispatch_at(level, ColumnExp(&mut rows, &vec![largest; n], &mut sums));
                assert_eq!(rows, e);
                assert!(sums.iter().zip(&e).all(|(s, e)| *s == 1.0 + e));
            }
        }
        assert_eq!(max_of(&[f32::NAN, 1.0, f32::NAN]), 1.0);
    }

    #[test]
    fn arithmetic_keeps_its_special_values() {
        let nan = f32::NAN;
        let of = |f: &dyn Fn(&mut [f32])| {
            let mut x = [1.5, -2.0, nan, 0.0];
            f(&mut x);
            x
        };
        let y = [2.0, nan, 4.0, -0.5];
        assert_eq!(of(&|x| max(x, &y)), [2.0, -2.0, 4.0, 0.0]);
        assert_eq!(of(&|x| min(x, &y)), [1.5, -2.0, 4.0, -0.5]);
        assert_eq!(of(&|x| clip(x, 0.0, 1.0)), [1.0, 0.0, 0.0, 0.0]);
        assert_eq!(of(&|x| replace_nan(x, 7.0)), [1.5, -2.0, 7.0, 0.0]);
        let picked = of(&|x| select(x, &[1.0, 0.0, nan, -0.0], &[5.0; 4], &[6.0; 4]));
        assert_eq!(picked, [5.0, 6.0, 5.0, 6.0], "NaN is not 0");
    }

    /// At every level and place, so that bits do not depend on the machine.
    #[test]
    fn of_two_zeros_the_larger_is_plus_zero() {
        let zeros =
            |step: usize| -> Vec<f32> { (0..101).map(|i| [0.0, -0.0][i / step % 2]).collect() };
        let bits = |x: &[f32]| -> Vec<u32> { x.iter().map(|v| v.to_bits()).collect() };
        let (x, y) = (zeros(1), zeros(2));
        let check = |level, f: fn(f32, f32) -> f32, right: fn(u32, u32) -> u32| {
            let mut got = x.clone();
            dispatch_at(level, Zip(&mut got, &y, f));
            let pairs = bits(&x).into_iter().zip(bits(&y));
            assert_eq!(
                bits(&got),
                pairs.map(|(x, y)| right(x, y)).collect::<Vec<_>>(),
                "{level:?}"
            );
        };
        for level in levels() {
            check(level, larger, |x, y| x & y);
            check(level, smaller, |x, y| x | y);
            // With a constant, as in a clip.
            let (mut l, mut s) = (x.clone(), x.clone());
            dispatch_at(level, Each(&mut l, |v| larger(v, 0.0)));
            dispatch_at(level, Each(&mut s, |v| smaller(v, 0.0)));
            assert!(bits(&l).iter().all(|&b| b == 0), "{level:?}");
            assert_eq!(bits(&s), bits(&x), "{level:?}");
        }
    }

    #[test]
    #[should_panic(expected = "slices of one length")]
    fn lengths_must_agree() {
        add(&mut [1.0, 2.0], &[1.0]);
    }
}
