//! Messages of 64 KiB by value, in goroutines with the default stack, of which they fill a quarter.
//!
//! Without optimisation a value that passes through a function is on the stack several times. What of that is csp's own
//! part is what is tested here, so results are not unwrapped, which would be another copy; and `select!`, whose places are
//! in the frame of the user's function, and a `try_send` that is refused, take less.

mod support;

use std::time::Duration;

use csp::channel::{Receiver, Sender, bounded, unbounded};
use csp::{JoinHandle, select};
use support::in_child;

/// A message of `N` bytes.
type Message<const N: usize> = [u8; N];

const LARGE: usize = 64 << 10;
/// For what has more places for a message on the stack without optimisation.
const LESS: usize = if cfg!(debug_assertions) { 16 << 10 } else { LARGE };
/// More than a wait takes.
const LONG: Duration = Duration::from_secs(100);
const COUNT: u8 = 20;

fn each_channel<const N: usize>() -> Vec<(Sender<Message<N>>, Receiver<Message<N>>)> {
    vec![bounded(0), bounded(4), unbounded()]
}

#[inline(never)]
fn check<const N: usize>(message: &Message<N>, n: u8) {
    assert!(message.iter().all(|&byte| byte == n));
}

/// Starts a goroutine that sends the numbers to `COUNT` by `send`.
fn sends<const N: usize>(tx: Sender<Message<N>>, send: fn(&Sender<Message<N>>, u8)) -> JoinHandle<()> {
    csp::spawn(move || (0..COUNT).for_each(|n| send(&tx, n)))
}

/// Starts a goroutine that receives the numbers to `COUNT` by `receive`.
fn receives<const N: usize>(rx: Receiver<Message<N>>, receive: fn(&Receiver<Message<N>>, u8)) -> JoinHandle<()> {
    csp::spawn(move || (0..COUNT).for_each(|n| receive(&rx, n)))
}

/// Runs each way to send against each way to receive, over each kind of channel, with one and with two processors: so that
/// each side waits for the other, and neither. An overflow ends the process, so it is another one.
fn all_pass<const N: usize>(senders: &[fn(&Sender<Message<N>>, u8)], receivers: &[fn(&Receiver<Message<N>>, u8)]) {
    for procs in ["1", "2"] {
        in_child(&[("GOMAXPROCS", procs)], || {
            for &send in senders {
                for &receive in receivers {
                    for receiver_first in [false, true] {
                        for (tx, rx) in each_channel() {
                            let early = receiver_first.then(|| receives(rx.clone(), receive));
                            let sender = sends(tx, send);
                            early.unwrap_or_else(|| receives(rx, receive)).join().unwrap();
                            sender.join().unwrap();
                        }
                    }
                }
            }
        })
        .expect_success();
    }
}

#[test]
fn send_and_recv() {
    all_pass::<LARGE>(
        &[|tx, n| assert!(tx.send([n; _]).is_ok()), |tx, n| assert!(tx.send_timeout([n; _], LONG).is_ok())],
        &[
            |rx, n| check(&rx.recv().unwrap(), n),
            |rx, n| match rx.recv() {
                Ok(message) => check(&message, n),
                Err(error) => panic!("{error}"),
            },
            |rx, n| check(&rx.recv_timeout(LONG).unwrap(), n),
            |rx, n| {
                while rx.try_recv().map(|message| check(&message, n)).is_err() {
                    csp::yield_now();
                }
            },
        ],
    );
}

#[test]
fn try_send() {
    all_pass::<LESS>(
        &[|tx, n| {
            while tx.try_send([n; _]).is_err() {
                csp::yield_now();
            }
        }],
        &[|rx, n| check(&rx.recv().unwrap(), n)],
    );
}

#[test]
fn iterators() {
    all_pass::<LARGE>(
        &[|tx, n| assert!(tx.send([n; _]).is_ok())],
        &[
            |rx, n| check(&rx.iter().next().unwrap(), n),
            |rx, n| {
                if n == 0 {
                    let mut next = 0;
                    for message in rx.clone() {
                        check(&message, next);
                        next += 1;
                    }
                    assert_eq!(next, COUNT);
                }
            },
            |rx, n| {
                while rx.try_iter().next().map(|message| check(&message, n)).is_none() {
                    csp::yield_now();
                }
            },
        ],
    );
}

#[test]
fn select() {
    all_pass::<LESS>(
        &[
            |tx, n| {
                select! {
                    tx <- [n; _] => {}
                    <-csp::never::<()>() => unreachable!(),
                }
            },
            |tx, n| {
                select! {
                    send(tx, [n; _]) -> result => assert!(result.is_ok()),
                    default(LONG) => unreachable!(),
                }
            },
            |tx, n| {
                let mut sent = false;
                while !sent {
                    select! {
                        tx <- [n; _] => sent = true,
                        default => csp::yield_now(),
                    }
                }
            },
        ],
        &[
            |rx, n| {
                select! {
                    message = <-rx => check(&message.unwrap(), n),
                    <-csp::never::<()>() => unreachable!(),
                }
            },
            |rx, n| {
                select! {
                    Ok(message) = <-rx => check(&message, n),
                    default(LONG) => unreachable!(),
                }
            },
        ],
    );
}

#[test]
fn batches() {
    in_child(&[], || {
        for (tx, rx) in each_channel::<LARGE>() {
            let sender = csp::spawn(move || {
                let batch = (0..COUNT).map(|n| vec![[n; LARGE]]).reduce(|mut all, one| {
                    all.extend(one);
                    all
                });
                assert!(tx.send_many(batch.unwrap()).is_ok());
            });
            let receiver = csp::spawn(move || {
                let mut all = Vec::new();
                while rx.recv_many(&mut all, 3).is_ok() {}
                (0..).zip(&all).for_each(|(n, message)| check(message, n));
                assert_eq!(all.len(), usize::from(COUNT));
            });
            sender.join().unwrap();
            receiver.join().unwrap();
        }
    })
    .expect_success();
}

#[test]
fn what_is_not_sent_comes_back() {
    in_child(&[], || {
        for (tx, rx) in each_channel::<{ LARGE / 2 }>() {
            let sender = csp::spawn(move || {
                rx.close();
                match tx.send([7; _]) {
                    Ok(()) => panic!("sent to a closed channel"),
                    Err(error) => check(&error.0, 7),
                }
            });
            sender.join().unwrap();
        }
        let (tx, rx) = bounded::<Message<{ LARGE / 2 }>>(0);
        let waiting = csp::spawn(move || tx.send([8; _]).is_err_and(|error| error.0[LARGE / 2 - 1] == 8));
        csp::yield_now();
        drop(rx);
        assert!(waiting.join().unwrap());
    })
    .expect_success();
}
