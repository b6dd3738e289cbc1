// Copyright 2009 The Go Authors. All rights reserved.
// Use of this source code is governed by a BSD-style
// license that can be found in tests/golang/LICENSE.

//! Channels are first in, first out, with a buffer and without.

use csp::{Receiver, Sender, go};

const N: i32 = 10;

#[csp::test]
fn asynch_fifo() {
    let (ch, out) = csp::bounded(N as usize);
    for i in 0..N {
        ch.send(i).unwrap();
    }
    for i in 0..N {
        assert_eq!(out.recv(), Ok(i), "bad receive");
    }
}

fn chain(ch: Receiver<i32>, val: i32, input: Receiver<i32>, out: Sender<i32>) {
    input.recv().unwrap();
    assert_eq!(ch.recv(), Ok(val));
    out.send(1).unwrap();
}

/// A daisy chain whose links read the elements one after another.
#[csp::test]
fn synch_fifo() {
    let (ch, elements) = csp::bounded(0);
    let (start, mut input) = csp::bounded(0);
    for i in 0..N {
        let (out, next) = csp::bounded(0);
        go!(chain(elements.clone(), i, input, out));
        input = next;
    }
    start.send(0).unwrap();
    for i in 0..N {
        ch.send(i).unwrap();
    }
    assert_eq!(input.recv(), Ok(1));
}
