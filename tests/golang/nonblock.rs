// Copyright 2009 The Go Authors. All rights reserved.
// Use of this source code is governed by a BSD-style
// license that can be found in tests/golang/LICENSE.

//! Operations that do not wait, with messages of several sizes and kinds.
//!
//! Go's program gives up after 10,000 attempts of 20 microseconds; this one goes on, as long as the machine is busy.

use std::fmt::Debug;

use csp::{Receiver, Sender, go, select};

fn receiver<T: PartialEq + Debug>(c: Receiver<T>, expected: T, strobe: Sender<bool>) {
    assert_eq!(c.recv(), Ok(expected));
    strobe.send(true).unwrap();
}

fn sender<T: Debug>(c: Sender<T>, value: T, strobe: Sender<bool>) {
    c.send(value).unwrap();
    strobe.send(true).unwrap();
}

fn sleep() {
    csp::yield_now();
    csp::yield_now();
    csp::yield_now();
}

fn test<T: Clone + PartialEq + Debug + Send + 'static>(buffer: usize, to_receiver: T, from_sender: T) {
    let (strobe, sync) = csp::bounded(0);
    let (tx, rx) = csp::bounded::<T>(buffer);

    select! {
        value = <-rx => panic!("blocked sender: {value:?}"),
        default => {}
    }

    go!(receiver(rx.clone(), to_receiver.clone(), strobe.clone()));
    loop {
        select! {
            sent = tx <- to_receiver.clone() => break sent.unwrap(),
            default => sleep(),
        }
    }
    sync.recv().unwrap();

    go!(sender(tx, from_sender.clone(), strobe));
    if buffer > 0 {
        sync.recv().unwrap();
    }
    let received = loop {
        select! {
            value = <-rx => break value,
            default => sleep(),
        }
    };
    assert_eq!(received, Ok(from_sender));
    if buffer == 0 {
        sync.recv().unwrap();
    }
}

#[csp::test]
fn main() {
    for buffer in 0..2 {
        test(buffer, 123_i32, 234);
        test(buffer, 123_456_i64, 234_567);
        test(buffer, true, true);
        test(buffer, "hello", "hello again");
        test(buffer, String::from("hello"), String::from("hello again"));
    }
}
