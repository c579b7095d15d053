//! Normal and uniform numbers for initial weights: Box–Muller on SplitMix64 (Steele, Lea and Flood 2014),
//! where any number of a stream can be drawn without those before it.
//!
//! [`Normals::pair`] is the definition. A model of 110 million parameters takes seconds of it, nearly
//! all in the logarithm and the sine, so [`Normals::fill`] computes blocks of pairs by short series,
//! which compilers turn into vector instructions. The series are about 10⁻¹³ off; where that could
//! change a rounded number, which is rare, the definition is asked. So both give the same bits.

use std::f64::consts::{LN_2, SQRT_2, TAU};
use std::ops::Range;

/// Step of the counter, and the constants that mix it (Steele, Lea and Flood 2014, and Stafford's
/// variant 13 of the mixer).
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
const MIX: [u64; 2] = [0xBF58_476D_1CE4_E5B9, 0x94D0_49BB_1331_11EB];
/// Sets the streams of one seed apart.
const STREAM: u64 = 0xD1B5_4A32_D192_ED03;

/// Pairs computed side by side.
const BLOCK: usize = 32;
/// Largest distance of a number of the series from the definition's, as a share of its radius: ten
/// times what the series leave out (a test measures it).
const MARGIN: f64 = 1e-12;

/// A stream of standard normal numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Normals {
    start: u64,
}

impl Normals {
    /// Stream `stream` of `seed`.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        Normals { start: seed ^ stream.wrapping_mul(STREAM) }
    }

    /// The two numbers, uniform in (0, 1], that pair `index` is made of.
    fn uniforms(self, index: u64) -> [f64; 2] {
        // The first value of a stream is left out, hence 2 and 3.
        [2, 3].map(|i| {
            let state = self.start.wrapping_add((2 * index + i).wrapping_mul(STEP));
            let z = (state ^ (state >> 30)).wrapping_mul(MIX[0]);
            let z = (z ^ (z >> 27)).wrapping_mul(MIX[1]);
            // 53 bits: exact in f64, and signed conversion is the quicker one.
            (((z ^ (z >> 31)) >> 11) + 1) as i64 as f64 / (1u64 << 53) as f64
        })
    }

    /// Numbers 2·`index` and 2·`index` + 1: √(−2 ln u)·(cos 2πv, sin 2πv).
    fn pair(self, index: u64) -> [f32; 2] {
        let [u, v] = self.uniforms(index);
        let radius = (-2.0 * u.ln()).sqrt();
        let angle = TAU * v;
        [(radius * angle.cos()) as f32, (radius * angle.sin()) as f32]
    }

    /// Fills `to` with the numbers from 2·`first_pair` on.
    pub(crate) fn fill(self, first_pair: u64, to: &mut [f32]) {
        for (index, to) in (first_pair..).step_by(BLOCK).zip(to.chunks_mut(2 * BLOCK)) {
            let numbers = self.block(index);
            to.copy_from_slice(&numbers.as_flattened()[..to.len()]);
        }
    }

    /// Fills `to` with numbers uniform in `range`, from pair `first_pair` on.
    pub(crate) fn fill_uniform(self, first_pair: u64, range: Range<f32>, to: &mut [f32]) {
        let (low, extent) = (f64::from(range.start), f64::from(range.end) - f64::from(range.start));
        for (pair, to) in (first_pair..).zip(to.chunks_mut(2)) {
            let drawn = self.uniforms(pair);
            to.iter_mut().zip(drawn).for_each(|(to, u)| *to = (low + extent * u) as f32);
        }
    }

    /// [`BLOCK`] pairs from `first` on.
    fn block(self, first: u64) -> [[f32; 2]; BLOCK] {
        let (mut us, mut vs) = ([0.0; BLOCK], [0.0; BLOCK]);
        for (i, (u, v)) in (first..).zip(us.iter_mut().zip(&mut vs)) {
            [*u, *v] = self.uniforms(i);
        }
        let (mut numbers, mut unsure) = ([[0.0; 2]; BLOCK], [false; BLOCK]);
        let results = numbers.iter_mut().zip(&mut unsure);
        for ((number, unsure), (u, v)) in results.zip(us.into_iter().zip(vs)) {
            let radius = (-2.0 * ln(u)).sqrt();
            let off = MARGIN * radius;
            let [cos, sin] = cos_sin_of_turns(v).map(|x| x * radius);
            // Rounding is monotone: where both ends agree, so does what lies between.
            *unsure = ((cos - off) as f32 != (cos + off) as f32)
                | ((sin - off) as f32 != (sin + off) as f32);
            *number = [cos as f32, sin as f32];
        }
        for i in (0..BLOCK).filter(|&i| unsure[i]) {
            numbers[i] = self.pair(first + i as u64);
        }
        numbers
    }
}

/// ln x of a normal positive number. With x = 2ᵏ·m and m in [√½, √2): k·ln 2 + 2·artanh s, where
/// s = (m − 1)/(m + 1) is at most 0.172 and eight terms of the series leave out 4·10⁻¹⁴.
#[inline(always)]
fn ln(x: f64) -> f64 {
    const FRACTION: u64 = (1 << 52) - 1;
    let least = (SQRT_2 / 2.0).to_bits();
    let moved = x.to_bits() + (1f64.to_bits() - least);
    // The exponent becomes the low bits of 2⁵², which makes it a number without a conversion.
    let two52 = (1u64 << 52) as f64;
    let k = f64::from_bits(two52.to_bits() | (moved >> 52)) - (two52 + 1023.0);
    let f = f64::from_bits((moved & FRACTION) + least) - 1.0;
    let s = f / (2.0 + f);
    k * LN_2 + s * polynomial(s * s, &TWICE_ARTANH)
}

/// The cosine and the sine of `v` turns, for v in [0, 1]: those of the rest to the nearest quarter,
/// |x| ≤ π/4, whose series leave out 2·10⁻¹⁴ after eight and seven terms, turned back by the quarters.
#[inline(always)]
fn cos_sin_of_turns(v: f64) -> [f64; 2] {
    // Added to this, a number is rounded to an integer, which stands in the low bits.
    let round = 1.5 * (1u64 << 52) as f64;
    let quarters = 4.0 * v + round;
    let x = TAU * (v - 0.25 * (quarters - round));
    let square = x * x;
    let cos = polynomial(square, &COSINE).to_bits();
    let sin = (x * polynomial(square, &SINE)).to_bits();
    let q = quarters.to_bits();
    let swap = (cos ^ sin) & (q & 1).wrapping_neg();
    let sign = |q: u64| (q & 2) << 62;
    [f64::from_bits(cos ^ swap ^ sign(q + 1)), f64::from_bits(sin ^ swap ^ sign(q))]
}

/// Terms of 2·artanh, 2/(2i+1), in powers of s².
const TWICE_ARTANH: [f64; 8] =
    [2.0, 2.0 / 3.0, 2.0 / 5.0, 2.0 / 7.0, 2.0 / 9.0, 2.0 / 11.0, 2.0 / 13.0, 2.0 / 15.0];

/// Terms of the cosine, (−1)ⁱ/(2i)!, and of the sine, (−1)ⁱ/(2i+1)!, in powers of x².
const COSINE: [f64; 8] = alternating(0);
const SINE: [f64; 7] = alternating(1);

const fn alternating<const N: usize>(first: usize) -> [f64; N] {
    let mut terms = [1.0; N];
    let mut i = 1;
    while i < N {
        let n = (2 * i + first) as f64;
        terms[i] = -terms[i - 1] / (n * (n - 1.0));
        i += 1;
    }
    terms
}

#[inline(always)]
fn polynomial<const N: usize>(x: f64, terms: &[f64; N]) -> f64 {
    terms.iter().rev().fold(0.0, |sum, term| sum * x + term)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_stay_within_a_tenth_of_the_margin() {
        let normals = Normals::new(3, 1);
        // Ends of the ranges, both sides of every change of k and of the quarter, and a spread.
        let edges = [1.0, 0.5, SQRT_2 / 2.0, 0.125, 0.375, 0.625, 0.875, 0.25, 0.75];
        let near = edges.iter().flat_map(|x: &f64| [x.next_down(), *x, x.next_up().min(1.0)]);
        let small = (1..=53).map(|n| 0.5f64.powi(n));
        let spread = (0..200_000).flat_map(|i| normals.uniforms(i));
        for x in near.chain(small).chain(spread) {
            let (got, want) = (ln(x), x.ln());
            assert!((got - want).abs() <= 0.1 * MARGIN * want.abs(), "ln {x}: {got} {want}");
            let (want_sin, want_cos) = (TAU * x).sin_cos();
            let [cos, sin] = cos_sin_of_turns(x);
            assert!((cos - want_cos).abs() <= 0.1 * MARGIN, "cos {x}: {cos} {want_cos}");
            assert!((sin - want_sin).abs() <= 0.1 * MARGIN, "sin {x}: {sin} {want_sin}");
        }
    }

    #[test]
    fn blocks_are_the_definition_to_the_bit() {
        for (seed, stream) in [(1, 0), (42, 7), (u64::MAX, 80)] {
            let normals = Normals::new(seed, stream);
            // An odd length, so that the last pair is cut.
            let mut drawn = vec![0.0; 400_001];
            normals.fill(5, &mut drawn);
            let want = (5..).flat_map(|i| normals.pair(i));
            for (i, (got, want)) in drawn.iter().zip(want).enumerate() {
                assert_eq!(got.to_bits(), want.to_bits(), "number {i} of {seed}, {stream}");
            }
        }
    }

    #[test]
    fn the_stream_is_splitmix64() {
        // The first values of SplitMix64 from seed 1234567, as in Vigna's reference and the test
        // vectors made from it; the first is the one left out.
        let values = [3_203_168_211_198_807_973u64, 9_817_491_932_198_370_423];
        let want = values.map(|bits| ((bits >> 11) + 1) as f64 / (1u64 << 53) as f64);
        assert_eq!(Normals::new(1_234_567, 0).uniforms(0), want);
    }
}
