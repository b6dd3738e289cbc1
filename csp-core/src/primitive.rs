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

/// A place where one OS thread sleeps until another one lets it go: a binary semaphore.
///
/// `notify` before `wait` is remembered once. Everything before `notify` happens before the `wait` that it ends.
#[derive(Debug, Default)]
pub(crate) struct Baton {
    #[cfg(not(csp_loom))]
    held: parking_lot::Mutex<bool>,
    #[cfg(not(csp_loom))]
    arrived: parking_lot::Condvar,
    #[cfg(csp_loom)]
    held: loom::sync::Mutex<bool>,
    #[cfg(csp_loom)]
    arrived: loom::sync::Condvar,
}

#[cfg(not(csp_loom))]
impl Baton {
    /// Sleeps until the baton has arrived, and takes it.
    pub(crate) fn wait(&self) {
        let mut held = self.held.lock();
        while !*held {
            self.arrived.wait(&mut held);
        }
        *held = false;
    }

    /// As [`wait`](Self::wait), but at most until `deadline`. Says whether the baton was taken.
    pub(crate) fn wait_until(&self, deadline: Instant) -> bool {
        let mut held = self.held.lock();
        while !*held {
            if self.arrived.wait_until(&mut held, deadline).timed_out() {
                break;
            }
        }
        std::mem::take(&mut *held)
    }

    /// Hands the baton over.
    pub(crate) fn notify(&self) {
        let mut held = self.held.lock();
        *held = true;
        drop(held);
        self.arrived.notify_one();
    }
}

#[cfg(csp_loom)]
impl Baton {
    pub(crate) fn wait(&self) {
        let mut held = self.held.lock().unwrap();
        while !*held {
            held = self.arrived.wait(held).unwrap();
        }
        *held = false;
    }

    /// Loom has no time: a deadline has always passed once every other thread had its chance.
    pub(crate) fn wait_until(&self, _deadline: Instant) -> bool {
        loom::thread::yield_now();
        std::mem::take(&mut *self.held.lock().unwrap())
    }

    pub(crate) fn notify(&self) {
        let mut held = self.held.lock().unwrap();
        *held = true;
        self.arrived.notify_one();
    }
}
