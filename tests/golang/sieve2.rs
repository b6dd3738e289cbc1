// Copyright 2009 The Go Authors. All rights reserved.
// Use of this source code is governed by a BSD-style
// license that can be found in tests/golang/LICENSE.

//! The primes up to 100, as Eratosthenes would find them, and with odd candidates only: the multiples of the primes
//! found so far are merged into one channel of composites.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};

use csp::{Receiver, Sender, go, select};

use super::sieve1::PRIMES;

/// Odd numbers from 5 on.
fn odds() -> Receiver<i32> {
    let (out, odds) = csp::bounded(50);
    go!(move || {
        let mut n = 5;
        while out.send(n).is_ok() {
            n += 2;
        }
    });
    odds
}

/// The odd multiples of the prime `p`, from `p * p` on.
fn multiples(p: i32) -> Receiver<i32> {
    let (out, multiples) = csp::bounded(10);
    go!(move || {
        let mut n = p * p;
        while out.send(n).is_ok() {
            n += 2 * p;
        }
    });
    multiples
}

struct PeekCh {
    head: i32,
    ch: Receiver<i32>,
}

/// The one with the smallest head is the greatest, for a heap.
impl Ord for PeekCh {
    fn cmp(&self, other: &Self) -> Ordering {
        other.head.cmp(&self.head)
    }
}

impl PartialOrd for PeekCh {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Eq for PeekCh {}

impl PartialEq for PeekCh {
    fn eq(&self, other: &Self) -> bool {
        self.head == other.head
    }
}

/// A channel that stands for `out`, with a buffer that grows, so that a send on it never blocks for long.
fn sendproxy(out: Sender<i32>) -> Sender<i32> {
    let (proxy, input) = csp::bounded(10);
    go!(move || {
        let mut queue = VecDeque::with_capacity(16);
        loop {
            select! {
                Ok(e) = <-input => queue.push_back(e),
                // With nothing in the queue, the output is off.
                sent = out <- queue.front().copied().unwrap_or_default(), if !queue.is_empty() => match sent {
                    Ok(()) => _ = queue.pop_front(),
                    Err(_) => return,
                },
                else => return,
            }
        }
    });
    proxy
}

/// The smallest head of all, whose channel moves on.
fn next(h: &mut BinaryHeap<PeekCh>) -> Option<i32> {
    let mut minchan = h.pop().expect("there is always a channel in the heap");
    let min = minchan.head;
    minchan.head = minchan.ch.recv().ok()?;
    h.push(minchan);
    Some(min)
}

fn sieve() -> Receiver<i32> {
    // The output values.
    let (out, output) = csp::bounded(10);
    out.send(2).unwrap();
    out.send(3).unwrap();

    // The channel of all composites to be eliminated in increasing order.
    let (composites, all_composites) = csp::bounded(50);

    // The feedback loop.
    let (primes, all_primes) = csp::bounded(10);
    primes.send(3).unwrap();

    // Merge channels of multiples of `primes` into `composites`.
    go!(move || -> Option<()> {
        let mut h = BinaryHeap::new();
        let mut min = 15;
        loop {
            let m = multiples(all_primes.recv().ok()?);
            let head = m.recv().ok()?;
            while min < head {
                composites.send(min).ok()?;
                min = next(&mut h)?;
            }
            while min == head {
                min = next(&mut h)?;
            }
            composites.send(head).ok()?;
            h.push(PeekCh { head: m.recv().ok()?, ch: m });
        }
    });

    // Sieve out `composites` from the candidates.
    go!(move || -> Option<()> {
        // For the nth prime only the multiples of the primes up to its square root are needed. So the merging goroutine
        // receives from `primes` much more slowly than this one sends, which would fill the buffer and block this one:
        // a deadlock. A proxy that buffers without a bound solves it.
        let primes = sendproxy(primes);
        let candidates = odds();
        let mut p = candidates.recv().ok()?;
        loop {
            let c = all_composites.recv().ok()?;
            while p < c {
                primes.send(p).ok()?;
                out.send(p).ok()?;
                p = candidates.recv().ok()?;
            }
            if p == c {
                p = candidates.recv().ok()?;
            }
        }
    });
    output
}

#[csp::test]
fn main() {
    let primes = sieve();
    for prime in PRIMES {
        assert_eq!(primes.recv(), Ok(prime));
    }
}
