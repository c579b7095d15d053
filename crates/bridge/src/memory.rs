//! Memory that is given to the caller and comes back through `ane_bridge_free_blob`.

#![allow(unsafe_code, reason = "memory crosses the boundary as raw pointers")]

use crate::error::BridgeError;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

/// Length by address of all memory that is out.
static OUT: Mutex<BTreeMap<usize, usize>> = Mutex::new(BTreeMap::new());

fn out() -> MutexGuard<'static, BTreeMap<usize, usize>> {
    OUT.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Gives `bytes` (at least one) to the caller.
pub(crate) fn give(bytes: Vec<u8>) -> *mut u8 {
    let length = bytes.len();
    let start = Box::into_raw(bytes.into_boxed_slice()).cast::<u8>();
    out().insert(start.addr(), length);
    start
}

/// Takes back what [`give`] gave.
pub(crate) fn take_back(start: *mut u8) -> Result<(), BridgeError> {
    let handle = start.addr();
    let length = out().remove(&handle).ok_or(BridgeError::Memory { handle })?;
    // SAFETY: `give` made this address from a boxed slice of this length, and the entry that said
    // so is gone, so that nobody takes it back again.
    drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(start, length)) });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_once() {
        let start = give(vec![1, 2, 3]);
        let inside = start.wrapping_add(1);
        assert_eq!(take_back(inside), Err(BridgeError::Memory { handle: inside.addr() }));
        assert_eq!(take_back(start), Ok(()));
        assert_eq!(take_back(start), Err(BridgeError::Memory { handle: start.addr() }));
    }
}
