//! How a worker holds on to its processor, or loses it behind its back.
//!
//! What a processor owns is touched without atomic read-modify-writes, by runtime code on its worker. Whoever wants to
//! take the processor must know that no such code is running. It is a store-load race in the manner of Dekker:
//!
//! - runtime code: store `in_runtime = true`; light barrier; load `lost`.
//! - the taker, under the `freeze` lock: store `lost = true`; heavy barrier; load `in_runtime`.
//!
//! At least one sees the other. If the taker sees `in_runtime`, it takes `lost` back and gives up: the goroutine is alive.
//! If runtime code sees `lost`, it waits for the `freeze` lock, which the taker holds for microseconds, and looks again:
//! then the processor is either still the worker's, or gone for good. Both may see the other; then the taker gives up
//! and the runtime code, after the lock, finds the processor in place.

use super::barrier;
use crate::primitive::atomic::{AtomicBool, Ordering};
use crate::primitive::{Mutex, MutexGuard};

#[derive(Debug)]
pub(crate) struct Hold {
    /// Runtime code runs, on the worker's stack or on that of its goroutine.
    in_runtime: AtomicBool,
    /// The processor is gone, or being taken.
    lost: AtomicBool,
    freeze: Mutex<()>,
}

impl Hold {
    /// Of a worker in runtime code that has lost nothing.
    pub(crate) fn new() -> Self {
        Self { in_runtime: AtomicBool::new(true), lost: AtomicBool::new(false), freeze: Mutex::new(()) }
    }

    /// Runtime code begins, or begins within other runtime code: says which (`nested`), and whether the processor is held.
    #[inline(always)]
    pub(crate) fn enter(&self) -> (bool, bool) {
        let nested = self.in_runtime.load(Ordering::Relaxed);
        self.in_runtime.store(true, Ordering::Relaxed);
        // Pairs with the heavy barrier in `freeze`.
        barrier::light();
        // Acquire: pairs with the Release in `thaw`: what the taker did to the processor is visible.
        (nested, !self.lost.load(Ordering::Acquire) || self.look_again())
    }

    /// Whether it is still held, when nobody is about to take it any more.
    #[cold]
    fn look_again(&self) -> bool {
        drop(self.freeze.lock());
        !self.lost.load(Ordering::Relaxed)
    }

    /// Runtime code ends.
    #[inline(always)]
    pub(crate) fn leave(&self) {
        // Release: pairs with the Acquire load in `freeze`: what runtime code did to the processor is visible.
        self.in_runtime.store(false, Ordering::Release);
    }

    /// Keeps runtime code from starting, if none runs and `held` says, under the lock, that there is what to take.
    /// Undone by [`thaw`](Self::thaw), or for good if the guard is dropped alone.
    pub(crate) fn freeze(&self, held: impl FnOnce() -> bool) -> Option<MutexGuard<'_, ()>> {
        let frozen = self.freeze.try_lock()?;
        if self.lost.load(Ordering::Relaxed) {
            return None;
        }
        self.lost.store(true, Ordering::Relaxed);
        // Pairs with the light barrier in `enter`.
        barrier::heavy();
        // Acquire: pairs with the Release in `leave`.
        if self.in_runtime.load(Ordering::Acquire) || !held() {
            self.lost.store(false, Ordering::Relaxed);
            return None;
        }
        Some(frozen)
    }

    /// Runtime code may start again; nothing was lost.
    pub(crate) fn thaw(&self, frozen: MutexGuard<'_, ()>) {
        // Release: pairs with the Acquire in `enter`.
        self.lost.store(false, Ordering::Release);
        drop(frozen);
    }

    /// The worker has a processor again. For runtime code of the worker, or for the one who wakes it.
    pub(crate) fn regain(&self) {
        self.lost.store(false, Ordering::Relaxed);
    }

    /// Runtime code of the worker gives the processor up: `f` under the lock, so that a taker that is under way sees
    /// either all or nothing of it.
    pub(crate) fn give_up(&self, f: impl FnOnce()) {
        let _frozen = self.freeze.lock();
        f();
        self.lost.store(true, Ordering::Relaxed);
    }
}

#[cfg(all(test, csp_loom))]
mod loom_tests {
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    use super::*;
    use crate::chan::loom_tests::{NO_BOUND, model};

    /// What a processor owns, as Loom sees who touches it.
    struct Held {
        hold: Hold,
        queue: UnsafeCell<u32>,
    }

    impl Held {
        fn new() -> Arc<Self> {
            let held = Self { hold: Hold::new(), queue: UnsafeCell::new(0) };
            held.hold.leave();
            Arc::new(held)
        }

        /// Runtime code touches the processor, if it is there.
        fn touch(&self) -> bool {
            let (nested, held) = self.hold.enter();
            if held {
                // SAFETY: that nobody else is there is what Loom checks.
                self.queue.with_mut(|queue| unsafe { *queue += 1 });
            }
            if !nested {
                self.hold.leave();
            }
            held
        }
    }

    /// A thief looks into the processor of a worker that goes in and out of runtime code. Every interleaving.
    #[test]
    fn loom_runtime_code_against_a_thief() {
        model(NO_BOUND, || {
            let held = Held::new();
            let theirs = held.clone();
            let thief = thread::spawn(move || {
                let Some(frozen) = theirs.hold.freeze(|| true) else { return 0 };
                // SAFETY: as above.
                theirs.queue.with_mut(|queue| unsafe { *queue += 1 });
                theirs.hold.thaw(frozen);
                1
            });
            assert!(held.touch(), "a thief takes nothing for good");
            assert!(held.touch());
            let stolen = thief.join().unwrap();
            // SAFETY: as above.
            held.queue.with(|queue| assert_eq!(unsafe { *queue }, 2 + stolen));
        });
    }

    /// Sysmon takes the processor for good, or runtime code keeps it: never do both touch it. A thief may come between.
    /// Up to three preemptions: each of the three has one store and one load that matter.
    #[test]
    fn loom_runtime_code_against_sysmon_and_a_thief() {
        model(Some(3), || {
            let held = Held::new();
            let (to_sysmon, to_thief) = (held.clone(), held.clone());
            let sysmon = thread::spawn(move || {
                let frozen = to_sysmon.hold.freeze(|| true);
                let taken = frozen.is_some();
                drop(frozen);
                if taken {
                    // The processor is with another worker now, whose runtime code touches it.
                    // SAFETY: as above.
                    to_sysmon.queue.with_mut(|queue| unsafe { *queue += 10 });
                }
                taken
            });
            let thief = thread::spawn(move || {
                let Some(frozen) = to_thief.hold.freeze(|| true) else { return };
                // SAFETY: as above.
                to_thief.queue.with_mut(|queue| unsafe { *queue += 100 });
                to_thief.hold.thaw(frozen);
            });
            let kept = held.touch();
            let kept_again = held.touch();
            thief.join().unwrap();
            let taken = sysmon.join().unwrap();
            assert!(kept || !kept_again, "what is gone does not come back by itself");
            assert_eq!(held.touch(), !taken);
        });
    }
}
