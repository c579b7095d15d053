//! The pairs of neighbouring tokens in all words, and the most frequent of them.
//!
//! Two tokens become neighbours when the newer of them is made, never later: so the words of a pair and its
//! first place in the heap are known at once, and from then on its count only falls. A count in the heap that
//! has fallen since is corrected when it comes up.

use rustc_hash::FxHashMap;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Two ids in one number, whose order is that of the pair (left, right).
type Pair = u64;

fn pair(left: u32, right: u32) -> Pair {
    u64::from(left) << 32 | u64::from(right)
}

fn parts(pair: Pair) -> (u32, u32) {
    ((pair >> 32) as u32, pair as u32)
}

/// A distinct word: a part of the list of symbols.
#[derive(Debug, Clone, Copy)]
struct Word {
    start: usize,
    len: usize,
    /// Times that it occurs in the texts.
    count: i64,
}

/// A pair's occurrences.
#[derive(Debug, Clone, Default)]
struct Occurrences {
    count: i64,
    /// Words that held the pair when its newer token was made, each once.
    words: Vec<u32>,
}

impl Occurrences {
    fn add(&mut self, word: u32, count: i64) {
        self.count += count;
        if self.words.last() != Some(&word) {
            self.words.push(word);
        }
    }
}

/// Words in which pairs are joined.
#[derive(Debug)]
pub(super) struct Merges {
    /// The tokens of all words, one word after the other.
    symbols: Vec<u32>,
    words: Vec<Word>,
    pairs: FxHashMap<Pair, Occurrences>,
    heap: BinaryHeap<(i64, Reverse<Pair>)>,
    /// Times that a pair must occur to be joined.
    least: i64,
    /// The id of the next token.
    next: u32,
}

impl Merges {
    /// `bytes` are in the order of their ids.
    pub(super) fn new(words: &[(Box<str>, i64)], bytes: &[u8], least: i64) -> Self {
        let mut ids = [0; 256];
        for (&byte, id) in bytes.iter().zip(0..) {
            ids[usize::from(byte)] = id;
        }
        let mut merges = Merges {
            symbols: Vec::with_capacity(words.iter().map(|(word, _)| word.len()).sum()),
            words: Vec::with_capacity(words.len()),
            pairs: FxHashMap::default(),
            heap: BinaryHeap::new(),
            least,
            next: bytes.len() as u32,
        };
        // Words of one byte have no pairs.
        for (word, count) in words.iter().filter(|(word, _)| word.len() > 1) {
            let start = merges.symbols.len();
            merges.symbols.extend(word.bytes().map(|byte| ids[usize::from(byte)]));
            merges.words.push(Word { start, len: word.len(), count: *count });
        }
        merges.count();
        merges
    }

    /// Counts the pairs of all words, which are pairs of bytes.
    fn count(&mut self) {
        let mut table = vec![Occurrences::default(); 1 << 16];
        for (word, number) in self.words.iter().zip(0..) {
            for two in self.symbols[word.start..word.start + word.len].windows(2) {
                table[(two[0] << 8 | two[1]) as usize].add(number, word.count);
            }
        }
        for (occurrences, at) in table.into_iter().zip(0_u32..) {
            self.offer(pair(at >> 8, at & 255), occurrences);
        }
    }

    /// Takes in a pair, unless it occurs too seldom: its count will not grow.
    fn offer(&mut self, pair: Pair, occurrences: Occurrences) {
        if occurrences.count >= self.least {
            self.heap.push((occurrences.count, Reverse(pair)));
            self.pairs.insert(pair, occurrences);
        }
    }

    /// Makes the most frequent pair, of equals the smallest, a token in every word, from the left. Returns
    /// its parts; none if no pair is left.
    pub(super) fn join_most_frequent(&mut self) -> Option<(u32, u32)> {
        let (most, occurrences) = self.most_frequent()?;
        let joined = self.next;
        self.next += 1;
        let mut made = FxHashMap::default();
        for number in occurrences.words {
            self.join(number, parts(most), joined, &mut made);
        }
        // The order of equal entries in the heap says nothing: no two are equal.
        #[allow(clippy::iter_over_hash_type, reason = "the heap orders them")]
        for (pair, occurrences) in made {
            self.offer(pair, occurrences);
        }
        Some(parts(most))
    }

    fn most_frequent(&mut self) -> Option<(Pair, Occurrences)> {
        loop {
            let (count, Reverse(pair)) = self.heap.pop()?;
            let Some(occurrences) = self.pairs.get(&pair) else { continue };
            if occurrences.count == count {
                return self.pairs.remove(&pair).map(|occurrences| (pair, occurrences));
            }
            if occurrences.count >= self.least {
                self.heap.push((occurrences.count, Reverse(pair)));
            } else {
                self.pairs.remove(&pair);
            }
        }
    }

    /// Joins a pair in one word. Pairs with the new token are noted in `made`.
    fn join(
        &mut self,
        number: u32,
        (left, right): (u32, u32),
        joined: u32,
        made: &mut FxHashMap<Pair, Occurrences>,
    ) {
        let Word { start, len, count } = self.words[number as usize];
        let symbols = &mut self.symbols[start..start + len];
        let (mut read, mut write) = (0, 0);
        while read < len {
            if read + 1 == len || (symbols[read], symbols[read + 1]) != (left, right) {
                symbols[write] = symbols[read];
                (read, write) = (read + 1, write + 1);
                continue;
            }
            if let Some(before) = write.checked_sub(1).map(|at| symbols[at]) {
                lose(&mut self.pairs, made, pair(before, left), count);
                made.entry(pair(before, joined)).or_default().add(number, count);
            }
            if let Some(&after) = symbols.get(read + 2) {
                lose(&mut self.pairs, made, pair(right, after), count);
                made.entry(pair(joined, after)).or_default().add(number, count);
            }
            symbols[write] = joined;
            (read, write) = (read + 2, write + 1);
        }
        self.words[number as usize].len = write;
    }
}

/// A pair occurs `count` times less. (The joined pair itself is in neither table.)
fn lose(
    pairs: &mut FxHashMap<Pair, Occurrences>,
    made: &mut FxHashMap<Pair, Occurrences>,
    pair: Pair,
    count: i64,
) {
    if let Some(occurrences) = pairs.get_mut(&pair).or_else(|| made.get_mut(&pair)) {
        occurrences.count -= count;
    }
}
