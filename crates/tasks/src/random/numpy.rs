//! NumPy's `default_rng`: PCG64 (O'Neill 2014, XSL-RR 128/64) seeded by a `SeedSequence`.

/// The multiplier of the generator's step.
const MULTIPLIER: u128 = 0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645;
/// Words of a seed sequence's pool.
const POOL: usize = 4;

/// `numpy.random.default_rng(seed)`.
#[derive(Clone, Debug)]
pub struct NumpyRandom {
    state: u128,
    increment: u128,
    /// The upper half of the last 64 bits, if it was not taken yet.
    half: Option<u32>,
}

impl NumpyRandom {
    /// The generator that `default_rng(seed)` is.
    pub fn new(seed: u64) -> Self {
        let [a, b, c, d] = seed_words(seed).map(u128::from);
        let (start, stream) = (a << 64 | b, c << 64 | d);
        let mut random = NumpyRandom { state: 0, increment: stream << 1 | 1, half: None };
        random.step();
        random.state = random.state.wrapping_add(start);
        random.step();
        random
    }

    fn step(&mut self) {
        self.state = self.state.wrapping_mul(MULTIPLIER).wrapping_add(self.increment);
    }

    fn next_u64(&mut self) -> u64 {
        self.step();
        let folded = (self.state >> 64) as u64 ^ self.state as u64;
        folded.rotate_right((self.state >> 122) as u32)
    }

    /// The lower half of the next 64 bits, then the upper one.
    fn next_u32(&mut self) -> u32 {
        if let Some(half) = self.half.take() {
            return half;
        }
        let both = self.next_u64();
        self.half = Some((both >> 32) as u32);
        both as u32
    }

    /// A number from 0 to `most`: masked bits are drawn until they are not above it.
    fn up_to(&mut self, most: u64) -> u64 {
        let mask = u64::MAX.checked_shr(most.leading_zeros()).unwrap_or(0);
        loop {
            let drawn = match u32::try_from(most) {
                Ok(_) => u64::from(self.next_u32()),
                Err(_) => self.next_u64(),
            };
            if drawn & mask <= most {
                return drawn & mask;
            }
        }
    }

    /// `permutation(n)`.
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut items: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            let j = self.up_to(i as u64) as usize;
            items.swap(i, j);
        }
        items
    }
}

/// `SeedSequence(seed).generate_state(4, uint64)`.
fn seed_words(seed: u64) -> [u64; 4] {
    let pool = pool(seed);
    let mut hash = 0x8b51_f9ddu32;
    let mut word = |i: usize| {
        let mut value = pool[i % POOL] ^ hash;
        hash = hash.wrapping_mul(0x58f3_8ded);
        value = value.wrapping_mul(hash);
        u64::from(value ^ (value >> 16))
    };
    std::array::from_fn(|i| {
        let low = word(2 * i);
        low | word(2 * i + 1) << 32
    })
}

/// The pool of a seed sequence: the words of the seed, each mixed with all the others.
fn pool(seed: u64) -> [u32; POOL] {
    let mut constant = 0x43b0_d7e5u32;
    let mut hash = |value: u32| {
        let mut value = value ^ constant;
        constant = constant.wrapping_mul(0x931e_8875);
        value = value.wrapping_mul(constant);
        value ^ (value >> 16)
    };
    let entropy = [seed as u32, (seed >> 32) as u32, 0, 0];
    let mut pool = entropy.map(&mut hash);
    for from in 0..POOL {
        for to in (0..POOL).filter(|&to| to != from) {
            let (a, b) = (0xca01_f9ddu32, 0x4973_f715u32);
            let mixed = a.wrapping_mul(pool[to]).wrapping_sub(b.wrapping_mul(hash(pool[from])));
            pool[to] = mixed ^ (mixed >> 16);
        }
    }
    pool
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permuted(n: usize) -> Vec<usize> {
        NumpyRandom::new(42).permutation(n)
    }

    /// `default_rng(42).permutation(n)` of NumPy.
    #[test]
    fn permutes_as_numpy_does() {
        assert_eq!(permuted(5), [4, 2, 3, 1, 0]);
        assert_eq!(permuted(100)[..6], [59, 21, 56, 18, 33, 42]);
        assert_eq!(permuted(1319)[..6], [30, 754, 429, 1010, 1284, 953]);
        assert_eq!((permuted(0), permuted(1)), (vec![], vec![0]));
    }

    /// A second permutation goes on where the first one stopped; a seed may have two words.
    #[test]
    fn goes_on_and_takes_long_seeds() {
        let mut random = NumpyRandom::new(42);
        assert_eq!(random.permutation(7), [3, 2, 6, 4, 1, 5, 0]);
        assert_eq!(random.permutation(4), [0, 3, 2, 1]);
        assert_eq!(NumpyRandom::new((1 << 40) + 5).permutation(8), [1, 2, 5, 7, 0, 4, 6, 3]);
    }
}
