// Copyright 2011 The Go Authors. All rights reserved.
// Use of this source code is governed by a BSD-style
// license that can be found in tests/golang/LICENSE.

//! Channels of a type without a size can be made, and used.

#[csp::test]
fn main() {
    for (tx, rx) in [csp::bounded::<[u8; 0]>(0), csp::bounded::<[u8; 0]>(1), csp::unbounded()] {
        csp::go!(move || tx.send([]));
        assert_eq!(rx.iter().count(), 1);
    }
    for (tx, rx) in [csp::bounded::<()>(0), csp::bounded::<()>(1), csp::unbounded()] {
        csp::go!(move || (0..100).for_each(|_| tx.send(()).unwrap()));
        assert_eq!(rx.iter().count(), 100);
    }
}
