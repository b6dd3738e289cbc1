//! Wait groups: Go's own tests, and what Rust adds.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use csp::{Builder, WaitGroup};
use support::scaled;

fn panic_message(f: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f)).unwrap_err();
    payload.downcast_ref::<&str>().map(|message| (*message).to_owned()).unwrap()
}

/// Go's `TestWaitGroup`.
#[test]
fn two_groups_hold_each_others_goroutines() {
    fn test(one: &WaitGroup, two: &WaitGroup) {
        let n = 16;
        one.add(n);
        two.add(n);
        let (tx, exited) = csp::bounded(n as usize);
        for _ in 0..n {
            let (one, two, tx) = (one.clone(), two.clone(), tx.clone());
            csp::spawn(move || {
                one.done();
                two.wait();
                tx.send(()).unwrap();
            });
        }
        one.wait();
        for _ in 0..n {
            assert!(exited.try_recv().is_err(), "a goroutine went on before the group was done");
            two.done();
        }
        for _ in 0..n {
            exited.recv().unwrap();
        }
    }
    let (one, two) = (WaitGroup::new(), WaitGroup::new());
    for _ in 0..8 {
        test(&one, &two);
    }
}

/// Go's `TestWaitGroupMisuse`.
#[test]
fn nobody_is_counted_out_in_place_of_a_goroutine() {
    let (wg, gate) = (WaitGroup::new(), csp::channel::bounded::<()>(0));
    let rx = gate.1;
    let handle = wg.go(move || rx.recv().unwrap_err());
    assert_eq!(panic_message(|| wg.done()), "negative WaitGroup counter");
    drop(gate.0);
    wg.wait();
    handle.join().unwrap();
}

#[test]
fn a_builder_that_starts_nothing_counts_out() {
    let wg = WaitGroup::new();
    let builder = csp::Builder::new().wait_group(&wg);
    assert_eq!(format!("{wg:?}"), "WaitGroup { count: 1, .. }");
    drop(builder);
    wg.wait();
}

#[test]
fn a_negative_count_panics() {
    let wg = WaitGroup::new();
    wg.add(1);
    wg.done();
    assert_eq!(panic_message(|| wg.done()), "negative WaitGroup counter");
    assert_eq!(panic_message(|| wg.add(-3)), "negative WaitGroup counter");
    // And changes nothing.
    wg.wait();
    wg.add(2);
    assert_eq!(panic_message(|| wg.add(-3)), "negative WaitGroup counter");
    wg.add(-2);
    wg.wait();
}

/// Go's `TestWaitGroupRace`.
#[test]
fn what_was_done_before_done_is_seen_after_wait() {
    for _ in 0..scaled(1_000, 100) {
        let (wg, n) = (WaitGroup::new(), Arc::new(AtomicUsize::new(0)));
        for _ in 0..2 {
            wg.add(1);
            let (wg, n) = (wg.clone(), n.clone());
            csp::spawn(move || {
                n.fetch_add(1, Ordering::Relaxed);
                wg.done();
            });
        }
        wg.wait();
        assert_eq!(n.load(Ordering::Relaxed), 2);
    }
}

/// Go's `TestWaitGroupAlign`, as far as it means anything here: a group within something else.
#[test]
fn a_group_is_small_and_goes_anywhere() {
    struct Holder {
        _byte: u8,
        wg: WaitGroup,
    }
    let holder = Holder { _byte: 1, wg: WaitGroup::default() };
    holder.wg.add(1);
    let wg = holder.wg.clone();
    csp::spawn(move || wg.done());
    holder.wg.wait();
}

/// Go's `TestWaitGroupGo`.
#[test]
fn go_counts_in_and_out() {
    let (wg, i) = (WaitGroup::new(), Arc::new(AtomicUsize::new(0)));
    let theirs = i.clone();
    let handle = wg.go(move || theirs.fetch_add(1, Ordering::Relaxed));
    wg.wait();
    assert_eq!(i.load(Ordering::Relaxed), 1);
    assert_eq!(handle.join().unwrap(), 0);
}

#[test]
fn an_empty_group_does_not_wait() {
    WaitGroup::new().wait();
    csp::spawn(|| WaitGroup::new().wait()).join().unwrap();
}

#[test]
fn goroutines_and_threads_wait_together() {
    let wg = WaitGroup::new();
    wg.add(1);
    let goroutines = (0..20).map(|_| {
        let wg = wg.clone();
        csp::spawn(move || wg.wait())
    });
    let goroutines = goroutines.collect::<Vec<_>>();
    thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| wg.wait());
        }
        assert!(goroutines.iter().all(|goroutine| !goroutine.is_finished()));
        wg.done();
    });
    goroutines.into_iter().for_each(|goroutine| goroutine.join().unwrap());
}

#[test]
fn threads_may_be_counted_as_well() {
    let wg = WaitGroup::new();
    wg.add(4);
    for _ in 0..4 {
        let wg = wg.clone();
        thread::spawn(move || wg.done());
    }
    csp::spawn(move || wg.wait()).join().unwrap();
}

#[test]
fn a_goroutine_is_counted_out_however_it_ends() {
    let wg = WaitGroup::new();
    let returned = wg.go(|| 1);
    let panicked = wg.go(|| -> i32 { std::panic::resume_unwind(Box::new("no luck")) });
    let exited = Builder::new().wait_group(&wg).spawn(|| -> i32 { csp::goexit() }).unwrap();
    wg.wait();
    assert!(returned.is_finished() && panicked.is_finished() && exited.is_finished());
    assert_eq!(returned.join().unwrap(), 1);
    assert!(panicked.join().unwrap_err().is_panic());
    assert!(exited.join().unwrap_err().is_exit());
}

#[test]
fn a_goroutine_is_counted_in_before_it_starts() {
    for _ in 0..scaled(1_000, 100) {
        let (wg, n) = (WaitGroup::new(), Arc::new(AtomicUsize::new(0)));
        for _ in 0..4 {
            let n = n.clone();
            wg.go(move || n.fetch_add(1, Ordering::Relaxed));
        }
        wg.wait();
        assert_eq!(n.load(Ordering::Relaxed), 4);
    }
}

#[test]
fn nobody_is_counted_in_when_the_goroutine_cannot_start() {
    let wg = WaitGroup::new();
    Builder::new().wait_group(&wg).stack_size(usize::MAX).spawn(|| ()).unwrap_err();
    wg.wait();
}

#[test]
fn a_group_can_be_used_again_and_again() {
    let wg = WaitGroup::new();
    for round in 0..scaled(500, 50) {
        let n = Arc::new(AtomicUsize::new(0));
        for _ in 0..round % 7 {
            let n = n.clone();
            wg.go(move || n.fetch_add(1, Ordering::Relaxed));
        }
        wg.wait();
        assert_eq!(n.load(Ordering::Relaxed), round % 7);
    }
}

#[test]
fn goroutines_of_a_group_start_others_in_it() {
    fn grow(wg: &WaitGroup, leaves: &Arc<AtomicUsize>, depth: u32) {
        if depth == 0 {
            leaves.fetch_add(1, Ordering::Relaxed);
            return;
        }
        for _ in 0..3 {
            let (group, leaves) = (wg.clone(), leaves.clone());
            wg.go(move || grow(&group, &leaves, depth - 1));
        }
    }
    let (wg, leaves, depth) = (WaitGroup::new(), Arc::new(AtomicUsize::new(0)), scaled(7, 4));
    grow(&wg, &leaves, depth);
    wg.wait();
    assert_eq!(leaves.load(Ordering::Relaxed), 3_usize.pow(depth));
}

#[test]
fn waiters_that_come_while_it_becomes_zero_are_not_lost() {
    for _ in 0..scaled(2_000, 100) {
        let wg = WaitGroup::new();
        wg.add(2);
        let doers = [wg.clone(), wg.clone()].map(|wg| csp::spawn(move || wg.done()));
        let waiters = [wg.clone(), wg.clone(), wg].map(|wg| csp::spawn(move || wg.wait()));
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        doers.into_iter().for_each(|doer| doer.join().unwrap());
    }
}

#[test]
fn debug_output_shows_the_count() {
    let wg = WaitGroup::new();
    wg.add(3);
    assert!(format!("{wg:?}").contains("count: 3"));
    wg.add(-3);
}
