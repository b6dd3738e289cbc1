//! How messages end: each is received or dropped, once, whatever happens; also where its own drop panics or uses the
//! channel that it was in. And the smallest and the largest of everything.

mod support;

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use csp::channel::{
    Receiver, RecvError, RecvTimeoutError, SendTimeoutError, Sender, TryRecvError, TrySendError, bounded, unbounded,
};
use csp::select;
use support::{CALLERS, Caller, PAIRS};

/// How often each message was dropped, and in which order.
#[derive(Clone, Default)]
struct Ledger(Arc<Mutex<Vec<usize>>>);

/// A message with a number, which is entered when it is dropped.
struct Entry {
    number: usize,
    ledger: Ledger,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.ledger.0.lock().unwrap().push(self.number);
    }
}

impl Ledger {
    fn entry(&self, number: usize) -> Entry {
        Entry { number, ledger: self.clone() }
    }

    fn dropped(&self) -> Vec<usize> {
        self.0.lock().unwrap().clone()
    }

    /// Each of the first `count` was dropped once.
    #[track_caller]
    fn settle(&self, count: usize) {
        let mut dropped = self.dropped();
        dropped.sort();
        assert!(dropped.iter().copied().eq(0..count), "{dropped:?}");
    }
}

fn each_channel<T>() -> Vec<(Sender<T>, Receiver<T>)> {
    vec![bounded(0), bounded(1), bounded(5), unbounded()]
}

fn with_buffer<T>() -> Vec<(Sender<T>, Receiver<T>)> {
    vec![bounded(300), unbounded()]
}

mod once {
    use super::*;

    #[test]
    fn received_messages_belong_to_the_receiver() {
        for [sends, receives] in PAIRS {
            for (tx, rx) in each_channel() {
                let ledger = Ledger::default();
                let of = ledger.clone();
                let sender = sends.run(move || (0..100).for_each(|n| tx.send(of.entry(n)).unwrap()));
                let receiver = receives.run(move || {
                    for (n, entry) in rx.iter().enumerate() {
                        assert_eq!(entry.number, n);
                        assert_eq!(entry.ledger.dropped().len(), n);
                    }
                });
                sender.join();
                receiver.join();
                assert!(ledger.dropped().into_iter().eq(0..100));
            }
        }
    }

    #[test]
    fn what_is_buffered_is_dropped_with_the_last_receiver_the_oldest_first() {
        for caller in CALLERS {
            for (tx, rx) in with_buffer() {
                let ledger = Ledger::default();
                let of = ledger.clone();
                caller
                    .run(move || {
                        // From the middle, so that a ring wraps around.
                        (0..200).for_each(|n| tx.send(of.entry(n)).unwrap());
                        drop(rx.iter().take(200).collect::<Vec<_>>());
                        (200..450).for_each(|n| tx.send(of.entry(n)).unwrap());
                        tx.close();
                        let other = rx.clone();
                        drop(rx);
                        assert_eq!(of.dropped().len(), 200);
                        drop(other);
                        assert_eq!(of.dropped().len(), 450);
                    })
                    .join();
                assert!(ledger.dropped().into_iter().eq(0..450));
            }
        }
    }

    #[test]
    fn a_sender_that_waits_gets_its_message_back_when_the_receiver_goes() {
        for [sends, drops] in PAIRS {
            for cap in [0, 2] {
                let ledger = Ledger::default();
                let (tx, rx) = bounded(cap);
                (0..cap).for_each(|n| tx.send(ledger.entry(n)).unwrap());
                let of = ledger.clone();
                let sender = sends.run(move || {
                    let error = tx.send(of.entry(cap)).unwrap_err();
                    assert_eq!(error.0.number, cap);
                    mem::forget(error);
                });
                drops.run(move || drop(rx)).join();
                sender.join();
                // The one that came back was forgotten: nobody else has dropped it.
                ledger.settle(cap);
            }
        }
    }

    #[test]
    fn a_message_that_times_out_comes_back() {
        for caller in CALLERS {
            for cap in [0, 2] {
                let ledger = Ledger::default();
                let of = ledger.clone();
                caller
                    .run(move || {
                        let (tx, rx) = bounded(cap);
                        (0..cap).for_each(|n| tx.send(of.entry(n)).unwrap());
                        let soon = Duration::from_millis(2);
                        match tx.send_timeout(of.entry(cap), soon) {
                            Err(SendTimeoutError::Timeout(entry)) => assert_eq!(entry.number, cap),
                            _ => panic!("there was no room"),
                        }
                        match tx.send_deadline(of.entry(cap + 1), Instant::now() + soon) {
                            Err(SendTimeoutError::Timeout(entry)) => assert_eq!(entry.number, cap + 1),
                            _ => panic!("there was no room"),
                        }
                        match tx.try_send(of.entry(cap + 2)) {
                            Err(TrySendError::Full(entry)) => assert_eq!(entry.number, cap + 2),
                            _ => panic!("there was no room"),
                        }
                        drop(rx.try_iter().collect::<Vec<_>>());
                        assert_eq!(rx.recv_timeout(soon).err(), Some(RecvTimeoutError::Timeout));
                    })
                    .join();
                ledger.settle(cap + 3);
            }
        }
    }

    #[test]
    fn a_select_that_takes_another_arm_drops_its_message() {
        for caller in CALLERS {
            let ledger = Ledger::default();
            let of = ledger.clone();
            caller
                .run(move || {
                    let (full, _rx) = bounded(0);
                    let (tx, ready) = bounded(1);
                    for n in 0..100 {
                        tx.send(()).unwrap();
                        select! {
                            full <- of.entry(n) => panic!("nobody receives"),
                            <-ready => assert_eq!(of.dropped().len(), n + 1),
                        }
                    }
                    select! {
                        full <- of.entry(100) => panic!("nobody receives"),
                        default(Duration::from_millis(2)) => {}
                    }
                    select! {
                        full <- of.entry(101) => panic!("nobody receives"),
                        default => {}
                    }
                })
                .join();
            ledger.settle(102);
        }
    }

    #[test]
    fn selects_that_compete_for_messages_lose_none() {
        for [sends, receives] in PAIRS {
            for (tx, rx) in each_channel() {
                let ledger = Ledger::default();
                let (tx2, rx2) = bounded(0);
                let of = ledger.clone();
                let sender = sends.run(move || {
                    for n in 0..500 {
                        select! {
                            tx <- of.entry(n) => {}
                            result = tx2 <- of.entry(n + 500) => assert!(result.is_ok()),
                        }
                    }
                });
                let receivers = [0, 1].map(|_| {
                    let (rx, rx2) = (rx.clone(), rx2.clone());
                    receives.run(move || {
                        let mut count = 0;
                        loop {
                            select! {
                                Ok(_) = <-rx => count += 1,
                                Ok(_) = <-rx2 => count += 1,
                                else => return count,
                            }
                        }
                    })
                });
                sender.join();
                assert_eq!(receivers.map(|receiver| receiver.join()).iter().sum::<usize>(), 500);
                // Those that were sent, and those of the arms that were not taken.
                ledger.settle(1_000);
            }
        }
    }

    #[test]
    fn messages_of_a_wait_that_close_ends_come_back() {
        for [sends, closes] in PAIRS {
            let ledger = Ledger::default();
            let (tx, rx) = bounded(1);
            let senders = [0, 1, 2, 3].map(|n| {
                let (tx, of) = (tx.clone(), ledger.clone());
                sends.run(move || match n % 2 {
                    0 => tx.send(of.entry(n)).map_err(|error| assert_eq!(error.0.number, n)).is_ok(),
                    _ => {
                        let result = tx.send_timeout(of.entry(n), Duration::from_secs(100));
                        result.map_err(|error| assert_eq!(error.into_inner().number, n)).is_ok()
                    }
                })
            });
            let rx = closes
                .run(move || {
                    rx.close();
                    rx
                })
                .join();
            let sent = senders.map(|sender| sender.join()).into_iter().filter(|&sent| sent).count();
            assert!(sent <= 1);
            assert_eq!(rx.iter().count(), sent);
            ledger.settle(4);
        }
    }
}

/// A message that panics when it is dropped, if it is to; it is entered before.
struct Fragile(#[expect(dead_code)] Entry, bool);

impl Drop for Fragile {
    fn drop(&mut self) {
        if self.1 {
            panic!("fragile");
        }
    }
}

mod panics {
    use super::*;

    #[test]
    fn one_in_the_buffer_spares_the_others() {
        for at in [0, 1, 128, 298, 299] {
            for (tx, rx) in with_buffer() {
                let ledger = Ledger::default();
                (0..300).for_each(|n| assert!(tx.send(Fragile(ledger.entry(n), n == at)).is_ok()));
                let panic = catch_unwind(AssertUnwindSafe(|| drop(rx))).unwrap_err();
                assert_eq!(panic.downcast_ref(), Some(&"fragile"));
                ledger.settle(300);
                // The channel is closed and empty, and not locked.
                assert!(tx.is_closed() && tx.is_empty());
                assert!(tx.send(Fragile(ledger.entry(300), false)).is_err());
            }
        }
    }

    #[test]
    fn one_in_the_buffer_does_not_keep_the_channel() {
        for (tx, rx) in with_buffer() {
            let ledger = Ledger::default();
            // The senders are gone first, so the channel is freed by the receiver whose message panics.
            (0..2).for_each(|n| assert!(tx.send(Fragile(ledger.entry(n), n == 0)).is_ok()));
            drop(tx);
            assert!(catch_unwind(AssertUnwindSafe(|| drop(rx))).is_err());
            ledger.settle(2);
        }
    }

    #[test]
    fn one_in_the_buffer_ends_its_goroutine_only() {
        for (tx, rx) in with_buffer() {
            let ledger = Ledger::default();
            (0..10).for_each(|n| assert!(tx.send(Fragile(ledger.entry(n), n == 3)).is_ok()));
            let waiting = {
                let (tx, of) = (tx.clone(), ledger.clone());
                csp::spawn(move || while tx.send(Fragile(of.entry(10), false)).map_err(mem::forget).is_ok() {})
            };
            assert!(csp::spawn(move || drop(rx)).join().is_err());
            waiting.join().unwrap();
            let mut dropped = ledger.dropped();
            dropped.sort();
            dropped.dedup();
            assert!(dropped.into_iter().filter(|&n| n < 10).eq(0..10));
        }
    }

    #[test]
    fn a_rest_of_a_batch_is_dropped_all_the_same() {
        let ledger = Ledger::default();
        let (tx, rx) = unbounded();
        rx.close();
        let batch = (0..50).map(|n| Fragile(ledger.entry(n), n == 20)).collect::<Vec<_>>();
        let error = tx.send_many(batch).unwrap_err();
        assert!(catch_unwind(AssertUnwindSafe(|| drop(error))).is_err());
        ledger.settle(50);
    }

    #[test]
    fn a_receiver_that_panics_while_it_holds_messages_drops_the_rest() {
        for (tx, rx) in with_buffer() {
            let ledger = Ledger::default();
            (0..20).for_each(|n| assert!(tx.send(ledger.entry(n)).is_ok()));
            let goroutine = csp::spawn(move || {
                let _held = rx.recv().unwrap();
                let mut batch = Vec::new();
                rx.recv_many(&mut batch, 5).unwrap();
                panic!("the receiver");
            });
            assert!(goroutine.join().is_err());
            ledger.settle(20);
            assert!(tx.is_closed());
        }
    }
}

mod reentrance {
    use super::*;

    /// A message whose drop does something, once.
    struct Does(Option<Box<dyn FnOnce() + Send>>);

    impl Does {
        fn it(f: impl FnOnce() + Send + 'static) -> Self {
            Self(Some(Box::new(f)))
        }

        fn nothing() -> Self {
            Self(None)
        }
    }

    impl Drop for Does {
        fn drop(&mut self) {
            if let Some(f) = self.0.take() {
                f();
            }
        }
    }

    #[test]
    fn a_drop_may_send_and_receive_on_the_channel_the_message_came_from() {
        for caller in CALLERS {
            for (tx, rx) in with_buffer() {
                caller
                    .run(move || {
                        let (tx2, rx2) = (tx.clone(), rx.clone());
                        let message = Does::it(move || {
                            tx2.send(Does::nothing()).unwrap();
                            assert!(rx2.recv().is_ok());
                            assert_eq!(rx2.try_recv().err(), Some(TryRecvError::Empty));
                        });
                        tx.send(message).unwrap();
                        drop(rx.recv());
                        assert!(rx.is_empty());
                    })
                    .join();
            }
        }
    }

    #[test]
    fn a_drop_may_close_the_channel() {
        for (tx, rx) in with_buffer() {
            let tx2 = tx.clone();
            tx.send(Does::it(move || assert!(tx2.close()))).unwrap();
            tx.send(Does::nothing()).unwrap();
            drop(rx.recv());
            assert!(tx.is_closed());
            assert!(rx.recv().is_ok());
            assert_eq!(rx.recv().err(), Some(RecvError));
        }
    }

    #[test]
    fn a_drop_in_the_buffer_meets_a_closed_channel_that_is_not_locked() {
        for caller in CALLERS {
            for (tx, rx) in with_buffer() {
                caller
                    .run(move || {
                        let done = Arc::new(AtomicUsize::new(0));
                        for _ in 0..3 {
                            let (tx2, done) = (tx.clone(), Arc::clone(&done));
                            let message = Does::it(move || {
                                assert!(tx2.is_closed() && tx2.is_empty() && !tx2.close());
                                assert!(tx2.send(Does::nothing()).is_err());
                                assert!(tx2.try_send(Does::nothing()).is_err());
                                assert_eq!(tx2.send_many([Does::nothing()]).unwrap_err().sent, 0);
                                done.fetch_add(1, Ordering::Relaxed);
                            });
                            tx.send(message).unwrap();
                        }
                        drop(rx);
                        assert_eq!(done.load(Ordering::Relaxed), 3);
                    })
                    .join();
            }
        }
    }

    #[test]
    fn a_drop_may_drop_the_last_handles_of_its_own_channel() {
        for caller in CALLERS {
            for (tx, rx) in with_buffer() {
                caller
                    .run(move || {
                        // The message holds the last sender; the receiver that drops it is the last one too.
                        let tx2 = tx.clone();
                        tx.send(Does::it(move || drop(tx2))).unwrap();
                        drop(tx);
                        drop(rx);
                    })
                    .join();
            }
            // Both handles go with the message, after it was received.
            for (tx, rx) in with_buffer() {
                let received = caller.run(move || {
                    let (tx2, rx2) = (tx.clone(), rx.clone());
                    tx.send(Does::it(move || drop((tx2, rx2)))).unwrap();
                    rx.recv().unwrap()
                });
                drop(received.join());
            }
        }
    }

    #[test]
    fn the_message_of_a_send_that_fails_may_use_the_channel() {
        for (tx, rx) in each_channel() {
            rx.close();
            let tx2 = tx.clone();
            let message = Does::it(move || assert!(tx2.send(Does::nothing()).is_err()));
            drop(tx.send(message));
        }
    }

    #[test]
    fn an_iterator_over_messages_that_send_more_sees_them_all() {
        for (tx, rx) in with_buffer() {
            let left = Arc::new(AtomicUsize::new(100));
            fn one(tx: &Sender<Does>, left: &Arc<AtomicUsize>) -> Does {
                let (tx, left) = (tx.clone(), Arc::clone(left));
                Does::it(move || {
                    if left.fetch_sub(1, Ordering::Relaxed) > 1 {
                        tx.send(one(&tx, &left)).unwrap();
                    }
                })
            }
            tx.send(one(&tx, &left)).unwrap();
            drop(tx);
            // The channel closes when the last message, which holds the last sender, is dropped.
            assert_eq!(rx.iter().count(), 100);
        }
    }
}

mod sizes {
    use super::*;

    #[test]
    fn messages_without_size_are_dropped_once_each() {
        static DROPS: AtomicUsize = AtomicUsize::new(0);

        struct Nothing;

        impl Drop for Nothing {
            fn drop(&mut self) {
                DROPS.fetch_add(1, Ordering::SeqCst);
            }
        }

        let mut count = 0;
        for (tx, rx) in [bounded(100_000), unbounded(), bounded(isize::MAX as usize)] {
            (0..70_000).for_each(|_| assert!(tx.send(Nothing).is_ok()));
            assert_eq!(rx.try_iter().take(66_000).count(), 66_000);
            assert_eq!(rx.len(), 4_000);
            drop(rx);
            count += 70_000;
            assert_eq!(DROPS.load(Ordering::SeqCst), count);
            assert!(tx.send(Nothing).is_err());
            count += 1;
            assert_eq!(DROPS.load(Ordering::SeqCst), count);
        }
        // Handed over, and given back.
        let (tx, rx) = bounded(0);
        let sender = csp::spawn(move || (0..1_000).filter(|_| tx.send(Nothing).is_ok()).count());
        assert_eq!(rx.iter().take(500).count(), 500);
        drop(rx);
        assert_eq!(sender.join().unwrap(), 500);
        assert_eq!(DROPS.load(Ordering::SeqCst), count + 1_000);
    }

    #[test]
    fn capacities_without_end_are_refused_as_by_crossbeam() {
        fn panic<T>(f: impl FnOnce() -> T) -> Option<String> {
            let panic = catch_unwind(AssertUnwindSafe(|| drop(f()))).err()?;
            let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
            Some(text.or_else(|| panic.downcast_ref::<String>().cloned()).expect("a panic has a text"))
        }

        let half = isize::MAX as usize + 1;
        for cap in [usize::MAX, usize::MAX - 1, half] {
            let refusal = panic(|| bounded::<u8>(cap));
            assert_eq!(refusal.as_deref(), Some("bounded channel capacity is too large"));
            assert_eq!(panic(|| crossbeam_channel::bounded::<u8>(cap)), refusal);
            assert_eq!(panic(|| bounded::<()>(cap)), refusal);
            assert_eq!(panic(|| crossbeam_channel::bounded::<()>(cap)), refusal);
        }
        // As a number it is not too large, but there cannot be so much memory.
        let words = isize::MAX as usize / size_of::<u64>() + 1;
        assert!(panic(|| bounded::<u64>(words)).is_some());
        assert!(panic(|| crossbeam_channel::bounded::<u64>(words)).is_some());
        // What has no size needs none; in crossbeam's it has a stamp.
        assert_eq!(panic(|| bounded::<()>(isize::MAX as usize)), None);
        assert!(panic(|| crossbeam_channel::bounded::<()>(isize::MAX as usize)).is_some());
    }

    #[test]
    fn a_rendezvous_of_what_has_no_size_is_still_one() {
        for [sends, receives] in PAIRS {
            let (tx, rx) = bounded(0);
            let passed = Arc::new(AtomicBool::new(false));
            let received = {
                let passed = Arc::clone(&passed);
                receives.run(move || {
                    assert!(!passed.swap(true, Ordering::SeqCst));
                    rx.recv()
                })
            };
            sends
                .run(move || {
                    tx.send(()).unwrap();
                    assert!(passed.load(Ordering::SeqCst));
                })
                .join();
            assert_eq!(received.join(), Ok(()));
        }
        let (tx, rx) = bounded::<()>(0);
        assert_eq!(tx.try_send(()), Err(TrySendError::Full(())));
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        assert_eq!(Caller::Goroutine.run(move || rx.recv_timeout(Duration::from_millis(1))).join(), {
            Err(RecvTimeoutError::Timeout)
        });
        drop(tx);
    }
}
