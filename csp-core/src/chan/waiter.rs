//! Waiters, and the queue of them that a channel keeps for each side.

use std::cell::Cell;
use std::ptr;

use crate::primitive::atomic::{AtomicPtr, Ordering};
use crate::sched::park::{FIRST_OUTCOME, Parker, Ticket};

/// The outcome of a wait whose operation was carried out, for the waiter with index 0.
pub(crate) const DONE: u32 = FIRST_OUTCOME;
/// The outcome of a wait whose channel was closed, for the waiter with index 0.
pub(crate) const CLOSED: u32 = FIRST_OUTCOME + 1;

/// One goroutine or thread queued on one side of one channel. See the invariants W1 to W6 in [`chan`](super).
pub(crate) struct Waiter {
    /// Neighbours in a ring; `next` is null exactly while the waiter is not linked.
    next: Cell<*mut Waiter>,
    prev: Cell<*mut Waiter>,
    parker: &'static Parker,
    /// A receiver's place for the message, or a sender's message.
    message: *mut (),
    ticket: Ticket,
    /// What a claimer makes the outcome: this where the operation was carried out, one more where the channel was
    /// closed.
    outcome: u32,
    /// Whether this is the only waiter of its wait, and the wait has no deadline.
    sole: bool,
}

impl Waiter {
    /// The `index`-th waiter of a wait.
    #[inline]
    pub(crate) fn new(parker: &'static Parker, ticket: Ticket, message: *mut (), index: u32, sole: bool) -> Self {
        Self {
            next: Cell::new(ptr::null_mut()),
            prev: Cell::new(ptr::null_mut()),
            parker,
            message,
            ticket,
            outcome: DONE + 2 * index,
            sole,
        }
    }

    #[inline]
    pub(crate) fn is_linked(&self) -> bool {
        !self.next.get().is_null()
    }
}

/// A claimed waiter: what its claimer needs of it. It owes a `ready`, before which the owner's frame stays (W4).
#[must_use]
#[derive(Clone, Copy)]
pub(crate) struct Claimed {
    pub(crate) parker: &'static Parker,
    pub(crate) message: *mut (),
}

/// A first-in first-out queue of waiters: a ring through their links, entered at the oldest.
///
/// Every method but [`is_empty`](Self::is_empty) needs the channel's lock.
pub(crate) struct Queue {
    oldest: AtomicPtr<Waiter>,
}

impl Queue {
    pub(crate) fn new() -> Self {
        Self { oldest: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Whether nobody waits here. Also without the lock; then a `true` from the past tells nothing but itself.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        // Acquire: pairs with the Release in `set_oldest`. Who sees the queue emptied by a close sees the channel
        // closed.
        self.oldest.load(Ordering::Acquire).is_null()
    }

    #[inline]
    fn oldest(&self) -> *mut Waiter {
        // Relaxed: written under the lock that the caller holds.
        self.oldest.load(Ordering::Relaxed)
    }

    #[inline]
    fn set_oldest(&self, waiter: *mut Waiter) {
        // Release: pairs with the Acquire in `is_empty`.
        self.oldest.store(waiter, Ordering::Release);
    }

    /// How many waiters are linked, stale ones included.
    ///
    /// # Safety
    ///
    /// The caller holds the channel's lock.
    pub(crate) unsafe fn len(&self) -> usize {
        let first = self.oldest();
        if first.is_null() {
            return 0;
        }
        // SAFETY: linked waiters are alive, and their links are ours under the lock (W2).
        unsafe {
            let (mut len, mut waiter) = (1, (*first).next.get());
            while waiter != first {
                (len, waiter) = (len + 1, (*waiter).next.get());
            }
            len
        }
    }

    /// Appends a waiter.
    ///
    /// # Safety
    ///
    /// The caller holds the channel's lock. The waiter is not linked, and stays where it is until it is unlinked (W2).
    #[inline]
    pub(crate) unsafe fn push(&self, waiter: *const Waiter) {
        let this = waiter.cast_mut();
        // SAFETY: the caller's promise for `waiter`; the others are linked, so they are alive (W2).
        unsafe {
            let first = self.oldest();
            if first.is_null() {
                (*this).next.set(this);
                (*this).prev.set(this);
                self.set_oldest(this);
            } else {
                let last = (*first).prev.get();
                (*this).next.set(first);
                (*this).prev.set(last);
                (*last).next.set(this);
                (*first).prev.set(this);
            }
        }
    }

    /// Takes a waiter out, wherever it stands.
    ///
    /// # Safety
    ///
    /// The caller holds the channel's lock, and the waiter is linked in this queue.
    #[inline]
    pub(crate) unsafe fn unlink(&self, waiter: *const Waiter) {
        let this = waiter.cast_mut();
        // SAFETY: linked waiters are alive, and their links are ours under the lock (W2).
        unsafe {
            let next = (*this).next.get();
            if next == this {
                self.set_oldest(ptr::null_mut());
            } else {
                let prev = (*this).prev.get();
                (*prev).next.set(next);
                (*next).prev.set(prev);
                if self.oldest() == this {
                    self.set_oldest(next);
                }
            }
            (*this).next.set(ptr::null_mut());
        }
    }

    /// Takes out the oldest waiter whose wait is still open, and ends that wait. Drops the stale ones before it.
    ///
    /// # Safety
    ///
    /// The caller holds the channel's lock, and calls `ready` on what it gets once it has done the waiter's operation.
    #[inline]
    pub(crate) unsafe fn claim_oldest(&self) -> Option<Claimed> {
        // SAFETY: the caller's promise.
        unsafe { self.claim(0).map(|(_, claimed)| claimed) }
    }

    /// Takes out every waiter and ends their waits with the outcome "closed". Gives those that were still open.
    ///
    /// # Safety
    ///
    /// The caller holds the channel's lock, and passes the result to [`Woken::ready_all`] after releasing it.
    pub(crate) unsafe fn claim_all_closed(&self, woken: &mut Woken) {
        // SAFETY: the caller's promise. The waiter is claimed and unlinked, so its links are ours until its `ready`
        // (W4).
        unsafe {
            while let Some((waiter, _)) = self.claim(1) {
                (*waiter).next.set(woken.newest);
                woken.newest = waiter;
            }
        }
    }

    /// # Safety
    ///
    /// As [`claim_oldest`](Self::claim_oldest).
    #[inline]
    unsafe fn claim(&self, closed: u32) -> Option<(*mut Waiter, Claimed)> {
        loop {
            let waiter = self.oldest();
            if waiter.is_null() {
                return None;
            }
            // SAFETY: a linked waiter is alive (W2). One that turns out stale stays alive until the lock is released
            // (W5), a claimed one until it is made ready (W4).
            unsafe {
                self.unlink(waiter);
                let Waiter { parker, ticket, message, .. } = *waiter;
                let outcome = (*waiter).outcome + closed;
                if (*waiter).sole {
                    parker.claim_sole(ticket, outcome);
                } else if !parker.try_claim(ticket, outcome) {
                    continue;
                }
                return Some((waiter, Claimed { parker, message }));
            }
        }
    }
}

/// Waiters that a close has claimed, chained through their links until they are made ready.
pub(crate) struct Woken {
    newest: *mut Waiter,
}

impl Woken {
    pub(crate) fn new() -> Self {
        Self { newest: ptr::null_mut() }
    }

    /// Makes them all ready, the one that has waited longest first.
    ///
    /// # Safety
    ///
    /// The waiters come from [`Queue::claim_all_closed`], and the caller holds no lock.
    pub(crate) unsafe fn ready_all(self) {
        // SAFETY: each was claimed and is alive until its `ready` (W4); so its links are read before that.
        unsafe {
            let mut first = ptr::null_mut();
            let mut rest = self.newest;
            while !rest.is_null() {
                let next = (*rest).next.replace(first);
                first = rest;
                rest = next;
            }
            while !first.is_null() {
                let Waiter { parker, .. } = *first;
                first = (*first).next.get();
                parker.ready();
            }
        }
    }
}
