//! Handles: numbers that stand for objects, so that a stale one is recognised instead of followed.

use crate::error::BridgeError;
use std::sync::{Arc, Mutex, MutexGuard};

// Handles are shown to C as pointers and pack three fields.
const _: () = assert!(usize::BITS == 64, "handles need pointers of 64 bits");

const INDEX_BITS: u32 = 32;
const GENERATION_BITS: u32 = 30;
const LAST_GENERATION: usize = (1 << GENERATION_BITS) - 1;

/// Objects by handle: from the top, 2 bits of kind, 30 of generation, 32 of place. A place that is
/// used again has another generation, and one whose generations are used up is never used again.
#[derive(Debug)]
pub(crate) struct Table<T> {
    /// In messages.
    what: &'static str,
    /// 1…3.
    kind: usize,
    slots: Mutex<Slots<T>>,
}

#[derive(Debug)]
struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<usize>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: usize,
    object: Option<Arc<T>>,
}

impl<T> Table<T> {
    pub(crate) const fn new(what: &'static str, kind: usize) -> Self {
        Table { what, kind, slots: Mutex::new(Slots { slots: vec![], free: vec![] }) }
    }

    fn lock(&self) -> MutexGuard<'_, Slots<T>> {
        self.slots.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn handle(&self, place: usize, generation: usize) -> usize {
        self.kind << (INDEX_BITS + GENERATION_BITS) | generation << INDEX_BITS | place
    }

    /// Puts `object` in and returns its handle, which is never 0.
    pub(crate) fn insert(&self, object: Arc<T>) -> usize {
        let mut table = self.lock();
        let place = table.free.pop().unwrap_or_else(|| {
            table.slots.push(Slot { generation: 0, object: None });
            table.slots.len() - 1
        });
        let slot = &mut table.slots[place];
        slot.object = Some(object);
        self.handle(place, slot.generation)
    }

    /// The object of `handle`.
    pub(crate) fn get(&self, handle: usize) -> Result<Arc<T>, BridgeError> {
        let table = self.lock();
        let place = handle & ((1 << INDEX_BITS) - 1);
        (table.slots.get(place))
            .filter(|slot| self.handle(place, slot.generation) == handle)
            .and_then(|slot| slot.object.clone())
            .ok_or(BridgeError::Handle { what: self.what, handle })
    }

    /// Takes the object of `handle` out; the handle is stale from then on.
    pub(crate) fn remove(&self, handle: usize) -> Result<Arc<T>, BridgeError> {
        let stale = BridgeError::Handle { what: self.what, handle };
        let mut table = self.lock();
        let place = handle & ((1 << INDEX_BITS) - 1);
        let expected = table.slots.get(place).map(|slot| self.handle(place, slot.generation));
        if expected != Some(handle) {
            return Err(stale);
        }
        let slot = &mut table.slots[place];
        let object = slot.object.take().ok_or(stale)?;
        if slot.generation < LAST_GENERATION {
            slot.generation += 1;
            table.free.push(place);
        }
        Ok(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_good_until_it_is_removed() {
        let table = Table::new("thing", 1);
        let a = table.insert(Arc::new("a"));
        assert_ne!(a, 0);
        assert_eq!(*table.get(a).unwrap(), "a");
        assert_eq!(*table.remove(a).unwrap(), "a");
        let b = table.insert(Arc::new("b"));
        assert_ne!(a, b);
        for stale in [a, 0, 1, usize::MAX, b + 1] {
            let error = BridgeError::Handle { what: "thing", handle: stale };
            assert_eq!(table.get(stale), Err(error.clone()));
            assert_eq!(table.remove(stale), Err(error));
        }
        assert_eq!(*table.get(b).unwrap(), "b");
    }

    #[test]
    fn tables_of_different_kinds_do_not_know_each_other() {
        let (devices, kernels) = (Table::new("device", 1), Table::new("kernel", 2));
        let (d, k) = (devices.insert(Arc::new(1)), kernels.insert(Arc::new(2)));
        assert!(devices.get(k).is_err() && kernels.get(d).is_err());
    }

    #[test]
    fn a_place_is_retired_with_its_last_generation() {
        let table = Table::new("thing", 1);
        let first = table.insert(Arc::new(()));
        table.lock().slots[0].generation = LAST_GENERATION;
        assert!(table.get(first).is_err());
        table.remove(table.handle(0, LAST_GENERATION)).unwrap();
        table.insert(Arc::new(()));
        assert_eq!(table.lock().slots.len(), 2);
    }
}
