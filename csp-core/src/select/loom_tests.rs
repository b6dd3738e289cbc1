//! Selects under Loom. The bounds are argued in `chan::loom_tests`.

use std::time::Duration;

use loom::thread;

use super::{Order, poll, recv, send, wait, wait_timeout};
use crate::chan::handle::{Receiver, Sender, bounded};
use crate::chan::loom_tests::{Message, NO_BOUND, model};

/// A timeout, which comes when Loom likes it to.
const SOME_DAY: Duration = Duration::from_secs(3600);

/// Sends on one or receives from the other. Says what it sent and what it received.
fn send_or_recv(tx: &Sender<Message>, rx: &Receiver<Message>, number: u32) -> (u32, u32) {
    let (mut out, mut into) = (send(tx, Message::new(number)), recv(rx));
    match wait(Order::Random, [out.arm(), into.arm()]) {
        0 => {
            assert!(out.finish().is_ok());
            (number, 0)
        }
        _ => (0, into.finish().ok().unwrap().number()),
    }
}

#[test]
fn loom_select_against_senders() {
    model(Some(4), || {
        let [(tx, rx), (tx2, rx2)] = [bounded(0), bounded(0)];
        let sender = thread::spawn(move || (tx.send(Message::new(1)).is_ok(), tx));
        let sender2 = thread::spawn(move || (tx2.send(Message::new(2)).is_ok(), tx2));
        let mut sum = 0;
        for _ in 0..2 {
            let (mut a, mut b) = (recv(&rx), recv(&rx2));
            sum += match wait(Order::Random, [a.arm(), b.arm()]) {
                0 => a.finish().ok().unwrap().number(),
                _ => b.finish().ok().unwrap().number(),
            };
            if sum == 3 {
                break;
            }
            // The channel already served stays open: its handle is kept by the thread's result.
        }
        assert_eq!(sum, 3);
        assert!(sender.join().unwrap().0 && sender2.join().unwrap().0);
    });
}

#[test]
fn loom_select_against_select_in_both_roles() {
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
fn loom_select_against_select_on_one_channel() {
    model(NO_BOUND, || {
        let (tx, rx) = bounded(0);
        let (tx2, rx2) = (tx.clone(), rx.clone());
        let other = thread::spawn(move || send_or_recv(&tx2, &rx2, 1));
        let (sent, received) = send_or_recv(&tx, &rx, 2);
        assert_eq!(other.join().unwrap(), (received, sent));
    });
}

#[test]
fn loom_two_wakers_claim_a_select_once() {
    model(Some(3), || {
        let [(tx, rx), (tx2, rx2)] = [bounded(0), bounded(0)];
        let wakers = [
            thread::spawn(move || tx.try_send(Message::new(1)).is_ok()),
            thread::spawn(move || tx2.try_send(Message::new(2)).is_ok()),
        ];
        let (mut a, mut b) = (recv(&rx), recv(&rx2));
        let got = match wait_timeout(Order::Random, [a.arm(), b.arm()], SOME_DAY) {
            0 => a.finish().map(|m| m.number()).unwrap_or(0),
            1 => b.finish().map(|m| m.number()).unwrap_or(0),
            _ => 0,
        };
        let [one, two] = wakers.map(|waker| waker.join().unwrap());
        assert_eq!(u32::from(one) + 2 * u32::from(two), got);
    });
}

#[test]
fn loom_select_with_timeout_against_sender() {
    model(Some(4), || {
        let (tx, rx) = bounded(0);
        let sender =
            thread::spawn(move || tx.send_deadline(Message::new(1), crate::primitive::now() + SOME_DAY).is_ok());
        let mut a = recv(&rx);
        let received = match wait_timeout(Order::Random, [a.arm()], SOME_DAY) {
            0 => a.finish().is_ok(),
            _ => false,
        };
        drop(a);
        assert_eq!(sender.join().unwrap(), received);
    });
}

#[test]
fn loom_close_against_select() {
    model(NO_BOUND, || {
        let [(tx, rx), (_tx2, rx2)] = [bounded::<Message>(0), bounded::<Message>(0)];
        let closer = thread::spawn(move || tx.close());
        let (mut a, mut b) = (recv(&rx), recv(&rx2));
        assert_eq!(wait(Order::Random, [b.arm(), a.arm()]), 1);
        assert!(a.finish().is_err());
        assert!(closer.join().unwrap());
    });
}

#[test]
fn loom_poll_against_waiting_sender() {
    model(NO_BOUND, || {
        let (tx, rx) = bounded(0);
        let sender = thread::spawn(move || tx.send(Message::new(1)).is_ok());
        let mut a = recv(&rx);
        let received = poll(Order::Random, [a.arm()]) == 0 && a.finish().is_ok();
        drop(a);
        drop(rx);
        assert_eq!(sender.join().unwrap(), received);
    });
}
