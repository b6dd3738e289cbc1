//! Small concurrent programs, each of which leans on one thing that the runtime does.
//!
//! ```text
//! cargo bench --bench workloads -- [WORKLOAD]... [--procs P] [--n N] [--smoke] [--list]
//! ```
//!
//! One line for each workload goes to standard output. `benches/go/workloads` is the same in Go and prints the same line,
//! and `benches/compare.sh` runs the two side by side. A wrong checksum is an error.

mod channels;
mod goroutines;

use csp::runtime::{self, Runtime};
use std::error::Error;
use std::process::{Command, ExitCode};
use std::time::Instant;

/// A program of some size n.
struct Workload {
    name: &'static str,
    about: &'static str,
    /// The size that takes Go about a second.
    n: u64,
    /// A size that takes next to no time.
    smoke: u64,
    run: fn(u64) -> Outcome,
    /// The checksum that `run` is to give.
    check: fn(u64) -> u64,
}

/// What a run gives beside the time that it took.
struct Outcome {
    check: u64,
    /// Resident memory of a goroutine, where that is the question.
    bytes_per_task: Option<u64>,
}

impl From<u64> for Outcome {
    fn from(check: u64) -> Outcome {
        Outcome { check, bytes_per_task: None }
    }
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
        run: |n| goroutines::yield_now(n).into(),
        check: |n| n,
    },
    Workload {
        name: "spawn",
        about: "n no-op goroutines and a wait group",
        n: 2_000_000,
        smoke: 1_000,
        run: |n| goroutines::spawn(n).into(),
        check: |n| n,
    },
    Workload {
        name: "pingpong",
        about: "n round trips over two unbuffered channels",
        n: 2_000_000,
        smoke: 1_000,
        run: |n| channels::pingpong(n).into(),
        check: sum_below,
    },
    Workload {
        name: "spsc",
        about: "n messages from one to one, capacity 128",
        n: 10_000_000,
        smoke: 1_000,
        run: |n| channels::spsc(n).into(),
        check: sum_below,
    },
    Workload {
        name: "mpmc",
        about: "n messages from 8 to 8 on one channel, capacity 128",
        n: 10_000_000,
        smoke: 1_000,
        run: |n| channels::mpmc(n, 128).into(),
        check: sum_below,
    },
    Workload {
        name: "mpmc0",
        about: "n messages from 8 to 8 on one unbuffered channel",
        n: 2_000_000,
        smoke: 1_000,
        run: |n| channels::mpmc(n, 0).into(),
        check: sum_below,
    },
    Workload {
        name: "select2",
        about: "n messages from two producers on two unbuffered channels, one select loop",
        n: 2_000_000,
        smoke: 1_000,
        run: |n| channels::select2(n).into(),
        check: sum_below,
    },
    Workload {
        name: "select_default",
        about: "n selects with default on an empty channel",
        n: 100_000_000,
        smoke: 1_000,
        run: |n| channels::select_default(n).into(),
        check: |n| n,
    },
    Workload {
        name: "sieve",
        about: "the concurrent prime sieve to the n-th prime",
        n: 2_000,
        smoke: 100,
        run: |n| goroutines::sieve(n).into(),
        check: goroutines::nth_prime,
    },
    Workload {
        name: "skynet",
        about: "n leaves (a power of ten), ten children each, their sum over channels",
        n: 1_000_000,
        smoke: 1_000,
        run: |n| goroutines::skynet(n).into(),
        check: sum_below,
    },
    Workload {
        name: "chain",
        about: "n goroutines in a daisy chain",
        n: 100_000,
        smoke: 100,
        run: |n| goroutines::chain(n).into(),
        check: |n| n,
    },
    Workload {
        name: "parked",
        about: "n goroutines wait on one channel and are released",
        n: 100_000,
        smoke: 100,
        run: goroutines::parked,
        check: |n| n,
    },
];

impl Workload {
    /// Runs the workload in a goroutine and prints its line.
    fn measure(&self, options: &Options) -> Result<(), Box<dyn Error>> {
        let n = self.size(options);
        let run = self.run;
        let (outcome, elapsed) = csp::spawn(move || {
            let start = Instant::now();
            let outcome = run(n);
            (outcome, start.elapsed())
        })
        .join()?;

        let ns_per_op = elapsed.as_nanos() as f64 / n as f64;
        print!(
            "peer=csp workload={} procs={} n={n} ops={n} ns_per_op={ns_per_op:.2} rss_kb={} check={}",
            self.name,
            runtime::max_procs(),
            memory_kb("VmHWM:"),
            outcome.check,
        );
        match outcome.bytes_per_task {
            Some(bytes) => println!(" bytes_per_task={bytes}"),
            None => println!(),
        }
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
