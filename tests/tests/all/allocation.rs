//! Measures the largest single allocation of a thread, so that a test can fail on one that hostile bytes asked for.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, which remembers.
pub(crate) struct Measured;

#[allow(unsafe_code, reason = "an allocator can't be written without; every call is the system's own")]
// SAFETY: every method hands its arguments on to `System` unchanged, and what it returns back.
unsafe impl GlobalAlloc for Measured {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        remember(layout.size());
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        remember(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes_n: usize) -> *mut u8 {
        remember(bytes_n);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, bytes_n) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn remember(bytes_n: usize) {
    // A thread that is ending has no cell any more, and nothing to measure.
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(bytes_n)));
}

/// Runs `work` and returns the bytes of the largest single allocation that it made on this thread.
pub(crate) fn largest_of(work: impl FnOnce()) -> usize {
    LARGEST.set(0);
    work();
    LARGEST.get()
}

#[test]
fn the_largest_allocation_is_seen() {
    let largest = largest_of(|| {
        std::hint::black_box(vec![0u8; 5_000_000]);
        std::hint::black_box(Vec::<u8>::with_capacity(3_000_000));
    });
    assert_eq!(largest, 5_000_000);
    assert_eq!(largest_of(|| ()), 0);
}
