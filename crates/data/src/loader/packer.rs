//! Documents that wait for a row that they fit into.

use crate::text::Place;
use std::collections::{BTreeMap, VecDeque};

/// A tokenized document, with its place among the texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) place: Place,
    pub(super) tokens: Vec<u32>,
}

/// Documents by length, and those of a length in the order in which they came.
///
/// The longest that fits and the shortest are what a scan of all documents in their order would find, the
/// first of several equal ones, without the scan.
#[derive(Debug, Default)]
pub(super) struct Packer {
    lengths: BTreeMap<usize, VecDeque<(u64, Entry)>>,
    count: usize,
    /// Documents that ever came.
    came: u64,
}

impl Packer {
    pub(super) fn push(&mut self, entry: Entry) {
        self.lengths.entry(entry.tokens.len()).or_default().push_back((self.came, entry));
        self.came += 1;
        self.count += 1;
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Takes the longest document of at most `room` tokens.
    pub(super) fn take_longest(&mut self, room: usize) -> Option<Entry> {
        let (&length, _) = self.lengths.range(..=room).next_back()?;
        self.take(length)
    }

    /// Takes the shortest document.
    pub(super) fn take_shortest(&mut self) -> Option<Entry> {
        let (&length, _) = self.lengths.first_key_value()?;
        self.take(length)
    }

    fn take(&mut self, length: usize) -> Option<Entry> {
        let same = self.lengths.get_mut(&length)?;
        let (_, entry) = same.pop_front()?;
        if same.is_empty() {
            self.lengths.remove(&length);
        }
        self.count -= 1;
        Some(entry)
    }

    /// Places and lengths of all documents, in the order in which they came.
    pub(super) fn in_order(&self) -> Vec<(Place, usize)> {
        let mut all: Vec<_> = self.lengths.values().flatten().collect();
        all.sort_by_key(|(came, _)| *came);
        all.into_iter().map(|(_, entry)| (entry.place, entry.tokens.len())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Documents in a list, which is scanned: the definition.
    #[derive(Default)]
    struct Naive(Vec<Entry>);

    impl Naive {
        fn take_longest(&mut self, room: usize) -> Option<Entry> {
            let mut best: Option<usize> = None;
            for (n, entry) in self.0.iter().enumerate() {
                let longer = best.is_none_or(|b| entry.tokens.len() > self.0[b].tokens.len());
                if entry.tokens.len() <= room && longer {
                    best = Some(n);
                }
            }
            best.map(|n| self.0.remove(n))
        }

        fn take_shortest(&mut self) -> Option<Entry> {
            let mut best: Option<usize> = None;
            for (n, entry) in self.0.iter().enumerate() {
                if best.is_none_or(|b| entry.tokens.len() < self.0[b].tokens.len()) {
                    best = Some(n);
                }
            }
            best.map(|n| self.0.remove(n))
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

        #[test]
        fn what_is_taken_is_what_a_scan_finds(
            actions in prop::collection::vec((0u8..4, 1usize..12), 0..200)
        ) {
            let (mut packer, mut naive) = (Packer::default(), Naive::default());
            for (n, (action, length)) in actions.into_iter().enumerate() {
                match action {
                    0 | 1 => {
                        let place = Place { at: n as u64, ..Place::default() };
                        let entry = Entry { place, tokens: vec![n as u32; length] };
                        packer.push(entry.clone());
                        naive.0.push(entry);
                    }
                    2 => prop_assert_eq!(packer.take_longest(length), naive.take_longest(length)),
                    _ => prop_assert_eq!(packer.take_shortest(), naive.take_shortest()),
                }
                prop_assert_eq!(packer.len(), naive.0.len());
                let listed: Vec<_> = naive.0.iter().map(|e| (e.place, e.tokens.len())).collect();
                prop_assert_eq!(packer.in_order(), listed);
            }
        }
    }
}
