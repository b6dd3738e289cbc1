// Copyright 2010 The Go Authors. All rights reserved.
// Use of this source code is governed by a BSD-style
// license that can be found in tests/golang/LICENSE.

//! When an operation blocks, when it panics, and when neither: for channels that are nil, closed, empty and full.
//!
//! What differs from Go:
//!
//! | | Go | here |
//! |---|---|---|
//! | send on a closed channel, in a select or not | panics | `Err(SendError(7))`, with the value; `unwrap` panics |
//! | receive from a closed channel | zero value, `ok == false` | `Err(RecvError)` |
//! | close a closed channel | panics | returns `false` |
//! | a nil channel to receive from | `var c chan int` | `csp::never()` |
//! | a nil channel to send on | `var c chan int` | there is none: a condition takes the arm out |
//! | a select of nil channels alone | blocks | with a `never()` among them it blocks |
//! | .. all of which conditions take out | | `else` runs, and without one it panics |

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use csp::channel::{RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError};
use csp::{Receiver, Sender, go, select};

const ALWAYS: &str = "function did not";
const NEVER: &str = "function did";

/// Calls `f` and verifies that it always or never panics.
#[track_caller]
fn test_panic(signal: &str, f: impl FnOnce()) {
    let s = if catch_unwind(AssertUnwindSafe(f)).is_err() { ALWAYS } else { NEVER };
    assert_eq!(s, signal, "{signal} panic");
}

/// Calls `f` and verifies that it always or never blocks: for a tenth of a second, which seems long enough.
#[track_caller]
fn test_block(signal: &str, f: impl FnOnce() + Send + 'static) {
    let (c, done) = csp::bounded(0);
    go!(move || {
        f();
        c.send(NEVER)
    });
    let s = if signal == NEVER {
        done.recv().unwrap_or("function panicked")
    } else {
        select! {
            s = <-done => s.unwrap_or("function panicked"),
            default(Duration::from_millis(100)) => ALWAYS,
        }
    };
    assert_eq!(s, signal, "{signal} block");
}

/// Nobody is there to receive, nor ever will be: for a send, as good as a nil channel.
fn lone() -> (Sender<i32>, Receiver<i32>) {
    csp::bounded(0)
}

fn closed() -> (Sender<i32>, Receiver<i32>) {
    let (tx, rx) = csp::bounded(0);
    assert!(tx.close());
    (tx, rx)
}

#[csp::test]
fn main() {
    const ASYNC: usize = 1; // asynchronous channels

    // sending/receiving from a nil channel blocks
    test_block(ALWAYS, || {
        let (tx, _rx) = lone();
        _ = tx.send(7);
    });
    test_block(ALWAYS, || _ = csp::never::<i32>().recv());

    // sending/receiving from a nil channel inside a select is never selected
    test_panic(NEVER, || {
        let (tx, _rx) = csp::bounded(1);
        select! {
            tx <- 7, if false => unreachable!(),
            default => {}
        }
    });
    test_panic(NEVER, || {
        select! {
            <-csp::never::<i32>() => unreachable!(),
            default => {}
        }
    });

    // sending to an async channel with free buffer space never blocks
    test_block(NEVER, || {
        let (tx, _rx) = csp::bounded(ASYNC);
        tx.send(7).unwrap();
    });

    // receiving from a closed channel never blocks
    test_block(NEVER, || {
        let (_tx, rx) = closed();
        for _ in 0..10 {
            assert_eq!(rx.recv(), Err(RecvError));
        }
    });

    // sending to a closed channel fails, and panics if one says so
    test_panic(NEVER, || assert_eq!(closed().0.send(7), Err(SendError(7))));
    test_panic(ALWAYS, || closed().0.send(7).unwrap());

    // receiving from a non-ready channel always blocks
    test_block(ALWAYS, || {
        let (_tx, rx) = lone();
        _ = rx.recv();
    });

    // empty selects always block
    test_block(ALWAYS, || select! {});

    // selects with only nil channels always block
    test_block(ALWAYS, || {
        select! {
            <-csp::never::<i32>() => unreachable!(),
        }
    });
    test_block(ALWAYS, || {
        let (tx, _rx) = lone();
        select! {
            tx <- 7 => unreachable!(),
        }
    });
    test_block(ALWAYS, || {
        let (tx, _rx) = csp::bounded(1);
        select! {
            <-csp::never::<i32>() => unreachable!(),
            tx <- 7, if false => unreachable!(),
        }
    });
    // but not where all of them were taken out
    test_panic(ALWAYS, || {
        let (tx, _rx) = csp::bounded(1);
        select! {
            tx <- 7, if false => unreachable!(),
        }
    });

    // selects with non-ready non-nil channels always block
    test_block(ALWAYS, || {
        let (_tx, rx) = lone();
        select! {
            <-rx => unreachable!(),
        }
    });

    // selects with default cases don't block
    test_block(NEVER, || {
        select! {
            default => {}
        }
    });
    test_block(NEVER, || {
        select! {
            <-csp::never::<i32>() => unreachable!(),
            default => {}
        }
    });
    test_block(NEVER, || {
        let (tx, _rx) = lone();
        select! {
            tx <- 7 => unreachable!(),
            default => {}
        }
    });

    // selects with ready channels don't block
    test_block(NEVER, || {
        let (tx, _rx) = csp::bounded(ASYNC);
        select! {
            tx <- 7 => {}
            default => unreachable!(),
        }
    });
    test_block(NEVER, || {
        let (tx, rx) = csp::bounded(ASYNC);
        tx.send(7).unwrap();
        select! {
            <-rx => {}
            default => unreachable!(),
        }
    });

    // selects with closed channels behave like ordinary operations
    test_block(NEVER, || {
        select! {
            <-closed().1 => {}
        }
    });
    test_block(NEVER, || {
        select! {
            x = <-closed().1 => assert_eq!(x, Err(RecvError)),
        }
    });
    test_block(NEVER, || {
        select! {
            Ok(_) = <-closed().1 => unreachable!(),
            else => {}
        }
    });
    test_panic(NEVER, || {
        select! {
            closed().0 <- 7 => {}
        }
    });
    test_panic(ALWAYS, || {
        select! {
            sent = closed().0 <- 7 => sent.unwrap(),
        }
    });

    // select should not get confused if it sees itself
    test_block(ALWAYS, || {
        let (tx, rx) = lone();
        select! {
            tx <- 1 => unreachable!(),
            <-rx => unreachable!(),
        }
    });
}

/// Not in Go's program: every operation on every kind of channel.
#[csp::test]
fn every_operation_on_every_kind_of_channel() {
    const SHORT: Duration = Duration::from_millis(1);
    /// What a channel can do without waiting: whether a send goes through, and what a receive gets. `None`: it waits.
    struct Kind {
        name: &'static str,
        channel: fn() -> (Sender<i32>, Receiver<i32>),
        send: Option<Result<(), ()>>,
        recv: Option<Result<i32, ()>>,
    }
    let with_one = || {
        let (tx, rx) = csp::bounded(1);
        tx.send(7).unwrap();
        (tx, rx)
    };
    let kinds = [
        Kind {
            name: "nil",
            channel: || {
                let (tx, rx) = lone();
                std::mem::forget(rx); // nobody receives, and it is not closed
                (tx, csp::never())
            },
            send: None,
            recv: None,
        },
        Kind { name: "without capacity", channel: lone, send: None, recv: None },
        Kind { name: "empty", channel: || csp::bounded(1), send: Some(Ok(())), recv: None },
        Kind { name: "unbounded", channel: csp::unbounded, send: Some(Ok(())), recv: None },
        Kind { name: "full", channel: with_one, send: None, recv: Some(Ok(7)) },
        Kind { name: "closed", channel: closed, send: Some(Err(())), recv: Some(Err(())) },
        Kind {
            name: "closed and full",
            channel: || {
                let (tx, rx) = csp::bounded(1);
                tx.send(7).unwrap();
                rx.close();
                (tx, rx)
            },
            send: Some(Err(())),
            recv: Some(Ok(7)),
        },
    ];
    for Kind { name, channel, send, recv } in kinds {
        let (tx, _rx) = channel();
        assert_eq!(
            tx.try_send(1),
            match send {
                None => Err(TrySendError::Full(1)),
                Some(sent) => sent.map_err(|()| TrySendError::Disconnected(1)),
            },
            "{name}"
        );
        let (tx, _rx) = channel();
        assert_eq!(
            tx.send_timeout(1, SHORT),
            match send {
                None => Err(SendTimeoutError::Timeout(1)),
                Some(sent) => sent.map_err(|()| SendTimeoutError::Disconnected(1)),
            },
            "{name}"
        );
        let (tx, _rx) = channel();
        let sent = select! { sent = tx <- 1 => Some(sent), default => None };
        assert_eq!(sent, send.map(|sent| sent.map_err(|()| SendError(1))), "{name}");
        let (tx, _rx) = channel();
        let sent = select! { send(tx, 1) -> sent => Some(sent), default(SHORT) => None };
        assert_eq!(sent, send.map(|sent| sent.map_err(|()| SendError(1))), "{name}");
        let (tx, rx) = channel();
        if let Some(sent) = send {
            test_block(NEVER, move || {
                assert_eq!(tx.send(1), sent.map_err(|()| SendError(1)));
                drop(rx);
            });
        } else {
            test_block(ALWAYS, move || {
                _ = tx.send(1);
                drop(rx);
            });
        }

        let (_tx, rx) = channel();
        assert_eq!(
            rx.try_recv(),
            match recv {
                None => Err(TryRecvError::Empty),
                Some(received) => received.map_err(|()| TryRecvError::Disconnected),
            },
            "{name}"
        );
        let (_tx, rx) = channel();
        assert_eq!(
            rx.recv_timeout(SHORT),
            match recv {
                None => Err(RecvTimeoutError::Timeout),
                Some(received) => received.map_err(|()| RecvTimeoutError::Disconnected),
            },
            "{name}"
        );
        let (_tx, rx) = channel();
        let received = select! { v = <-rx => Some(v), default => None };
        assert_eq!(received, recv.map(|received| received.map_err(|()| RecvError)), "{name}");
        let (_tx, rx) = channel();
        let received = select! { recv(rx) -> v => Some(v), default(SHORT) => None };
        assert_eq!(received, recv.map(|received| received.map_err(|()| RecvError)), "{name}");
        let (tx, rx) = channel();
        if let Some(received) = recv {
            test_block(NEVER, move || {
                assert_eq!(rx.recv(), received.map_err(|()| RecvError));
                drop(tx);
            });
        } else {
            test_block(ALWAYS, move || {
                _ = rx.recv();
                drop(tx);
            });
        }

        let (tx, rx) = channel();
        let open = !matches!(send, Some(Err(())));
        assert_eq!((tx.close(), tx.close()), (open, false), "{name}");
        drop(rx);
    }
}
