// Copyright 2011 The Go Authors. All rights reserved.
// Use of this source code is governed by a BSD-style
// license that can be found in tests/golang/LICENSE.

//! What binds how tightly to the arrow.

use csp::select;

#[csp::test]
fn chanchan() {
    let (cc, channels) = csp::bounded(1);
    let (c, rx) = csp::bounded(1);
    cc.send(c).unwrap();
    select! {
        channels.recv().unwrap() <- 2 => {}
        default => panic!("nonblock"),
    }
    assert_eq!(rx.recv(), Ok(2), "bad receive");
}

#[csp::test]
fn sendprec() {
    let (c, rx) = csp::bounded(1);
    let (no, yes) = (false, true);
    select! {
        c <- no || yes => {} // the same as c <- (no || yes)
    }
    assert_eq!(rx.recv(), Ok(true), "sent false");
}
