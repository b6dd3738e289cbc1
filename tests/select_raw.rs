//! Select through the hidden functions that `select!` expands to: choice, fairness, hand-over, closing, timeouts, and
//! that every message ends exactly once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use csp::__private::select::{Order, poll, recv, send, wait, wait_else, wait_timeout};
use csp::channel::{Receiver, RecvError, SendError, Sender, after, at, bounded, never, tick, unbounded};

/// Far more than any wait here takes, also on a busy machine.
const LONG: Duration = Duration::from_secs(60);

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn the_ready_arm_is_chosen() {
    let (tx, rx) = unbounded();
    let (_tx2, rx2) = unbounded::<()>();
    tx.send(1).unwrap();
    let (mut a, mut b) = (recv(&rx2), recv(&rx));
    assert_eq!(wait(Order::Random, [a.arm(), b.arm()]), 1);
    assert_eq!(b.finish(), Ok(1));
    assert_eq!(poll(Order::Random, [a.arm(), b.arm()]), 2);

    let (full, _full_rx) = bounded(0);
    let mut c = send(&full, 2);
    let mut d = send(&tx, 3);
    assert_eq!(wait(Order::Random, [a.arm(), c.arm(), d.arm()]), 2);
    assert_eq!(d.finish(), Ok(()));
    assert_eq!(rx.recv(), Ok(3));
}

#[test]
#[should_panic(expected = "was not chosen")]
fn an_arm_that_was_not_chosen_has_no_result() {
    let (_tx, rx) = unbounded::<i32>();
    _ = recv(&rx).finish();
}

#[test]
fn messages_that_are_not_sent_are_dropped_and_sent_ones_are_not() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let message = || Counted(Arc::clone(&dropped));
    let (tx, rx) = bounded(1);
    {
        let (mut a, mut b) = (send(&tx, message()), send(&tx, message()));
        let chosen = wait(Order::Random, [a.arm(), b.arm()]);
        assert!(if chosen == 0 { a.finish() } else { b.finish() }.is_ok());
        assert_eq!(dropped.load(Ordering::SeqCst), 0);
    }
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
    // Chosen, but nobody asked for the result.
    assert_eq!(wait(Order::Random, [recv(&rx).arm()]), 0);
    assert_eq!(dropped.load(Ordering::SeqCst), 2);
    assert_eq!(wait(Order::Random, [send(&tx, message()).arm()]), 0);
    assert_eq!(dropped.load(Ordering::SeqCst), 2);
    tx.close();
    {
        let mut a = send(&tx, message());
        assert_eq!(wait(Order::Random, [a.arm()]), 0);
        let SendError(_message) = a.finish().unwrap_err();
        assert_eq!(dropped.load(Ordering::SeqCst), 2);
    }
    assert_eq!(dropped.load(Ordering::SeqCst), 3);
    drop((tx, rx));
    assert_eq!(dropped.load(Ordering::SeqCst), 4);
}

#[test]
fn a_closed_channel_is_ready_on_both_sides() {
    let (tx, rx) = unbounded();
    tx.send(1).unwrap();
    rx.close();
    let (mut a, mut b) = (send(&tx, 2), recv(&rx));
    assert_eq!(wait(Order::Random, [a.arm()]), 0);
    assert_eq!(a.finish(), Err(SendError(2)));
    assert_eq!(wait(Order::Random, [b.arm()]), 0);
    assert_eq!(b.finish(), Ok(1));
    assert_eq!(wait(Order::Random, [b.arm()]), 0);
    assert_eq!(b.finish(), Err(RecvError));
}

#[test]
fn close_wakes_selects() {
    for _ in 0..300 {
        let (tx, rx) = bounded(0);
        let (_tx2, rx2) = bounded::<i32>(0);
        let (tx3, rx3) = bounded(0);
        thread::scope(|s| {
            let receiving = s.spawn(|| {
                let (mut a, mut b) = (recv(&rx2), recv(&rx));
                assert_eq!(wait(Order::Random, [a.arm(), b.arm()]), 1);
                b.finish()
            });
            let sending = s.spawn(|| {
                let (mut a, mut b) = (recv(&rx2), send(&tx3, 8));
                assert_eq!(wait(Order::Random, [a.arm(), b.arm()]), 1);
                b.finish()
            });
            tx.close();
            rx3.close();
            assert_eq!(receiving.join().unwrap(), Err::<i32, _>(RecvError));
            assert_eq!(sending.join().unwrap(), Err(SendError(8)));
        });
    }
}

#[test]
fn timeouts_are_never_early_and_leave_no_trace() {
    let (tx, rx) = bounded::<i32>(0);
    for millis in [0, 1, 5] {
        let timeout = Duration::from_millis(millis);
        let start = Instant::now();
        let (mut a, mut b) = (recv(&rx), send(&tx, 1));
        // Both sides of one channel: a select does not meet itself.
        assert_eq!(wait_timeout(Order::Random, [a.arm(), b.arm()], timeout), 2);
        assert!(start.elapsed() >= timeout && start.elapsed() < LONG);
        assert!(tx.try_send(1).is_err() && rx.try_recv().is_err());
    }
}

#[test]
fn timer_arms_end_a_wait() {
    let (_tx, rx) = bounded::<i32>(0);
    let start = Instant::now();
    let timeout = after(Duration::from_millis(5));
    let (mut a, mut b) = (recv(&rx), recv(&timeout));
    assert_eq!(wait(Order::Random, [a.arm(), b.arm()]), 1);
    assert!(b.finish().unwrap() >= start + Duration::from_millis(5));
    // The message is gone: only the timeout is left.
    assert_eq!(wait_timeout(Order::Random, [a.arm(), b.arm()], Duration::from_millis(1)), 2);

    let (ticks, late) = (tick(Duration::from_millis(1)), at(Instant::now() + LONG));
    let (mut c, mut d) = (recv(&ticks), recv(&late));
    for _ in 0..3 {
        assert_eq!(wait(Order::Random, [c.arm(), d.arm()]), 0);
        assert!(c.finish().unwrap() <= Instant::now());
    }
    let mut e = recv(&late);
    assert_eq!(poll(Order::Random, [e.arm()]), 1);
}

#[test]
fn disabled_arms_take_no_part() {
    let (tx, rx) = unbounded();
    tx.send(1).unwrap();
    let nothing = never::<i32>();
    let (mut a, mut b) = (recv(&rx).when(false), recv(&nothing));
    assert_eq!(poll(Order::Random, [a.arm(), b.arm()]), 2);
    assert_eq!(wait_timeout(Order::Random, [a.arm(), b.arm()], Duration::from_millis(1)), 2);
    assert_eq!(wait_else(Order::Random, [a.arm()]), 1);
    b.disable();
    assert_eq!(wait_else(Order::Random, [a.arm(), b.arm()]), 2);
    let mut c = recv(&rx).when(true);
    assert_eq!(wait_else(Order::Random, [a.arm(), c.arm()]), 1);
    assert_eq!(c.finish(), Ok(1));
}

#[test]
fn a_biased_select_takes_the_first() {
    let (tx, rx) = unbounded();
    (0..100).for_each(|_| tx.send(()).unwrap());
    for _ in 0..50 {
        let (mut a, mut b) = (recv(&rx), recv(&rx));
        assert_eq!(wait(Order::Biased, [a.arm(), b.arm()]), 0);
        a.finish().unwrap();
    }
}

/// How often each arm of `N` is chosen when those in `ready` always are ready, and no other.
fn choices<const N: usize>(ready: &[usize], rounds: usize) -> [usize; N] {
    let channels: [_; N] = std::array::from_fn(|_| bounded(1));
    ready.iter().for_each(|&n| channels[n].0.send(()).unwrap());
    let mut chosen = [0; N];
    for _ in 0..rounds {
        let mut receives: [_; N] = std::array::from_fn(|n| recv(&channels[n].1));
        let n = wait(Order::Random, receives.each_mut().map(|receive| receive.arm()));
        receives[n].finish().unwrap();
        chosen[n] += 1;
        channels[n].0.send(()).unwrap();
    }
    chosen
}

#[test]
fn ready_arms_are_chosen_equally_often() {
    const ROUNDS: usize = 100_000;
    let check = |chosen: &[usize], ready: &[usize]| {
        let even = ROUNDS / ready.len();
        // More than seven standard deviations, for sixteen arms.
        assert!(ready.iter().all(|&n| chosen[n].abs_diff(even) * 10 < even), "{chosen:?}");
        assert_eq!(chosen.iter().sum::<usize>(), ROUNDS);
    };
    check(&choices::<2>(&[0, 1], ROUNDS), &[0, 1]);
    check(&choices::<3>(&[0, 1, 2], ROUNDS), &[0, 1, 2]);
    check(&choices::<4>(&[0, 1, 3], ROUNDS), &[0, 1, 3]);
    check(&choices::<5>(&[0, 4], ROUNDS), &[0, 4]);
    let all: [usize; 16] = std::array::from_fn(|n| n);
    check(&choices::<16>(&all, ROUNDS), &all);
}

#[test]
fn a_hundred_arms_are_served() {
    let channels: Vec<_> = (0..100).map(|_| bounded(0)).collect();
    thread::scope(|s| {
        for (n, (tx, _)) in channels.iter().enumerate() {
            s.spawn(move || (0..20).for_each(|_| tx.send(n).unwrap()));
        }
        for _ in 0..2_000 {
            let mut receives: [_; 100] = std::array::from_fn(|n| recv(&channels[n].1));
            let chosen = wait(Order::Random, receives.each_mut().map(|receive| receive.arm()));
            assert_eq!(receives[chosen].finish(), Ok(chosen));
        }
    });
}

#[test]
fn one_channel_in_many_arms_is_locked_once() {
    for cap in [0, 1] {
        let (tx, rx) = bounded(cap);
        thread::scope(|s| {
            s.spawn(|| (0..2_000).for_each(|n| tx.send(n).unwrap()));
            for n in 0..2_000 {
                let (mut a, mut b, mut c) = (recv(&rx), recv(&rx), recv(&rx));
                let received = match wait(Order::Random, [a.arm(), b.arm(), c.arm()]) {
                    0 => a.finish(),
                    1 => b.finish(),
                    _ => c.finish(),
                };
                assert_eq!(received, Ok(n));
            }
        });
    }
}

/// Selects in both roles on the same two channels until both have met `rounds` times.
fn meet(a: (&Sender<u64>, &Receiver<u64>), b: (&Sender<u64>, &Receiver<u64>), rounds: u64) -> (u64, u64) {
    let (mut sent, mut received) = (0, 0);
    for n in 1..=rounds {
        let (mut out, mut into) = (send(a.0, n), recv(b.1));
        match wait(Order::Random, [out.arm(), into.arm()]) {
            0 => {
                out.finish().unwrap();
                sent += n;
            }
            _ => received += into.finish().unwrap(),
        }
    }
    (sent, received)
}

#[test]
fn selects_meet_selects_in_both_roles() {
    let (tx, rx) = bounded(0);
    let (tx2, rx2) = bounded(0);
    thread::scope(|s| {
        // Each sends on the channel from which the other receives: every round is one meeting.
        let other = s.spawn(|| meet((&tx, &rx), (&tx2, &rx2), 10_000));
        let (sent, received) = meet((&tx2, &rx2), (&tx, &rx), 10_000);
        assert_eq!(other.join().unwrap(), (received, sent));
    });
}

#[test]
fn selects_on_both_sides_of_one_channel_meet_each_other() {
    let (tx, rx) = bounded(0);
    thread::scope(|s| {
        let other = s.spawn(|| meet((&tx, &rx), (&tx, &rx), 10_000));
        let (sent, received) = meet((&tx, &rx), (&tx, &rx), 10_000);
        assert_eq!(other.join().unwrap(), (received, sent));
    });
}

#[test]
fn selects_with_timeouts_lose_and_double_nothing() {
    for cap in [0, 1, 4] {
        let dropped = Arc::new(AtomicUsize::new(0));
        let created = AtomicUsize::new(0);
        let channels: [_; 3] = std::array::from_fn(|_| bounded(cap));
        let (sent, received) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let senders = AtomicUsize::new(2);
        thread::scope(|s| {
            for _ in 0..2 {
                s.spawn(|| {
                    for n in 0..3_000_u64 {
                        let [mut a, mut b, mut c] = channels.each_ref().map(|(tx, _)| {
                            created.fetch_add(1, Ordering::SeqCst);
                            send(tx, Counted(Arc::clone(&dropped)))
                        });
                        let chosen =
                            wait_timeout(Order::Random, [a.arm(), b.arm(), c.arm()], Duration::from_micros(n % 30));
                        let result = match chosen {
                            0 => a.finish(),
                            1 => b.finish(),
                            2 => c.finish(),
                            _ => continue,
                        };
                        assert!(result.is_ok());
                        sent.fetch_add(1, Ordering::SeqCst);
                    }
                    if senders.fetch_sub(1, Ordering::SeqCst) == 1 {
                        channels.iter().for_each(|(tx, _)| assert!(tx.close()));
                    }
                });
                s.spawn(|| {
                    let mut open = [true; 3];
                    for n in 0.. {
                        let mut receives: [_; 3] = std::array::from_fn(|k| recv(&channels[k].1).when(open[k]));
                        if open == [false; 3] {
                            break;
                        }
                        let arms = receives.each_mut().map(|receive| receive.arm());
                        match wait_timeout(Order::Random, arms, Duration::from_micros(n % 20)) {
                            3 => {}
                            chosen => match receives[chosen].finish() {
                                Ok(_) => _ = received.fetch_add(1, Ordering::SeqCst),
                                Err(RecvError) => open[chosen] = false,
                            },
                        }
                    }
                });
            }
        });
        assert_eq!(sent.load(Ordering::SeqCst), received.load(Ordering::SeqCst));
        assert_eq!(dropped.load(Ordering::SeqCst), created.load(Ordering::SeqCst));
    }
}

#[test]
fn close_against_selects_ends_every_message_once() {
    for round in 0..300 {
        let dropped = Arc::new(AtomicUsize::new(0));
        let created = AtomicUsize::new(0);
        let (tx, rx) = bounded(round % 3);
        let (tx2, rx2) = bounded(0);
        let message = || {
            created.fetch_add(1, Ordering::SeqCst);
            Counted(Arc::clone(&dropped))
        };
        thread::scope(|s| {
            s.spawn(|| {
                loop {
                    let (mut a, mut b) = (send(&tx, message()), send(&tx2, message()));
                    let result = match wait(Order::Random, [a.arm(), b.arm()]) {
                        0 => a.finish(),
                        _ => b.finish(),
                    };
                    if result.is_err() {
                        break;
                    }
                }
            });
            s.spawn(|| {
                loop {
                    let (mut a, mut b) = (recv(&rx2), recv(&rx));
                    let result = match wait(Order::Random, [a.arm(), b.arm()]) {
                        0 => a.finish(),
                        _ => b.finish(),
                    };
                    if result.is_err() {
                        break;
                    }
                }
            });
            (0..round % 20).for_each(|_| thread::yield_now());
            rx.close();
            tx2.close();
        });
        drop((tx, rx, tx2, rx2));
        assert_eq!(dropped.load(Ordering::SeqCst), created.load(Ordering::SeqCst));
    }
}

#[test]
fn a_select_hands_large_messages_over() {
    let (tx, rx) = bounded(0);
    let (_tx2, rx2) = bounded::<()>(0);
    thread::scope(|s| {
        s.spawn(|| {
            for n in 0..20 {
                let mut a = send(&tx, [n; 8192]);
                assert_eq!(wait(Order::Random, [a.arm()]), 0);
                a.finish().unwrap();
            }
        });
        for n in 0..20_u64 {
            let (mut a, mut b) = (recv(&rx), recv(&rx2));
            assert_eq!(wait(Order::Random, [a.arm(), b.arm()]), 0);
            assert!(a.finish().unwrap().iter().all(|&word| word == n));
        }
    });
}
