//! Small concurrent programs, each of which leans on one thing that the runtime does.
//!
//! ```text
//! cargo bench --bench workloads -- [WORKLOAD]... [--procs P] [--n N] [--hog KIND] [--dense] [--smoke] [--list]
//! ```
//!
//! One line for each workload goes to standard output. `benches/go/workloads` is the same in Go and prints the same line,
//! so does `benches/peers` for other crates, and `benches/compare` runs them all side by side. A wrong checksum is an
//! error.

mod channels;
mod cpu_time;
mod goroutines;
mod mixture;

use csp::runtime::{self, Runtime};
use std::error::Error;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// A program of some size n.
struct Workload {
    name: &'static str,
    about: &'static str,
    /// The size that takes Go about a second.
    n: u64,
    /// A size that takes next to no time.
    smoke: u64,
    run: fn(u64, Hog) -> Outcome,
    /// The checksum that `run` is to give.
    check: fn(u64) -> u64,
}

/// What a run gives beside the time that it took.
struct Outcome {
    check: u64,
    /// The time to print, where it is not that of the whole run.
    time: Option<Duration>,
    /// Operations, where they are not n.
    ops: Option<u64>,
    /// More fields of the line, each with a space before it.
    fields: String,
}

impl From<u64> for Outcome {
    fn from(check: u64) -> Outcome {
        Outcome { check, time: None, ops: None, fields: String::new() }
    }
}

/// What keeps a processor busy in `mixed`.
#[derive(Clone, Copy, Default)]
enum Hog {
    /// It computes, and never comes to an operation at which it could give way.
    #[default]
    Computing,
    /// It blocks its thread, ten milliseconds at a time.
    Blocking,
}

/// 0 + 1 + ... + (n - 1), the checksum of messages that are numbered.
fn sum_below(n: u64) -> u64 {
    n * n.saturating_sub(1) / 2
}

const WORKLOADS: &[Workload] = &[
    Workload {
        name: "yield",
        about: "two goroutines yield n/2 times each",
        n: 5_000_000,
        smoke: 1_000,
        run: |n, _| goroutines::yield_now(n).into(),
        check: |n| n,
    },
    Workload {
        name: "spawn",
        about: "n no-op goroutines and a wait group",
        n: 2_000_000,
        smoke: 1_000,
        run: |n, _| goroutines::spawn(n).into(),
        check: |n| n,
    },
    Workload {
        name: "pingpong",
        about: "n round trips over two unbuffered channels",
        n: 2_000_000,
        smoke: 1_000,
        run: |n, _| channels::pingpong(n).into(),
        check: sum_below,
    },
    Workload {
        name: "spsc",
        about: "n messages from one to one, capacity 128",
        n: 10_000_000,
        smoke: 1_000,
        run: |n, _| channels::spsc(n).into(),
        check: sum_below,
    },
    Workload {
        name: "mpmc",
        about: "n messages from 8 to 8 on one channel, capacity 128",
        n: 10_000_000,
        smoke: 1_000,
        run: |n, _| channels::mpmc(n, 128).into(),
        check: sum_below,
    },
    Workload {
        name: "mpmc0",
        about: "n messages from 8 to 8 on one unbuffered channel",
        n: 2_000_000,
        smoke: 1_000,
        run: |n, _| channels::mpmc(n, 0).into(),
        check: sum_below,
    },
    Workload {
        name: "select2",
        about: "n messages from two producers on two unbuffered channels, one select loop",
        n: 2_000_000,
        smoke: 1_000,
        run: |n, _| channels::select2(n).into(),
        check: sum_below,
    },
    Workload {
        name: "select_default",
        about: "n selects with default on an empty channel",
        n: 100_000_000,
        smoke: 1_000,
        run: |n, _| channels::select_default(n).into(),
        check: |n| n,
    },
    Workload {
        name: "sieve",
        about: "the concurrent prime sieve to the n-th prime",
        n: 2_000,
        smoke: 100,
        run: |n, _| goroutines::sieve(n).into(),
        check: goroutines::nth_prime,
    },
    Workload {
        name: "skynet",
        about: "n leaves (a power of ten), ten children each, their sum over channels",
        n: 1_000_000,
        smoke: 1_000,
        run: |n, _| goroutines::skynet(n).into(),
        check: sum_below,
    },
    Workload {
        name: "chain",
        about: "n goroutines in a daisy chain",
        n: 100_000,
        smoke: 100,
        run: |n, _| goroutines::chain(n).into(),
        check: |n| n,
    },
    Workload {
        name: "parked",
        about: "n goroutines wait on one channel and are released",
        n: 100_000,
        smoke: 100,
        run: |n, _| goroutines::parked(n),
        check: |n| n,
    },
    Workload {
        name: "sleepers",
        about: "n goroutines sleep i mod 1000 ms each; the processor time of each",
        n: 100_000,
        smoke: 100,
        run: |n, _| mixture::sleepers(n),
        check: |n| n,
    },
    Workload {
        name: "fanout",
        about: "n rows of the Mandelbrot set, a goroutine each, beside a plain loop",
        n: 10_000,
        smoke: 100,
        run: |n, _| mixture::fanout(n),
        check: |n| (0..n).map(|row| mixture::mandelbrot_row(row, n)).sum(),
    },
    Workload {
        name: "mixed",
        about: "1,000 pairs play ping-pong for n ms beside a hog; round trips, and the longest of them",
        n: 1_000,
        smoke: 30,
        run: mixture::mixed,
        check: |_| mixture::PAIRS,
    },
];

impl Workload {
    /// Runs the workload in a goroutine and prints its line.
    fn measure(&self, options: &Options) -> Result<(), Box<dyn Error>> {
        let n = self.size(options);
        let (run, hog) = (self.run, options.hog);
        let (outcome, elapsed) = csp::spawn(move || {
            let start = Instant::now();
            let outcome = run(n, hog);
            (outcome, start.elapsed())
        })
        .join()?;

        let ops = outcome.ops.unwrap_or(n);
        let ns_per_op = outcome.time.unwrap_or(elapsed).as_nanos() as f64 / ops as f64;
        println!(
            "peer=csp workload={} procs={} n={n} ops={ops} ns_per_op={ns_per_op:.2} rss_kb={} check={}{}",
            self.name,
            runtime::max_procs(),
            memory_kb("VmHWM:"),
            outcome.check,
            outcome.fields,
        );
        let expected = (self.check)(n);
        if outcome.check != expected {
            return Err(format!("{}: the checksum is {}, and should be {expected}", self.name, outcome.check).into());
        }
        Ok(())
    }

    fn size(&self, options: &Options) -> u64 {
        options.n.unwrap_or(if options.smoke { self.smoke } else { self.n })
    }
}

/// A line of this process's memory account: `VmRSS:` is what is resident, `VmHWM:` the most that ever was.
fn memory_kb(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let value = status.lines().find_map(|l| l.strip_prefix(line)?.trim().strip_suffix(" kB")?.parse().ok());
    value.unwrap_or(0)
}

const HELP: &str = "\
Usage: cargo bench --bench workloads -- [WORKLOAD]... [OPTION]...

  --procs P  run on P processors (GOMAXPROCS, else all)
  --n N      the size of the workload, for any other than its own
  --hog KIND what keeps a processor busy in mixed: computing, or blocking
  --dense    goroutines share the thread-locals of their workers
  --smoke    small sizes, to see that all works
  --list     list the workloads
  --help     print this help

Without a WORKLOAD, or with `all`: all of them, each in a process of its own.
";

#[derive(Default)]
struct Options {
    workloads: Vec<&'static Workload>,
    procs: Option<usize>,
    n: Option<u64>,
    hog: Hog,
    dense: bool,
    smoke: bool,
    list: bool,
    help: bool,
}

impl Options {
    fn parse() -> Result<Options, lexopt::Error> {
        use lexopt::prelude::*;

        let mut options = Options::default();
        let (mut bench, mut all) = (false, false);
        let mut args = lexopt::Parser::from_env();
        while let Some(arg) = args.next()? {
            match arg {
                Long("procs") => options.procs = Some(args.value()?.parse()?),
                Long("n") | Short('n') => options.n = Some(args.value()?.parse()?),
                Long("hog") => {
                    options.hog = match args.value()?.to_str() {
                        Some("computing") => Hog::Computing,
                        Some("blocking") => Hog::Blocking,
                        _ => return Err("--hog is computing or blocking".into()),
                    }
                }
                Long("dense") => options.dense = true,
                Long("smoke") => options.smoke = true,
                Long("list") => options.list = true,
                Long("help") | Short('h') => options.help = true,
                Long("bench") => bench = true, // Said by `cargo bench`, but not by `cargo test --benches`.
                Value(name) if name == "all" => all = true,
                Value(name) => {
                    let workload = WORKLOADS.iter().find(|workload| name == workload.name);
                    let unknown = || format!("no workload {name:?}; --list tells which there are");
                    options.workloads.push(workload.ok_or_else(unknown)?);
                }
                _ => return Err(arg.unexpected()),
            }
        }
        if options.procs == Some(0) || options.n == Some(0) {
            return Err("--procs and --n are at least 1".into());
        }
        if options.workloads.is_empty() {
            options.smoke |= !bench && !all;
            all = true;
        }
        if all {
            options.workloads = WORKLOADS.iter().collect();
        }
        Ok(options)
    }

    /// The same for one of the workloads, as a command line.
    fn command_line(&self, workload: &Workload) -> Vec<String> {
        let mut args = vec![workload.name.to_string(), format!("--n={}", workload.size(self))];
        if let Hog::Blocking = self.hog {
            args.push("--hog=blocking".to_string());
        }
        args.extend(self.dense.then(|| "--dense".to_string()));
        args.extend(self.procs.map(|procs| format!("--procs={procs}")));
        args
    }
}

/// Runs what `options` ask for. Several workloads have a process each, so that none profits or suffers from what an
/// earlier one left behind: memory, warm slots, threads.
fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    if let [workload] = options.workloads[..] {
        let mut builder = Runtime::builder();
        if let Some(procs) = options.procs {
            builder = builder.max_procs(procs);
        }
        if options.dense {
            // SAFETY: no workload uses a thread-local, but for what `println!` and the allocator do between two waits.
            builder = unsafe { builder.dense() };
        }
        builder.start()?;
        return workload.measure(options);
    }
    let mut failed = Vec::new();
    for workload in &options.workloads {
        let args = options.command_line(workload);
        if !Command::new(std::env::current_exe()?).args(args).status()?.success() {
            failed.push(workload.name);
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", ")).into()) }
}

fn main() -> ExitCode {
    let options = match Options::parse() {
        Ok(options) => options,
        Err(e) => {
            eprintln!("workloads: {e}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    if options.help {
        print!("{HELP}");
    } else if options.list {
        for Workload { name, about, n, .. } in WORKLOADS {
            println!("{name:<16}{about} (n = {n})");
        }
    } else if let Err(e) = run(&options) {
        eprintln!("workloads: {e}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
