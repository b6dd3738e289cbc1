//! May: stackful coroutines, and channels that are all unbounded.

use crate::cpu_time::cpu_time;
use crate::tasks::{fanout_outcome, mandelbrot_row, plain_rows};
use crate::{Outcome, memory_kb};
use may::coroutine;
use may::sync::{WaitGroup, mpmc, mpsc, spsc};
use may::{cqueue, go};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Runs the workload in a coroutine.
pub fn run(workload: &str, procs: usize, n: u64) -> (Outcome, Duration) {
    may::config().set_workers(procs);
    let workload = workload.to_string();
    let coroutine = go!(move || {
        let start = Instant::now();
        let outcome = match &*workload {
            "yield" => yield_now(n).into(),
            "spawn" => no_ops(n).into(),
            "pingpong" => pingpong(n).into(),
            "spsc" => one_to_one(n).into(),
            "mpmc" => many_to_many(n).into(),
            "select2" => select2(n).into(),
            "select_default" => select_default(n).into(),
            "skynet" => skynet(n).into(),
            "chain" => chain(n).into(),
            "parked" => parked(n),
            "sleepers" => sleepers(n),
            "fanout" => fanout(n, procs),
            _ => unreachable!("the table of forms has let {workload} pass"),
        };
        (outcome, start.elapsed())
    });
    coroutine.join().expect("the workload does not panic")
}

fn yield_now(n: u64) -> u64 {
    let yields = |n: u64| {
        move || {
            for _ in 0..n {
                coroutine::yield_now();
            }
            n
        }
    };
    let (a, b) = (go!(yields(n / 2)), go!(yields(n - n / 2)));
    a.join().unwrap() + b.join().unwrap()
}

fn no_ops(n: u64) -> u64 {
    let wg = WaitGroup::new();
    for _ in 0..n {
        let wg = wg.clone();
        go!(move || drop(wg));
    }
    wg.wait();
    n
}

fn pingpong(n: u64) -> u64 {
    let (ping, pinged) = spsc::channel();
    let (pong, ponged) = spsc::channel();
    go!(move || {
        while let Ok(number) = pinged.recv() {
            pong.send(number).unwrap();
        }
    });
    let mut sum = 0;
    for number in 0..n {
        ping.send(number).unwrap();
        sum += ponged.recv().unwrap();
    }
    sum
}

fn one_to_one(n: u64) -> u64 {
    let (tx, rx) = spsc::channel();
    go!(move || {
        for number in 0..n {
            tx.send(number).unwrap();
        }
    });
    let mut sum: u64 = 0;
    while let Ok(number) = rx.recv() {
        sum += number;
    }
    sum
}

fn many_to_many(n: u64) -> u64 {
    const PEERS: u64 = 8;
    let (tx, rx) = mpmc::channel();
    let consumers: Vec<_> = (0..PEERS)
        .map(|_| {
            let rx = rx.clone();
            go!(move || {
                let mut sum: u64 = 0;
                while let Ok(number) = rx.recv() {
                    sum += number;
                }
                sum
            })
        })
        .collect();
    for first in 0..PEERS {
        let tx = tx.clone();
        go!(move || {
            for number in (first..n).step_by(PEERS as usize) {
                tx.send(number).unwrap();
            }
        });
    }
    drop(tx);
    consumers.into_iter().map(|consumer| consumer.join().unwrap()).sum()
}

/// The queue of events that stands behind may's select, with an arm for each channel that lives until it closes: may's
/// `select!` itself starts a coroutine for each arm each time, and loses what the slower one has received.
fn select2(n: u64) -> u64 {
    let send = |tx: spsc::Sender<u64>, first: u64| {
        go!(move || {
            for number in (first..n).step_by(2) {
                tx.send(number).unwrap();
            }
        })
    };
    let (even_tx, even) = spsc::channel();
    let (odd_tx, odd) = spsc::channel();
    send(even_tx, 0);
    send(odd_tx, 1);
    let sum = AtomicU64::new(0);
    cqueue::scope(|queue| {
        let sum = &sum;
        for (token, input) in [even, odd].into_iter().enumerate() {
            go!(queue, token, move |events| {
                while let Ok(number) = input.recv() {
                    events.send(token);
                    sum.fetch_add(number, Ordering::Relaxed);
                }
            });
        }
        while queue.poll(None).is_ok() {}
    });
    sum.into_inner()
}

fn select_default(n: u64) -> u64 {
    let (tx, rx) = spsc::channel::<u64>();
    let mut empty = 0;
    for _ in 0..n {
        if rx.try_recv().is_err() {
            empty += 1;
        }
    }
    drop(tx);
    empty
}

fn skynet(n: u64) -> u64 {
    fn node(out: mpsc::Sender<u64>, first: u64, leaves: u64) {
        if leaves == 1 {
            out.send(first).unwrap();
            return;
        }
        let (tx, rx) = mpsc::channel();
        let leaves = leaves / 10;
        for child in 0..10 {
            let tx = tx.clone();
            go!(move || node(tx, first + child * leaves, leaves));
        }
        out.send((0..10).map(|_| rx.recv().unwrap()).sum()).unwrap();
    }

    let (tx, rx) = mpsc::channel();
    go!(move || node(tx, 0, n));
    rx.recv().unwrap()
}

fn chain(n: u64) -> u64 {
    let (mut left, leftmost) = spsc::channel();
    for _ in 0..n {
        let (tx, right) = spsc::channel();
        let to_left = std::mem::replace(&mut left, tx);
        go!(move || to_left.send(right.recv().unwrap() + 1).unwrap());
    }
    left.send(0).unwrap();
    leftmost.recv().unwrap()
}

fn parked(n: u64) -> Outcome {
    static ARRIVED: AtomicU64 = AtomicU64::new(0);
    static RELEASED: AtomicU64 = AtomicU64::new(0);

    let (open, gate) = mpmc::channel::<()>();
    let (all, arrived) = mpsc::channel();
    let finished = WaitGroup::new();
    let before = memory_kb("VmRSS:");
    for _ in 0..n {
        let (gate, all, finished) = (gate.clone(), all.clone(), finished.clone());
        go!(move || {
            if ARRIVED.fetch_add(1, Ordering::AcqRel) + 1 == n {
                all.send(()).unwrap();
            }
            assert!(gate.recv().is_err());
            RELEASED.fetch_add(1, Ordering::Relaxed);
            drop(finished);
        });
    }
    arrived.recv().unwrap();
    let bytes = memory_kb("VmRSS:").saturating_sub(before) * 1024;
    drop(open);
    finished.wait();
    Outcome { fields: format!(" bytes_per_task={}", bytes / n), ..RELEASED.load(Ordering::Relaxed).into() }
}

fn sleepers(n: u64) -> Outcome {
    static AWAKE: AtomicU64 = AtomicU64::new(0);

    let before = cpu_time();
    let wg = WaitGroup::new();
    for i in 0..n {
        let wg = wg.clone();
        go!(move || {
            let (start, duration) = (Instant::now(), Duration::from_millis(i % 1000));
            coroutine::sleep(duration);
            assert!(start.elapsed() >= duration);
            AWAKE.fetch_add(1, Ordering::Relaxed);
            drop(wg);
        });
    }
    wg.wait();
    Outcome { time: Some(cpu_time() - before), ..AWAKE.load(Ordering::Relaxed).into() }
}

fn fanout(n: u64, procs: usize) -> Outcome {
    static TOTAL: AtomicU64 = AtomicU64::new(0);

    let (expected, plain) = plain_rows(n);
    let start = Instant::now();
    let wg = WaitGroup::new();
    for row in 0..n {
        let wg = wg.clone();
        go!(move || {
            TOTAL.fetch_add(mandelbrot_row(row, n), Ordering::Relaxed);
            drop(wg);
        });
    }
    wg.wait();
    let time = start.elapsed();
    let total = TOTAL.load(Ordering::Relaxed);
    assert_eq!(total, expected);
    fanout_outcome(total, time, plain, procs)
}
