//! Fairness: which of several ready arms a select chooses, and in which order those who wait are served.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use csp::__private::waiting;
use csp::{Receiver, Sender, go, select};

const SELECTS: usize = 1_000_000;

/// Each of `K` arms was chosen equally often, give or take 5%.
///
/// The number of times that an arm is chosen has the standard deviation sqrt(n p (1 - p)), where n is a million and p
/// is 1 / K: for K = 2, 3, 5, 16 that is 500, 471, 400 and 242. 5% of n p are 25,000, 16,667, 10,000 and 3,125, which
/// is 50, 35, 25 and 12.9 standard deviations. The chance of one count to be further off is less than 1e-37, whatever
/// the seed: a failure is never bad luck.
#[track_caller]
fn check<const K: usize>(chosen: [usize; K]) {
    let even = SELECTS / K;
    assert!(chosen.iter().all(|&count| count.abs_diff(even) <= even / 20), "{chosen:?} instead of {even} each");
    assert_eq!(chosen.iter().sum::<usize>(), SELECTS);
}

type Channel = (Sender<()>, Receiver<()>);

/// Channels for `K` arms that always are ready, and for `K` that never are.
struct Channels<const K: usize> {
    /// With a message in them.
    full: [Channel; K],
    /// With room for one.
    empty: [Channel; K],
    /// Without capacity, and without a partner.
    lone: [Channel; K],
}

impl<const K: usize> Channels<K> {
    fn new() -> Channels<K> {
        let channels = |cap| std::array::from_fn(|_| csp::bounded(cap));
        let full: [Channel; K] = channels(1);
        full.iter().for_each(|(tx, _)| tx.send(()).unwrap());
        Channels { full, empty: channels(1), lone: channels(0) }
    }

    /// Selects a million times and counts what `select` returns; puts right after each what it has done.
    fn count(self, select: impl Fn(&Self) -> usize) -> [usize; K] {
        let mut chosen = [0; K];
        for _ in 0..SELECTS {
            let n = select(&self);
            chosen[n] += 1;
            // One of the two was what the select did.
            if self.full[n].0.try_send(()).is_err() {
                self.empty[n].1.try_recv().unwrap();
            }
        }
        chosen
    }
}

macro_rules! fair {
    ($($name:ident: $($n:literal)*;)*) => {$(
        mod $name {
            use super::*;

            const K: usize = [$($n),*].len();

            #[csp::test]
            fn go_arms() {
                check::<K>(Channels::new().count(|channels| {
                    select! { $(_ = <-channels.full[$n].1 => $n,)* }
                }));
            }

            #[test]
            fn crossbeam_arms() {
                check::<K>(Channels::new().count(|channels| {
                    select! { $(send(channels.empty[$n].0, ()) -> _ => $n,)* }
                }));
            }

            #[test]
            fn go_arms_some_of_them_never_ready() {
                check::<K>(Channels::new().count(|channels| {
                    // In a row, so that a choice of the next one that is ready would favour one of them.
                    select! {
                        $(<-channels.lone[$n].1 => unreachable!(),)*
                        $(channels.empty[$n].0 <- () => $n,)*
                    }
                }));
            }

            #[csp::test]
            fn crossbeam_arms_some_of_them_never_ready() {
                check::<K>(Channels::new().count(|channels| {
                    select! {
                        $(recv(channels.full[$n].1) -> _ => $n,)*
                        $(recv(channels.empty[$n].1) -> _ => unreachable!(),)*
                        default => unreachable!(),
                    }
                }));
            }
        }
    )*};
}

fair! {
    of_2: 0 1;
    of_3: 0 1 2;
    of_5: 0 1 2 3 4;
    of_16: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15;
}

/// Longer than any wait here.
const LONG: Duration = Duration::from_secs(600);

/// Waits for what is certain to come about.
fn until(condition: impl Fn() -> bool) {
    while !condition() {
        csp::yield_now();
    }
}

/// Runs `body` in a goroutine, or in a thread of its own.
fn start(goroutine: bool, body: impl FnOnce() + Send + 'static) {
    if goroutine {
        go!(body());
    } else {
        thread::spawn(body);
    }
}

/// Twelve who wait in every way that there is to wait: in goroutines and in threads, for this alone, with a deadline,
/// and in a select.
const WAITERS: usize = 12;

fn wait_to_receive(n: usize, rx: &Receiver<usize>, other: &Receiver<()>) -> Option<usize> {
    match n / 2 % 3 {
        0 => rx.recv().ok(),
        1 => rx.recv_timeout(LONG).ok(),
        _ => select! {
            message = <-rx => message.ok(),
            <-other => None,
        },
    }
}

fn wait_to_send(n: usize, tx: &Sender<usize>, other: &Receiver<()>) -> bool {
    match n / 2 % 3 {
        0 => tx.send(n).is_ok(),
        1 => tx.send_timeout(n, LONG).is_ok(),
        _ => select! {
            <-other => false,
            sent = tx <- n => sent.is_ok(),
        },
    }
}

#[test]
fn receivers_are_served_in_the_order_in_which_they_came() {
    for (tx, rx) in [csp::bounded(0), csp::bounded(3), csp::unbounded()] {
        let (report, reports) = csp::unbounded();
        let (_keep, other) = csp::bounded(0);
        for n in 0..WAITERS {
            let (rx, other, report) = (rx.clone(), other.clone(), report.clone());
            start(n % 2 == 0, move || report.send((n, wait_to_receive(n, &rx, &other))).unwrap());
            until(|| waiting(&tx) == (0, n + 1));
        }
        for n in 0..WAITERS {
            tx.send(n).unwrap();
            // Nobody goes to the end of the queue again.
            assert_eq!(waiting(&tx), (0, WAITERS - n - 1));
        }
        let mut served = reports.iter().take(WAITERS).collect::<Vec<_>>();
        served.sort();
        assert_eq!(served, (0..WAITERS).map(|n| (n, Some(n))).collect::<Vec<_>>());
    }
}

#[test]
fn senders_are_served_in_the_order_in_which_they_came() {
    for cap in [0, 3] {
        let (tx, rx) = csp::bounded(cap);
        let (_keep, other) = csp::bounded(0);
        (0..cap).for_each(|n| tx.send(1000 + n).unwrap());
        let (report, reports) = csp::unbounded();
        for n in 0..WAITERS {
            let (sender, other, report) = (tx.clone(), other.clone(), report.clone());
            start(n % 2 == 0, move || report.send(wait_to_send(n, &sender, &other)).unwrap());
            until(|| waiting(&tx) == (n + 1, 0));
        }
        let received = rx.iter().take(cap + WAITERS).collect::<Vec<_>>();
        assert_eq!(received, (0..cap).map(|n| 1000 + n).chain(0..WAITERS).collect::<Vec<_>>());
        assert!(reports.iter().take(WAITERS).all(|sent| sent));
    }
}

#[test]
fn those_who_stay_keep_their_order_when_others_leave() {
    let (tx, rx) = csp::bounded(0);
    let (report, reports) = csp::unbounded();
    let leave = (0..WAITERS).map(|n| {
        let (leave, left) = csp::bounded::<()>(0);
        let (rx, report) = (rx.clone(), report.clone());
        start(n % 2 == 0, move || {
            let received = select! {
                message = <-rx => message.ok(),
                <-left => None,
            };
            report.send((n, received)).unwrap();
        });
        until(|| waiting(&tx) == (0, n + 1));
        leave
    });
    let mut leave = leave.map(Some).collect::<Vec<_>>();
    // The first, one in the middle, its neighbour, the last.
    for (count, n) in [0, 5, 6, WAITERS - 1].into_iter().enumerate() {
        leave[n] = None;
        assert_eq!(reports.recv(), Ok((n, None)));
        assert_eq!(waiting(&tx), (0, WAITERS - count - 1));
    }
    for n in [1, 2, 3, 4, 7, 8, 9, 10] {
        tx.send(n).unwrap();
        assert_eq!(reports.recv(), Ok((n, Some(n))));
    }
}

/// Those who only try, as often as they can, for as long as it is there.
struct Tries {
    count: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Tries {
    fn start(attempt: impl Fn() + Clone + Send + 'static) -> Tries {
        let tries = Tries { count: Arc::default(), stop: Arc::default() };
        for n in 0..4 {
            let (count, stop, attempt) = (tries.count.clone(), tries.stop.clone(), attempt.clone());
            start(n % 2 == 0, move || {
                while !stop.load(Ordering::Relaxed) {
                    (0..10).for_each(|_| attempt());
                    count.fetch_add(10, Ordering::Relaxed);
                    csp::yield_now();
                }
            });
        }
        tries
    }

    /// Waits for a number of attempts.
    fn go_on(&self) {
        let before = self.count.load(Ordering::Relaxed);
        until(|| self.count.load(Ordering::Relaxed) - before > 20);
    }
}

impl Drop for Tries {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

const ROUNDS: usize = 100;

#[test]
fn a_stream_of_tries_cannot_starve_a_receiver() {
    for (tx, rx) in [csp::bounded(0), csp::bounded(1), csp::unbounded()] {
        let (_keep, other) = csp::bounded(0);
        let stolen = Arc::new(AtomicUsize::new(0));
        let tries = Tries::start({
            let (rx, stolen) = (rx.clone(), stolen.clone());
            move || _ = stolen.fetch_add(rx.try_iter().count(), Ordering::Relaxed)
        });
        let waiter = go!(move || (0..ROUNDS).map(|n| wait_to_receive(n, &rx, &other)).collect::<Vec<_>>());
        for n in 0..ROUNDS {
            until(|| waiting(&tx) == (0, 1));
            tries.go_on();
            tx.send(n).unwrap();
        }
        assert_eq!(waiter.join().unwrap(), (0..ROUNDS).map(Some).collect::<Vec<_>>());
        assert_eq!(stolen.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn a_stream_of_tries_cannot_starve_a_sender() {
    const TRIED: usize = usize::MAX;
    for cap in [0, 1, 3] {
        let (tx, rx) = csp::bounded(cap);
        let (_keep, other) = csp::bounded(0);
        let tries = Tries::start({
            let tx = tx.clone();
            move || _ = tx.try_send(TRIED)
        });
        let (begin, rounds) = csp::bounded(0);
        let sender = tx.clone();
        let waiter = go!(move || rounds.iter().all(|n| wait_to_send(n, &sender, &other)));
        for n in 0..ROUNDS {
            // By those who try. Nobody takes anything out but this.
            until(|| tx.is_full());
            begin.send(n).unwrap();
            until(|| waiting(&tx) == (1, 0));
            tries.go_on();
            (0..cap).for_each(|_| assert_eq!(rx.recv(), Ok(TRIED)));
            assert_eq!(rx.recv(), Ok(n));
        }
        drop(begin);
        assert!(waiter.join().unwrap());
    }
}
