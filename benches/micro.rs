//! What the single operations cost, measured by criterion: `cargo bench --bench micro [-- FILTER]`.
//!
//! All of it runs in one goroutine on one processor, so that nothing moves to another one meanwhile.

use criterion::{BatchSize, Criterion};
use csp::channel::{Receiver, Sender, bounded, unbounded};
use csp::{go, select};
use std::hint::black_box;
use std::time::Duration;

/// There and back between two stacks, with their thread-locals.
fn switch(c: &mut Criterion) {
    if csp::__private::switch_there_and_back(1).is_none() {
        return; // Goroutines are threads here.
    }
    c.bench_function("switch/there_and_back", |b| {
        b.iter_custom(|n| csp::__private::switch_there_and_back(n).expect("there was one before"));
    });
}

fn yields(c: &mut Criterion) {
    c.bench_function("yield/alone", |b| b.iter(csp::yield_now));

    let (stop, stopped) = bounded::<()>(1);
    let other = go!(move || while stopped.is_empty() {
        csp::yield_now();
    });
    c.bench_function("yield/two", |b| b.iter(csp::yield_now));
    stop.send(()).unwrap();
    other.join().unwrap();
}

/// A round trip over unbuffered channels: two parks, two goroutines made ready, four switches at most.
fn park_and_ready(c: &mut Criterion) {
    let (ping, pinged) = bounded(0);
    let (pong, ponged) = bounded(0);
    let echo = go!(move || {
        for number in pinged {
            pong.send(number).unwrap();
        }
    });
    c.bench_function("park/round_trip", |b| {
        b.iter(|| {
            ping.send(black_box(1_u64)).unwrap();
            ponged.recv().unwrap()
        });
    });
    drop(ping);
    echo.join().unwrap();
}

/// A message in and out of a buffer, with nobody else there.
fn channels(c: &mut Criterion) {
    let mut send_and_recv = |name: &str, (tx, rx): (Sender<u64>, Receiver<u64>)| {
        c.bench_function(&format!("channel/{name}/send_and_recv"), |b| {
            b.iter(|| {
                tx.send(black_box(1)).unwrap();
                rx.recv().unwrap()
            });
        });
        c.bench_function(&format!("channel/{name}/try_recv_empty"), |b| b.iter(|| rx.try_recv().is_err()));
    };
    send_and_recv("bounded1", bounded(1));
    send_and_recv("bounded128", bounded(128));
    send_and_recv("unbounded", unbounded());
}

/// One goroutine at a time, on the slot that the one before it has left.
fn spawn(c: &mut Criterion) {
    c.bench_function("spawn/join", |b| b.iter(|| go!(black_box(1_u64)).join().unwrap()));
    c.bench_function("spawn/join_of_64", |b| {
        b.iter_batched(
            || Vec::with_capacity(64),
            |mut handles| {
                handles.extend((0..64_u64).map(|i| go!(black_box(i))));
                handles.drain(..).map(|handle| handle.join().unwrap()).sum::<u64>()
            },
            BatchSize::SmallInput,
        );
    });
}

/// A select of so many arms: with a default and nothing ready, and with all of them ready.
macro_rules! select_of {
    ($c:ident, $name:literal, $($rx:ident),+) => {{
        $(let $rx = { let (tx, rx) = bounded::<u64>(1); (rx, tx) };)+
        $c.bench_function(concat!("select/", $name, "/default"), |b| {
            b.iter(|| select! {
                $(_ = <-$rx.0 => unreachable!("nobody has sent"),)+
                default => {}
            });
        });
        $($rx.1.send(1).unwrap();)+
        $c.bench_function(concat!("select/", $name, "/ready"), |b| {
            b.iter(|| select! {
                // Sent back at once, so that all are ready the next time too.
                $(number = <-$rx.0 => $rx.1.send(number.unwrap()).unwrap(),)+
            });
        });
    }};
}

fn selects(c: &mut Criterion) {
    select_of!(c, "1", a);
    select_of!(c, "2", a, b);
    select_of!(c, "4", a, b, c2, d);
    select_of!(c, "16", a, b, c2, d, e, f, g, h, i, j, k, l, m, n, o, p);
}

fn main() {
    // Before anything starts the runtime.
    csp::runtime::Runtime::builder().max_procs(1).start().expect("nothing has started it before");
    go!(|| {
        let mut c = Criterion::default()
            .warm_up_time(Duration::from_millis(500))
            .measurement_time(Duration::from_secs(2))
            .configure_from_args();
        switch(&mut c);
        yields(&mut c);
        park_and_ready(&mut c);
        channels(&mut c);
        spawn(&mut c);
        selects(&mut c);
        c.final_summary();
    })
    .join()
    .expect("no benchmark panics");
}
