//! Fan-out, fan-in and cancellation, as in the Go blog's "Go Concurrency Patterns: Pipelines and cancellation".
//!
//! ```text
//!                ┌─▶ square ─┐
//!     generate ──┤           ├─▶ merge ──▶ main
//!                └─▶ square ─┘
//! ```
//!
//! Each stage is a goroutine that receives from the one before and sends to the one after. Closing a channel says that
//! no more values will come; closing `done` says that no more are wanted. A channel closes when its last `Sender` is
//! dropped, so the article's `defer close(out)` happens by itself when a stage returns.
//!
//! Run it with `cargo run --example pipeline`.

use csp::{Receiver, WaitGroup, bounded, go, select};
use std::ops::RangeInclusive;

/// Sends the numbers, then closes the channel: `gen` in the article.
fn generate(stages: &WaitGroup, done: &Receiver<()>, numbers: RangeInclusive<u64>) -> Receiver<u64> {
    let (tx, out) = bounded(0);
    let done = done.clone();
    go!(wg = stages, move || {
        for n in numbers {
            select! {
                tx <- n => {}
                <-done => return,
            }
        }
    });
    out
}

/// Squares what it receives: `sq` in the article.
fn square(stages: &WaitGroup, done: &Receiver<()>, input: &Receiver<u64>) -> Receiver<u64> {
    let (tx, out) = bounded(0);
    let (done, input) = (done.clone(), input.clone());
    go!(wg = stages, move || {
        for n in input {
            select! {
                tx <- n * n => {}
                <-done => return,
            }
        }
    });
    out
}

/// Gathers the values of all `inputs` in one channel, which closes when each of them has.
fn merge(stages: &WaitGroup, done: &Receiver<()>, inputs: Vec<Receiver<u64>>) -> Receiver<u64> {
    let (tx, out) = bounded(0);
    for input in inputs {
        let (done, tx) = (done.clone(), tx.clone());
        go!(wg = stages, move || {
            for n in input {
                select! {
                    tx <- n => {}
                    <-done => return,
                }
            }
        });
    }
    // The article waits for these goroutines with a wait group and closes `out` after them. Here each has a sender of
    // its own and the channel closes with the last one.
    out
}

/// Runs the numbers through two squaring goroutines and hands the merged channel to `consume`; returns when every stage
/// has come to its end.
fn squares<T>(numbers: RangeInclusive<u64>, consume: impl FnOnce(Receiver<u64>) -> T) -> T {
    let stages = WaitGroup::new();
    let (close_done, done) = bounded::<()>(0);

    let input = generate(&stages, &done, numbers);
    // Distribute the squaring work across two goroutines that both read from `input`.
    let outputs = vec![square(&stages, &done, &input), square(&stages, &done, &input)];
    let result = consume(merge(&stages, &done, outputs));

    drop(close_done); // Tell whoever is still sending that nobody will receive any more.
    stages.wait(); // Hangs if a stage did not hear it.
    result
}

#[csp::main]
fn main() {
    // All of it: the channel closes after the last value.
    let mut all: Vec<u64> = squares(1..=10, |out| out.into_iter().collect());
    all.sort(); // Two goroutines square, in any order.
    println!("the squares of 1 to 10:     {all:?}");
    assert_eq!(all, [1, 4, 9, 16, 25, 36, 49, 64, 81, 100]);

    // One value only, of very many. `out` is kept open until the stages have ended: they must have left by `done`.
    let (first, out) = squares(1..=1_000_000, |out| (out.recv().unwrap(), out));
    println!("one square of a million:    {first}");
    assert_eq!(first.isqrt().pow(2), first);
    assert!(out.recv().is_err(), "every stage has returned, and the last of them closed the channel");
    println!("and every stage came to its end");
}
