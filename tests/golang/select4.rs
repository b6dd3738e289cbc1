// Copyright 2010 The Go Authors. All rights reserved.
// Use of this source code is governed by a BSD-style
// license that can be found in tests/golang/LICENSE.

//! Where a received value goes is evaluated when its arm runs, and not at all for the others.

use csp::select;

fn f() -> &'static mut i32 {
    unreachable!("BUG: called f")
}

#[csp::test]
fn main() {
    struct X {
        a: i32,
    }
    let mut x = X { a: 0 };
    let (c, from_c) = csp::bounded(1);
    let (_c1, from_c1) = csp::bounded(0);
    c.send(42).unwrap();
    select! {
        v = <-from_c1 => *f() = v.unwrap(),
        v = <-from_c => x.a = v.unwrap(),
    }
    assert_eq!(x.a, 42);
}
