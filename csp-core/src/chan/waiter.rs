//! Waiters, and the queue of them that a channel keeps for each side.

use std::cell::Cell;
use std::ptr::{self, NonNull};

use crate::primitive::atomic::{AtomicPtr, Ordering};
use crate::sched::park::{FIRST_OUTCOME, Parker, Ticket};

/// The outcome of a wait whose claimer has taken its word back: the owner begins again.
pub(crate) const ABANDONED: u32 = FIRST_OUTCOME;
/// The outcome of a wait whose operation was carried out, for the waiter with index 0.
pub(crate) const DONE: u32 = FIRST_OUTCOME + 1;
/// The outcome of a wait whose channel was closed, for the waiter with index 0.
pub(crate) const CLOSED: u32 = FIRST_OUTCOME + 2;
/// The waiters from this index on share two outcomes: [`Waiter::was_claimed`] tells them apart.
pub(crate) const SHARED: u32 = 1 << 14;

/// One goroutine or thread queued on one side of one channel. See the invariants W1 to W7 in [`chan`](super).
pub(crate) struct Waiter {
    /// Neighbours in a ring; `next` is null exactly while the waiter is not linked, or on its way to its `ready`. `prev`
    /// is null where it never was linked, or was found stale.
    next: Cell<*mut Waiter>,
    prev: Cell<*mut Waiter>,
    parker: &'static Parker,
    /// A receiver's place for the message, or a sender's message. An offer's place for the [`Grant`](super::raw::Grant).
    message: *mut (),
    ticket: Ticket,
    /// What a claimer makes the outcome: this where the operation was carried out, one more where the channel was
    /// closed.
    outcome: u32,
    /// Whether this is the only waiter of its wait, and the wait has no deadline.
    sole: bool,
    /// Whether this is a sender that has no message yet: an offer.
    offers: bool,
    /// Stands for what `message` points to, and the owner's frame, of which Loom knows nothing.
    #[cfg(csp_loom)]
    frame: loom::cell::UnsafeCell<()>,
}

impl Waiter {
    /// The `index`-th waiter of a wait. It has a message, or a place for one.
    #[inline(always)]
    pub(crate) fn new(parker: &'static Parker, ticket: Ticket, message: *mut (), index: u32, sole: bool) -> Self {
        Self {
            next: Cell::new(ptr::null_mut()),
            prev: Cell::new(ptr::null_mut()),
            parker,
            message,
            ticket,
            outcome: DONE + 2 * index.min(SHARED),
            sole,
            offers: false,
            #[cfg(csp_loom)]
            frame: loom::cell::UnsafeCell::new(()),
        }
    }

    /// Where it `offers`, it is a sender that has no message yet; its claimer writes a grant to what is passed for the
    /// message.
    #[inline(always)]
    pub(crate) fn offering(mut self, offers: bool) -> Self {
        self.offers = offers;
        self
    }

    /// In a model: the owner's wait is over, and so is the waiter.
    #[inline(always)]
    pub(crate) fn end(&self) {
        self.use_frame();
        #[cfg(csp_loom)]
        assert!(!self.is_linked(), "a waiter is left in its queue (W2)");
    }

    /// In a model: uses the frame, as the owner does after its wait, and the claimer before it makes the owner ready.
    #[inline(always)]
    pub(crate) fn use_frame(&self) {
        #[cfg(csp_loom)]
        self.frame.with_mut(|_| ());
    }

    #[inline]
    pub(crate) fn is_linked(&self) -> bool {
        !self.next.get().is_null()
    }

    /// Whether it is the one of its wait's waiters by which the wait was claimed. For the owner, once that is over, and
    /// under the lock.
    pub(crate) fn was_claimed(&self) -> bool {
        !self.is_linked() && !self.prev.get().is_null()
    }
}

/// A claimed waiter. It owes a `ready`, before which it and its owner's frame stay (W4).
#[must_use]
pub(crate) struct Claimed(NonNull<Waiter>);

impl Claimed {
    #[inline]
    fn waiter(&self) -> &Waiter {
        // SAFETY: alive until `ready`, which consumes this (W4); constant but for its links (W1).
        unsafe { self.0.as_ref() }
    }

    /// Where a receiver's message goes, or where a sender's is; where a grant goes, if it [`offers`](Self::offers).
    #[inline]
    pub(crate) fn message(&self) -> *mut () {
        self.waiter().message
    }

    /// Whether it is a sender that has no message yet.
    #[inline]
    pub(crate) fn offers(&self) -> bool {
        self.waiter().offers
    }

    #[inline]
    pub(crate) fn parker(&self) -> &'static Parker {
        self.waiter().parker
    }

    /// See [`Waiter::use_frame`].
    #[inline(always)]
    pub(crate) fn use_frame(&self) {
        self.waiter().use_frame();
    }

    /// Lets the owner go on.
    #[inline]
    pub(crate) fn ready(self) {
        self.use_frame();
        self.parker().ready();
    }
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
        unsafe { self.claim(0).map(Claimed) }
    }

    /// Whether there is a waiter whose wait is open. Drops the stale ones before it.
    ///
    /// # Safety
    ///
    /// The caller holds the channel's lock.
    pub(crate) unsafe fn has_open(&self) -> bool {
        while let Some(waiter) = NonNull::new(self.oldest()) {
            // SAFETY: the caller's promise. The waiter is linked.
            if unsafe { !self.discard_stale(waiter) } {
                return true;
            }
        }
        false
    }

    /// Takes a waiter out if its wait is over. Says whether it was.
    ///
    /// # Safety
    ///
    /// The caller holds the channel's lock. The waiter is linked in this queue.
    unsafe fn discard_stale(&self, waiter: NonNull<Waiter>) -> bool {
        // SAFETY: as in `claim_this`.
        unsafe {
            let Waiter { parker, ticket, ref prev, .. } = *waiter.as_ptr();
            let stale = !parker.is_open(ticket);
            if stale {
                self.unlink(waiter.as_ptr());
                prev.set(ptr::null_mut());
            }
            stale
        }
    }

    /// As [`claim_oldest`](Self::claim_oldest), unless that is an offer, which keeps its turn.
    ///
    /// # Safety
    ///
    /// As [`claim_oldest`](Self::claim_oldest).
    pub(crate) unsafe fn claim_message(&self) -> Option<Claimed> {
        // SAFETY: the caller's promise.
        unsafe { self.claim_if(|waiter| !waiter.offers) }
    }

    /// As [`claim_oldest`](Self::claim_oldest), if that is an offer; a sender with a message keeps its turn.
    ///
    /// # Safety
    ///
    /// As [`claim_oldest`](Self::claim_oldest).
    pub(crate) unsafe fn claim_offer(&self) -> Option<Claimed> {
        // SAFETY: the caller's promise.
        unsafe { self.claim_if(|waiter| waiter.offers) }
    }

    /// # Safety
    ///
    /// As [`claim_oldest`](Self::claim_oldest).
    #[inline]
    unsafe fn claim_if(&self, wanted: impl Fn(&Waiter) -> bool) -> Option<Claimed> {
        // SAFETY: the caller's promise. A linked waiter is alive (W2).
        unsafe {
            while let Some(waiter) = NonNull::new(self.oldest()) {
                if wanted(waiter.as_ref()) {
                    if self.claim_this(waiter, 0) {
                        return Some(Claimed(waiter));
                    }
                } else if !self.discard_stale(waiter) {
                    break;
                }
            }
        }
        None
    }

    /// How many waiters are linked, if less than `limit`, else that.
    ///
    /// # Safety
    ///
    /// The caller holds the channel's lock.
    pub(crate) unsafe fn count(&self, limit: usize) -> usize {
        let first = self.oldest();
        let mut count = 0;
        let mut waiter = first;
        while !waiter.is_null() && count < limit {
            count += 1;
            // SAFETY: linked waiters are alive, and their links are ours under the lock (W2).
            let next = unsafe { (*waiter).next.get() };
            waiter = if next == first { ptr::null_mut() } else { next };
        }
        count
    }

    /// Takes out every waiter and ends their waits with the outcome "closed". Gives those that were still open.
    ///
    /// # Safety
    ///
    /// The caller holds the channel's lock, and passes the result to [`Woken::ready_all`] after releasing it.
    pub(crate) unsafe fn claim_all_closed(&self, woken: &mut Woken) {
        // SAFETY: the caller's promise.
        unsafe { self.claim_all(1, woken) };
    }

    /// Takes out every waiter and ends their waits with the outcome "done", though nobody has done anything: for those
    /// that wait for an operation to become possible. Gives those that were still open.
    ///
    /// # Safety
    ///
    /// As [`claim_all_closed`](Self::claim_all_closed).
    pub(crate) unsafe fn claim_all_done(&self, woken: &mut Woken) {
        // SAFETY: the caller's promise.
        unsafe { self.claim_all(0, woken) };
    }

    /// # Safety
    ///
    /// As [`claim_all_closed`](Self::claim_all_closed).
    unsafe fn claim_all(&self, closed: u32, woken: &mut Woken) {
        // SAFETY: the caller's promise. The waiter is claimed and unlinked, so its links are ours until its `ready`
        // (W4).
        unsafe {
            while let Some(waiter) = self.claim(closed) {
                waiter.as_ref().next.set(woken.newest);
                woken.newest = waiter.as_ptr();
            }
        }
    }

    /// # Safety
    ///
    /// As [`claim_oldest`](Self::claim_oldest).
    #[inline]
    unsafe fn claim(&self, closed: u32) -> Option<NonNull<Waiter>> {
        loop {
            let waiter = NonNull::new(self.oldest())?;
            // SAFETY: the caller's promise. The waiter is linked.
            if unsafe { self.claim_this(waiter, closed) } {
                return Some(waiter);
            }
        }
    }

    /// Takes a waiter out, and ends its wait if that is still open. Says whether it was.
    ///
    /// # Safety
    ///
    /// As [`claim_oldest`](Self::claim_oldest). The waiter is linked in this queue.
    #[inline]
    unsafe fn claim_this(&self, waiter: NonNull<Waiter>, closed: u32) -> bool {
        // SAFETY: a linked waiter is alive (W2). One that turns out stale stays alive until the lock is released (W5), a
        // claimed one until it is made ready (W4).
        unsafe {
            self.unlink(waiter.as_ptr());
            let Waiter { parker, ticket, outcome, sole, ref prev, .. } = *waiter.as_ptr();
            if sole {
                parker.claim_sole(ticket, outcome + closed);
                return true;
            }
            let open = parker.try_claim(ticket, outcome + closed);
            if !open {
                prev.set(ptr::null_mut());
            }
            open
        }
    }
}

/// Waiters that were claimed in one critical section, chained through their links until they are made ready.
#[must_use]
#[derive(Clone, Copy)]
pub(crate) struct Woken {
    newest: *mut Waiter,
}

impl Woken {
    pub(crate) fn new() -> Self {
        Self { newest: ptr::null_mut() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.newest.is_null()
    }

    /// Makes them all ready, the one that has waited longest first.
    ///
    /// # Safety
    ///
    /// The waiters come from [`Queue::claim_all_closed`] or [`Queue::claim_all_done`], the caller holds no lock, and
    /// none is made ready twice.
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
                first = (*first).next.replace(ptr::null_mut());
                parker.ready();
            }
        }
    }
}

/// Claimed waiters, first in first out, chained through their links until each is made ready.
pub(crate) struct Claims {
    first: *mut Waiter,
    last: *mut Waiter,
}

impl Claims {
    pub(crate) fn new() -> Self {
        Self { first: ptr::null_mut(), last: ptr::null_mut() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_null()
    }

    pub(crate) fn push(&mut self, Claimed(waiter): Claimed) {
        // SAFETY: claimed waiters are alive until their `ready`, and their links are their claimer's (W4).
        unsafe {
            waiter.as_ref().next.set(ptr::null_mut());
            if self.first.is_null() {
                self.first = waiter.as_ptr();
            } else {
                (*self.last).next.set(waiter.as_ptr());
            }
        }
        self.last = waiter.as_ptr();
    }

    pub(crate) fn pop(&mut self) -> Option<Claimed> {
        let waiter = NonNull::new(self.first)?;
        // SAFETY: as above. Its owner is to find it unlinked.
        self.first = unsafe { waiter.as_ref().next.replace(ptr::null_mut()) };
        Some(Claimed(waiter))
    }

    /// Makes them all ready, the one that has waited longest first.
    pub(crate) fn ready_all(mut self) {
        while let Some(claimed) = self.pop() {
            claimed.ready();
        }
    }
}
