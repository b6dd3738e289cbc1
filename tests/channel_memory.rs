//! What a channel, a message in it and a wait on it cost in memory, as the documentation of `csp::channel` says.
//!
//! The allocator of this test counts for each thread by itself. A goroutine is a thread to it, too.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use csp::channel::{Receiver, Sender, after, bounded, never, unbounded};
use csp::select;

struct Counting;

/// What the calling thread has allocated and not yet freed, in bytes, and how often it has allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Count {
    bytes: isize,
    calls: usize,
}

thread_local! {
    static COUNT: Cell<Count> = const { Cell::new(Count { bytes: 0, calls: 0 }) };
}

fn note(bytes: isize, calls: usize) {
    // While a thread ends there may be no counter left.
    let _ = COUNT.try_with(|count| {
        let Count { bytes: all, calls: before } = count.get();
        count.set(Count { bytes: all + bytes, calls: before + calls });
    });
}

// SAFETY: the system's, which is asked each time.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as isize, 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(-(layout.size() as isize), 0);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `f` has allocated, less what it has freed.
fn count<T>(f: impl FnOnce() -> T) -> (Count, T) {
    let before = COUNT.get();
    let result = f();
    let after = COUNT.get();
    (Count { bytes: after.bytes - before.bytes, calls: after.calls - before.calls }, result)
}

/// Whether that is all of `expected`, and nothing else but parking_lot's table of threads: the first wait of a goroutine or
/// thread at a contended lock of the runtime's may make or enlarge that, which is two allocations.
fn is(count: Count, expected: Count) -> bool {
    count == expected || count.calls == expected.calls + 2 && count.bytes >= expected.bytes + 1024
}

/// Two cache lines.
const CHANNEL: isize = 128;
/// A block of an unbounded channel, at most.
const BLOCK: isize = 1008;
const ONE: Count = Count { bytes: CHANNEL, calls: 1 };
const NOTHING: Count = Count { bytes: 0, calls: 0 };

#[test]
fn a_channel_without_capacity_is_two_cache_lines() {
    let (channel, handles) = count(|| bounded::<u64>(0));
    assert_eq!(channel, ONE);
    let (clones, more) = count(|| (handles.0.clone(), handles.1.clone()));
    assert_eq!(clones, NOTHING);
    let (freed, ()) = count(|| drop((handles, more)));
    assert_eq!(freed, Count { bytes: -CHANNEL, calls: 0 });
    // It does not matter what it is a channel of.
    assert_eq!(count(|| bounded::<[u64; 1000]>(0)).0, ONE);
}

#[test]
fn a_buffer_is_as_large_as_its_messages() {
    for cap in [1, 2, 100, 1000] {
        let (channel, handles) = count(|| bounded::<[u32; 3]>(cap));
        assert_eq!(channel, Count { bytes: CHANNEL + 12 * cap as isize, calls: 2 });
        let (used, ()) = count(|| {
            for _ in 0..10 {
                (0..cap).for_each(|_| handles.0.send([7; 3]).unwrap());
                assert_eq!(handles.1.try_iter().count(), cap);
            }
        });
        assert_eq!(used, NOTHING);
        assert_eq!(count(|| drop(handles)).0, Count { bytes: -channel.bytes, calls: 0 });
    }
    assert_eq!(count(|| bounded::<()>(1000)).0, ONE);
}

#[test]
fn an_unbounded_channel_holds_what_it_needs_and_one_block_more() {
    let (channel, (tx, rx)) = count(unbounded::<u64>);
    assert_eq!(channel, ONE);
    let (first, ()) = count(|| tx.send(1).unwrap());
    assert_eq!(first, Count { bytes: BLOCK, calls: 1 });
    // A block that is empty is used again.
    let (more, ()) = count(|| {
        for n in 0..10_000 {
            tx.send(n).unwrap();
            rx.recv().unwrap();
        }
    });
    assert!(more.bytes <= BLOCK && more.calls <= 1, "{more:?}");
    let (full, ()) = count(|| (0..12_500).for_each(|n| tx.send(n).unwrap()));
    // Eight bytes in a thousand are not messages.
    assert!(full.bytes <= 101 * BLOCK, "{full:?}");
    let (drained, _) = count(|| rx.try_iter().count());
    let kept = more.bytes + full.bytes + drained.bytes;
    assert!(kept <= BLOCK, "{kept}: the last block and a spare one, of which the first message had one");
    let (freed, ()) = count(|| drop((tx, rx)));
    assert_eq!(first.bytes + kept + CHANNEL + freed.bytes, 0);
}

#[test]
fn handles_are_a_word_or_two() {
    assert_eq!(size_of::<Sender<[u64; 100]>>(), size_of::<usize>());
    assert_eq!(size_of::<Receiver<[u64; 100]>>(), 2 * size_of::<usize>());
}

#[test]
fn never_costs_nothing_and_a_timer_a_note() {
    assert_eq!(count(never::<u64>).0, NOTHING);
    let (timer, _) = count(|| after(Duration::from_secs(100)));
    assert!(timer.bytes <= 64 && timer.calls == 1, "{timer:?}");
}

/// Both wait for each other, again and again.
fn ping_pong<const N: usize>() -> [Count; 2] {
    let (tx, rx) = bounded::<[u8; N]>(0);
    let (tx2, rx2) = bounded(0);
    let there = csp::spawn(move || {
        // What a goroutine, or the thread under it, allocates once is not the channel's.
        tx2.send(rx.recv().unwrap()).unwrap();
        count(|| (0..500).for_each(|_| tx2.send(rx.recv().unwrap()).unwrap())).0
    });
    let here = csp::spawn(move || {
        tx.send([1; N]).unwrap();
        assert_eq!(rx2.recv().unwrap(), [1; N]);
        let back = || {
            for n in 0..500_u32 {
                tx.send([n as u8; N]).unwrap();
                assert_eq!(rx2.recv().unwrap(), [n as u8; N]);
            }
        };
        count(back).0
    });
    [there.join().unwrap(), here.join().unwrap()]
}

#[test]
fn waiting_allocates_nothing() {
    for counts in [ping_pong::<8>(), ping_pong::<{ 16 << 10 }>()] {
        assert!(counts.iter().all(|&count| is(count, NOTHING)), "{counts:?}");
    }
}

#[test]
fn a_place_for_a_large_message_is_given_back() {
    const LARGE: usize = (16 << 10) + 1;
    let (tx, rx) = bounded::<[u8; LARGE]>(0);
    let sender = csp::spawn(move || {
        for n in 0..101 {
            // Without a buffer this succeeds only where the receiver waits.
            while tx.try_send([n; LARGE]).is_err() {
                csp::yield_now();
            }
        }
    });
    let receiver = csp::spawn(move || {
        assert_eq!(rx.recv().unwrap()[0], 0);
        count(|| (1..101).for_each(|n| assert_eq!(rx.recv().unwrap()[LARGE - 1], n))).0
    });
    sender.join().unwrap();
    let received = receiver.join().unwrap();
    assert!(is(received, Count { bytes: 0, calls: 100 }), "{received:?}");
}

#[test]
fn waiting_on_a_plain_thread_allocates_nothing_but_once() {
    let (tx, rx) = bounded(0);
    let there = std::thread::spawn(move || {
        rx.recv().unwrap();
        count(|| rx.iter().count())
    });
    tx.send(0).unwrap();
    let (here, ()) = count(|| (0..500).for_each(|n| tx.send(n).unwrap()));
    drop(tx);
    let (there, received) = there.join().unwrap();
    assert_eq!(received, 500);
    // The first wait of a thread may make what it waits by: a parker and a baton.
    let nothing_but_once = |count| is(count, NOTHING) || is(count, Count { bytes: 40, calls: 1 });
    assert!(nothing_but_once(here) && nothing_but_once(there), "{here:?} {there:?}");
}

#[test]
fn waiting_in_a_select_allocates_nothing() {
    let (tx, rx) = bounded(0);
    let (tx2, rx2) = bounded(0);
    let sender = csp::spawn(move || {
        for n in 0..300_u64 {
            select! {
                tx <- n => {}
                tx2 <- n => {}
            }
        }
    });
    let receiver = csp::spawn(move || {
        let mut sum = 0;
        let mut receive = || {
            select! {
                n = <-rx => sum += n.unwrap(),
                n = <-rx2 => sum += n.unwrap(),
                <-never::<()>() => unreachable!(),
            }
        };
        receive();
        let (counted, ()) = count(|| (1..300).for_each(|_| receive()));
        assert_eq!(sum, 299 * 300 / 2);
        counted
    });
    let received = receiver.join().unwrap();
    assert!(is(received, NOTHING), "{received:?}");
    sender.join().unwrap();
}

#[test]
fn a_batch_allocates_for_its_vector_only() {
    let (tx, rx) = bounded(1000);
    let mut batch = Vec::with_capacity(1000);
    for _ in 0..3 {
        // One chunk, whatever the number of messages.
        let (sent, ()) = count(|| tx.send_many(0..1000_u64).unwrap());
        assert_eq!(sent, Count { bytes: 0, calls: 1 });
        let (received, result) = count(|| rx.recv_many(&mut batch, 1000));
        assert_eq!((received, result), (NOTHING, Ok(1000)));
        batch.clear();
    }
}
