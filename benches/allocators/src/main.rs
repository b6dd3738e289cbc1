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

/// Nanoseconds to allocate 100 bytes in a goroutine and free them, where so many are allocated before they are freed.
fn time(at_once: u64) -> f64 {
    let goroutine = csp::spawn(move || {
        let mut held = Vec::with_capacity(at_once as usize);
        let start = Instant::now();
        if at_once == 1 {
            (0..PAIRS).for_each(|n| drop(black_box(vec![n as u8; 100])));
            return start.elapsed().as_secs_f64() * 1e9 / PAIRS as f64;
        }
        for _ in 0..PAIRS / at_once {
            held.extend((0..at_once).map(|n| black_box(vec![n as u8; 100])));
            held.clear();
        }
        start.elapsed().as_secs_f64() * 1e9 / PAIRS as f64
    });
    goroutine.join().unwrap()
}

fn main() {
    let mode = std::env::args().nth(1);
    match mode.as_deref() {
        Some("parked") => println!("{}", parked(true)),
        Some("one") => println!("{:.1}", time(1)),
        // More than `PerWorker` has at hand.
        Some("many") => println!("{:.1}", time(1000)),
        _ => panic!("allocators parked|one|many"),
    }
}
