//! Batches: `send_many`, `recv_many`, `try_recv_many`.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use csp::channel::{Receiver, RecvError, Sender, TryRecvError, after, at, bounded, never, tick, unbounded};
use support::{CALLERS, Caller, PAIRS, in_child, let_others_wait};

/// Each kind of channel.
fn each_channel<T>() -> Vec<(Sender<T>, Receiver<T>)> {
    vec![bounded(0), bounded(1), bounded(2), bounded(7), bounded(1000), unbounded()]
}

/// Counts its drops.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn counter() -> (Arc<AtomicUsize>, impl Fn() -> Counted + Clone) {
    let count = Arc::new(AtomicUsize::new(0));
    let of = Arc::clone(&count);
    (count, move || Counted(Arc::clone(&of)))
}

#[test]
fn batches_arrive_whole_and_in_order() {
    for [sends, receives] in PAIRS {
        for limit in [1, 3, 300, usize::MAX] {
            for (tx, rx) in each_channel() {
                let sender = sends.run(move || {
                    // All of them at once, and in pieces.
                    tx.send_many(0..2_000_u32).unwrap();
                    for start in (2_000..3_000).step_by(10) {
                        tx.send_many(start..start + 10).unwrap();
                    }
                });
                let receiver = receives.run(move || {
                    let mut all = Vec::new();
                    loop {
                        let before = all.len();
                        match rx.recv_many(&mut all, limit) {
                            Ok(count) => {
                                assert!((1..=limit).contains(&count));
                                assert_eq!(all.len(), before + count);
                            }
                            Err(RecvError) => return all,
                        }
                    }
                });
                sender.join();
                assert!(receiver.join().into_iter().eq(0..3_000));
            }
        }
    }
}

#[test]
fn recv_many_takes_what_is_there_up_to_the_limit() {
    for (tx, rx) in [bounded(5_000), unbounded()] {
        // From several places in the buffer, so that a ring wraps around; and more than one lock is held for.
        for round in 0..4 {
            let mut batch = vec![99];
            tx.send_many(0..4_000).unwrap();
            assert_eq!(rx.recv_many(&mut batch, 3), Ok(3));
            assert_eq!(batch, [99, 0, 1, 2]);
            assert_eq!(rx.try_recv_many(&mut batch, 1_000 + round), Ok(1_000 + round));
            assert_eq!(rx.recv(), Ok(1_003 + round));
            let rest = 4_000 - (1_004 + round);
            assert_eq!(rx.len(), rest);
            assert_eq!(rx.recv_many(&mut batch, usize::MAX), Ok(rest));
            assert!(rx.is_empty());
            batch.insert(1_004 + round, 1_003 + round);
            assert!(batch[1..].iter().copied().eq(0..4_000));
        }
    }
}

#[test]
fn recv_many_waits_for_one_message_only() {
    for [sends, receives] in PAIRS {
        for (tx, rx) in each_channel() {
            let receiver = receives.run(move || {
                let mut batch = Vec::new();
                assert_eq!(rx.recv_many(&mut batch, 10), Ok(1));
                (batch, rx)
            });
            let sender = sends.run(move || {
                tx.send(1).unwrap();
                tx
            });
            let tx = sender.join();
            // The receiver has ended although there was only one, and the channel is still open.
            assert_eq!(receiver.join().0, [1]);
            drop(tx);
        }
    }
}

#[test]
fn a_batch_of_none_does_not_wait() {
    let (tx, rx) = bounded::<u8>(0);
    let mut batch = Vec::new();
    assert_eq!(rx.recv_many(&mut batch, 0), Ok(0));
    assert_eq!(rx.try_recv_many(&mut batch, 0), Ok(0));
    assert!(tx.send_many([]).is_ok());
    drop(rx);
    // There was nothing to send, so nothing was refused.
    assert!(tx.send_many([]).is_ok());
}

#[test]
fn a_closed_channel_gives_what_is_left_and_then_an_error() {
    for (tx, rx) in [bounded(10), unbounded()] {
        let mut batch = Vec::new();
        assert_eq!(rx.try_recv_many(&mut batch, 2), Err(TryRecvError::Empty));
        tx.send_many(1..=3).unwrap();
        tx.close();
        assert_eq!(rx.recv_many(&mut batch, 2), Ok(2));
        assert_eq!(rx.try_recv_many(&mut batch, 2), Ok(1));
        assert_eq!(rx.try_recv_many(&mut batch, 2), Err(TryRecvError::Disconnected));
        assert_eq!(rx.recv_many(&mut batch, 2), Err(RecvError));
        assert_eq!(batch, [1, 2, 3]);
    }
}

#[test]
fn close_ends_a_wait_for_a_batch() {
    for [closes, receives] in PAIRS {
        for (tx, rx) in each_channel::<u8>() {
            let receiver = receives.run(move || rx.recv_many(&mut Vec::new(), 5));
            let closer = closes.run(move || tx.close());
            assert!(closer.join());
            assert_eq!(receiver.join(), Err(RecvError));
        }
    }
}

#[test]
fn a_closed_channel_gives_the_whole_batch_back() {
    for (tx, rx) in each_channel() {
        rx.close();
        let error = tx.send_many(1..=600).unwrap_err();
        assert_eq!(error.sent, 0);
        assert_eq!(error.unsent.size_hint(), (600, Some(600)));
        assert!(error.unsent.eq(1..=600));
        // One that never ends, and one that does not know.
        assert!(tx.send_many(7..).unwrap_err().unsent.take(300).eq(7..307));
        assert!(tx.send_many((0..10).filter(|n| n % 2 == 0)).unwrap_err().unsent.eq([0, 2, 4, 6, 8]));
    }
}

#[test]
fn what_a_close_cuts_off_is_given_back() {
    for [sends, receives] in PAIRS {
        for taken in [0_u32, 1, 5, 300] {
            for (tx, rx) in [bounded(0), bounded(1), bounded(7)] {
                let sender = sends.run(move || {
                    let error = tx.send_many(0..1_000_u32).unwrap_err();
                    assert_eq!(error.to_string(), "sending on a disconnected channel");
                    assert!(format!("{error:?}").starts_with("SendManyError { sent: "), "{error:?}");
                    (error.sent as u32, error.unsent.collect::<Vec<_>>())
                });
                let receiver = receives.run(move || {
                    (0..taken).for_each(|n| assert_eq!(rx.recv(), Ok(n)));
                    rx.close();
                    let mut rest = Vec::new();
                    while rx.recv_many(&mut rest, 2).is_ok() {}
                    rest
                });
                let rest = receiver.join();
                let (sent, unsent) = sender.join();
                // Received, left behind, given back: everything once and in order.
                assert_eq!(sent, taken + rest.len() as u32);
                assert!((0..taken).chain(rest).chain(unsent).eq(0..1_000));
            }
        }
    }
}

#[test]
fn an_unbounded_channel_takes_a_batch_without_waiting() {
    let (tx, rx) = unbounded();
    tx.send_many(0..100_000).unwrap();
    assert_eq!(rx.len(), 100_000);
    let mut batch = Vec::new();
    assert_eq!(rx.recv_many(&mut batch, usize::MAX), Ok(100_000));
    assert!(batch.into_iter().eq(0..100_000));
}

#[test]
fn waiting_senders_get_their_room_in_order() {
    in_child(&[("GOMAXPROCS", "1")], || {
        csp::spawn(|| {
            let (tx, rx) = bounded(2);
            tx.send_many([0, 1]).unwrap();
            for n in 2..9 {
                let tx = tx.clone();
                csp::spawn(move || tx.send(n).unwrap());
                let_others_wait();
            }
            let mut batch = Vec::new();
            // The two in the buffer and one from its sender; the next two move into the buffer.
            assert_eq!(rx.recv_many(&mut batch, 3), Ok(3));
            assert_eq!((&batch[..], rx.len()), (&[0, 1, 2][..], 2));
            assert_eq!(rx.try_recv_many(&mut batch, 1), Ok(1));
            assert_eq!(rx.len(), 2);
            assert_eq!(rx.recv_many(&mut batch, usize::MAX), Ok(5));
            assert_eq!(batch, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
        })
        .join()
        .unwrap();
    })
    .expect_success();
}

#[test]
fn without_capacity_a_batch_is_what_the_waiting_senders_have() {
    in_child(&[("GOMAXPROCS", "1")], || {
        csp::spawn(|| {
            let (tx, rx) = bounded(0);
            let mut batch = Vec::new();
            assert_eq!(rx.try_recv_many(&mut batch, 10), Err(TryRecvError::Empty));
            for n in 0..8 {
                let tx = tx.clone();
                csp::spawn(move || tx.send(n).unwrap());
                let_others_wait();
            }
            assert_eq!(rx.try_recv_many(&mut batch, 3), Ok(3));
            assert_eq!(rx.recv_many(&mut batch, usize::MAX), Ok(5));
            assert!(batch.into_iter().eq(0..8));
        })
        .join()
        .unwrap();
    })
    .expect_success();
}

#[test]
fn waiting_receivers_are_handed_a_batch_in_order() {
    in_child(&[("GOMAXPROCS", "1")], || {
        csp::spawn(|| {
            for (tx, rx) in each_channel() {
                let receivers = (0..5).map(|_| {
                    let rx = rx.clone();
                    let receiver = csp::spawn(move || rx.recv());
                    let_others_wait();
                    receiver
                });
                let receivers = receivers.collect::<Vec<_>>();
                let sender = csp::spawn(move || tx.send_many(0..8));
                for (n, receiver) in receivers.into_iter().enumerate() {
                    assert_eq!(receiver.join().unwrap(), Ok(n));
                }
                assert!(rx.iter().eq(5..8));
                assert!(sender.join().unwrap().is_ok());
            }
        })
        .join()
        .unwrap();
    })
    .expect_success();
}

#[test]
fn the_iterator_may_use_the_channel() {
    for caller in CALLERS {
        caller
            .run(|| {
                let (tx, rx) = bounded(3);
                // It knows its length, so it is asked for all three before they are sent.
                let messages = (0..3).inspect(|_| {
                    assert!(rx.is_empty());
                    tx.send(100).unwrap();
                    assert_eq!(rx.recv(), Ok(100));
                });
                tx.send_many(messages).unwrap();
                assert_eq!(rx.try_iter().collect::<Vec<_>>(), [0, 1, 2]);
            })
            .join();
    }
}

#[test]
fn an_iterator_that_waits_holds_nothing_up() {
    for [forwards, sends] in PAIRS {
        let (source, from) = bounded(0);
        let (to, sink) = bounded(0);
        let forwarder = forwards.run(move || to.send_many(from.iter()).is_ok());
        let sender = sends.run(move || {
            for n in 0..100 {
                source.send(n).unwrap();
                // It comes out before the next one goes in.
                assert_eq!(sink.recv(), Ok(n));
            }
        });
        sender.join();
        assert!(forwarder.join());
    }
}

#[test]
fn an_iterator_that_panics_loses_only_what_it_gave_before() {
    let (dropped, message) = counter();
    let (tx, rx) = unbounded();
    tx.send(message()).unwrap();
    let messages = (0..10).map(|n| if n == 5 { panic!("five") } else { message() });
    assert!(catch_unwind(AssertUnwindSafe(|| tx.send_many(messages))).is_err());
    assert_eq!(dropped.load(Ordering::SeqCst), 5);
    // Nothing is locked, and nothing else is lost.
    tx.send(message()).unwrap();
    assert_eq!(rx.try_iter().count(), 2);
    assert_eq!(dropped.load(Ordering::SeqCst), 7);
}

#[test]
fn iterators_are_not_asked_again_after_their_end() {
    struct Once(bool);

    impl Iterator for Once {
        type Item = u8;

        fn next(&mut self) -> Option<u8> {
            assert!(!self.0, "asked again");
            self.0 = true;
            None
        }

        // A lie, which costs nothing but a short batch.
        fn size_hint(&self) -> (usize, Option<usize>) {
            (3, None)
        }
    }

    let (tx, rx) = unbounded();
    tx.send_many([1, 2].into_iter().chain(Once(false))).unwrap();
    assert_eq!(rx.try_iter().collect::<Vec<_>>(), [1, 2]);
    rx.close();
    let error = tx.send_many([1, 2].into_iter().chain(Once(false))).unwrap_err();
    assert_eq!(error.unsent.collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn every_message_of_a_batch_ends_once() {
    for [sends, receives] in PAIRS {
        for limit in [1, 2, 40, usize::MAX] {
            for stop in [0, 1, 10, 1_000] {
                for (tx, rx) in each_channel() {
                    let (dropped, message) = counter();
                    let sender = sends.run(move || {
                        let batch = (0..700).map(|_| message()).collect::<Vec<_>>();
                        match tx.send_many(batch) {
                            Ok(()) => 700,
                            Err(error) => {
                                let sent = error.sent;
                                // Some are looked at, the others are dropped with it.
                                assert!(error.unsent.take(3).count() <= 700 - sent);
                                sent
                            }
                        }
                    });
                    let receiver = receives.run(move || {
                        let mut batch = Vec::new();
                        while batch.len() < stop && rx.recv_many(&mut batch, limit).is_ok() {}
                        // The receiver goes while there may be messages in the channel and in the sender's hands.
                        drop(rx);
                        batch.len()
                    });
                    let received = receiver.join();
                    let sent = sender.join();
                    assert!(received <= sent && sent <= 700);
                    assert_eq!(dropped.load(Ordering::SeqCst), 700);
                }
            }
        }
    }
}

#[test]
fn batches_and_single_messages_mix() {
    const EACH: u64 = 4_000;
    for callers in [CALLERS, [Caller::Goroutine; 2], [Caller::Thread; 2]] {
        for (tx, rx) in each_channel::<(usize, u64)>() {
            let senders = (0..4).map(|id| {
                let tx = tx.clone();
                callers[id % 2].run(move || {
                    let mut numbers = (0..EACH).map(|n| (id, n));
                    if id < 2 {
                        while let Some(first) = numbers.next() {
                            tx.send(first).unwrap();
                            tx.send_many(numbers.by_ref().take(id * 20).collect::<Vec<_>>()).unwrap();
                        }
                    } else {
                        tx.send_many(numbers).unwrap();
                    }
                })
            });
            let senders = senders.collect::<Vec<_>>();
            drop(tx);
            let receivers = (0..4).map(|id| {
                let rx = rx.clone();
                callers[id / 2].run(move || {
                    let mut all = Vec::new();
                    loop {
                        if id % 2 == 0 {
                            match rx.recv() {
                                Ok(message) => all.push(message),
                                Err(RecvError) => break,
                            }
                        } else {
                            let limit = 1 + all.len() % 50;
                            if rx.recv_many(&mut all, limit).is_err() {
                                break;
                            }
                        }
                    }
                    // What one sender sends comes in order.
                    for id in 0..4 {
                        assert!(all.iter().filter(|m| m.0 == id).is_sorted());
                    }
                    all
                })
            });
            let receivers = receivers.collect::<Vec<_>>();
            senders.into_iter().for_each(|sender| sender.join());
            let mut all = receivers.into_iter().flat_map(|receiver| receiver.join()).collect::<Vec<_>>();
            all.sort();
            assert!(all.into_iter().eq((0..4).flat_map(|id| (0..EACH).map(move |n| (id, n)))));
        }
    }
}

#[test]
fn a_batch_without_a_limit_comes_to_an_end() {
    for caller in CALLERS {
        for (tx, rx) in each_channel() {
            let stop = Arc::new(AtomicBool::new(false));
            let senders = (0..2).map(|_| {
                let (tx, stop) = (tx.clone(), Arc::clone(&stop));
                caller.run(move || {
                    while !stop.load(Ordering::Relaxed) {
                        // Not more than memory holds.
                        if tx.len() > 10_000 {
                            csp::yield_now();
                        } else if tx.send_many([0; 10]).is_err() {
                            return;
                        }
                    }
                })
            });
            let senders = senders.collect::<Vec<_>>();
            let receiver = caller.run(move || {
                for _ in 0..50 {
                    assert!(rx.recv_many(&mut Vec::new(), usize::MAX).unwrap() >= 1);
                }
                stop.store(true, Ordering::Relaxed);
            });
            receiver.join();
            senders.into_iter().for_each(|sender| sender.join());
        }
    }
}

#[test]
fn messages_without_size_come_in_batches() {
    for (tx, rx) in each_channel() {
        let sender = csp::spawn(move || tx.send_many(std::iter::repeat_n((), 200_000)).is_ok());
        let mut batch = Vec::new();
        while rx.recv_many(&mut batch, usize::MAX).is_ok() {}
        assert_eq!(batch.len(), 200_000);
        assert!(sender.join().unwrap());
    }
}

#[test]
fn a_vector_that_can_hold_no_more_loses_no_message() {
    let (tx, rx) = unbounded();
    tx.send(()).unwrap();
    // In a loop it would take for ever.
    let mut full = vec![(); 1];
    // SAFETY: what has no size needs no room and no initialisation, however often.
    unsafe { full.set_len(usize::MAX) };
    assert!(catch_unwind(AssertUnwindSafe(|| rx.recv_many(&mut full, 1))).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| rx.try_recv_many(&mut full, 1))).is_err());
    assert_eq!(rx.try_recv(), Ok(()));
}

#[test]
fn strictly_aligned_messages_stay_aligned_in_batches() {
    #[repr(align(128))]
    struct Aligned(u8);

    for (tx, rx) in each_channel::<Aligned>() {
        let sender = csp::spawn(move || tx.send_many((0..200).map(Aligned)).is_ok());
        let mut batch = Vec::new();
        while rx.recv_many(&mut batch, 9).is_ok() {}
        assert!(batch.iter().all(|message| (&raw const *message).addr() % 128 == 0));
        assert!(batch.iter().map(|message| message.0).eq(0..200));
        assert!(sender.join().unwrap());
    }
}

#[test]
fn a_batch_of_a_timer_is_its_one_message() {
    let start = Instant::now();
    let delay = Duration::from_millis(2);
    let mut batch = Vec::new();
    assert_eq!(after(delay).recv_many(&mut batch, 10), Ok(1));
    assert!(batch[0] >= start + delay && Instant::now() >= batch[0]);
    assert_eq!(at(start).try_recv_many(&mut batch, 10), Ok(1));
    assert_eq!(batch[1], start);
    assert_eq!(tick(delay).recv_many(&mut batch, 10), Ok(1));
    assert_eq!(never::<u8>().try_recv_many(&mut Vec::new(), 10), Err(TryRecvError::Empty));
    assert_eq!(batch.len(), 3);
}
