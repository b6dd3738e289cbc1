//! The workloads about channels, for any of the async ones.

use crate::adapters::{Channel, Receiver, Sender};
use crate::tasks::WaitGroup;
use crate::{Outcome, memory_kb};
use tokio::spawn;

/// Sends `first`, `first + step`, ... below `end`, and gives the sender back: who wants the channel open keeps it.
async fn send_numbers<S: Sender>(mut out: S, first: u64, step: u64, end: u64) -> S {
    let mut number = first;
    while number < end {
        assert!(out.send_number(number).await);
        number += step;
    }
    out
}

async fn sum(mut input: impl Receiver) -> u64 {
    let mut sum = 0;
    while let Some(number) = input.receive().await {
        sum += number;
    }
    sum
}

/// The workloads of channels with a single receiver. `C` may be for a single sender, `M` is for many.
pub async fn run_single<C: Channel, M: Channel<Sender: Clone>>(workload: &str, n: u64) -> Outcome {
    match workload {
        "pingpong" => pingpong::<C>(n).await.into(),
        "spsc" => spsc::<C>(n).await.into(),
        "select2" => select2::<C>(n).await.into(),
        "select_default" => select_default::<C>(n).into(),
        "sieve" => sieve::<C>(n).await.into(),
        "chain" => chain::<C>(n).await.into(),
        "skynet" => skynet::<M>(n).await.into(),
        _ => unreachable!("the table of forms has let {workload} pass"),
    }
}

/// The workloads of channels with many senders and receivers.
pub async fn run_many<C: Channel<Sender: Clone, Receiver: Clone>>(workload: &str, n: u64) -> Outcome {
    match workload {
        "mpmc" => mpmc::<C>(n, 128).await.into(),
        "mpmc0" => mpmc::<C>(n, 0).await.into(),
        "parked" => parked::<C>(n).await,
        _ => unreachable!("the table of forms has let {workload} pass"),
    }
}

async fn pingpong<C: Channel>(n: u64) -> u64 {
    let (mut ping, mut pinged) = C::new(0);
    let (mut pong, mut ponged) = C::new(0);
    spawn(async move {
        while let Some(number) = pinged.receive().await {
            assert!(pong.send_number(number).await);
        }
    });
    let mut sum = 0;
    for number in 0..n {
        assert!(ping.send_number(number).await);
        sum += ponged.receive().await.unwrap();
    }
    sum
}

async fn spsc<C: Channel>(n: u64) -> u64 {
    let (tx, rx) = C::new(128);
    spawn(async move { drop(send_numbers(tx, 0, 1, n).await) });
    sum(rx).await
}

async fn mpmc<C: Channel<Sender: Clone, Receiver: Clone>>(n: u64, capacity: usize) -> u64 {
    const PEERS: u64 = 8;
    let (tx, rx) = C::new(capacity);
    let consumers: Vec<_> = (0..PEERS).map(|_| spawn(sum(rx.clone()))).collect();
    for first in 0..PEERS {
        let tx = tx.clone();
        spawn(async move { drop(send_numbers(tx, first, PEERS, n).await) });
    }
    drop((tx, rx));
    let mut total = 0;
    for consumer in consumers {
        total += consumer.await.unwrap();
    }
    total
}

async fn select2<C: Channel>(n: u64) -> u64 {
    let (even_tx, even) = C::new(0);
    let (odd_tx, odd) = C::new(0);
    let senders = (spawn(send_numbers(even_tx, 0, 2, n)), spawn(send_numbers(odd_tx, 1, 2, n)));
    let sum = C::sum_of_two(even, odd, n).await;
    drop(senders);
    sum
}

/// As in Go and csp, a select of one receive and a default is a receive that does not wait.
fn select_default<C: Channel>(n: u64) -> u64 {
    let (tx, mut rx) = C::new(1);
    let mut empty = 0;
    for _ in 0..n {
        if rx.try_receive().is_none() {
            empty += 1;
        }
    }
    drop(tx);
    empty
}

async fn sieve<C: Channel>(n: u64) -> u64 {
    async fn generate(mut out: impl Sender) {
        let mut number = 2;
        while out.send_number(number).await {
            number += 1;
        }
    }

    async fn filter(mut input: impl Receiver, mut out: impl Sender, prime: u64) {
        while let Some(number) = input.receive().await {
            if !number.is_multiple_of(prime) && !out.send_number(number).await {
                return;
            }
        }
    }

    let (tx, mut numbers) = C::new(0);
    spawn(generate(tx));
    for _ in 1..n {
        let prime = numbers.receive().await.unwrap();
        let (tx, rx) = C::new(0);
        spawn(filter(numbers, tx, prime));
        numbers = rx;
    }
    numbers.receive().await.unwrap()
}

async fn skynet<C: Channel<Sender: Clone>>(n: u64) -> u64 {
    fn spawn_node<C: Channel<Sender: Clone>>(mut out: C::Sender, first: u64, leaves: u64) {
        spawn(async move {
            if leaves == 1 {
                assert!(out.send_number(first).await);
                return;
            }
            let (tx, mut rx) = C::new(0);
            let leaves = leaves / 10;
            for child in 0..10 {
                spawn_node::<C>(tx.clone(), first + child * leaves, leaves);
            }
            let mut sum = 0;
            for _ in 0..10 {
                sum += rx.receive().await.unwrap();
            }
            assert!(out.send_number(sum).await);
        });
    }

    let (tx, mut rx) = C::new(0);
    spawn_node::<C>(tx, 0, n);
    rx.receive().await.unwrap()
}

async fn chain<C: Channel>(n: u64) -> u64 {
    async fn hop(mut left: impl Sender, mut right: impl Receiver) {
        let number = right.receive().await.unwrap();
        assert!(left.send_number(number + 1).await);
    }

    let (mut left, mut leftmost) = C::new(0);
    for _ in 0..n {
        let (tx, right) = C::new(0);
        spawn(hop(left, right));
        left = tx;
    }
    assert!(left.send_number(0).await);
    leftmost.receive().await.unwrap()
}

async fn parked<C: Channel<Sender: Clone, Receiver: Clone>>(n: u64) -> Outcome {
    let (open, gate) = C::new(1);
    let (arrived, released) = (WaitGroup::new(n), WaitGroup::new(n));
    let before = memory_kb("VmRSS:");
    for _ in 0..n {
        let (mut gate, arrived, released) = (gate.clone(), arrived.clone(), released.clone());
        spawn(async move {
            arrived.done();
            assert!(gate.receive().await.is_none());
            released.done();
        });
    }
    arrived.wait().await;
    let bytes = memory_kb("VmRSS:").saturating_sub(before) * 1024;
    drop(open);
    released.wait().await;
    Outcome { fields: format!(" bytes_per_task={}", bytes / n), ..released.count().into() }
}
