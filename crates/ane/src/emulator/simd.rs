//! Vectorised arithmetic on slices of f32.
//!
//! Each function is plain code over slices, compiled three times — for AVX-512, for AVX2 with FMA,
//! and for whatever the target has — and chosen once at run time. The polynomials are minimax-style
//! expansions whose error is measured against f64 by the tests at the end of this file.

#![allow(unsafe_code, reason = "calls functions compiled for CPU features found at run time")]

use std::sync::OnceLock;

/// Instruction sets that the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The target's baseline (SSE2 on x86-64, NEON on AArch64).
    Portable,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
}

/// What this CPU has.
pub fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(detect)
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Level {
    let avx2 = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c");
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    match (avx2, avx512) {
        (true, true) => Level::Avx512,
        (true, false) => Level::Avx2,
        _ => Level::Portable,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Level {
    Level::Portable
}

macro_rules! kernels {
    ($($(#[$doc:meta])* pub fn $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)? $body:block)*) => {$(
        $(#[$doc])*
        pub fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn portable($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
                fn avx512($($arg: $ty),*) $(-> $ret)? { portable($($arg),*) }
                #[target_feature(enable = "avx2,fma,f16c")]
                fn avx2($($arg: $ty),*) $(-> $ret)? { portable($($arg),*) }
                match level() {
                    // SAFETY: `level` found these features on this CPU.
                    Level::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: `level` found these features on this CPU.
                    Level::Avx2 => return unsafe { avx2($($arg),*) },
                    Level::Portable => {}
                }
            }
            portable($($arg),*)
        }
    )*};
}

/// 2^n for integral n in [−126, 127].
#[inline(always)]
fn exp2i(n: f32) -> f32 {
    f32::from_bits(((n as i32 + 127) << 23) as u32)
}

/// e^x: x = n·ln 2 + r with |r| ≤ ln 2 / 2, Taylor series of e^r to r⁷ (remainder < 2^-27 relative).
#[inline(always)]
fn exp1(x: f32) -> f32 {
    // Beyond these the result is 0 or ∞; between them 2^n is split in two factors so that results
    // below the smallest normal number are rounded once.
    let clamped = x.clamp(-104.0, 89.0);
    let n = (clamped * std::f32::consts::LOG2_E).round_ties_even();
    // ln 2 in two parts, the first exact when multiplied by |n| ≤ 150 (Cody and Waite).
    let r = n.mul_add(-0.693_359_4, clamped);
    let r = n.mul_add(2.121_944_4e-4, r);
    let p = r.mul_add(1.0 / 5040.0, 1.0 / 720.0);
    let p = r.mul_add(p, 1.0 / 120.0);
    let p = r.mul_add(p, 1.0 / 24.0);
    let p = r.mul_add(p, 1.0 / 6.0);
    let p = r.mul_add(p, 0.5);
    let p = (r * r).mul_add(p, r) + 1.0;
    let half = (n * 0.5).floor();
    let y = p * exp2i(half) * exp2i(n - half);
    if x.is_nan() { x } else { y }
}

#[inline(always)]
fn sigmoid1(x: f32) -> f32 {
    1.0 / (1.0 + exp1(-x))
}

/// tanh x: odd polynomial near zero (no cancellation), (1 − e^−2|x|)/(1 + e^−2|x|) elsewhere.
#[inline(always)]
fn tanh1(x: f32) -> f32 {
    let a = x.abs();
    let e = exp1(-2.0 * a);
    let far = (1.0 - e) / (1.0 + e);
    let z = x * x;
    // Taylor coefficients of tanh x / x in x²; |x| < 0.3 leaves a remainder below 2^-26.
    let p = z.mul_add(-1382.0 / 155_925.0, 62.0 / 2835.0);
    let p = z.mul_add(p, -17.0 / 315.0);
    let p = z.mul_add(p, 2.0 / 15.0);
    let p = z.mul_add(p, -1.0 / 3.0);
    let near = (x * z).mul_add(p, x);
    (if a < 0.3 { near } else { far }).copysign(x)
}

/// ln x: x = m·2^e with m in [√½, √2), then ln m = 2·atanh((m−1)/(m+1)) as a series.
#[inline(always)]
fn log1(x: f32) -> f32 {
    let tiny = x < f32::MIN_POSITIVE;
    let scaled = if tiny { x * 8_388_608.0 } else { x };
    let bits = scaled.to_bits() as i32;
    let shifted = bits - 0x3f35_04f3;
    let e = (shifted >> 23) as f32 - if tiny { 23.0 } else { 0.0 };
    let m = f32::from_bits((bits - (shifted & !0x007f_ffff)) as u32);
    let f = m - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let p = z.mul_add(2.0 / 9.0, 2.0 / 7.0);
    let p = z.mul_add(p, 2.0 / 5.0);
    let p = z.mul_add(p, 2.0 / 3.0);
    // ln(1+f) = f − f²/2 + s·(f²/2 + z·p): the leading term stays exact (Tang).
    let h = 0.5 * f * f;
    let r = e.mul_add(-2.121_944_4e-4, s * z.mul_add(p, h)) - h;
    let y = e.mul_add(0.693_359_4, f + r);
    if x == f32::INFINITY || x.is_nan() {
        x
    } else if x > 0.0 {
        y
    } else if x == 0.0 {
        f32::NEG_INFINITY
    } else {
        f32::NAN
    }
}

/// erf x: Taylor series (Abramowitz and Stegun 7.1.5) below 0.75; above it 1 − t·e^(−x²+P(t)) with
/// t = 1/(1 + x/2), the Chebyshev fit of Numerical Recipes' `erfcc` (relative error 1.2e-7 of erfc).
#[inline(always)]
fn erf1(x: f32) -> f32 {
    const FIT: [f32; 10] = [
        0.170_872_77,
        -0.822_152_2,
        1.488_515_9,
        -1.135_204,
        0.278_868_07,
        -0.186_288_06,
        0.096_784_18,
        0.374_091_96,
        1.000_023_7,
        -1.265_512_2,
    ];
    /// (−1)^n / (n!·(2n+1)) for n = 8 … 0.
    const SERIES: [f32; 9] = [
        1.0 / (40_320.0 * 17.0),
        -1.0 / (5040.0 * 15.0),
        1.0 / (720.0 * 13.0),
        -1.0 / (120.0 * 11.0),
        1.0 / (24.0 * 9.0),
        -1.0 / (6.0 * 7.0),
        1.0 / (2.0 * 5.0),
        -1.0 / 3.0,
        1.0,
    ];
    let a = x.abs();
    let t = 1.0 / 0.5f32.mul_add(a, 1.0);
    let p = FIT[1..].iter().fold(FIT[0], |p, c| p.mul_add(t, *c));
    let far = 1.0 - t * exp1((-a).mul_add(a, p));
    let z = x * x;
    let series = SERIES[1..].iter().fold(SERIES[0], |p, c| p.mul_add(z, *c));
    let near = x * series * std::f32::consts::FRAC_2_SQRT_PI;
    if a < 0.75 { near } else { far.copysign(x) }
}

/// x rounded to the nearest binary16 value, ties to even; |x| ≥ `limit` or beyond 65504 becomes ±∞;
/// NaN becomes `nan`: the engine never emits one (facts/ane.md E.2, E.3).
#[inline(always)]
fn round_f16_1(x: f32, limit: f32, nan: f32) -> f32 {
    let bits = x.to_bits();
    let a = f32::from_bits(bits & 0x7fff_ffff);
    let m = bits & 0x7fff_ffff;
    let normal = f32::from_bits((m + 0x0fff + ((m >> 13) & 1)) & !0x1fff);
    // One unit in the last place of f32 at ½ is 2^-24, the step of binary16's subnormals.
    let subnormal = (a + 0.5) - 0.5;
    let r = if a < 6.103_515_6e-5 { subnormal } else { normal };
    let r = if r >= 65_536.0 || a >= limit { f32::INFINITY } else { r };
    if x.is_nan() { nan } else { r.copysign(x) }
}

kernels! {
    /// x ← e^x.
    pub fn exp(x: &mut [f32]) { for v in x { *v = exp1(*v); } }

    /// x ← 1 / (1 + e^−x).
    pub fn sigmoid(x: &mut [f32]) { for v in x { *v = sigmoid1(*v); } }

    /// x ← x / (1 + e^−x).
    pub fn silu(x: &mut [f32]) { for v in x { *v *= sigmoid1(*v); } }

    /// x ← tanh x.
    pub fn tanh(x: &mut [f32]) { for v in x { *v = tanh1(*v); } }

    /// x ← ln x.
    pub fn log(x: &mut [f32]) { for v in x { *v = log1(*v); } }

    /// x ← erf x.
    pub fn erf(x: &mut [f32]) { for v in x { *v = erf1(*v); } }

    /// x ← √x.
    pub fn sqrt(x: &mut [f32]) { for v in x { *v = v.sqrt(); } }

    /// x ← 1/√x.
    pub fn rsqrt(x: &mut [f32]) { for v in x { *v = 1.0 / v.sqrt(); } }

    /// x ← 1/x.
    pub fn inverse(x: &mut [f32]) { for v in x { *v = 1.0 / *v; } }

    /// x ← |x|.
    pub fn abs(x: &mut [f32]) { for v in x { *v = v.abs(); } }

    /// x ← a·x + b, the product rounded first.
    pub fn affine(x: &mut [f32], a: f32, b: f32) { for v in x { *v = *v * a + b; } }

    /// x ← min(max(x, lo), hi).
    pub fn clip(x: &mut [f32], lo: f32, hi: f32) { for v in x { *v = v.max(lo).min(hi); } }

    /// x ← x + y.
    pub fn add(x: &mut [f32], y: &[f32]) { for (v, y) in x.iter_mut().zip(y) { *v += *y; } }

    /// x ← x − y.
    pub fn sub(x: &mut [f32], y: &[f32]) { for (v, y) in x.iter_mut().zip(y) { *v -= *y; } }

    /// x ← x · y.
    pub fn mul(x: &mut [f32], y: &[f32]) { for (v, y) in x.iter_mut().zip(y) { *v *= *y; } }

    /// x ← x / y.
    pub fn div(x: &mut [f32], y: &[f32]) { for (v, y) in x.iter_mut().zip(y) { *v /= *y; } }

    /// x ← max(x, y).
    pub fn max(x: &mut [f32], y: &[f32]) { for (v, y) in x.iter_mut().zip(y) { *v = v.max(*y); } }

    /// x ← min(x, y).
    pub fn min(x: &mut [f32], y: &[f32]) { for (v, y) in x.iter_mut().zip(y) { *v = v.min(*y); } }

    /// out ← c ≠ 0 ? a : b.
    pub fn select(out: &mut [f32], c: &[f32], a: &[f32], b: &[f32]) {
        for (((o, c), a), b) in out.iter_mut().zip(c).zip(a).zip(b) {
            *o = if *c != 0.0 { *a } else { *b };
        }
    }

    /// Rounds to the binary16 grid in place: see the module's `round_f16_1`.
    pub fn round_f16(x: &mut [f32], limit: f32, nan: f32) { for v in x { *v = round_f16_1(*v, limit, nan); } }

    /// Σx, in sixteen partial sums added in a fixed order.
    pub fn sum(x: &[f32]) -> f32 {
        let mut lanes = [0.0f32; 16];
        let chunks = x.chunks_exact(16);
        let rest = chunks.remainder();
        for chunk in chunks {
            for (l, v) in lanes.iter_mut().zip(chunk) { *l += *v; }
        }
        for (l, v) in lanes.iter_mut().zip(rest) { *l += *v; }
        let mut width = 8;
        while width > 0 {
            for i in 0..width { lanes[i] += lanes[i + width]; }
            width /= 2;
        }
        lanes[0]
    }

    /// Σx², as [`sum`].
    pub fn sum_square(x: &[f32]) -> f32 {
        let mut lanes = [0.0f32; 16];
        let chunks = x.chunks_exact(16);
        let rest = chunks.remainder();
        for chunk in chunks {
            for (l, v) in lanes.iter_mut().zip(chunk) { *l += *v * *v; }
        }
        for (l, v) in lanes.iter_mut().zip(rest) { *l += *v * *v; }
        let mut width = 8;
        while width > 0 {
            for i in 0..width { lanes[i] += lanes[i + width]; }
            width /= 2;
        }
        lanes[0]
    }

    /// Largest element; −∞ when empty.
    pub fn max_of(x: &[f32]) -> f32 {
        let mut lanes = [f32::NEG_INFINITY; 16];
        let chunks = x.chunks_exact(16);
        let rest = chunks.remainder();
        for chunk in chunks {
            for (l, v) in lanes.iter_mut().zip(chunk) { *l = l.max(*v); }
        }
        for (l, v) in lanes.iter_mut().zip(rest) { *l = l.max(*v); }
        lanes.iter().copied().fold(f32::NEG_INFINITY, f32::max)
    }

    /// acc ← acc + x·y summed over both, sixteen lanes.
    pub fn dot(x: &[f32], y: &[f32]) -> f32 {
        let mut lanes = [0.0f32; 16];
        let n = x.len().min(y.len());
        let (x, y) = (&x[..n], &y[..n]);
        let (cx, cy) = (x.chunks_exact(16), y.chunks_exact(16));
        let (rx, ry) = (cx.remainder(), cy.remainder());
        for (a, b) in cx.zip(cy) {
            for i in 0..16 { lanes[i] = a[i].mul_add(b[i], lanes[i]); }
        }
        for i in 0..rx.len() { lanes[i] = rx[i].mul_add(ry[i], lanes[i]); }
        let mut width = 8;
        while width > 0 {
            for i in 0..width { lanes[i] += lanes[i + width]; }
            width /= 2;
        }
        lanes[0]
    }

    /// y ← y + a·x.
    pub fn axpy(y: &mut [f32], a: f32, x: &[f32]) {
        for (y, x) in y.iter_mut().zip(x) { *y = a.mul_add(*x, *y); }
    }
}

/// Widens binary16 to f32.
pub fn widen(from: &[half::f16], to: &mut [f32]) {
    use half::slice::HalfFloatSliceExt;
    from.convert_to_f32_slice(to);
}

/// Narrows f32 to binary16, ties to even; values beyond its range become ±∞.
pub fn narrow(from: &[f32], to: &mut [half::f16]) {
    use half::slice::HalfFloatSliceExt;
    to.convert_from_f32_slice(from);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Largest error in units in the last place of the f32 result, over a sweep of `range`.
    fn worst(range: (f32, f32), f: fn(&mut [f32]), reference: fn(f64) -> f64) -> f64 {
        let n = 400_000;
        let x: Vec<f32> =
            (0..n).map(|i| range.0 + (range.1 - range.0) * (i as f32 / n as f32)).collect();
        let mut y = x.clone();
        f(&mut y);
        let error = |(x, y): (&f32, &f32)| {
            let exact = reference(f64::from(*x));
            let ulp = f64::from((exact as f32).abs().max(f32::MIN_POSITIVE)) * 2f64.powi(-23);
            (f64::from(*y) - exact).abs() / ulp
        };
        x.iter().zip(&y).map(error).fold(0.0, f64::max)
    }

    #[test]
    fn accuracy_against_f64() {
        let report = |name: &str, ulp: f64, limit: f64| {
            assert!(ulp <= limit, "{name}: {ulp:.2} ulp, allowed {limit}");
        };
        report("exp", worst((-87.0, 88.0), exp, f64::exp), 2.0);
        report("sigmoid", worst((-80.0, 80.0), sigmoid, |x| 1.0 / (1.0 + (-x).exp())), 4.0);
        report("tanh", worst((-10.0, 10.0), tanh, f64::tanh), 4.0);
        report("log", worst((1e-3, 1e3), log, f64::ln), 4.0);
        // erfcc's fractional error is 1.2e-7 of 1 − erf, that is about one ulp of erf itself.
        report("erf", worst((-4.0, 4.0), erf, mil::interp::erf), 4.0);
    }

    #[test]
    fn special_values() {
        let of = |f: fn(&mut [f32]), x: f32| {
            let mut v = [x];
            f(&mut v);
            v[0]
        };
        assert_eq!(of(exp, f32::INFINITY), f32::INFINITY);
        assert_eq!(of(exp, f32::NEG_INFINITY), 0.0);
        assert_eq!(of(exp, 0.0), 1.0);
        assert!(of(exp, f32::NAN).is_nan());
        assert!(of(exp, -100.0) > 0.0, "subnormal results are kept");
        assert_eq!(of(log, 0.0), f32::NEG_INFINITY);
        assert!(of(log, -1.0).is_nan());
        assert_eq!(of(sigmoid, f32::NEG_INFINITY), 0.0);
        assert_eq!(of(tanh, -0.0).to_bits(), (-0.0f32).to_bits());
        assert_eq!(of(tanh, 100.0), 1.0);
    }

    #[test]
    fn rounding_agrees_with_binary16_on_every_boundary() {
        // Every f16 value, its neighbours half a step away, and a little to each side of those.
        for bits in 0..0x7c00u16 {
            let (a, b) =
                (half::f16::from_bits(bits).to_f32(), half::f16::from_bits(bits + 1).to_f32());
            let middle = if b.is_finite() { (a + b) / 2.0 } else { 65_520.0 };
            for x in [
                a,
                middle,
                f32::from_bits(middle.to_bits() + 1),
                f32::from_bits(middle.to_bits().max(1) - 1),
            ] {
                for x in [x, -x] {
                    let mut v = [x];
                    round_f16(&mut v, f32::INFINITY, 0.0);
                    assert_eq!(v[0].to_bits(), half::f16::from_f32(x).to_f32().to_bits(), "{x:e}");
                }
            }
        }
        let mut v = [f32::NAN, 32_768.0, 32_767.0, -40_000.0, 1e9];
        round_f16(&mut v, 32_768.0, f32::INFINITY);
        assert_eq!(v, [f32::INFINITY, f32::INFINITY, 32_768.0, f32::NEG_INFINITY, f32::INFINITY]);
    }

    #[test]
    fn sums_cover_every_length() {
        for n in 0..70 {
            let x: Vec<f32> = (0..n).map(|i| (i * i) as f32).collect();
            assert_eq!(sum(&x), (0..n).map(|i| i * i).sum::<usize>() as f32);
            assert_eq!(dot(&x, &x), sum_square(&x));
            assert_eq!(max_of(&x), x.last().copied().unwrap_or(f32::NEG_INFINITY));
        }
    }
}
