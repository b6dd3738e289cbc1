use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::channel::{
    self, Receiver, RecvTimeoutError, Select, SendError, SendTimeoutError, Sender, TryRecvError, TrySendError, after,
    bounded, never, select, select_biased, tick, unbounded,
};
use super::thread;

const SOON: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(60);

/// A pool of workers that share a queue, and stop when they are told to.
struct Pool {
    jobs: Sender<u64>,
    results: Receiver<(u64, u64)>,
    quit: Option<Sender<()>>,
    workers: Vec<thread::JoinHandle<usize>>,
}

impl Pool {
    fn new(size: usize) -> Self {
        let (jobs, queue) = bounded::<u64>(8);
        let (out, results) = unbounded();
        let (quit, stopped) = bounded::<()>(0);
        let workers = (0..size)
            .map(|_| {
                let (queue, out, stopped) = (queue.clone(), out.clone(), stopped.clone());
                thread::spawn(move || {
                    let mut done = 0;
                    loop {
                        select! {
                            recv(queue) -> job => {
                                let Ok(job) = job else { break };
                                let _ = out.send((job, (1..=job).product()));
                                done += 1;
                            }
                            recv(stopped) -> _ => break,
                        }
                    }
                    done
                })
            })
            .collect();
        Pool { jobs, results, quit: Some(quit), workers }
    }

    fn shut_down(&mut self) -> usize {
        drop(self.quit.take());
        self.workers.drain(..).map(|worker| worker.join().unwrap()).sum()
    }
}

pub(crate) fn worker_pool_with_shutdown() -> (BTreeMap<u64, u64>, usize, bool) {
    let mut pool = Pool::new(4);
    for n in 0..40 {
        pool.jobs.send(n % 20).unwrap();
    }
    let results = pool.results.iter().take(40).collect::<BTreeMap<_, _>>();
    let done = pool.shut_down();
    (results, done, pool.jobs.send(1) == Err(SendError(1)))
}

pub(crate) fn ticker_until_timeout() -> (Vec<&'static str>, bool) {
    let start = Instant::now();
    let ticks = tick(SOON);
    let timeout = after(LONG);
    let mut seen = Vec::new();
    loop {
        select! {
            recv(ticks) -> at => {
                assert!(at.unwrap() <= Instant::now());
                seen.push("tick");
                if seen.len() == 5 {
                    break;
                }
            }
            recv(timeout) -> _ => {
                seen.push("late");
                break;
            }
        }
    }
    let in_time = start.elapsed() >= SOON * 5;
    (seen, in_time && ticks.capacity() == Some(1) && !timeout.same_channel(&ticks))
}

pub(crate) fn fan_in_over_a_list_of_channels() -> Vec<Vec<usize>> {
    let mut inputs = Vec::new();
    for n in 0..9 {
        let (tx, rx) = match n % 3 {
            0 => bounded(0),
            1 => bounded(2),
            _ => unbounded(),
        };
        thread::spawn(move || {
            for k in 0..(n + 1) * 5 {
                tx.send(k).unwrap();
            }
        });
        inputs.push(rx);
    }
    let mut received = vec![Vec::new(); inputs.len()];
    let mut select = Select::new();
    for input in &inputs {
        select.recv(input);
    }
    let mut open = inputs.len();
    while open > 0 {
        let operation = select.select();
        let index = operation.index();
        match operation.recv(&inputs[index]) {
            Ok(k) => received[index].push(k),
            Err(_) => {
                select.remove(index);
                open -= 1;
            }
        }
    }
    assert!(select.try_select().is_err());
    received
}

pub(crate) fn dispatch_to_whoever_is_ready() -> (u64, usize, bool) {
    let (done, sums) = unbounded();
    let mut outputs = Vec::new();
    for n in 0..6 {
        let (tx, rx) = bounded::<u64>(n % 3);
        let done = done.clone();
        thread::spawn(move || {
            let sum = rx.iter().map(|n| n * n).sum::<u64>();
            done.send(sum).unwrap();
        });
        outputs.push(tx);
    }
    drop(done);
    let mut sent = 0;
    for n in 1..=200 {
        let mut select = Select::new();
        for output in &outputs {
            select.send(output);
        }
        let operation = match select.try_select() {
            Ok(operation) => operation,
            Err(_) => select.select_timeout(LONG).expect("somebody takes it within a minute"),
        };
        let index = operation.index();
        operation.send(&outputs[index], n).unwrap();
        sent += 1;
    }
    outputs.clear();
    (sums.iter().sum(), sent, sums.recv().is_err())
}

enum Request {
    Get(String, Sender<Option<i64>>),
    Add(String, i64, Sender<i64>),
}

fn server(
    requests: Receiver<Request>,
    control: Receiver<&'static str>,
    audit: Sender<String>,
) -> BTreeMap<String, i64> {
    let mut accounts = BTreeMap::new();
    let mut paused = false;
    loop {
        let no_requests = never();
        select! {
            recv(if paused { &no_requests } else { &requests }) -> request => match request {
                Ok(Request::Get(name, reply)) => _ = reply.send(accounts.get(&name).copied()),
                Ok(Request::Add(name, amount, reply)) => {
                    let balance = accounts.entry(name).or_insert(0);
                    *balance += amount;
                    let _ = reply.send(*balance);
                }
                Err(_) => break,
            },
            recv(control) -> command => match command {
                Ok("pause") => paused = true,
                Ok("resume") => paused = false,
                Ok(other) => audit.send(format!("unknown command {other}")).unwrap(),
                Err(error) => {
                    audit.send(format!("control: {error}")).unwrap();
                    break;
                }
            },
        }
    }
    accounts
}

pub(crate) fn requests_with_reply_channels() -> (BTreeMap<String, i64>, Vec<String>, i64) {
    let (requests, incoming) = bounded(4);
    let (control, commands) = bounded(0);
    let (audit, log) = unbounded();
    let server = thread::spawn(move || server(incoming, commands, audit));
    control.send("pause").unwrap();
    let clients = (0..5)
        .map(|n| {
            let requests = requests.clone();
            thread::spawn(move || {
                let mut last = 0;
                for k in 1..=20 {
                    let (reply, answer) = bounded(1);
                    requests.send(Request::Add(format!("account {}", n % 2), k, reply)).unwrap();
                    let balance = answer.recv().unwrap();
                    assert!(balance > last, "others only add");
                    last = balance;
                }
            })
        })
        .collect::<Vec<_>>();
    control.send("dance").unwrap();
    control.send("resume").unwrap();
    for client in clients {
        client.join().unwrap();
    }
    let (reply, answer) = bounded(0);
    requests.send(Request::Get("account 1".into(), reply)).unwrap();
    let balance = answer.recv_timeout(LONG).unwrap().unwrap();
    drop(control);
    (server.join().unwrap(), log.iter().collect(), balance)
}

fn stage<A: Send + 'static, B: Send + 'static>(
    input: Receiver<A>,
    capacity: usize,
    f: impl Fn(A) -> Option<B> + Send + 'static,
) -> Receiver<B> {
    let (tx, rx) = bounded(capacity);
    thread::spawn(move || {
        for value in input {
            if let Some(value) = f(value)
                && tx.send(value).is_err()
            {
                break;
            }
        }
    });
    rx
}

pub(crate) fn pipeline_with_bounded_buffers() -> (Vec<String>, usize) {
    let (tx, numbers) = bounded(0);
    let produced = Arc::new(AtomicUsize::new(0));
    let counter = produced.clone();
    let producer = thread::spawn(move || {
        for n in 0_u32.. {
            if tx.send(n).is_err() {
                break;
            }
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    let odd = stage(numbers, 1, |n| (n % 2 == 1).then_some(n));
    let squares = stage(odd, 4, |n| Some(u64::from(n) * u64::from(n)));
    let texts = stage(squares, 0, |n| (n % 3 != 0).then(|| format!("<{n}>")));
    let texts = texts.into_iter().take(30).collect::<Vec<_>>(); // the rest is cut off by dropping the receiver
    producer.join().unwrap();
    let produced = produced.load(Ordering::SeqCst);
    assert!((90..=110).contains(&produced), "what the buffers hold, and no more: {produced}");
    (texts, 30)
}

pub(crate) fn publish_without_waiting_for_slow_subscribers() -> (Vec<Vec<u32>>, Vec<u32>, usize) {
    let (mut publishers, subscribers): (Vec<_>, Vec<_>) = [1, 3, 100].into_iter().map(bounded::<u32>).unzip();
    let mut missed = vec![0; 3];
    for n in 0..10 {
        for (publisher, missed) in publishers.iter().zip(&mut missed) {
            match publisher.try_send(n) {
                Ok(()) => assert!(!publisher.is_empty()),
                Err(error @ TrySendError::Full(_)) => {
                    assert!(error.is_full() && publisher.is_full() && error.into_inner() == n);
                    *missed += 1;
                }
                Err(TrySendError::Disconnected(_)) => unreachable!(),
            }
        }
    }
    let queued = subscribers.iter().map(Receiver::len).sum();
    publishers.truncate(0);
    let got = subscribers.iter().map(|subscriber| subscriber.try_iter().collect()).collect();
    assert!(subscribers.iter().all(|subscriber| subscriber.try_recv() == Err(TryRecvError::Disconnected)));
    (got, missed, queued)
}

pub(crate) fn batches_by_size_and_by_time() -> Vec<Vec<u32>> {
    let (tx, rx) = unbounded();
    let (flushed, next) = bounded(0);
    let batcher = thread::spawn(move || {
        let mut batches = Vec::new();
        let mut batch = Vec::new();
        loop {
            select! {
                recv(rx) -> n => match n {
                    Ok(n) => batch.push(n),
                    Err(_) => break,
                },
                default(SOON * 20) => {
                    if !batch.is_empty() {
                        batches.push(std::mem::take(&mut batch));
                        flushed.send(()).unwrap();
                    }
                }
            }
            if batch.len() == 4 {
                batches.push(std::mem::take(&mut batch));
                flushed.send(()).unwrap();
            }
        }
        batches.push(batch);
        batches
    });
    for chunk in [&[1, 2, 3, 4][..], &[5], &[6, 7, 8, 9], &[10, 11]] {
        chunk.iter().for_each(|&n| tx.send(n).unwrap());
        next.recv().unwrap();
    }
    drop(tx);
    batcher.join().unwrap()
}

pub(crate) fn a_message_is_kept_until_it_is_taken() -> (Vec<String>, u32) {
    struct Relay {
        out: Sender<String>,
        input: Receiver<String>,
        backlog: VecDeque<String>,
        impatient: Sender<()>,
    }

    impl Relay {
        fn next(&mut self) -> String {
            self.backlog.pop_front().unwrap()
        }

        fn run(mut self) -> u32 {
            let mut kept = 0;
            loop {
                if self.backlog.is_empty() {
                    match self.input.recv() {
                        Ok(text) => self.backlog.push_back(text),
                        Err(_) => return kept,
                    }
                }
                select! {
                    recv(self.input) -> text => match text {
                        Ok(text) => self.backlog.push_back(text),
                        Err(_) => break,
                    },
                    send(self.out, self.next()) -> sent => sent.unwrap(),
                }
            }
            while let Some(mut text) = self.backlog.pop_front() {
                // The message is moved only if it is sent.
                loop {
                    text = select! {
                        send(self.out, text) -> sent => break sent.unwrap(),
                        default(Duration::from_millis(1)) => text,
                    };
                    kept += 1;
                    let _ = self.impatient.try_send(());
                }
            }
            kept
        }
    }

    let (tx, input) = unbounded();
    let (out, rx) = bounded(0);
    (0..20).for_each(|n| tx.send(format!("message {n}")).unwrap());
    drop(tx);
    let (impatient, has_kept_one) = bounded(1);
    let relay = thread::spawn(move || Relay { out, input, backlog: VecDeque::new(), impatient }.run());
    has_kept_one.recv().unwrap();
    let texts = rx.iter().collect();
    let kept = relay.join().unwrap();
    (texts, u32::from(kept > 0))
}

pub(crate) fn try_again_when_ready() -> (Vec<u32>, bool, bool) {
    let (senders, receivers): (Vec<_>, Vec<_>) = [0, 1, 2].into_iter().map(bounded::<u32>).unzip();
    for (n, tx) in (0..).zip(senders) {
        thread::spawn(move || (0..10).for_each(|k| tx.send(n * 100 + k).unwrap()));
    }
    let consumers = (0..2)
        .map(|_| {
            let receivers = receivers.clone();
            thread::spawn(move || {
                let mut received = Vec::new();
                let mut select = Select::new();
                receivers.iter().for_each(|rx| _ = select.recv(rx));
                let mut open = receivers.len();
                while open > 0 {
                    let index = select.ready();
                    match receivers[index].try_recv() {
                        Ok(n) => received.push(n),
                        Err(TryRecvError::Empty) => {}
                        Err(TryRecvError::Disconnected) => {
                            select.remove(index);
                            open -= 1;
                        }
                    }
                }
                received
            })
        })
        .collect::<Vec<_>>();
    let mut all = consumers.into_iter().flat_map(|consumer| consumer.join().unwrap()).collect::<Vec<_>>();
    all.sort();
    let (_tx, empty) = bounded::<()>(1);
    let mut select = Select::new();
    select.recv(&empty);
    (all, select.try_ready().is_err(), select.ready_timeout(SOON).is_err())
}

pub(crate) fn urgent_first() -> Vec<(char, u32)> {
    let (urgent, first) = unbounded();
    let (normal, second) = unbounded();
    for n in 0..5 {
        normal.send(n).unwrap();
        urgent.send(n).unwrap();
    }
    drop((urgent, normal));
    let mut order = Vec::new();
    let (mut first, mut second) = (Some(&first), Some(&second));
    while first.is_some() || second.is_some() {
        let closed = never();
        select_biased! {
            recv(first.unwrap_or(&closed)) -> n => match n {
                Ok(n) => order.push(('u', n)),
                Err(_) => first = None,
            },
            recv(second.unwrap_or(&closed)) -> n => match n {
                Ok(n) => order.push(('n', n)),
                Err(_) => second = None,
            },
        }
    }
    let mut select = Select::new_biased();
    let (tx, rx) = bounded(1);
    select.send(&tx);
    select.send(&tx);
    for n in 0..3 {
        let operation = select.select();
        order.push(('s', operation.index() as u32));
        operation.send(&tx, n).unwrap();
        order.push(('r', rx.recv().unwrap()));
    }
    order
}

pub(crate) fn errors_as_trait_objects() -> Vec<String> {
    fn fails(which: u32) -> Result<(), Box<dyn Error>> {
        let (tx, rx) = bounded::<u8>(1);
        let (closed, _) = bounded::<u8>(0);
        let (_, ended) = bounded::<u8>(0);
        match which {
            0 => closed.send(1)?,
            1 => drop(rx.try_recv()?),
            2 => drop(ended.recv()?),
            3 => drop(rx.recv_timeout(Duration::ZERO)?),
            4 => {
                tx.try_send(1)?;
                tx.try_send(2)?;
            }
            5 => {
                tx.send(1)?;
                tx.send_timeout(2, SOON)?;
            }
            6 => drop(ended.recv_deadline(Instant::now() + LONG)?),
            7 => {
                let mut select = Select::new();
                select.recv(&rx);
                drop(select.try_select()?);
            }
            _ => {
                let mut select = Select::new();
                select.recv(&rx);
                drop(select.select_deadline(Instant::now() + SOON)?);
            }
        }
        Ok(())
    }

    let mut texts = (0..9).map(|which| fails(which).unwrap_err().to_string()).collect::<Vec<_>>();
    let converted: [&dyn Error; 4] = [
        &TrySendError::from(SendError(1)),
        &SendTimeoutError::from(SendError(1)),
        &TryRecvError::from(channel::RecvError),
        &RecvTimeoutError::from(channel::RecvError),
    ];
    texts.extend(converted.iter().map(|error| format!("{error} {error:?}")));
    texts
}

pub(crate) fn event_loop_of_boxed_closures() -> (u32, bool) {
    type Event = Box<dyn FnOnce(&mut u32) -> bool + Send>;

    let (tx, events) = unbounded::<Event>();
    let event_loop = thread::spawn(move || {
        let mut state = 0;
        for event in &events {
            if !event(&mut state) {
                break;
            }
        }
        state
    });
    for n in 1..=10 {
        let idle = never::<()>();
        select! {
            // It becomes a trait object here.
            send(tx, Box::new(move |state| { *state += n; true })) -> sent => sent.unwrap(),
            recv(idle) -> _ => unreachable!(),
        }
    }
    tx.send(Box::new(|_| false)).unwrap();
    let state = event_loop.join().unwrap();
    (state, tx.send(Box::new(|_| true)).is_err())
}

pub(crate) fn sieve_of_chained_stages() -> Vec<u32> {
    let (tx, mut numbers) = bounded(1);
    thread::spawn(move || (2..).try_for_each(|n| tx.send(n)));
    let mut primes = Vec::new();
    for _ in 0..25 {
        let prime = numbers.recv().unwrap();
        primes.push(prime);
        let (tx, rest) = bounded(1);
        let input = std::mem::replace(&mut numbers, rest);
        thread::spawn(move || input.iter().filter(|n| n % prime != 0).try_for_each(|n| tx.send(n)));
    }
    primes
}

pub(crate) fn optional_channels() -> (Vec<&'static str>, Option<usize>) {
    static NOTHING: Receiver<&str> = never();
    const NEVER: Receiver<Instant> = never();

    let (tx, rx) = bounded(1);
    let mut seen = Vec::new();
    for timeout in [None, Some(Duration::ZERO)] {
        let timer = timeout.map(after).unwrap_or(NEVER);
        if timeout.is_none() {
            tx.send("message").unwrap();
        }
        select! {
            recv(rx) -> text => seen.push(text.unwrap()),
            recv(timer) -> _ => seen.push("timeout"),
            recv(NOTHING) -> text => seen.push(text.unwrap()),
        }
    }
    let receivers = [rx, NOTHING.clone()];
    let ready = receivers.iter().position(|rx| !rx.is_empty());
    (seen, ready)
}

pub(crate) fn cancellation_by_closing() -> (usize, usize, bool) {
    let (cancel, cancelled) = bounded::<()>(0);
    let (started, starting) = bounded(0);
    let (_jobs, queue) = bounded::<u32>(0);
    let waiting = (0..10)
        .map(|n| {
            let (cancelled, started, queue) = (cancelled.clone(), started.clone(), queue.clone());
            thread::spawn(move || {
                started.send(n).unwrap();
                drop(started);
                if n % 2 == 0 {
                    select! {
                        recv(queue) -> _ => 0,
                        recv(cancelled) -> closed => usize::from(closed.is_err()),
                        default(LONG) => 0,
                    }
                } else {
                    let mut select = Select::new();
                    select.recv(&queue);
                    let on_cancel = select.recv(&cancelled);
                    let operation = select.select_deadline(Instant::now() + LONG).unwrap();
                    assert_eq!(operation.index(), on_cancel);
                    usize::from(operation.recv(&cancelled).is_err())
                }
            })
        })
        .collect::<Vec<_>>();
    drop(started);
    let begun = starting.iter().count();
    drop(cancel);
    (begun, waiting.into_iter().map(|waiting| waiting.join().unwrap()).sum(), cancelled.recv().is_err())
}
