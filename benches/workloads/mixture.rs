//! Workloads of which the time of the run is not the figure: sleeping, computing, and both kinds of work at once.

use crate::cpu_time::cpu_time;
use crate::{Hog, Outcome};
use csp::{Receiver, Sender, WaitGroup, bounded, go};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// `n` goroutines, started at once, of which the i-th sleeps i mod 1000 ms. The time is the processor's.
pub(crate) fn sleepers(n: u64) -> Outcome {
    static AWAKE: AtomicU64 = AtomicU64::new(0);

    fn sleeper(duration: Duration) {
        let start = Instant::now();
        csp::time::sleep(duration);
        if start.elapsed() >= duration {
            AWAKE.fetch_add(1, Ordering::Relaxed);
        }
    }

    let before = cpu_time();
    let wg = WaitGroup::new();
    for i in 0..n {
        go!(wg = &wg, sleeper(Duration::from_millis(i % 1000)));
    }
    wg.wait();
    Outcome { time: Some(cpu_time() - before), ..AWAKE.load(Ordering::Relaxed).into() }
}

/// The iterations that row `row` of `rows` takes: some ten microseconds.
pub(crate) fn mandelbrot_row(row: u64, rows: u64) -> u64 {
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

/// `n` rows in a plain loop, then a goroutine for each. The speedup is that of the goroutines over the loop; the overhead
/// is the part of the processors' time that the loop would not have taken.
pub(crate) fn fanout(n: u64) -> Outcome {
    static TOTAL: AtomicU64 = AtomicU64::new(0);

    let start = Instant::now();
    let expected: u64 = (0..n).map(|row| mandelbrot_row(std::hint::black_box(row), n)).sum();
    let plain = start.elapsed();

    let start = Instant::now();
    let wg = WaitGroup::new();
    for row in 0..n {
        go!(wg = &wg, move || {
            TOTAL.fetch_add(mandelbrot_row(row, n), Ordering::Relaxed);
        });
    }
    wg.wait();
    let time = start.elapsed();
    let total = TOTAL.load(Ordering::Relaxed);
    assert_eq!(total, expected);

    let speedup = plain.as_secs_f64() / time.as_secs_f64();
    let overhead = csp::runtime::max_procs() as f64 / speedup - 1.0;
    let fields = format!(" overhead={overhead:.4} speedup={speedup:.3}");
    Outcome { time: Some(time), fields, ..total.into() }
}

/// How many pairs there are in `mixed`.
pub(crate) const PAIRS: u64 = 1_000;

/// Pairs of goroutines play ping-pong for `milliseconds` beside a goroutine that keeps its processor.
pub(crate) fn mixed(milliseconds: u64, hog: Hog) -> Outcome {
    static STOP: AtomicBool = AtomicBool::new(false);

    fn echo(input: Receiver<u64>, output: Sender<u64>) {
        for number in input {
            output.send(number).unwrap();
        }
    }

    /// The nanoseconds that each round trip took. The first one is not counted: it starts the echo.
    fn player(output: Sender<u64>, input: Receiver<u64>, arrived: WaitGroup, gate: Receiver<()>) -> Vec<u32> {
        let round_trip = |number| {
            let start = Instant::now();
            output.send(number).unwrap();
            assert_eq!(input.recv(), Ok(number));
            start.elapsed().as_nanos().try_into().unwrap_or(u32::MAX)
        };
        let _: u32 = round_trip(0);
        arrived.done();
        assert!(gate.recv().is_err());
        (1..).take_while(|_| !STOP.load(Ordering::Relaxed)).map(round_trip).collect()
    }

    let (open, gate) = bounded(0);
    let arrived = WaitGroup::new();
    arrived.add(PAIRS as isize);
    let players: Vec<_> = (0..PAIRS)
        .map(|_| {
            let (ping, pinged) = bounded(0);
            let (pong, ponged) = bounded(0);
            go!(echo(pinged, pong));
            go!(player(ping, ponged, arrived.clone(), gate.clone()))
        })
        .collect();
    arrived.wait();
    let hog = go!(move || match hog {
        Hog::Computing =>
            while !STOP.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            },
        Hog::Blocking => {
            while !STOP.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    });

    let start = Instant::now();
    open.close();
    csp::time::sleep(Duration::from_millis(milliseconds));
    STOP.store(true, Ordering::Relaxed);
    let time = start.elapsed();
    hog.join().unwrap();
    let times: Vec<Vec<u32>> = players.into_iter().map(|player| player.join().unwrap()).collect();

    let pairs = times.len() as u64;
    let mut times = times.concat();
    times.sort_unstable();
    let micros = |at: usize| f64::from(times[at]) / 1e3;
    let fields = match times.len() {
        0 => String::new(),
        trips => format!(" p999_us={:.1} worst_us={:.1}", micros((trips - 1) * 999 / 1000), micros(trips - 1)),
    };
    Outcome { time: Some(time), ops: Some((times.len() as u64).max(1)), fields, ..pairs.into() }
}
