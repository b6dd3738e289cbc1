//! Workloads that are about goroutines themselves: switching, starting, and having very many.

use crate::{Outcome, memory_kb};
use csp::{Receiver, Sender, WaitGroup, bounded, go};
use std::sync::atomic::{AtomicU64, Ordering};

/// Two goroutines that do nothing but yield, `n` times in all.
pub(crate) fn yield_now(n: u64) -> u64 {
    let yields = |n: u64| {
        for _ in 0..n {
            csp::yield_now();
        }
        n
    };
    let (a, b) = (go!(yields(n / 2)), go!(yields(n - n / 2)));
    a.join().unwrap() + b.join().unwrap()
}

/// `n` goroutines that do nothing.
pub(crate) fn spawn(n: u64) -> u64 {
    fn no_op() {}

    let wg = WaitGroup::new();
    for _ in 0..n {
        go!(wg = &wg, no_op());
    }
    wg.wait();
    n
}

/// A chain of filters that grows by a goroutine with each prime, to the `n`-th prime.
pub(crate) fn sieve(n: u64) -> u64 {
    fn generate(out: Sender<u64>) {
        for number in 2.. {
            if out.send(number).is_err() {
                return;
            }
        }
    }

    fn filter(input: Receiver<u64>, out: Sender<u64>, prime: u64) {
        for number in input {
            if !number.is_multiple_of(prime) && out.send(number).is_err() {
                return;
            }
        }
    }

    let (tx, mut numbers) = bounded(0);
    go!(generate(tx));
    for _ in 1..n {
        let prime = numbers.recv().unwrap();
        let (tx, rx) = bounded(0);
        go!(filter(numbers, tx, prime));
        numbers = rx;
    }
    numbers.recv().unwrap()
}

/// The `n`-th prime, by trial division.
pub(crate) fn nth_prime(n: u64) -> u64 {
    let is_prime = |i: &u64| (2..).take_while(|d| d * d <= *i).all(|d| !i.is_multiple_of(d));
    (2..).filter(is_prime).nth(n as usize - 1).unwrap()
}

/// A tree of goroutines with ten children each and `n` leaves. A leaf sends its number, the others the sum of what their
/// children send.
pub(crate) fn skynet(n: u64) -> u64 {
    fn node(out: Sender<u64>, first: u64, leaves: u64) {
        if leaves == 1 {
            out.send(first).unwrap();
            return;
        }
        let (tx, rx) = bounded(0);
        let leaves = leaves / 10;
        for child in 0..10 {
            go!(node(tx.clone(), first + child * leaves, leaves));
        }
        out.send(rx.iter().take(10).sum()).unwrap();
    }

    assert_eq!(n, 10_u64.pow(n.ilog10()), "skynet has a power of ten of leaves");
    let (tx, rx) = bounded(0);
    go!(node(tx, 0, n));
    rx.recv().unwrap()
}

/// `n` goroutines in a row, each of which waits for its right neighbour's number and sends one more to its left.
pub(crate) fn chain(n: u64) -> u64 {
    fn hop(left: Sender<u64>, right: Receiver<u64>) {
        left.send(right.recv().unwrap() + 1).unwrap();
    }

    let (mut left, leftmost) = bounded(0);
    for _ in 0..n {
        let (tx, right) = bounded(0);
        go!(hop(left, right));
        left = tx;
    }
    left.send(0).unwrap();
    leftmost.recv().unwrap()
}

/// `n` goroutines that wait for one channel to close: how much memory they take, and how long all of it.
pub(crate) fn parked(n: u64) -> Outcome {
    static RELEASED: AtomicU64 = AtomicU64::new(0);

    fn wait(gate: Receiver<()>, arrived: WaitGroup) {
        arrived.done();
        assert!(gate.recv().is_err());
        RELEASED.fetch_add(1, Ordering::Relaxed);
    }

    let (open, gate) = bounded(0);
    let (arrived, finished) = (WaitGroup::new(), WaitGroup::new());
    arrived.add(n as isize);
    let before = memory_kb("VmRSS:");
    for _ in 0..n {
        go!(wg = &finished, wait(gate.clone(), arrived.clone()));
    }
    arrived.wait();
    let bytes = (memory_kb("VmRSS:").saturating_sub(before)) * 1024;
    open.close();
    finished.wait();
    let fields = format!(" bytes_per_task={}", bytes / n);
    Outcome { fields, ..RELEASED.load(Ordering::Relaxed).into() }
}
