//! Goroutines that own their OS thread. What the main goroutine gets is in `main_goroutine.rs`.

#![cfg(target_os = "linux")]

mod support;

use std::collections::HashSet;
use std::mem::MaybeUninit;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use csp::{Builder, OsThreadGuard};
use support::{Traffic, in_child, in_traffic, migrate, stackful, thread_id};

const ROUNDS: usize = 50;

/// Parks in all the ways that would move a goroutine which is not locked.
fn park() {
    csp::yield_now();
    csp::blocking(|| ());
    csp::spawn(|| ()).join().unwrap();
    let (tx, rx) = csp::bounded(0);
    csp::spawn(move || tx.send(1).unwrap());
    assert_eq!(rx.recv(), Ok(1));
}

/// Whether the thread of this process has ended.
fn thread_has_ended(id: i64) -> bool {
    !Path::new(&format!("/proc/self/task/{id}")).exists()
}

/// Waits for the thread to end; the test is stuck if it does not.
fn wait_for_end_of_thread(id: i64) {
    while !thread_has_ended(id) {
        thread::yield_now();
    }
}

mod while_locked {
    use super::*;

    #[test]
    fn a_goroutine_stays_on_its_thread() {
        in_traffic(8, |_| {
            let _locked = csp::lock_os_thread();
            let own = thread_id();
            for _ in 0..ROUNDS {
                park();
                assert_eq!(thread_id(), own);
            }
        });
    }

    #[test]
    fn nobody_else_runs_on_that_thread() {
        let owned = Arc::new(Mutex::new(HashSet::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (locked, all_locked) = (csp::WaitGroup::new(), csp::WaitGroup::new());
        locked.add(4);
        all_locked.add(1);
        let owners = (0..4).map(|_| {
            let (owned, stop, locked, all_locked) = (owned.clone(), stop.clone(), locked.clone(), all_locked.clone());
            csp::spawn(move || {
                let _locked = csp::lock_os_thread();
                let own = thread_id();
                assert!(owned.lock().unwrap().insert(own));
                locked.done();
                all_locked.wait();
                while !stop.load(Ordering::Relaxed) {
                    park();
                    assert_eq!(thread_id(), own);
                }
            })
        });
        let owners = owners.collect::<Vec<_>>();
        locked.wait();
        let theirs = owned.lock().unwrap().clone();
        assert_eq!(theirs.len(), 4);
        all_locked.done();
        in_traffic(8, move |_| {
            for _ in 0..ROUNDS {
                migrate();
                assert!(!theirs.contains(&thread_id()));
                // Nor do those that have just started.
                let started = csp::spawn(thread_id).join().unwrap();
                assert!(!theirs.contains(&started));
            }
        });
        stop.store(true, Ordering::Relaxed);
        owners.into_iter().for_each(|owner| owner.join().unwrap());
    }

    #[test]
    fn goroutines_pass_messages_as_ever() {
        for (left_locked, right_locked) in [(true, false), (false, true), (true, true)] {
            let (ping, pong) = (csp::bounded(0), csp::bounded(0));
            let left = Builder::new().locked(left_locked);
            let left = left.spawn(move || {
                for i in 0..500 {
                    ping.0.send(i).unwrap();
                    assert_eq!(pong.1.recv(), Ok(i));
                }
            });
            let right = Builder::new().locked(right_locked);
            let right = right.spawn(move || {
                for i in 0..500 {
                    assert_eq!(ping.1.recv(), Ok(i));
                    pong.0.send(i).unwrap();
                }
            });
            left.unwrap().join().unwrap();
            right.unwrap().join().unwrap();
        }
    }

    #[test]
    fn more_goroutines_than_processors_make_progress() {
        let _traffic = Traffic::start();
        let locked =
            |i| Builder::new().locked(true).spawn(move || (0..ROUNDS).for_each(|_| park())).map(|h| (i, h)).unwrap();
        let all = (0..50).map(locked).collect::<Vec<_>>();
        all.into_iter().for_each(|(_, goroutine)| goroutine.join().unwrap());
    }

    #[test]
    fn plain_threads_notice_nothing() {
        let guard = csp::lock_os_thread();
        csp::unlock_os_thread();
        csp::unlock_os_thread();
        csp::lock_os_thread().keep();
        drop(guard);
        assert!(csp::current().is_none());
    }
}

mod counting {
    use super::*;

    /// Whether the calling goroutine stays where it is. When it is not locked, `migrate` returns.
    fn is_locked() -> bool {
        let before = thread_id();
        (0..ROUNDS).all(|_| {
            csp::blocking(|| ());
            csp::yield_now();
            thread_id() == before
        })
    }

    #[test]
    fn it_is_unlocked_when_unlocked_as_often() {
        in_traffic(4, |_| {
            if !stackful() {
                return; // A goroutine has its thread for itself, locked or not.
            }
            migrate();
            let outer = csp::lock_os_thread();
            csp::lock_os_thread().keep();
            let inner = csp::lock_os_thread();
            assert!(is_locked());
            drop(inner);
            assert!(is_locked());
            csp::unlock_os_thread();
            assert!(is_locked());
            drop(outer);
            migrate();
        });
    }

    #[test]
    fn one_unlock_too_many_does_nothing() {
        in_traffic(4, |_| {
            csp::unlock_os_thread();
            let guard = csp::lock_os_thread();
            csp::unlock_os_thread();
            csp::unlock_os_thread();
            drop(guard);
            migrate();
            let _locked = csp::lock_os_thread();
            assert!(is_locked());
        });
    }

    #[test]
    fn a_guard_unlocks_on_panic() {
        in_traffic(4, |_| {
            let locked_by = |f: fn()| std::panic::catch_unwind(f).unwrap_err();
            locked_by(|| {
                let _locked = csp::lock_os_thread();
                park();
                std::panic::resume_unwind(Box::new(()))
            });
            migrate();
        });
    }

    #[test]
    fn a_goroutine_built_locked_is_locked_once() {
        let _traffic = Traffic::start();
        let locked = Builder::new().locked(true).spawn(|| {
            if !stackful() {
                return;
            }
            assert!(is_locked());
            csp::unlock_os_thread();
            migrate();
        });
        locked.unwrap().join().unwrap();
    }

    /// The guard must be dropped by the goroutine that has the thread.
    #[test]
    fn the_guard_cannot_be_sent() {
        trait IsSend<T> {
            fn ambiguous_if_send() {}
        }
        struct Yes;
        impl<T: ?Sized> IsSend<()> for T {}
        impl<T: ?Sized + Send> IsSend<Yes> for T {}
        <OsThreadGuard as IsSend<_>>::ambiguous_if_send();
    }
}

mod at_the_end {
    use super::*;

    #[test]
    fn the_thread_of_a_goroutine_that_is_still_locked_ends() {
        for builder in [Builder::new(), Builder::new().locked(true)] {
            let goroutine = builder.spawn(|| {
                csp::lock_os_thread().keep();
                park();
                thread_id()
            });
            wait_for_end_of_thread(goroutine.unwrap().join().unwrap());
        }
    }

    #[test]
    fn however_the_goroutine_ends() {
        let id = Arc::new(Mutex::new(0));
        let note = |id: &Mutex<i64>| {
            csp::lock_os_thread().keep();
            park();
            *id.lock().unwrap() = thread_id();
        };
        let theirs = id.clone();
        csp::spawn(move || {
            note(&theirs);
            csp::goexit();
        })
        .join()
        .unwrap_err();
        wait_for_end_of_thread(*id.lock().unwrap());

        let theirs = id.clone();
        csp::spawn(move || {
            note(&theirs);
            std::panic::resume_unwind(Box::new(()))
        })
        .join()
        .unwrap_err();
        wait_for_end_of_thread(*id.lock().unwrap());
    }

    #[test]
    fn threads_are_replaced() {
        in_child(&[("GOMAXPROCS", "2")], || {
            for i in 0..300 {
                let goroutine = Builder::new().locked(true).spawn(move || {
                    park();
                    i
                });
                assert_eq!(goroutine.unwrap().join().unwrap(), i);
            }
            // Nothing piles up.
            assert!(csp::runtime::stats().worker_threads < 50, "{:?}", csp::runtime::stats());
        })
        .expect_success();
    }
}

/// What the kernel keeps for each thread, and a goroutine changes while it is locked, is nobody else's.
mod kernel_state {
    use super::*;

    fn affinity() -> Vec<usize> {
        let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
        // SAFETY: the kernel writes the set of the calling thread; the size is the set's.
        unsafe {
            assert_eq!(libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), set.as_mut_ptr()), 0);
            let set = set.assume_init();
            (0..libc::CPU_SETSIZE as usize).filter(|&cpu| libc::CPU_ISSET(cpu, &set)).collect()
        }
    }

    fn set_affinity(cpu: usize) {
        // SAFETY: as above.
        unsafe {
            let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed().assume_init();
            libc::CPU_SET(cpu, &mut set);
            assert_eq!(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set), 0);
        }
    }

    fn is_blocked(signal: i32) -> bool {
        let mut set = MaybeUninit::uninit();
        // SAFETY: the present mask is written to the set.
        unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), set.as_mut_ptr());
            libc::sigismember(set.as_ptr(), signal) == 1
        }
    }

    fn block(signal: i32) {
        let mut set = MaybeUninit::uninit();
        // SAFETY: the set is initialised before use.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            libc::sigaddset(set.as_mut_ptr(), signal);
            assert_eq!(libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()), 0);
        }
    }

    /// Calls `change` in locked goroutines, and `check` there and `check_not` everywhere else, at the same time and after.
    fn does_not_leak(change: fn(), check: fn(), check_not: fn()) {
        let traffic = Traffic::start();
        let changers = (0..4).map(|_| {
            Builder::new().locked(true).spawn(move || {
                change();
                for _ in 0..ROUNDS {
                    park();
                    check();
                    // Started from the changed thread, which may have to create a thread for it.
                    let others = (0..3).map(|_| csp::spawn(move || csp::blocking(check_not))).collect::<Vec<_>>();
                    others.into_iter().for_each(|other| other.join().unwrap());
                }
                // Ends locked: the thread goes with what was changed.
            })
        });
        let changers = changers.collect::<Vec<_>>();
        in_traffic(8, move |_| {
            for _ in 0..ROUNDS {
                check_not();
                migrate();
                check_not();
            }
        });
        changers.into_iter().for_each(|changer| changer.unwrap().join().unwrap());
        in_traffic(8, move |_| {
            for _ in 0..ROUNDS {
                migrate();
                check_not();
            }
        });
        drop(traffic);
    }

    #[test]
    fn an_affinity_does_not_leak() {
        if affinity().len() < 2 {
            return; // There is nothing to choose from.
        }
        in_child(&[], || {
            does_not_leak(
                || set_affinity(affinity()[0]),
                || assert_eq!(affinity().len(), 1),
                || assert!(affinity().len() > 1),
            );
        })
        .expect_success();
    }

    #[test]
    fn a_signal_mask_does_not_leak() {
        in_child(&[], || {
            does_not_leak(
                || block(libc::SIGUSR1),
                || assert!(is_blocked(libc::SIGUSR1)),
                || assert!(!is_blocked(libc::SIGUSR1)),
            );
        })
        .expect_success();
    }

    /// The process's own mask, on the other hand, is that of every worker.
    #[test]
    fn goroutines_have_the_signal_mask_of_the_thread_that_starts_the_runtime() {
        in_child(&[], || {
            block(libc::SIGUSR2);
            in_traffic(4, |_| {
                for _ in 0..10 {
                    migrate();
                    assert!(is_blocked(libc::SIGUSR2) && !is_blocked(libc::SIGUSR1) && !is_blocked(libc::SIGSEGV));
                }
            });
        })
        .expect_success();
    }
}
