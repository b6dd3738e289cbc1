// Copyright 2009 The Go Authors. All rights reserved.
// Use of this source code is governed by a BSD-style
// license that can be found in tests/golang/LICENSE.

//! Many goroutines, threaded together, which end one after another.

use csp::{Receiver, Sender, go};

use crate::support::scaled;

fn f(left: Sender<i32>, right: Receiver<i32>) {
    left.send(right.recv().unwrap()).unwrap();
}

#[csp::test]
fn main() {
    let n = scaled(10_000, 1_000);
    let (mut left, leftmost) = csp::bounded(0);
    for _ in 0..n {
        let (next, right) = csp::bounded(0);
        go!(f(left, right));
        left = next;
    }
    go!((|c: Sender<i32>| c.send(1).unwrap())(left));
    assert_eq!(leftmost.recv(), Ok(1));
}
