//! Workloads that pass messages between a fixed number of goroutines.

use csp::{Receiver, Sender, bounded, go, select};

/// Sends `first`, `first + step`, ... below `end`.
fn send_numbers(out: Sender<u64>, first: u64, step: u64, end: u64) {
    let mut number = first;
    while number < end {
        out.send(number).unwrap();
        number += step;
    }
}

/// Adds up what it receives until the channel closes.
fn sum(input: Receiver<u64>) -> u64 {
    input.into_iter().sum()
}

/// `n` numbers there and back over two unbuffered channels.
pub(crate) fn pingpong(n: u64) -> u64 {
    let (ping, pinged) = bounded(0);
    let (pong, ponged) = bounded(0);
    go!(move || {
        for number in pinged {
            pong.send(number).unwrap();
        }
    });
    let mut sum = 0;
    for number in 0..n {
        ping.send(number).unwrap();
        sum += ponged.recv().unwrap();
    }
    sum
}

/// `n` numbers from one goroutine to another.
pub(crate) fn spsc(n: u64) -> u64 {
    let (tx, rx) = bounded(128);
    go!(send_numbers(tx, 0, 1, n));
    sum(rx)
}

/// `n` numbers from eight goroutines to eight others.
pub(crate) fn mpmc(n: u64, capacity: usize) -> u64 {
    const PEERS: u64 = 8;
    let (tx, rx) = bounded(capacity);
    let consumers: Vec<_> = (0..PEERS).map(|_| go!(sum(rx.clone()))).collect();
    for first in 0..PEERS {
        go!(send_numbers(tx.clone(), first, PEERS, n));
    }
    drop(tx);
    consumers.into_iter().map(|consumer| consumer.join().unwrap()).sum()
}

/// `n` numbers from two goroutines, the odd ones and the even ones, each over an unbuffered channel of its own.
pub(crate) fn select2(n: u64) -> u64 {
    // The senders stay here too: a channel that closes when its goroutine is through would be ready for ever.
    let (even_tx, even) = bounded(0);
    let (odd_tx, odd) = bounded(0);
    go!(send_numbers(even_tx.clone(), 0, 2, n));
    go!(send_numbers(odd_tx.clone(), 1, 2, n));
    let mut sum = 0;
    for _ in 0..n {
        select! {
            number = <-even => sum += number.unwrap(),
            number = <-odd => sum += number.unwrap(),
        }
    }
    drop((even_tx, odd_tx));
    sum
}

/// Looks `n` times for a message that never comes.
pub(crate) fn select_default(n: u64) -> u64 {
    let (tx, rx) = bounded::<u64>(1);
    let mut empty = 0;
    for _ in 0..n {
        select! {
            <-rx => {}
            default => empty += 1,
        }
    }
    drop(tx);
    empty
}
