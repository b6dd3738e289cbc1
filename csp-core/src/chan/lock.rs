//! The lock of a channel: one word, held for tens of nanoseconds.
//!
//! Locking is one atomic read-modify-write, unlocking a plain store: half of what a lock costs that knows its sleepers.
//! The price is that nobody can be woken by an unlock, so the one that finds it held polls: a few times at once, then
//! giving its CPU away between two looks, then sleeping ever longer. The holder is a thread in the middle of a few
//! instructions, or one that lost its CPU there; it runs no foreign code while it holds the lock. It allocates where a
//! receiver of a large message meets an offer. A goroutine that parks leaves its lock to be released by the one that comes
//! after it, which it has to pick before: see `sched::duties_are_next`.
//!
//! Loom cannot explore polling (each look is a branch, without end): there the lock is Loom's mutex, which orders the
//! same things and no more.

#[cfg(csp_loom)]
pub(crate) use modelled::Lock;
#[cfg(not(csp_loom))]
pub(crate) use word::Lock;

#[cfg(not(csp_loom))]
mod word {
    use std::time::Duration;

    use crate::primitive::atomic::{AtomicBool, Ordering};
    use crate::primitive::{hint, thread};

    #[derive(Debug)]
    pub(crate) struct Lock {
        held: AtomicBool,
    }

    impl Lock {
        #[inline]
        pub(crate) fn new() -> Self {
            Self { held: AtomicBool::new(false) }
        }

        #[inline]
        pub(crate) fn lock(&self) {
            // Acquire: pairs with the Release in `unlock`.
            if self.held.swap(true, Ordering::Acquire) {
                self.lock_contended();
            }
        }

        #[cold]
        fn lock_contended(&self) {
            // With one CPU the holder is not at work.
            let mut tries = if crate::sched::available_parallelism() > 1 { 0u32 } else { 4 };
            loop {
                // Relaxed: only to wait without taking the line from the holder.
                if !self.held.load(Ordering::Relaxed) && !self.held.swap(true, Ordering::Acquire) {
                    return;
                }
                tries += 1;
                match tries {
                    // Not sooner: each look takes the line from the holder, who may be about to lock again and again. Left alone
                    // for microseconds it does a hundred operations, instead of one for each way of the line. In all these are
                    // 10 to 40 µs, as long as a pause of the CPU takes.
                    0..=4 => (0..32 << tries).for_each(|_| hint::spin_loop()),
                    5..=40 => thread::yield_now(),
                    // The holder has lost its CPU to somebody whom yielding does not reach (another priority, another
                    // CPU): leave the machine to it.
                    _ => std::thread::sleep(Duration::from_micros(20 << (tries - 41).min(6))),
                }
            }
        }

        /// # Safety
        ///
        /// The caller holds the lock, or was handed it by the one who does.
        #[inline]
        pub(crate) unsafe fn unlock(&self) {
            // Release: pairs with the Acquire in `lock`.
            self.held.store(false, Ordering::Release);
        }
    }
}

#[cfg(csp_loom)]
mod modelled {
    use std::cell::Cell;
    use std::mem;

    use loom::sync::{Mutex, MutexGuard};

    pub(crate) struct Lock {
        /// While the lock is held. Before the mutex, to which it refers.
        guard: Cell<Option<MutexGuard<'static, ()>>>,
        mutex: Mutex<()>,
    }

    impl Lock {
        pub(crate) fn new() -> Self {
            Self { guard: Cell::new(None), mutex: Mutex::new(()) }
        }

        pub(crate) fn lock(&self) {
            let guard = self.mutex.lock().unwrap();
            // SAFETY: the guard does not leave this lock, which does not move while it is held.
            self.guard.set(Some(unsafe { mem::transmute::<MutexGuard<'_, ()>, MutexGuard<'static, ()>>(guard) }));
        }

        /// # Safety
        ///
        /// The caller holds the lock, or was handed it by the one who does.
        pub(crate) unsafe fn unlock(&self) {
            drop(self.guard.take());
        }
    }
}
