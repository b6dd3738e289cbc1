//! `Select`: what goes beyond crossbeam-channel's own tests. Operations that are given up, closed in between or leaked;
//! any number and any type; and that under every kind of traffic a message ends exactly once.

#![allow(
    clippy::never_loop,
    clippy::diverging_sub_expression,
    reason = "values that leave the function are a case to test"
)]

use std::collections::HashSet;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use csp::channel::{
    Receiver, RecvError, RecvTimeoutError, Select, SelectedOperation, SendError, Sender, TryRecvError, TrySendError,
    after, bounded, never, tick, unbounded,
};
use csp::{go, select};

/// Far more than any wait here takes, also on a busy machine.
const LONG: Duration = Duration::from_secs(60);

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn chosen<'a, T>(tx: &'a Sender<T>) -> SelectedOperation<'a> {
    let mut select = Select::new();
    select.send(tx);
    select.select()
}

/// Drops it, which panics.
fn give_up(operation: SelectedOperation<'_>) {
    let payload = catch_unwind(AssertUnwindSafe(|| drop(operation))).unwrap_err();
    let text = payload.downcast_ref::<&str>().unwrap();
    assert_eq!(*text, "dropped `SelectedOperation` without completing the operation");
}

/// Waits until somebody waits to receive (`tx` is of a channel without capacity).
fn until_somebody_receives<T>(tx: &Sender<T>) {
    let mut select = Select::new();
    select.send(tx);
    select.ready_timeout(LONG).unwrap();
}

#[test]
fn a_send_that_is_given_up_lets_its_receiver_wait_for_another() {
    for deadline in [false, true] {
        let (tx, rx) = bounded(0);
        let receiver = thread::spawn(move || if deadline { rx.recv_timeout(LONG) } else { Ok(rx.recv().unwrap()) });
        for _ in 0..3 {
            give_up(chosen(&tx));
        }
        chosen(&tx).send(&tx, 5).unwrap();
        assert_eq!(receiver.join().unwrap(), Ok(5));
    }
    // A select goes on with its other arms.
    let [(tx, rx), (tx2, rx2)] = [bounded::<i32>(0), bounded::<i32>(0)];
    let receiver = go!(move || select! { n = <-rx => n.map(|n| -n), n = <-rx2 => n });
    give_up(chosen(&tx));
    tx2.send(7).unwrap();
    assert_eq!(receiver.join().unwrap(), Ok(7));
}

#[test]
fn a_receiver_that_was_held_notices_its_deadline_and_the_close() {
    let (tx, rx) = bounded::<i32>(0);
    let receiver = {
        let rx = rx.clone();
        go!(move || rx.recv_timeout(Duration::from_millis(20)))
    };
    let operation = chosen(&tx);
    thread::sleep(Duration::from_millis(40));
    assert!(!receiver.is_finished(), "it was chosen before its time was over");
    give_up(operation);
    assert_eq!(receiver.join().unwrap(), Err(RecvTimeoutError::Timeout));

    let receiver = go!(move || rx.recv());
    let operation = chosen(&tx);
    tx.close();
    give_up(operation);
    assert_eq!(receiver.join().unwrap(), Err(RecvError));
}

#[test]
fn room_is_reserved_until_the_message_comes() {
    let (tx, rx) = bounded(2);
    let first = chosen(&tx);
    tx.send(1).unwrap();
    assert_eq!(tx.len(), 1);
    assert_eq!(tx.try_send(2), Err(TrySendError::Full(2)));
    let mut select = Select::new();
    select.send(&tx);
    assert!(select.try_select().is_err() && select.try_ready().is_err());
    assert!(select! { tx <- 2 => false, default => true });
    // What is there can be received; a message is behind those that were sent before it.
    first.send(&tx, 3).unwrap();
    assert_eq!(rx.try_iter().collect::<Vec<_>>(), [1, 3]);

    let [first, second] = [chosen(&tx), chosen(&tx)];
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    second.send(&tx, 4).unwrap();
    assert_eq!(rx.recv(), Ok(4));
    first.send(&tx, 5).unwrap();
    assert_eq!(rx.recv(), Ok(5));
}

#[test]
fn room_that_is_given_up_goes_to_the_one_who_waits() {
    for by_select in [false, true] {
        let (tx, rx) = bounded(1);
        let operation = chosen(&tx);
        let sender = {
            let tx = tx.clone();
            go!(move || if by_select { chosen(&tx).send(&tx, 8) } else { tx.send(8) })
        };
        csp::sleep(Duration::from_millis(5));
        assert!(!sender.is_finished());
        give_up(operation);
        assert_eq!(sender.join().unwrap(), Ok(()));
        assert_eq!((rx.len(), rx.recv()), (1, Ok(8)));
        assert_eq!(tx.try_send(9), Ok(()));
    }
}

#[test]
fn a_receiver_finds_a_sender_though_all_room_is_reserved() {
    let (tx, rx) = bounded(1);
    let operation = chosen(&tx);
    let sender = {
        let tx = tx.clone();
        go!(move || tx.send(1))
    };
    assert_eq!(rx.recv(), Ok(1)); // from the sender that waits
    sender.join().unwrap().unwrap();
    let receiver = go!(move || (rx.recv(), rx));
    operation.send(&tx, 2).unwrap();
    assert_eq!(receiver.join().unwrap().0, Ok(2));
    // And a select, and one with default: it is ready.
    let (tx, rx) = bounded(1);
    let operation = chosen(&tx);
    for round in 0..2 {
        let sender = {
            let tx = tx.clone();
            go!(move || tx.send(1))
        };
        let mut select = Select::new();
        select.recv(&rx);
        select.ready_timeout(LONG).unwrap();
        let (received, other) = (rx.clone(), never::<i32>());
        if round == 0 {
            assert_eq!(select! { n = <-received => n, n = <-other => n, default => Ok(0) }, Ok(1));
        } else {
            let operation = select.try_select().unwrap();
            assert_eq!(operation.recv(&rx), Ok(1));
        }
        sender.join().unwrap().unwrap();
    }
    give_up(operation);
}

#[test]
fn a_message_for_a_channel_that_was_closed_in_between_is_given_back() {
    for cap in [Some(1), None] {
        let (tx, rx) = cap.map_or_else(unbounded, bounded);
        let operation = chosen(&tx);
        drop(rx);
        assert_eq!(operation.send(&tx, 1), Err(SendError(1)));

        let (tx, rx) = cap.map_or_else(unbounded, bounded);
        let operation = chosen(&tx);
        assert!(rx.close());
        assert_eq!(rx.recv(), Err(RecvError));
        assert_eq!(operation.send(&tx, 2), Err(SendError(2)));
        assert_eq!(rx.recv(), Err(RecvError));
    }
    // A receiver that is held has been chosen before.
    let (tx, rx) = bounded(0);
    let receiver = go!(move || rx.recv());
    let operation = chosen(&tx);
    tx.close();
    assert_eq!(operation.send(&tx, 3), Ok(()));
    assert_eq!(receiver.join().unwrap(), Ok(3));
}

#[test]
fn try_recv_takes_the_message_of_a_waiting_offer() {
    let (tx, rx) = bounded(0);
    let sender = go!(move || chosen(&tx).send(&tx, 1));
    let message = loop {
        match rx.try_recv() {
            Ok(message) => break message,
            Err(error) => assert_eq!(error, TryRecvError::Empty),
        }
        csp::yield_now();
    };
    assert_eq!((message, sender.join().unwrap()), (1, Ok(())));
}

#[test]
fn what_is_leaked_keeps_nothing_else() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let (tx, rx) = bounded(3);
    tx.send(Counted(dropped.clone())).unwrap_or_else(|_| unreachable!());
    mem::forget(chosen(&tx)); // room for one
    let mut select = Select::new();
    select.recv(&rx);
    mem::forget(select.select()); // the message
    for _ in 0..2 {
        tx.send(Counted(dropped.clone())).unwrap_or_else(|_| unreachable!());
    }
    assert!(tx.try_send(Counted(Arc::default())).is_err());
    drop(rx);
    assert_eq!(dropped.load(Ordering::SeqCst), 2);
    assert!(tx.send(Counted(dropped.clone())).is_err());
    drop(tx);
}

#[test]
fn each_message_is_dropped_once_and_one_given_up_is_leaked() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let (tx, rx) = unbounded();
    (0..3).for_each(|_| tx.send(Counted(dropped.clone())).unwrap_or_else(|_| unreachable!()));
    let mut select = Select::new();
    select.recv(&rx);
    let operation = select.select();
    assert_eq!(rx.len(), 2);
    drop(operation.recv(&rx));
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
    // It may be on a thread where its type must not be.
    give_up(select.select());
    assert_eq!((dropped.load(Ordering::SeqCst), rx.len()), (1, 1));
    drop(rx);
    assert_eq!(dropped.load(Ordering::SeqCst), 2);
}

#[test]
fn a_panic_between_choice_and_completion_is_one_panic() {
    let (tx, rx) = bounded(1);
    let result = catch_unwind(AssertUnwindSafe(|| {
        let _operation = chosen(&tx);
        panic!("in between");
    }));
    assert_eq!(result.unwrap_err().downcast_ref(), Some(&"in between"));
    assert_eq!((tx.try_send(1), rx.recv()), (Ok(()), Ok(1)));
}

#[test]
fn messages_of_every_size_and_alignment() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    #[repr(align(4096))]
    struct Aligned<const N: usize>([u8; N]);

    #[track_caller]
    fn pass<T: Send + Copy + PartialEq + std::fmt::Debug + 'static>(message: T) {
        for cap in [0, 1] {
            let (tx, rx) = bounded(cap);
            let (_small_tx, small) = bounded::<u8>(0);
            go!(move || (0..2).for_each(|_| chosen(&tx).send(&tx, message).unwrap()));
            for _ in 0..2 {
                let mut select = Select::new();
                select.recv(&small);
                let receive = select.recv(&rx);
                let operation = select.select();
                assert_eq!(operation.index(), receive);
                assert_eq!(operation.recv(&rx), Ok(message));
            }
        }
    }
    pass(());
    pass(7_u8);
    pass([1_u64; 8]);
    pass([2_u64; 9]);
    pass(u128::MAX);
    pass(Aligned([]));
    pass(Aligned([3; 1]));
    pass([4_u8; 10_000]);
}

#[test]
fn timers_take_part() {
    let start = Instant::now();
    let (_tx, rx) = bounded::<()>(0);
    let (late, soon) = (after(LONG), after(Duration::from_millis(5)));
    let ticks = tick(Duration::from_millis(2));
    let mut select = Select::new();
    select.recv(&rx);
    select.recv(&late);
    let on_soon = select.recv(&soon);
    let on_tick = select.recv(&ticks);
    let (mut ticked, mut came) = (0, 0);
    while ticked < 3 || came == 0 {
        assert!([on_soon, on_tick].contains(&select.ready()));
        let operation = select.select();
        if operation.index() == on_soon {
            assert!(operation.recv(&soon).unwrap() >= start + Duration::from_millis(5));
            came += 1;
        } else {
            operation.recv(&ticks).unwrap();
            ticked += 1;
        }
    }
    assert!(start.elapsed() >= Duration::from_millis(6));
    // It has come, and will not come again.
    assert_eq!(came, 1);
    select.remove(on_tick);
    assert!(select.select_timeout(Duration::from_millis(1)).is_err());
}

#[test]
fn more_operations_than_outcomes() {
    const MANY: usize = 20_000;
    let channels = (0..MANY).map(|_| bounded::<usize>(0)).collect::<Vec<_>>();
    let senders = channels.iter().map(|(tx, _)| tx.clone()).collect::<Vec<_>>();
    let mut select = Select::new();
    for (_, rx) in &channels {
        select.recv(rx);
    }
    for n in [0, 16_383, 16_384, 16_385, MANY - 1] {
        for close in [false, true] {
            let tx = senders[n].clone();
            // Once the select waits, so that it is claimed.
            let other = go!(move || if close { tx.close() } else { tx.send(n).is_ok() });
            let operation = select.select();
            assert_eq!(operation.index(), n);
            assert_eq!(operation.recv(&channels[n].1).ok(), (!close).then_some(n));
            assert!(other.join().unwrap());
        }
        select.remove(n);
    }
    let before = Instant::now();
    assert!(select.ready_timeout(Duration::from_millis(1)).is_err());
    assert!(before.elapsed() >= Duration::from_millis(1));
}

#[test]
fn a_list_can_be_cloned_used_again_and_sent_elsewhere() {
    let (tx, rx) = bounded(10);
    let (tx2, rx2) = bounded(10);
    let mut select = Select::new_biased();
    select.recv(&rx);
    select.recv(&rx2);
    let mut other = select.clone();
    select.remove(0);
    thread::scope(|s| {
        s.spawn(|| {
            // The clone still has the first; and is biased, too.
            for n in 0..5 {
                tx.send(n).unwrap();
                tx2.send(-n).unwrap();
                let operation = other.select();
                assert_eq!((operation.index(), operation.recv(&rx)), (0, Ok(n)));
            }
        });
    });
    for n in 0..5 {
        let operation = select.select();
        assert_eq!((operation.index(), operation.recv(&rx2)), (1, Ok(-n)));
    }
}

#[test]
fn a_biased_choice_keeps_its_order_when_operations_are_removed() {
    let channels = (0..6).map(|n| (n, bounded(1))).collect::<Vec<_>>();
    let mut select = Select::new_biased();
    for (n, (tx, rx)) in &channels {
        tx.send(*n).unwrap();
        select.recv(rx);
    }
    select.remove(1);
    select.remove(3);
    let order = (0..4).map(|_| {
        let operation = select.select();
        let index = operation.index();
        operation.recv(&channels[index].1.1).unwrap()
    });
    assert_eq!(order.collect::<Vec<_>>(), [0, 2, 4, 5]);
}

#[test]
fn operations_on_one_channel_are_chosen_alike_also_by_those_who_come_later() {
    const ROUNDS: usize = 2_000;
    let (tx, rx) = bounded(0);
    let sender = go!(move || {
        for _ in 0..ROUNDS {
            // Only when the select waits.
            until_somebody_receives(&tx);
            tx.send(()).unwrap();
        }
    });
    let mut hits = [0; 4];
    let mut select = Select::new();
    (0..4).for_each(|_| _ = select.recv(&rx));
    for _ in 0..ROUNDS {
        let operation = select.select();
        hits[operation.index()] += 1;
        operation.recv(&rx).unwrap();
    }
    sender.join().unwrap();
    assert!(hits.iter().all(|&hits| hits > ROUNDS / 4 / 2), "{hits:?}");
}

#[test]
fn everybody_who_watches_is_told() {
    for cap in [0, 1] {
        let (tx, rx) = bounded(cap);
        let watchers = (0..10)
            .map(|_| {
                let rx = rx.clone();
                go!(move || {
                    let mut select = Select::new();
                    select.recv(&rx);
                    select.ready()
                })
            })
            .collect::<Vec<_>>();
        csp::sleep(Duration::from_millis(5));
        let sender = go!(move || tx.send(1));
        // Nobody takes the message before all of them have seen it.
        watchers.into_iter().for_each(|watcher| assert_eq!(watcher.join().unwrap(), 0));
        assert_eq!(rx.recv(), Ok(1));
        sender.join().unwrap().unwrap();
    }
}

/// Who only looks for somebody who waits. At a rendezvous the others must wait, or the two never meet.
#[derive(Clone, Copy, PartialEq)]
enum Polls {
    Senders,
    Receivers,
    Both,
}

/// Sends `count` numbers from `first` on, each in another way. Gives those that the channel did not take.
fn send_in_every_way(tx: &Sender<usize>, polls: Polls, first: usize, count: usize) -> Vec<usize> {
    let mut back = Vec::new();
    for n in first..first + count {
        let result = match n % 8 {
            2 | 6 if polls == Polls::Receivers => tx.send(n),
            0 => tx.send(n),
            1 => chosen(tx).send(tx, n),
            2 => loop {
                match tx.try_send(n) {
                    Err(TrySendError::Full(_)) => csp::yield_now(),
                    Err(TrySendError::Disconnected(n)) => break Err(SendError(n)),
                    Ok(()) => break Ok(()),
                }
            },
            3 => select! { send(tx, n) -> sent => sent, recv(never::<()>()) -> _ => unreachable!() },
            4 => select! { sent = tx <- n => sent },
            5 => {
                let mut select = Select::new();
                select.send(tx);
                loop {
                    match select.select_timeout(Duration::from_micros(50)) {
                        Ok(operation) => break operation.send(tx, n),
                        Err(_) => csp::yield_now(),
                    }
                }
            }
            6 => {
                let mut select = Select::new();
                select.send(tx);
                loop {
                    select.ready();
                    match tx.try_send(n) {
                        Err(TrySendError::Full(_)) => {}
                        Err(TrySendError::Disconnected(n)) => break Err(SendError(n)),
                        Ok(()) => break Ok(()),
                    }
                }
            }
            _ => {
                // Given up in between.
                let give_up = |n: usize| -> Result<(), SendError<usize>> {
                    loop {
                        select! {
                            send(tx, return Ok(())) -> sent => return sent,
                            default => return Err(SendError(n)),
                        }
                    }
                };
                let _ = give_up(n);
                tx.send_timeout(n, LONG).map_err(|error| SendError(error.into_inner()))
            }
        };
        back.extend(result.err().map(SendError::into_inner));
    }
    back
}

/// Receives in every way until the channel is closed.
fn recv_in_every_way(rx: &Receiver<usize>, polls: Polls) -> Vec<usize> {
    let mut got = Vec::new();
    for way in (0..).map(|n| n % 7) {
        let result = match way {
            6 if polls == Polls::Senders => rx.recv(),
            0 => rx.recv(),
            1 => {
                let mut select = Select::new();
                select.recv(rx);
                select.select().recv(rx)
            }
            2 => match rx.try_recv() {
                Err(TryRecvError::Empty) => continue,
                other => other.map_err(|_| RecvError),
            },
            3 => match rx.recv_timeout(Duration::from_micros(50)) {
                Err(RecvTimeoutError::Timeout) => continue,
                other => other.map_err(|_| RecvError),
            },
            4 => select! { recv(rx) -> n => n, send(bounded(0).0, ()) -> _ => continue },
            5 => select! { n = <-rx => n, default(Duration::from_micros(50)) => continue },
            _ => {
                let mut select = Select::new();
                select.recv(rx);
                select.ready();
                match rx.try_recv() {
                    Err(TryRecvError::Empty) => continue,
                    other => other.map_err(|_| RecvError),
                }
            }
        };
        match result {
            Ok(n) => got.push(n),
            Err(RecvError) => break,
        }
    }
    got
}

fn every_message_ends_once(cap: Option<usize>, polls: Polls, close_early: bool) {
    const SENDERS: usize = 4;
    const EACH: usize = 2_000;
    let (tx, rx) = cap.map_or_else(unbounded, bounded);
    let receivers = (0..3)
        .map(|n| {
            let rx = rx.clone();
            let receive = move || recv_in_every_way(&rx, polls);
            if n == 0 { Err(thread::spawn(receive)) } else { Ok(go!(receive())) }
        })
        .collect::<Vec<_>>();
    let senders = (0..SENDERS)
        .map(|n| {
            let tx = tx.clone();
            let send = move || send_in_every_way(&tx, polls, n * EACH, EACH);
            if n == 0 { Err(thread::spawn(send)) } else { Ok(go!(send())) }
        })
        .collect::<Vec<_>>();
    if close_early {
        csp::sleep(Duration::from_millis(3));
        tx.close();
    }
    drop(tx);
    let join = |handle: Result<csp::JoinHandle<Vec<usize>>, thread::JoinHandle<Vec<usize>>>| match handle {
        Ok(goroutine) => goroutine.join().unwrap(),
        Err(thread) => thread.join().unwrap(),
    };
    let back = senders.into_iter().flat_map(join).collect::<Vec<_>>();
    let lists = receivers.into_iter().map(join).collect::<Vec<_>>();
    // What one receiver got of one sender is in order.
    for list in &lists {
        for sender in 0..SENDERS {
            assert!(list.iter().filter(|&n| n / EACH == sender).is_sorted());
        }
    }
    let got = lists.into_iter().flatten().collect::<Vec<_>>();
    assert!(close_early || back.is_empty());
    assert_eq!(got.len() + back.len(), SENDERS * EACH);
    assert_eq!(got.into_iter().chain(back).collect::<HashSet<_>>().len(), SENDERS * EACH);
}

#[test]
fn every_message_ends_once_at_a_rendezvous() {
    every_message_ends_once(Some(0), Polls::Senders, false);
    every_message_ends_once(Some(0), Polls::Receivers, false);
}

#[test]
fn every_message_ends_once_in_a_small_buffer() {
    every_message_ends_once(Some(1), Polls::Both, false);
    every_message_ends_once(Some(3), Polls::Both, false);
}

#[test]
fn every_message_ends_once_without_bound() {
    every_message_ends_once(None, Polls::Both, false);
}

#[test]
fn every_message_ends_once_when_the_channel_is_closed() {
    for _ in 0..5 {
        every_message_ends_once(Some(0), Polls::Both, true);
        every_message_ends_once(Some(1), Polls::Both, true);
        every_message_ends_once(None, Polls::Both, true);
    }
}

#[test]
fn selects_of_both_kinds_meet_in_a_ring() {
    const NODES: usize = 5;
    const ROUNDS: usize = 400;
    let channels = (0..NODES).map(|_| bounded::<usize>(0)).collect::<Vec<_>>();
    let done = (0..NODES)
        .map(|n| {
            let rx = channels[n].1.clone();
            let tx = channels[(n + 1) % NODES].0.clone();
            go!(move || {
                // Each sends so many and receives so many, in whichever order they come.
                let (mut sent, mut received) = (0, 0);
                while sent < ROUNDS || received < ROUNDS {
                    let (out, input) = (sent < ROUNDS, received < ROUNDS);
                    if n % 2 == 0 {
                        let mut select = Select::new();
                        let send = out.then(|| select.send(&tx));
                        input.then(|| select.recv(&rx));
                        let operation = select.select();
                        if Some(operation.index()) == send {
                            operation.send(&tx, sent).unwrap();
                            sent += 1;
                        } else {
                            assert_eq!(operation.recv(&rx), Ok(received));
                            received += 1;
                        }
                    } else {
                        select! {
                            _ = tx <- sent, if out => sent += 1,
                            Ok(k) = <-rx, if input => { assert_eq!(k, received); received += 1 }
                        }
                    }
                }
            })
        })
        .collect::<Vec<_>>();
    done.into_iter().for_each(|node| node.join().unwrap());
}

/// In the order of the sends, whether or not a receiver was waiting when the operation was chosen.
#[test]
fn a_message_is_in_its_place_when_it_is_sent() {
    for receiver_waits in [false, true] {
        let (tx, rx) = bounded(2);
        let receive = || rx.iter().take(2).collect::<Vec<i32>>();
        let received = thread::scope(|s| {
            let receiver = receiver_waits.then(|| s.spawn(receive));
            while receiver_waits && csp::__private::waiting(&tx) == (0, 0) {
                thread::yield_now();
            }
            let mut select = Select::new();
            select.send(&tx);
            let operation = select.select();
            tx.send(1).unwrap();
            operation.send(&tx, 2).unwrap();
            receiver.map_or_else(receive, |receiver| receiver.join().unwrap())
        });
        assert_eq!(received, [1, 2], "{receiver_waits}");
    }
}
