// Copyright 2011 The Go Authors. All rights reserved.
// Use of this source code is governed by a BSD-style
// license that can be found in tests/golang/LICENSE.

//! Receives whose value is discarded, against every kind of send.

use csp::{Receiver, go, select};

fn recv1(c: Receiver<i32>) {
    c.recv().unwrap();
}

fn recv2(c: Receiver<i32>) {
    select! {
        <-c => {}
    }
}

fn recv3(c: Receiver<i32>) {
    let (_c2, c2) = csp::bounded::<i32>(0);
    select! {
        <-c => {}
        <-c2 => unreachable!(),
    }
}

fn send1(recv: fn(Receiver<i32>)) {
    let (c, receiver) = csp::bounded(0);
    let receiving = go!(recv(receiver));
    csp::yield_now();
    c.send(1).unwrap();
    receiving.join().unwrap();
}

fn send2(recv: fn(Receiver<i32>)) {
    let (c, receiver) = csp::bounded(0);
    let receiving = go!(recv(receiver));
    csp::yield_now();
    select! {
        sent = c <- 1 => sent.unwrap(),
    }
    receiving.join().unwrap();
}

fn send3(recv: fn(Receiver<i32>)) {
    let (c, receiver) = csp::bounded(0);
    let receiving = go!(recv(receiver));
    csp::yield_now();
    let (c2, _receiver2) = csp::bounded(0);
    select! {
        sent = c <- 1 => sent.unwrap(),
        c2 <- 1 => unreachable!(),
    }
    receiving.join().unwrap();
}

#[csp::test]
fn main() {
    for recv in [recv1, recv2, recv3] {
        send1(recv);
        send2(recv);
        send3(recv);
    }
}
