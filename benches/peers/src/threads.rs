//! Crossbeam's channels between threads of the system's.

use crate::Outcome;
use crossbeam_channel::{Receiver, Sender, bounded, select};
use std::thread;

/// Leaves the process the first `procs` of the CPUs that it has: threads have no other number of processors.
pub fn limit_cpus(procs: usize) -> std::io::Result<()> {
    // SAFETY: all zeros is an empty set of CPUs; the calls read and write no more than the size that they are told.
    let done = unsafe {
        let mut allowed: libc::cpu_set_t = std::mem::zeroed();
        let mut limited = allowed;
        libc::sched_getaffinity(0, size_of_val(&allowed), &mut allowed);
        let cpus = (0..libc::CPU_SETSIZE as usize).filter(|&cpu| libc::CPU_ISSET(cpu, &allowed));
        cpus.take(procs).for_each(|cpu| libc::CPU_SET(cpu, &mut limited));
        libc::sched_setaffinity(0, size_of_val(&limited), &limited)
    };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

pub fn run(workload: &str, n: u64) -> Outcome {
    match workload {
        "yield" => yield_now(n),
        "spawn" => no_ops(n),
        "pingpong" => pingpong(n),
        "spsc" => spsc(n),
        "mpmc" => mpmc(n, 128),
        "mpmc0" => mpmc(n, 0),
        "select2" => select2(n),
        "select_default" => select_default(n),
        "sieve" => sieve(n),
        _ => unreachable!("the table of forms has let {workload} pass"),
    }
    .into()
}

fn yield_now(n: u64) -> u64 {
    let yields = |n: u64| {
        for _ in 0..n {
            thread::yield_now();
        }
        n
    };
    thread::scope(|scope| {
        let (a, b) = (scope.spawn(|| yields(n / 2)), scope.spawn(|| yields(n - n / 2)));
        a.join().unwrap() + b.join().unwrap()
    })
}

/// The channel is closed when the last thread has dropped its sender.
fn no_ops(n: u64) -> u64 {
    let (running, over) = bounded::<()>(0);
    for _ in 0..n {
        let running = running.clone();
        thread::spawn(move || drop(running));
    }
    drop(running);
    assert!(over.recv().is_err());
    n
}

fn send_numbers(out: Sender<u64>, first: u64, step: u64, end: u64) {
    let mut number = first;
    while number < end {
        out.send(number).unwrap();
        number += step;
    }
}

fn sum(input: Receiver<u64>) -> u64 {
    input.into_iter().sum()
}

fn pingpong(n: u64) -> u64 {
    let (ping, pinged) = bounded(0);
    let (pong, ponged) = bounded(0);
    thread::spawn(move || {
        for number in pinged {
            pong.send(number).unwrap();
        }
    });
    let mut sum = 0;
    for number in 0..n {
        ping.send(number).unwrap();
        sum += ponged.recv().unwrap();
    }
    sum
}

fn spsc(n: u64) -> u64 {
    let (tx, rx) = bounded(128);
    thread::spawn(move || send_numbers(tx, 0, 1, n));
    sum(rx)
}

fn mpmc(n: u64, capacity: usize) -> u64 {
    const PEERS: u64 = 8;
    let (tx, rx) = bounded(capacity);
    let consume = |rx: Receiver<u64>| thread::spawn(move || sum(rx));
    let consumers: Vec<_> = (0..PEERS).map(|_| consume(rx.clone())).collect();
    for first in 0..PEERS {
        let tx = tx.clone();
        thread::spawn(move || send_numbers(tx, first, PEERS, n));
    }
    drop(tx);
    consumers.into_iter().map(|consumer| consumer.join().unwrap()).sum()
}

fn select2(n: u64) -> u64 {
    let (even_tx, even) = bounded(0);
    let (odd_tx, odd) = bounded(0);
    let send = |tx: Sender<u64>, first| thread::spawn(move || send_numbers(tx, first, 2, n));
    // The senders stay here too, so that the channels stay open.
    send(even_tx.clone(), 0);
    send(odd_tx.clone(), 1);
    let mut sum = 0;
    for _ in 0..n {
        select! {
            recv(even) -> number => sum += number.unwrap(),
            recv(odd) -> number => sum += number.unwrap(),
        }
    }
    drop((even_tx, odd_tx));
    sum
}

fn select_default(n: u64) -> u64 {
    let (tx, rx) = bounded::<u64>(1);
    let mut empty = 0;
    for _ in 0..n {
        select! {
            recv(rx) -> _ => {}
            default => empty += 1,
        }
    }
    drop(tx);
    empty
}

fn sieve(n: u64) -> u64 {
    let (tx, mut numbers) = bounded(0);
    thread::spawn(move || {
        for number in 2.. {
            if tx.send(number).is_err() {
                return;
            }
        }
    });
    for _ in 1..n {
        let prime: u64 = numbers.recv().unwrap();
        let (tx, rx) = bounded(0);
        thread::spawn(move || {
            for number in numbers {
                if !number.is_multiple_of(prime) && tx.send(number).is_err() {
                    return;
                }
            }
        });
        numbers = rx;
    }
    numbers.recv().unwrap()
}
