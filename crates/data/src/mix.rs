//! SplitMix64 (Steele, Lea and Flood 2014): pseudo-random integers for texts, orders and seeds.

/// 2^64 / golden ratio, the increment of SplitMix64.
pub const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Returns the finalizer of SplitMix64 (Stafford's variant 13 of the MurmurHash3 finalizer): a bijection.
pub const fn finish(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Returns SplitMix64's output for state `x`. The `n`-th number (from 0) of the generator that begins with `x` is
/// `mix(x + n·GOLDEN)`.
pub const fn mix(x: u64) -> u64 {
    finish(x.wrapping_add(GOLDEN))
}
