//! Does one operation on a channel, alone, so many times: what `scripts/instructions.sh` has valgrind count.
//!
//! ```text
//! instructions CHANNEL OPERATION N
//! instructions --list
//! ```
//!
//! All of it happens on the main thread, and nothing waits: valgrind does not follow goroutines from stack to stack.

use csp::channel::{Receiver, Sender, bounded, unbounded};
use csp::select;
use std::hint::black_box;

const CHANNELS: &[&str] = &["bounded1", "bounded128", "unbounded"];
const OPERATIONS: &[&str] = &["send", "recv", "try_send", "try_recv", "select_default"];

/// Only what happens in here is counted.
#[inline(never)]
fn measured<R>(operation: impl FnOnce() -> R) -> R {
    black_box(operation())
}

fn run(tx: &Sender<u64>, rx: &Receiver<u64>, operation: &str, n: u64) {
    for number in 0..n {
        match operation {
            "send" => {
                measured(|| tx.send(number)).unwrap();
                assert_eq!(rx.try_recv(), Ok(number));
            }
            "try_send" => {
                measured(|| tx.try_send(number)).unwrap();
                assert_eq!(rx.try_recv(), Ok(number));
            }
            "recv" => {
                tx.try_send(number).unwrap();
                assert_eq!(measured(|| rx.recv()), Ok(number));
            }
            "try_recv" => {
                tx.try_send(number).unwrap();
                assert_eq!(measured(|| rx.try_recv()), Ok(number));
            }
            "select_default" => measured(|| {
                select! {
                    <-rx => unreachable!("nobody sends"),
                    default => {}
                }
            }),
            _ => panic!("no operation {operation:?}"),
        }
    }
}

fn main() {
    // `cargo bench` says --bench; `cargo test --benches` says nothing.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let channel = |name: &str| match name {
        "bounded1" => bounded(1),
        "bounded128" => bounded(128),
        "unbounded" => unbounded(),
        _ => panic!("no channel {name:?}"),
    };
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--list"] => {
            for channel in CHANNELS {
                for operation in OPERATIONS {
                    println!("{channel} {operation}");
                }
            }
        }
        [name, operation, n] => {
            let (tx, rx) = channel(name);
            run(&tx, &rx, operation, n.parse().expect("N is a number"));
        }
        _ => {
            for name in CHANNELS {
                for operation in OPERATIONS {
                    let (tx, rx) = channel(name);
                    run(&tx, &rx, operation, 1_000);
                }
            }
        }
    }
}
