//! The engine's units beside the multiply-accumulate array, in `exact` numerics: rounding, functions
//! of one element, reductions and softmax on the fp16 grid.
//!
//! The documented behaviour of the silicon is followed to the bit; the rest is marked as an
//! approximation where it stands, and in docs/numerics.md.

use crate::activation;
use crate::arithmetic::Quirks;
use crate::simd::{self, SliceKernel};
use half::f16;
use mil::interp::apply_unary;
use mil::resolve::{Reduce, Unary};
use std::fmt;
use std::sync::Arc;

/// The fp16 value nearest to `x`, halves away from zero (docs/ane-facts.md E.3); NaN, which the engine
/// never emits, becomes +0, and a magnitude that rounds past 65504 becomes infinite.
pub(crate) fn to_half(x: f64) -> f16 {
    if x.is_nan() {
        return f16::ZERO;
    }
    let magnitude = x.abs();
    // Spacing of the grid at x: 2^−24 among subnormals.
    let exponent = if magnitude >= 2f64.powi(-14) { exponent(magnitude) } else { -14 };
    let step = 2f64.powi(exponent - 10);
    // `round` takes halves away from zero; scaling by a power of two is exact.
    f16::from_f64(((magnitude / step).round() * step).min(f64::INFINITY).copysign(x))
}

/// ⌊log₂ x⌋ of a normal positive x.
fn exponent(x: f64) -> i32 {
    ((x.to_bits() >> 52) & 0x7ff) as i32 - 1023
}

/// [`to_half`] of an f32, as the f32 of the same value.
#[inline(always)]
fn half(x: f32) -> f32 {
    let magnitude = f32::from_bits(x.to_bits() & 0x7fff_ffff);
    // Half of the last kept bit, then cut.
    let normal = f32::from_bits((magnitude.to_bits() + 0x1000) & 0xffff_e000);
    // Multiples of 2^−24: to the nearest, ties to even, then ties that went down go up.
    let scaled = magnitude * 16_777_216.0;
    let even = (scaled + 8_388_608.0) - 8_388_608.0;
    let away = if scaled - even == 0.5 { even + 1.0 } else { even };
    let subnormal = away * (1.0 / 16_777_216.0);
    let y = if magnitude < 6.103_515_6e-5 { subnormal } else { normal };
    let y = if y > 65_504.0 { f32::INFINITY } else { y };
    if x.is_nan() { 0.0 } else { y.copysign(x) }
}

struct RoundAway<'a>(&'a mut [f32]);

impl SliceKernel for RoundAway<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        self.0.iter_mut().for_each(|x| *x = half(*x));
    }
}

/// [`to_half`] of every element, in place.
///
/// Sums, differences, products and quotients of fp16 values may be computed in f32 first: none of
/// them lies so close to the middle between two fp16 values that f32 would round it there.
pub(crate) fn round_away(x: &mut [f32]) {
    simd::dispatch(RoundAway(x));
}

/// A function of one element as a table over all 65536 fp16 values.
pub(crate) struct Table(Box<[f16]>);

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Table")
    }
}

impl Table {
    fn new(f: impl Fn(f64) -> f64) -> Arc<Self> {
        let entry = |bits: u16| {
            let x = f16::from_bits(bits);
            // A NaN is read as +∞ (docs/ane-facts.md E.3).
            to_half(f(if x.is_nan() { f64::INFINITY } else { x.to_f64() }))
        };
        Arc::new(Table((0..=u16::MAX).map(entry).collect()))
    }

    /// Returns the table of `f` on an engine with these quirks.
    pub(crate) fn unary(f: Unary, quirks: Quirks) -> Arc<Self> {
        match f {
            Unary::Sigmoid => Table::new(activation::sigmoid()),
            Unary::Tanh => Table::new(activation::tanh()),
            Unary::Silu => Table::new(activation::silu()),
            Unary::Gelu(_) => Table::new(activation::gelu(|x| apply_unary(f, x))),
            _ => Table::new(|x| unary(f, x, quirks)),
        }
    }

    /// The table of x^y.
    pub(crate) fn power(y: f64) -> Arc<Self> {
        Table::new(|x| if y == -0.5 { unary_rsqrt(x) } else { x.powf(y) })
    }

    /// Replaces every element, all on the fp16 grid, by its value.
    pub(crate) fn apply(&self, x: &mut [f32]) {
        x.iter_mut().for_each(|v| *v = self.0[usize::from(f16::from_f32(*v).to_bits())].to_f32());
    }
}

/// ln 2^15: the argument from which the sum inside of softplus leaves the array's range.
const SOFTPLUS_END: f64 = 10.397_207_708_399_18;
/// log(+0) (docs/ane-facts.md E.2, GUIDE:03-numerics.md).
const LOG_ZERO: f64 = -45_440.0;

/// f(x) before rounding, for functions that are not tabulated with errors.
///
/// Indeterminate and imaginary results are NaN here and become +0 when they are rounded: √−1, 1/√−1,
/// log −1 (docs/ane-facts.md E.3).
fn unary(f: Unary, x: f64, quirks: Quirks) -> f64 {
    match f {
        // CMT#2687: the sum 1 + e^x is lost beyond 2^15.
        Unary::Softplus if x > SOFTPLUS_END => 0.0,
        Unary::Log { epsilon } if x + epsilon == 0.0 => LOG_ZERO,
        // 1/−0 is +∞.
        Unary::Inverse { epsilon } if x + epsilon == 0.0 => f64::INFINITY,
        Unary::Rsqrt { epsilon } => unary_rsqrt(x + epsilon),
        // AF#116: round(1024) = 1025 on M5. Adding a half in fp16 and cutting gives just that;
        // that this is how it comes about is our inference.
        Unary::Round if quirks.round_fault && x.abs() >= 1024.0 => {
            to_half(x.abs() + 0.5).to_f64().trunc().copysign(x)
        }
        _ => apply_unary(f, x),
    }
}

fn unary_rsqrt(x: f64) -> f64 {
    if x == 0.0 { f64::INFINITY } else { 1.0 / x.sqrt() }
}

/// Neighbours that a reduction adds first, rounding to fp16.
const TOGETHER: usize = 4;

/// A reduction of fp16 elements in the order given: the documented model, not confirmed.
///
/// Four neighbours are added one after the other, rounded to fp16 each time; the sums of four are
/// added in f32; the result is rounded (GUIDE:03-numerics.md). Of its published examples this gives
/// [4096] + 1024·\[1\] = 5116 and four survivors of (v, −v, 1)·16 from v = 4096 on, but 20 in place
/// of 16 at v = 4090. Two implementations exist (M1 and M2; M4 and M5), which published errors tell
/// apart but do not explain; both get this model.
///
/// Reduces many columns side by side: [`Reductions::push`] takes a row with an element for each; or a single one,
/// along its elements: [`Reductions::extend`].
#[derive(Debug)]
pub(crate) struct Reductions<'a> {
    f: Reduce,
    /// Sums of the last, at most three, elements of each column.
    lanes: &'a mut [f32],
    totals: &'a mut [f32],
    count: usize,
}

impl<'a> Reductions<'a> {
    /// Begins as many reductions as `lanes` and `totals` have elements; their values do not matter.
    pub(crate) fn new(f: Reduce, lanes: &'a mut [f32], totals: &'a mut [f32]) -> Self {
        lanes.fill(0.0);
        totals.fill(match f {
            Reduce::Max => f32::NEG_INFINITY,
            Reduce::Min => f32::INFINITY,
            _ => 0.0,
        });
        Reductions { f, lanes, totals, count: 0 }
    }

    /// Takes one more element of each column, on the fp16 grid; `row` is scratch and is clobbered.
    pub(crate) fn push(&mut self, row: &mut [f32]) {
        terms(self.f, row);
        self.count += 1;
        match self.f {
            Reduce::Max => return simd::zip(self.totals, row, simd::larger),
            Reduce::Min => return simd::zip(self.totals, row, simd::smaller),
            _ => simd::zip(self.lanes, row, |sum, x| half(sum + x)),
        }
        if self.count.is_multiple_of(TOGETHER) {
            self.flush();
        }
    }

    fn flush(&mut self) {
        simd::add(self.totals, self.lanes);
        self.lanes.fill(0.0);
    }

    /// Takes more elements of the only column, on the fp16 grid; `run` is scratch and is clobbered.
    pub(crate) fn extend(&mut self, run: &mut [f32]) {
        // To the next four, four at a time, and what is left.
        let head = (self.count.next_multiple_of(TOGETHER) - self.count).min(run.len());
        let (head, run) = run.split_at_mut(head);
        let (fours, tail) = run.split_at_mut(run.len() / TOGETHER * TOGETHER);
        head.chunks_mut(1).for_each(|x| self.push(x));
        if matches!(self.f, Reduce::Max | Reduce::Min) {
            fours.chunks_mut(1).for_each(|x| self.push(x));
        } else {
            terms(self.f, fours);
            simd::dispatch(Fours(fours));
            let sums = &fours[..fours.len() / TOGETHER];
            self.totals[0] = sums.iter().fold(self.totals[0], |total, sum| total + sum);
            self.count += fours.len();
        }
        tail.chunks_mut(1).for_each(|x| self.push(x));
    }

    /// Writes the results, not yet rounded, to `totals`.
    pub(crate) fn finish(mut self) {
        if !matches!(self.f, Reduce::Max | Reduce::Min) {
            self.flush();
        }
        let count = self.count as f32;
        match self.f {
            Reduce::Mean => simd::each(self.totals, |x| x / count),
            Reduce::L2Norm => simd::sqrt(self.totals),
            Reduce::LogSum => simd::each(self.totals, f32::ln),
            // Collapses to 0 where the sum overflows fp16: from ln(65504 / n) on.
            Reduce::LogSumExp => {
                simd::each(self.totals, |x| if half(x).is_infinite() { 0.0 } else { x.ln() });
            }
            _ => {}
        }
    }
}

/// Replaces elements by what a reduction adds up. NaN is read as +∞.
fn terms(f: Reduce, x: &mut [f32]) {
    simd::replace_nan(x, f32::INFINITY);
    match f {
        Reduce::L1Norm => simd::abs(x),
        Reduce::SumSquare | Reduce::L2Norm => {
            simd::square(x);
            round_away(x);
        }
        // No maximum is subtracted (CMT#2690).
        Reduce::LogSumExp => {
            simd::each(x, f32::exp);
            round_away(x);
        }
        Reduce::Sum | Reduce::Mean | Reduce::LogSum | Reduce::Max | Reduce::Min => {}
    }
}

/// Adds every four neighbours, rounding to fp16 each time, and writes the sums to the front. The number of elements is
/// a multiple of four.
struct Fours<'a>(&'a mut [f32]);

impl SliceKernel for Fours<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        const SIDE: usize = 16;
        let x = self.0;
        let count = x.len() / TOGETHER;
        for first in (0..count).step_by(SIDE) {
            let n = SIDE.min(count - first);
            let mut block = [0f32; SIDE * TOGETHER];
            block[..n * TOGETHER].copy_from_slice(&x[first * TOGETHER..][..n * TOGETHER]);
            let mut sums = [0f32; SIDE];
            for i in 0..TOGETHER {
                sums = std::array::from_fn(|g| half(sums[g] + block[g * TOGETHER + i]));
            }
            x[first..first + n].copy_from_slice(&sums[..n]);
        }
    }
}

/// Softmax along the rows of x [n, inner], the maximum subtracted (docs/ane-facts.md E.4): exponentials are
/// rounded to fp16, summed as reductions are, and multiplied by the rounded inverse of the sum.
/// Which of these roundings the silicon makes is not known. `scratch` has room for three rows.
pub(crate) fn softmax(x: &mut [f32], inner: usize, scratch: &mut [f32]) {
    let (lanes, rest) = scratch.split_at_mut(inner);
    let (totals, row) = rest.split_at_mut(inner);
    let max = &mut *totals;
    max.fill(f32::NEG_INFINITY);
    if inner == 1 {
        max[0] = simd::max_of(x);
        simd::affine(x, 1.0, -max[0]);
    } else {
        simd::column_max(x, max);
        x.chunks_exact_mut(inner).for_each(|row| simd::sub(row, max));
    }
    round_away(x);
    simd::exp(x);
    round_away(x);
    let mut sums = Reductions::new(Reduce::Sum, lanes, totals);
    if inner == 1 {
        let mut run = [0.0; 256];
        for x in x.chunks(run.len()) {
            let run = &mut run[..x.len()];
            run.copy_from_slice(x);
            sums.extend(run);
        }
    } else {
        for x in x.chunks_exact(inner) {
            row.copy_from_slice(x);
            sums.push(row);
        }
    }
    sums.finish();
    let inverse = totals;
    simd::each(inverse, |sum| half(1.0 / half(sum)));
    if inner == 1 {
        simd::scale(x, inverse[0]);
    } else {
        x.chunks_exact_mut(inner).for_each(|row| simd::mul(row, inverse));
    }
    round_away(x);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> impl Iterator<Item = f16> {
        (0..=u16::MAX).map(f16::from_bits).filter(|h| !h.is_nan())
    }

    fn value(f: Unary, x: f32) -> f32 {
        to_half(unary(f, f64::from(x), Quirks::default())).to_f32()
    }

    #[test]
    fn rounding_takes_the_nearest_and_halves_away() {
        let finite: Vec<f64> =
            grid().filter(|h| h.is_finite() && h.is_sign_positive()).map(f16::to_f64).collect();
        for pair in finite.windows(2) {
            let (a, b) = (pair[0], pair[1]);
            let middle = (a + b) / 2.0;
            for (x, want) in
                [(a, a), (middle, b), (middle - (b - a) * 1e-6, a), (middle + (b - a) * 1e-6, b)]
            {
                assert_eq!(to_half(x).to_f64(), want, "{x}");
                assert_eq!(to_half(-x).to_f64(), -want, "{x}");
            }
            let mut f = [a as f32, middle as f32, -middle as f32, -a as f32];
            round_away(&mut f);
            assert_eq!(f.map(f64::from), [a, b, -b, -a], "{middle}");
        }
        assert_eq!(to_half(65_519.9).to_f64(), 65_504.0);
        assert_eq!(to_half(65_520.0), f16::INFINITY);
        let mut f = [65_519.9, 65_520.0, f32::NEG_INFINITY, f32::NAN, 2f32.powi(-25), 2e-8, -0.0];
        round_away(&mut f);
        assert_eq!(f[..3], [65_504.0, f32::INFINITY, f32::NEG_INFINITY]);
        assert_eq!(f[3..6], [0.0, 2f32.powi(-24), 0.0]);
        assert!(f[6].is_sign_negative(), "a negative zero stays one until something is added");
    }

    #[test]
    fn f32_first_changes_no_quotient() {
        // Every divisor of one binade against many dividends: the result of f32 division, rounded
        // away, is that of the exact quotient.
        for b in (0x3c00..0x4000u16).map(f16::from_bits) {
            let a: Vec<f16> = (0x3c00..0x4000u16).step_by(7).map(f16::from_bits).collect();
            let mut q: Vec<f32> = a.iter().map(|a| a.to_f32() / b.to_f32()).collect();
            round_away(&mut q);
            for (a, q) in a.iter().zip(&q) {
                assert_eq!(to_half(a.to_f64() / b.to_f64()).to_f32(), *q, "{a} / {b}");
            }
        }
    }

    #[test]
    fn nothing_gives_nan() {
        let functions = [
            Unary::Sqrt,
            Unary::Rsqrt { epsilon: 0.0 },
            Unary::Log { epsilon: 0.0 },
            Unary::Inverse { epsilon: 0.0 },
            Unary::Softsign,
            Unary::Softplus,
            Unary::Exp,
            Unary::Silu,
            Unary::Sigmoid,
            Unary::Tanh,
            Unary::Sin,
            Unary::Square,
        ];
        for f in functions {
            let table = Table::unary(f, Quirks::default());
            let mut all: Vec<f32> = (0..=u16::MAX).map(|b| f16::from_bits(b).to_f32()).collect();
            table.apply(&mut all);
            assert!(all.iter().all(|v| !v.is_nan()), "{f:?}");
        }
        for f in [Unary::Sqrt, Unary::Rsqrt { epsilon: 0.0 }, Unary::Log { epsilon: 0.0 }] {
            assert_eq!(value(f, -1.0).to_bits(), 0.0f32.to_bits(), "{f:?} of −1 is +0");
        }
        assert_eq!(value(Unary::Inverse { epsilon: 0.0 }, -0.0), f32::INFINITY);
    }

    #[test]
    fn published_corners() {
        assert_eq!(value(Unary::Log { epsilon: 0.0 }, 0.0), -45_440.0);
        assert_eq!(value(Unary::Square, 256.0), f32::INFINITY);
        assert!(value(Unary::Square, 255.75).is_finite());
        assert!(value(Unary::Exp, 11.086).is_finite());
        assert_eq!(value(Unary::Exp, 11.094), f32::INFINITY);
        assert!((value(Unary::Softplus, 10.39) - 10.39).abs() < 0.01);
        assert_eq!(value(Unary::Softplus, 10.41), 0.0);
        assert_eq!(value(Unary::Softplus, f32::INFINITY), 0.0);
        assert_eq!(value(Unary::Softsign, f32::INFINITY), 0.0);
        let round = |round_fault: bool, x: f64| {
            let quirks = Quirks { round_fault, ..Quirks::default() };
            to_half(unary(Unary::Round, x, quirks)).to_f32()
        };
        assert_eq!((round(true, 1024.0), round(false, 1024.0)), (1025.0, 1024.0));
        assert_eq!((round(true, 2.5), round(true, -2.5)), (3.0, -3.0));
    }

    /// The reduction of one column, before rounding.
    fn reduce(f: Reduce, terms: impl IntoIterator<Item = f32>) -> f32 {
        let (mut lane, mut total) = ([0.0], [0.0]);
        let mut sum = Reductions::new(f, &mut lane, &mut total);
        terms.into_iter().for_each(|x| sum.push(&mut [x]));
        sum.finish();
        total[0]
    }

    fn sum(terms: impl IntoIterator<Item = f32>) -> f32 {
        half(reduce(Reduce::Sum, terms))
    }

    /// The model of a sum, written plainly.
    fn sum_of_fours(x: &[f32]) -> f32 {
        let four = |x: &[f32]| x.iter().fold(0.0, |sum: f32, x| half(sum + x));
        x.chunks(4).fold(0.0, |total, x| total + four(x))
    }

    #[test]
    fn runs_and_columns_are_reduced_in_the_same_order() {
        let value = |i: usize| half(((i * 2_654_435_761) % 4001) as f32 * 0.37 - 700.0);
        for n in [1, 3, 4, 7, 64, 67, 130, 300] {
            let columns = 37;
            let x: Vec<f32> = (0..n * columns).map(value).collect();
            let column = |j: usize| (0..n).map(|i| x[i * columns + j]).collect::<Vec<f32>>();
            let (mut lanes, mut totals) = (vec![0.0; columns], vec![0.0; columns]);
            let mut sums = Reductions::new(Reduce::Mean, &mut lanes, &mut totals);
            x.chunks(columns).for_each(|row| sums.push(&mut row.to_vec()));
            sums.finish();
            for (j, total) in totals.iter().enumerate() {
                let want = sum_of_fours(&column(j)) / n as f32;
                assert_eq!(*total, want, "column {j} of {n}");
                // In runs of uneven lengths.
                let (mut lane, mut one) = ([0.0], [0.0]);
                let mut sum = Reductions::new(Reduce::Mean, &mut lane, &mut one);
                let (head, tail) = (n / 3, n - n / 3);
                sum.extend(&mut column(j)[..head]);
                sum.extend(&mut column(j)[n - tail..]);
                sum.finish();
                assert_eq!(one[0], want, "run {j} of {n}");
            }
        }
    }

    #[test]
    fn softmax_follows_its_model_along_rows_and_columns() {
        for n in [1, 5, 64, 300] {
            let x: Vec<f32> = (0..n).map(|i| half(((i * 7919) % 97) as f32 * 0.11 - 4.0)).collect();
            let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let mut numerators: Vec<f32> = x.iter().map(|x| half(x - max)).collect();
            simd::exp(&mut numerators);
            round_away(&mut numerators);
            let inverse = half(1.0 / half(sum_of_fours(&numerators)));
            let want: Vec<f32> = numerators.iter().map(|x| half(x * inverse)).collect();
            let mut row = x.clone();
            softmax(&mut row, 1, &mut [0.0; 3]);
            assert_eq!(row, want, "{n} in a row");
            let mut twice: Vec<f32> = x.iter().flat_map(|&x| [x, x]).collect();
            softmax(&mut twice, 2, &mut [0.0; 6]);
            let both: Vec<f32> = want.iter().flat_map(|&x| [x, x]).collect();
            assert_eq!(twice, both, "{n} in two columns");
        }
    }

    #[test]
    fn reductions_lose_what_the_published_examples_lose() {
        let ones = std::iter::repeat_n(1.0, 1024);
        assert_eq!(sum(std::iter::once(4096.0).chain(ones)), 5116.0);
        let survivors = |v: f32| sum((0..16).flat_map(|_| [v, -v, 1.0]));
        assert_eq!([4096.0, 8192.0, 30_000.0].map(survivors), [4.0; 3]);
        assert_eq!([1.0, 100.0, 2046.0].map(survivors), [16.0; 3]);
        assert_eq!(sum([2049.0, 0.0, 0.0, 0.0]), 2050.0, "halves away, on every chip");
    }

    #[test]
    fn log_sum_exp_collapses() {
        let of = |x: f32, n: usize| reduce(Reduce::LogSumExp, std::iter::repeat_n(x, n));
        let edge = (65_504f32 / 64.0).ln();
        assert!((of(edge - 0.05, 64) - 11.04).abs() < 0.1);
        assert_eq!(of(edge + 0.05, 64), 0.0);
    }
}
