// Copyright 2009 The Go Authors. All rights reserved.
// Use of this source code is governed by a BSD-style
// license that can be found in tests/golang/LICENSE.

//! [Power series](super::powser) as channels of interfaces.

use std::any::Any;

use super::powser::{self, Item, Rat};

/// What Go's program calls `item`.
type Interface = Box<dyn Any + Send>;

impl Item for Interface {
    fn new(rat: Rat) -> Interface {
        Box::new(rat)
    }

    fn rat(self) -> Rat {
        *self.downcast().expect("a rational")
    }
}

#[csp::test]
fn main() {
    powser::main::<Interface>();
}

#[csp::test]
fn more() {
    powser::more::<Interface>();
}
