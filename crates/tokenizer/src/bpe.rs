//! Byte-pair merging of one word: from the smallest symbols, repeatedly join the adjacent pair of
//! the lowest rank, the leftmost first, until no pair is in the table.
//!
//! The same engine serves ranked merges (GPT-2, Hugging Face) and scored pieces (SentencePiece,
//! llama2.c), where the rank of a pair is the place of its joined piece among all scores.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rustc_hash::FxHashMap;

use crate::error::{Error, Result};

/// No rank: the pair does not merge.
const NEVER: u32 = u32::MAX;
/// Up to this many symbols a scan for the lowest rank beats the heap.
const SCAN_LIMIT: usize = 48;

/// The encoding of characters with no token of their own.
#[derive(Debug, Clone)]
pub(crate) enum Fallback {
    /// Their UTF-8 bytes, by the token of each byte.
    Bytes(Box<[u32; 256]>),
    /// One token for all of them; a run of them counts once if `fuse`.
    Unknown { id: u32, fuse: bool },
    /// An error.
    Refuse,
}

/// The symbols that a word starts from.
#[derive(Debug, Clone)]
pub(crate) enum Alphabet {
    /// The bytes of the text.
    Bytes(Box<[Option<u32>; 256]>),
    /// The characters of the text. Ids from `first_virtual` on are characters without a token which
    /// occur in longer pieces: they may merge, and fall back if they are left over.
    Chars { ids: FxHashMap<char, u32>, first_virtual: u32, virtuals: Vec<char>, fallback: Fallback },
}

/// A table of merges with the alphabet that it starts from.
#[derive(Debug, Clone)]
pub(crate) struct MergeModel {
    pub(crate) alphabet: Alphabet,
    /// (left, right) -> (rank, joined)
    pub(crate) merges: FxHashMap<(u32, u32), (u32, u32)>,
    /// Words that are taken whole without merging (`ignore_merges` of Hugging Face).
    pub(crate) whole_words: FxHashMap<Box<str>, u32>,
}

impl MergeModel {
    /// Appends the tokens of `word` to `out`. `at` is the word's offset, for errors.
    pub(crate) fn encode_word(&self, word: &str, at: usize, out: &mut Vec<u32>) -> Result<()> {
        if let Some(&id) = self.whole_words.get(word) {
            out.push(id);
            return Ok(());
        }
        let start = out.len();
        self.push_symbols(word, at, out)?;
        if out.len() - start <= SCAN_LIMIT {
            self.merge_by_scan(out, start);
        } else {
            self.merge_by_heap(out, start);
        }
        self.resolve_virtuals(out, start, at)
    }

    fn push_symbols(&self, word: &str, at: usize, out: &mut Vec<u32>) -> Result<()> {
        match &self.alphabet {
            Alphabet::Bytes(ids) => {
                for (offset, byte) in word.bytes().enumerate() {
                    let id = ids[usize::from(byte)];
                    out.push(id.ok_or_else(|| unknown_byte(word, at, offset))?);
                }
            }
            Alphabet::Chars { ids, fallback, .. } => {
                for (offset, c) in word.char_indices() {
                    match ids.get(&c) {
                        Some(&id) => out.push(id),
                        None => fallback.push(c, at + offset, out)?,
                    }
                }
            }
        }
        Ok(())
    }

    /// (rank, joined) of a pair, or `(NEVER, _)`.
    fn rank(&self, left: u32, right: u32) -> (u32, u32) {
        self.merges.get(&(left, right)).copied().unwrap_or((NEVER, 0))
    }

    fn merge_by_scan(&self, out: &mut Vec<u32>, start: usize) {
        let n = out.len() - start;
        if n < 2 || self.merges.is_empty() {
            return;
        }
        // pairs[i] is the merge of symbols i and i + 1.
        let mut pairs = [(NEVER, 0); SCAN_LIMIT];
        let mut last = n - 1;
        let symbols = &mut out[start..];
        for i in 0..last {
            pairs[i] = self.rank(symbols[i], symbols[i + 1]);
        }
        while let Some(i) = (0..last).min_by_key(|&i| pairs[i].0)
            && pairs[i].0 != NEVER
        {
            symbols[i] = pairs[i].1;
            symbols.copy_within(i + 2..=last, i + 1);
            pairs.copy_within(i + 1..last, i);
            last -= 1;
            if i < last {
                pairs[i] = self.rank(symbols[i], symbols[i + 1]);
            }
            if i > 0 {
                pairs[i - 1] = self.rank(symbols[i - 1], symbols[i]);
            }
        }
        out.truncate(start + last + 1);
    }

    /// O(n log n): a heap of candidate pairs over a doubly linked list of symbols. An entry is stale
    /// when its pair no longer joins to the same piece; symbols only grow, so that test is exact.
    fn merge_by_heap(&self, out: &mut Vec<u32>, start: usize) {
        if self.merges.is_empty() {
            return;
        }
        let mut list = LinkedSymbols::new(&out[start..]);
        let mut heap = BinaryHeap::new();
        for i in 0..list.id.len() - 1 {
            let (rank, joined) = self.rank(list.id[i], list.id[i + 1]);
            if rank != NEVER {
                heap.push(Reverse((rank, i, joined)));
            }
        }
        while let Some(Reverse((_, i, joined))) = heap.pop() {
            let Some(right) = list.next(i) else { continue };
            let (rank, now) = self.rank(list.id[i], list.id[right]);
            if rank == NEVER || now != joined {
                continue;
            }
            list.join(i, right, joined);
            for (a, b) in [(list.prev(i), Some(i)), (Some(i), list.next(i))] {
                let (Some(a), Some(b)) = (a, b) else { continue };
                let (rank, joined) = self.rank(list.id[a], list.id[b]);
                if rank != NEVER {
                    heap.push(Reverse((rank, a, joined)));
                }
            }
        }
        out.truncate(start);
        out.extend(list.live());
    }

    fn resolve_virtuals(&self, out: &mut Vec<u32>, start: usize, at: usize) -> Result<()> {
        let Alphabet::Chars { first_virtual, virtuals, fallback, .. } = &self.alphabet else {
            return Ok(());
        };
        if virtuals.is_empty() || out[start..].iter().all(|id| id < first_virtual) {
            return Ok(());
        }
        for id in out.split_off(start) {
            match id.checked_sub(*first_virtual) {
                Some(index) => fallback.push(virtuals[index as usize], at, out)?,
                None => out.push(id),
            }
        }
        Ok(())
    }

    /// The token that a run of unknown characters shrinks to, if it does.
    pub(crate) fn fused_unknown(&self) -> Option<u32> {
        match &self.alphabet {
            Alphabet::Chars { fallback: Fallback::Unknown { id, fuse: true }, .. } => Some(*id),
            _ => None,
        }
    }
}

impl Fallback {
    pub(crate) fn push(&self, character: char, at: usize, out: &mut Vec<u32>) -> Result<()> {
        match self {
            Fallback::Bytes(ids) => {
                let mut buffer = [0; 4];
                let bytes = character.encode_utf8(&mut buffer).bytes();
                out.extend(bytes.map(|b| ids[usize::from(b)]));
            }
            Fallback::Unknown { id, .. } => out.push(*id),
            Fallback::Refuse => return Err(Error::UnknownCharacter { character, at }),
        }
        Ok(())
    }
}

/// The error for a byte without a token names the character that the byte is part of.
fn unknown_byte(word: &str, at: usize, offset: usize) -> Error {
    let around = word.char_indices().take_while(|&(start, _)| start <= offset).last();
    let (start, character) = around.unwrap_or((0, char::REPLACEMENT_CHARACTER));
    Error::UnknownCharacter { character, at: at + start }
}

struct LinkedSymbols {
    id: Vec<u32>,
    /// Index of the neighbours; the length of the list where there is none.
    next: Vec<usize>,
    prev: Vec<usize>,
}

impl LinkedSymbols {
    fn new(symbols: &[u32]) -> Self {
        let n = symbols.len();
        LinkedSymbols {
            id: symbols.to_vec(),
            next: (1..=n).collect(),
            prev: (0..n).map(|i| if i == 0 { n } else { i - 1 }).collect(),
        }
    }

    fn some(&self, i: usize) -> Option<usize> {
        (i < self.id.len()).then_some(i)
    }

    fn next(&self, i: usize) -> Option<usize> {
        self.some(self.next[i])
    }

    fn prev(&self, i: usize) -> Option<usize> {
        self.some(self.prev[i])
    }

    /// Replaces `left` by the joined symbol; `right` leaves the list, and has no next any more.
    fn join(&mut self, left: usize, right: usize, joined: u32) {
        let n = self.id.len();
        self.id[left] = joined;
        self.next[left] = self.next[right];
        if let Some(after) = self.next(right) {
            self.prev[after] = left;
        }
        self.next[right] = n;
    }

    fn live(&self) -> impl Iterator<Item = u32> + '_ {
        std::iter::successors(self.some(0), |&i| self.next(i)).map(|i| self.id[i])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Letters a..d are tokens 0..3; every further token joins two earlier ones.
    fn model(merges: &[(u32, u32)]) -> MergeModel {
        let ids = ('a'..='d').zip(0..).collect();
        let mut table = FxHashMap::default();
        for (rank, &(l, r)) in merges.iter().enumerate() {
            let joined = 4 + rank as u32;
            table.entry((l % joined, r % joined)).or_insert((rank as u32, joined));
        }
        MergeModel {
            alphabet: Alphabet::Chars {
                ids,
                first_virtual: u32::MAX,
                virtuals: vec![],
                fallback: Fallback::Refuse,
            },
            merges: table,
            whole_words: FxHashMap::default(),
        }
    }

    /// The definition, quadratic.
    fn by_definition(model: &MergeModel, mut ids: Vec<u32>) -> Vec<u32> {
        loop {
            let best = (1..ids.len())
                .filter_map(|i| model.merges.get(&(ids[i - 1], ids[i])).map(|m| (m.0, i, m.1)))
                .min();
            let Some((_, i, joined)) = best else { return ids };
            ids[i - 1] = joined;
            ids.remove(i);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn both_ways_of_merging_follow_the_definition(
            merges in prop::collection::vec((0..60_u32, 0..60_u32), 0..40),
            ids in prop::collection::vec(0..4_u32, 1..SCAN_LIMIT),
        ) {
            let model = model(&merges);
            let want = by_definition(&model, ids.clone());
            let (mut scan, mut heap) = (vec![9], vec![9]);
            scan.extend(&ids);
            heap.extend(&ids);
            model.merge_by_scan(&mut scan, 1);
            model.merge_by_heap(&mut heap, 1);
            prop_assert_eq!(&scan[1..], &want[..]);
            prop_assert_eq!(&heap[1..], &want[..]);
        }
    }

    #[test]
    fn leftmost_pair_first() {
        let model = model(&[(0, 0)]);
        let mut out = vec![];
        model.encode_word("aaa", 0, &mut out).unwrap();
        assert_eq!(out, [4, 0]);
    }

    #[test]
    fn a_strange_character_is_named_with_its_place() {
        let error = model(&[]).encode_word("ab漢", 7, &mut vec![]).unwrap_err();
        assert!(matches!(error, Error::UnknownCharacter { character: '漢', at: 9 }), "{error}");
    }
}
