//! Lists of conversations made of others, in the orders of nanochat.

use crate::conversation::{Conversation, Conversations};
use crate::error::Result;
use crate::random::PythonRandom;
use std::sync::Arc;

/// The seed of a mixture's order.
const ORDER: u64 = 42;

/// Lists that are mixed: the conversations of all of them, list after list, shuffled as by Python's
/// `random.Random(42)`. A list that is given several times comes that often. Of tasks, `T` is [`Task`](crate::Task): the
/// answers to a mixture are judged by the [list](Mixture::find) of each question.
#[derive(Debug)]
pub struct Mixture<T: ?Sized = dyn Conversations> {
    lists: Vec<Arc<T>>,
    /// List and place in it.
    order: Vec<(u32, u32)>,
}

impl<T: Conversations + ?Sized> Mixture<T> {
    /// Mixes these lists.
    pub fn new(lists: Vec<Arc<T>>) -> Self {
        let places =
            |(list, of): (u32, &Arc<T>)| (0..of.len() as u32).map(move |place| (list, place));
        let mut order: Vec<(u32, u32)> = (0..).zip(&lists).flat_map(places).collect();
        PythonRandom::new(ORDER).shuffle(&mut order);
        Mixture { lists, order }
    }

    /// Returns the lists, as they were given.
    pub fn lists(&self) -> &[Arc<T>] {
        &self.lists
    }

    /// Returns the list that has a conversation, and its place there.
    ///
    /// # Panics
    /// If `index` is not below [`Conversations::len`].
    pub fn find(&self, index: usize) -> (&T, usize) {
        let (list, place) = self.order[index];
        (&self.lists[list as usize], place as usize)
    }
}

impl<T: Conversations + ?Sized> Conversations for Mixture<T> {
    fn len(&self) -> usize {
        self.order.len()
    }

    fn get(&self, index: usize) -> Result<Conversation> {
        let (list, place) = self.find(index);
        list.get(place)
    }

    fn place(&self, index: usize) -> String {
        let (list, place) = self.find(index);
        list.place(place)
    }
}

/// Lists one after the other.
#[derive(Debug, Clone)]
pub struct Sequence {
    lists: Vec<Arc<dyn Conversations>>,
}

impl Sequence {
    /// Joins these lists.
    pub fn new(lists: Vec<Arc<dyn Conversations>>) -> Self {
        Sequence { lists }
    }

    /// The list that has a conversation, and its place there.
    fn find(&self, mut index: usize) -> (&dyn Conversations, usize) {
        for list in &self.lists {
            if index < list.len() {
                return (&**list, index);
            }
            index -= list.len();
        }
        panic!("a conversation of the list");
    }
}

impl Conversations for Sequence {
    fn len(&self) -> usize {
        self.lists.iter().map(|list| list.len()).sum()
    }

    fn get(&self, index: usize) -> Result<Conversation> {
        let (list, index) = self.find(index);
        list.get(index)
    }

    fn place(&self, index: usize) -> String {
        let (list, index) = self.find(index);
        list.place(index)
    }
}

/// A part of a list, as Python's `list[start:stop:step]`.
#[derive(Debug, Clone)]
pub struct Slice {
    list: Arc<dyn Conversations>,
    start: usize,
    step: usize,
    len: usize,
}

impl Slice {
    /// Takes every `step`-th conversation from `start` on and before `stop`, which may lie behind the end.
    ///
    /// # Panics
    /// If the step is 0.
    pub fn new(list: Arc<dyn Conversations>, start: usize, stop: usize, step: usize) -> Self {
        let len = stop.min(list.len()).saturating_sub(start).div_ceil(step);
        Slice { list, start, step, len }
    }
}

impl Conversations for Slice {
    fn len(&self) -> usize {
        self.len
    }

    fn get(&self, index: usize) -> Result<Conversation> {
        assert!(index < self.len, "a conversation of the slice");
        self.list.get(self.start + index * self.step)
    }

    fn place(&self, index: usize) -> String {
        self.list.place(self.start + index * self.step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list whose conversations are numbers.
    #[derive(Debug)]
    struct Numbers(std::ops::Range<u32>);

    impl Conversations for Numbers {
        fn len(&self) -> usize {
            self.0.len()
        }

        fn get(&self, index: usize) -> Result<Conversation> {
            Ok(Conversation::pair(&(self.0.start + index as u32).to_string(), ""))
        }
    }

    fn numbers(range: std::ops::Range<u32>) -> Arc<dyn Conversations> {
        Arc::new(Numbers(range))
    }

    fn all(list: &dyn Conversations) -> Vec<u32> {
        let number = |i| list.get(i).unwrap().messages[0].text().parse().unwrap();
        (0..list.len()).map(number).collect()
    }

    /// In Python: `x = [*range(10), *range(100, 103), *range(100, 103)]; random.Random(42).shuffle(x)`.
    #[test]
    fn mixtures_are_shuffled_as_in_python() {
        let small = numbers(100..103);
        let mixture = Mixture::new(vec![numbers(0..10), small.clone(), small]);
        let want = [7, 9, 5, 6, 101, 100, 102, 8, 1, 2, 100, 102, 4, 101, 0, 3];
        assert_eq!(all(&mixture), want);
        assert!(Mixture::<dyn Conversations>::new(vec![]).is_empty());
    }

    #[test]
    fn sequences_follow_one_another() {
        let sequence = Sequence::new(vec![numbers(0..2), numbers(5..5), numbers(7..9)]);
        assert_eq!(all(&sequence), [0, 1, 7, 8]);
    }

    #[test]
    fn slices_are_those_of_python() {
        let slice = |start, stop, step| all(&Slice::new(numbers(0..10), start, stop, step));
        assert_eq!(slice(2, 9, 3), [2, 5, 8]);
        assert_eq!(slice(2, 8, 3), [2, 5]);
        assert_eq!(slice(8, 100, 1), [8, 9]);
        assert_eq!(slice(5, 2, 1), [0; 0]);
        assert_eq!(slice(12, 20, 1), [0; 0]);
    }
}
