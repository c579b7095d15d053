//! Attention of single queries over cached keys and values.
//!
//! A [`Cache`] holds the keys and values of one layer and one text as a ring: token p lies at place
//! p mod capacity, so a text whose queries see only the nearest tokens needs room for no more. Keys are
//! stored as panels of 32 tokens, element (token, channel) of a panel at channel·32 + token: the scores
//! of 32 tokens are one chain of multiply-adds over the channels, without sums across a vector. Values
//! are stored token by token, and a result is the sum of two chains, over every other token each.
//!
//! A result depends on the query, the keys and the values alone: not on where in the ring they lie, nor
//! on what is computed beside it.

use crate::simd::{self, SliceKernel, dispatch, madd};
use std::cell::RefCell;
use std::ops::Range;

/// Tokens of a panel of keys.
const PANEL: usize = 32;
/// Channels of values that are taken at once.
const VECTOR: usize = 16;

/// Queries that [`Cache::attend_together`] takes. With 32 tokens or 16 channels of two chains each, their
/// sums fill 12 of AVX2's 16 registers.
pub const TOGETHER: usize = 3;

thread_local! {
    static SPACE: RefCell<Space> = RefCell::new(Space::default());
}

/// What a thread needs for some queries.
#[derive(Default)]
struct Space {
    /// Scaled queries, [Q, width].
    queries: Vec<f32>,
    /// [Q, tokens in whole panels]
    scores: Vec<f32>,
}

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

    /// Stores the keys and values [heads, width] of token `position`. The token `capacity` positions before
    /// is forgotten. A text may go on from an earlier token, whose successors are then stored again.
    ///
    /// # Panics
    /// If a slice does not have all channels.
    pub fn put(&mut self, position: usize, keys: &[f32], values: &[f32]) {
        let place = position % self.capacity;
        self.oldest = self.oldest.min(position).max((position + 1).saturating_sub(self.capacity));
        let head = self.capacity * self.width;
        for h in 0..self.heads {
            let own = h * self.width..(h + 1) * self.width;
            let to = &mut self.keys[h * head + place / PANEL * PANEL * self.width..];
            let column = to[place % PANEL..].iter_mut().step_by(PANEL);
            column.zip(&keys[own.clone()]).for_each(|(to, key)| *to = *key);
            let row = h * head + place * self.width;
            self.values[row..row + self.width].copy_from_slice(&values[own]);
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
    ///
    /// # Panics
    /// If there are no tokens or more than the cache holds, or a slice has not `width` elements.
    pub fn attend(
        &self,
        head: usize,
        query: &[f32],
        scale: f32,
        positions: Range<usize>,
        to: &mut [f32],
    ) {
        SPACE.with_borrow_mut(|space| self.mix(head, [query], scale, positions, space, [to]));
    }

    /// As [`Cache::attend`] for queries of consecutive tokens, with the same bits: the first one sees
    /// `positions`, and each sees one token more than the one before it.
    ///
    /// # Panics
    /// As [`Cache::attend`].
    pub fn attend_together(
        &self,
        head: usize,
        queries: [&[f32]; TOGETHER],
        scale: f32,
        positions: Range<usize>,
        to: [&mut [f32]; TOGETHER],
    ) {
        SPACE.with_borrow_mut(|space| self.mix(head, queries, scale, positions, space, to));
    }

    fn mix<const Q: usize>(
        &self,
        head: usize,
        queries: [&[f32]; Q],
        scale: f32,
        positions: Range<usize>,
        space: &mut Space,
        to: [&mut [f32]; Q],
    ) {
        let (start, tokens) = (positions.start, positions.len());
        let most = tokens + Q - 1;
        assert!(tokens > 0 && most <= self.capacity, "tokens that the cache holds");
        let widths = queries.iter().map(|query| query.len()).chain(to.iter().map(|to| to.len()));
        widths.for_each(|width| assert_eq!(width, self.width, "a query and a result"));
        let head = head * self.capacity * self.width..(head + 1) * self.capacity * self.width;
        let first = start % PANEL;
        let row = (first + most).next_multiple_of(PANEL);
        space.scores.resize(Q * row, 0.0);
        space.queries.resize(Q * self.width, 0.0);
        for (scaled, query) in space.queries.chunks_exact_mut(self.width).zip(queries) {
            scaled.iter_mut().zip(query).for_each(|(scaled, query)| *scaled = query * scale);
        }
        let queries = std::array::from_fn(|q| &space.queries[q * self.width..][..self.width]);
        let (keys, mut scores) = (&self.keys[head.clone()], space.scores.chunks_exact_mut(row));
        let mut scores: [&mut [f32]; Q] =
            std::array::from_fn(|_| scores.next().expect("a row of each"));
        dispatch(Scores { queries, keys, start, scores: scores.each_mut().map(|row| &mut **row) });
        let mut factors = [0.0; Q];
        for (q, (row, factor)) in scores.iter_mut().zip(&mut factors).enumerate() {
            let scores = &mut row[first..first + tokens + q];
            *factor = 1.0 / simd::exp_sub_sum(scores, simd::max_of(scores));
        }
        let scores = std::array::from_fn(|q| &scores[q][first..first + tokens + q]);
        let (capacity, values) = (self.capacity, &self.values[head]);
        dispatch(Mix { scores, start, capacity, values, factors, to });
    }
}

/// Scores of whole panels of tokens, from that of token `start` on: a row for each query, which is scaled.
struct Scores<'a, const Q: usize> {
    queries: [&'a [f32]; Q],
    /// [panels, width, 32]
    keys: &'a [f32],
    start: usize,
    scores: [&'a mut [f32]; Q],
}

impl<const Q: usize> SliceKernel for Scores<'_, Q> {
    type Output = ();
    #[inline(always)]
    fn run<const FUSED: bool>(mut self) {
        let (panels, mut panel) = (self.scores[0].len() / PANEL, 0);
        while panel < panels {
            // Several chains at once hide the time that one takes.
            panel += match Q {
                1 if panels - panel >= 4 => self.panels::<4, FUSED>(panel),
                _ => self.panels::<1, FUSED>(panel),
            };
        }
    }
}

impl<const Q: usize> Scores<'_, Q> {
    /// Scores of N panels from panel `first` on; returns N.
    #[inline(always)]
    fn panels<const N: usize, const FUSED: bool>(&mut self, first: usize) -> usize {
        let width = self.queries[0].len();
        let (place, count) = (self.start / PANEL + first, self.keys.len() / (width * PANEL));
        let keys: [&[[f32; PANEL]]; N] = std::array::from_fn(|i| {
            let panel = (place + i) % count * width * PANEL;
            self.keys[panel..][..width * PANEL].as_chunks::<PANEL>().0
        });
        let queries = self.queries.map(|query| &query[..width]);
        let mut sums = [[[0.0; PANEL]; N]; Q];
        for c in 0..width {
            for (sums, query) in sums.iter_mut().zip(queries) {
                for (sums, keys) in sums.iter_mut().zip(keys) {
                    for (sum, key) in sums.iter_mut().zip(&keys[c]) {
                        *sum = madd::<FUSED>(query[c], *key, *sum);
                    }
                }
            }
        }
        for (scores, sums) in self.scores.iter_mut().zip(&sums) {
            scores[first * PANEL..][..N * PANEL].copy_from_slice(sums.as_flattened());
        }
        N
    }
}

/// to ← factor·Σ score·value over tokens from `start` on, for each query as many as it has scores: each one
/// more than the query before it.
struct Mix<'a, const Q: usize> {
    scores: [&'a [f32]; Q],
    start: usize,
    capacity: usize,
    /// [capacity, width]
    values: &'a [f32],
    factors: [f32; Q],
    to: [&'a mut [f32]; Q],
}

impl<const Q: usize> SliceKernel for Mix<'_, Q> {
    type Output = ();
    #[inline(always)]
    fn run<const FUSED: bool>(mut self) {
        let (width, mut channel) = (self.to[0].len(), 0);
        while channel < width {
            channel += match width - channel {
                64.. if Q == 1 => self.vectors::<4, FUSED>(channel),
                48.. if Q == 1 => self.vectors::<3, FUSED>(channel),
                32.. if Q == 1 => self.vectors::<2, FUSED>(channel),
                16.. => self.vectors::<1, FUSED>(channel),
                _ => self.one::<FUSED>(channel),
            };
        }
    }
}

impl<const Q: usize> Mix<'_, Q> {
    /// N·16 channels at once, which is returned: two chains for each query, of every other token.
    #[inline(always)]
    fn vectors<const N: usize, const FUSED: bool>(&mut self, channel: usize) -> usize {
        let (width, scores) = (self.to[0].len(), self.scores);
        let (fewest, most) = (scores[0].len(), scores[Q - 1].len());
        let mut sums = [[[[0.0; VECTOR]; N]; Q]; 2];
        let mut place = self.start % self.capacity;
        for pair in 0..fewest / 2 {
            for (parity, sums) in sums.iter_mut().enumerate() {
                let row = &self.values[place * width + channel..][..N * VECTOR];
                for (sums, scores) in sums.iter_mut().zip(scores) {
                    mixed::<N, FUSED>(sums, scores[..fewest][2 * pair + parity], row);
                }
                place = if place + 1 == self.capacity { 0 } else { place + 1 };
            }
        }
        for pair in fewest / 2..most.div_ceil(2) {
            for (parity, sums) in sums.iter_mut().enumerate() {
                let row = &self.values[place * width + channel..][..N * VECTOR];
                for (sums, scores) in sums.iter_mut().zip(scores) {
                    if let Some(&score) = scores.get(2 * pair + parity) {
                        mixed::<N, FUSED>(sums, score, row);
                    }
                }
                place = if place + 1 == self.capacity { 0 } else { place + 1 };
            }
        }
        let [even, odd] = sums;
        for (((to, factor), even), odd) in self.to.iter_mut().zip(self.factors).zip(even).zip(odd) {
            let to = to[channel..][..N * VECTOR].as_chunks_mut::<VECTOR>().0;
            for ((to, even), odd) in to.iter_mut().zip(even).zip(odd) {
                *to = std::array::from_fn(|j| (even[j] + odd[j]) * factor);
            }
        }
        N * VECTOR
    }

    /// As [`Mix::vectors`], for one channel.
    #[inline(always)]
    fn one<const FUSED: bool>(&mut self, channel: usize) -> usize {
        let width = self.to[0].len();
        for ((to, scores), factor) in self.to.iter_mut().zip(self.scores).zip(self.factors) {
            let mut sums = [0.0; 2];
            for (i, &score) in scores.iter().enumerate() {
                let place = (self.start + i) % self.capacity;
                let value = self.values[place * width + channel];
                sums[i % 2] = madd::<FUSED>(score, value, sums[i % 2]);
            }
            to[channel] = (sums[0] + sums[1]) * factor;
        }
        1
    }
}

/// sums ← sums + score·row
#[inline(always)]
fn mixed<const N: usize, const FUSED: bool>(
    sums: &mut [[f32; VECTOR]; N],
    score: f32,
    row: &[f32],
) {
    for (sums, row) in sums.iter_mut().zip(row.as_chunks::<VECTOR>().0) {
        *sums = std::array::from_fn(|j| madd::<FUSED>(score, row[j], sums[j]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADS: usize = 3;
    /// 64 + 16 + 3 channels.
    const WIDTH: usize = 83;

    fn number(i: usize) -> f32 {
        ((i * 2_654_435_761) % 4093) as f32 / 2046.5 - 1.0
    }

    /// Channels of all heads of a token.
    fn token(position: usize, kind: usize) -> Vec<f32> {
        (0..HEADS * WIDTH).map(|i| number(position * 977 + i * 31 + kind * 7919)).collect()
    }

    fn filled(capacity: usize, tokens: Range<usize>) -> Cache {
        let mut cache = Cache::new(HEADS, WIDTH, capacity);
        tokens.for_each(|p| cache.put(p, &token(p, 1), &token(p, 2)));
        cache
    }

    fn attended(cache: &Cache, head: usize, positions: Range<usize>) -> Vec<f32> {
        let query = &token(positions.end, 3)[head * WIDTH..][..WIDTH];
        let mut to = vec![0.0; WIDTH];
        cache.attend(head, query, 0.11, positions, &mut to);
        to
    }

    /// The formula in f64. Scores below 10 in magnitude are off by at most (83 + 3)·2^−24·10 ≈ 5e-5, as
    /// are the weights relative to themselves; values are below 1.
    fn formula(head: usize, positions: Range<usize>) -> Vec<f64> {
        let of = |position: usize, kind: usize| -> Vec<f64> {
            let all = token(position, kind);
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
        let cache = filled(64, 0..150);
        for positions in [90..150, 149..150, 100..101, 95..129, 128..150, 86..150] {
            for head in 0..HEADS {
                let got = attended(&cache, head, positions.clone());
                for (got, want) in got.iter().zip(formula(head, positions.clone())) {
                    assert!((f64::from(*got) - want).abs() < 2e-4, "{positions:?}: {got} {want}");
                }
            }
        }
    }

    /// Bits, for rings of every size that holds the tokens.
    #[test]
    fn the_place_in_the_ring_does_not_matter() {
        let large = filled(1000, 0..150);
        for capacity in [33, 64, 96, 160] {
            let small = filled(capacity, 0..150);
            assert_eq!(small.capacity(), capacity.next_multiple_of(32));
            for positions in [117..150, 120..149, 149..150] {
                let wanted = attended(&large, 1, positions.clone());
                assert_eq!(attended(&small, 1, positions), wanted, "{capacity}");
            }
        }
    }

    #[test]
    fn copied_tokens_are_the_same() {
        let from = filled(96, 0..140);
        let mut to = filled(96, 0..7);
        to.copy(&from, 120);
        assert_eq!((from.oldest(), to.oldest()), (44, 44));
        assert_eq!(attended(&to, 2, 70..120), attended(&from, 2, 70..120));
        assert_eq!(Cache::bytes_of(HEADS, WIDTH, 65), 2 * HEADS * WIDTH * 96 * 4);
    }

    /// Going back does not bring forgotten tokens back.
    #[test]
    fn what_is_forgotten_stays_so() {
        let mut cache = filled(64, 0..150);
        let put = |cache: &mut Cache, p| cache.put(p, &token(p, 1), &token(p, 2));
        assert_eq!(cache.oldest(), 86);
        put(&mut cache, 100);
        assert_eq!(cache.oldest(), 86);
        (101..151).for_each(|p| put(&mut cache, p));
        assert_eq!(cache.oldest(), 87);
        put(&mut cache, 3);
        assert_eq!(cache.oldest(), 3);
    }

    /// Bits, around the ends of panels and of the ring, for odd and even numbers of tokens.
    #[test]
    fn queries_together_are_those_alone() {
        let cache = filled(96, 0..200);
        for positions in [104..105, 105..107, 110..140, 111..192, 127..128, 104..195] {
            for head in 0..HEADS {
                let rows = [0, 1, 2].map(|i| token(positions.end + i, 3));
                let queries = rows.each_ref().map(|row| &row[head * WIDTH..][..WIDTH]);
                let mut got = [[0.0; WIDTH]; TOGETHER];
                let to = got.each_mut().map(|row| &mut row[..]);
                cache.attend_together(head, queries, 0.11, positions.clone(), to);
                let alone =
                    [0, 1, 2].map(|i| attended(&cache, head, positions.start..positions.end + i));
                for (got, alone) in got.iter().zip(alone) {
                    let bits = |row: &[f32]| row.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(got), bits(&alone), "{positions:?} of head {head}");
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "tokens that the cache holds")]
    fn no_more_tokens_than_the_cache_holds() {
        attended(&filled(32, 0..40), 0, 3..40);
    }
}
