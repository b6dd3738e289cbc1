//! Offers, grants and watchers under Loom: `Select`, and the arms whose message is made when they were chosen. The bounds
//! are argued in `chan::loom_tests`.

use std::time::{Duration, Instant};

use loom::thread;

use super::{Granted, Order, Select, offer, poll, recv, wait, wait_timeout};
use crate::chan::error::{RecvTimeoutError, TryRecvError};
use crate::chan::handle::{Receiver, Sender, bounded, unbounded};
use crate::chan::loom_tests::{Message, NO_BOUND, model};

/// A deadline, which comes when Loom likes it to.
fn some_day() -> Instant {
    crate::primitive::now() + SOME_DAY
}

const SOME_DAY: Duration = Duration::from_secs(3600);

/// Waits for the right to send.
fn granted(tx: &Sender<Message>) -> Granted<Message> {
    let mut a = offer(tx);
    assert_eq!(wait(Order::Random, [a.arm()]), 0);
    a.finish()
}

/// Sends by a `Select`. Says whether the channel took the message.
fn select_send(tx: &Sender<Message>, number: u32) -> bool {
    let mut select = Select::new();
    select.send(tx);
    select.select().send(tx, Message::new(number)).is_ok()
}

/// Receives by a `Select`.
fn select_recv(rx: &Receiver<Message>) -> Option<u32> {
    let mut select = Select::new();
    select.recv(rx);
    select.select().recv(rx).ok().map(|m| m.number())
}

#[test]
fn loom_offer_against_recv() {
    for cap in [0, 1] {
        model(NO_BOUND, move || {
            let (tx, rx) = bounded(cap);
            let sender = thread::spawn(move || select_send(&tx, 7));
            assert_eq!(rx.recv().ok().map(|m| m.number()), Some(7));
            assert!(sender.join().unwrap());
            assert!(rx.recv().is_err());
        });
    }
}

#[test]
fn loom_offer_against_try_recv() {
    for cap in [0, 1] {
        model(NO_BOUND, move || {
            let (tx, rx) = bounded(cap);
            let sender = thread::spawn(move || select_send(&tx, 7));
            let first = match rx.try_recv() {
                Err(TryRecvError::Empty) => rx.recv().ok(),
                other => other.ok(),
            };
            assert_eq!(first.map(|m| m.number()), Some(7));
            assert!(sender.join().unwrap());
        });
    }
}

#[test]
fn loom_offer_against_a_selected_receive() {
    for cap in [0, 1] {
        model(NO_BOUND, move || {
            let (tx, rx) = bounded(cap);
            let sender = thread::spawn(move || select_send(&tx, 7));
            assert_eq!(select_recv(&rx), Some(7));
            assert!(sender.join().unwrap());
            assert_eq!(select_recv(&rx), None);
        });
    }
}

#[test]
fn loom_unbounded_offer_against_drop_of_the_receiver() {
    model(NO_BOUND, || {
        let (tx, rx) = unbounded();
        let sender = thread::spawn(move || select_send(&tx, 7));
        let received = rx.try_recv().is_ok();
        drop(rx);
        assert!(sender.join().unwrap() || !received);
    });
}

/// Sends on one or receives from the other, by a `Select`. Says what it sent and what it received.
fn send_or_recv(tx: &Sender<Message>, rx: &Receiver<Message>, number: u32) -> (u32, u32) {
    let mut select = Select::new();
    let send = select.send(tx);
    select.recv(rx);
    let operation = select.select();
    if operation.index() == send {
        assert!(operation.send(tx, Message::new(number)).is_ok());
        (number, 0)
    } else {
        (0, operation.recv(rx).ok().unwrap().number())
    }
}

#[test]
fn loom_offers_against_offers_in_both_roles() {
    model(NO_BOUND, || {
        let [(tx, rx), (tx2, rx2)] = [bounded(0), bounded(0)];
        let (tx_b, rx_b) = (tx.clone(), rx2.clone());
        let other = thread::spawn(move || send_or_recv(&tx_b, &rx_b, 1));
        let (sent, received) = send_or_recv(&tx2, &rx, 2);
        assert_eq!(other.join().unwrap(), (received, sent));
        assert_eq!(sent + received, sent.max(received));
    });
}

#[test]
fn loom_offers_against_offers_on_one_channel() {
    model(NO_BOUND, || {
        let (tx, rx) = bounded(0);
        let (tx2, rx2) = (tx.clone(), rx.clone());
        let other = thread::spawn(move || send_or_recv(&tx2, &rx2, 1));
        let (sent, received) = send_or_recv(&tx, &rx, 2);
        assert_eq!(other.join().unwrap(), (received, sent));
    });
}

#[test]
fn loom_two_receivers_claim_an_offer_once() {
    model(Some(3), || {
        let [(tx, rx), (tx2, rx2)] = [bounded::<Message>(0), bounded(0)];
        let receivers = [rx, rx2].map(|rx| thread::spawn(move || rx.try_recv().ok().map(|m| m.number())));
        let (mut a, mut b) = (offer(&tx), offer(&tx2));
        let sent = match wait_timeout(Order::Random, [a.arm(), b.arm()], SOME_DAY) {
            0 => a.finish().send(Message::new(1)).is_ok().then_some(1),
            1 => b.finish().send(Message::new(2)).is_ok().then_some(2),
            _ => None,
        };
        drop((a, b));
        let [one, two] = receivers.map(|receiver| receiver.join().unwrap());
        assert!(one.is_none() || two.is_none());
        assert_eq!(one.or(two), sent);
    });
}

#[test]
fn loom_a_given_up_offer_keeps_no_receiver() {
    for cap in [0, 1] {
        model(NO_BOUND, move || {
            let (tx, rx) = bounded(cap);
            let sender = thread::spawn(move || {
                drop(granted(&tx));
                assert!(tx.send(Message::new(2)).is_ok());
            });
            assert_eq!(rx.recv().ok().map(|m| m.number()), Some(2));
            sender.join().unwrap();
        });
    }
}

#[test]
fn loom_a_given_up_offer_keeps_no_receiver_with_a_deadline() {
    for cap in [0, 1] {
        model(Some(4), move || {
            let (tx, rx) = bounded(cap);
            let sender = thread::spawn(move || {
                let mut a = offer(&tx);
                if poll(Order::Random, [a.arm()]) == 0 {
                    drop(a.finish());
                }
                drop(a);
                tx.try_send(Message::new(2)).is_ok()
            });
            let received = rx.recv_deadline(some_day());
            let sent = sender.join().unwrap();
            match received {
                Ok(message) => assert!(sent && message.number() == 2),
                Err(RecvTimeoutError::Timeout) => assert_eq!(sent, rx.try_recv().is_ok()),
                Err(RecvTimeoutError::Disconnected) => assert!(!sent),
            }
        });
    }
}

#[test]
fn loom_a_given_up_offer_keeps_no_select() {
    model(Some(4), || {
        let [(tx, rx), (tx2, rx2)] = [bounded(0), bounded(0)];
        let sender = thread::spawn(move || {
            drop(granted(&tx));
            assert!(tx2.send(Message::new(2)).is_ok());
            tx
        });
        let (mut a, mut b) = (recv(&rx), recv(&rx2));
        assert_eq!(wait(Order::Random, [a.arm(), b.arm()]), 1);
        assert_eq!(b.finish().ok().map(|m| m.number()), Some(2));
        sender.join().unwrap();
    });
}

#[test]
fn loom_reserved_room_is_not_taken_by_another() {
    model(Some(4), || {
        let (tx, rx) = bounded(1);
        let grant = granted(&tx);
        let sender = thread::spawn(move || assert!(tx.send(Message::new(2)).is_ok()));
        let receiver = thread::spawn(move || {
            let first = rx.recv().unwrap().number();
            first + 10 * rx.recv().unwrap().number()
        });
        assert!(grant.send(Message::new(1)).is_ok());
        sender.join().unwrap();
        let received = receiver.join().unwrap();
        assert!(received == 12 || received == 21);
    });
}

#[test]
fn loom_room_that_is_given_up_goes_to_who_waits() {
    // A sender with a message, and an offer.
    for by_offer in [false, true] {
        model(NO_BOUND, move || {
            let (tx, rx) = bounded(1);
            let grant = granted(&tx);
            let sender = thread::spawn(move || {
                assert!(if by_offer { select_send(&tx, 2) } else { tx.send(Message::new(2)).is_ok() });
            });
            drop(grant);
            assert_eq!(rx.recv().ok().map(|m| m.number()), Some(2));
            sender.join().unwrap();
            assert!(rx.try_recv().is_err());
        });
    }
}

#[test]
fn loom_room_made_by_a_receive_goes_to_the_offer() {
    model(NO_BOUND, || {
        let (tx, rx) = bounded(1);
        assert!(tx.send(Message::new(1)).is_ok());
        let sender = thread::spawn(move || assert!(select_send(&tx, 2)));
        assert_eq!(rx.recv().ok().map(|m| m.number()), Some(1));
        assert_eq!(rx.recv().ok().map(|m| m.number()), Some(2));
        sender.join().unwrap();
    });
}

#[test]
fn loom_close_against_an_offer() {
    for cap in [0, 1] {
        model(NO_BOUND, move || {
            let (tx, rx) = bounded(cap);
            let (tx2, rx2) = (tx.clone(), rx.clone());
            let sender = thread::spawn(move || select_send(&tx2, 1));
            let receiver = thread::spawn(move || rx2.recv().is_ok());
            assert!(tx.close());
            let (sent, received) = (sender.join().unwrap(), receiver.join().unwrap());
            // What was sent is received or still there.
            assert_eq!(sent, received || rx.try_recv().is_ok());
            assert_eq!(rx.try_recv().err(), Some(TryRecvError::Disconnected));
        });
    }
}

#[test]
fn loom_drop_of_the_receiver_against_a_grant() {
    for cap in [0, 1] {
        model(NO_BOUND, move || {
            let (tx, rx) = bounded(cap);
            // A message that is not given back is dropped with the receiver: Loom counts.
            let sender = thread::spawn(move || select_send(&tx, 1));
            drop(rx);
            assert!(!sender.join().unwrap() || cap == 1);
        });
    }
}

#[test]
fn loom_offer_with_timeout_against_receiver_with_deadline() {
    model(Some(3), || {
        let (tx, rx) = bounded(0);
        let receiver = thread::spawn(move || rx.recv_deadline(some_day()).is_ok());
        let mut select = Select::new();
        select.send(&tx);
        let sent = match select.select_timeout(SOME_DAY) {
            Ok(operation) => operation.send(&tx, Message::new(1)).is_ok(),
            Err(_) => false,
        };
        assert_eq!(receiver.join().unwrap(), sent);
    });
}

/// Receives when a `Select` says that this is possible.
fn recv_when_ready(rx: &Receiver<Message>) -> Option<u32> {
    let mut select = Select::new();
    select.recv(rx);
    loop {
        assert_eq!(select.ready(), 0);
        match rx.try_recv() {
            Ok(message) => return Some(message.number()),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return None,
        }
    }
}

#[test]
fn loom_a_watcher_sees_a_sender_come() {
    for cap in [0, 1] {
        model(NO_BOUND, move || {
            let (tx, rx) = bounded(cap);
            let sender = thread::spawn(move || assert!(tx.send(Message::new(1)).is_ok()));
            assert_eq!(recv_when_ready(&rx), Some(1));
            sender.join().unwrap();
        });
    }
}

#[test]
fn loom_a_watcher_sees_an_offer_come() {
    for cap in [0, 1] {
        model(NO_BOUND, move || {
            let (tx, rx) = bounded(cap);
            let sender = thread::spawn(move || assert!(select_send(&tx, 1)));
            assert_eq!(recv_when_ready(&rx), Some(1));
            sender.join().unwrap();
        });
    }
}

#[test]
fn loom_a_watcher_sees_the_channel_closed() {
    model(NO_BOUND, || {
        let (tx, rx) = bounded(1);
        let closer = thread::spawn(move || drop(tx));
        assert_eq!(recv_when_ready(&rx), None);
        closer.join().unwrap();
    });
}

#[test]
fn loom_a_watcher_sees_room_and_a_receiver() {
    for cap in [0, 1] {
        model(NO_BOUND, move || {
            let (tx, rx) = bounded(cap);
            (0..cap).for_each(|_| assert!(tx.send(Message::new(0)).is_ok()));
            let receiver = thread::spawn(move || (rx.recv().unwrap().number(), rx));
            let mut select = Select::new();
            select.send(&tx);
            loop {
                assert_eq!(select.ready(), 0);
                if tx.try_send(Message::new(1)).is_ok() {
                    break;
                }
            }
            assert_eq!(receiver.join().unwrap().0, 1 - cap as u32);
        });
    }
}

#[test]
fn loom_a_watcher_with_a_deadline_leaves_no_trace() {
    model(Some(3), || {
        let (tx, rx) = bounded(0);
        let sender = thread::spawn(move || tx.send_deadline(Message::new(1), some_day()).is_ok());
        let mut select = Select::new();
        select.recv(&rx);
        let received = select.ready_timeout(SOME_DAY).is_ok() && rx.try_recv().is_ok();
        drop(rx);
        assert_eq!(sender.join().unwrap(), received);
    });
}

#[test]
fn loom_all_watchers_are_told() {
    model(Some(3), || {
        let (tx, rx) = bounded(1);
        let rx2 = rx.clone();
        let watcher = thread::spawn(move || {
            let mut select = Select::new();
            select.recv(&rx2);
            select.ready()
        });
        let sender = thread::spawn(move || (tx.send(Message::new(1)).is_ok(), tx));
        let mut select = Select::new();
        select.recv(&rx);
        // The message stays where it is, so both of them see it.
        assert_eq!(select.ready(), 0);
        assert_eq!(watcher.join().unwrap(), 0);
        assert!(sender.join().unwrap().0);
    });
}

#[test]
fn loom_watcher_against_select_on_two_channels() {
    model(Some(3), || {
        let [(tx, rx), (tx2, rx2)] = [bounded(0), bounded(0)];
        let (tx_b, tx2_b) = (tx.clone(), tx2.clone());
        let sender = thread::spawn(move || {
            let mut select = Select::new();
            let first = select.send(&tx_b);
            select.send(&tx2_b);
            let operation = select.select();
            let tx = if operation.index() == first { &tx_b } else { &tx2_b };
            assert!(operation.send(tx, Message::new(1)).is_ok());
        });
        let receivers = [&rx, &rx2];
        let mut select = Select::new();
        receivers.iter().for_each(|rx| _ = select.recv(rx));
        loop {
            let index = select.ready();
            if let Ok(message) = receivers[index].try_recv() {
                assert_eq!(message.number(), 1);
                break;
            }
        }
        sender.join().unwrap();
    });
}
