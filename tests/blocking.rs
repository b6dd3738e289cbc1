//! A goroutine that computes or blocks without end keeps nobody waiting, not even with one processor.
//!
//! Time is the subject. The bound is 50 ms, and on top of it what the machine, which may have other things to do, owes us:
//! the time that threads of this process could have run and were not given a CPU, which Linux counts for each, and the
//! time that the CPUs were not there at all. So what is left is the scheduler's own doing, on a busy machine too.

#![cfg(target_os = "linux")]

mod support;

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use support::{in_child, stackful};

/// What nobody has to wait longer for than.
const BOUND: Duration = Duration::from_millis(50);
/// How long each kind of blocking is watched.
const WATCHED: Duration = Duration::from_millis(400);
const OTHERS: usize = 100;

/// The longest time between two turns of a goroutine.
#[derive(Default)]
struct Longest(AtomicU64);

impl Longest {
    /// Takes turns until `stop`.
    fn watch(&self, stop: &AtomicBool, mut give_way: impl FnMut()) {
        let mut last = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            give_way();
            let now = Instant::now();
            self.0.fetch_max((now - last).as_nanos() as u64, Ordering::Relaxed);
            last = now;
        }
    }

    fn get(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

/// How long threads of this process have waited for a CPU so far, all together, and CPUs for the machine below.
fn owed() -> Duration {
    let delays = std::fs::read_dir("/proc/self/task").unwrap().map(|task| {
        // A thread that has just ended owes and is owed nothing.
        let schedstat = std::fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap_or_default();
        schedstat.split_whitespace().nth(1).map_or(0, |nanos| nanos.parse().unwrap())
    });
    let delayed = Duration::from_nanos(delays.sum());
    let stat = std::fs::read_to_string("/proc/stat").unwrap();
    let stolen = stat.split_whitespace().nth(8).map_or(0, |ticks| ticks.parse::<u64>().unwrap());
    delayed + Duration::from_millis(10) * u32::try_from(stolen).unwrap()
}

/// Runs a goroutine that blocks, with one processor and 100 other goroutines, and checks how long these wait.
///
/// `make` makes what blocks, and what lets it return soon.
#[track_caller]
fn nobody_waits_while<B, R>(make: impl Fn() -> (B, R))
where
    B: FnOnce() + Send + 'static,
    R: FnOnce(),
{
    csp::runtime::set_max_procs(1);
    let (block, release) = make();
    let before = owed();
    let longest = longest_wait(block, release);
    check_longest(longest, before);
}

/// Checks the longest wait since `owed()` was `before`.
#[track_caller]
fn check_longest(longest: Duration, before: Duration) {
    let owed = owed().saturating_sub(before);
    println!("the longest wait was {longest:?}; the machine owed {owed:?}");
    assert!(longest <= BOUND + owed, "a goroutine waited for {longest:?}, of which the machine owed {owed:?} at most");
}

/// How long the others waited at most while `block` ran.
fn longest_wait(block: impl FnOnce() + Send + 'static, release: impl FnOnce()) -> Duration {
    let stop = Arc::new(AtomicBool::new(false));
    let longest = Arc::new(Longest::default());
    let blocker = csp::spawn(block);
    let others = (0..OTHERS).map(|_| {
        let (stop, longest) = (stop.clone(), longest.clone());
        csp::spawn(move || longest.watch(&stop, csp::yield_now))
    });
    let others = others.collect::<Vec<_>>();
    thread::sleep(WATCHED);
    let was_blocked = !blocker.is_finished();
    release();
    // It gets its turn as well, while the others are still there.
    blocker.join().unwrap();
    stop.store(true, Ordering::Relaxed);
    others.into_iter().for_each(|other| other.join().unwrap());
    assert!(was_blocked, "the goroutine did not block for as long as it was watched");
    longest.get()
}

/// A flag, and what sets it.
fn flag() -> (Arc<AtomicBool>, impl FnOnce()) {
    let flag = Arc::new(AtomicBool::new(false));
    let set = flag.clone();
    (flag, move || set.store(true, Ordering::Relaxed))
}

mod nobody_waits_for_a_goroutine_that {
    use super::*;

    /// Runs one of the tests below in a process with that one processor.
    fn check<B, R>(make: impl Fn() -> (B, R))
    where
        B: FnOnce() + Send + 'static,
        R: FnOnce(),
    {
        in_child(&[], || nobody_waits_while(make)).expect_success();
    }

    #[test]
    fn reads_from_a_pipe() {
        check(|| {
            let (mut reader, mut writer) = std::io::pipe().unwrap();
            (move || reader.read_exact(&mut [0]).unwrap(), move || writer.write_all(&[1]).unwrap())
        });
    }

    #[test]
    fn sleeps() {
        check(|| (|| thread::sleep(2 * WATCHED), || ()));
    }

    #[test]
    fn waits_for_a_held_mutex() {
        check(|| {
            let mutex: &'static Mutex<()> = Box::leak(Box::default());
            let held = mutex.lock().unwrap();
            (|| drop(mutex.lock().unwrap()), || drop(held))
        });
    }

    #[test]
    fn waits_for_a_condition_variable() {
        check(|| {
            let pair = Arc::new((Mutex::new(false), Condvar::new()));
            let theirs = pair.clone();
            let block = move || drop(theirs.1.wait_while(theirs.0.lock().unwrap(), |done| !*done).unwrap());
            let release = move || {
                *pair.0.lock().unwrap() = true;
                pair.1.notify_one();
            };
            (block, release)
        });
    }

    #[test]
    fn loops_endlessly() {
        check(|| {
            let (done, release) = flag();
            let block = move || {
                while !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            };
            (block, release)
        });
    }

    #[test]
    fn says_that_it_blocks() {
        check(|| {
            let (mut reader, mut writer) = std::io::pipe().unwrap();
            let block = move || csp::blocking(|| reader.read_exact(&mut [0]).unwrap());
            (block, move || writer.write_all(&[1]).unwrap())
        });
    }

    #[test]
    fn owns_its_thread_and_sleeps() {
        check(|| {
            let block = || {
                let _locked = csp::lock_os_thread();
                thread::sleep(2 * WATCHED);
            };
            (block, || ())
        });
    }

    #[test]
    fn computes_between_channel_operations() {
        check(|| {
            let (done, release) = flag();
            let block = move || {
                let (tx, rx) = csp::bounded(1);
                while !done.load(Ordering::Relaxed) {
                    // Never waits: it gives way because its time is up.
                    tx.send(1).unwrap();
                    assert_eq!(rx.recv(), Ok(1));
                }
            };
            (block, release)
        });
    }

    #[test]
    fn starts_goroutines_all_the_time() {
        check(|| {
            let (done, release) = flag();
            let block = move || {
                while !done.load(Ordering::Relaxed) {
                    drop(csp::spawn(|| ()));
                }
            };
            (block, release)
        });
    }

    #[test]
    fn blocks_ten_times_over_again_and_again() {
        check(|| {
            let (done, release) = flag();
            let block = move || {
                let sleepers = (0..10).map(|_| {
                    let done = done.clone();
                    csp::spawn(move || {
                        while !done.load(Ordering::Relaxed) {
                            csp::blocking(|| thread::sleep(Duration::from_millis(5)));
                        }
                    })
                });
                sleepers.collect::<Vec<_>>().into_iter().for_each(|sleeper| sleeper.join().unwrap());
            };
            (block, release)
        });
    }
}

/// Goroutines that do nothing but talk are left together on one processor, until one of them computes.
#[test]
fn nobody_waits_among_goroutines_that_talk_all_the_time() {
    in_child(&[], || {
        csp::runtime::set_max_procs(2);
        let (tx, rx) = csp::bounded(0);
        let stop = Arc::new(AtomicBool::new(false));
        let longest = Arc::new(Longest::default());
        let others = (0..16).map(|i| {
            let (tx, rx, stop, longest) = (tx.clone(), rx.clone(), stop.clone(), longest.clone());
            csp::spawn(move || {
                // The channel is closed in the end.
                longest.watch(&stop, || if i % 2 == 0 { _ = tx.send(()) } else { _ = rx.recv() });
            })
        });
        let others = others.collect::<Vec<_>>();
        let before = owed();
        for _ in 0..3 {
            thread::sleep(WATCHED / 2);
            let hog = csp::spawn(|| {
                let start = Instant::now();
                while start.elapsed() < WATCHED / 4 {
                    std::hint::spin_loop();
                }
            });
            hog.join().unwrap();
        }
        check_longest(longest.get(), before);
        stop.store(true, Ordering::Relaxed);
        tx.close();
        others.into_iter().for_each(|other| other.join().unwrap());
    })
    .expect_success();
}

/// Those that have not started wait as well.
#[test]
fn goroutines_start_while_others_are_always_ready() {
    in_child(&[], || {
        nobody_waits_while(|| {
            let (done, release) = flag();
            let block = move || {
                while !done.load(Ordering::Relaxed) {
                    let longest = Arc::new(Longest::default());
                    let started = (0..200).map(|_| {
                        let (longest, now) = (longest.clone(), Instant::now());
                        csp::spawn(move || longest.0.fetch_max(now.elapsed().as_nanos() as u64, Ordering::Relaxed))
                    });
                    started.collect::<Vec<_>>().into_iter().for_each(|goroutine| _ = goroutine.join().unwrap());
                    // By sysmon's measure, one after another, they would take two seconds.
                    assert!(longest.get() < 20 * BOUND, "a goroutine started after {:?}", longest.get());
                }
            };
            (block, release)
        });
    })
    .expect_success();
}

#[test]
fn blocking_returns_what_the_function_returns_and_panics_as_it_does() {
    let text = String::from("borrowed");
    assert_eq!(csp::blocking(|| text.len()), 8);
    assert_eq!(csp::spawn(move || csp::blocking(|| text.len())).join().unwrap(), 8);
    let error = csp::spawn(|| csp::blocking(|| std::panic::resume_unwind(Box::new(7_u8)))).join().unwrap_err();
    assert_eq!(error.into_panic().downcast_ref(), Some(&7_u8));
}

/// It gives way after the panic was caught: goroutines that share thread-locals share the count of panics.
#[test]
fn a_panic_in_blocking_is_nobody_elses() {
    in_child(&[], || {
        csp::runtime::set_max_procs(2);
        std::panic::set_hook(Box::new(|_| ()));
        let panicking = (0..support::scaled(100, 20)).map(|i| {
            csp::spawn(move || {
                let caught = std::panic::catch_unwind(|| {
                    csp::blocking(|| {
                        thread::sleep(Duration::from_micros(200));
                        std::panic::panic_any(i);
                    });
                });
                assert_eq!(caught.unwrap_err().downcast_ref(), Some(&i));
                csp::yield_now();
                thread::panicking()
            })
        });
        for goroutine in panicking.collect::<Vec<_>>() {
            assert!(!goroutine.join().unwrap());
        }
    })
    .expect_success();
}

#[test]
fn blocking_may_be_nested_and_may_use_channels() {
    let (tx, rx) = csp::bounded(0);
    let other = csp::spawn(move || rx.recv().unwrap());
    let blocks = csp::spawn(move || {
        csp::blocking(|| {
            csp::blocking(|| tx.send(5).unwrap());
            csp::spawn(|| 1).join().unwrap() + csp::blocking(|| 1)
        })
    });
    assert_eq!((blocks.join().unwrap(), other.join().unwrap()), (2, 5));
}

#[test]
fn a_thousand_goroutines_block_at_once_and_all_come_back() {
    in_child(&[], || {
        csp::runtime::set_max_procs(2);
        let count = support::scaled(1_000, 200);
        let gate = Arc::new(std::sync::Barrier::new(count + 1));
        let blocked = (0..count).map(|i| {
            let gate = gate.clone();
            csp::spawn(move || {
                csp::blocking(|| gate.wait());
                i
            })
        });
        let blocked = blocked.collect::<Vec<_>>();
        gate.wait();
        assert_eq!(
            blocked.into_iter().map(|goroutine| goroutine.join().unwrap()).sum::<usize>(),
            count * (count - 1) / 2
        );
    })
    .expect_success();
}

#[test]
fn goroutines_that_own_all_the_threads_there_may_be_run_when_they_are_ready() {
    in_child(&[], || {
        const THREADS: usize = 3;
        csp::runtime::Runtime::builder().max_threads(THREADS).max_procs(1).start().unwrap();
        let (tx, rx) = csp::bounded(0);
        let locked = |_| {
            let rx = rx.clone();
            csp::Builder::new().locked(true).spawn(move || (0..10).map(|_| rx.recv().unwrap()).sum::<usize>()).unwrap()
        };
        let all = (0..THREADS).map(locked).collect::<Vec<_>>();
        (0..THREADS * 10).for_each(|n| tx.send(n).unwrap());
        let sum = all.into_iter().map(|goroutine| goroutine.join().unwrap()).sum::<usize>();
        assert_eq!(sum, (0..THREADS * 10).sum());
    })
    .expect_success();
}

#[test]
fn the_cap_on_threads_is_kept_and_said() {
    in_child(&[], || {
        csp::runtime::Runtime::builder().max_procs(1).max_threads(4).start().unwrap();
        if !stackful() {
            return; // Each goroutine has a thread of its own; it is the workers that are capped.
        }
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        let blocked = (0..8).map(|_| {
            let mut reader = reader.try_clone().unwrap();
            csp::spawn(move || csp::blocking(|| reader.read_exact(&mut [0]).unwrap()))
        });
        let blocked = blocked.collect::<Vec<_>>();
        // Four of them block, and nobody can run the others.
        while csp::runtime::stats().worker_threads < 4 {
            thread::yield_now();
        }
        assert_eq!(csp::runtime::stats().worker_threads, 4);
        writer.write_all(&[0; 8]).unwrap();
        blocked.into_iter().for_each(|goroutine| goroutine.join().unwrap());
        assert_eq!(csp::runtime::stats().worker_threads, 4);
        drop(writer);
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    })
    .expect_success();
}
