//! The channel's protocols under Loom, with plain threads as the ones that wait.
//!
//! Two threads with one or two operations each are explored without a bound: every interleaving. Where three or more
//! threads meet, the number of preemptions is bounded by 3 or 4: an operation of this protocol is one or two critical
//! sections and one claim, so that is enough to cut each of two operations into all of its parts and to put any third
//! operation, which then runs to its end or until it waits, between any of them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::error::{RecvError, RecvTimeoutError, SendTimeoutError, TryRecvError};
use super::handle::{bounded, unbounded};

/// A message whose contents Loom watches for races, and whose loss it reports as a leak.
pub(crate) struct Message {
    number: UnsafeCell<u32>,
    _alive: Arc<()>,
}

impl Message {
    pub(crate) fn new(number: u32) -> Self {
        let this = Self { number: UnsafeCell::new(0), _alive: Arc::new(()) };
        // SAFETY: ours alone.
        this.number.with_mut(|place| unsafe { *place = number });
        this
    }

    pub(crate) fn number(&self) -> u32 {
        // A write, so that Loom finds two who both believe that the message is theirs.
        // SAFETY: whoever has the message has it alone; Loom checks just that.
        self.number.with_mut(|place| unsafe { *place })
    }
}

/// Every interleaving.
pub(crate) const NO_BOUND: Option<usize> = None;

/// Explores `f` with at most so many preemptions, and prints how many executions there were.
#[track_caller]
pub(crate) fn model(preemptions: Option<usize>, f: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = preemptions;
    let executions = std::sync::Arc::new(AtomicUsize::new(0));
    let counter = std::sync::Arc::clone(&executions);
    model.check(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        f();
    });
    let line = std::panic::Location::caller().line();
    println!("line {line}: {} executions", executions.load(Ordering::Relaxed));
}

/// A deadline, which comes when Loom likes it to.
fn some_day() -> Instant {
    crate::primitive::now() + Duration::from_secs(3600)
}

#[test]
fn loom_rendezvous() {
    model(NO_BOUND, || {
        let (tx, rx) = bounded(0);
        let sender = thread::spawn(move || tx.send(Message::new(7)).is_ok());
        assert_eq!(rx.recv().map(|m| m.number()), Ok(7));
        assert!(sender.join().unwrap());
        assert_eq!(rx.recv().err(), Some(RecvError));
    });
}

#[test]
fn loom_buffered() {
    model(NO_BOUND, || {
        let (tx, rx) = bounded(1);
        let sender = thread::spawn(move || (1..=3).for_each(|n| assert!(tx.send(Message::new(n)).is_ok())));
        for n in 1..=3 {
            assert_eq!(rx.recv().map(|m| m.number()), Ok(n));
        }
        sender.join().unwrap();
        assert_eq!(rx.recv().err(), Some(RecvError));
    });
}

#[test]
fn loom_room_in_the_buffer_goes_to_the_sender_that_waits() {
    model(NO_BOUND, || {
        let (tx, rx) = bounded(1);
        assert!(tx.send(Message::new(1)).is_ok());
        let sender = thread::spawn(move || (tx.send(Message::new(2)).is_ok(), tx));
        assert_eq!(rx.recv().map(|m| m.number()), Ok(1));
        // Nobody receives before it has sent.
        assert!(sender.join().unwrap().0);
        assert_eq!(rx.try_recv().map(|m| m.number()), Ok(2));
    });
}

#[test]
fn loom_unbounded() {
    model(Some(4), || {
        let (tx, rx) = unbounded();
        let tx2 = tx.clone();
        let senders = [thread::spawn(move || tx.send(Message::new(1)).is_ok()), {
            thread::spawn(move || tx2.send(Message::new(2)).is_ok())
        }];
        assert_eq!(rx.iter().map(|m| m.number()).sum::<u32>(), 3);
        assert!(senders.into_iter().all(|sender| sender.join().unwrap()));
    });
}

#[test]
fn loom_two_senders_two_receivers_at_a_rendezvous() {
    model(Some(3), || {
        let (tx, rx) = bounded(0);
        let (tx2, rx2) = (tx.clone(), rx.clone());
        let senders = [
            thread::spawn(move || assert!(tx.send(Message::new(1)).is_ok())),
            thread::spawn(move || assert!(tx2.send(Message::new(2)).is_ok())),
        ];
        let receiver = thread::spawn(move || rx2.recv().unwrap().number());
        assert_eq!(rx.recv().unwrap().number() + receiver.join().unwrap(), 3);
        senders.into_iter().for_each(|sender| sender.join().unwrap());
    });
}

#[test]
fn loom_close_against_recv_and_send() {
    for cap in [0, 1] {
        model(NO_BOUND, move || {
            let (tx, rx) = bounded(cap);
            let (tx2, rx2) = (tx.clone(), rx.clone());
            let sender =
                thread::spawn(move || tx2.send(Message::new(1)).map_err(|e| assert_eq!(e.0.number(), 1)).is_ok());
            let receiver = thread::spawn(move || rx2.recv().map(|m| m.number()));
            assert!(tx.close());
            let sent = sender.join().unwrap();
            let received = receiver.join().unwrap();
            // What was sent is received or still there.
            assert_eq!(sent, received.is_ok() || rx.try_recv().is_ok());
            assert_eq!(rx.try_recv().err(), Some(TryRecvError::Disconnected));
        });
    }
}

#[test]
fn loom_drop_of_the_last_receiver_against_send() {
    for cap in [0, 1] {
        model(NO_BOUND, move || {
            let (tx, rx) = bounded(cap);
            // A message that is not given back is dropped with the receiver: Loom counts.
            let sender = thread::spawn(move || tx.send(Message::new(1)).is_ok());
            drop(rx);
            let sent = sender.join().unwrap();
            assert!(!sent || cap == 1);
        });
    }
}

#[test]
fn loom_drop_of_the_last_sender_against_recv() {
    model(NO_BOUND, || {
        let (tx, rx) = bounded::<Message>(1);
        let receiver = thread::spawn(move || rx.recv().err());
        drop(tx);
        assert_eq!(receiver.join().unwrap(), Some(RecvError));
    });
}

#[test]
fn loom_timed_receiver_against_hand_over() {
    for cap in [0, 1] {
        model(NO_BOUND, move || {
            let (tx, rx) = bounded(cap);
            let sender = thread::spawn(move || tx.try_send(Message::new(1)).is_ok());
            let received = rx.recv_deadline(some_day());
            let sent = sender.join().unwrap();
            match received {
                Ok(message) => assert!(sent && message.number() == 1),
                // Loom's clock strikes any time; then the message is in the buffer or was not sent.
                Err(RecvTimeoutError::Timeout) => assert_eq!(sent, rx.try_recv().is_ok()),
                Err(RecvTimeoutError::Disconnected) => assert!(!sent),
            }
        });
    }
}

#[test]
fn loom_timed_sender_against_hand_over() {
    for cap in [0, 1] {
        model(NO_BOUND, move || {
            let (tx, rx) = bounded(cap);
            (0..cap).for_each(|_| assert!(tx.try_send(Message::new(0)).is_ok()));
            let receiver = thread::spawn(move || {
                let got: Vec<u32> = rx.try_iter().map(|m| m.number()).collect();
                (rx, got)
            });
            let sent = match tx.send_deadline(Message::new(1), some_day()) {
                Ok(()) => true,
                Err(SendTimeoutError::Timeout(message)) => {
                    assert_eq!(message.number(), 1);
                    false
                }
                Err(SendTimeoutError::Disconnected(_)) => unreachable!(),
            };
            let (rx, mut got) = receiver.join().unwrap();
            got.extend(rx.try_iter().map(|m| m.number()));
            assert_eq!(got.contains(&1), sent);
        });
    }
}

#[test]
fn loom_two_timed_waiters_meet_or_part() {
    model(NO_BOUND, || {
        let (tx, rx) = bounded(0);
        let sender = thread::spawn(move || tx.send_deadline(Message::new(1), some_day()).is_ok());
        let received = rx.recv_deadline(some_day()).is_ok();
        assert_eq!(sender.join().unwrap(), received);
    });
}

#[test]
fn loom_empty_and_open_is_told_only_of_the_past() {
    model(NO_BOUND, || {
        let (tx, rx) = bounded(1);
        assert!(tx.send(Message::new(1)).is_ok());
        let closer = thread::spawn(move || tx.close());
        let rx2 = rx.clone();
        let other = thread::spawn(move || rx2.try_recv().is_ok());
        // After the close the channel is never again "empty but open" to anyone who has seen it closed.
        let closed = rx.is_closed();
        if rx.try_recv().err() == Some(TryRecvError::Empty) {
            assert!(!closed);
        }
        assert!(closer.join().unwrap());
        other.join().unwrap();
        rx.try_recv().err();
        assert_eq!(rx.try_recv().err(), Some(TryRecvError::Disconnected));
    });
}

#[test]
fn loom_batches_meet() {
    for cap in [0, 1, 2] {
        model(Some(3), move || {
            let (tx, rx) = bounded(cap);
            let sender = thread::spawn(move || tx.send_many((1..=3).map(Message::new).collect::<Vec<_>>()).is_ok());
            let mut batch = Vec::new();
            while let Ok(count) = rx.recv_many(&mut batch, 2) {
                assert!(count == 1 || count == 2);
            }
            assert!(batch.iter().map(Message::number).eq(1..=3));
            assert!(sender.join().unwrap());
        });
    }
}

#[test]
fn loom_a_batch_through_an_unbounded_channel() {
    model(Some(2), || {
        let (tx, rx) = unbounded();
        let tx2 = tx.clone();
        let senders = [
            thread::spawn(move || tx.send_many([Message::new(1), Message::new(2)]).is_ok()),
            thread::spawn(move || tx2.send(Message::new(8)).is_ok()),
        ];
        let mut batch = Vec::new();
        while rx.recv_many(&mut batch, usize::MAX).is_ok() {}
        assert_eq!(batch.iter().map(Message::number).sum::<u32>(), 11);
        assert!(senders.into_iter().all(|sender| sender.join().unwrap()));
    });
}

#[test]
fn loom_a_batch_against_waiting_senders_and_receivers() {
    for cap in [0, 1] {
        model(Some(3), move || {
            let (tx, rx) = bounded(cap);
            let (tx2, rx2) = (tx.clone(), rx.clone());
            let senders = [
                thread::spawn(move || tx.send(Message::new(1)).is_ok()),
                thread::spawn(move || tx2.send_many([Message::new(2), Message::new(4)]).is_ok()),
            ];
            let one = rx2.recv().unwrap().number();
            let mut batch = Vec::new();
            while rx.recv_many(&mut batch, usize::MAX).is_ok_and(|_| batch.len() < 2) {}
            let rest: u32 = batch.iter().map(Message::number).sum();
            assert_eq!(one + rest, 7);
            assert!(senders.into_iter().all(|sender| sender.join().unwrap()));
        });
    }
}

#[test]
fn loom_close_against_batches() {
    for cap in [0, 1] {
        model(Some(3), move || {
            let (tx, rx) = bounded(cap);
            let sender = thread::spawn(move || match tx.send_many((1..=3).map(Message::new).collect::<Vec<_>>()) {
                Ok(()) => 3,
                Err(error) => {
                    let sent = error.sent as u32;
                    assert!(error.unsent.map(|m| m.number()).eq(sent + 1..=3));
                    sent
                }
            });
            let rx2 = rx.clone();
            let closer = thread::spawn(move || rx2.close());
            let mut batch = Vec::new();
            while rx.recv_many(&mut batch, 2).is_ok() {}
            closer.join().unwrap();
            let sent = sender.join().unwrap();
            while rx.try_recv_many(&mut batch, 2).is_ok() {}
            assert!(batch.iter().map(Message::number).eq(1..=sent));
        });
    }
}
