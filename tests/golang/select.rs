// Copyright 2009 The Go Authors. All rights reserved.
// Use of this source code is governed by a BSD-style
// license that can be found in tests/golang/LICENSE.

//! The values of all arms are evaluated, also where the channel is nil, and one of them is sent.

use csp::{Sender, select};

#[derive(Default)]
struct Values {
    counter: u32,
    shift: u32,
}

impl Values {
    fn get_value(&mut self) -> u32 {
        self.counter += 1;
        1 << self.shift
    }
}

/// `None` is Go's nil channel: the arm is taken out by its condition, and its value evaluated nevertheless.
fn send(values: &mut Values, mut a: Option<&Sender<u32>>, mut b: Option<&Sender<u32>>) -> usize {
    let (nil, _nobody) = csp::bounded(0);
    let mut i = 0;
    loop {
        select! {
            a.unwrap_or(&nil) <- values.get_value(), if a.is_some() => {
                i += 1;
                a = None;
            }
            b.unwrap_or(&nil) <- values.get_value(), if b.is_some() => {
                i += 1;
                b = None;
            }
            default => break,
        }
        values.shift += 1;
    }
    i
}

#[csp::test]
fn main() {
    let mut values = Values::default();
    let (a, from_a) = csp::bounded(1);
    let (b, from_b) = csp::bounded(1);
    assert_eq!(send(&mut values, Some(&a), Some(&b)), 2);
    let (av, bv) = (from_a.recv().unwrap(), from_b.recv().unwrap());
    assert_eq!(av | bv, 3, "bad values {av} {bv}");
    assert_eq!(send(&mut values, Some(&a), None), 1);
    assert_eq!(values.counter, 10);
}
