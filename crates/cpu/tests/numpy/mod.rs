//! NumPy's `default_rng` and its normal deviates, bit for bit, so that published experiments can be
//! repeated on their own inputs.
//!
//! After the descriptions of SeedSequence (O'Neill, "Developing a seed_seq alternative", 2015), PCG64
//! (O'Neill, HMC-CS-2014-0905: XSL-RR output, 128-bit state) and the ziggurat method with 256 strips
//! (Doornik, "An improved ziggurat method", 2005).

mod ziggurat;

use ziggurat::ENDS;

/// A PCG64 generator seeded as `numpy.random.default_rng(seed)` seeds it.
pub(crate) struct Generator {
    state: u128,
    increment: u128,
    strips: Strips,
}

const MULTIPLIER: u128 = 0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645;

/// Four 32-bit words of entropy, mixed from the seed's words.
struct SeedSequence {
    pool: [u32; 4],
}

impl SeedSequence {
    fn new(seed: u32) -> Self {
        let mut factor = 0x43b0_d7e5u32;
        let mut scramble = |mut value: u32| {
            value ^= factor;
            factor = factor.wrapping_mul(0x931e_8875);
            value = value.wrapping_mul(factor);
            value ^ (value >> 16)
        };
        let mut pool = [seed, 0, 0, 0].map(&mut scramble);
        for from in 0..4 {
            for to in 0..4 {
                if from != to {
                    let hashed = scramble(pool[from]);
                    let x = pool[to]
                        .wrapping_mul(0xca01_f9dd)
                        .wrapping_sub(hashed.wrapping_mul(0x4973_f715));
                    pool[to] = x ^ (x >> 16);
                }
            }
        }
        SeedSequence { pool }
    }

    /// `n` 64-bit words.
    fn words(&self, n: usize) -> Vec<u64> {
        let mut factor = 0x8b51_f9ddu32;
        let words: Vec<u32> = (0..2 * n)
            .map(|i| {
                let mut value = self.pool[i % 4] ^ factor;
                factor = factor.wrapping_mul(0x58f3_8ded);
                value = value.wrapping_mul(factor);
                value ^ (value >> 16)
            })
            .collect();
        words.chunks_exact(2).map(|w| u64::from(w[0]) | u64::from(w[1]) << 32).collect()
    }
}

impl Generator {
    pub(crate) fn new(seed: u32) -> Self {
        let words = SeedSequence::new(seed).words(4);
        let wide = |i: usize| u128::from(words[i]) << 64 | u128::from(words[i + 1]);
        let increment = wide(2) << 1 | 1;
        let state = increment.wrapping_add(wide(0));
        let state = state.wrapping_mul(MULTIPLIER).wrapping_add(increment);
        Generator { state, increment, strips: Strips::new() }
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_mul(MULTIPLIER).wrapping_add(self.increment);
        let folded = (self.state >> 64) as u64 ^ self.state as u64;
        folded.rotate_right((self.state >> 122) as u32)
    }

    /// Uniform in [0, 1), 53 bits.
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A standard normal deviate.
    pub(crate) fn normal(&mut self) -> f64 {
        loop {
            let bits = self.bits();
            let strip = (bits & 0xff) as usize;
            let negative = bits >> 8 & 1 == 1;
            let place = bits >> 9 & ((1 << 52) - 1);
            let x = place as f64 * self.strips.width[strip];
            let x = if negative { -x } else { x };
            if place < self.strips.inside[strip] {
                return x;
            }
            if strip == 0 {
                return self.tail(bits);
            }
            let (low, high) = (self.strips.height[strip], self.strips.height[strip - 1]);
            if (high - low) * self.uniform() + low < (-0.5 * x * x).exp() {
                return x;
            }
        }
    }

    /// Beyond the last strip (Marsaglia 1964).
    fn tail(&mut self, bits: u64) -> f64 {
        loop {
            let x = -(1.0 / RIGHT) * (-self.uniform()).ln_1p();
            let y = -(-self.uniform()).ln_1p();
            if y + y > x * x {
                let x = RIGHT + x;
                return if bits >> 17 & 1 == 1 { -x } else { x };
            }
        }
    }

    /// An [n] array of standard normal deviates.
    pub(crate) fn normals(&mut self, n: usize) -> Vec<f64> {
        (0..n).map(|_| self.normal()).collect()
    }
}

/// Where the lowest strip ends and the tail begins.
const RIGHT: f64 = ENDS[254];

/// The strips: how wide they are (over 2^52), which places lie surely under the curve, and the
/// curve's height where they end.
struct Strips {
    width: [f64; 256],
    inside: [u64; 256],
    height: [f64; 256],
}

impl Strips {
    fn new() -> Self {
        let scale = (1u64 << 52) as f64;
        // Strip 0 is the lowest, with the tail; the others count from the top.
        let end = |i: usize| if i == 0 { ENDS[255] } else { ENDS[i - 1] };
        let above = |i: usize| match i {
            0 => RIGHT,
            1 => 0.0,
            _ => ENDS[i - 2],
        };
        Strips {
            width: std::array::from_fn(|i| end(i) / scale),
            inside: std::array::from_fn(|i| (above(i) / end(i) * scale) as u64),
            height: std::array::from_fn(|i| match i {
                0 => 1.0,
                _ => (-0.5 * end(i) * end(i)).exp(),
            }),
        }
    }
}

/// The numbers of NumPy 2.4 for `default_rng(0)`.
#[test]
fn numbers_are_those_of_numpy() {
    let mut random = Generator::new(0);
    let all = random.normals(2_000_000);
    let numpy = [
        0.1257302210933933,
        -0.1321048632913019,
        0.6404226504432821,
        0.10490011715303971,
        -0.535669373161111,
        0.36159505490948474,
        1.3040000451301372,
        0.9470809631292422,
    ];
    assert_eq!(all[..8], numpy);
    // The largest comes from beyond the last strip; the sum is that of the bits of all.
    assert_eq!(all.iter().fold(0.0f64, |m, v| m.max(v.abs())), 5.350106245219592);
    let sum = all.iter().fold(0u64, |sum, v| sum.wrapping_add(v.to_bits()));
    assert_eq!(sum, 0xf194_a5f8_1568_c7a5);
}
