//! `PerWorker` as the global allocator of a program with goroutines and threads.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use csp::alloc::PerWorker;
use csp::channel::{bounded, unbounded};
use support::{in_child, migrate, scaled};

/// The system's allocator, which notes what its callers' thread-locals are.
struct Noting;

thread_local! {
    /// How many calls there were with these thread-locals.
    static CALLS: Cell<usize> = const { Cell::new(0) };
}
static CALLS_IN_ALL: AtomicUsize = AtomicUsize::new(0);

fn note() {
    _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
    CALLS_IN_ALL.fetch_add(1, Ordering::Relaxed);
}

/// An allocation of so many bytes counts the frames above it.
const COUNTED: usize = 12_345;
static FRAMES: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" {
    fn _Unwind_Backtrace(frame: extern "C" fn(*mut (), *mut ()) -> i32, argument: *mut ()) -> i32;
}

extern "C" fn count_frame(_: *mut (), _: *mut ()) -> i32 {
    FRAMES.fetch_add(1, Ordering::Relaxed);
    0
}

// SAFETY: the system's, which is asked each time.
unsafe impl GlobalAlloc for Noting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        if layout.size() == COUNTED {
            // SAFETY: the callback is what it expects, and does not unwind.
            unsafe { _Unwind_Backtrace(count_frame, std::ptr::null_mut()) };
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note();
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: PerWorker<Noting> = PerWorker::new(Noting);

/// What is in an allocation: it says what it should be.
fn filled(seed: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Grows by moving.
    for i in 0..seed % 3000 + 1 {
        bytes.push((seed + i) as u8);
    }
    bytes
}

fn check(seed: usize, bytes: &[u8]) {
    assert_eq!(bytes.len(), seed % 3000 + 1);
    assert!(bytes.iter().enumerate().all(|(i, &byte)| byte == (seed + i) as u8));
}

#[test]
fn a_goroutine_allocates_as_its_worker() {
    in_child(&[("GOMAXPROCS", "1")], || {
        let seen_here = csp::spawn(|| {
            let before = (CALLS.get(), CALLS_IN_ALL.load(Ordering::Relaxed));
            (0..100).for_each(|n| drop(filled(n)));
            (CALLS.get() - before.0, CALLS_IN_ALL.load(Ordering::Relaxed) - before.1)
        });
        let (own, all) = seen_here.join().unwrap();
        assert!(all >= 200, "{all}");
        // With thread-locals of its own a goroutine sees nothing of it. (ThreadSanitizer could not bear it.)
        assert!(own == 0 || !support::native() || cfg!(csp_tsan), "{own} of {all}");
    })
    .expect_success();
}

/// So do profilers of the heap.
#[test]
fn the_allocator_sees_who_calls_it() {
    in_child(&[], || {
        #[inline(never)]
        fn deep(depth: usize) -> usize {
            if depth == 0 {
                return std::hint::black_box(Vec::<u8>::with_capacity(COUNTED)).capacity() / COUNTED;
            }
            // So that it remains a call.
            let deeper: fn(usize) -> usize = std::hint::black_box(deep);
            deeper(depth - 1) + 1
        }
        assert_eq!(csp::spawn(|| deep(30)).join().unwrap(), 31);
        let frames = FRAMES.load(Ordering::Relaxed);
        assert!(frames > 30, "{frames}");
    })
    .expect_success();
}

#[test]
fn it_works_before_the_runtime_starts_and_in_plain_threads() {
    in_child(&[], || {
        let before = filled(2000);
        let thread = thread::spawn(|| filled(1000));
        let mine = csp::spawn(|| filled(500)).join().unwrap();
        check(2000, &before);
        check(1000, &thread.join().unwrap());
        check(500, &mine);
    })
    .expect_success();
}

#[test]
fn zeroed_and_aligned_memory_is_what_was_asked_for() {
    csp::spawn(|| {
        assert!(vec![0_u64; 10_000].iter().all(|&word| word == 0));
        for align in [1, 8, 64, 4096] {
            let layout = Layout::from_size_align(300, align).unwrap();
            // SAFETY: the layout has a size; the memory is freed with the same one.
            unsafe {
                let memory = std::alloc::alloc(layout);
                assert!(!memory.is_null() && memory.addr().is_multiple_of(align));
                std::alloc::dealloc(memory, layout);
            }
        }
    })
    .join()
    .unwrap();
}

#[test]
fn what_is_allocated_here_is_freed_there() {
    let goroutines = scaled(200, 20);
    let rounds = scaled(200, 50);
    // Boxes go round: from goroutines to threads, and back, and on to other goroutines.
    let (to_threads, from_goroutines) = bounded::<(usize, Vec<u8>)>(16);
    let (to_goroutines, from_threads) = unbounded::<(usize, Vec<u8>)>();
    let threads = (0..4).map(|_| {
        let (input, output) = (from_goroutines.clone(), to_goroutines.clone());
        thread::spawn(move || {
            for (seed, bytes) in input {
                check(seed, &bytes);
                drop(bytes);
                if output.send((seed + 1, filled(seed + 1))).is_err() {
                    break;
                }
            }
        })
    });
    let threads = threads.collect::<Vec<_>>();
    drop((from_goroutines, to_goroutines));
    let all = (0..goroutines).map(|g| {
        let (output, input) = (to_threads.clone(), from_threads.clone());
        csp::spawn(move || {
            let mut kept = Vec::new();
            for round in 0..rounds {
                let seed = g * rounds + round;
                output.send((seed, filled(seed))).unwrap();
                let (seed, bytes) = input.recv().unwrap();
                check(seed, &bytes);
                kept.push((seed, bytes));
                if kept.len() > 8 {
                    let (seed, bytes) = kept.swap_remove(seed % 8);
                    check(seed, &bytes);
                }
                csp::yield_now();
            }
            kept.into_iter().for_each(|(seed, bytes)| check(seed, &bytes));
        })
    });
    let all = all.collect::<Vec<_>>();
    all.into_iter().for_each(|goroutine| goroutine.join().unwrap());
    drop(to_threads);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn goroutines_that_change_their_thread_allocate_on() {
    support::in_traffic(8, |i| {
        for round in 0..20 {
            let bytes = filled(i * 100 + round);
            migrate();
            check(i * 100 + round, &bytes);
        }
    });
}

#[test]
fn panics_and_their_messages_are_allocated_too() {
    for n in 0..50 {
        let panicked = csp::spawn(move || {
            std::panic::set_hook(Box::new(|_| ()));
            panic!("{}", "x".repeat(n * 10))
        });
        let payload = panicked.join().unwrap_err().into_panic();
        assert_eq!(payload.downcast_ref::<String>().unwrap().len(), n * 10);
    }
    _ = std::panic::take_hook();
}
