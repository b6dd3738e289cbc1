// Copyright 2009 The Go Authors. All rights reserved.
// Use of this source code is governed by a BSD-style
// license that can be found in tests/golang/LICENSE.

//! [Power series](super::powser) as channels of rationals.

use super::powser::{self, Item, Rat};

impl Item for Rat {
    fn new(rat: Rat) -> Rat {
        rat
    }

    fn rat(self) -> Rat {
        self
    }
}

#[csp::test]
fn main() {
    powser::main::<Rat>();
}

#[csp::test]
fn more() {
    powser::more::<Rat>();
}
