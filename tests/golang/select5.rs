// Copyright 2011 The Go Authors. All rights reserved.
// Use of this source code is governed by a BSD-style
// license that can be found in tests/golang/LICENSE.

//! Every way to write a select of which one arm is ready: its operands are evaluated once and in the order of the
//! source, whichever other arms are there, and where a received value goes is evaluated last.
//!
//! Go's program writes a program with all the combinations. Here a macro makes them.

use std::cell::Cell;
use std::collections::HashMap;

use csp::select;

/// Checks the order of operations: the numbers that the calls have increase.
#[derive(Default)]
struct Order {
    last: Cell<i32>,
    count: Cell<usize>,
}

impl Order {
    fn check(&self, o: i32) {
        assert!(o > self.last.get(), "invalid order: {o} after {}", self.last.get());
        self.last.set(o);
        self.count.set(self.count.get() + 1);
    }

    /// Begins again, and says how many calls there were.
    fn reset(&self) -> usize {
        self.last.set(0);
        self.count.take()
    }

    /// A channel.
    fn fc<'a, C>(&self, c: &'a C, o: i32) -> &'a C {
        self.check(o);
        c
    }

    /// A place.
    fn fp<'a>(&self, p: &'a mut i32, o: i32) -> &'a mut i32 {
        self.check(o);
        p
    }

    /// A value.
    fn fn_(&self, n: i32, o: i32) -> i32 {
        self.check(o);
        n
    }
}

/// Gives a select a frame of its own: in a debug build those of hundreds would not fit on the stack together.
fn in_a_function(select: &mut dyn FnMut()) {
    select();
}

/// Runs `$run!` with every combination: the arms in braces, followed by some of those in brackets. With each goes the
/// list of the calls in it.
macro_rules! every {
    ($run:ident [$($calls:literal)*] {$($arms:tt)*} []) => { $run! { [$($calls),*] $($arms)* } };
    ($run:ident [$($calls:literal)*] {$($arms:tt)*} [{[$($more:literal)*] $($arm:tt)*} $($rest:tt)*]) => {
        every!($run [$($calls)*] {$($arms)*} [$($rest)*]);
        every!($run [$($calls)* $($more)*] {$($arms)* $($arm)*} [$($rest)*]);
    };
}

#[csp::test]
fn recv() {
    // The channel is buffered, so that one goroutine is enough: this is about which calls happen.
    let (c, rc) = csp::bounded(1);
    let (dummy, rdummy) = csp::bounded(0);
    let nilch = csp::never::<i32>();
    let o = Order::default();
    let (mut x, mut n, mut m) = (0, 1, HashMap::new());

    macro_rules! run {
        ([$($calls:literal),*] $($arms:tt)*) => {
            c.send(n).unwrap();
            assert_ne!(x, n);
            in_a_function(&mut || select! { $($arms)* });
            assert_eq!(x, n);
            assert_eq!(o.reset(), [$($calls),*].len());
            n += 1;
        };
    }
    // Some of the others, and `default`: before the receive, after it, or not at all.
    macro_rules! with_others {
        ([$($calls:literal)*] $($receive:tt)*) => {
            every!(run [$($calls)*] { $($receive)* } [
                {[] default => panic!("nonblock"),}
                {[2 3] o.fc(&dummy, 2) <- o.fn_(1, 3) => panic!("dummy send"),}
                {[4] <-o.fc(&rdummy, 4) => panic!("dummy receive"),}
                {[5 6] o.fc(&dummy, 5) <- o.fn_(1, 6), if false => panic!("nilch send"),}
                {[7] <-o.fc(&nilch, 7) => panic!("nilch recv"),}
            ]);
            every!(run [$($calls)*] { default => panic!("nonblock"), $($receive)* } [
                {[2] send(o.fc(&dummy, 2), o.fn_(1, 3)) -> _ => panic!("dummy send"),}
                {[4] recv(o.fc(&rdummy, 4)) -> _ => panic!("dummy receive"),}
                {[5] send(o.fc(&dummy, 5), o.fn_(1, 6)) -> _, if false => panic!("nilch send"),}
                {[7] recv(o.fc(&nilch, 7)) -> _ => panic!("nilch recv"),}
            ]);
        };
    }
    // Direct, through a pointer, to a new variable, out of the `Result`, and to a map.
    with_others!([1] v = <-o.fc(&rc, 1) => x = v.unwrap(),);
    with_others!([1 100] v = <-o.fc(&rc, 1) => *o.fp(&mut x, 100) = v.unwrap(),);
    with_others!([1] recv(o.fc(&rc, 1)) -> y => { let y = y.unwrap(); x = y });
    with_others!([1] Ok(y) = <-o.fc(&rc, 1) => x = y,);
    with_others!([1 100] Ok(y) = <-o.fc(&rc, 1) => { m.insert(o.fn_(13, 100), y); x = m[&13] });
    assert_eq!(n, 1 + 5 * 48);
}

#[csp::test]
fn send() {
    let (c, rc) = csp::bounded(1);
    let (dummy, rdummy) = csp::bounded(0);
    let nilch = csp::never::<i32>();
    let o = Order::default();
    let mut n = 1;

    macro_rules! run {
        ([$($calls:literal),*] $($arms:tt)*) => {
            in_a_function(&mut || select! { $($arms)* });
            assert_eq!(rc.try_recv(), Ok(n));
            assert_eq!(o.reset(), [$($calls),*].len());
            n += 1;
        };
    }
    macro_rules! with_others {
        ([$($calls:literal)*] $($send:tt)*) => {
            every!(run [$($calls)*] { $($send)* } [
                {[] default => panic!("nonblock"),}
                {[3 4] o.fc(&dummy, 3) <- o.fn_(1, 4) => panic!("dummy send"),}
                {[5] <-o.fc(&rdummy, 5) => panic!("dummy receive"),}
                {[6 7] o.fc(&dummy, 6) <- o.fn_(1, 7), if false => panic!("nilch send"),}
                {[8] <-o.fc(&nilch, 8) => panic!("nilch recv"),}
            ]);
            every!(run [$($calls)*] { default => panic!("nonblock"), $($send)* } [
                {[3] send(o.fc(&dummy, 3), o.fn_(1, 4)) -> _ => panic!("dummy send"),}
                {[5] recv(o.fc(&rdummy, 5)) -> _ => panic!("dummy receive"),}
                {[6] send(o.fc(&dummy, 6), o.fn_(1, 7)) -> _, if false => panic!("nilch send"),}
                {[8] recv(o.fc(&nilch, 8)) -> _ => panic!("nilch recv"),}
            ]);
        };
    }
    with_others!([1 2] o.fc(&c, 1) <- o.fn_(n, 2) => {});
    with_others!([1 2] sent = o.fc(&c, 1) <- o.fn_(n, 2) => sent.unwrap(),);
    // crossbeam's arm makes its value when it has been chosen: after all others, of which none is made.
    with_others!([1 100] send(o.fc(&c, 1), o.fn_(n, 100)) -> sent => sent.unwrap(),);
    assert_eq!(n, 1 + 3 * 48);
}

/// Nothing is ready but `default`: nothing is received, and where it would go is not even looked at.
#[csp::test]
fn nonblock() {
    fn nowhere() -> &'static mut Result<i32, csp::channel::RecvError> {
        panic!("looked where a value goes that there is not")
    }
    let (dummy, rdummy) = csp::bounded(0);
    let nilch = csp::never::<i32>();
    let (mut x, mut n) = (0, 0);

    macro_rules! run {
        ([] $($arms:tt)*) => {
            in_a_function(&mut || select! { $($arms)* default => n += 1 });
            in_a_function(&mut || select! { default => n += 1, $($arms)* });
        };
    }
    every!(run [] {} [
        {[] dummy <- 1 => panic!("dummy <- 1"),}
        {[] dummy <- 1, if false => panic!("nilch <- 1"),}
        {[] <-rdummy => panic!("<-dummy"),}
        {[] v = <-rdummy => x = v.unwrap(),}
        {[] v = <-rdummy => *nowhere() = v,}
        {[] <-nilch => panic!("<-nilch"),}
        {[] Ok(v) = <-nilch => x = v,}
        {[] v = <-nilch => *nowhere() = v,}
    ]);
    assert_eq!((x, n), (0, 2 * 256));
}
