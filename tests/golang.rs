//! The programs of Go's `test/chan`, each as one or more tests of the same name, in `golang/`.
//!
//! They are ports: what a program does is Go's, and so are the names in it. The Go Authors' licence is in
//! `golang/LICENSE`. `perm.go`, which must not compile, is `ui/golang-perm.rs`.
//!
//! Go's programs run in a process of their own, and end with it. Here they are goroutines beside each other, with the
//! GOMAXPROCS that the environment gives. Where Go leaves goroutines behind that nobody serves any more, here a send
//! fails as soon as its receiver is gone, and they end.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

mod golang {
    mod doubleselect;
    mod fifo;
    mod goroutines;
    mod nonblock;
    mod powser;
    mod powser1;
    mod powser2;
    mod select;
    mod select2;
    mod select3;
    mod select4;
    mod select5;
    mod select6;
    mod select7;
    mod select8;
    mod sendstmt;
    mod sieve1;
    mod sieve2;
    mod zerosize;
}

/// Counts what is allocated, for `select2`.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static BYTES: AtomicIsize = AtomicIsize::new(0);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

/// The bytes that are allocated now.
fn allocated() -> isize {
    BYTES.load(Ordering::Relaxed)
}

/// How often something was allocated so far.
fn allocations() -> usize {
    ALLOCATIONS.load(Ordering::Relaxed)
}

// SAFETY: it does as the system's allocator does, which keeps the trait's promises.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size() as isize, Ordering::Relaxed);
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }
}
