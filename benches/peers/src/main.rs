//! The workloads of `benches/workloads` for what a user of Rust would take instead of csp, each peer in its idiomatic
//! form. They print the same line, and fail on a wrong checksum.
//!
//! ```text
//! peers PEER WORKLOAD [--procs P] [--n N]
//! peers --list [PEER]
//! ```
//!
//! A peer does a workload as csp does, or the *nearest* thing to it, or not at all; `--list` says which, and why. The
//! nearest thing is easier: a place in a buffer, or a buffer without bound, instead of a rendezvous.

mod adapters;
mod async_workloads;
mod coroutines;
#[path = "../../workloads/cpu_time.rs"]
mod cpu_time;
mod tasks;
mod threads;

use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What a run gives beside the time that it took.
#[derive(Debug, Default)]
pub struct Outcome {
    pub check: u64,
    /// The time to print, where it is not that of the whole run.
    pub time: Option<Duration>,
    /// More fields of the line, each with a space before it.
    pub fields: String,
}

impl From<u64> for Outcome {
    fn from(check: u64) -> Outcome {
        Outcome { check, ..Outcome::default() }
    }
}

/// How a peer does a workload.
#[derive(Clone, Copy)]
enum Form {
    Same,
    /// An easier thing, and what is easier.
    Nearest(&'static str),
    /// It cannot, or there is no sense in it.
    No(&'static str),
}

use Form::{Nearest, No, Same};

/// The default size, and the checksum that is to come out.
struct Workload {
    name: &'static str,
    n: u64,
    check: fn(u64) -> u64,
}

/// 0 + 1 + ... + (n - 1), the checksum of messages that are numbered.
fn sum_below(n: u64) -> u64 {
    n * n.saturating_sub(1) / 2
}

fn same(n: u64) -> u64 {
    n
}

/// The `n`-th prime, by trial division.
fn nth_prime(n: u64) -> u64 {
    let is_prime = |i: &u64| (2..).take_while(|d| d * d <= *i).all(|d| !i.is_multiple_of(d));
    (2..).filter(is_prime).nth(n as usize - 1).unwrap()
}

const WORKLOADS: &[Workload] = &[
    Workload { name: "yield", n: 5_000_000, check: same },
    Workload { name: "spawn", n: 2_000_000, check: same },
    Workload { name: "pingpong", n: 2_000_000, check: sum_below },
    Workload { name: "spsc", n: 10_000_000, check: sum_below },
    Workload { name: "mpmc", n: 10_000_000, check: sum_below },
    Workload { name: "mpmc0", n: 2_000_000, check: sum_below },
    Workload { name: "select2", n: 2_000_000, check: sum_below },
    Workload { name: "select_default", n: 100_000_000, check: same },
    Workload { name: "sieve", n: 2_000, check: nth_prime },
    Workload { name: "skynet", n: 1_000_000, check: sum_below },
    Workload { name: "chain", n: 100_000, check: same },
    Workload { name: "parked", n: 100_000, check: same },
    Workload { name: "sleepers", n: 100_000, check: same },
    Workload { name: "fanout", n: 10_000, check: |n| (0..n).map(|row| tasks::mandelbrot_row(row, n)).sum() },
    Workload { name: "mixed", n: 1_000, check: same },
];

const PEERS: &[&str] = &["may", "tokio", "kanal", "crossfire", "flume", "async-channel", "crossbeam"];

fn form(peer: &str, workload: &str) -> Form {
    const ONE_PLACE: Form = Nearest("capacity 1: its channels have no rendezvous");
    const UNBOUNDED: Form = Nearest("unbounded: its channels have no capacity");
    match (peer, workload) {
        ("crossbeam", "mixed") => No("threads of the system's, for which a hog is nothing special"),
        (_, "mixed") => No("nothing takes the worker from the hog"),

        ("may", "mpmc0") => No("its channels have no rendezvous"),
        ("may", "sieve") => No("its channels have no capacity: the generator would run away"),
        ("may", "select2") => Nearest("unbounded: its channels have no capacity; a coroutine for each arm"),
        ("may", "pingpong" | "spsc" | "mpmc" | "skynet" | "chain") => UNBOUNDED,

        ("crossbeam", "skynet" | "chain" | "parked" | "sleepers") => No("a thread for each would be too many"),
        ("crossbeam", "fanout") => No("nobody would start a thread for a row"),

        ("kanal" | "crossfire" | "flume" | "async-channel", "yield" | "spawn" | "sleepers" | "fanout") => {
            No("a matter of the executor: see tokio")
        }
        ("tokio", "mpmc" | "mpmc0") => No("its mpsc channel has one receiver"),
        ("crossfire" | "async-channel", "mpmc0") => No("its channels have no rendezvous"),
        ("tokio" | "crossfire" | "async-channel", "pingpong" | "select2" | "sieve" | "skynet" | "chain") => ONE_PLACE,
        _ => Same,
    }
}

/// Runs the workload where the peer wants it run, and takes the time.
fn run(peer: &str, workload: &str, procs: usize, n: u64) -> std::io::Result<(Outcome, Duration)> {
    match peer {
        "may" => Ok(coroutines::run(workload, procs, n)),
        "crossbeam" => {
            threads::limit_cpus(procs)?;
            let start = Instant::now();
            let outcome = threads::run(workload, n);
            Ok((outcome, start.elapsed()))
        }
        _ => tasks::run(peer, workload, procs, n),
    }
}

/// The most memory that was ever resident, or what is now: `VmHWM:`, `VmRSS:`.
pub fn memory_kb(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let value = status.lines().find_map(|l| l.strip_prefix(line)?.trim().strip_suffix(" kB")?.parse().ok());
    value.unwrap_or(0)
}

/// One line for each peer and workload, with tabs: peer, workload, `same`, `nearest` or `no`, why.
fn list(only: Option<&str>) {
    for peer in PEERS.iter().filter(|peer| only.is_none_or(|only| **peer == only)) {
        for Workload { name, .. } in WORKLOADS {
            match form(peer, name) {
                Same => println!("{peer}\t{name}\tsame"),
                Nearest(why) => println!("{peer}\t{name}\tnearest\t{why}"),
                No(why) => println!("{peer}\t{name}\tno\t{why}"),
            }
        }
    }
}

fn real_main() -> Result<(), Box<dyn Error>> {
    use lexopt::prelude::*;

    let (mut procs, mut n, mut listing) = (std::thread::available_parallelism()?.get(), None, false);
    let mut names = Vec::new();
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        match arg {
            Long("procs") => procs = args.value()?.parse()?,
            Long("n") | Short('n') => n = Some(args.value()?.parse::<u64>()?),
            Long("list") => listing = true,
            Value(name) => names.push(name.string()?),
            _ => return Err(arg.unexpected().into()),
        }
    }
    if listing {
        list(names.first().map(String::as_str));
        return Ok(());
    }
    let [peer, name] = &names[..] else {
        return Err("usage: peers PEER WORKLOAD [--procs P] [--n N], or peers --list [PEER]".into());
    };
    let peer = *PEERS.iter().find(|p| *p == peer).ok_or_else(|| format!("no peer {peer:?}; see --list"))?;
    let workload = WORKLOADS.iter().find(|w| w.name == name).ok_or_else(|| format!("no workload {name:?}"))?;
    if let No(why) = form(peer, name) {
        return Err(format!("{peer} does not do {name}: {why}").into());
    }
    let n = n.unwrap_or(workload.n);
    if procs == 0 || n == 0 {
        return Err("--procs and --n are at least 1".into());
    }
    if name == "skynet" && n != 10_u64.pow(n.ilog10()) {
        return Err("skynet has a power of ten of leaves".into());
    }

    let (outcome, elapsed) = run(peer, name, procs, n)?;
    let ns_per_op = outcome.time.unwrap_or(elapsed).as_nanos() as f64 / n as f64;
    println!(
        "peer={peer} workload={name} procs={procs} n={n} ops={n} ns_per_op={ns_per_op:.2} rss_kb={} check={}{}",
        memory_kb("VmHWM:"),
        outcome.check,
        outcome.fields,
    );
    let expected = (workload.check)(n);
    if outcome.check != expected {
        return Err(format!("{peer} {name}: the checksum is {}, and should be {expected}", outcome.check).into());
    }
    Ok(())
}

fn main() -> ExitCode {
    match real_main() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("peers: {e}");
            ExitCode::FAILURE
        }
    }
}
