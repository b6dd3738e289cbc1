//! Tokio: the runtime of all async peers, and the workloads that are about its tasks.

use crate::adapters::{AsyncChannel, CrossfireMpmc, CrossfireMpsc, CrossfireSpsc, Flume, Kanal, TokioMpsc};
use crate::async_workloads::{run_many, run_single};
use crate::cpu_time::cpu_time;
use crate::{Outcome, memory_kb};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Builder;
use tokio::spawn;
use tokio::sync::{Notify, watch};

/// Waits until so many have said that they are done.
#[derive(Clone)]
pub struct WaitGroup(Arc<(AtomicU64, u64, Notify)>);

impl WaitGroup {
    pub fn new(n: u64) -> WaitGroup {
        WaitGroup(Arc::new((AtomicU64::new(0), n, Notify::new())))
    }

    pub fn done(&self) {
        let (count, n, all) = &*self.0;
        if count.fetch_add(1, Ordering::AcqRel) + 1 == *n {
            all.notify_one();
        }
    }

    pub async fn wait(&self) {
        self.0.2.notified().await;
    }

    /// How many are done.
    pub fn count(&self) -> u64 {
        self.0.0.load(Ordering::Acquire)
    }
}

/// Runs the workload in a task. On one processor the runtime is the one for a single thread, which is faster there:
/// nothing in it has to be ready for a second worker.
pub fn run(peer: &str, workload: &str, procs: usize, n: u64) -> std::io::Result<(Outcome, Duration)> {
    let mut builder = if procs == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    let runtime = builder.worker_threads(procs).enable_time().build()?;
    if peer == "crossfire" {
        crossfire::detect_backoff_cfg();
    }
    let (peer, workload) = (peer.to_string(), workload.to_string());
    let task = runtime.spawn(async move {
        let start = Instant::now();
        let outcome = dispatch(&peer, &workload, procs, n).await;
        (outcome, start.elapsed())
    });
    let result = runtime.block_on(task).expect("the workload does not panic");
    runtime.shutdown_background();
    Ok(result)
}

async fn dispatch(peer: &str, workload: &str, procs: usize, n: u64) -> Outcome {
    let many = matches!(workload, "mpmc" | "mpmc0" | "parked");
    match peer {
        "tokio" => match workload {
            "yield" => yield_now(n).await.into(),
            "spawn" => no_ops(n).await.into(),
            "parked" => parked(n).await,
            "sleepers" => sleepers(n).await,
            "fanout" => fanout(n, procs).await,
            _ => run_single::<TokioMpsc, TokioMpsc>(workload, n).await,
        },
        "kanal" if many => run_many::<Kanal>(workload, n).await,
        "kanal" => run_single::<Kanal, Kanal>(workload, n).await,
        "flume" if many => run_many::<Flume>(workload, n).await,
        "flume" => run_single::<Flume, Flume>(workload, n).await,
        "async-channel" if many => run_many::<AsyncChannel>(workload, n).await,
        "async-channel" => run_single::<AsyncChannel, AsyncChannel>(workload, n).await,
        "crossfire" if many => run_many::<CrossfireMpmc>(workload, n).await,
        "crossfire" => run_single::<CrossfireSpsc, CrossfireMpsc>(workload, n).await,
        _ => unreachable!("{peer} is no async peer"),
    }
}

async fn yield_now(n: u64) -> u64 {
    async fn yields(n: u64) -> u64 {
        for _ in 0..n {
            tokio::task::yield_now().await;
        }
        n
    }
    let (a, b) = (spawn(yields(n / 2)), spawn(yields(n - n / 2)));
    a.await.unwrap() + b.await.unwrap()
}

async fn no_ops(n: u64) -> u64 {
    let wg = WaitGroup::new(n);
    for _ in 0..n {
        let wg = wg.clone();
        spawn(async move { wg.done() });
    }
    wg.wait().await;
    wg.count()
}

/// Tokio's channel for many receivers that see it close is `watch`.
async fn parked(n: u64) -> Outcome {
    let (open, gate) = watch::channel(());
    let (arrived, released) = (WaitGroup::new(n), WaitGroup::new(n));
    let before = memory_kb("VmRSS:");
    for _ in 0..n {
        let (mut gate, arrived, released) = (gate.clone(), arrived.clone(), released.clone());
        spawn(async move {
            arrived.done();
            assert!(gate.changed().await.is_err());
            released.done();
        });
    }
    arrived.wait().await;
    let bytes = memory_kb("VmRSS:").saturating_sub(before) * 1024;
    drop(open);
    released.wait().await;
    Outcome { fields: format!(" bytes_per_task={}", bytes / n), ..released.count().into() }
}

async fn sleepers(n: u64) -> Outcome {
    let before = cpu_time();
    let wg = WaitGroup::new(n);
    for i in 0..n {
        let wg = wg.clone();
        spawn(async move {
            let (start, duration) = (Instant::now(), Duration::from_millis(i % 1000));
            tokio::time::sleep(duration).await;
            assert!(start.elapsed() >= duration);
            wg.done();
        });
    }
    wg.wait().await;
    Outcome { time: Some(cpu_time() - before), ..wg.count().into() }
}

/// The same as in `benches/workloads`.
pub fn mandelbrot_row(row: u64, rows: u64) -> u64 {
    const WIDTH: u64 = 256;
    const LIMIT: u64 = 100;

    let ci = 2.5 * row as f64 / rows as f64 - 1.25;
    let mut total = 0;
    for column in 0..WIDTH {
        let cr = 2.5 * column as f64 / WIDTH as f64 - 2.0;
        let (mut zr, mut zi) = (0.0, 0.0);
        let mut iterations = 0;
        while iterations < LIMIT && zr * zr + zi * zi <= 4.0 {
            (zr, zi) = (zr * zr - zi * zi + cr, 2.0 * zr * zi + ci);
            iterations += 1;
        }
        total += iterations;
    }
    total
}

/// The sum of the rows in a plain loop, and the time that it takes.
pub fn plain_rows(n: u64) -> (u64, Duration) {
    let start = Instant::now();
    let total = (0..n).map(|row| mandelbrot_row(std::hint::black_box(row), n)).sum();
    (total, start.elapsed())
}

/// What comes of `fanout`: see `benches/workloads` for the fields.
pub fn fanout_outcome(total: u64, time: Duration, plain: Duration, procs: usize) -> Outcome {
    let speedup = plain.as_secs_f64() / time.as_secs_f64();
    let overhead = procs as f64 / speedup - 1.0;
    let fields = format!(" overhead={overhead:.4} speedup={speedup:.3}");
    Outcome { time: Some(time), fields, check: total }
}

async fn fanout(n: u64, procs: usize) -> Outcome {
    static TOTAL: AtomicU64 = AtomicU64::new(0);

    let (expected, plain) = plain_rows(n);
    let start = Instant::now();
    let wg = WaitGroup::new(n);
    for row in 0..n {
        let wg = wg.clone();
        spawn(async move {
            TOTAL.fetch_add(mandelbrot_row(row, n), Ordering::Relaxed);
            wg.done();
        });
    }
    wg.wait().await;
    let time = start.elapsed();
    let total = TOTAL.load(Ordering::Relaxed);
    assert_eq!(total, expected);
    fanout_outcome(total, time, plain, procs)
}
