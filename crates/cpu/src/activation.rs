//! Activations as the engine tabulates them: 33 knots, equally spaced, straight lines between them,
//! a straight tail on each side, and limits beyond (docs/ane-facts.md E.4, GUIDE:25, 26).
//!
//! The knots of sigmoid were read from a compiled program (ALB:hwx/tinygrad/sigmoid.ane, M1). The
//! other tables are **approximations**: the sources give only their largest errors and a value or
//! two, from which the spacing of the knots and how far they lie off the curve are inferred here.
//! Lines are evaluated in f64 and rounded once; how the silicon rounds inside is not known.

/// A table: 33 values at equally spaced places from −`reach` to `reach`.
struct Knots {
    reach: f64,
    y: [f64; 33],
}

impl Knots {
    /// Values on the curve of `f`, moved by −`share` of the largest error h²/8·f″ of a chord.
    fn of(f: impl Fn(f64) -> f64, reach: f64, share: f64) -> Self {
        let h = reach / 16.0;
        let y = std::array::from_fn(|i| {
            let x = (i as f64 - 16.0) * h;
            // f″ by differences; the knots need no more digits than fp16 has.
            let d = 1e-3;
            let curvature = (f(x + d) - 2.0 * f(x) + f(x - d)) / (d * d);
            f(x) - share * h * h / 8.0 * curvature
        });
        Knots { reach, y }
    }

    /// The straight line between the knots beside x, which lies between the ends.
    fn at(&self, x: f64) -> f64 {
        let place = ((x + self.reach) / (2.0 * self.reach) * 32.0).clamp(0.0, 32.0);
        let i = (place as usize).min(31);
        self.y[i] + (self.y[i + 1] - self.y[i]) * (place - i as f64)
    }
}

/// Sigmoid from −8 to 8 in steps of a half.
const SIGMOID: [f64; 33] = [
    0.000_335_45,
    0.000_552_65,
    0.000_911_24,
    0.001_501_1,
    0.002_471_9,
    0.004_070_3,
    0.006_691_0,
    0.010_986_3,
    0.017_990_1,
    0.029_312_1,
    0.047_424_3,
    0.075_866_7,
    0.119_201_7,
    0.182_373_0,
    0.269_043_0,
    0.377_441_4,
    0.5,
    0.622_558_6,
    0.730_957_0,
    0.817_382_8,
    0.880_859_4,
    0.924_316_4,
    0.952_636_7,
    0.970_703_1,
    0.981_933_6,
    0.988_769_5,
    0.993_164_1,
    0.996_093_8,
    0.997_558_6,
    0.998_535_2,
    0.999_023_4,
    0.999_511_7,
    0.999_511_7,
];

/// 1 / (1 + e^−x), by the engine's own table, tails and limits.
pub(crate) fn sigmoid() -> impl Fn(f64) -> f64 {
    let knots = Knots { reach: 8.0, y: SIGMOID };
    move |x| {
        let x = x.clamp(-9.9375, 8.3203);
        if x < -8.0 {
            1.731e-4 * x + 1.720e-3
        } else if x > 8.0 {
            1.524e-3 * x + 0.9873
        } else {
            knots.at(x)
        }
    }
}

/// tanh x. Published: largest error 0.0017. That is half of a chord's error at a spacing of 3/16,
/// so the knots are taken to reach to ±3 and to lie half of that error off the curve.
pub(crate) fn tanh() -> impl Fn(f64) -> f64 {
    const REACH: f64 = 3.0;
    /// Where the tails end in ±1.
    const END: f64 = 4.25;
    let knots = Knots::of(f64::tanh, REACH, 0.5);
    let slope = (1.0 - knots.y[32]) / (END - REACH);
    move |x| {
        let beyond = x.abs().min(END) - REACH;
        if beyond > 0.0 { (knots.y[32] + slope * beyond).copysign(x) } else { knots.at(x) }
    }
}

/// x·Φ(x), in the variant `f`. Published: largest error 0.0059, gelu(0) = −0.000543 (another source:
/// −0.000754), and one table for all chips. A spacing of a quarter has a chord's error of 0.0062; the
/// value at 0 says that the knots lie 0.087 of it off the curve.
pub(crate) fn gelu(f: impl Fn(f64) -> f64) -> impl Fn(f64) -> f64 {
    const REACH: f64 = 4.0;
    let knots = Knots::of(f, REACH, 0.0871);
    move |x| {
        if x.abs() > REACH { x.max(0.0) } else { knots.at(x) }
    }
}

/// x·sigmoid(x). Published: swish(0) = −0.001259 and a relative error of 1.0e-2: a spacing of a half
/// and knots 0.081 of a chord's error off the curve.
pub(crate) fn silu() -> impl Fn(f64) -> f64 {
    const REACH: f64 = 8.0;
    /// Where the left tail ends in 0.
    const END: f64 = -12.0;
    let knots = Knots::of(|x| x / (1.0 + (-x).exp()), REACH, 0.0806);
    let slope = knots.y[0] / (-REACH - END);
    move |x| {
        if x > REACH {
            x
        } else if x < -REACH {
            slope * (x.max(END) - END)
        } else {
            knots.at(x)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exact::to_half;
    use half::f16;
    use mil::interp::apply_unary;
    use mil::resolve::{GeluMode, Unary};

    /// Largest |f − g| over the fp16 values of [−8, 8], f rounded.
    fn worst(f: impl Fn(f64) -> f64, g: impl Fn(f64) -> f64) -> f64 {
        let grid = (0..=u16::MAX).map(|b| f16::from_bits(b).to_f64()).filter(|x| x.abs() <= 8.0);
        grid.map(|x| (to_half(f(x)).to_f64() - g(x)).abs()).fold(0.0, f64::max)
    }

    fn erf_gelu(x: f64) -> f64 {
        apply_unary(Unary::Gelu(GeluMode::Exact), x)
    }

    #[test]
    fn largest_errors_are_the_published_ones() {
        // Published 0.0034; the chord's error at a spacing of a half is 0.0030.
        let e = worst(sigmoid(), |x| 1.0 / (1.0 + (-x).exp()));
        assert!((0.0029..0.0036).contains(&e), "sigmoid {e}");
        let e = worst(tanh(), f64::tanh);
        assert!((0.0015..0.0022).contains(&e), "tanh {e}");
        let e = worst(gelu(erf_gelu), erf_gelu);
        assert!((0.0053..0.0065).contains(&e), "gelu {e}");
    }

    #[test]
    fn values_at_zero_are_the_published_ones() {
        assert!((gelu(erf_gelu)(0.0) + 0.000_543).abs() < 1e-6);
        assert!((silu()(0.0) + 0.001_259).abs() < 1e-6);
        assert_eq!((sigmoid()(0.0), tanh()(0.0)), (0.5, 0.0));
    }

    #[test]
    fn sigmoid_is_the_table() {
        let f = sigmoid();
        for (i, &y) in SIGMOID.iter().enumerate() {
            let x = -8.0 + i as f64 / 2.0;
            assert!((f(x) - y).abs() < 1e-12);
            assert!((y - 1.0 / (1.0 + (-x).exp())).abs() < 3e-4, "{x}");
        }
        assert!((f(-8.5) - (1.731e-4 * -8.5 + 1.720e-3)).abs() < 1e-12);
        assert_eq!(f(f64::NEG_INFINITY), f(-9.9375));
        assert_eq!(f(f64::INFINITY), f(8.3203));
    }

    #[test]
    fn tables_have_no_gaps() {
        let tables: [&dyn Fn(f64) -> f64; 4] = [&sigmoid(), &tanh(), &silu(), &gelu(erf_gelu)];
        for f in tables {
            for i in -20_000..20_000 {
                let x = f64::from(i) / 1000.0;
                assert!((f(x + 1e-3) - f(x)).abs() < 0.006, "{x}");
            }
        }
    }
}
