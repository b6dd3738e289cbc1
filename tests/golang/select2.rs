// Copyright 2010 The Go Authors. All rights reserved.
// Use of this source code is governed by a BSD-style
// license that can be found in tests/golang/LICENSE.

//! Selects use no memory that they do not give back.

use csp::{Receiver, Sender, go, select};

use crate::support::{in_child, scaled};
use crate::{allocated, allocations};

fn sender(c: Sender<i32>, n: usize) {
    for _ in 0..n {
        c.send(1).unwrap();
    }
}

fn receiver(c: &Receiver<i32>, dummy: &Receiver<i32>, n: usize) {
    for _ in 0..n {
        select! {
            <-c => {}
            <-dummy => panic!("dummy"),
        }
    }
}

/// In a process of its own: the numbers are the process's.
#[test]
fn main() {
    in_child(&[], || {
        csp::spawn(|| {
            let n = scaled(100_000, 10_000);
            let (c, values) = csp::bounded(0);
            let (_dummy, dummy) = csp::bounded(0);

            // warm up
            let sending = go!(sender(c.clone(), n));
            receiver(&values, &dummy, n);
            sending.join().unwrap();
            let (before, count) = (allocated(), allocations());

            // second time shouldn't increase footprint by much
            let sending = go!(sender(c.clone(), n));
            receiver(&values, &dummy, n);
            sending.join().unwrap();
            let (grown, made) = (allocated() - before, allocations() - count);
            assert!(grown < n as isize, "{grown} bytes more after {n} selects");
            // Neither for a while.
            assert!(made < n / 10, "{made} allocations in {n} selects");
        })
        .join()
        .unwrap();
    })
    .expect_success();
}
