// Copyright 2011 The Go Authors. All rights reserved.
// Use of this source code is governed by a BSD-style
// license that can be found in tests/golang/LICENSE.

//! A select that loses leaves the queues of its channels as they should be, also where it was not alone in them and the
//! last. (Go's issue 2075.)

use csp::{go, select};

#[csp::test]
fn main() {
    let (c1, r1) = csp::bounded(0);
    let (c2, r2) = csp::bounded(0);
    let (c3, r3) = csp::bounded(0);
    let first = r1.clone();
    go!(move || first.recv().unwrap());
    go!(move || {
        select! {
            <-r1 => panic!("dummy"),
            <-r2 => c3.send(true).unwrap(),
        }
        r1.recv().unwrap();
    });
    go!(move || c2.send(true).unwrap());
    r3.recv().unwrap();
    c1.send(true).unwrap();
    c1.send(true).unwrap();
}
