//! The concurrent prime sieve: a chain of goroutines, one for each prime, which grows as primes are found.
//!
//! `generate` sends 2, 3, 4, ... into the chain. The first number to come out of it has no divisor among the primes so
//! far, so it is prime itself, and a filter for its multiples is appended. Every number meets its neighbour at an
//! unbuffered channel: a thousand goroutines, and no lock in sight.
//!
//! Run it with `cargo run --release --example sieve -- [HOW_MANY]` (100 unless told).

use csp::{Receiver, Sender, bounded, go};
use std::process::ExitCode;

/// Sends 2, 3, 4, ... until nobody receives.
fn generate(out: Sender<u64>) {
    for i in 2.. {
        if out.send(i).is_err() {
            return;
        }
    }
}

/// Passes on what `prime` does not divide.
fn filter(input: Receiver<u64>, out: Sender<u64>, prime: u64) {
    for i in input {
        if !i.is_multiple_of(prime) && out.send(i).is_err() {
            return;
        }
    }
}

/// The first `n` primes.
fn primes(n: usize) -> Vec<u64> {
    let mut primes = Vec::with_capacity(n);
    let (tx, mut numbers) = bounded(0);
    go!(generate(tx));
    while primes.len() < n {
        let prime = numbers.recv().expect("the generator sends for as long as somebody receives");
        primes.push(prime);
        let (tx, rx) = bounded(0);
        go!(filter(numbers, tx, prime));
        numbers = rx;
    }
    // `numbers`, the end of the chain, is dropped here. The last filter's send fails, it returns and drops its own
    // receiver, and so on up to the generator: in Go all of them would stay behind.
    primes
}

#[csp::main]
fn main() -> ExitCode {
    let n = match std::env::args().nth(1).map(|arg| arg.parse::<usize>()) {
        None => 100,
        Some(Ok(n)) => n,
        Some(Err(e)) => {
            eprintln!("sieve: HOW_MANY: {e}");
            return ExitCode::from(2);
        }
    };

    let primes = primes(n);
    for line in primes.chunks(10) {
        println!("{}", line.iter().map(|p| format!("{p:>7}")).collect::<String>());
    }

    // Trial division, the plain way.
    let expected = (2_u64..).filter(|i| (2..).take_while(|d| d * d <= *i).all(|d| !i.is_multiple_of(d))).take(n);
    assert!(primes.iter().copied().eq(expected), "the sieve let a composite number through, or lost a prime");
    println!("{n} primes, each found by its own goroutine, and all of them prime");
    ExitCode::SUCCESS
}
