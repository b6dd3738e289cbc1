//! Wait groups.

use std::cell::UnsafeCell;
use std::fmt;
use std::panic::Location;
use std::ptr;
use std::sync::Arc;

use crate::chan::lock::Lock;
use crate::primitive::atomic::{AtomicU64, Ordering};
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
#[derive(Clone)]
pub struct WaitGroup {
    inner: Arc<Inner>,
}

struct Inner {
    /// `count << 1 | waiting`: how many are to be done, and whether somebody waits. `waiting` is set under the lock, and
    /// cleared under it by whoever wakes them.
    state: AtomicU64,
    lock: Lock,
    /// Those who wait, the last first. Guarded by the lock.
    waiters: UnsafeCell<*mut Waiter>,
}

// SAFETY: `waiters` is used under the lock; the waiters it leads to are in frames of parked goroutines and threads.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

struct Waiter {
    parker: &'static Parker,
    ticket: Ticket,
    next: *mut Waiter,
}

const WAITING: u64 = 1;
const ONE: u64 = 2;
/// The largest count.
const LIMIT: i64 = 1 << 32;

impl WaitGroup {
    /// A group of none.
    pub fn new() -> Self {
        let inner = Inner { state: AtomicU64::new(0), lock: Lock::new(), waiters: UnsafeCell::new(ptr::null_mut()) };
        Self { inner: Arc::new(inner) }
    }

    /// Adds `delta`, which may be negative, to the count. When it becomes zero, all who wait go on.
    ///
    /// As in Go, the `add` that counts goroutines in happens before they start, and before the `wait` that is to wait for
    /// them: by whoever starts them.
    ///
    /// # Panics
    ///
    /// If the count would become negative, with Go's message, or exceed 2^32. It is then as before.
    ///
    /// ```should_panic
    /// # use csp_core as csp;
    /// csp::sync::WaitGroup::new().add(-1); // negative WaitGroup counter
    /// ```
    #[track_caller]
    pub fn add(&self, delta: isize) {
        self.inner.add(delta as i64);
    }

    /// Counts one out: `add(-1)`.
    ///
    /// # Panics
    ///
    /// If nobody was counted in.
    #[track_caller]
    pub fn done(&self) {
        self.inner.add(-1);
    }

    /// Parks until the count is zero. On a plain thread it blocks the thread.
    #[track_caller]
    pub fn wait(&self) {
        checkpoint();
        self.inner.wait(WaitReason::WaitGroup, Location::caller());
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
        self.inner.wait(reason, location);
    }

    /// Counts a goroutine in, and makes what counts it out at its end.
    pub(crate) fn into_at_end(self) -> AtEnd {
        /// # Safety
        ///
        /// `inner` came from `Arc::into_raw`, and is not used again.
        unsafe fn done(inner: *const ()) {
            // SAFETY: the caller's promise.
            let inner = unsafe { Arc::from_raw(inner.cast::<Inner>()) };
            inner.add(-1);
        }
        self.inner.add(1);
        // SAFETY: the pointer is from `Arc::into_raw`, and `done` is called with it once.
        unsafe { AtEnd::new(done, Arc::into_raw(self.inner).cast()) }
    }
}

impl Inner {
    #[track_caller]
    fn add(&self, delta: i64) {
        let mut old = self.state.load(Ordering::Relaxed);
        loop {
            let count = ((old / ONE) as i64).checked_add(delta).filter(|&c| c <= LIMIT);
            let count = count.expect("WaitGroup counter overflow");
            assert!(count >= 0, "negative WaitGroup counter");
            let new = (count as u64 * ONE) | (old & WAITING);
            // AcqRel: what was done before a `done` happens before the end of a `wait`.
            match self.state.compare_exchange_weak(old, new, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) if new == WAITING => return self.wake_all(),
                Ok(_) => return,
                Err(now) => old = now,
            }
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
        if self.state.load(Ordering::Acquire) < ONE {
            return;
        }
        self.lock.lock();
        // AcqRel: an `add` that makes the count zero after this sees the bit, and comes for the lock.
        let old = self.state.fetch_or(WAITING, Ordering::AcqRel);
        if old < ONE {
            if old & WAITING == 0 {
                self.state.fetch_and(!WAITING, Ordering::AcqRel);
            }
            // SAFETY: we hold it.
            unsafe { self.lock.unlock() };
            return;
        }
        Parker::with_current(|parker| {
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
        let count = self.inner.state.load(Ordering::Relaxed) / ONE;
        f.debug_struct("WaitGroup").field("count", &count).finish_non_exhaustive()
    }
}
