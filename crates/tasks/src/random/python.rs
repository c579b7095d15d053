//! Python's `random.Random`: the Mersenne Twister (Matsumoto and Nishimura 1998) with CPython's ways of
//! drawing from it (its `Lib/random.py`).

use std::collections::HashSet;

/// Words of the state.
const N: usize = 624;
/// Distance of the word that is mixed in.
const M: usize = 397;

/// `random.Random(seed)`.
#[derive(Clone, Debug)]
pub struct PythonRandom {
    state: [u32; N],
    next: usize,
}

impl PythonRandom {
    /// The generator that `random.Random(seed)` is, for a seed that is not negative.
    pub fn new(seed: u64) -> Self {
        let high = (seed >> 32) as u32;
        let key = [seed as u32, high];
        let words = if high == 0 { 1 } else { 2 };
        PythonRandom { state: init_by_array(&key[..words]), next: N }
    }

    /// The next 32 bits.
    fn next_u32(&mut self) -> u32 {
        if self.next == N {
            twist(&mut self.state);
            self.next = 0;
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// `getrandbits(bits)`, for at most 64.
    ///
    /// # Panics
    /// If more are asked for.
    pub fn bits(&mut self, bits: u32) -> u64 {
        match bits {
            0 => 0,
            1..=32 => u64::from(self.next_u32() >> (32 - bits)),
            33..=64 => {
                let low = u64::from(self.next_u32());
                low | u64::from(self.next_u32() >> (64 - bits)) << 32
            }
            _ => panic!("at most 64 bits"),
        }
    }

    /// `randrange(n)`: a number below `n`; 0 for 0.
    pub fn below(&mut self, n: usize) -> usize {
        let bits = usize::BITS - n.leading_zeros();
        loop {
            let drawn = self.bits(bits) as usize;
            if drawn < n || n == 0 {
                return drawn;
            }
        }
    }

    /// `shuffle(items)`.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = self.below(i + 1);
            items.swap(i, j);
        }
    }

    /// The indices that `sample` takes of a list of `n`, in its order.
    ///
    /// # Panics
    /// If `count` is more than `n`.
    pub fn sample(&mut self, n: usize, count: usize) -> Vec<usize> {
        assert!(count <= n, "a sample of a list is not larger than the list");
        if n <= largest_pool(count) {
            let mut pool: Vec<usize> = (0..n).collect();
            let draw = |i| {
                let j = self.below(n - i);
                let drawn = pool[j];
                pool[j] = pool[n - i - 1];
                drawn
            };
            return (0..count).map(draw).collect();
        }
        let mut taken = HashSet::new();
        let draw = |_| loop {
            let drawn = self.below(n);
            if taken.insert(drawn) {
                return drawn;
            }
        };
        (0..count).map(draw).collect()
    }
}

/// The longest list of which a sample of `count` is drawn from a copy of the list: 21, and for more than 5
/// also 4^⌈log₄(3·count)⌉. That power is the first that is not less.
fn largest_pool(count: usize) -> usize {
    if count <= 5 {
        return 21;
    }
    let mut power = 1usize;
    while power < count.saturating_mul(3) {
        power = power.saturating_mul(4);
    }
    power.saturating_add(21)
}

/// The state after one pass of `init_genrand`.
fn init(seed: u32) -> [u32; N] {
    let mut state = [seed; N];
    for i in 1..N {
        let last = state[i - 1];
        state[i] = 1_812_433_253u32.wrapping_mul(last ^ (last >> 30)).wrapping_add(i as u32);
    }
    state
}

/// The state from a key of one or more words.
fn init_by_array(key: &[u32]) -> [u32; N] {
    let mut state = init(19_650_218);
    let mixed = |state: &[u32; N], i: usize, factor: u32| {
        let last = state[i - 1];
        state[i] ^ (last ^ (last >> 30)).wrapping_mul(factor)
    };
    let mut i = 1;
    for turn in 0..N.max(key.len()) {
        let j = turn % key.len();
        let word = mixed(&state, i, 1_664_525);
        state[i] = word.wrapping_add(key[j]).wrapping_add(j as u32);
        i = wrapped(&mut state, i + 1);
    }
    for _ in 1..N {
        state[i] = mixed(&state, i, 1_566_083_941).wrapping_sub(i as u32);
        i = wrapped(&mut state, i + 1);
    }
    state[0] = 0x8000_0000;
    state
}

/// The place after the last is the second; the first takes the last word.
fn wrapped(state: &mut [u32; N], i: usize) -> usize {
    if i < N {
        return i;
    }
    state[0] = state[N - 1];
    1
}

/// Computes the next `N` words.
fn twist(state: &mut [u32; N]) {
    for i in 0..N {
        let y = (state[i] & 0x8000_0000) | (state[(i + 1) % N] & 0x7fff_ffff);
        let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
        state[i] = state[(i + M) % N] ^ (y >> 1) ^ odd;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shuffled(seed: u64) -> Vec<usize> {
        let mut items: Vec<usize> = (0..1000).collect();
        PythonRandom::new(seed).shuffle(&mut items);
        items
    }

    /// `random.Random(s).shuffle(range(1000))` of CPython.
    #[test]
    fn shuffles_as_python_does() {
        assert_eq!(shuffled(42)[..5], [776, 507, 895, 922, 33]);
        assert_eq!(shuffled(1337)[..5], [239, 310, 101, 624, 1]);
        assert_eq!(shuffled(1234)[..5], [56, 306, 558, 770, 733]);
    }

    /// `random.Random(1234).sample(range(999), 10)` remembers what it took; `Random(1240).sample(range(21), 5)`
    /// and `Random(1234).sample(range(85), 10)` copy the list; with one item more they do not.
    #[test]
    fn samples_as_python_does() {
        let sample = |seed, n, count| PythonRandom::new(seed).sample(n, count);
        assert_eq!(sample(1234, 999, 10)[..5], [989, 796, 451, 119, 7]);
        assert_eq!(sample(1240, 21, 5), [20, 14, 11, 16, 17]);
        assert_eq!(sample(1240, 22, 5), [20, 14, 11, 18, 16]);
        assert_eq!(sample(1234, 85, 10), [56, 14, 0, 11, 74, 4, 10, 12, 45, 30]);
        assert_eq!(sample(1234, 86, 10), [56, 14, 0, 11, 74, 4, 85, 10, 12, 45]);
        assert_eq!(sample(7, 6, 6), [2, 1, 3, 5, 0, 4]);
        assert_eq!(sample(7, 3, 0), [0; 0]);
    }

    /// Words of the stream: `getrandbits` of 1, 8, 32, 40 and 64 bits, one after the other, with a seed of
    /// one word and one of two.
    #[test]
    fn draws_bits_as_python_does() {
        let drawn = |seed| {
            let mut random = PythonRandom::new(seed);
            [1, 8, 32, 40, 64].map(|bits| random.bits(bits))
        };
        assert_eq!(drawn(42), [1, 28, 107420369, 303832645883, 4117511471858006928]);
        assert_eq!(drawn(1099511627781), [1, 132, 1153647273, 1020758241026, 9794469135332508808]);
    }

    #[test]
    fn a_number_below_nothing_is_zero() {
        assert_eq!(PythonRandom::new(1).below(0), 0);
        assert_eq!(PythonRandom::new(1).below(1), 0);
    }
}
