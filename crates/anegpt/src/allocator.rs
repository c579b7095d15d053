#![allow(
    unsafe_code,
    reason = "an allocator is unsafe by nature; this one adds advice to the system's"
)]
//! The system's allocator, with large blocks on huge pages where Linux has them.
//!
//! Weights, gradients and moments are read from end to end every step. On pages of 4 KiB their first
//! touch costs a fault per page, and later passes miss the translation cache.

use std::alloc::{GlobalAlloc, Layout, System};

/// Blocks from this size on are worth huge pages of 2 MiB.
#[cfg(target_os = "linux")]
const LARGE: usize = 8 << 20;

pub(crate) struct HugePages;

#[cfg(target_os = "linux")]
fn advise(block: *mut u8, size: usize) {
    if size < LARGE || block.is_null() {
        return;
    }
    const PAGE: usize = 4096;
    let skip = block.align_offset(PAGE);
    let whole = (size - skip) / PAGE * PAGE;
    // SAFETY: the range lies within a block that was just allocated, and the advice changes no
    // content. A kernel without huge pages refuses, which costs nothing.
    let _ = unsafe { libc::madvise(block.add(skip).cast(), whole, libc::MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
fn advise(_: *mut u8, _: usize) {}

// SAFETY: every method hands its arguments to the system's allocator and its result back.
unsafe impl GlobalAlloc for HugePages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of this very method.
        let block = unsafe { System.alloc(layout) };
        advise(block, layout.size());
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let block = unsafe { System.alloc_zeroed(layout) };
        advise(block, layout.size());
        block
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        let block = unsafe { System.realloc(block, layout, size) };
        advise(block, size);
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}
