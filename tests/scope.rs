//! Goroutines that borrow.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use csp::Builder;
use support::scaled;

/// What a panic was about.
fn message(payload: &(dyn std::any::Any + Send)) -> &str {
    payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap()
}

/// Both where a wait blocks the thread, and where it parks the goroutine.
fn on_thread_and_goroutine(body: impl Fn() + Send + Sync + Copy + 'static) {
    body();
    csp::spawn(body).join().unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
}

#[test]
fn goroutines_borrow_and_change_what_is_around() {
    on_thread_and_goroutine(|| {
        let mut cells = vec![0_u64; 100];
        let factor = 3;
        let total = csp::scope(|s| {
            for (i, cell) in cells.iter_mut().enumerate() {
                s.spawn(move || *cell = i as u64 * factor);
            }
            7
        });
        assert_eq!(total, 7);
        assert!(cells.iter().enumerate().all(|(i, &cell)| cell == i as u64 * factor));
    });
}

#[test]
fn the_scope_waits_for_goroutines_whose_handle_is_dropped() {
    on_thread_and_goroutine(|| {
        let done = AtomicUsize::new(0);
        csp::scope(|s| {
            for _ in 0..50 {
                drop(s.spawn(|| {
                    (0..20).for_each(|_| csp::yield_now());
                    done.fetch_add(1, Ordering::Relaxed);
                }));
            }
        });
        assert_eq!(done.into_inner(), 50);
    });
}

#[test]
fn results_may_borrow() {
    let words = [String::from("to"), String::from("be"), String::from("or not")];
    let longest = csp::scope(|s| {
        let handle = s.spawn(|| words.iter().max_by_key(|word| word.len()).unwrap().as_str());
        handle.join().unwrap()
    });
    assert_eq!(longest, "or not");
}

#[test]
fn goroutines_of_a_scope_start_others_in_it() {
    on_thread_and_goroutine(|| {
        let count = AtomicUsize::new(0);
        csp::scope(|s| {
            for _ in 0..10 {
                s.spawn(|| {
                    for _ in 0..10 {
                        s.spawn(|| count.fetch_add(1, Ordering::Relaxed));
                    }
                });
            }
        });
        assert_eq!(count.into_inner(), 100);
    });
}

#[test]
fn scopes_nest() {
    fn sum(numbers: &[u64]) -> u64 {
        if numbers.len() < 10 {
            return numbers.iter().sum();
        }
        let (left, right) = numbers.split_at(numbers.len() / 2);
        csp::scope(|s| {
            let left = s.spawn(|| sum(left));
            sum(right) + left.join().unwrap()
        })
    }
    let numbers = (0..scaled(20_000, 500)).collect::<Vec<_>>();
    let expected = numbers.iter().sum::<u64>();
    assert_eq!(sum(&numbers), expected);
    assert_eq!(csp::scope(|s| s.spawn(|| sum(&numbers)).join().unwrap()), expected);
}

#[test]
fn a_panic_that_nobody_joined_is_the_scopes() {
    on_thread_and_goroutine(|| {
        let ended = AtomicUsize::new(0);
        let payload = catch_unwind(AssertUnwindSafe(|| {
            csp::scope(|s| {
                s.spawn(|| std::panic::resume_unwind(Box::new("no luck")));
                s.spawn(|| {
                    (0..20).for_each(|_| csp::yield_now());
                    ended.fetch_add(1, Ordering::Relaxed);
                });
            });
        }));
        assert_eq!(message(&*payload.unwrap_err()), "a goroutine of the scope panicked");
        assert_eq!(ended.into_inner(), 1);
    });
}

#[test]
fn a_panic_that_was_joined_is_not() {
    on_thread_and_goroutine(|| {
        let error = csp::scope(|s| {
            let handle = s.spawn(|| std::panic::resume_unwind(Box::new("no luck")));
            handle.join().unwrap_err()
        });
        assert!(error.is_panic());
        assert_eq!(message(&*error.into_panic()), "no luck");
    });
}

#[test]
fn a_panic_of_the_body_waits_for_the_goroutines_and_goes_on() {
    on_thread_and_goroutine(|| {
        let mut done = [false; 20];
        let payload = catch_unwind(AssertUnwindSafe(|| {
            csp::scope(|s| {
                for done in &mut done {
                    s.spawn(|| {
                        (0..20).for_each(|_| csp::yield_now());
                        *done = true;
                    });
                }
                std::panic::resume_unwind(Box::new("of the body"))
            })
        }));
        assert_eq!(message(&*payload.unwrap_err()), "of the body");
        assert_eq!(done, [true; 20]);
    });
}

#[test]
fn goexit_in_a_goroutine_of_the_scope_is_no_panic() {
    on_thread_and_goroutine(|| {
        let error = csp::scope(|s| {
            s.spawn(|| csp::goexit());
            s.spawn(|| csp::goexit()).join().unwrap_err()
        });
        assert!(error.is_exit());
    });
}

#[test]
fn goexit_in_the_body_waits_for_the_goroutines_and_ends_the_goroutine() {
    let done = std::sync::Arc::new(AtomicUsize::new(0));
    let theirs = done.clone();
    let outer = csp::spawn(move || {
        csp::scope(|s| {
            for _ in 0..10 {
                s.spawn(|| {
                    (0..20).for_each(|_| csp::yield_now());
                    theirs.fetch_add(1, Ordering::Relaxed);
                });
            }
            csp::goexit()
        })
    });
    let outcome: Result<(), _> = outer.join();
    assert!(outcome.unwrap_err().is_exit());
    assert_eq!(done.load(Ordering::Relaxed), 10);
}

#[test]
fn a_result_that_nobody_takes_is_dropped_before_the_scope_ends() {
    struct Count<'a>(&'a AtomicUsize);
    impl Drop for Count<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    on_thread_and_goroutine(|| {
        for _ in 0..scaled(500, 50) {
            let drops = AtomicUsize::new(0);
            csp::scope(|s| {
                s.spawn(|| Count(&drops));
                let kept = s.spawn(|| Count(&drops));
                while !kept.is_finished() {
                    csp::yield_now();
                }
            });
            assert_eq!(drops.into_inner(), 2);
        }
    });
}

#[test]
fn handles_know_their_goroutine() {
    csp::scope(|s| {
        let builder = Builder::new().name("fetch").stack_size(1 << 20);
        let handle = s.spawn_with(builder, || csp::current().unwrap()).unwrap();
        assert_eq!(handle.name(), Some("fetch"));
        let id = handle.id();
        let current = handle.join().unwrap();
        assert_eq!((current.id(), current.name()), (id, Some("fetch")));
    });
}

#[test]
fn a_locked_goroutine_may_be_in_a_scope() {
    let value = 5;
    csp::scope(|s| {
        let locked = s.spawn_with(Builder::new().locked(true), || {
            csp::yield_now();
            value
        });
        assert_eq!(locked.unwrap().join().unwrap(), 5);
    });
}

#[test]
fn an_empty_scope_returns_at_once() {
    assert_eq!(csp::scope(|_| 3), 3);
}

#[test]
fn many_scopes_at_once() {
    thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                for _ in 0..scaled(200, 20) {
                    let local = AtomicUsize::new(0);
                    csp::scope(|s| {
                        for _ in 0..10 {
                            s.spawn(|| local.fetch_add(1, Ordering::Relaxed));
                        }
                    });
                    assert_eq!(local.into_inner(), 10);
                }
            });
        }
    });
}
