// Copyright 2019 The Go Authors. All rights reserved.
// Use of this source code is governed by a BSD-style
// license that can be found in tests/golang/LICENSE.

//! Leaving a body early. Go's `break` leaves the `select`; here it leaves the loop around it, as in Rust's `match`, and
//! a labelled block stands for what Go's leaves.

#![allow(unreachable_code)]

use csp::{go, select};

#[csp::test]
fn main() {
    let (tx, ch) = csp::bounded(0);
    go!(move || while tx.send(5).is_ok() {});

    'select: {
        select! {
            <-ch => {
                break 'select;
                panic!("unreachable");
            }
        }
        panic!("unreachable");
    }

    'select: {
        select! {
            default => {
                break 'select;
                panic!("unreachable");
            }
        }
        panic!("unreachable");
    }

    'select: {
        select! {
            <-ch => {
                break 'select;
                panic!("unreachable");
            }
            default => {
                break 'select;
                panic!("unreachable");
            }
        }
        panic!("unreachable");
    }

    let (full, _nobody) = csp::bounded(0);
    'select: {
        select! {
            <-ch => {
                break 'select;
                panic!("unreachable");
            }
            full <- 10 => panic!("unreachable"),
            default => {
                break 'select;
                panic!("unreachable");
            }
        }
        panic!("unreachable");
    }

    // Without a label: the loop.
    let mut rounds = 0;
    loop {
        rounds += 1;
        select! {
            <-ch => {
                break;
                panic!("unreachable");
            }
            default => continue,
        }
        panic!("unreachable");
    }
    assert!(rounds > 0);
}
