//! Closing, with goroutines and plain threads on either side: who waits goes on, what is on its way arrives or comes back.

mod support;

use std::time::{Duration, Instant};

use csp::channel::{
    Receiver, RecvError, RecvTimeoutError, SendError, SendTimeoutError, Sender, TryRecvError, TrySendError, bounded,
    unbounded,
};
use csp::select;
use support::{CALLERS, Caller, PAIRS, Running, scaled};

/// More than a wait takes.
const LONG: Duration = Duration::from_secs(100);

/// The ways to close.
#[derive(Clone, Copy, Debug)]
enum By {
    Sender,
    Receiver,
    Drop,
}

const WAYS: [By; 3] = [By::Sender, By::Receiver, By::Drop];

/// Each kind of waiting receiver, which is told that the channel is closed.
fn receivers(rx: &Receiver<u32>) -> Vec<Running<()>> {
    let ways: [fn(Receiver<u32>); 6] = [
        |rx| assert_eq!(rx.recv(), Err(RecvError)),
        |rx| assert_eq!(rx.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected)),
        |rx| assert_eq!(rx.recv_deadline(Instant::now() + LONG), Err(RecvTimeoutError::Disconnected)),
        |rx| assert_eq!(rx.into_iter().next(), None),
        |rx| assert_eq!(rx.recv_many(&mut Vec::new(), 3), Err(RecvError)),
        |rx| {
            select! {
                recv(rx) -> result => assert_eq!(result, Err(RecvError)),
                <-csp::never::<()>() => unreachable!(),
                default(LONG) => panic!("nobody has closed"),
            }
        },
    ];
    let both = ways.into_iter().flat_map(|way| CALLERS.map(|caller| (way, caller)));
    both.map(|(way, caller)| {
        let rx = rx.clone();
        caller.run(move || way(rx))
    })
    .collect()
}

/// Each kind of waiting sender, which gets its message back.
fn senders(tx: &Sender<Box<u32>>) -> Vec<Running<()>> {
    let ways: [fn(Sender<Box<u32>>); 5] = [
        |tx| assert_eq!(tx.send(Box::new(1)), Err(SendError(Box::new(1)))),
        |tx| assert_eq!(tx.send_timeout(Box::new(2), LONG), Err(SendTimeoutError::Disconnected(Box::new(2)))),
        |tx| {
            let error = tx.send_deadline(Box::new(3), Instant::now() + LONG).unwrap_err();
            assert_eq!(error, SendTimeoutError::Disconnected(Box::new(3)));
        },
        |tx| {
            let error = tx.send_many([Box::new(4), Box::new(5)]).unwrap_err();
            assert_eq!(error.sent, 0);
            assert!(error.unsent.eq([Box::new(4), Box::new(5)]));
        },
        |tx| {
            select! {
                result = tx <- Box::new(6) => assert_eq!(result, Err(SendError(Box::new(6)))),
                <-csp::never::<()>() => unreachable!(),
                default(LONG) => panic!("nobody has closed"),
            }
        },
    ];
    let both = ways.into_iter().flat_map(|way| CALLERS.map(|caller| (way, caller)));
    both.map(|(way, caller)| {
        let tx = tx.clone();
        caller.run(move || way(tx))
    })
    .collect()
}

#[test]
fn every_waiting_receiver_is_told() {
    for caller in CALLERS {
        for by in WAYS {
            for (tx, rx) in [bounded(0), bounded(3), unbounded()] {
                let waiting = receivers(&rx);
                caller
                    .run(move || match by {
                        By::Sender => assert!(tx.close()),
                        By::Receiver => assert!(rx.close()),
                        By::Drop => drop(tx),
                    })
                    .join();
                waiting.into_iter().for_each(|receiver| receiver.join());
            }
        }
    }
}

#[test]
fn every_waiting_sender_gets_its_message_back() {
    for caller in CALLERS {
        for by in WAYS {
            for cap in [0, 2] {
                let (tx, rx) = bounded(cap);
                (0..cap).for_each(|_| tx.send(Box::new(0)).unwrap());
                let waiting = senders(&tx);
                caller
                    .run(move || match by {
                        By::Sender => assert!(tx.close()),
                        By::Receiver => assert!(rx.close()),
                        By::Drop => drop(rx),
                    })
                    .join();
                waiting.into_iter().for_each(|sender| sender.join());
            }
        }
    }
}

#[test]
fn one_close_of_many_has_closed() {
    for _ in 0..scaled(50, 10) {
        let (tx, rx) = bounded::<u8>(1);
        let closers = (0..8).map(|n| {
            let (tx, rx) = (tx.clone(), rx.clone());
            CALLERS[n % 2].run(move || if n < 4 { tx.close() } else { rx.close() })
        });
        let closers = closers.collect::<Vec<_>>();
        assert_eq!(closers.into_iter().map(|closer| usize::from(closer.join())).sum::<usize>(), 1);
        assert!(tx.is_closed() && rx.is_closed() && tx.clone().is_closed());
    }
}

#[test]
fn what_was_sent_before_is_received_after() {
    for [sends, receives] in PAIRS {
        for by in WAYS {
            for (tx, rx) in [bounded(100), unbounded()] {
                let rx2 = rx.clone();
                sends
                    .run(move || {
                        (0..100).for_each(|n| tx.send(n).unwrap());
                        match by {
                            By::Sender => _ = tx.close(),
                            By::Receiver => _ = rx2.close(),
                            By::Drop => {}
                        }
                        if !matches!(by, By::Drop) {
                            assert_eq!(tx.send(100), Err(SendError(100)));
                            assert_eq!(tx.try_send(100), Err(TrySendError::Disconnected(100)));
                        }
                    })
                    .join();
                receives
                    .run(move || {
                        assert!(rx.is_closed());
                        assert_eq!(rx.len(), 100);
                        assert!(rx.iter().eq(0..100));
                        assert_eq!(rx.try_recv(), Err(TryRecvError::Disconnected));
                    })
                    .join();
            }
        }
    }
}

/// Two senders, two receivers and one that closes, all at once: what the senders are told is what the receivers got.
#[test]
fn a_message_on_its_way_arrives_or_comes_back() {
    let rounds = scaled(12, 6);
    for [sends, receives] in PAIRS {
        for closes in CALLERS {
            for round in 0..rounds {
                for (tx, rx) in [bounded(0), bounded(1), unbounded()] {
                    let senders = [1_u64, 2].map(|step| {
                        let tx = tx.clone();
                        sends.run(move || {
                            let mut sum = 0;
                            for n in (step..).step_by(2) {
                                let result = match n % 3 {
                                    0 => tx.send(Box::new(n)).map_err(SendError::into_inner),
                                    1 => tx.send_timeout(Box::new(n), LONG).map_err(SendTimeoutError::into_inner),
                                    _ => {
                                        select! { result = tx <- Box::new(n) => result.map_err(SendError::into_inner) }
                                    }
                                };
                                match result {
                                    Ok(()) => sum += n,
                                    Err(message) => {
                                        assert_eq!(*message, n);
                                        return sum;
                                    }
                                }
                            }
                            unreachable!("the numbers do not end")
                        })
                    });
                    let receivers = [0, 1].map(|way| {
                        let rx = rx.clone();
                        receives.run(move || match way {
                            0 => rx.iter().map(|message| *message).sum::<u64>(),
                            _ => {
                                let mut sum = 0;
                                while let Some(message) = select! { Ok(message) = <-rx => Some(message), else => None }
                                {
                                    sum += *message;
                                }
                                sum
                            }
                        })
                    });
                    let closer = closes.run(move || {
                        (0..round % 20).for_each(|_| match closes {
                            Caller::Goroutine => csp::yield_now(),
                            Caller::Thread => std::thread::yield_now(),
                        });
                        if round % 2 == 0 { tx.close() } else { rx.close() }
                    });
                    assert!(closer.join());
                    let sent = senders.map(|sender| sender.join()).iter().sum::<u64>();
                    let received = receivers.map(|receiver| receiver.join()).iter().sum::<u64>();
                    assert_eq!(sent, received);
                }
            }
        }
    }
}

#[test]
fn the_last_sender_may_go_with_its_goroutine() {
    for [sends, receives] in PAIRS {
        for (tx, rx) in [bounded(0), bounded(2), unbounded()] {
            let receiver = receives.run(move || rx.iter().count());
            let senders = (0..4).map(|_| {
                let tx = tx.clone();
                sends.run(move || tx.send(()).unwrap())
            });
            let senders = senders.collect::<Vec<_>>();
            drop(tx);
            assert_eq!(receiver.join(), 4);
            senders.into_iter().for_each(|sender| sender.join());
        }
    }
}

#[test]
fn the_last_sender_may_go_with_a_panic() {
    for (tx, rx) in [bounded(1), unbounded()] {
        let panics = csp::spawn(move || {
            tx.send(1).unwrap();
            panic!("with the sender");
        });
        assert_eq!(rx.recv(), Ok(1));
        assert_eq!(rx.recv(), Err(RecvError));
        assert!(panics.join().is_err());
    }
}
