//! A model of how identities get into glibc's list of threads (`pattern`), and of glibc going through that list.
//!
//! glibc's side is written after glibc: what runs there is not ours.

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use loom::sync::{Arc, Mutex};
use loom::thread;

use crate::chan::loom_tests::{NO_BOUND, model};

/// A thread-local that a library puts into the static block, when another one, unloaded since, had something there.
const BEFORE: usize = 5;
const INITIAL: usize = 1;

#[derive(Default)]
struct Process {
    /// glibc's, of its lists.
    lock: Mutex<()>,
    /// Whether the new identity is in the list, behind the first.
    linked: AtomicBool,
    first: AtomicUsize,
    new: AtomicUsize,
}

/// glibc initialises a library's thread-local in each thread of the list.
fn load_library(process: &Process) {
    let _lock = process.lock.lock().unwrap();
    process.first.store(INITIAL, Ordering::Release);
    // Acquire: depends on the address that was stored. It may be read before the store above can be seen.
    let linked = process.linked.load(Ordering::Acquire);
    // x86 keeps the order of stores; the language can say that of two places only so.
    fence(Ordering::SeqCst);
    if linked {
        process.new.store(INITIAL, Ordering::Release);
    }
}

/// What `Pattern::make` does after the record of the new one is complete.
fn make_identity(process: &Process) {
    process.linked.store(true, Ordering::Release);
    drop(process.lock.lock().unwrap());
    loop {
        let value = process.first.load(Ordering::Acquire);
        process.new.store(value, Ordering::Release);
        fence(Ordering::SeqCst);
        if process.first.load(Ordering::Acquire) == process.new.load(Ordering::Acquire) {
            break;
        }
        thread::yield_now();
    }
}

#[test]
fn a_library_loaded_meanwhile_finds_every_identity() {
    model(NO_BOUND, || {
        let process = Arc::new(Process::default());
        process.first.store(BEFORE, Ordering::Relaxed);
        let loader = {
            let process = process.clone();
            thread::spawn(move || load_library(&process))
        };
        make_identity(&process);
        loader.join().unwrap();
        assert_eq!(process.new.load(Ordering::Relaxed), INITIAL);
    });
}
