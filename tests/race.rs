//! Data races that are there on purpose, for `scripts/sanitizers.sh`: ThreadSanitizer has to find them and name the
//! goroutines. Empty in other builds.
#![cfg(csp_tsan)]

use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use csp::{Builder, WaitGroup, bounded, go};

struct Shared(UnsafeCell<u64>);

// SAFETY: none. That is the point.
unsafe impl Sync for Shared {}

impl Shared {
    fn count(&self) {
        // SAFETY: none; this is the race.
        unsafe { *self.0.get() += 1 };
    }
}

#[test]
#[ignore = "a data race: to be run by scripts/sanitizers.sh, which looks for the report"]
fn two_goroutines_without_a_lock() {
    let shared = Arc::new((Shared(UnsafeCell::new(0)), AtomicUsize::new(0)));
    let all = WaitGroup::new();
    for name in ["fetch", "store"] {
        let shared = shared.clone();
        go!(name = name, wg = &all, move || {
            let (shared, running) = &*shared;
            // Relaxed: they run at once, and nothing orders the one and the other.
            running.fetch_add(1, Ordering::Relaxed);
            while running.load(Ordering::Relaxed) < 2 {
                std::hint::spin_loop();
            }
            // Few: ThreadSanitizer drops a race when it no longer remembers where the earlier access was made.
            for _ in 0..1000 {
                shared.count();
            }
        });
    }
    all.wait();
}

#[test]
fn two_goroutines_that_take_turns_by_a_channel() {
    let shared = Arc::new(Shared(UnsafeCell::new(0)));
    let (turn, next) = (bounded(0), bounded(0));
    let other = {
        let (shared, turn, next) = (shared.clone(), turn.1, next.0);
        Builder::new().name("store").spawn(move || {
            for () in turn {
                shared.count();
                next.send(()).unwrap();
            }
        })
    };
    let (turn, next) = (turn.0, next.1);
    go!(name = "fetch", move || {
        for _ in 0..1000 {
            shared.count();
            turn.send(()).unwrap();
            next.recv().unwrap();
        }
    })
    .join()
    .unwrap();
    other.unwrap().join().unwrap();
}
