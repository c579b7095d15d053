//! Attention of single queries over cached keys and values.
//!
//! A [`Cache`] holds the keys and values of one layer and one text as a ring: token p lies at place
//! p mod capacity, so a text whose queries see only the nearest tokens needs room for no more. Keys are
//! stored as panels of 32 tokens, element (token, channel) of a panel at channel·32 + token: the scores
//! of 32 tokens are one chain of multiply-adds over the channels, without sums across a vector. Values
//! are stored token by token, and a result is one chain over the tokens in their order.
//!
//! A result depends on the query, the keys and the values alone: not on where in the ring they lie, nor
//! on what is computed beside it.

use crate::simd::{self, SliceKernel, dispatch, madd};
use std::ops::Range;

/// Tokens of a panel of keys.
const PANEL: usize = 32;

/// Keys and values of one text in one layer.
#[derive(Clone, Debug)]
pub struct Cache {
    heads: usize,
    width: usize,
    capacity: usize,
    /// The first token that it still has.
    oldest: usize,
    /// [heads, capacity / 32, width, 32]
    keys: Vec<f32>,
    /// [heads, capacity, width]
    values: Vec<f32>,
}

/// `tokens` in whole panels.
fn capacity_for(tokens: usize) -> usize {
    tokens.max(1).next_multiple_of(PANEL)
}

impl Cache {
    /// Room for the newest `tokens` tokens, or a few more, of `heads` heads of `width` channels.
    pub fn new(heads: usize, width: usize, tokens: usize) -> Self {
        let capacity = capacity_for(tokens);
        let room = || vec![0.0; heads * capacity * width];
        Cache { heads, width, capacity, oldest: 0, keys: room(), values: room() }
    }

    /// The number of tokens that it holds at most.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The first token that it still has, of those that were stored.
    pub fn oldest(&self) -> usize {
        self.oldest
    }

    /// Bytes of a cache with these extents.
    pub fn bytes_of(heads: usize, width: usize, tokens: usize) -> usize {
        2 * size_of::<f32>() * heads * width * capacity_for(tokens)
    }

    /// Stores the keys and values of token `position`: channel c of head h is element
    /// (h·width + c)·`stride` of each slice. The token `capacity` positions before is forgotten. A text
    /// may go on from an earlier token, whose successors are then stored again.
    ///
    /// # Panics
    /// If a slice does not have all channels.
    pub fn put(&mut self, position: usize, keys: &[f32], values: &[f32], stride: usize) {
        let place = position % self.capacity;
        self.oldest = self.oldest.min(position).max((position + 1).saturating_sub(self.capacity));
        let head = self.capacity * self.width;
        for h in 0..self.heads {
            let channel = |c: usize| (h * self.width + c) * stride;
            let to = &mut self.keys[h * head + place / PANEL * PANEL * self.width..];
            for c in 0..self.width {
                to[c * PANEL + place % PANEL] = keys[channel(c)];
            }
            let to = &mut self.values[h * head + place * self.width..][..self.width];
            to.iter_mut().enumerate().for_each(|(c, to)| *to = values[channel(c)]);
        }
    }

    /// Takes over what `from`, a cache of the same extents, has of its first `tokens` tokens.
    ///
    /// # Panics
    /// If the extents differ.
    pub fn copy(&mut self, from: &Cache, tokens: usize) {
        let extents = |cache: &Cache| (cache.heads, cache.width, cache.capacity);
        assert_eq!(extents(self), extents(from), "caches of one layer");
        let head = self.capacity * self.width;
        self.oldest = from.oldest.min(tokens);
        for place in (from.oldest..tokens).map(|position| position % self.capacity) {
            for h in 0..self.heads {
                let panel = h * head + place / PANEL * PANEL * self.width;
                for c in 0..self.width {
                    let at = panel + c * PANEL + place % PANEL;
                    self.keys[at] = from.keys[at];
                }
                let at = h * head + place * self.width;
                let row = at..at + self.width;
                self.values[row.clone()].copy_from_slice(&from.values[row]);
            }
        }
    }

    /// softmax(`scale`·q·kᵀ)·v over the tokens `positions` for a query of head `head`, into `to`.
    /// `scores` is a buffer that is clobbered.
    ///
    /// # Panics
    /// If there are no tokens or more than the cache holds, or a slice has not `width` elements.
    pub fn attend(
        &self,
        head: usize,
        query: &[f32],
        scale: f32,
        positions: Range<usize>,
        scores: &mut Vec<f32>,
        to: &mut [f32],
    ) {
        let tokens = positions.len();
        assert!((1..=self.capacity).contains(&tokens), "tokens that the cache holds");
        assert_eq!((query.len(), to.len()), (self.width, self.width), "a query and a result");
        let head = head * self.capacity * self.width..(head + 1) * self.capacity * self.width;
        let first = positions.start % PANEL;
        scores.resize((first + tokens).next_multiple_of(PANEL), 0.0);
        let Cache { capacity, .. } = *self;
        let start = positions.start;
        dispatch(Scores { query, scale, keys: &self.keys[head.clone()], start, scores });
        let scores = &mut scores[first..first + tokens];
        let sum = simd::exp_sub_sum(scores, simd::max_of(scores));
        let values = &self.values[head];
        dispatch(Mix { scores, start, capacity, values, factor: 1.0 / sum, to });
    }
}

/// Scores of whole panels of tokens, from that of token `start` on.
struct Scores<'a> {
    query: &'a [f32],
    scale: f32,
    /// [panels, width, 32]
    keys: &'a [f32],
    start: usize,
    scores: &'a mut [f32],
}

impl SliceKernel for Scores<'_> {
    type Output = ();
    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let panel = self.query.len() * PANEL;
        let panels = self.keys.len() / panel;
        let scores = self.scores.as_chunks_mut::<PANEL>().0;
        for (i, scores) in scores.iter_mut().enumerate() {
            let keys = &self.keys[(self.start / PANEL + i) % panels * panel..][..panel];
            let mut sums = [0.0; PANEL];
            for (keys, query) in keys.as_chunks::<PANEL>().0.iter().zip(self.query) {
                let query = query * self.scale;
                for j in 0..PANEL {
                    sums[j] = madd::<FUSED>(query, keys[j], sums[j]);
                }
            }
            *scores = sums;
        }
    }
}

/// to ← factor·Σ score·value over tokens from `start` on.
struct Mix<'a> {
    scores: &'a [f32],
    start: usize,
    capacity: usize,
    /// [capacity, width]
    values: &'a [f32],
    factor: f32,
    to: &'a mut [f32],
}

impl SliceKernel for Mix<'_> {
    type Output = ();
    #[inline(always)]
    fn run<const FUSED: bool>(mut self) {
        let mut channel = 0;
        while channel + 64 <= self.to.len() {
            self.channels::<64, FUSED>(channel);
            channel += 64;
        }
        while channel + 16 <= self.to.len() {
            self.channels::<16, FUSED>(channel);
            channel += 16;
        }
        while channel < self.to.len() {
            self.channels::<1, FUSED>(channel);
            channel += 1;
        }
    }
}

impl Mix<'_> {
    /// W channels at once; each is the same chain whatever W.
    #[inline(always)]
    fn channels<const W: usize, const FUSED: bool>(&mut self, channel: usize) {
        let width = self.to.len();
        let mut sums = [0.0; W];
        let mut place = self.start % self.capacity;
        for &score in self.scores {
            let row = &self.values[place * width + channel..][..W];
            for j in 0..W {
                sums[j] = madd::<FUSED>(score, row[j], sums[j]);
            }
            place += 1;
            if place == self.capacity {
                place = 0;
            }
        }
        for (to, sum) in self.to[channel..][..W].iter_mut().zip(sums) {
            *to = sum * self.factor;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADS: usize = 3;
    /// 64 + 16 + 3 channels: every width of a pass.
    const WIDTH: usize = 83;

    fn number(i: usize) -> f32 {
        ((i * 2_654_435_761) % 4093) as f32 / 2046.5 - 1.0
    }

    /// Channels of all heads of a token, `stride` apart.
    fn token(position: usize, kind: usize, stride: usize) -> Vec<f32> {
        let mut all = vec![f32::NAN; HEADS * WIDTH * stride];
        (0..HEADS * WIDTH)
            .for_each(|i| all[i * stride] = number(position * 977 + i * 31 + kind * 7919));
        all
    }

    fn filled(capacity: usize, tokens: Range<usize>, stride: usize) -> Cache {
        let mut cache = Cache::new(HEADS, WIDTH, capacity);
        for p in tokens {
            cache.put(p, &token(p, 1, stride), &token(p, 2, stride), stride);
        }
        cache
    }

    fn attended(cache: &Cache, head: usize, positions: Range<usize>) -> Vec<f32> {
        let query = &token(positions.end, 3, 1)[head * WIDTH..][..WIDTH];
        let (mut to, mut scores) = (vec![0.0; WIDTH], vec![7.0; 5]);
        cache.attend(head, query, 0.11, positions, &mut scores, &mut to);
        to
    }

    /// The formula in f64. Scores below 10 in magnitude are off by at most (83 + 3)·2^−24·10 ≈ 5e-5, as
    /// are the weights relative to themselves; values are below 1.
    fn formula(head: usize, positions: Range<usize>) -> Vec<f64> {
        let of = |position: usize, kind: usize| -> Vec<f64> {
            let all = token(position, kind, 1);
            all[head * WIDTH..][..WIDTH].iter().map(|&v| f64::from(v)).collect()
        };
        let query = of(positions.end, 3);
        let weight = |p: usize| {
            let products = of(p, 1).iter().zip(&query).map(|(k, q)| k * q).sum::<f64>();
            (f64::from(0.11f32) * products).exp()
        };
        let weights: Vec<f64> = positions.clone().map(weight).collect();
        let sum: f64 = weights.iter().sum();
        let mixed = |c: usize| positions.clone().zip(&weights).map(move |(p, w)| w * of(p, 2)[c]);
        (0..WIDTH).map(|c| mixed(c).sum::<f64>() / sum).collect()
    }

    #[test]
    fn results_are_those_of_the_formula() {
        let cache = filled(64, 0..150, 1);
        for positions in [90..150, 149..150, 100..101, 95..129, 128..150, 86..150] {
            for head in 0..HEADS {
                let got = attended(&cache, head, positions.clone());
                for (got, want) in got.iter().zip(formula(head, positions.clone())) {
                    assert!((f64::from(*got) - want).abs() < 2e-4, "{positions:?}: {got} {want}");
                }
            }
        }
    }

    /// Bits, for rings of every size that holds the tokens, however the channels were given.
    #[test]
    fn the_place_in_the_ring_does_not_matter() {
        let large = filled(1000, 0..150, 1);
        for (capacity, stride) in [(33, 1), (64, 5), (96, 2), (160, 3)] {
            let small = filled(capacity, 0..150, stride);
            assert_eq!(small.capacity(), capacity.next_multiple_of(32));
            for positions in [117..150, 120..149, 149..150] {
                let wanted = attended(&large, 1, positions.clone());
                assert_eq!(attended(&small, 1, positions), wanted, "{capacity}");
            }
        }
    }

    #[test]
    fn copied_tokens_are_the_same() {
        let from = filled(96, 0..140, 1);
        let mut to = filled(96, 0..7, 1);
        to.copy(&from, 120);
        assert_eq!((from.oldest(), to.oldest()), (44, 44));
        assert_eq!(attended(&to, 2, 70..120), attended(&from, 2, 70..120));
        assert_eq!(Cache::bytes_of(HEADS, WIDTH, 65), 2 * HEADS * WIDTH * 96 * 4);
    }

    /// Going back does not bring forgotten tokens back.
    #[test]
    fn what_is_forgotten_stays_so() {
        let mut cache = filled(64, 0..150, 1);
        let put = |cache: &mut Cache, p| cache.put(p, &token(p, 1, 1), &token(p, 2, 1), 1);
        assert_eq!(cache.oldest(), 86);
        put(&mut cache, 100);
        assert_eq!(cache.oldest(), 86);
        (101..151).for_each(|p| put(&mut cache, p));
        assert_eq!(cache.oldest(), 87);
        put(&mut cache, 3);
        assert_eq!(cache.oldest(), 3);
    }

    #[test]
    #[should_panic(expected = "tokens that the cache holds")]
    fn no_more_tokens_than_the_cache_holds() {
        attended(&filled(32, 0..40, 1), 0, 3..40);
    }
}
