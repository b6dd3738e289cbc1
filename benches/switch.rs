//! A switch there and back: csp's, which moves stack and thread-locals together, beside corosensei's and generator's,
//! which move the stack alone.
//!
//! `cargo bench --bench switch`. They take turns; the medians of the rounds are printed, and their ratios to csp's.
//! `--smoke` makes a short run of it.

use std::time::Instant;

use corosensei::{Coroutine, CoroutineResult};

/// Nanoseconds there and back, over so many rounds.
type Peer = fn(u64) -> f64;

fn ours(n: u64) -> f64 {
    csp::__private::switch_there_and_back(n).map_or(f64::NAN, |d| d.as_nanos() as f64 / n as f64)
}

/// What the thread pointer alone costs, there and back: the floor of a switch that keeps thread-locals apart.
#[cfg(target_arch = "x86_64")]
fn thread_pointer(n: u64) -> f64 {
    let start = Instant::now();
    // SAFETY: the thread pointer is written as it is. Linux says in AT_HWCAP2 whether user code may.
    unsafe {
        if libc::getauxval(libc::AT_HWCAP2) & 2 == 0 {
            return f64::NAN;
        }
        for _ in 0..n {
            std::arch::asm!("mov {0}, fs:[0]", "wrfsbase {0}", "wrfsbase {0}", out(reg) _, options(nostack));
        }
    }
    start.elapsed().as_nanos() as f64 / n as f64
}

#[cfg(not(target_arch = "x86_64"))]
fn thread_pointer(_: u64) -> f64 {
    f64::NAN
}

fn theirs_corosensei(n: u64) -> f64 {
    let mut coroutine = Coroutine::new(move |yielder, ()| {
        for _ in 0..n {
            yielder.suspend(());
        }
    });
    let start = Instant::now();
    let mut switches = 0;
    while let CoroutineResult::Yield(()) = coroutine.resume(()) {
        switches += 1;
    }
    assert_eq!(switches, n);
    start.elapsed().as_nanos() as f64 / n as f64
}

fn theirs_generator(n: u64) -> f64 {
    let mut generator = generator::Gn::new_scoped(move |mut scope| {
        for _ in 0..n {
            scope.yield_(());
        }
        generator::done!();
    });
    let start = Instant::now();
    let switches = generator.by_ref().count() as u64;
    assert_eq!(switches, n);
    start.elapsed().as_nanos() as f64 / n as f64
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

fn main() {
    let smoke = std::env::args().any(|a| a == "--smoke");
    let (rounds, n) = if smoke { (3, 100_000) } else { (15, 5_000_000) };
    let peers: [(&str, Peer); 4] = [
        ("csp", ours),
        ("thread-pointer-alone", thread_pointer),
        ("corosensei", theirs_corosensei),
        ("generator", theirs_generator),
    ];
    let mut samples = peers.map(|_| Vec::new());
    for _ in 0..rounds {
        for (peer, samples) in peers.iter().zip(&mut samples) {
            samples.push(peer.1(n));
        }
    }
    let medians = samples.map(median);
    for ((peer, _), ns) in peers.iter().zip(medians) {
        println!(
            "peer={peer} benchmark=switch rounds={rounds} n={n} ns_there_and_back={ns:.1} ratio={:.2}",
            ns / medians[0]
        );
    }
}
