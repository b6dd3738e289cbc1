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
/// How many more allocations of an [`Odd`] do not fail.
static LEFT: AtomicUsize = AtomicUsize::new(usize::MAX);
/// Bytes that are allocated.
static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

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
        let left = LEFT.load(Ordering::Relaxed);
        if left != usize::MAX && layout.size() == size_of::<Odd>() {
            if left == 0 {
                return std::ptr::null_mut();
            }
            LEFT.store(left - 1, Ordering::Relaxed);
        }
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note();
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
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

/// Whether workers have blocks at hand: see `csp-core/build.rs`.
fn magazines() -> bool {
    support::native() && !cfg!(csp_tsan) && !cfg!(csp_asan) && std::env::var_os("CSP_NO_FSGSBASE").is_none()
}

#[test]
fn a_goroutine_allocates_as_its_worker() {
    in_child(&[("GOMAXPROCS", "1")], || {
        let seen_here = csp::spawn(|| {
            let before = (CALLS.get(), CALLS_IN_ALL.load(Ordering::Relaxed));
            // More than is at hand.
            (0..100).for_each(|_| drop(filled(2000)));
            (CALLS.get() - before.0, CALLS_IN_ALL.load(Ordering::Relaxed) - before.1)
        });
        let (own, all) = seen_here.join().unwrap();
        assert!(all >= 200, "{all}");
        // With thread-locals of its own a goroutine sees nothing of it. (Sanitizers could not bear it.)
        assert!(own == 0 || !magazines(), "{own} of {all}");
    })
    .expect_success();
}

#[test]
fn small_blocks_are_at_hand() {
    in_child(&[("GOMAXPROCS", "1")], || {
        let calls = csp::spawn(|| {
            let before = CALLS_IN_ALL.load(Ordering::Relaxed);
            for n in 0..1000 {
                drop(std::hint::black_box(Box::new(n)));
            }
            CALLS_IN_ALL.load(Ordering::Relaxed) - before
        });
        let calls = calls.join().unwrap();
        assert!(if magazines() { calls < 50 } else { calls >= 2000 }, "{calls}");
    })
    .expect_success();
}

/// Of a size that nothing else here has.
type Odd = [u64; 53];

#[test]
fn what_one_goroutine_frees_another_on_the_worker_uses() {
    in_child(&[("GOMAXPROCS", "1")], || {
        let allocated = || {
            let goroutine = csp::spawn(|| {
                let before = CALLS_IN_ALL.load(Ordering::Relaxed);
                drop(std::hint::black_box(Box::<Odd>::new([0; 53])));
                CALLS_IN_ALL.load(Ordering::Relaxed) - before
            });
            goroutine.join().unwrap()
        };
        let calls = (0..100).map(|_| allocated()).sum::<usize>();
        // The first gets a batch. Should sysmon have made another worker meanwhile, that one's first does.
        assert!(if magazines() { calls < 20 } else { calls >= 200 }, "{calls}");
    })
    .expect_success();
}

#[test]
fn an_allocation_that_fails_is_told() {
    in_child(&[("GOMAXPROCS", "1")], || {
        csp::spawn(|| {
            let layout = Layout::new::<Odd>();
            let batch = |left| {
                LEFT.store(left, Ordering::Relaxed);
                // SAFETY: the layout has a size; what is there is freed with the same one.
                let blocks = (0..8).map(|_| unsafe { std::alloc::alloc(layout) }).collect::<Vec<_>>();
                LEFT.store(usize::MAX, Ordering::Relaxed);
                let there = blocks.iter().filter(|block| !block.is_null()).count();
                // SAFETY: as above.
                blocks
                    .into_iter()
                    .filter(|block| !block.is_null())
                    .for_each(|block| unsafe { std::alloc::dealloc(block, layout) });
                there
            };
            // None, none of what is to be at hand, some of it.
            assert_eq!(batch(0), 0);
            assert_eq!(batch(1), 1);
            assert!(batch(7) >= 7);
        })
        .join()
        .unwrap();
    })
    .expect_success();
}

/// Whoever allocates a lot and frees it leaves little with the worker.
#[test]
fn what_is_at_hand_is_little() {
    in_child(&[("GOMAXPROCS", "1")], || {
        let kept = csp::spawn(|| {
            let before = ALLOCATED.load(Ordering::Relaxed);
            for size in 1..600 {
                let all = (0..200).map(|_| Vec::<u8>::with_capacity(size)).collect::<Vec<_>>();
                drop(std::hint::black_box(all));
            }
            ALLOCATED.load(Ordering::Relaxed).saturating_sub(before)
        });
        let kept = kept.join().unwrap();
        // What else is allocated meanwhile is less than a block.
        assert!(kept <= (64 << 10) + 512, "{kept}");
    })
    .expect_success();
}

/// Two adapters in one program do not get each other's memory.
#[test]
fn another_adapter_gets_its_blocks_back() {
    in_child(&[("GOMAXPROCS", "1")], || {
        static OTHER: PerWorker<System> = PerWorker::new(System);
        csp::spawn(|| {
            let layout = Layout::new::<Odd>();
            for _ in 0..100 {
                let mine = std::hint::black_box(Box::<Odd>::new([0; 53]));
                // SAFETY: the layout has a size; the memory is freed with the same one, where it comes from.
                unsafe {
                    let others = OTHER.alloc(layout);
                    OTHER.dealloc(others, layout);
                    let again = std::hint::black_box(Box::<Odd>::new([0; 53]));
                    assert!(!magazines() || again.as_ptr().addr() != others.addr());
                    let others = OTHER.clone().alloc_zeroed(layout);
                    assert!((0..53).all(|i| *others.cast::<u64>().add(i) == 0));
                    OTHER.dealloc(others, layout);
                }
                drop(mine);
            }
        })
        .join()
        .unwrap();
    })
    .expect_success();
}

#[test]
fn what_grows_and_shrinks_keeps_what_is_in_it() {
    csp::spawn(|| {
        for seed in 0..600 {
            let mut bytes = filled(seed);
            let len = bytes.len();
            for keep in [len, len / 2, len / 5, 1] {
                bytes.truncate(keep.max(1));
                bytes.shrink_to_fit();
                assert!(bytes.iter().enumerate().all(|(i, &byte)| byte == (seed + i) as u8));
            }
        }
    })
    .join()
    .unwrap();
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
        for len in [1, 3, 60, 64, 65, 10_000] {
            drop(std::hint::black_box(vec![u64::MAX; len]));
            assert!(vec![0_u64; len].iter().all(|&word| word == 0));
        }
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
