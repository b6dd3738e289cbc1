//! The one door to atomics, locks and threads for everything that Loom checks.
//!
//! The paths mirror `std`. Under `--cfg csp_loom` the same names are Loom's, so that the protocols run unchanged in
//! its model. Code that Loom never runs (the switch, slots, signal handlers) uses `std` and `parking_lot` directly.

use std::time::Instant;

#[cfg(not(csp_loom))]
mod imp {
    pub(crate) mod atomic {
        pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
    }
    pub(crate) mod hint {
        pub(crate) use std::hint::spin_loop;
    }
    pub(crate) mod thread {
        pub(crate) use std::thread::yield_now;
    }
}

#[cfg(csp_loom)]
mod imp {
    pub(crate) mod atomic {
        pub(crate) use loom::sync::atomic::{
            AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
        };
    }
    pub(crate) mod hint {
        pub(crate) use loom::hint::spin_loop;
    }
    pub(crate) mod thread {
        pub(crate) use loom::thread::yield_now;
    }
}

pub(crate) use imp::{atomic, hint, thread};

/// The time.
#[cfg(not(csp_loom))]
#[inline(always)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[cfg(csp_loom)]
pub(crate) use clock::now;

/// Loom has no time: a deadline passes at once, which, as Loom lets other threads come in between at each step, is at any
/// time. The clock agrees with it.
#[cfg(csp_loom)]
mod clock {
    use std::cell::Cell;
    use std::time::{Duration, Instant};

    thread_local! {
        /// How far the clock is ahead of the real one, in seconds. All threads of a model share it, and no other model does.
        static AHEAD: Cell<u64> = const { Cell::new(0) };
    }

    pub(crate) fn now() -> Instant {
        Instant::now() + Duration::from_secs(AHEAD.get())
    }

    /// Lets the deadline pass.
    pub(super) fn pass(deadline: Instant) {
        let seconds = deadline.saturating_duration_since(now()).as_secs() + 1;
        AHEAD.set(AHEAD.get() + seconds);
    }
}

#[cfg(not(csp_loom))]
pub(crate) use parking_lot::{Mutex, MutexGuard};

#[cfg(csp_loom)]
pub(crate) use loom::sync::MutexGuard;

/// Loom's mutex with `parking_lot`'s interface.
#[cfg(csp_loom)]
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

#[cfg(csp_loom)]
impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().expect("nobody panics under a lock")
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok()
    }
}

use atomic::Ordering;
use monitor::{Condvar, wait};

/// A place where one OS thread sleeps until another one lets it go: a binary semaphore.
///
/// `notify` before `wait` is remembered once. Everything before `notify` happens before the `wait` that it ends.
///
/// | `state`   | meaning                          | next, by whom                                            |
/// |-----------|----------------------------------|----------------------------------------------------------|
/// | `AWAY`    | nobody has let the thread go yet | `HERE` by `notify`, `AWAITED` by the thread, in the lock |
/// | `AWAITED` | and the thread sleeps            | `HERE` by `notify`, `AWAY` by the thread, out of time    |
/// | `HERE`    | somebody has let it go           | `AWAY` by the thread, which goes on                      |
#[derive(Debug)]
pub(crate) struct Baton {
    state: atomic::AtomicU32,
    /// Held from `AWAITED` until the thread sleeps, so that the one who finds it `AWAITED` can wake it.
    sleep: Mutex<()>,
    arrived: Condvar,
}

const AWAY: u32 = 0;
const AWAITED: u32 = 1;
const HERE: u32 = 2;

impl Default for Baton {
    fn default() -> Self {
        Self { state: atomic::AtomicU32::new(AWAY), sleep: Mutex::new(()), arrived: Condvar::new() }
    }
}

impl Baton {
    /// Takes the baton if it is here.
    fn take(&self) -> bool {
        // Not a store: it would hide from us what a second `notify` was about, if that comes between. Acquire: pairs with
        // the Release in `notify`.
        self.state.load(Ordering::Relaxed) == HERE && self.state.swap(AWAY, Ordering::Acquire) == HERE
    }

    /// Takes the baton if it arrives before `deadline`, and keeps the CPU until then. For some microseconds.
    #[cfg(not(csp_loom))]
    pub(crate) fn poll_until(&self, deadline: Instant) -> bool {
        while now() < deadline {
            if self.take() {
                return true;
            }
            (0..16).for_each(|_| hint::spin_loop());
        }
        false
    }

    #[cfg(csp_loom)]
    pub(crate) fn poll_until(&self, _deadline: Instant) -> bool {
        false
    }

    /// Sleeps until the baton has arrived, and takes it.
    pub(crate) fn wait(&self) {
        self.sleep_until(None);
    }

    /// As [`wait`](Self::wait), but at most until `deadline`. Says whether the baton was taken.
    pub(crate) fn wait_until(&self, deadline: Instant) -> bool {
        self.sleep_until(Some(deadline))
    }

    fn sleep_until(&self, deadline: Option<Instant>) -> bool {
        if self.take() {
            return true;
        }
        let mut sleep = self.sleep.lock();
        if self.state.compare_exchange(AWAY, AWAITED, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return self.take();
        }
        loop {
            let in_time;
            (sleep, in_time) = wait(&self.arrived, sleep, deadline);
            if self.take() {
                return true;
            }
            if !in_time {
                // Unless it arrives now.
                return self.state.compare_exchange(AWAITED, AWAY, Ordering::Relaxed, Ordering::Relaxed).is_err()
                    && self.take();
            }
        }
    }

    /// Takes the baton if it arrives soon: polls some microseconds at most, and then lets others have the CPU a few times.
    /// Much cheaper than to sleep where the one with the baton is about to hand it over. Says whether it was taken.
    #[cfg(not(csp_loom))]
    pub(crate) fn linger(&self, timed: bool) -> bool {
        linger(timed, || self.state.load(Ordering::Relaxed) == HERE) && self.take()
    }

    #[cfg(csp_loom)]
    pub(crate) fn linger(&self, _timed: bool) -> bool {
        false
    }

    /// Hands the baton over.
    pub(crate) fn notify(&self) {
        // Release: pairs with the Acquire in `take`.
        if self.state.swap(HERE, Ordering::Release) == AWAITED {
            drop(self.sleep.lock());
            self.arrived.notify_one();
        }
    }
}

/// Waits a little until `done`, at first with the CPU to itself, then letting others have it between two looks. Says whether
/// it was done in the end.
///
/// To fall asleep and be woken costs up to 25 µs here, of which the thread that wakes pays 3; this is worth up to 5 µs of
/// polling, and a few system calls where others want the CPU.
///
/// Where the wait is `timed` it does not let others have the CPU, which may take any number of milliseconds.
#[cfg(not(csp_loom))]
pub(crate) fn linger(timed: bool, mut done: impl FnMut() -> bool) -> bool {
    /// Looks with a pause between them, which doubles each time.
    const SPINS: u32 = 7;
    const YIELDS: u32 = 10;

    for step in 0..SPINS + if timed { 0 } else { YIELDS } {
        if done() {
            return true;
        }
        if step < SPINS {
            (0..1 << step).for_each(|_| hint::spin_loop());
        } else {
            thread::yield_now();
        }
    }
    done()
}

#[cfg(not(csp_loom))]
mod monitor {
    use std::time::Instant;

    pub(super) use parking_lot::Condvar;
    use parking_lot::MutexGuard;

    /// Gives the lock back, and says whether it was in time.
    pub(super) fn wait<'a>(
        condition: &Condvar,
        mut guard: MutexGuard<'a, ()>,
        deadline: Option<Instant>,
    ) -> (MutexGuard<'a, ()>, bool) {
        let in_time = match deadline {
            Some(deadline) => !condition.wait_until(&mut guard, deadline).timed_out(),
            None => {
                condition.wait(&mut guard);
                true
            }
        };
        (guard, in_time)
    }
}

#[cfg(csp_loom)]
mod monitor {
    use std::time::Instant;

    pub(super) use loom::sync::Condvar;
    use loom::sync::MutexGuard;

    /// See [`clock`](super::clock).
    pub(super) fn wait<'a>(
        condition: &Condvar,
        guard: MutexGuard<'a, ()>,
        deadline: Option<Instant>,
    ) -> (MutexGuard<'a, ()>, bool) {
        match deadline {
            Some(deadline) => {
                super::clock::pass(deadline);
                (guard, false)
            }
            None => (condition.wait(guard).unwrap(), true),
        }
    }
}

#[cfg(all(test, csp_loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::thread;

    use super::atomic::{AtomicU32, Ordering};
    use super::*;
    use crate::chan::loom_tests::{NO_BOUND, model};

    /// Each of the two leaves a note and hands the baton over; whoever has waited for both notes has seen both.
    #[test]
    fn loom_a_baton_handed_over_twice_loses_nothing() {
        model(Some(3), || {
            let shared = Arc::new((Baton::default(), AtomicU32::new(0)));
            let others = [1, 2].map(|note| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    shared.1.fetch_or(note, Ordering::Relaxed);
                    shared.0.notify();
                })
            });
            while shared.1.load(Ordering::Relaxed) != 3 {
                shared.0.wait();
            }
            others.into_iter().for_each(|other| other.join().unwrap());
        });
    }

    #[test]
    fn loom_a_baton_out_of_time_arrives_later_or_now() {
        model(NO_BOUND, || {
            let shared = Arc::new((Baton::default(), AtomicU32::new(0)));
            let shared2 = Arc::clone(&shared);
            let other = thread::spawn(move || {
                shared2.1.store(1, Ordering::Relaxed);
                shared2.0.notify();
            });
            if !shared.0.wait_until(Instant::now()) {
                shared.0.wait();
            }
            assert_eq!(shared.1.load(Ordering::Relaxed), 1);
            other.join().unwrap();
        });
    }
}
