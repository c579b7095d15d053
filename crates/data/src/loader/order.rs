//! A pseudo-random bijection of `0..n` without a table: a balanced Feistel network on the
//! smallest even number of bits that holds `n`, walked along its cycles until the result is below
//! `n` (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002). The domain is less than
//! four times `n` (or 4), so a look-up takes fewer than four rounds of the network on average.

/// Rounds of the network. Three make a pseudo-random permutation if the round function is
/// pseudo-random (Luby and Rackoff, 1988); more are cheap and make up for small halves.
const ROUNDS: u64 = 6;

/// A bijection of `0..len`, chosen by a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Permutation {
    len: u64,
    half_bits: u32,
    key: u64,
}

impl Permutation {
    /// Permutes `0..len`. `len` is at most 2^62.
    pub(super) fn new(len: u64, key: u64) -> Permutation {
        let bits = 64 - len.saturating_sub(1).leading_zeros();
        Permutation { len, half_bits: bits.div_ceil(2).max(1), key }
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The image of `index`, which must be below `len`.
    pub(super) fn at(&self, index: u64) -> u64 {
        debug_assert!(index < self.len);
        let mut x = index;
        loop {
            x = self.network(x);
            if x < self.len {
                return x; // ends: the cycle of `index` returns to `index`, which is below `len`
            }
        }
    }

    fn network(&self, x: u64) -> u64 {
        let mask = (1u64 << self.half_bits) - 1;
        let (mut left, mut right) = (x >> self.half_bits, x & mask);
        for round in 0..ROUNDS {
            let f = crate::mix::mix(self.key ^ crate::mix::mix(right << 3 | round));
            (left, right) = (right, (left ^ f) & mask);
        }
        left << self.half_bits | right
    }
}

#[cfg(test)]
mod tests {
    use super::Permutation;

    #[test]
    fn every_index_comes_once() {
        for len in (1..70).chain([127, 128, 129, 1000, 4095, 4096, 4097, 100_003]) {
            let order = Permutation::new(len, len * 77);
            let mut seen = vec![false; len as usize];
            for i in 0..len {
                assert!(!std::mem::replace(&mut seen[order.at(i) as usize], true), "len {len}");
            }
        }
    }

    /// Serial correlation of the order, mean displacement and fixed points are those of a random
    /// shuffle. Bounds: five standard deviations.
    #[test]
    fn it_looks_like_a_shuffle() {
        let n = 20_000u64;
        for key in 0..5 {
            let order = Permutation::new(n, crate::mix::mix(key));
            let x: Vec<f64> = (0..n).map(|i| order.at(i) as f64 / n as f64 - 0.5).collect();
            let serial: f64 = x.windows(2).map(|w| w[0] * w[1]).sum::<f64>() * 12.0 / n as f64;
            let drift: f64 =
                x.iter().enumerate().map(|(i, v)| v * (i as f64 / n as f64 - 0.5)).sum::<f64>()
                    * 12.0
                    / n as f64;
            let bound = 5.0 / (n as f64).sqrt();
            assert!(serial.abs() < bound && drift.abs() < bound, "{serial} {drift}");
            let fixed = (0..n).filter(|&i| order.at(i) == i).count();
            assert!(fixed <= 12, "{fixed} fixed points, about 1 expected");
        }
    }

    #[test]
    fn other_keys_give_other_orders() {
        let (a, b) = (Permutation::new(10_000, 1), Permutation::new(10_000, 2));
        let equal = (0..10_000).filter(|&i| a.at(i) == b.at(i)).count();
        assert!(equal <= 12, "{equal}");
    }
}
