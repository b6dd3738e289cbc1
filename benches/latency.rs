//! How long a goroutine that can go on waits for an idle processor, on two processors.
//!
//! `cargo bench --bench latency`. Prints the median, the 99th percentile and the worst of each case:
//!
//! - *goroutine*: made ready by a goroutine that computes on, so that the other processor has to run it;
//! - *timer*: how late `csp::time::sleep(1 ms)` returns on an idle machine;
//! - *timer beside a computation*: the same while the other processor computes;
//! - *start*: started by a goroutine that then sleeps, while ever more goroutines wait, so that it needs a stack that nobody has
//!   used yet;
//! - *thread*: made ready by a plain thread;
//! - *threads-alone*: a plain thread wakes another by `unpark`, and nothing of csp is there: the machine's floor.
//!
//! `--smoke` makes a short run of it.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use csp::channel::bounded;
use csp::go;

/// Computes for so long, without an operation at which it could give way.
fn compute(duration: Duration) {
    let start = Instant::now();
    while start.elapsed() < duration {
        spin_loop();
    }
}

/// Times from a send to the run of the goroutine that receives. `pause` comes before each send, `after` after it.
fn wake(n: usize, pause: impl Fn(), after: impl Fn()) -> Vec<Duration> {
    let (tx, rx) = bounded::<Instant>(1);
    let receiver = go!(move || rx.iter().map(|sent| sent.elapsed()).collect::<Vec<_>>());
    for _ in 0..n {
        pause();
        tx.send(Instant::now()).expect("the receiver is there");
        after();
    }
    drop(tx);
    receiver.join().expect("it does not panic")
}

/// As [`wake`] with threads, one of which unparks the other.
fn unpark(n: usize) -> Vec<Duration> {
    let sent = Arc::new(Mutex::new(None::<Instant>));
    let theirs = sent.clone();
    let woken = std::thread::spawn(move || {
        let mut times = Vec::new();
        while times.len() < n {
            std::thread::park();
            times.extend(theirs.lock().unwrap().take().map(|sent| sent.elapsed()));
        }
        times
    });
    while !woken.is_finished() {
        *sent.lock().unwrap() = Some(Instant::now());
        woken.thread().unpark();
        compute(Duration::from_micros(600));
    }
    woken.join().expect("it does not panic")
}

fn lateness(n: usize) -> Vec<Duration> {
    let period = Duration::from_millis(1);
    (0..n)
        .map(|_| {
            let start = Instant::now();
            csp::time::sleep(period);
            start.elapsed().checked_sub(period).expect("it never sleeps too short")
        })
        .collect()
}

/// Times from the start of a goroutine to its run.
fn start(n: usize) -> Vec<Duration> {
    let (open, gate) = bounded::<()>(0);
    let started = (0..n).map(|_| {
        csp::time::sleep(Duration::from_micros(300));
        let (gate, start) = (gate.clone(), Instant::now());
        go!(move || {
            let time = start.elapsed();
            _ = gate.recv();
            time
        })
    });
    let started = started.collect::<Vec<_>>();
    drop(open);
    started.into_iter().map(|goroutine| goroutine.join().expect("it does not panic")).collect()
}

fn print(case: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let micros = |at: usize| times[at].as_nanos() as f64 / 1e3;
    println!(
        "benchmark=latency case={case} n={} median_us={:.1} p99_us={:.1} worst_us={:.1}",
        times.len(),
        micros(times.len() / 2),
        micros(times.len() * 99 / 100),
        micros(times.len() - 1),
    );
}

#[csp::main]
fn main() {
    let n = if std::env::args().any(|a| a == "--smoke") { 20 } else { 2000 };
    csp::runtime::set_max_procs(2);

    // Long enough for the other worker to fall asleep, and the goroutine to be run by it meanwhile.
    let idle = || csp::time::sleep(Duration::from_micros(300));
    print("goroutine", wake(n, idle, || compute(Duration::from_micros(300))));

    print("timer", lateness(n));

    let stop = Arc::new(AtomicBool::new(false));
    let computes = {
        let stop = stop.clone();
        go!(move || while !stop.load(Ordering::Relaxed) {
            spin_loop();
        })
    };
    print("timer-beside-a-computation", lateness(n));
    stop.store(true, Ordering::Relaxed);
    computes.join().expect("it does not panic");

    print("start", start(n));

    let by_thread = std::thread::spawn(move || wake(n, || std::thread::sleep(Duration::from_micros(300)), || ()));
    print("thread", csp::blocking(|| by_thread.join()).expect("it does not panic"));
    print("threads-alone", csp::blocking(|| unpark(n)));
}
