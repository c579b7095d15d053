//! Learning a byte-level BPE vocabulary (Sennrich et al. 2016; GPT-2's bytes and splitting pattern).
//!
//! The pair that occurs most often becomes a token, again and again; among equals the pair of the
//! smallest ids wins, so the result depends on the text alone.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rustc_hash::FxHashMap;

use crate::error::{Error, Result};
use crate::text::{GPT2_PATTERN, Pattern, Split, TextRules};
use crate::vocab::ByteLetters;

/// Tokens that every vocabulary has: the bytes and the document separator.
const FIXED: usize = 256 + 1;
/// A pair that occurs once is not worth a token.
const LEAST_COUNT: i64 = 2;

/// How far learning has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LearnProgress {
    /// Bytes of text read so far.
    Reading {
        /// Bytes of text.
        bytes: u64,
    },
    /// Tokens learned so far, of those wanted.
    Merging {
        /// Tokens in the vocabulary.
        tokens: usize,
        /// Tokens asked for.
        wanted: usize,
    },
}

/// The result of learning.
pub(crate) struct Learned {
    /// The bytes of every token: first all bytes in GPT-2's order, then one token per merge.
    pub(crate) tokens: Vec<Vec<u8>>,
    pub(crate) merges: Vec<(u32, u32)>,
}

type Pair = (u32, u32);

struct Learner {
    /// Distinct words as symbols, with the number of times each occurs.
    words: Vec<(Vec<u32>, i64)>,
    counts: FxHashMap<Pair, i64>,
    /// Words in which a pair occurred when it was last added there.
    places: FxHashMap<Pair, Vec<u32>>,
    /// Candidates; an entry whose count has changed since is corrected when it comes up.
    heap: BinaryHeap<(i64, Reverse<Pair>)>,
}

/// Learns up to `vocab_size` tokens, the separator included; fewer if the text has no more pairs.
pub(crate) fn learn<S: AsRef<str>>(
    texts: impl IntoIterator<Item = S>,
    vocab_size: usize,
    progress: &mut dyn FnMut(LearnProgress),
) -> Result<Learned> {
    if vocab_size < FIXED || vocab_size > u32::MAX as usize {
        return Err(Error::Learn(format!(
            "{vocab_size} tokens were asked for; a byte-level vocabulary has at least {FIXED}"
        )));
    }
    let letters = ByteLetters::new();
    let mut learned = Learned {
        tokens: letters.bytes_in_order().map(|byte| vec![byte]).collect(),
        merges: Vec::new(),
    };
    let words = count_words(texts, progress)?;
    let mut learner = Learner::new(words, &learned.tokens);
    while learned.tokens.len() + 1 < vocab_size {
        let Some(pair) = learner.most_frequent() else { break };
        let joined = learned.tokens.len() as u32;
        let (left, right) = (&learned.tokens[pair.0 as usize], &learned.tokens[pair.1 as usize]);
        let bytes = [left.as_slice(), right].concat();
        learned.tokens.push(bytes);
        learned.merges.push(pair);
        learner.join(pair, joined);
        progress(LearnProgress::Merging { tokens: learned.tokens.len() + 1, wanted: vocab_size });
    }
    Ok(learned)
}

/// Distinct words in the order of their first occurrence, with counts.
fn count_words<S: AsRef<str>>(
    texts: impl IntoIterator<Item = S>,
    progress: &mut dyn FnMut(LearnProgress),
) -> Result<Vec<(String, i64)>> {
    let pattern = Pattern::new(GPT2_PATTERN).map_err(Error::Pattern)?;
    let rules = TextRules { splits: vec![Split::Pattern(pattern)], ..TextRules::default() };
    let mut index: FxHashMap<String, usize> = FxHashMap::default();
    let mut words: Vec<(String, i64)> = Vec::new();
    let mut bytes = 0;
    for text in texts {
        let text = text.as_ref();
        for word in rules.words(text)? {
            if let Some(&i) = index.get(word) {
                words[i].1 += 1;
            } else {
                index.insert(word.to_string(), words.len());
                words.push((word.to_string(), 1));
            }
        }
        bytes += text.len() as u64;
        progress(LearnProgress::Reading { bytes });
    }
    if words.is_empty() {
        return Err(Error::Learn("the text is empty".into()));
    }
    Ok(words)
}

impl Learner {
    fn new(words: Vec<(String, i64)>, bytes: &[Vec<u8>]) -> Self {
        let mut ids = [0; 256];
        for (token, id) in bytes.iter().zip(0..) {
            ids[usize::from(token[0])] = id;
        }
        let symbols =
            |word: &str| -> Vec<u32> { word.bytes().map(|b| ids[usize::from(b)]).collect() };
        let mut learner = Learner {
            words: words.iter().map(|(word, n)| (symbols(word), *n)).collect(),
            counts: FxHashMap::default(),
            places: FxHashMap::default(),
            heap: BinaryHeap::new(),
        };
        let mut seen = Vec::new();
        for i in 0..learner.words.len() {
            learner.count(i, 1, &mut seen);
        }
        learner.offer(seen);
        learner
    }

    /// Adds (`sign` 1) or removes (-1) the pairs of a word. Added pairs are noted in `touched`.
    fn count(&mut self, word: usize, sign: i64, touched: &mut Vec<Pair>) {
        let (symbols, n) = &self.words[word];
        for pair in symbols.windows(2).map(|w| (w[0], w[1])) {
            *self.counts.entry(pair).or_insert(0) += sign * n;
            if sign > 0 {
                let places = self.places.entry(pair).or_default();
                if places.last() != Some(&(word as u32)) {
                    places.push(word as u32);
                }
                touched.push(pair);
            }
        }
    }

    /// Puts pairs whose count has grown on the heap.
    fn offer(&mut self, mut pairs: Vec<Pair>) {
        pairs.sort_unstable();
        pairs.dedup();
        let counts = &self.counts;
        let counted = pairs.into_iter().map(|p| (counts.get(&p).copied().unwrap_or(0), Reverse(p)));
        self.heap.extend(counted.filter(|(n, _)| *n >= LEAST_COUNT));
    }

    fn most_frequent(&mut self) -> Option<Pair> {
        while let Some((n, Reverse(pair))) = self.heap.pop() {
            let now = self.counts.get(&pair).copied().unwrap_or(0);
            if now == n {
                return Some(pair);
            }
            if now >= LEAST_COUNT && now < n {
                self.heap.push((now, Reverse(pair)));
            }
        }
        None
    }

    fn join(&mut self, pair: Pair, joined: u32) {
        let mut places = self.places.remove(&pair).unwrap_or_default();
        places.sort_unstable();
        places.dedup();
        let mut touched = Vec::new();
        for word in places.into_iter().map(|w| w as usize) {
            let symbols = &self.words[word].0;
            if !symbols.windows(2).any(|w| (w[0], w[1]) == pair) {
                continue;
            }
            self.count(word, -1, &mut touched);
            replace_pair(&mut self.words[word].0, pair, joined);
            self.count(word, 1, &mut touched);
        }
        self.counts.remove(&pair);
        self.offer(touched);
    }
}

/// Replaces every occurrence of the pair, from the left.
fn replace_pair(symbols: &mut Vec<u32>, pair: Pair, joined: u32) {
    let (mut read, mut write) = (0, 0);
    while read < symbols.len() {
        let hit = symbols[read] == pair.0 && symbols.get(read + 1) == Some(&pair.1);
        symbols[write] = if hit { joined } else { symbols[read] };
        read += if hit { 2 } else { 1 };
        write += 1;
    }
    symbols.truncate(write);
}
