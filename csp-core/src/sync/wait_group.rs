//! Wait groups.

use std::cell::UnsafeCell;
use std::fmt;
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::ptr::{self, NonNull};

use crate::chan::lock::Lock;
use crate::primitive::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sched::goroutine::AtEnd;
use crate::sched::park::{FIRST_OUTCOME, Parker, Ticket, Wait, WaitReason, checkpoint, park};
use crate::spawn::{Builder, JoinHandle};

/// Waits for a number of goroutines to be done. As Go's `sync.WaitGroup`.
///
/// Clones are handles to the same group. Goroutines are counted in by [`add`](Self::add) before they start and out by
/// [`done`](Self::done) when they end; [`go`](Self::go) and `go!(wg = &wg, ..)` do both, also when the goroutine panics.
///
/// ```
/// # use csp_core as csp;
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU32, Ordering};
///
/// let (wg, sum) = (csp::sync::WaitGroup::new(), Arc::new(AtomicU32::new(0)));
/// for i in 1..=10 {
///     let sum = sum.clone();
///     wg.go(move || sum.fetch_add(i, Ordering::Relaxed));
/// }
/// wg.wait();
/// assert_eq!(sum.load(Ordering::Relaxed), 55);
/// ```
pub struct WaitGroup {
    inner: NonNull<Inner>,
}

// SAFETY: a handle; what is behind it is shared under its own rules.
unsafe impl Send for WaitGroup {}
// SAFETY: as above.
unsafe impl Sync for WaitGroup {}
impl UnwindSafe for WaitGroup {}
impl RefUnwindSafe for WaitGroup {}

struct Inner {
    /// Three fields in one word, so that a goroutine is counted in by one atomic operation, and out by one:
    /// [`WAITING`], how many goroutines the group counts in and out by itself (in units of [`GOROUTINE`]), and the sum of
    /// what [`WaitGroup::add`] was given ([`ADDED`]), which is never negative. `WAITING` is set under the lock, and
    /// cleared under it by whoever wakes those who wait.
    state: AtomicU64,
    /// Handles, and one for all goroutines together while there are any. The last one frees the group.
    handles: AtomicUsize,
    lock: Lock,
    /// Those who wait, the last first. Guarded by the lock.
    waiters: UnsafeCell<*mut Waiter>,
}

struct Waiter {
    parker: &'static Parker,
    ticket: Ticket,
    next: *mut Waiter,
}

/// Somebody waits.
const WAITING: u64 = 1;
const GOROUTINE: u64 = 1 << 1;
const GOROUTINES: u64 = ADDED - GOROUTINE;
const ADDED: u64 = 1 << 32;
/// The largest sum of what was added, and the largest number of goroutines.
const LIMIT: u64 = (1 << 31) - 1;

impl WaitGroup {
    /// A group of none.
    pub fn new() -> Self {
        let inner = Inner {
            state: AtomicU64::new(0),
            handles: AtomicUsize::new(1),
            lock: Lock::new(),
            waiters: UnsafeCell::new(ptr::null_mut()),
        };
        Self { inner: NonNull::from(Box::leak(Box::new(inner))) }
    }

    /// Adds `delta`, which may be negative, to the count. When it becomes zero, all who wait go on.
    ///
    /// To use the group for another round, add for it when those who waited for the last one have gone on: where the count
    /// rises again at the moment it is zero, some may wait for the next zero. (Go's `Add` says the same, and may panic.)
    ///
    /// As in Go, the `add` that counts goroutines in happens before they start, and before the `wait` that is to wait for
    /// them: by whoever starts them.
    ///
    /// # Panics
    ///
    /// If the count would become negative, with Go's message, or 2^31. It is then as before. A goroutine that the group
    /// counts by itself ([`go`](Self::go), `go!(wg = &wg, ..)`) cannot be counted out in its place: Go, which does not
    /// know the difference, panics later, when that goroutine ends.
    ///
    /// ```should_panic
    /// # use csp_core as csp;
    /// csp::sync::WaitGroup::new().add(-1); // negative WaitGroup counter
    /// ```
    #[track_caller]
    pub fn add(&self, delta: isize) {
        self.inner().add(delta as i64);
    }

    /// Counts one out: `add(-1)`.
    ///
    /// # Panics
    ///
    /// If nobody was counted in.
    #[track_caller]
    pub fn done(&self) {
        self.inner().add(-1);
    }

    /// Parks until the count is zero. On a plain thread it blocks the thread.
    #[track_caller]
    pub fn wait(&self) {
        checkpoint();
        self.inner().wait(WaitReason::WaitGroup, Location::caller());
    }

    /// Starts a goroutine that is counted by the group. As Go's `WaitGroup.Go`.
    ///
    /// # Panics
    ///
    /// When the runtime cannot start.
    #[track_caller]
    pub fn go<F, T>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        Builder::new().wait_group(self).spawn(f).expect("the runtime cannot start")
    }

    pub(crate) fn wait_as(&self, reason: WaitReason, location: &'static Location<'static>) {
        self.inner().wait(reason, location);
    }

    /// Counts a goroutine in, and makes what counts it out at its end.
    #[inline]
    pub(crate) fn count_in(&self) -> AtEnd {
        /// # Safety
        ///
        /// `inner` is a group that counts the goroutine in, which is not counted out otherwise.
        unsafe fn count_out(inner: *const ()) {
            // SAFETY: the goroutines have a handle together, which the last of them gives up.
            unsafe { Inner::count_out(NonNull::new_unchecked(inner.cast::<Inner>().cast_mut())) };
        }
        self.inner().count_in();
        // SAFETY: the goroutine was counted in, and `count_out` is called once.
        unsafe { AtEnd::new(count_out, self.inner.as_ptr().cast()) }
    }

    fn inner(&self) -> &Inner {
        // SAFETY: a handle keeps the group alive.
        unsafe { self.inner.as_ref() }
    }
}

impl Clone for WaitGroup {
    fn clone(&self) -> Self {
        // Relaxed: there is a handle, and so there will be.
        self.inner().handles.fetch_add(1, Ordering::Relaxed);
        Self { inner: self.inner }
    }
}

impl Drop for WaitGroup {
    fn drop(&mut self) {
        // SAFETY: the handle is not used again.
        unsafe { Inner::release(self.inner) };
    }
}

impl Inner {
    #[track_caller]
    fn add(&self, delta: i64) {
        let mut old = self.state.load(Ordering::Relaxed);
        loop {
            let added = ((old / ADDED) as i64).checked_add(delta).filter(|&n| n <= LIMIT as i64);
            let added = added.expect("WaitGroup counter overflow");
            assert!(added >= 0, "negative WaitGroup counter");
            let new = (added as u64 * ADDED) | (old % ADDED);
            // AcqRel: what was done before a `done` happens before the end of a `wait`.
            match self.state.compare_exchange_weak(old, new, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) if new == WAITING => return self.wake_all(),
                Ok(_) => return,
                Err(now) => old = now,
            }
        }
    }

    #[inline]
    fn count_in(&self) {
        // Relaxed: nothing is published by it; the goroutine is, later.
        let old = self.state.fetch_add(GOROUTINE, Ordering::Relaxed);
        match old & GOROUTINES {
            // The first one takes the handle of all. It is there before any of them can end: those that are counted in
            // meanwhile find us counted, and we are counted out after we have started.
            0 => _ = self.handles.fetch_add(1, Ordering::Relaxed),
            // Two thousand million builders that were forgotten. A panic would leave the count wrong meanwhile.
            GOROUTINES => {
                crate::panic::report("csp: WaitGroup counter overflow\n");
                std::process::abort();
            }
            _ => (),
        }
    }

    /// # Safety
    ///
    /// As `count_out` in [`WaitGroup::count_in`].
    unsafe fn count_out(inner: NonNull<Self>) {
        // SAFETY: the handle of all goroutines, of which we are one still.
        let this = unsafe { inner.as_ref() };
        // AcqRel: what the goroutine did happens before the end of a `wait`.
        let old = this.state.fetch_sub(GOROUTINE, Ordering::AcqRel);
        if old & GOROUTINES == GOROUTINE {
            // We were the last, and the handle is ours.
            if old == GOROUTINE | WAITING {
                this.wake_all();
            }
            // SAFETY: it is not used again.
            unsafe { Self::release(inner) };
        }
    }

    /// Gives up a handle.
    ///
    /// # Safety
    ///
    /// It is the caller's, who does not use it again.
    unsafe fn release(inner: NonNull<Self>) {
        // AcqRel: what others did with the group happens before it is freed.
        // SAFETY: the caller's promise.
        if unsafe { inner.as_ref() }.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            // SAFETY: made by `Box` in `new`; that was the last handle.
            drop(unsafe { Box::from_raw(inner.as_ptr()) });
        }
    }

    #[cold]
    fn wake_all(&self) {
        self.lock.lock();
        // Somebody may have counted in again, or woken them, since.
        let woken = self.state.compare_exchange(WAITING, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        let mut waiter = ptr::null_mut();
        if woken {
            // SAFETY: we hold the lock.
            waiter = unsafe { ptr::replace(self.waiters.get(), ptr::null_mut()) };
        }
        // SAFETY: we hold it.
        unsafe { self.lock.unlock() };
        while !waiter.is_null() {
            // SAFETY: its owner is parked until we make it ready, after we have read all of it.
            let Waiter { parker, ticket, next } = unsafe { waiter.read() };
            parker.claim_sole(ticket, FIRST_OUTCOME);
            parker.ready();
            waiter = next;
        }
    }

    fn wait(&self, reason: WaitReason, location: &'static Location<'static>) {
        // Acquire: pairs with the Release of `add`.
        if self.state.load(Ordering::Acquire) <= WAITING {
            return;
        }
        // First: it may allocate.
        Parker::with_current(|parker| {
            self.lock.lock();
            // AcqRel: an `add` that makes the count zero after this sees the bit, and comes for the lock.
            let old = self.state.fetch_or(WAITING, Ordering::AcqRel);
            if old <= WAITING {
                if old & WAITING == 0 {
                    self.state.fetch_and(!WAITING, Ordering::AcqRel);
                }
                // SAFETY: we hold it.
                unsafe { self.lock.unlock() };
                return;
            }
            /// # Safety
            ///
            /// `lock` is a lock that is held.
            unsafe fn unlock(lock: *mut ()) {
                // SAFETY: the caller's promise.
                unsafe { (*lock.cast::<Lock>()).unlock() };
            }
            let ticket = parker.begin();
            // SAFETY: we hold the lock.
            let next = unsafe { *self.waiters.get() };
            let mut waiter = Waiter { parker, ticket, next };
            // SAFETY: as above. The waiter stays until `wake_all` has taken it from the list.
            unsafe { *self.waiters.get() = &raw mut waiter };
            let wait = Wait { reason, location, deadline: None };
            // SAFETY: our parker and its newest ticket; the lock that we hold is released by the commit, and the group
            // outlives the wait, since we borrow it.
            unsafe { park(parker, ticket, wait, unlock, (&raw const self.lock).cast_mut().cast()) };
        });
    }
}

impl Default for WaitGroup {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for WaitGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.inner().state.load(Ordering::Relaxed);
        let count = state / ADDED + (state & GOROUTINES) / GOROUTINE;
        f.debug_struct("WaitGroup").field("count", &count).finish_non_exhaustive()
    }
}

#[cfg(all(test, csp_loom))]
mod loom_tests {
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    use super::WaitGroup;
    use crate::chan::loom_tests::{NO_BOUND, model};

    /// What goroutines did before they were counted out happens before the end of `wait`: one that the group counts by
    /// itself and one that calls `done`. Up to three preemptions: each of the three is one atomic operation on the state
    /// and, for one of them, one critical section. (Without the bound it takes 3.7 million executions, which pass.)
    #[test]
    fn loom_wait_group_counts_out_against_wait() {
        model(Some(3), || {
            let wg = WaitGroup::new();
            let done = Arc::new((UnsafeCell::new(0), UnsafeCell::new(0)));
            wg.add(1);
            let (theirs, user) = (done.clone(), wg.clone());
            let by_hand = thread::spawn(move || {
                // SAFETY: Loom checks that nobody else is there.
                theirs.0.with_mut(|place| unsafe { *place = 1 });
                user.done();
            });
            let (theirs, at_end) = (done.clone(), wg.count_in());
            let by_itself = thread::spawn(move || {
                // SAFETY: as above.
                theirs.1.with_mut(|place| unsafe { *place = 2 });
                drop(at_end);
            });
            wg.wait();
            // SAFETY: as above.
            let sum = done.0.with(|place| unsafe { *place }) + done.1.with(|place| unsafe { *place });
            assert_eq!(sum, 3);
            drop(wg);
            by_hand.join().unwrap();
            by_itself.join().unwrap();
        });
    }

    /// The last handle may go while the last goroutine is being counted out: whoever is last frees the group, once.
    #[test]
    fn loom_wait_group_is_freed_once() {
        model(NO_BOUND, || {
            let wg = WaitGroup::new();
            let first = wg.count_in();
            let other = wg.clone();
            let one = thread::spawn(move || drop(first));
            let two = thread::spawn(move || {
                // Perhaps the first again.
                let at_end = other.count_in();
                drop(other);
                drop(at_end);
            });
            drop(wg);
            one.join().unwrap();
            two.join().unwrap();
        });
    }
}
