//! Goroutines from their start to their end: joining, names, panics, `goexit`, and the processors they run on.

mod support;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use csp::Builder;
use support::{in_child, scaled, thread_id};

/// Sets its flag when it is dropped.
struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

mod spawning {
    use super::*;

    #[test]
    fn join_returns_the_result() {
        let handle = csp::spawn(|| vec![1, 2, 3]);
        assert_eq!(handle.join().unwrap(), [1, 2, 3]);
    }

    #[test]
    fn goroutines_join_goroutines() {
        let sum = csp::spawn(|| {
            let parts = (0..100_u64).map(|i| csp::spawn(move || i * i)).collect::<Vec<_>>();
            parts.into_iter().map(|part| part.join().unwrap()).sum::<u64>()
        });
        assert_eq!(sum.join().unwrap(), (0..100).map(|i| i * i).sum());
    }

    #[test]
    fn a_tree_of_goroutines_adds_up() {
        fn leaves(depth: u32) -> u64 {
            if depth == 0 {
                return 1;
            }
            let children = (0..10).map(|_| csp::spawn(move || leaves(depth - 1))).collect::<Vec<_>>();
            children.into_iter().map(|child| child.join().unwrap()).sum()
        }
        let depth = scaled(4, 2);
        assert_eq!(csp::spawn(move || leaves(depth)).join().unwrap(), 10_u64.pow(depth));
    }

    #[test]
    fn a_goroutine_whose_handle_is_dropped_goes_on() {
        let (tx, rx) = csp::bounded(0);
        drop(csp::spawn(move || tx.send("done").unwrap()));
        assert_eq!(rx.recv(), Ok("done"));
    }

    #[test]
    fn the_function_is_dropped_when_it_has_returned_and_before_join() {
        let dropped = Arc::new(AtomicBool::new(false));
        let guard = SetOnDrop(dropped.clone());
        csp::spawn(move || _ = &guard).join().unwrap();
        assert!(dropped.load(Ordering::Relaxed));
    }

    #[test]
    fn a_result_that_nobody_takes_is_dropped() {
        let (tx, rx) = csp::bounded::<()>(0);
        drop(csp::spawn(move || tx));
        // Closed when the result has been dropped.
        rx.recv().unwrap_err();

        let (tx, rx) = csp::bounded::<()>(0);
        let handle = csp::spawn(move || tx);
        while !handle.is_finished() {
            thread::yield_now();
        }
        drop(handle);
        rx.recv().unwrap_err();
    }

    #[test]
    fn is_finished_becomes_true_at_the_end_and_join_then_does_not_wait() {
        let (open, gate) = csp::bounded::<()>(0);
        let handle = csp::spawn(move || gate.recv().is_err());
        assert!(!handle.is_finished());
        drop(open);
        while !handle.is_finished() {
            thread::yield_now();
        }
        assert!(handle.join().unwrap());
    }

    #[test]
    fn a_handle_can_be_joined_by_any_thread_or_goroutine() {
        let (open, gate) = csp::bounded::<()>(0);
        let goroutine = csp::spawn(move || gate.recv().is_err());
        let by_thread = thread::spawn(move || goroutine.join().unwrap());
        let (open_too, gate) = csp::bounded::<()>(0);
        let goroutine = csp::spawn(move || gate.recv().is_err());
        let by_goroutine = csp::spawn(move || goroutine.join().unwrap());
        drop((open, open_too));
        assert!(by_thread.join().unwrap());
        assert!(by_goroutine.join().unwrap());
    }

    #[test]
    fn plain_threads_and_goroutines_start_goroutines_at_the_same_time() {
        let count = scaled(10_000, 100);
        let total = AtomicUsize::new(0);
        thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    let handles = (0..count).map(|_| csp::spawn(|| 1)).collect::<Vec<_>>();
                    let sum = handles.into_iter().map(|handle| handle.join().unwrap()).sum::<usize>();
                    total.fetch_add(sum, Ordering::Relaxed);
                });
            }
        });
        assert_eq!(total.into_inner(), 4 * count);
    }

    #[test]
    fn more_goroutines_than_a_queue_holds_are_started_by_one() {
        let count = scaled(50_000, 300);
        let sum = csp::spawn(move || {
            let (tx, rx) = csp::unbounded();
            for i in 0..count {
                let tx = tx.clone();
                csp::spawn(move || tx.send(i).unwrap());
            }
            drop(tx);
            rx.iter().sum::<usize>()
        });
        assert_eq!(sum.join().unwrap(), count * (count - 1) / 2);
    }

    /// Each waits for room again and again, and must not wait for the others to stop.
    #[test]
    fn goroutines_that_start_others_for_ever_take_turns() {
        in_child(&[], || {
            csp::runtime::set_max_procs(1);
            let counts = Arc::new([const { AtomicUsize::new(0) }; 3]);
            let spawners = (0..3).map(|me| {
                let counts = counts.clone();
                csp::spawn(move || {
                    // Far more than it takes, so that it ends in any case.
                    for _ in 0..scaled(20_000_000, 2_000_000) {
                        csp::spawn(|| ());
                        counts[me].fetch_add(1, Ordering::Relaxed);
                        if counts.iter().all(|count| count.load(Ordering::Relaxed) >= 2000) {
                            return true;
                        }
                    }
                    false
                })
            });
            for spawner in spawners.collect::<Vec<_>>() {
                assert!(spawner.join().unwrap(), "{counts:?}");
            }
        })
        .expect_success();
    }

    #[test]
    fn yield_now_lets_the_others_run() {
        // With one processor or more: whoever waits for the other's turn gets there by yielding alone.
        let turn = Arc::new(AtomicUsize::new(0));
        let player = |parity: usize| {
            let turn = turn.clone();
            csp::spawn(move || {
                for n in 0..1_000 {
                    while turn.load(Ordering::Acquire) != 2 * n + parity {
                        csp::yield_now();
                    }
                    turn.fetch_add(1, Ordering::Release);
                }
            })
        };
        let players = [player(0), player(1)];
        players.into_iter().for_each(|player| player.join().unwrap());
        assert_eq!(turn.load(Ordering::Relaxed), 2_000);
    }

    /// Runs `f` in a goroutine beside one or two others, on the one processor there is, that compute for milliseconds
    /// between two `yield_now`. `f` gets how often they have yielded so far.
    fn beside_yielders(f: fn(&'static AtomicUsize)) {
        static YIELDS: AtomicUsize = AtomicUsize::new(0);
        for yielders in [1, 2] {
            let over = Arc::new(AtomicBool::new(false));
            let yielders = (0..yielders).map(|_| {
                let over = over.clone();
                csp::spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        let start = Instant::now();
                        while start.elapsed() < Duration::from_millis(3) {
                            std::hint::spin_loop();
                        }
                        YIELDS.fetch_add(1, Ordering::Relaxed);
                        csp::yield_now();
                    }
                })
            });
            let yielders = yielders.collect::<Vec<_>>();
            let result = csp::spawn(move || f(&YIELDS)).join();
            over.store(true, Ordering::Relaxed);
            yielders.into_iter().for_each(|yielder| yielder.join().unwrap());
            result.unwrap();
        }
    }

    /// So many turns are given before anybody looks, where nobody sees to it.
    const LATE: usize = 32;

    #[test]
    fn who_yields_does_not_keep_timers_waiting() {
        in_child(&[("GOMAXPROCS", "1")], || {
            beside_yielders(|yields| {
                for _ in 0..8 {
                    let before = yields.load(Ordering::Relaxed);
                    csp::time::sleep(Duration::from_millis(1));
                    let turns = yields.load(Ordering::Relaxed) - before;
                    assert!(turns < LATE, "{turns}");
                }
            });
        })
        .expect_success();
    }

    #[test]
    fn who_yields_does_not_keep_those_waiting_whom_a_thread_wakes() {
        in_child(&[("GOMAXPROCS", "1")], || {
            beside_yielders(|yields| {
                let (tx, rx) = csp::channel::bounded(0);
                let waker = thread::spawn(move || {
                    for _ in 0..8 {
                        thread::sleep(Duration::from_millis(1));
                        tx.send(yields.load(Ordering::Relaxed)).unwrap();
                    }
                });
                for before in rx {
                    let turns = yields.load(Ordering::Relaxed) - before;
                    assert!(turns < LATE, "{turns}");
                }
                waker.join().unwrap();
            });
        })
        .expect_success();
    }

    /// Runs `f` while a goroutine sleeps for a millisecond over and over: sysmon wakes it where nobody else does.
    fn beside_a_sleeper(f: impl FnOnce()) {
        let over = Arc::new(AtomicBool::new(false));
        let theirs = over.clone();
        let sleeper = csp::spawn(move || {
            while !theirs.load(Ordering::Relaxed) {
                csp::time::sleep(Duration::from_millis(1));
            }
        });
        f();
        over.store(true, Ordering::Relaxed);
        sleeper.join().unwrap();
    }

    #[test]
    fn sleepers_keep_nobody_waiting_who_has_not_started() {
        in_child(&[("GOMAXPROCS", "1")], || {
            beside_yielders(|yields| {
                beside_a_sleeper(|| {
                    for _ in 0..3 {
                        let before = yields.load(Ordering::Relaxed);
                        let started = csp::spawn(|| yields.load(Ordering::Relaxed));
                        let turns = started.join().unwrap() - before;
                        assert!(turns < 4 * LATE, "{turns}");
                    }
                });
            });
        })
        .expect_success();
    }

    #[test]
    fn sleepers_keep_nobody_waiting_who_has_yielded_to_two_that_chat() {
        in_child(&[("GOMAXPROCS", "1")], || {
            static TURNS: AtomicUsize = AtomicUsize::new(0);
            let (ping, pinged) = csp::bounded::<()>(0);
            let (pong, ponged) = csp::bounded::<()>(0);
            let turn = || {
                let start = Instant::now();
                while start.elapsed() < Duration::from_millis(1) {
                    std::hint::spin_loop();
                }
                TURNS.fetch_add(1, Ordering::Relaxed);
            };
            let answers = csp::spawn(move || {
                for () in pinged {
                    turn();
                    pong.send(()).unwrap();
                }
            });
            let over = Arc::new(AtomicBool::new(false));
            let theirs = over.clone();
            let asks = csp::spawn(move || {
                while !theirs.load(Ordering::Relaxed) {
                    turn();
                    ping.send(()).unwrap();
                    ponged.recv().unwrap();
                }
            });
            let yields = csp::spawn(|| {
                beside_a_sleeper(|| {
                    for _ in 0..3 {
                        let before = TURNS.load(Ordering::Relaxed);
                        csp::yield_now();
                        let turns = TURNS.load(Ordering::Relaxed) - before;
                        assert!(turns < 4 * LATE, "{turns}");
                    }
                });
            });
            let result = yields.join();
            over.store(true, Ordering::Relaxed);
            asks.join().unwrap();
            answers.join().unwrap();
            result.unwrap();
        })
        .expect_success();
    }

    #[test]
    fn yield_now_works_on_a_plain_thread() {
        csp::yield_now();
    }

    #[test]
    fn the_runtime_starts_once_when_several_threads_are_first() {
        in_child(&[], || {
            let together = Barrier::new(8);
            thread::scope(|s| {
                for i in 0..8_usize {
                    let together = &together;
                    s.spawn(move || {
                        together.wait();
                        assert_eq!(csp::spawn(move || i * i).join().unwrap(), i * i);
                    });
                }
            });
            assert!(csp::runtime::Runtime::builder().start().unwrap_err().is_already_started());
        })
        .expect_success();
    }
}

mod identity {
    use super::*;

    #[test]
    fn builder_gives_a_name() {
        let handle = Builder::new().name("fetch").spawn(|| csp::current().unwrap()).unwrap();
        assert_eq!(handle.name(), Some("fetch"));
        let id = handle.id();
        let current = handle.join().unwrap();
        assert_eq!((current.id(), current.name()), (id, Some("fetch")));
    }

    #[test]
    fn a_goroutine_has_no_name_unless_given() {
        let handle = csp::spawn(|| csp::current().unwrap());
        assert_eq!(handle.name(), None);
        assert_eq!(handle.join().unwrap().name(), None);
    }

    #[test]
    fn names_do_not_stay_with_the_stack() {
        for _ in 0..20 {
            Builder::new().name("named").spawn(|| ()).unwrap().join().unwrap();
            assert_eq!(csp::spawn(|| csp::current().unwrap()).join().unwrap().name(), None);
        }
    }

    #[test]
    fn ids_are_unique() {
        let count = scaled(1_000, 50);
        let spawner = move || (0..count).map(|_| csp::spawn(|| ()).id()).collect::<Vec<_>>();
        let spawners = (0..4).map(|_| csp::spawn(spawner)).collect::<Vec<_>>();
        let mut ids = spawners.into_iter().flat_map(|s| s.join().unwrap()).collect::<Vec<_>>();
        ids.extend(spawner());
        let all = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!((ids.len(), all), (5 * count, 5 * count));
    }

    #[test]
    fn current_is_none_on_plain_threads_also_on_those_a_goroutine_starts() {
        assert!(csp::current().is_none());
        assert!(csp::spawn(|| thread::spawn(|| csp::current().is_none()).join().unwrap()).join().unwrap());
    }

    #[test]
    fn current_stays_the_same_across_parks() {
        let handles = (0..50).map(|_| {
            csp::spawn(|| {
                let id = csp::current().unwrap().id();
                for _ in 0..20 {
                    csp::yield_now();
                    assert_eq!(csp::current().unwrap().id(), id);
                }
                id
            })
        });
        for handle in handles.collect::<Vec<_>>() {
            assert_eq!(handle.id(), handle.join().unwrap());
        }
    }

    #[test]
    fn num_goroutines_counts_those_that_have_not_ended() {
        in_child(&[], || {
            assert_eq!(csp::num_goroutines(), 0);
            let (open, gate) = csp::bounded::<()>(0);
            let goroutine = |_| {
                let gate = gate.clone();
                csp::spawn(move || gate.recv().is_err())
            };
            let goroutines = (0..50).map(goroutine).collect::<Vec<_>>();
            assert_eq!(csp::num_goroutines(), 50);
            drop(open);
            goroutines.into_iter().for_each(|goroutine| assert!(goroutine.join().unwrap()));
            // A goroutine can be joined an instant before it is counted out.
            while csp::num_goroutines() != 0 {
                thread::yield_now();
            }
            assert_eq!(csp::spawn(csp::num_goroutines).join().unwrap(), 1);
        })
        .expect_success();
    }

    #[test]
    fn a_stack_size_beyond_all_bounds_is_an_error() {
        let dropped = Arc::new(AtomicBool::new(false));
        let guard = SetOnDrop(dropped.clone());
        let error = Builder::new().stack_size(usize::MAX / 2).spawn(move || _ = &guard).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        assert!(dropped.load(Ordering::Relaxed));
    }

    #[test]
    fn debug_output_names_the_goroutine() {
        let handle = Builder::new().name("fetch").spawn(|| ()).unwrap();
        let text = format!("{handle:?}");
        assert!(text.contains(&handle.id().to_string()) && text.contains("fetch"), "{text}");
    }
}

mod panics {
    use super::*;

    #[test]
    fn join_returns_the_payload() {
        let error = csp::spawn(|| -> () { std::panic::resume_unwind(Box::new(42_u8)) }).join().unwrap_err();
        assert!(error.is_panic() && !error.is_exit());
        assert_eq!(*error.into_panic().downcast::<u8>().unwrap(), 42);
    }

    #[test]
    fn the_error_says_who_panicked_and_how() {
        let handle = Builder::new().name("fetch").spawn(|| std::panic::resume_unwind(Box::new("no luck"))).unwrap();
        let id = handle.id();
        let error = handle.join().unwrap_err();
        assert_eq!(error.id(), id);
        assert_eq!(error.to_string(), format!("goroutine {id} 'fetch' panicked: no luck"));

        let handle = csp::spawn(|| std::panic::resume_unwind(Box::new(String::from("formatted"))));
        let id = handle.id();
        assert_eq!(handle.join().unwrap_err().to_string(), format!("goroutine {id} panicked: formatted"));

        let handle = csp::spawn(|| std::panic::resume_unwind(Box::new(1_u8)));
        let id = handle.id();
        assert_eq!(handle.join().unwrap_err().to_string(), format!("goroutine {id} panicked"));
    }

    #[test]
    fn nobody_else_is_affected_and_the_stack_unwinds() {
        let dropped = Arc::new(AtomicBool::new(false));
        let guard = SetOnDrop(dropped.clone());
        let (open, gate) = csp::bounded::<()>(0);
        let other = csp::spawn(move || gate.recv().is_err());
        let handle = csp::spawn(move || {
            let _guard = guard;
            std::panic::resume_unwind(Box::new(()))
        });
        handle.join().unwrap_err();
        assert!(dropped.load(Ordering::Relaxed));
        drop(open);
        assert!(other.join().unwrap());
    }

    #[test]
    fn many_panics_on_the_same_stacks_leave_nothing_behind() {
        for i in 0..scaled(2_000, 100) {
            let error = csp::spawn(move || std::panic::resume_unwind(Box::new(i))).join().unwrap_err();
            assert_eq!(*error.into_panic().downcast::<i32>().unwrap(), i);
            assert!(csp::spawn(|| !thread::panicking()).join().unwrap());
        }
    }

    #[test]
    fn a_panic_caught_inside_does_not_end_the_goroutine() {
        let handle = csp::spawn(|| {
            let caught = catch_unwind(|| {
                csp::yield_now();
                std::panic::resume_unwind(Box::new(1))
            });
            csp::yield_now();
            caught.is_err() && !thread::panicking()
        });
        assert!(handle.join().unwrap());
    }

    #[test]
    fn a_result_that_panics_when_dropped_harms_nobody() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                std::panic::resume_unwind(Box::new("bomb"));
            }
        }
        let (open, gate) = csp::bounded::<()>(0);
        let (tx, rx) = csp::bounded::<()>(0);
        drop(csp::spawn(move || {
            gate.recv().unwrap_err();
            let _tx = tx;
            Bomb
        }));
        // With the handle gone it is the goroutine that drops the result.
        drop(open);
        rx.recv().unwrap_err();
        assert_eq!(csp::spawn(|| 1).join().unwrap(), 1);
    }

    #[test]
    fn a_panic_is_reported_once_with_id_name_and_place_of_start() {
        let line = line!() + 2;
        let outcome = in_child(&[], || {
            let handle = Builder::new().name("fetch").spawn(|| panic!("no luck")).unwrap();
            println!("id {}", handle.id());
            assert!(handle.join().is_err());
        })
        .expect_success();
        let id = outcome.stdout.lines().find_map(|line| line.strip_prefix("id ")).unwrap().to_owned();
        let report = format!("goroutine {id} 'fetch', started at {}:{line}:", file!());
        let outcome = outcome.expect_report(&[&report, "panicked at", file!(), "no luck"]);
        assert_eq!(outcome.stderr.matches("no luck").count(), 1, "{outcome}");
        assert_eq!(outcome.stderr.matches("'fetch'").count(), 1, "{outcome}");
    }

    #[test]
    fn a_panic_of_a_plain_thread_is_reported_as_ever() {
        let outcome = in_child(&[], || {
            csp::spawn(|| ()).join().unwrap();
            assert!(thread::Builder::new().name("plain".into()).spawn(|| panic!("no luck")).unwrap().join().is_err());
        })
        .expect_success()
        .expect_report(&["thread 'plain'", "panicked at", "no luck"]);
        assert!(!outcome.stderr.contains("started at"), "{outcome}");
    }

    #[test]
    fn a_hook_that_the_program_installs_is_called() {
        in_child(&[], || {
            static CALLS: AtomicUsize = AtomicUsize::new(0);
            std::panic::set_hook(Box::new(|_| _ = CALLS.fetch_add(1, Ordering::Relaxed)));
            assert!(csp::spawn(|| panic!("no luck")).join().is_err());
            assert_eq!(CALLS.load(Ordering::Relaxed), 1);
            // After the runtime has started as well.
            std::panic::set_hook(Box::new(|_| _ = CALLS.fetch_add(10, Ordering::Relaxed)));
            assert!(csp::spawn(|| panic!("no luck")).join().is_err());
            assert_eq!(CALLS.load(Ordering::Relaxed), 11);
        })
        .expect_success();
    }

    #[test]
    fn abort_on_panic_ends_the_process() {
        in_child(&[], || {
            csp::runtime::Runtime::builder().abort_on_panic(true).start().unwrap();
            _ = Builder::new().name("fetch").spawn(|| panic!("no luck")).unwrap().join();
            unreachable!("the process has ended");
        })
        .expect_signal(libc::SIGABRT)
        .expect_report(&["'fetch'", "no luck", "abort_on_panic"]);
    }

    #[test]
    fn abort_on_panic_lets_caught_panics_and_goexit_be() {
        in_child(&[], || {
            csp::runtime::Runtime::builder().abort_on_panic(true).start().unwrap();
            assert!(csp::spawn(|| catch_unwind(|| panic!("no luck")).is_err()).join().unwrap());
            assert!(csp::spawn(|| csp::goexit()).join().is_err_and(|error| error.is_exit()));
        })
        .expect_success();
    }
}

mod goexit {
    use super::*;

    #[test]
    fn it_ends_the_goroutine_and_unwinds_its_stack() {
        let dropped = Arc::new(AtomicBool::new(false));
        let guard = SetOnDrop(dropped.clone());
        let handle = Builder::new()
            .name("leaver")
            .spawn(move || {
                let _guard = guard;
                fn deeper(n: u32) {
                    if n == 0 {
                        csp::goexit();
                    }
                    deeper(n - 1);
                }
                deeper(10);
                unreachable!();
            })
            .unwrap();
        let id = handle.id();
        let error = handle.join().unwrap_err();
        assert!(error.is_exit() && !error.is_panic());
        assert!(dropped.load(Ordering::Relaxed));
        assert_eq!(error.to_string(), format!("goroutine {id} 'leaver' called goexit"));
        assert!(error.try_into_panic().is_err_and(|error| error.is_exit()));
    }

    #[test]
    fn parking_while_it_unwinds_is_fine() {
        struct Park(csp::Receiver<()>);
        impl Drop for Park {
            fn drop(&mut self) {
                self.0.recv().unwrap();
            }
        }
        let (tx, rx) = csp::bounded(0);
        let handle = csp::spawn(move || {
            let _park = Park(rx);
            csp::goexit();
        });
        tx.send(()).unwrap();
        assert!(handle.join().unwrap_err().is_exit());
    }

    #[test]
    fn it_is_not_reported() {
        let outcome = in_child(&[], || assert!(csp::spawn(|| csp::goexit()).join().is_err())).expect_success();
        assert_eq!(outcome.stderr, "");
    }

    #[test]
    fn on_a_plain_thread_it_panics() {
        let payload = catch_unwind(AssertUnwindSafe(|| csp::goexit())).unwrap_err();
        assert!(payload.downcast_ref::<&str>().unwrap().contains("not a goroutine"));
    }
}

mod processors {
    use super::*;

    #[test]
    fn gomaxprocs_is_read_from_the_environment() {
        for procs in [1, 3, 8] {
            let print = || println!("procs {}", csp::runtime::max_procs());
            let outcome = in_child(&[("GOMAXPROCS", &procs.to_string())], print).expect_success();
            assert!(outcome.stdout.contains(&format!("procs {procs}\n")), "{outcome}");
        }
    }

    #[test]
    fn a_gomaxprocs_that_is_no_number_is_ignored_with_a_word() {
        in_child(&[("GOMAXPROCS", "many")], || assert!(csp::runtime::max_procs() >= 1))
            .expect_success()
            .expect_report(&["GOMAXPROCS", "many", "ignored"]);
    }

    #[test]
    fn the_builder_takes_precedence_over_gomaxprocs() {
        in_child(&[("GOMAXPROCS", "3")], || {
            csp::runtime::Runtime::builder().max_procs(5).start().unwrap();
            assert_eq!(csp::runtime::max_procs(), 5);
        })
        .expect_success();
    }

    #[test]
    fn settings_out_of_range_are_refused_and_leave_the_runtime_to_be_started() {
        in_child(&[], || {
            let builder = csp::runtime::Runtime::builder;
            for bad in [builder().max_procs(0), builder().max_procs(1 << 20), builder().max_threads(0)] {
                let error = bad.start().unwrap_err();
                assert!(!error.is_already_started());
            }
            assert!(builder().stack_size(usize::MAX).start().is_err());
            builder().max_procs(2).start().unwrap();
            assert_eq!(csp::spawn(csp::runtime::max_procs).join().unwrap(), 2);
        })
        .expect_success();
    }

    #[test]
    fn at_most_so_many_goroutines_run_at_once() {
        in_child(&[], || {
            for procs in [1, 2, 3] {
                csp::runtime::set_max_procs(procs);
                let running = Arc::new([const { AtomicUsize::new(0) }; 2]);
                let goroutine = |_| {
                    let running = running.clone();
                    csp::spawn(move || {
                        for _ in 0..200 {
                            let now = running[0].fetch_add(1, Ordering::SeqCst) + 1;
                            running[1].fetch_max(now, Ordering::SeqCst);
                            running[0].fetch_sub(1, Ordering::SeqCst);
                            csp::yield_now();
                        }
                    })
                };
                let goroutines = (0..20).map(goroutine).collect::<Vec<_>>();
                goroutines.into_iter().for_each(|goroutine| goroutine.join().unwrap());
                let most = running[1].load(Ordering::SeqCst);
                // One of each that sysmon took the processor from, on a machine that did not run it, may add to them.
                assert!(most <= procs + 2, "{most} goroutines ran at once on {procs} processors");
            }
        })
        .expect_success();
    }

    #[test]
    fn set_max_procs_returns_the_number_before() {
        in_child(&[], || {
            csp::runtime::set_max_procs(3);
            assert_eq!(csp::runtime::set_max_procs(2), 3);
            assert_eq!(csp::runtime::set_max_procs(2), 2);
            assert_eq!(csp::runtime::max_procs(), 2);
        })
        .expect_success();
    }

    #[test]
    #[should_panic = "max_procs is 0"]
    fn set_max_procs_refuses_zero() {
        csp::runtime::set_max_procs(0);
    }

    #[test]
    fn their_number_may_change_under_load() {
        in_child(&[], || {
            let pairs = scaled(50, 10);
            let rounds = scaled(2_000, 200);
            let mut players = Vec::new();
            for _ in 0..pairs {
                let (ping, pong) = (csp::bounded(0), csp::bounded(0));
                players.push(csp::spawn(move || {
                    for i in 0..rounds {
                        ping.0.send(i).unwrap();
                        assert_eq!(pong.1.recv(), Ok(i));
                    }
                }));
                players.push(csp::spawn(move || {
                    for i in 0..rounds {
                        assert_eq!(ping.1.recv(), Ok(i));
                        pong.0.send(i).unwrap();
                    }
                }));
            }
            let mut procs = [1, 4, 2, 8, 1, 16, 3].into_iter().cycle();
            while players.iter().any(|player| !player.is_finished()) {
                csp::runtime::set_max_procs(procs.next().unwrap());
                csp::spawn(|| ()).join().unwrap();
            }
            players.into_iter().for_each(|player| player.join().unwrap());
        })
        .expect_success();
    }

    #[test]
    fn a_goroutine_may_change_their_number() {
        in_child(&[], || {
            let handle = csp::spawn(|| {
                for procs in [4, 1, 7, 2, 1] {
                    csp::runtime::set_max_procs(procs);
                    let handles = (0..20).map(|i| csp::spawn(move || i)).collect::<Vec<_>>();
                    assert_eq!(handles.into_iter().map(|handle| handle.join().unwrap()).sum::<i32>(), 190);
                }
            });
            handle.join().unwrap();
        })
        .expect_success();
    }

    #[test]
    fn stats_count_what_there_is() {
        in_child(&[], || {
            csp::spawn(|| ()).join().unwrap();
            let stats = csp::runtime::stats();
            assert!(stats.slots >= 1 && stats.worker_threads >= 1, "{stats:?}");
        })
        .expect_success();
    }
}

/// The handle may go at the very moment at which the goroutine has ended: then it is the goroutine that drops its result.
#[test]
fn a_result_is_dropped_by_somebody_who_is_somebody() {
    struct Locks(std::thread::ThreadId);
    impl Drop for Locks {
        fn drop(&mut self) {
            let by_us = std::thread::current().id() == self.0;
            assert!(by_us || csp::current().is_some(), "a goroutine that is none");
            drop(csp::lock_os_thread());
        }
    }
    let us = std::thread::current().id();
    for _ in 0..20_000 {
        let handle = csp::spawn(move || Locks(us));
        while !handle.is_finished() {
            std::hint::spin_loop();
        }
        drop(handle);
    }
}

/// While timers come thick and fast one worker naps over them and serves several at a time.
#[test]
fn what_timers_wake_thick_and_fast_is_shared_between_workers() {
    in_child(&[("GOMAXPROCS", "2")], || {
        let short = scaled(20_000, 200);
        let begin = Instant::now();
        let at = |i: u64| Duration::from_millis(100) + Duration::from_micros(10 * i);
        let sleep_until = move |time: Duration| csp::time::sleep(time.saturating_sub(begin.elapsed()));
        let all = (0..short).map(|i| csp::spawn(move || sleep_until(at(i)))).collect::<Vec<_>>();
        let long = (0..20).map(|_| {
            csp::spawn(move || {
                sleep_until(at(short));
                let begin = Instant::now();
                let mut threads = HashSet::new();
                while begin.elapsed() < Duration::from_millis(20) {
                    threads.insert(thread_id());
                }
                threads
            })
        });
        let threads = long.collect::<Vec<_>>().into_iter().flat_map(|handle| handle.join().unwrap());
        assert!(threads.collect::<HashSet<_>>().len() > 1, "one worker ran all of them");
        all.into_iter().for_each(|handle| handle.join().unwrap());
    })
    .expect_success();
}
