// Copyright 2009 The Go Authors. All rights reserved.
// Use of this source code is governed by a BSD-style
// license that can be found in tests/golang/LICENSE.

//! No two arms of one select run.

use std::collections::HashSet;

use csp::{Receiver, Sender, go, select};

use crate::support::scaled;

/// Sends a counter to one of four channels. If two arms of one select ran, the same value would go to two of them.
fn sender(n: i32, c1: Sender<i32>, c2: Sender<i32>, c3: Sender<i32>, c4: Sender<i32>) {
    for i in 0..n {
        select! {
            c1 <- i => {}
            c2 <- i => {}
            c3 <- i => {}
            c4 <- i => {}
        }
    }
}

/// Passes on what `sender` sends. One channel for all four arms would be simpler, and would not have shown the fault
/// that Go once had.
fn mux(out: Sender<i32>, input: Receiver<i32>, done: Sender<bool>) {
    for v in input {
        out.send(v).unwrap();
    }
    done.send(true).unwrap();
}

/// Gets a stream of values from the four and looks for one that comes twice.
fn recver(input: Receiver<i32>) -> usize {
    let mut seen = HashSet::new();
    for v in input {
        assert!(seen.insert(v), "got duplicate value: {v}");
    }
    seen.len()
}

#[csp::test]
fn main() {
    let iterations = scaled(100_000, 5_000);
    let (c1, r1) = csp::bounded(0);
    let (c2, r2) = csp::bounded(0);
    let (c3, r3) = csp::bounded(0);
    let (c4, r4) = csp::bounded(0);
    let (done, all_done) = csp::bounded(0);
    let (cmux, values) = csp::bounded(0);
    go!(sender(iterations, c1, c2, c3, c4)); // closes them when it returns
    go!(mux(cmux.clone(), r1, done.clone()));
    go!(mux(cmux.clone(), r2, done.clone()));
    go!(mux(cmux.clone(), r3, done.clone()));
    go!(mux(cmux.clone(), r4, done.clone()));
    go!(move || {
        (0..4).for_each(|_| assert_eq!(all_done.recv(), Ok(true)));
        cmux.close();
    });
    assert_eq!(recver(values), iterations as usize);
}
