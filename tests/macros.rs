//! `go!`, `select!`, `wait_group!` and the attributes: what they accept, in which order they evaluate, and which names
//! they must not meet. What they reject is in `ui/`.

#![deny(unused, unreachable_code, clippy::all)]
// What is written here is meant.
#![allow(clippy::redundant_closure, clippy::redundant_closure_call, clippy::never_loop, clippy::deref_addrof)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use csp::{Receiver, Sender, WaitGroup, go, select, select_biased, wait_group};

fn add(a: i32, b: i32) -> i32 {
    a + b
}

mod go {
    use super::*;

    /// The order in which things happened.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<&'static str>>>);

    impl Log {
        fn note<T>(&self, what: &'static str, value: T) -> T {
            self.0.lock().unwrap().push(what);
            value
        }

        fn take(&self) -> Vec<&'static str> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    #[test]
    fn function_and_arguments_are_evaluated_in_the_caller_in_order() {
        let log = Log::default();
        let (open, gate) = csp::bounded::<()>(0);
        let call = |log: Log, gate: Receiver<()>, _: i32| {
            gate.recv().unwrap_err();
            log.note("call", ())
        };
        let goroutine = go!((log.note("function", call))(log.note("first", log.clone()), gate, log.note("second", 2)));
        assert_eq!(log.take(), ["function", "first", "second"]);
        drop(open);
        goroutine.join().unwrap();
        assert_eq!(log.take(), ["call"]);
    }

    #[test]
    fn options_and_receiver_are_evaluated_before_arguments() {
        let log = Log::default();
        let goroutine = go!(
            name = log.note("name", "n"),
            stack = log.note("stack", 1 << 16),
            log.note("receiver", log.clone()).note(log.note("argument", "call"), 5),
        );
        assert_eq!(goroutine.join().unwrap(), 5);
        assert_eq!(log.take(), ["name", "stack", "receiver", "argument", "call"]);
    }

    #[test]
    fn arguments_are_copied_when_the_goroutine_starts() {
        let (open, gate) = csp::bounded::<()>(0);
        let mut n = 1;
        fn wait(gate: Receiver<()>, n: i32) -> i32 {
            gate.recv().unwrap_err();
            n
        }
        let goroutine = go!(wait(gate, n));
        n += 1;
        drop(open);
        assert_eq!((goroutine.join().unwrap(), n), (1, 2));
    }

    #[test]
    fn an_argument_drops_its_temporaries_before_the_next_one() {
        let mutex = Mutex::new(1);
        // Both guards at once would deadlock.
        let sum = go!(add(*mutex.lock().unwrap(), *mutex.lock().unwrap()));
        assert_eq!(sum.join().unwrap(), 2);
    }

    #[test]
    fn a_question_mark_in_an_argument_returns_from_the_caller() {
        fn parse(text: &str) -> Result<i32, std::num::ParseIntError> {
            Ok(go!(add(text.parse()?, 1)).join().unwrap())
        }
        assert_eq!(parse("1"), Ok(2));
        assert!(parse("one").is_err());
    }

    struct Pool {
        size: usize,
        jobs: Counter,
        job: fn(i32, i32) -> i32,
    }

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Counter {
        fn count(&self, n: usize) -> usize {
            self.0.fetch_add(n, Ordering::Relaxed) + n
        }

        fn into_count(mut self) -> usize {
            *self.0.get_mut()
        }

        fn reset(&mut self) -> usize {
            std::mem::take(self.0.get_mut())
        }
    }

    impl Pool {
        fn new() -> Arc<Pool> {
            Arc::new(Pool { size: 2, jobs: Counter::default(), job: add })
        }

        fn start(self: Arc<Pool>) -> usize {
            // A field behind a pointer is not moved out of it.
            go!(self.jobs.count(self.size)).join().unwrap()
        }

        fn call(self: Arc<Pool>) -> i32 {
            go!((self.job)(1, 2)).join().unwrap()
        }
    }

    #[test]
    fn receivers_are_taken_by_value_by_reference_and_through_pointers() {
        assert_eq!(Pool::new().start(), 2);
        assert_eq!(Pool::new().call(), 3);
        let counter = Counter::default();
        assert_eq!(go!(counter.count(3)).join().unwrap(), 3);
        let counter = Counter(AtomicUsize::new(4));
        assert_eq!(go!(counter.into_count()).join().unwrap(), 4);
        let mut counter = Counter(AtomicUsize::new(5));
        assert_eq!(go!(counter.reset()).join().unwrap(), 5);
        assert_eq!(go!(Counter(AtomicUsize::new(6)).reset()).join().unwrap(), 6);
        static COUNTER: Counter = Counter(AtomicUsize::new(0));
        assert_eq!(go!((&COUNTER).count(7)).join().unwrap(), 7);
        assert_eq!(go!(COUNTER.count(1)).join().unwrap(), 8);
        let pointer = &COUNTER;
        assert_eq!(go!((*pointer).count(1)).join().unwrap(), 9);
        let counters = [&COUNTER];
        assert_eq!(go!(counters[0].count(1)).join().unwrap(), 10);
    }

    #[test]
    fn a_receiver_may_be_used_in_the_arguments() {
        let (tx, rx) = csp::bounded(1);
        go!(tx.send(tx.len())).join().unwrap().unwrap();
        assert_eq!(rx.recv(), Ok(0));
    }

    #[test]
    fn calls_of_every_kind() {
        #[derive(Debug, PartialEq)]
        struct Wrapper(i32);
        trait Named {
            fn name(&self) -> &'static str {
                "trait"
            }
        }
        impl Named for Wrapper {}
        fn generic<T: Default, const N: usize>(_: T) -> [T; N] {
            std::array::from_fn(|_| T::default())
        }

        assert_eq!(go!(add(1, 2)).join().unwrap(), 3);
        assert_eq!(go!(super::add(1, 2)).join().unwrap(), 3);
        assert_eq!(go!(std::cmp::max::<u8>(1, 2)).join().unwrap(), 2);
        assert_eq!(go!(generic::<i32, 2>(7)).join().unwrap(), [0, 0]);
        assert_eq!(go!(Wrapper(1)).join().unwrap(), Wrapper(1));
        assert_eq!(go!(<Wrapper as Named>::name(&Wrapper(1))).join().unwrap(), "trait");
        assert_eq!(go!(Some(1)).join().unwrap(), Some(1));
        let table: [fn(i32, i32) -> i32; 1] = [add];
        assert_eq!(go!(table[0](1, 2)).join().unwrap(), 3);
        let boxed: Box<dyn FnOnce(i32) -> i32 + Send> = Box::new(|n| n + 1);
        assert_eq!(go!(boxed(1)).join().unwrap(), 2);
        let mut sum = 1;
        let mut stateful = move |n| {
            sum += n;
            sum
        };
        assert_eq!(go!(stateful(1)).join().unwrap(), 2);
        let adder = |n| move |m| n + m;
        assert_eq!(go!(adder(1)(2)).join().unwrap(), 3);
        assert_eq!(go!("text".len()).join().unwrap(), 4);
        assert_eq!(go!("1".parse::<i32>()).join().unwrap(), Ok(1));
        assert_eq!(go!(vec![3, 1, 2].into_iter().max()).join().unwrap(), Some(3));
    }

    #[test]
    fn types_flow_from_the_call_into_the_arguments() {
        fn sum(items: &[u64], more: Vec<u64>, scale: impl Fn(u64) -> u64, name: String, last: Option<&str>) -> u64 {
            let sum = items.iter().sum::<u64>() + more.iter().sum::<u64>();
            scale(sum) + name.len() as u64 + last.map_or(0, |text| text.len() as u64)
        }
        let array = &[1, 2];
        assert_eq!(go!(sum(array, Vec::new(), |n| n * 2, "ab".into(), None)).join().unwrap(), 8);
        let offset = 1;
        let sum =
            go!(sum(&[1, 2], [3, 4].into_iter().collect(), move |n| n.pow(2) + offset, Default::default(), Some("c")));
        assert_eq!(sum.join().unwrap(), 102);
    }

    #[test]
    fn closures_are_called_or_passed_as_they_are() {
        let n = 20;
        assert_eq!(go!(|| 1).join().unwrap(), 1);
        assert_eq!(go!(move || n + 1).join().unwrap(), 21);
        assert_eq!(go!(move || -> i64 { n }).join().unwrap(), 20);
        assert_eq!(go!((|a: i32, b: i32| a + b)(1, 2)).join().unwrap(), 3);
        assert_eq!(go!((move |m| m + n)(2)).join().unwrap(), 22);
        #[allow(unused_parens)]
        let parenthesised = go!((move || n));
        assert_eq!(parenthesised.join().unwrap(), 20);
    }

    #[test]
    fn blocks_run_as_a_whole_in_the_goroutine() {
        let (tx, rx) = csp::unbounded();
        let text = String::from("owned");
        let block = go!({
            let length = text.len();
            length * 2
        });
        assert_eq!(block.join().unwrap(), 10);

        let mut n = 1;
        let statements = go! {
            n += 1;
            n * 2
        };
        assert_eq!(statements.join().unwrap(), 4);
        // An assignment, not an option.
        let mut name = 3;
        let assignment = go! {
            name = n - name;
            name
        };
        assert_eq!(assignment.join().unwrap(), -2);
        let early = go! {
            if n == 1 {
                return "early";
            }
            "late"
        };
        assert_eq!(early.join().unwrap(), "early");
        n += 1;
        assert_eq!(n, 2);
        let fallible = go!({
            let n = "x".parse::<i32>()?;
            Ok::<i32, std::num::ParseIntError>(n)
        });
        assert!(fallible.join().unwrap().is_err());

        let sender = tx.clone();
        go!(for n in 0..3 {
            sender.send(n).unwrap();
        });
        let sender = tx.clone();
        // The receiver of the outer call is evaluated here.
        go!(sender.send(3).unwrap()).join().unwrap();
        drop(sender);
        let sender = tx.clone();
        go! { sender.send(4).unwrap(); };
        let sender = tx.clone();
        go!(if n == 2 { sender.send(5).unwrap() } else { unreachable!() });
        static SIX: i32 = 6;
        let pointer = &raw const SIX as usize;
        // SAFETY: it points to a static.
        let six = go!(unsafe { *(pointer as *const i32) }).join().unwrap();
        go!(assert_eq!(tx.send(six), Ok(())));
        let mut received = rx.iter().collect::<Vec<_>>();
        received.sort();
        assert_eq!(received, [0, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn options_reach_the_goroutine() {
        fn name() -> Option<String> {
            csp::current()?.name().map(str::to_owned)
        }
        assert_eq!(go!(name = "a", name()).join().unwrap().as_deref(), Some("a"));
        assert_eq!(go!(name = format!("{}", 1), || name()).join().unwrap().as_deref(), Some("1"));
        assert_eq!(go!(name = String::from("b"), { name() }).join().unwrap().as_deref(), Some("b"));
        assert_eq!(go!(name()).join().unwrap(), None);

        let wg = WaitGroup::new();
        let done = Arc::new(Counter::default());
        for _ in 0..4 {
            go!(stack = 1 << 16, wg = &wg, locked = false, name = "all", done.clone().count(1));
        }
        go!(wg = &wg, panic!("counted out all the same"));
        wg.wait();
        assert_eq!(done.count(0), 4);
    }

    #[test]
    fn it_is_an_expression() {
        fn start() -> csp::JoinHandle<i32> {
            go!(add(1, 2))
        }
        assert_eq!(start().join().unwrap(), 3);
        let all = (0..3).map(|n| go!(add(n, n))).collect::<Vec<_>>();
        assert_eq!(all.into_iter().map(|one| one.join().unwrap()).sum::<i32>(), 6);
        match 1 {
            1 => drop(go!(add(1, 2))),
            _ => drop(go![add(1, 2)]),
        }
        // Dropped without a warning.
        go!(add(1, 2));
    }

    #[test]
    fn it_cannot_see_or_shadow_the_users_names() {
        #[allow(non_upper_case_globals)]
        const builder: i32 = 1;
        let (arg0, arg1, func, receiver) = (10, 20, add, "four");
        assert_eq!(go!(add(arg1, arg0 - arg1)).join().unwrap(), 10);
        assert_eq!(go!(name = "x", func(arg0, builder)).join().unwrap(), 11);
        assert_eq!(go!(receiver.len().max(arg0 as usize)).join().unwrap(), 10);
        assert_eq!(go!({ arg0 + arg1 }).join().unwrap(), 30);
    }

    #[test]
    fn a_panic_is_the_goroutines_own() {
        let error = go!(name = "careless", panic!("oh")).join().unwrap_err();
        assert!(error.is_panic());
    }

    /// Nothing that the expansion says depends on what the caller's names mean.
    #[test]
    fn it_does_not_use_the_prelude() {
        mod bare {
            #![no_implicit_prelude]

            use ::csp::{go, select, wait_group};

            #[allow(dead_code)]
            struct Builder;
            #[allow(dead_code)]
            struct Result;
            #[allow(dead_code)]
            mod core {}
            #[allow(dead_code)]
            mod std {}

            fn one() -> i32 {
                1
            }

            pub(super) fn run() -> i32 {
                let a = go!(one()).join().unwrap();
                let b = go!(name = "b", one()).join().unwrap();
                let c = wait_group! { go!(name = "c", one()).join().unwrap() };
                let (tx, rx) = ::csp::bounded(1);
                let d = select! {
                    sent = tx <- 1 => if sent.is_ok() { 1 } else { 0 },
                    ::std::result::Result::Ok(n) = <-rx, if false => n,
                    default(::std::time::Duration::ZERO) => 2,
                };
                a + b + c + d
            }
        }
        assert_eq!(bare::run(), 4);
    }
}

mod scoped {
    use super::*;

    fn bump(cell: &mut i32, by: &i32) {
        *cell += by;
    }

    #[test]
    fn goroutines_borrow_and_are_waited_for() {
        let by = 10;
        let mut cells = vec![1, 2, 3];
        let count = wait_group! {
            let mut count = 0;
            for cell in &mut cells {
                go!(bump(cell, &by));
                count += 1;
            }
            count
        };
        assert_eq!((count, cells), (3, vec![11, 12, 13]));
    }

    #[test]
    fn every_form_of_go_is_scoped() {
        let text = String::from("text");
        let borrowed = &text;
        let total = AtomicUsize::new(0);
        let count = |n: usize| {
            total.fetch_add(n, Ordering::Relaxed);
        };
        let mut last = 0;
        wait_group! {
            go!(count(text.len()));
            go!(|| count(text.len()));
            go!(move || count(borrowed.len()));
            go!({ count(borrowed.len()) });
            go! {
                let length = borrowed.len();
                count(length);
            };
            go!((&total).fetch_add(text.len(), Ordering::Relaxed));
            go!(name = "named", stack = 1 << 16, count(text.len()));
            csp::go!(count(text.len()));
            ::csp::go![count(text.len())];
            if text.len() == 4 {
                go!(count(text.len()));
            }
            for _ in 0..2 {
                match text.len() {
                    4 => drop(go!(count(text.len()))),
                    _ => unreachable!(),
                }
            }
            (0..2).for_each(|_| {
                go!(count(text.len()));
            });
            // In the arguments of other macros, in a goroutine of this block, in a macro of this block.
            let handles = vec![go!(count(text.len())), go!(count(text.len()))];
            assert_eq!(handles.into_iter().filter_map(|handle| handle.join().ok()).count(), 2);
            go!(|| {
                go!(count(text.len()));
                let handle = go!(move || count(borrowed.len()));
                handle.join().unwrap();
            });
            macro_rules! start {
                ($n:expr) => {
                    go!(count($n))
                };
            }
            start!(text.len());
            csp::select! {
                default => drop(go!(count(text.len()))),
            }
            go!(|| last = 1)
        }
        assert_eq!((total.into_inner(), last), (20 * 4, 1));
    }

    #[test]
    fn the_value_is_the_last_expression_unless_it_is_a_go() {
        let n = 3;
        assert_eq!(wait_group! { go!(add(1, 2)).join().unwrap() + n }, 6);
        assert_eq!(wait_group! { let m = 1; n + m }, 4);
        let () = wait_group! { go!(add(1, n)) };
        let () = wait_group! { go! { let _ = n; } };
        let () = wait_group! {};
    }

    #[test]
    fn blocks_nest() {
        let mut cells = [[1, 2], [3, 4]];
        wait_group! {
            for row in &mut cells {
                go!(move || {
                    wait_group! {
                        for cell in row.iter_mut() {
                            go!(bump(cell, &1));
                        }
                    }
                    row.reverse();
                });
            }
        }
        assert_eq!(cells, [[3, 2], [5, 4]]);
    }

    #[test]
    fn goroutines_of_a_nested_fn_are_not_scoped() {
        let n = 1;
        wait_group! {
            fn start(n: i32) -> csp::JoinHandle<i32> {
                go!(add(n, 1))
            }
            go!(|| assert_eq!(start(n).join().unwrap(), 2));
            let function: fn(i32) -> csp::JoinHandle<i32> = start;
            let _ = { go!(|| n); function };
        }
    }

    #[test]
    fn loops_in_the_block_may_be_left() {
        let sum = AtomicUsize::new(0);
        wait_group! {
            'outer: for n in 0.. {
                loop {
                    if n == 3 {
                        break 'outer;
                    }
                    go!((&sum).fetch_add(n, Ordering::Relaxed));
                    break;
                }
                if n == 1 {
                    continue;
                }
            }
            let decided = 'block: {
                if sum.load(Ordering::Relaxed) > 100 {
                    break 'block 1;
                }
                2
            };
            // A closure is a function of its own.
            let parsed = (|| -> Result<i32, std::num::ParseIntError> {
                if decided == 1 {
                    return Ok(1);
                }
                Ok("2".parse::<i32>()? + decided)
            })();
            assert_eq!(parsed, Ok(4));
        }
        assert_eq!(sum.into_inner(), 3);
    }

    #[test]
    fn a_panic_of_the_block_waits_for_the_goroutines() {
        let mut done = false;
        let (open, gate) = csp::bounded::<()>(0);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_group! {
                go!(|| {
                    gate.recv().unwrap_err();
                    csp::yield_now();
                    done = true;
                });
                drop(open);
                panic!("the block's");
            }
        }));
        assert_eq!(result.unwrap_err().downcast_ref(), Some(&"the block's"));
        assert!(done);
    }

    #[test]
    fn a_method_and_a_generic_function_may_contain_it() {
        struct Doubler {
            by: i32,
        }
        impl Doubler {
            fn double(&self, cell: &mut i32) {
                *cell *= self.by;
            }

            fn all<'a>(&self, cells: impl IntoIterator<Item = &'a mut i32>) {
                wait_group! {
                    for cell in cells {
                        go!(self.double(cell));
                    }
                }
            }
        }
        let mut cells = [1, 2];
        Doubler { by: 2 }.all(&mut cells);
        assert_eq!(cells, [2, 4]);
    }

    #[test]
    fn it_works_in_an_async_function() {
        async fn sum(numbers: &[i32]) -> i32 {
            let total = Mutex::new(0);
            wait_group! {
                for n in numbers {
                    go!(|| ());
                    let total = &total;
                    go!({ *total.lock().unwrap() += n });
                }
            }
            total.into_inner().unwrap()
        }
        let numbers = [1, 2, 3];
        let mut future = std::pin::pin!(sum(&numbers));
        let poll = future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
        assert_eq!(poll, std::task::Poll::Ready(6));
    }
}

mod select {
    use super::*;

    fn full<T>(value: T) -> (Sender<T>, Receiver<T>) {
        let (tx, rx) = csp::bounded(1);
        tx.send(value).unwrap();
        (tx, rx)
    }

    fn closed<T>() -> Receiver<T> {
        csp::bounded(0).1
    }

    #[test]
    fn both_syntaxes_mix() {
        let (full_tx, full_rx) = full(1);
        let (tx, rx) = csp::bounded(1);
        let never = csp::never::<i32>();
        let mut seen = Vec::new();
        for _ in 0..2 {
            select! {
                recv(full_rx) -> n => seen.push(n.unwrap()),
                n = <-never => unreachable!("{n:?}"),
                <-never => unreachable!(),
                send(full_tx, 5) -> _ => unreachable!("full, or biased the wrong way"),
                tx <- 2 => seen.push(2)
            }
            if seen.contains(&1) && full_tx.is_empty() {
                full_tx.send(9).unwrap();
                break;
            }
        }
        let sent = select! {
            res = tx <- 3 => res.is_ok(),
            default => false,
        };
        assert_eq!(sent, !seen.contains(&2));
        assert_eq!(rx.try_iter().count(), 1);
    }

    #[test]
    fn the_result_is_what_the_method_returns() {
        let (tx, rx) = full(7);
        assert_eq!(select! { n = <-rx => n }, Ok(7));
        drop(rx);
        assert_eq!(select! { sent = tx <- 8 => sent.unwrap_err().0 }, 8);
        assert_eq!(select! { send(tx, 9) -> sent => sent.unwrap_err().into_inner() }, 9);
        assert!(select! { recv(closed::<i32>()) -> n => n }.is_err());
    }

    #[test]
    fn operands_are_evaluated_once_and_in_order() {
        let log = Mutex::new(Vec::new());
        let note = |what| log.lock().unwrap().push(what);
        let (tx, rx) = full(1);
        let count = AtomicUsize::new(0);
        let ran = select! {
            recv({ note("recv"); &rx }) -> n, if { note("condition"); n_is_wanted() } => n.unwrap(),
            { note("tx"); &tx } <- { note("value"); 2 } => unreachable!(),
            default({ note("timeout"); Duration::ZERO }) => unreachable!(),
            n = <-{ count.fetch_add(1, Ordering::Relaxed); note("last"); csp::never() } => n.unwrap(),
        };
        assert_eq!(ran, 1);
        assert_eq!(log.into_inner().unwrap(), ["recv", "condition", "tx", "value", "timeout", "last"]);
        assert_eq!(count.into_inner(), 1);

        fn n_is_wanted() -> bool {
            true
        }
    }

    #[test]
    fn operands_of_an_arm_that_its_condition_takes_out_are_evaluated_too() {
        let log = Mutex::new(Vec::new());
        let note = |what| log.lock().unwrap().push(what);
        let (tx, rx) = full(1);
        let value = Arc::new(());
        let (values, _values) = csp::bounded(1);
        let ran = select! {
            n = <-{ note("rx"); &rx }, if { note("no"); false } => n.unwrap(),
            { note("tx"); &tx } <- { note("value"); 2 }, if { note("neither"); false } => 2,
            // As with a nil channel in Go, the value is gone.
            values <- value.clone(), if false => 3,
            default => { assert_eq!(Arc::strong_count(&value), 1); 4 }
        };
        assert_eq!(ran, 4);
        assert_eq!(log.into_inner().unwrap(), ["rx", "no", "tx", "value", "neither"]);
    }

    /// Every kind of arm in one `select!`; which of them runs is up to the channels.
    #[test]
    fn every_kind_of_arm_in_one_select() {
        struct Channels {
            recv: Receiver<i32>,
            send: Sender<i32>,
            go: Receiver<i32>,
            dropped: Receiver<i32>,
            unwrapped: Receiver<i32>,
            sent: Sender<i32>,
            result: Sender<i32>,
        }
        fn run(channels: &Channels, guard: bool) -> Result<&'static str, Box<dyn std::error::Error>> {
            Ok(select! {
                recv(channels.recv) -> n => { n?; "recv" }
                send(channels.send, 1) -> sent => { sent?; "send" }
                n = <-channels.go => {
                    if n? == 1 {
                        return Ok("go");
                    }
                    "not one"
                }
                <-channels.dropped => "dropped",
                Ok(3) = <-channels.unwrapped, if guard => "three",
                channels.sent <- 2 => "sent",
                result = channels.result <- 3 => match result {
                    Ok(()) => "result",
                    Err(csp::channel::SendError(n)) => Err(format!("{n} comes back"))?,
                },
                default(Duration::from_millis(1)) => "default",
            })
        }
        let never = csp::never::<i32>;
        let (full, _keep) = full(0);
        let nothing = || Channels {
            recv: never(),
            send: full.clone(),
            go: never(),
            dropped: never(),
            unwrapped: never(),
            sent: full.clone(),
            result: full.clone(),
        };
        let ready = |n| {
            let (tx, rx) = csp::bounded(1);
            tx.send(n).unwrap();
            rx
        };
        let (room, kept) = csp::bounded(1);
        let check = |channels: Channels, expected: &str| {
            let outcome = run(&channels, true).unwrap_or_else(|error| error.to_string().leak());
            assert_eq!(outcome, expected);
            kept.try_recv().ok()
        };
        assert_eq!(check(nothing(), "default"), None);
        assert_eq!(check(Channels { recv: ready(5), ..nothing() }, "recv"), None);
        assert_eq!(check(Channels { send: room.clone(), ..nothing() }, "send"), Some(1));
        assert_eq!(check(Channels { go: ready(1), ..nothing() }, "go"), None);
        assert_eq!(check(Channels { go: ready(2), ..nothing() }, "not one"), None);
        assert_eq!(check(Channels { dropped: ready(5), ..nothing() }, "dropped"), None);
        assert_eq!(check(Channels { dropped: closed(), ..nothing() }, "dropped"), None);
        assert_eq!(check(Channels { unwrapped: ready(3), ..nothing() }, "three"), None);
        assert_eq!(check(Channels { unwrapped: ready(4), ..nothing() }, "default"), None);
        assert_eq!(check(Channels { unwrapped: closed(), ..nothing() }, "default"), None);
        assert_eq!(run(&Channels { unwrapped: ready(3), ..nothing() }, false).unwrap(), "default");
        assert_eq!(check(Channels { sent: room.clone(), ..nothing() }, "sent"), Some(2));
        assert_eq!(check(Channels { result: room.clone(), ..nothing() }, "result"), Some(3));
        let (shut, _) = csp::bounded(0);
        assert_eq!(check(Channels { result: shut, ..nothing() }, "3 comes back"), None);
        let error = csp::channel::RecvError.to_string();
        assert_eq!(check(Channels { recv: closed(), ..nothing() }, &error), None);
    }

    #[test]
    fn the_value_of_a_crossbeam_arm_is_made_when_it_was_chosen() {
        let log = Mutex::new(Vec::new());
        let note = |what| log.lock().unwrap().push(what);
        let (tx, rx) = csp::bounded(1);
        for _ in 0..2 {
            select_biased! {
                send({ note("send"); &tx }, { note("value"); String::from("v") }) -> _ => note("sent"),
                recv({ note("recv"); &rx }) -> _ => note("received"),
            }
        }
        assert_eq!(log.into_inner().unwrap(), ["send", "recv", "value", "sent", "send", "recv", "received"]);

        // So it need not be given away where another arm is chosen ..
        let text = String::from("kept");
        tx.send(String::new()).unwrap();
        let text = select! {
            send(tx, text) -> _ => unreachable!("there is no room"),
            default(Duration::from_millis(1)) => text,
        };
        // .. and may use what the arms have borrowed.
        struct Node {
            out: Sender<String>,
            input: Receiver<String>,
            next: Option<String>,
        }
        impl Node {
            fn take_next(&mut self) -> String {
                self.next.take().unwrap()
            }
        }
        let (out, rx) = csp::bounded(0);
        let mut node = Node { out, input: csp::never(), next: Some(text) };
        go!(move || {
            let node = &mut node;
            select! {
                recv(node.input) -> _ => unreachable!(),
                send(node.out, node.take_next()) -> sent => sent.unwrap(),
            }
        });
        assert_eq!(rx.recv().as_deref(), Ok("kept"));
    }

    #[test]
    fn a_value_may_leave_the_enclosing_function_after_its_arm_was_chosen() {
        fn send_parsed(tx: &Sender<i32>, texts: &[&str]) -> Result<usize, std::num::ParseIntError> {
            let mut skipped = 0;
            for text in texts {
                select! {
                    send(tx, if text.is_empty() { skipped += 1; continue } else { text.parse()? }) -> sent => sent.unwrap(),
                    recv(csp::never::<()>()) -> Ok(_) => unreachable!(),
                }
            }
            Ok(skipped)
        }
        // What the arm held is free again: room in a buffer ..
        let (tx, rx) = csp::bounded(2);
        assert_eq!(send_parsed(&tx, &["", "1", ""]), Ok(2));
        assert!(send_parsed(&tx, &["x"]).is_err());
        assert_eq!(send_parsed(&tx, &["2"]), Ok(0));
        assert!(tx.try_send(3).is_err());
        assert_eq!(rx.try_iter().collect::<Vec<_>>(), [1, 2]);
        // .. and a receiver that waits.
        let (tx, rx) = csp::bounded(0);
        let receiver = go!(rx.recv());
        assert!(send_parsed(&tx, &["", "x"]).is_err());
        assert_eq!(send_parsed(&tx, &["4"]), Ok(0));
        assert_eq!(receiver.join().unwrap(), Ok(4));
    }

    #[test]
    fn bodies_are_part_of_the_enclosing_function() {
        fn first(rx: &Receiver<i32>, stop: &Receiver<()>) -> Result<i32, csp::channel::RecvError> {
            let mut rounds = 0;
            'rounds: loop {
                rounds += 1;
                for _ in 0..2 {
                    select! {
                        n = <-rx => match n? {
                            0 => continue,
                            1 => break,
                            2 => continue 'rounds,
                            3 => break 'rounds,
                            n => return Ok(n),
                        },
                        _ = <-stop => { return Ok(-rounds) }
                    }
                }
            }
            Ok(rounds)
        }
        let never = csp::never();
        let run = |numbers: &[i32]| {
            let (tx, rx) = csp::unbounded();
            numbers.iter().for_each(|&n| tx.send(n).unwrap());
            drop(tx);
            first(&rx, &never)
        };
        assert_eq!(run(&[0, 0, 0, 7]), Ok(7));
        assert_eq!(run(&[1, 1, 3]), Ok(3));
        assert_eq!(run(&[2, 0, 2, 3]), Ok(3));
        assert!(run(&[0]).is_err());
        assert_eq!(first(&csp::never(), &closed()), Ok(-1));
    }

    #[test]
    fn operands_may_leave_the_enclosing_function_too() {
        fn f(tx: &Sender<i32>, text: &str) -> Result<i32, std::num::ParseIntError> {
            loop {
                select! {
                    tx <- text.parse()? => return Ok(1),
                    default => break,
                }
            }
            Ok(2)
        }
        let (tx, _rx) = csp::bounded(1);
        assert!(f(&tx, "x").is_err());
        assert_eq!(f(&tx, "1"), Ok(1));
        assert_eq!(f(&tx, "1"), Ok(2));
    }

    #[test]
    fn a_channel_is_anything_that_leads_to_one() {
        struct Ends {
            rx: Receiver<i32>,
            tx: Option<Sender<i32>>,
        }
        let (tx, rx) = csp::bounded(1);
        let ends = Ends { rx: rx.clone(), tx: Some(tx.clone()) };
        let ends = &ends;
        let shared = Arc::new(rx.clone());
        let boxed = Box::new(&rx);
        let list = [rx.clone()];
        let generic = |rx: &Receiver<i32>| rx.clone();
        select! { send(&tx, 1) -> sent => sent.unwrap() }
        assert_eq!(select! { n = <-ends.rx => n }, Ok(1));
        select! { ends.tx.as_ref().unwrap() <- 2 => {} }
        assert_eq!(select! { n = <-shared => n }, Ok(2));
        select! { *&tx <- 3 => {} }
        assert_eq!(select! { n = <-boxed => n }, Ok(3));
        select! { sent = if false { &tx } else { ends.tx.as_ref().unwrap() } <- 4 => sent.unwrap() }
        assert_eq!(select! { n = <-list[0] => n }, Ok(4));
        tx.send(5).unwrap();
        assert_eq!(select! { n = <-generic(&rx) => n }, Ok(5));
        tx.send(6).unwrap();
        assert_eq!(select! { recv(&&rx) -> n => n }, Ok(6));
        tx.send(7).unwrap();
        assert_eq!(select! { Ok(n) = <-list.first().cloned().unwrap_or_else(csp::never) => n }, 7);
    }

    #[test]
    fn nothing_is_borrowed_while_a_body_runs() {
        let mut queue = vec![full(1)];
        let mutex = Mutex::new(full(2));
        select! {
            n = <-queue[0].1 => {
                assert_eq!(n, Ok(1));
                queue.clear();
            }
        }
        assert!(queue.is_empty());
        select! {
            n = <-mutex.lock().unwrap().1 => {
                assert_eq!(n, Ok(2));
                mutex.lock().unwrap().0.send(3).unwrap();
            }
        }
        // Temporaries of the operands live until the choice is made.
        let pool = Mutex::new(std::collections::HashMap::from([(1, full(4))]));
        select! {
            n = <-pool.lock().unwrap().get(&String::from("x").len()).unwrap().1 => {
                assert_eq!(n, Ok(4));
                pool.lock().unwrap().clear();
            }
        }
        let mut text = String::from("moved");
        let (tx, rx) = csp::bounded(1);
        select! {
            tx <- std::mem::take(&mut text) => text.push_str("new"),
            default => unreachable!(),
        }
        assert_eq!((rx.recv().unwrap().as_str(), text.as_str()), ("moved", "new"));
    }

    #[test]
    fn values_that_are_not_sent_are_dropped_before_the_body() {
        let value = Arc::new(());
        let (tx, _rx) = csp::bounded(0);
        select! {
            tx <- value.clone() => unreachable!(),
            default => assert_eq!(Arc::strong_count(&value), 1),
        }
    }

    /// Says when it is dropped.
    struct Noted<'a>(&'a Mutex<Vec<&'static str>>, &'static str);

    impl Drop for Noted<'_> {
        fn drop(&mut self) {
            self.0.lock().unwrap().push(self.1);
        }
    }

    #[test]
    fn a_result_of_which_nothing_is_bound_is_dropped_before_the_body() {
        let log = Mutex::new(Vec::new());
        let note = |what| log.lock().unwrap().push(what);
        let (tx, rx) = csp::bounded(1);
        // In a larger statement, to which temporaries would belong.
        macro_rules! check {
            ($($arms:tt)*) => {
                tx.send(Noted(&log, "message")).unwrap();
                note(select! { $($arms)* });
                assert_eq!(std::mem::take(&mut *log.lock().unwrap()), ["message", "body", "after"]);
            };
        }
        check!(<-rx => { note("body"); "after" });
        check!(_ = <-rx => { note("body"); "after" });
        check!(recv(rx) -> _ => { note("body"); "after" });
        check!(Ok(_) = <-rx => { note("body"); "after" });
        check!(recv(rx) -> Ok(_) | Err(_) => { note("body"); "after" });
        check!(Ok(Noted(_, "message")) = <-rx => { note("body"); "after" }, else => unreachable!());
        check!(Err(_) = <-csp::never::<()>() => unreachable!(), <-rx => { note("body"); "after" }, default => "");
        check!(default(Duration::MAX) => unreachable!(), Ok(Noted { .. }) = <-rx => { note("body"); "after" });
        // Dropped for its pattern, and then there is nothing left.
        check!(Err(_) = <-rx => unreachable!(), else => { note("body"); "after" });
        check!(Ok(Noted(_, "other")) = <-rx => unreachable!(), default => { note("body"); "after" });
        drop(rx);
        // What a closed channel gives back.
        note(select! { tx <- Noted(&log, "value") => { note("body"); "after" } });
        note(select! { Err(_) = tx <- Noted(&log, "value") => { note("body"); "after" } });
        note(select! { send(tx, Noted(&log, "value")) -> _ => { note("body"); "after" } });
        assert_eq!(log.lock().unwrap().join(" "), ["value body after"; 3].join(" "));
    }

    #[test]
    fn a_result_of_which_something_is_bound_ends_with_the_arm() {
        let log = Mutex::new(Vec::new());
        let note = |what| log.lock().unwrap().push(what);
        let (tx, rx) = csp::bounded(1);
        let message = || (Noted(&log, "first"), Noted(&log, "second"));
        tx.send(message()).unwrap();
        note(select! { Ok((_first, _)) = <-rx => { note("body"); "after" } });
        tx.send(message()).unwrap();
        note(select! { Ok((ref first, _)) = <-rx => { note("body"); assert_eq!(first.1, "first"); "after" } });
        let log = log.lock().unwrap().join(" ");
        // What is moved out goes first, as in a `match`.
        assert_eq!(log, "body first second after body first second after");
    }

    #[test]
    fn a_message_is_dropped_if_dropping_a_value_that_was_not_sent_panics() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("as expected");
            }
        }
        let log = Mutex::new(Vec::new());
        let (tx, _rx) = csp::bounded(0);
        let (_tx, messages) = csp::bounded(4);
        (0..4).for_each(|_| _tx.send(Noted(&log, "message")).unwrap());
        let mut bodies = 0;
        let mut run = |arms: &mut dyn FnMut() -> usize| {
            let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| bodies += arms()));
            assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"as expected"));
        };
        run(&mut || select! { _message = <-messages => 1, tx <- Bomb => 2 });
        run(&mut || select! { tx <- Bomb => 2, recv(messages) -> _message => 1 });
        run(&mut || select! { tx <- Bomb => 2, Ok(_message) = <-messages => 1, else => 3 });
        run(&mut || select! { tx <- Bomb => 2, <-messages => 1 });
        assert_eq!((bodies, messages.len()), (0, 0));
        assert_eq!(*log.lock().unwrap(), ["message"; 4]);
    }

    #[test]
    fn messages_may_be_moved_and_borrowed_from() {
        let text = String::from("a");
        let (tx, rx) = csp::bounded(1);
        tx.send((text.as_str(), vec![1])).unwrap();
        let list = select! { Ok((_, list)) = <-rx => list };
        tx.send(("b", list)).unwrap();
        let (name, list) = select! { recv(rx) -> message => message.unwrap() };
        assert_eq!((name, list), ("b", vec![1]));
    }

    #[test]
    fn timeouts_and_defaults() {
        let (tx, rx) = csp::bounded::<i32>(0);
        assert_eq!(select! { _ = <-rx => 1, default => 2 }, 2);
        assert_eq!(select! { default() => 2, _ = <-rx => 1 }, 2);
        assert_eq!(select! { tx <- 1 => 1, default(Duration::from_millis(1)) => 2 }, 2);
        assert_eq!(select! { recv(rx) -> _ => 1, _ = <-csp::after(Duration::from_millis(1)) => 2 }, 2);
        assert_eq!(select! { default => 2 }, 2);
        assert_eq!(select! { default(Duration::from_millis(1)) => 2 }, 2);
        go!(move || tx.send(3));
        assert_eq!(select! { n = <-rx => n, default(Duration::MAX) => unreachable!() }, Ok(3));
    }

    #[test]
    #[should_panic(expected = "names a constant")]
    #[expect(non_upper_case_globals, reason = "that is the case")]
    fn a_constant_with_a_lower_case_name_is_not_taken_for_a_match_in_silence() {
        const most: i32 = 3;
        let (tx, rx) = csp::bounded(1);
        tx.send(5).unwrap();
        csp::select! {
            Ok(most) = <-rx => panic!("it is 5"),
            else => panic!("the arm is not out"),
        }
    }

    #[test]
    fn a_pattern_that_does_not_match_takes_the_arm_out() {
        let (tx, rx) = csp::bounded(1);
        tx.send(1).unwrap();
        let closed = closed::<i32>();
        let n = select! {
            Ok(_) = <-closed => unreachable!(),
            recv(closed) -> Ok(_) => unreachable!(),
            Ok(n) = <-rx => n,
            else => unreachable!(),
        };
        assert_eq!(n, 1);
        let out = select! {
            Ok(n) = <-closed => n,
            Ok(_) = tx <- 2, if false => 3,
            else => 4,
        };
        assert_eq!(out, 4);
        let waited = select! {
            Ok(n) = <-closed => n,
            Ok(n) = <-csp::never() => n,
            default(Duration::from_millis(5)) => 5,
        };
        assert_eq!(waited, 5);
        let polled = select! {
            Ok(n) = <-closed => n,
            default => 6,
        };
        assert_eq!(polled, 6);
        drop(rx);
        let unsent = select! {
            Ok(()) = tx <- 7 => None,
            Err(error) = tx <- 8 => Some(error.0),
        };
        assert_eq!(unsent, Some(8));
    }

    #[test]
    fn patterns_of_every_kind() {
        #[derive(Debug, PartialEq)]
        struct Message {
            id: u32,
            text: Option<String>,
        }
        const ANSWER: u32 = 42;
        let message = |id| Message { id, text: Some(format!("m{id}")) };
        let run = |id| {
            let (_tx, rx) = full(message(id));
            select! {
                Ok(Message { id: 1, .. }) = <-rx => "literal".to_owned(),
                else => select! {
                    Ok(Message { ref text, .. }) = <-full(message(id)).1, if id == 2 => format!("{text:?}"),
                    Ok(mut whole @ Message { id: ANSWER | 43..=50, .. }) = <-full(message(id)).1 => {
                        whole.id += 1;
                        format!("{whole:?}")
                    }
                    else => "else".to_owned(),
                },
            }
        };
        assert_eq!(run(1), "literal");
        assert!(run(2).contains("m2"));
        assert_eq!(run(42), format!("{:?}", Message { id: 43, text: Some("m42".into()) }));
        assert_eq!(run(3), "else");

        let (_tx, rx) = full(Some((1, [2, 3, 4])));
        assert_eq!(select! { Ok(Some((a, [b, .., c]))) = <-rx => a + b + c }, 7);
        let (_tx, rx) = full(&5);
        assert_eq!(select! { Ok(&n) = <-rx => n }, 5);
    }

    #[test]
    #[should_panic(expected = "every arm of this `select!` is out")]
    fn without_an_else_it_panics_when_every_arm_is_out() {
        select! {
            Ok(_) = <-closed::<i32>() => {}
            <-csp::never::<i32>(), if false => {}
        }
    }

    #[test]
    fn conditions_take_arms_out() {
        let (tx, rx) = full(1);
        for wanted in [false, true] {
            let n = select! {
                n = <-rx, if wanted => n.unwrap(),
                recv(rx) -> n, if !wanted && tx.is_empty() => n.unwrap(),
                send(tx, 2) -> _, if tx.is_empty() => 2,
                else => 3,
            };
            assert_eq!(n, if wanted { 1 } else { 3 });
        }
    }

    #[test]
    fn biased_takes_the_topmost() {
        let (_a, a) = full(1);
        let (_b, b) = full(2);
        for _ in 0..20 {
            let n = select_biased! {
                Ok(n) = <-closed::<i32>() => n,
                n = <-a.clone(), if a.is_empty() => n.unwrap(),
                recv(b) -> n => n.unwrap(),
                n = <-a => n.unwrap(),
            };
            assert_eq!(n, 2);
            _b.send(2).unwrap();
        }
    }

    #[test]
    fn selects_nest() {
        let (_tx, a) = full(1);
        let (_tx, b) = full(2);
        let n = select! {
            n = <-a => select! {
                m = <-b => n.unwrap() * 10 + m.unwrap(),
            },
            // In an operand, too.
            n = <-select! { default => csp::never::<i32>() } => n.unwrap(),
        };
        assert_eq!(n, 12);
    }

    #[test]
    fn it_cannot_see_or_shadow_the_users_names() {
        let (operation0, operation1) = (full(1).1, csp::never::<i32>());
        let (result, timeout, entered) = (10, Duration::ZERO, 20);
        let n = select! {
            Ok(chosen) = <-operation0 => chosen + result + entered,
            result = <-operation1 => result.unwrap(),
            default(timeout) => result,
        };
        assert_eq!(n, 31);
    }

    /// `select!` with an arm for each combination of a ten and a unit: Go's receives where the units are digits,
    /// crossbeam's sends where they stand in parentheses. What comes after the brackets is added.
    macro_rules! arms {
        ($channels:ident [$($tens:literal)*] [$($units:tt)*] $($rest:tt)*) => {
            arms!(@ten $channels [$($tens)*] [$($units)*] {} $($rest)*)
        };
        (@ten $channels:ident [] $units:tt {$($done:tt)*} $($rest:tt)*) => { select! { $($done)* $($rest)* } };
        (@ten $channels:ident [$ten:literal $($tens:literal)*] [$($unit:literal)*] {$($done:tt)*} $($rest:tt)*) => {
            arms!(@ten $channels [$($tens)*] [$($unit)*] {
                $($done)*
                $(n = <-$channels[10 * $ten + $unit].1 => (n.unwrap(), 10 * $ten + $unit),)*
            } $($rest)*)
        };
        (@ten $channels:ident [$ten:literal $($tens:literal)*] [$(($unit:literal))*] {$($done:tt)*} $($rest:tt)*) => {
            arms!(@ten $channels [$($tens)*] [$(($unit))*] {
                $($done)*
                $(send($channels[10 * $ten + $unit].0, $unit) -> _ => ($unit, 10 * $ten + $unit),)*
            } $($rest)*)
        };
    }

    /// One channel is ready at a time: for each arm, its own body has to run.
    fn each_arm_runs<const N: usize>(
        select: impl Fn(&[(Sender<usize>, Receiver<usize>); N]) -> (usize, usize),
        sends: bool,
    ) {
        let channels = std::array::from_fn(|_| csp::bounded(1));
        if sends {
            channels.iter().for_each(|(tx, _)| tx.send(0).unwrap());
        }
        for (n, (tx, rx)) in channels.iter().enumerate() {
            if sends {
                rx.recv().unwrap();
                let (sent, arm) = select(&channels);
                assert_eq!((arm, rx.try_recv()), (n, Ok(sent)));
                tx.send(0).unwrap();
            } else {
                tx.send(n + 1000).unwrap();
                assert_eq!(select(&channels), (n + 1000, n));
            }
        }
    }

    #[test]
    fn any_number_of_arms() {
        each_arm_runs::<1>(|channels| arms!(channels[0][0]), false);
        each_arm_runs::<2>(|channels| arms!(channels [0] [0 1]), false);
        each_arm_runs::<2>(|channels| arms!(channels [0] [(0) (1)] default => unreachable!()), true);
        // Beyond sixteen, the result is a tree.
        each_arm_runs::<15>(
            |channels| arms!(channels [0] [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14] default => unreachable!()),
            false,
        );
        each_arm_runs::<16>(|channels| arms!(channels [0] [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15]), false);
        each_arm_runs::<16>(
            |channels| arms!(channels [0] [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15] default => unreachable!()),
            false,
        );
        each_arm_runs::<17>(|channels| arms!(channels [0] [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16]), false);
        each_arm_runs::<20>(|channels| arms!(channels [0 1] [(0) (1) (2) (3) (4) (5) (6) (7) (8) (9)]), true);
        each_arm_runs::<64>(
            |channels| {
                arms!(channels [0 1 2 3 4 5] [0 1 2 3 4 5 6 7 8 9]
                    n = <-channels[60].1 => (n.unwrap(), 60),
                    recv(channels[61].1) -> n => (n.unwrap(), 61),
                    Ok(n) = <-channels[62].1 => (n, 62),
                    recv(channels[63].1) -> n, if channels.len() == 64 => (n.unwrap(), 63),
                )
            },
            false,
        );
        each_arm_runs::<130>(|channels| arms!(channels [0 1 2 3 4 5 6 7 8 9 10 11 12] [0 1 2 3 4 5 6 7 8 9]), false);
        // A tree of three levels.
        each_arm_runs::<260>(
            |channels| {
                arms!(channels [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25]
                [0 1 2 3 4 5 6 7 8 9] default(Duration::MAX) => unreachable!())
            },
            false,
        );
    }

    #[test]
    fn among_many_arms_default_and_else_run_when_nothing_else_can() {
        let channels: [_; 32] = std::array::from_fn(|_| csp::bounded::<usize>(0));
        let channels = &channels;
        // The last outcome stands alone in its node, or with others.
        let default = arms!(channels [0] [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15] default => (1, 0));
        assert_eq!(default, (1, 0));
        let default = arms!(channels [0 1] [0 1 2 3 4 5 6 7 8 9] default(Duration::ZERO) => (2, 0));
        assert_eq!(default, (2, 0));
        channels.iter().for_each(|(tx, _)| assert!(tx.close()));
        let otherwise = select! {
            Ok(_) = <-channels[0].1 => 0, Ok(_) = <-channels[1].1 => 1, Ok(_) = <-channels[2].1 => 2,
            Ok(_) = <-channels[3].1 => 3, Ok(_) = <-channels[4].1 => 4, Ok(_) = <-channels[5].1 => 5,
            Ok(n) = <-channels[6].1 => n, Ok(_) = <-channels[7].1 => 7, Ok(n) = <-channels[8].1 => n,
            Ok(_) = <-channels[9].1 => 9, Ok(_) = <-channels[10].1 => 10, Ok(_) = <-channels[11].1 => 11,
            Ok(n) = <-channels[12].1 => n, Ok(_) = <-channels[13].1 => 13, Ok(_) = <-channels[14].1 => 14,
            Ok(n) = <-channels[15].1 => n, Ok(_) = <-channels[16].1 => 16, Ok(()) = channels[17].0 <- 17 => 17,
            else => 100,
        };
        assert_eq!(otherwise, 100);
    }

    #[test]
    fn arms_without_a_value_and_bodies_without_a_type() {
        // `select! {}` has any type.
        #[allow(dead_code)]
        fn for_ever() -> i32 {
            select! {}
        }
        let (_tx, rx) = full(1);
        let n: i32 = select! {
            n = <-rx => n.unwrap(),
            default(Duration::MAX) => panic!("never"),
        };
        assert_eq!(n, 1);
        let done = Arc::new(AtomicUsize::new(0));
        let seen = done.clone();
        go!(move || {
            seen.store(1, Ordering::Release);
            select! {}
        });
        while done.load(Ordering::Acquire) == 0 {
            csp::yield_now();
        }
    }

    #[test]
    fn expressions_keep_their_precedence() {
        let (tx, rx) = csp::bounded(2);
        let (a, b) = (5, 2);
        select! { tx <- a - b => {} }
        select! { tx <- if a < b { 1 } else { -1 } => {} }
        assert_eq!(rx.try_iter().collect::<Vec<_>>(), [3, -1]);
        select! { tx <- -a => {} default => unreachable!() }
        select! { _ = tx <- i32::from(a <-b), if a > b => {} }
        assert_eq!(rx.try_iter().collect::<Vec<_>>(), [-5, 0]);
    }
}

/// What another macro passes on arrives in groups without delimiters.
mod inside_other_macros {
    use super::*;

    macro_rules! start {
        (call $f:ident $(, $argument:expr)*) => { go!($f($($argument),*)) };
        (path $f:path, $argument:expr) => { go!($f($argument, $argument)) };
        (expr $e:expr) => { go!($e) };
        (callee $e:expr, $argument:expr) => { csp::go!($e($argument, 1)) };
        (method $e:expr, $method:ident) => { go!($e.$method()) };
        (block $b:block) => { go!($b) };
        (named $name:literal, $e:expr) => { go!(name = $name, $e) };
        (option $option:ident = $value:expr, $($rest:tt)*) => { go!($option = $value, $($rest)*) };
        (tokens $($tokens:tt)*) => { ::csp::go! { $($tokens)* } };
    }

    #[test]
    fn go() {
        let n = 1;
        assert_eq!(start!(call add, n + 1, 3).join().unwrap(), 5);
        assert_eq!(start!(path super::add, 2 + 2).join().unwrap(), 8);
        assert_eq!(start!(expr add(n, 1)).join().unwrap(), 2);
        assert_eq!(start!(expr move || n).join().unwrap(), 1);
        assert_eq!(start!(expr "text".len()).join().unwrap(), 4);
        assert_eq!(start!(expr { n + 5 }).join().unwrap(), 6);
        assert_eq!(start!(callee add, 1).join().unwrap(), 2);
        assert_eq!(start!(callee |a: i32, b: i32| a - b, 1).join().unwrap(), 0);
        assert_eq!(start!(method - 1_i32, abs).join().unwrap(), 1);
        assert_eq!(start!(block { n + 2 }).join().unwrap(), 3);
        assert_eq!(start!(named "x", add(1, 1)).name(), Some("x"));
        assert_eq!(start!(option name = format!("y"), add(1, 1)).name(), Some("y"));
        assert_eq!(start!(tokens let m = n; m + 3).join().unwrap(), 4);
    }

    macro_rules! choose {
        (arms $($rx:expr => $p:pat => $body:expr),*) => { select! { $($p = <-$rx => $body),* } };
        (crossbeam $($rx:ident -> $p:pat => $body:block)*) => { csp::select! { $(recv($rx) -> $p => $body)* } };
        (send $tx:expr, $value:expr, $body:expr, $cond:expr) => {
            select! { $tx <- $value, if $cond => $body, default => 0 }
        };
        (tokens $($tokens:tt)*) => { select! { $($tokens)* } };
    }

    #[test]
    fn select() {
        let (tx, rx) = csp::bounded(1);
        let never = csp::never::<i32>();
        assert_eq!(choose!(send tx, 1 + 1, 9, true), 9);
        assert_eq!(choose!(arms rx => Ok(n) => n, &never => _ => 0), 2);
        assert_eq!(choose!(send & tx, 3, 9, tx.is_empty()), 9);
        assert_eq!(choose!(crossbeam rx -> n => { n.unwrap() } never -> _ => { 0 }), 3);
        assert_eq!(choose!(tokens tx <- 4 => 1, <-never => 2), 1);
        for _ in 0..1 {
            choose!(tokens n = <-rx => if n == Ok(4) { continue });
            unreachable!();
        }
    }

    macro_rules! group {
        (inner $b:block) => { wait_group! { $b } };
        (stmt $($s:stmt;)*) => { wait_group! { $($s;)* } };
        (each $list:expr, $f:ident) => { wait_group! { for item in $list { go!($f(item)); } } };
    }

    #[test]
    fn wait_group() {
        fn bump(n: &mut i32) {
            *n += 1;
        }
        let mut n = 1;
        group!(inner { go!(bump(&mut n)); });
        group!(inner { go!(bump(&mut n)); });
        group!(stmt go!(bump(&mut n)););
        let mut cells = [1, 2];
        group!(each &mut cells, bump);
        assert_eq!((n, cells), (4, [2, 3]));
    }
}

mod attributes {
    use super::*;

    /// Attributes, documentation and visibility stay.
    #[csp::test]
    pub fn a_test_is_a_goroutine() {
        let name = csp::current().unwrap().name().map(str::to_owned);
        assert_eq!(name.as_deref(), Some(concat!(module_path!(), "::a_test_is_a_goroutine")));
    }

    #[csp::test]
    fn a_test_may_return_early() {
        if go!(add(1, 2)).join().unwrap() == 3 {
            return;
        }
        unreachable!();
    }

    #[csp::test]
    fn a_test_may_return_a_result() -> Result<(), Box<dyn std::error::Error>> {
        let n: i32 = "1".parse()?;
        assert_eq!(n, 1);
        Ok(())
    }

    #[csp::test]
    #[should_panic(expected = "as expected")]
    fn a_test_panics_as_its_goroutine() {
        panic!("as expected");
    }

    #[csp::test]
    #[should_panic]
    fn a_unit_test_may_say_so() -> () {
        panic!();
    }

    #[csp::test]
    #[ignore = "shows that `#[ignore]` is kept: this would fail"]
    fn a_test_may_be_ignored() {
        panic!("not ignored");
    }

    #[csp::test(crate = csp)]
    fn the_library_may_be_given() {
        assert!(csp::current().is_some());
    }

    mod renamed {
        pub(crate) mod inner {
            pub(crate) use csp::*;
        }
    }

    #[csp::test(crate = renamed::inner)]
    fn the_library_may_be_given_as_a_longer_path() {
        assert!(csp::current().is_some());
    }

    #[csp::test]
    fn r#raw() {
        assert!(csp::current().unwrap().name().unwrap().ends_with("::raw"));
    }
}
