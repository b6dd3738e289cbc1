// Copyright 2009 The Go Authors. All rights reserved.
// Use of this source code is governed by a BSD-style
// license that can be found in tests/golang/LICENSE.

// What a channel's type allows: Go's `test/chan/perm.go`. `cr` is its `<-chan int`, `cs` its `chan<- int`, and a pair its
// `chan int`. What differs: either side may close.

use csp::{Receiver, Sender, select};

fn main() {
    let (mut cs, mut cr): (Sender<i32>, Receiver<i32>) = csp::bounded(1);
    let mut c: (Sender<i32>, Receiver<i32>) = csp::bounded(1);

    cr = c.1.clone(); // ok
    cs = c.0.clone(); // ok
    c = cr; // ERROR
    c = cs; // ERROR
    cr = cs; // ERROR
    cs = cr; // ERROR

    c.0.send(0); // ok
    c.1.recv(); // ok

    cr.send(0); // ERROR
    cr.recv(); // ok
    cr.try_send(0); // ERROR

    cs.send(0); // ok
    cs.recv(); // ERROR
    cs.try_recv(); // ERROR

    select! {
        c.0 <- 0 => {} // ok
        x = <-c.1 => drop(x), // ok

        cr <- 0 => {} // ERROR
        x = <-cr => drop(x), // ok

        cs <- 0 => {} // ok
        x = <-cs => drop(x), // ERROR
    }

    select! {
        send(c.0, 0) -> _ => {} // ok
        recv(c.1) -> x => drop(x), // ok

        send(cr, 0) -> _ => {} // ERROR
        recv(cr) -> x => drop(x), // ok

        send(cs, 0) -> _ => {} // ok
        recv(cs) -> x => drop(x), // ERROR
    }

    for _ in cs {} // ERROR
    for _ in &cs {} // ERROR
    for _ in cs.iter() {} // ERROR

    c.0.close(); // ok
    c.1.close(); // ok
    cs.close(); // ok
    cr.close(); // ok
}
