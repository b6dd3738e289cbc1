// Copyright 2009 The Go Authors. All rights reserved.
// Use of this source code is governed by a BSD-style
// license that can be found in tests/golang/LICENSE.

//! The primes up to 100: a chain of filters, each of which takes the multiples of one prime out.

use csp::{Receiver, Sender, go};

/// The primes up to 100.
pub(crate) const PRIMES: [i32; 25] =
    [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97];

/// Sends 2, 3, 4, .. to `ch`.
fn generate(ch: Sender<i32>) {
    for i in 2.. {
        if ch.send(i).is_err() {
            return;
        }
    }
}

/// Copies the values of `input` to `out`, without those that `prime` divides.
fn filter(input: Receiver<i32>, out: Sender<i32>, prime: i32) {
    for i in input {
        if i % prime != 0 && out.send(i).is_err() {
            return;
        }
    }
}

/// Chains filters together.
fn sieve(primes: Sender<i32>) {
    let (tx, mut ch) = csp::bounded(0);
    go!(generate(tx));
    loop {
        // `ch` is another one each time.
        let prime = ch.recv().unwrap();
        if primes.send(prime).is_err() {
            return;
        }
        let (tx, ch1) = csp::bounded(0);
        go!(filter(ch, tx, prime));
        ch = ch1;
    }
}

#[csp::test]
fn main() {
    let (tx, primes) = csp::bounded(0);
    go!(sieve(tx));
    for prime in PRIMES {
        assert_eq!(primes.recv(), Ok(prime));
    }
}
