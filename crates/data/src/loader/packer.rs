//! Documents or examples that wait for a row that they fit into.

use std::collections::{BTreeMap, VecDeque};

/// Entries by length in tokens, and those of a length in the order in which they came.
///
/// The longest that fits and the shortest are what a scan of all entries in their order would find, the
/// first of several equal ones, without the scan.
#[derive(Debug)]
pub(super) struct Packer<E> {
    lengths: BTreeMap<usize, VecDeque<(u64, E)>>,
    count: usize,
    /// Entries that ever came.
    came: u64,
}

impl<E> Default for Packer<E> {
    fn default() -> Self {
        Packer { lengths: BTreeMap::new(), count: 0, came: 0 }
    }
}

impl<E> Packer<E> {
    /// Takes in an entry of `length` tokens.
    pub(super) fn push(&mut self, length: usize, entry: E) {
        self.lengths.entry(length).or_default().push_back((self.came, entry));
        self.came += 1;
        self.count += 1;
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Takes the longest entry of at most `room` tokens.
    pub(super) fn take_longest(&mut self, room: usize) -> Option<E> {
        let (&length, _) = self.lengths.range(..=room).next_back()?;
        self.take(length)
    }

    /// Takes the shortest entry.
    pub(super) fn take_shortest(&mut self) -> Option<E> {
        let (&length, _) = self.lengths.first_key_value()?;
        self.take(length)
    }

    fn take(&mut self, length: usize) -> Option<E> {
        let same = self.lengths.get_mut(&length)?;
        let (_, entry) = same.pop_front()?;
        if same.is_empty() {
            self.lengths.remove(&length);
        }
        self.count -= 1;
        Some(entry)
    }

    /// All entries, in the order in which they came.
    pub(super) fn in_order(&self) -> Vec<&E> {
        let mut all: Vec<_> = self.lengths.values().flatten().collect();
        all.sort_by_key(|(came, _)| *came);
        all.into_iter().map(|(_, entry)| entry).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An entry: its number, and its length.
    type Entry = (usize, usize);

    /// Entries in a list, which is scanned: the definition.
    #[derive(Default)]
    struct Naive(Vec<Entry>);

    impl Naive {
        fn take_longest(&mut self, room: usize) -> Option<Entry> {
            let mut best: Option<usize> = None;
            for (n, entry) in self.0.iter().enumerate() {
                let longer = best.is_none_or(|b| entry.1 > self.0[b].1);
                if entry.1 <= room && longer {
                    best = Some(n);
                }
            }
            best.map(|n| self.0.remove(n))
        }

        fn take_shortest(&mut self) -> Option<Entry> {
            let mut best: Option<usize> = None;
            for (n, entry) in self.0.iter().enumerate() {
                if best.is_none_or(|b| entry.1 < self.0[b].1) {
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
                        packer.push(length, (n, length));
                        naive.0.push((n, length));
                    }
                    2 => prop_assert_eq!(packer.take_longest(length), naive.take_longest(length)),
                    _ => prop_assert_eq!(packer.take_shortest(), naive.take_shortest()),
                }
                prop_assert_eq!(packer.len(), naive.0.len());
                prop_assert_eq!(packer.in_order(), naive.0.iter().collect::<Vec<_>>());
            }
        }
    }
}
