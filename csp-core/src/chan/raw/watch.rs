//! Waiting until an operation is possible, without carrying it out: what `Select::ready` needs.
//!
//! A watcher is a waiter in a queue of its own, so that those who look for a partner do not find it. It is made ready by
//! whatever makes its operation possible, and begins again: all watchers of a side are, since none of them is bound to
//! make use of it.
//!
//! - A receive becomes possible when a message enters the buffer, when a sender joins the queue, or on closing.
//! - A send becomes possible when a place in the buffer gets free, when a receiver joins the queue, or on closing.
//!
//! Whoever does one of these looks at the flag `watched`, which lies beside the lock, before it releases that. A watcher
//! joins its queue under the lock, and only while the operation is not possible: so it misses nothing.

use super::{Core, Side};
use crate::chan::lock::Lock;
use crate::chan::waiter::{Queue, Waiter, Woken};
use crate::sched::park::{Parker, Ticket, Wait, park};

/// Those who wait for each operation to become possible.
pub(super) struct Watchers {
    receivers: Queue,
    senders: Queue,
}

impl Watchers {
    pub(super) fn new() -> Self {
        Self { receivers: Queue::new(), senders: Queue::new() }
    }

    fn queue(&self, side: Side) -> &Queue {
        match side {
            Side::Send => &self.senders,
            Side::Receive => &self.receivers,
        }
    }
}

impl Core {
    /// Queues a watcher.
    ///
    /// # Safety
    ///
    /// As [`Queue::push`]. The operation of that side is not possible.
    pub(crate) unsafe fn watch(&self, side: Side, watcher: *const Waiter) {
        self.watched.set(true);
        self.note_unusual();
        // SAFETY: the caller's promise.
        unsafe { self.watchers.queue(side).push(watcher) };
    }

    /// Takes a watcher out.
    ///
    /// # Safety
    ///
    /// As [`Queue::unlink`].
    pub(crate) unsafe fn unwatch(&self, side: Side, watcher: *const Waiter) {
        // SAFETY: the caller's promise.
        unsafe { self.watchers.queue(side).unlink(watcher) };
        self.note_watched();
    }

    fn note_watched(&self) {
        let Watchers { receivers, senders } = &self.watchers;
        self.watched.set(!(receivers.is_empty() && senders.is_empty()));
        self.note_unusual();
    }

    /// The operation of that side becomes possible: claims all who wait for that.
    ///
    /// # Safety
    ///
    /// The caller holds the lock; `woken` is made ready after its release.
    #[inline]
    pub(crate) unsafe fn claim_watchers(&self, side: Side, woken: &mut Woken) {
        if self.watched.get() {
            // SAFETY: the caller's promise.
            unsafe { self.watchers.queue(side).claim_all_done(woken) };
            self.note_watched();
        }
    }

    /// Releases the lock after the operation of that side has become possible, and makes ready who waits for that.
    ///
    /// # Safety
    ///
    /// The caller holds the lock.
    #[inline(always)]
    pub(super) unsafe fn unlock_and_tell(&self, side: Side) {
        // SAFETY: the caller's promise.
        unsafe {
            if self.watched.get() {
                self.unlock_and_tell_watchers(side);
            } else {
                self.lock.unlock();
            }
        }
    }

    /// # Safety
    ///
    /// The caller holds the lock.
    #[cold]
    #[inline(never)]
    unsafe fn unlock_and_tell_watchers(&self, side: Side) {
        let mut woken = Woken::new();
        // SAFETY: the lock is held until it is released here.
        unsafe {
            self.claim_watchers(side, &mut woken);
            self.lock.unlock();
            woken.ready_all();
        }
    }

    /// Parks the caller, who has just joined the queue of `side`, on a channel with watchers: with that the operation of
    /// the other side has become possible.
    ///
    /// # Safety
    ///
    /// As [`park`]. The caller holds the lock, which this releases.
    #[cold]
    pub(super) unsafe fn park_watched(&self, side: Side, parker: &'static Parker, ticket: Ticket, wait: Wait) -> u32 {
        struct Release<'a> {
            lock: &'a Lock,
            woken: Woken,
        }

        /// # Safety
        ///
        /// `release` is a [`Release`] whose lock is held.
        unsafe fn unlock_and_ready(release: *mut ()) {
            // SAFETY: the caller's promise. Read before the release, after which the frame may be gone. The watchers are
            // alive until they are made ready (W4).
            unsafe {
                let Release { lock, woken } = release.cast::<Release<'_>>().read();
                lock.unlock();
                woken.ready_all();
            }
        }

        let mut woken = Woken::new();
        // SAFETY: the lock is held. The commit makes them ready, once.
        unsafe { self.claim_watchers(side.other(), &mut woken) };
        let mut release = Release { lock: &self.lock, woken };
        // SAFETY: the caller's promise. The commit reads the frame before it releases the lock, and the lock is in a
        // channel that the caller borrows until then.
        unsafe { park(parker, ticket, wait, unlock_and_ready, (&raw mut release).cast()) }
    }
}
