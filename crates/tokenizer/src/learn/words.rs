//! The distinct words of texts, counted on all cores.

use crate::error::{Error, Result};
use crate::text::{Pattern, Split, TextRules};
use rayon::prelude::*;
use rustc_hash::FxHashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Words and how often each occurred.
type Counts = FxHashMap<Box<str>, i64>;

/// A table for each thread: a word may be in several.
#[derive(Debug)]
pub(super) struct WordCounts(Vec<Counter>);

/// What one thread counts with.
#[derive(Debug)]
struct Counter {
    /// Each thread has its own copy of the pattern: a shared one makes threads wait for its scratch memory.
    rules: TextRules,
    counts: Counts,
}

impl WordCounts {
    pub(super) fn new(pattern: &str) -> Result<Self> {
        let pattern = Pattern::new(pattern).map_err(Error::Pattern)?;
        let rules = TextRules { splits: vec![Split::Pattern(pattern)], ..TextRules::default() };
        let counter = || Counter { rules: rules.clone(), counts: Counts::default() };
        Ok(WordCounts((0..rayon::current_num_threads()).map(|_| counter()).collect()))
    }

    /// Adds the words of some texts.
    pub(super) fn add(&mut self, texts: &[&str]) -> Result<()> {
        let next = AtomicUsize::new(0);
        self.0.par_iter_mut().try_for_each(|counter| {
            while let Some(text) = texts.get(next.fetch_add(1, Ordering::Relaxed)) {
                counter.add(text)?;
            }
            Ok(())
        })
    }

    /// All words, each once, with their counts, in no particular order.
    pub(super) fn into_words(self) -> Vec<(Box<str>, i64)> {
        let mut tables: Vec<Counts> = self.0.into_iter().map(|counter| counter.counts).collect();
        tables.sort_by_key(|table| table.len());
        let mut all = tables.pop().unwrap_or_default();
        for (word, count) in tables.into_iter().flatten() {
            *all.entry(word).or_insert(0) += count;
        }
        all.into_iter().collect()
    }
}

impl Counter {
    fn add(&mut self, text: &str) -> Result<()> {
        for word in self.rules.words(text)? {
            match self.counts.get_mut(word) {
                Some(count) => *count += 1,
                None => drop(self.counts.insert(word.into(), 1)),
            }
        }
        Ok(())
    }
}
