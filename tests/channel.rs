//! Channels between threads: order, capacity, rendezvous, closing, timeouts, and that every message ends exactly once.

use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use csp::channel::{
    Receiver, RecvError, RecvTimeoutError, SelectTimeoutError, SendError, SendTimeoutError, Sender, TryRecvError,
    TrySelectError, TrySendError, after, at, bounded, never, tick, unbounded,
};

/// Far more than any wait here takes, also on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// Each constructor with and without capacity.
fn each_channel<T>() -> Vec<(Sender<T>, Receiver<T>)> {
    vec![bounded(0), bounded(1), bounded(2), bounded(7), unbounded()]
}

/// Counts its drops.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn counter() -> (Arc<AtomicUsize>, impl Fn() -> Counted) {
    let count = Arc::new(AtomicUsize::new(0));
    let of = Arc::clone(&count);
    (count, move || Counted(Arc::clone(&of)))
}

#[test]
fn messages_arrive_in_order() {
    for (tx, rx) in each_channel() {
        thread::scope(|s| {
            s.spawn(move || (0..5_000).for_each(|n| tx.send(n).unwrap()));
            assert!(rx.iter().eq(0..5_000));
        });
    }
}

#[test]
fn capacity_is_neither_exceeded_nor_wasted() {
    for cap in [1, 2, 3, 8, 100] {
        let (tx, rx) = bounded(cap);
        assert_eq!((tx.capacity(), rx.capacity()), (Some(cap), Some(cap)));
        for round in 0..5 {
            for n in 0..cap {
                assert_eq!(tx.len(), n);
                assert!(!tx.is_full());
                tx.try_send(round * cap + n).unwrap();
            }
            assert!(tx.is_full() && rx.is_full() && !rx.is_empty());
            assert_eq!(tx.try_send(0), Err(TrySendError::Full(0)));
            for n in 0..cap {
                assert_eq!(rx.try_recv(), Ok(round * cap + n));
            }
            assert!(tx.is_empty() && rx.is_empty() && !rx.is_full());
            assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        }
    }
}

#[test]
fn an_unbounded_channel_takes_everything_at_once() {
    let (tx, rx) = unbounded();
    assert_eq!(tx.capacity(), None);
    // Across block boundaries, and with the blocks used again.
    for count in [1_usize, 125, 126, 1_000, 10_000] {
        for n in 0..count {
            assert!(!tx.is_full());
            tx.try_send(n).unwrap();
        }
        assert_eq!(rx.len(), count);
        assert!(rx.try_iter().eq(0..count));
        assert!(rx.is_empty());
    }
}

#[test]
fn the_buffer_of_an_unbounded_channel_may_wander() {
    let (tx, rx) = unbounded();
    let (mut sent, mut received) = (0_u32, 0);
    for step in 0..2_000_u32 {
        for _ in 0..step % 17 {
            tx.send(sent).unwrap();
            sent += 1;
        }
        for _ in 0..(step * 7) % 18 {
            if let Ok(n) = rx.try_recv() {
                assert_eq!(n, received);
                received += 1;
            }
        }
        assert_eq!(rx.len() as u32, sent - received);
    }
}

#[test]
fn without_capacity_nothing_is_buffered() {
    let (tx, rx) = bounded(0);
    assert_eq!(tx.capacity(), Some(0));
    assert!(tx.is_empty() && tx.is_full() && rx.is_empty() && rx.is_full());
    assert_eq!(tx.try_send(1), Err(TrySendError::Full(1)));
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(tx.len(), 0);
}

#[test]
fn a_rendezvous_ends_for_both_or_for_none() {
    let (tx, rx) = bounded(0);
    let received = AtomicUsize::new(0);
    thread::scope(|s| {
        s.spawn(|| {
            for n in 0..10_000 {
                tx.send(n).unwrap();
                // The receiver has it, though it may not have counted it yet.
                assert!(received.load(Ordering::SeqCst) + 1 >= n);
            }
            tx.close();
        });
        for n in &rx {
            assert_eq!(received.fetch_add(1, Ordering::SeqCst), n);
        }
    });
    assert_eq!(received.into_inner(), 10_000);
}

#[test]
fn try_operations_meet_waiting_partners() {
    let (tx, rx) = bounded(0);
    thread::scope(|s| {
        s.spawn(|| assert_eq!(rx.recv(), Ok(1)));
        while let Err(error) = tx.try_send(1) {
            assert!(error.is_full());
            thread::yield_now();
        }
    });
    thread::scope(|s| {
        s.spawn(|| tx.send(2).unwrap());
        let received = loop {
            match rx.try_recv() {
                Ok(n) => break n,
                Err(error) => assert!(error.is_empty()),
            }
            thread::yield_now();
        };
        assert_eq!(received, 2);
    });
}

#[test]
fn close_fails_sends_and_lets_receivers_drain() {
    for from_receiver in [false, true] {
        for (tx, rx) in each_channel() {
            let fits = tx.capacity().unwrap_or(10);
            (0..fits).for_each(|n| tx.send(n).unwrap());
            assert!(!tx.is_closed() && !rx.is_closed());
            assert!(if from_receiver { rx.close() } else { tx.close() });
            assert!(!tx.close() && !rx.close());
            assert!(tx.is_closed() && rx.is_closed());
            assert_eq!(tx.send(99), Err(SendError(99)));
            assert_eq!(tx.try_send(99), Err(TrySendError::Disconnected(99)));
            assert_eq!(tx.send_timeout(99, LONG), Err(SendTimeoutError::Disconnected(99)));
            assert_eq!(rx.len(), fits);
            assert!(rx.iter().eq(0..fits));
            assert_eq!(rx.recv(), Err(RecvError));
            assert_eq!(rx.try_recv(), Err(TryRecvError::Disconnected));
            assert_eq!(rx.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected));
        }
    }
}

#[test]
fn dropping_the_last_handle_of_a_side_closes() {
    for (tx, rx) in each_channel::<u8>() {
        let tx2 = tx.clone();
        drop(tx);
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        drop(tx2);
        assert_eq!(rx.recv(), Err(RecvError));
    }
    for (tx, rx) in each_channel::<u8>() {
        let rx2 = rx.clone();
        drop(rx);
        assert!(!tx.is_closed());
        drop(rx2);
        assert_eq!(tx.send(1), Err(SendError(1)));
    }
}

#[test]
fn close_wakes_receivers() {
    for _ in 0..300 {
        for (tx, rx) in [bounded::<u8>(0), bounded(3), unbounded()] {
            thread::scope(|s| {
                let receivers = [
                    s.spawn(|| rx.recv().is_err()),
                    s.spawn(|| rx.recv_timeout(LONG) == Err(RecvTimeoutError::Disconnected)),
                ];
                tx.close();
                assert!(receivers.into_iter().all(|receiver| receiver.join().unwrap()));
            });
        }
    }
}

#[test]
fn close_wakes_senders_with_their_messages() {
    for _ in 0..300 {
        for cap in [0, 1] {
            let (tx, rx) = bounded(cap);
            (0..cap).for_each(|_| tx.send(Box::new(0)).unwrap());
            thread::scope(|s| {
                let waiting = s.spawn(|| tx.send(Box::new(1)));
                let timed = s.spawn(|| tx.send_timeout(Box::new(2), LONG));
                rx.close();
                assert_eq!(waiting.join().unwrap(), Err(SendError(Box::new(1))));
                assert_eq!(timed.join().unwrap(), Err(SendTimeoutError::Disconnected(Box::new(2))));
            });
            assert_eq!(rx.iter().count(), cap);
        }
    }
}

#[test]
fn dropping_the_last_receiver_wakes_senders() {
    for _ in 0..300 {
        let (tx, rx) = bounded(0);
        thread::scope(|s| {
            let waiting = s.spawn(move || tx.send(1));
            drop(rx);
            assert_eq!(waiting.join().unwrap(), Err(SendError(1)));
        });
    }
}

#[test]
fn a_full_buffer_takes_the_messages_of_waiting_senders_in_order() {
    for _ in 0..200 {
        let (tx, rx) = bounded(1);
        tx.send(0).unwrap();
        thread::scope(|s| {
            s.spawn(|| {
                tx.send(1).unwrap();
                tx.send(2).unwrap();
            });
            assert_eq!(rx.recv(), Ok(0));
            assert_eq!(rx.recv(), Ok(1));
            assert_eq!(rx.recv(), Ok(2));
        });
        assert!(rx.is_empty());
    }
}

#[test]
fn timeouts_are_never_early() {
    let (tx, rx) = bounded(1);
    for millis in [0, 1, 10] {
        let timeout = Duration::from_millis(millis);
        let start = Instant::now();
        assert_eq!(rx.recv_timeout(timeout), Err(RecvTimeoutError::Timeout));
        assert!(start.elapsed() >= timeout && start.elapsed() < LONG);

        let deadline = Instant::now() + timeout;
        assert_eq!(rx.recv_deadline(deadline), Err(RecvTimeoutError::Timeout));
        assert!(Instant::now() >= deadline);

        tx.send(0).unwrap();
        let start = Instant::now();
        assert_eq!(tx.send_timeout(1, timeout), Err(SendTimeoutError::Timeout(1)));
        assert!(start.elapsed() >= timeout && start.elapsed() < LONG);

        let deadline = Instant::now() + timeout;
        assert_eq!(tx.send_deadline(1, deadline), Err(SendTimeoutError::Timeout(1)));
        assert!(Instant::now() >= deadline);
        assert_eq!(rx.recv_timeout(timeout), Ok(0));
    }
}

#[test]
fn a_deadline_in_the_past_still_takes_what_is_there() {
    let (tx, rx) = bounded(1);
    let past = Instant::now();
    assert_eq!(tx.send_deadline(1, past), Ok(()));
    assert_eq!(tx.send_deadline(2, past), Err(SendTimeoutError::Timeout(2)));
    assert_eq!(rx.recv_deadline(past), Ok(1));
    assert_eq!(rx.recv_deadline(past), Err(RecvTimeoutError::Timeout));
}

#[test]
fn timeouts_beyond_the_clock_are_for_ever() {
    let (tx, rx) = bounded(0);
    thread::scope(|s| {
        s.spawn(|| tx.send_timeout(1, Duration::MAX).unwrap());
        assert_eq!(rx.recv_timeout(Duration::MAX), Ok(1));
    });
}

#[test]
fn a_wait_that_ends_leaves_no_trace() {
    let (tx, rx) = bounded(0);
    for n in 0..100 {
        assert!(rx.recv_timeout(Duration::from_micros(1)).is_err());
        assert!(tx.send_timeout(n, Duration::from_micros(1)).is_err());
        assert_eq!(tx.try_send(n), Err(TrySendError::Full(n)));
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    }
}

#[test]
fn timeouts_against_hand_over_lose_and_double_nothing() {
    for cap in [0, 1] {
        let (tx, rx) = bounded(cap);
        let (sent, received) = thread::scope(|s| {
            let senders: Vec<_> = (0..2)
                .map(|_| {
                    let tx = tx.clone();
                    s.spawn(move || {
                        let mut sum = 0;
                        for n in 1..=3_000_u64 {
                            match tx.send_timeout(n, Duration::from_micros(n % 40)) {
                                Ok(()) => sum += n,
                                Err(error) => assert_eq!(error, SendTimeoutError::Timeout(n)),
                            }
                        }
                        sum
                    })
                })
                .collect();
            drop(tx);
            let receivers: Vec<_> = (0..2)
                .map(|_| {
                    let rx = rx.clone();
                    s.spawn(move || {
                        let mut sum = 0;
                        for n in 0.. {
                            match rx.recv_timeout(Duration::from_micros(n % 30)) {
                                Ok(n) => sum += n,
                                Err(RecvTimeoutError::Timeout) => {}
                                Err(RecvTimeoutError::Disconnected) => break,
                            }
                        }
                        sum
                    })
                })
                .collect();
            let sum = |threads: Vec<thread::ScopedJoinHandle<'_, u64>>| -> u64 {
                threads.into_iter().map(|thread| thread.join().unwrap()).sum()
            };
            (sum(senders), sum(receivers))
        });
        assert_eq!(sent, received);
        assert!(sent > 0);
    }
}

#[test]
fn many_to_many_every_message_arrives_once() {
    const SENDERS: u64 = 4;
    const EACH: u64 = 5_000;
    for (tx, rx) in each_channel::<(u64, u64)>() {
        let (count, sum) = thread::scope(|s| {
            for sender in 0..SENDERS {
                let tx = tx.clone();
                s.spawn(move || (1..=EACH).for_each(|n| tx.send((sender, n)).unwrap()));
            }
            drop(tx);
            let receivers: Vec<_> = (0..4)
                .map(|_| {
                    let rx = rx.clone();
                    s.spawn(move || {
                        let mut newest = [0; SENDERS as usize];
                        let (mut count, mut sum) = (0, 0);
                        for (sender, n) in rx {
                            assert!(n > newest[sender as usize], "a sender's messages are received in order");
                            newest[sender as usize] = n;
                            count += 1;
                            sum += n;
                        }
                        (count, sum)
                    })
                })
                .collect();
            receivers.into_iter().map(|r| r.join().unwrap()).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
        });
        assert_eq!((count, sum), (SENDERS * EACH, SENDERS * EACH * (EACH + 1) / 2));
    }
}

#[test]
fn close_against_everything_ends_every_message_once() {
    for round in 0..100 {
        for (tx, rx) in each_channel() {
            let (dropped, message) = counter();
            let (message, rx) = (&message, &rx);
            let (created, received) = thread::scope(|s| {
                let senders: Vec<_> = (0..2)
                    .map(|_| {
                        let tx = tx.clone();
                        s.spawn(move || {
                            let mut created = 0;
                            loop {
                                created += 1;
                                if tx.send(message()).is_err() || created == 1_000 {
                                    return created;
                                }
                            }
                        })
                    })
                    .collect();
                let receivers: Vec<_> = (0..2).map(|_| s.spawn(move || rx.iter().count())).collect();
                (0..round % 10).for_each(|_| thread::yield_now());
                if round % 2 == 0 {
                    tx.close()
                } else {
                    rx.close()
                };
                let created: usize = senders.into_iter().map(|thread| thread.join().unwrap()).sum();
                let received: usize = receivers.into_iter().map(|thread| thread.join().unwrap()).sum();
                (created, received)
            });
            assert!(received <= created);
            assert_eq!(dropped.load(Ordering::SeqCst), created);
        }
    }
}

#[test]
fn the_last_receiver_drops_what_is_buffered() {
    for fill in [0, 1, 7, 300] {
        for (tx, rx) in [bounded(300), unbounded()] {
            let (dropped, message) = counter();
            // Not from the beginning of the buffer, so that a full ring wraps around.
            for _ in 0..5 {
                tx.send(message()).unwrap();
                rx.recv().unwrap();
            }
            (0..fill).for_each(|_| tx.send(message()).unwrap());
            drop(rx.clone());
            assert_eq!(dropped.load(Ordering::SeqCst), 5);
            drop(rx);
            assert_eq!(dropped.load(Ordering::SeqCst), 5 + fill);
            assert!(tx.send(message()).is_err());
            assert!(tx.is_empty());
            drop(tx);
            assert_eq!(dropped.load(Ordering::SeqCst), 6 + fill);
        }
    }
}

#[test]
fn messages_survive_the_senders() {
    for (tx, rx) in [bounded(10), unbounded()] {
        let (dropped, message) = counter();
        (0..10).for_each(|_| tx.send(message()).unwrap());
        drop(tx);
        assert_eq!(rx.recv().into_iter().count(), 1);
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
        drop(rx);
        assert_eq!(dropped.load(Ordering::SeqCst), 10);
    }
}

#[test]
fn a_message_may_use_its_channel_while_it_is_dropped() {
    struct Nested(Sender<Nested>, Arc<AtomicUsize>);

    impl Drop for Nested {
        fn drop(&mut self) {
            let another = Nested(self.0.clone(), Arc::clone(&self.1));
            if self.1.fetch_add(1, Ordering::SeqCst) < 100 {
                // Closed by now: comes back, and is dropped in turn.
                assert!(self.0.send(another).is_err());
            } else {
                std::mem::forget(another);
            }
        }
    }

    for (tx, rx) in [bounded(2), unbounded()] {
        let dropped = Arc::new(AtomicUsize::new(0));
        tx.send(Nested(tx.clone(), Arc::clone(&dropped))).unwrap();
        tx.send(Nested(tx.clone(), Arc::clone(&dropped))).unwrap();
        drop(tx);
        drop(rx);
        assert!(dropped.load(Ordering::SeqCst) > 100);
    }
}

#[test]
fn a_message_may_hold_the_last_sender_of_its_channel() {
    struct Holder(#[expect(dead_code)] Sender<Holder>, #[expect(dead_code)] Counted);

    for (tx, rx) in [bounded(1), unbounded()] {
        let (dropped, message) = counter();
        tx.send(Holder(tx.clone(), message())).unwrap();
        drop(tx);
        drop(rx);
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
    }
}

#[test]
fn a_panic_in_a_dropped_message_spares_the_others() {
    struct Fragile(#[expect(dead_code)] Counted, bool);

    impl Drop for Fragile {
        fn drop(&mut self) {
            if self.1 {
                panic!("fragile");
            }
        }
    }

    for (tx, rx) in [bounded(300), unbounded()] {
        let (dropped, message) = counter();
        (0..300).for_each(|n| assert!(tx.send(Fragile(message(), n % 150 == 50)).is_ok()));
        assert!(catch_unwind(AssertUnwindSafe(|| drop(rx))).is_err());
        assert_eq!(dropped.load(Ordering::SeqCst), 300);
        assert!(tx.is_closed());
    }
}

#[test]
fn a_capacity_beyond_memory_is_refused() {
    for (cap, expected) in [
        (usize::MAX >> 3, "capacity overflow"),
        (usize::MAX >> 1, "bounded channel capacity is too large"),
        (usize::MAX, "bounded channel capacity is too large"),
    ] {
        let panic = catch_unwind(|| drop(bounded::<u64>(cap))).unwrap_err();
        assert_eq!(panic.downcast_ref::<String>().map(String::as_str), Some(expected));
    }
}

#[test]
fn zero_sized_messages_are_counted() {
    for (tx, rx) in each_channel::<()>() {
        thread::scope(|s| {
            s.spawn(move || (0..100_000).for_each(|_| tx.send(()).unwrap()));
            assert_eq!(rx.iter().count(), 100_000);
        });
    }
    let (tx, rx) = bounded::<()>(isize::MAX as usize);
    tx.send(()).unwrap();
    assert_eq!((rx.len(), rx.recv()), (1, Ok(())));
}

#[test]
fn large_messages_arrive_whole() {
    for (tx, rx) in each_channel::<[u64; 8192]>() {
        thread::scope(|s| {
            s.spawn(move || (0..50).for_each(|n| tx.send([n; 8192]).unwrap()));
            for n in 0..50 {
                let message = rx.recv().unwrap();
                assert!(message.iter().all(|&word| word == n));
            }
        });
    }
}

#[test]
fn strictly_aligned_messages_stay_aligned() {
    #[repr(align(128))]
    struct Aligned(u8);

    for (tx, rx) in each_channel::<Aligned>() {
        thread::scope(|s| {
            s.spawn(move || (0..100).for_each(|n| tx.send(Aligned(n)).unwrap()));
            for n in 0..100 {
                let message = rx.recv().unwrap();
                assert_eq!(((&raw const message).addr() % 128, message.0), (0, n));
            }
        });
    }
}

#[test]
fn absurd_capacities_are_refused() {
    for cap in [usize::MAX, isize::MAX as usize] {
        assert!(catch_unwind(|| bounded::<u64>(cap)).is_err());
    }
    assert!(catch_unwind(|| bounded::<()>(usize::MAX)).is_err());
}

#[test]
fn forgotten_handles_keep_the_channel_open() {
    let (tx, rx) = bounded(1);
    std::mem::forget(tx.clone());
    std::mem::forget(rx.clone());
    tx.send(Box::new(1)).unwrap();
    drop(tx);
    assert_eq!(rx.try_recv(), Ok(Box::new(1)));
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
}

#[test]
fn iterators_end_when_the_channel_does() {
    let (tx, rx) = unbounded();
    (0..3).for_each(|n| tx.send(n).unwrap());
    assert!(rx.try_iter().eq(0..3));
    assert_eq!(rx.try_iter().next(), None);
    (3..6).for_each(|n| tx.send(n).unwrap());
    drop(tx);
    let mut sum = 0;
    for n in &rx {
        sum += n;
    }
    assert_eq!(sum, 12);
    assert_eq!(rx.into_iter().next(), None);
}

#[test]
fn never_is_never_ready() {
    let rx = never::<i32>();
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(rx.recv_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::Timeout));
    assert!(rx.is_empty() && rx.is_full() && !rx.is_closed() && !rx.close());
    assert_eq!((rx.len(), rx.capacity()), (0, Some(0)));
    assert!(rx.same_channel(&rx.clone()));
}

#[test]
fn after_delivers_once_and_not_early() {
    let delay = Duration::from_millis(10);
    let start = Instant::now();
    let rx = after(delay);
    let other = rx.clone();
    assert!(rx.is_empty() && rx.same_channel(&other));
    assert_eq!((rx.len(), rx.capacity()), (0, Some(1)));
    let early = rx.recv_timeout(Duration::from_millis(1));
    if Instant::now() < start + delay {
        assert_eq!(early, Err(RecvTimeoutError::Timeout));
        let due = rx.recv().unwrap();
        assert!(due >= start + delay && Instant::now() >= due);
    }
    assert_eq!(other.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(other.recv_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::Timeout));
    assert_eq!(after(Duration::MAX).capacity(), Some(0));
}

#[test]
fn at_delivers_its_time() {
    let when = Instant::now() + Duration::from_millis(2);
    assert_eq!(at(when).recv(), Ok(when));
    let rx = at(when);
    assert_eq!((rx.len(), rx.is_full()), (1, true));
    assert_eq!(rx.try_recv(), Ok(when));
    assert!(rx.is_empty());
}

#[test]
fn tick_keeps_its_period() {
    let period = Duration::from_millis(3);
    let start = Instant::now();
    let rx = tick(period);
    let mut last = start;
    for n in 1..=5 {
        let due = rx.recv().unwrap();
        assert!(due >= last + if n == 1 { Duration::ZERO } else { period });
        assert!(Instant::now() >= due && due >= start + n * period);
        last = due;
    }
    // One whose turn does not come while this thread has lost its CPU.
    assert_eq!(tick(Duration::from_secs(3600)).recv_deadline(Instant::now()), Err(RecvTimeoutError::Timeout));
}

#[test]
fn handles_tell_their_channels_apart() {
    let (tx, rx) = bounded::<u8>(0);
    let (tx2, rx2) = bounded::<u8>(0);
    assert!(tx.same_channel(&tx.clone()) && rx.same_channel(&rx.clone()));
    assert!(!tx.same_channel(&tx2) && !rx.same_channel(&rx2));
    assert_eq!(format!("{tx:?} {rx:?}"), "Sender { .. } Receiver { .. }");
}

#[test]
fn handles_have_the_auto_traits_of_their_messages() {
    fn all<T: Send + Sync + UnwindSafe + RefUnwindSafe>() {}
    // Neither `Sync` nor unwind-safe itself.
    all::<Sender<std::cell::Cell<&'static mut u8>>>();
    all::<Receiver<std::cell::Cell<&'static mut u8>>>();
}

#[test]
fn errors_read_as_those_of_crossbeam() {
    let closed = "sending on a disconnected channel";
    let closed_and_empty = "receiving on an empty and disconnected channel";
    assert_eq!(SendError(1).to_string(), closed);
    assert_eq!(TrySendError::Full(1).to_string(), "sending on a full channel");
    assert_eq!(TrySendError::Disconnected(1).to_string(), closed);
    assert_eq!(SendTimeoutError::Timeout(1).to_string(), "timed out waiting on send operation");
    assert_eq!(SendTimeoutError::Disconnected(1).to_string(), closed);
    assert_eq!(RecvError.to_string(), closed_and_empty);
    assert_eq!(TryRecvError::Empty.to_string(), "receiving on an empty channel");
    assert_eq!(TryRecvError::Disconnected.to_string(), closed_and_empty);
    assert_eq!(RecvTimeoutError::Timeout.to_string(), "timed out waiting on receive operation");
    assert_eq!(RecvTimeoutError::Disconnected.to_string(), "channel is empty and disconnected");
    assert_eq!(TrySelectError.to_string(), "all operations in select would block");
    assert_eq!(SelectTimeoutError.to_string(), "timed out waiting on select");
    assert_eq!(TrySendError::from(SendError(1)), TrySendError::Disconnected(1));
    assert_eq!(SendTimeoutError::from(SendError(1)), SendTimeoutError::Disconnected(1));
    assert_eq!(TryRecvError::from(RecvError), TryRecvError::Disconnected);
    assert_eq!(RecvTimeoutError::from(RecvError), RecvTimeoutError::Disconnected);
}
