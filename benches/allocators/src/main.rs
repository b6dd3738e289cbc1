//! What a parked goroutine that has allocated costs in memory, and what an allocation costs in time: run by
//! `scripts/allocators.sh` for each allocator, with and without `PerWorker`.

use std::hint::black_box;
use std::time::Instant;

#[cfg(feature = "jemalloc")]
use tikv_jemallocator::Jemalloc as Inner;
#[cfg(feature = "mimalloc")]
use mimalloc::MiMalloc as Inner;
#[cfg(not(any(feature = "jemalloc", feature = "mimalloc")))]
use std::alloc::System as Inner;

#[cfg(not(feature = "per-worker"))]
#[global_allocator]
static ALLOCATOR: Inner = Inner;

#[cfg(feature = "per-worker")]
#[global_allocator]
static ALLOCATOR: csp::alloc::PerWorker<Inner> = csp::alloc::PerWorker::new(Inner);

const PARKED: u64 = 20_000;
const PAIRS: u64 = 10_000_000;

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Bytes for each of many goroutines that wait.
fn parked(allocates: bool) -> u64 {
    let (open, gate) = csp::bounded::<()>(0);
    let arrived = csp::WaitGroup::new();
    arrived.add(PARKED as isize);
    let before = resident();
    let goroutine = |_| {
        let (gate, arrived) = (gate.clone(), arrived.clone());
        csp::spawn(move || {
            if allocates {
                drop(black_box(vec![1_u8; 100]));
            }
            arrived.done();
            gate.recv().unwrap_err();
        })
    };
    let all = (0..PARKED).map(goroutine).collect::<Vec<_>>();
    arrived.wait();
    let bytes = (resident() - before) / PARKED;
    drop(open);
    all.into_iter().for_each(|goroutine| goroutine.join().unwrap());
    bytes
}

fn main() {
    let mode = std::env::args().nth(1);
    match mode.as_deref() {
        Some("parked") => println!("{}", parked(true)),
        Some("time") => {
            let time = csp::spawn(|| {
                let start = Instant::now();
                (0..PAIRS).for_each(|n| drop(black_box(vec![n as u8; 100])));
                start.elapsed().as_secs_f64() * 1e9 / PAIRS as f64
            });
            println!("{:.1}", time.join().unwrap());
        }
        _ => panic!("allocators parked|time"),
    }
}
