//! Sending in two steps: first the right to send, then the message.
//!
//! crossbeam's `Select` has to know that a send will succeed before it is given the message, and so has the arm
//! `send(tx, value)` of `select!`, which makes the value only when it was chosen. What it gets first is a [`Grant`];
//! while it waits for one, its waiter is an *offer*: a sender without a message.
//!
//! # The protocol
//!
//! - *There is room in the buffer.* A place is *reserved*, by number only: [`Grant::Room`]. The message goes behind
//!   those that are there when it is sent, or to a receiver that waits then. So a grant that takes its time holds up
//!   nobody, and messages are in the order in which the sends of messages happened.
//! - *There is none, and a receiver waits:* the channel has no buffer, or all of it is reserved. The sender claims the
//!   receiver, as any sender would, but makes it ready only later, when it has written the message: [`Grant::Receiver`].
//!   W4 allows that. The receiver's deadline, and the other channels of its select, are out of the game from the claim
//!   on; and where the grant is abandoned it waits behind those that came meanwhile.
//! - *The channel is closed:* [`Grant::Closed`].
//! - *Else the offer is queued* among the senders, and keeps its turn. When a receive makes room it is granted that. When
//!   a receiver finds it, and nothing in the buffer, the receiver opens a wait of its own, which is born claimed, hands
//!   itself over as a [`Grant::Receiver`], and parks. (So `try_recv` may park, until a sender that has been chosen to
//!   send has sent. Where crossbeam's receiver meets such a sender, it spins.)
//!
//! The grant is used up by the message, or *abandoned*: by a `SelectedOperation` that is dropped, or by `?` in the value
//! of a `send(tx, value)`. Then the receiver that was held is told to begin again, by the outcome [`ABANDONED`], and the
//! room goes to the sender that has waited longest. Only a grant that is leaked (`mem::forget`) keeps what it holds.
//!
//! # Invariants
//!
//! - **G1** `len + reserved <= cap`: a `Grant::Room` of a channel that is open can always be used without a wait. (What
//!   has no bound needs no count.)
//! - **G2** A claimed receiver is in one grant, and a grant is used or abandoned once: so its `ready` comes once.
//! - **G3** A message sent with a grant is received, or the channel was closed before it was sent, which gives it back.
//!   (A grant is no promise that the channel stays open; here the sender is told. crossbeam takes the message and drops
//!   it with the channel.)
//! - **G4** A receiver that accepts an offer is nobody's waiter: its wait can only be ended by the offer's owner, and is
//!   not one of a deadline or of a select's other arms, which it has left behind.

use std::panic::Location;
use std::ptr::{self, NonNull};

use super::{Chan, Core, Ending, Progress, Side, UNBOUNDED};
use crate::chan::lock::Lock;
use crate::chan::waiter::{ABANDONED, Claimed, DONE};
use crate::primitive::atomic::Ordering;
use crate::sched::park::{Parker, Wait, WaitReason, park};

/// The right to send one message without waiting, or the knowledge that the channel is closed.
///
/// Whoever has one [`send`](Self::send)s with it or [`abandon`](Self::abandon)s it.
#[must_use]
pub(crate) enum Grant {
    Closed,
    /// A place in the buffer of this channel, which is reserved unless there is no bound.
    Room(*const Core),
    /// A receiver, claimed and to be made ready, and its place for a message.
    Receiver(&'static Parker, *mut ()),
}

impl Grant {
    /// Sends `*from` with it, without waiting. It is moved out exactly if the result is [`Ending::Done`]; else the channel is
    /// closed.
    ///
    /// # Safety
    ///
    /// It is a grant of a channel of `T`s. Where it is for [`Room`](Self::Room), the channel is there still. `from` is a
    /// message that the caller gives away.
    pub(crate) unsafe fn send<T>(self, from: *const T) -> Ending {
        match self {
            Self::Closed => Ending::Closed,
            Self::Receiver(parker, place) => {
                // SAFETY: a receiver's place on this channel is one for a `T`, and ours until `ready` (W4, G2).
                unsafe { ptr::copy_nonoverlapping(from, place.cast(), 1) };
                parker.ready();
                Ending::Done
            }
            Self::Room(core) => {
                // SAFETY: the caller's promise; and the lock is held where it has to be.
                let progress = unsafe {
                    (*core).lock.lock();
                    (*core).unreserve();
                    (*Chan::<T>::of_core(core)).begin_send(from)
                };
                match progress {
                    Progress::Done => Ending::Done,
                    Progress::Closed => Ending::Closed,
                    Progress::Blocked => unreachable!("reserved room is room (G1)"),
                }
            }
        }
    }

    /// Gives it back unused.
    ///
    /// # Safety
    ///
    /// As [`send`](Self::send).
    pub(crate) unsafe fn abandon<T>(self) {
        match self {
            Self::Closed => {}
            Self::Receiver(parker, _) => {
                // Claimed by us, and not yet made ready (G2).
                parker.revise(ABANDONED);
                parker.ready();
            }
            // SAFETY: the caller's promise.
            Self::Room(core) => unsafe { (*Chan::<T>::of_core(core)).return_room() },
        }
    }
}

impl Core {
    /// Gets a grant if that needs no wait, and writes it to `grant` if the result is not [`Progress::Blocked`].
    ///
    /// # Safety
    ///
    /// `this` is from [`Chan::core_of`]. The caller holds the lock. `grant` is a place for one.
    pub(crate) unsafe fn begin_offer(this: *const Self, grant: *mut Grant) -> Progress {
        // SAFETY: the caller's promise. The lock is held until it is released below.
        unsafe {
            let core = &*this;
            let has_room = core.has_room(core.len.load(Ordering::Relaxed));
            if (!has_room || core.closed.load(Ordering::Relaxed))
                && let Some(receiver) = core.receivers.claim_oldest()
            {
                core.lock.unlock();
                grant.write(Grant::Receiver(receiver.parker(), receiver.message()));
                return Progress::Done;
            }
            if core.closed.load(Ordering::Relaxed) {
                core.lock.unlock();
                grant.write(Grant::Closed);
                return Progress::Closed;
            }
            if !has_room {
                return Progress::Blocked;
            }
            core.reserve();
            core.lock.unlock();
            grant.write(Grant::Room(this));
            Progress::Done
        }
    }

    /// Grants an offer the room that there is, and releases the lock.
    ///
    /// # Safety
    ///
    /// `this` is from [`Chan::core_of`]. The caller holds the lock; there is room. `offer` was claimed on this channel,
    /// and offers.
    #[cold]
    pub(super) unsafe fn grant_room(this: *const Self, offer: Claimed) {
        // SAFETY: the caller's promise.
        unsafe {
            Self::promise_room(this, &offer);
            (*this).lock.unlock();
        }
        offer.ready();
    }

    /// Under the lock. Grants an offer room, and leaves it to the caller to make it ready.
    ///
    /// # Safety
    ///
    /// As [`grant_room`](Self::grant_room).
    pub(in crate::chan) unsafe fn promise_room(this: *const Self, offer: &Claimed) {
        // SAFETY: the caller's promise. An offer's message place is one for a grant, and ours until `ready` (W3, W4).
        unsafe {
            (*this).reserve();
            offer.message().cast::<Grant>().write(Grant::Room(this));
        }
    }

    /// Receives to `into` from an offer, once its owner sends. `false`: it has given up. Releases the lock.
    ///
    /// # Safety
    ///
    /// The caller holds the lock, and is not queued anywhere. `offer` was claimed on this channel, and offers. `into` is
    /// a place for a message of the channel's type.
    #[cold]
    #[inline(never)]
    pub(super) unsafe fn accept_offer(
        &self,
        offer: Claimed,
        into: *mut (),
        location: &'static Location<'static>,
    ) -> bool {
        struct Accept<'a> {
            lock: &'a Lock,
            offer: Claimed,
        }

        /// # Safety
        ///
        /// `accept` is an [`Accept`] whose lock is held.
        unsafe fn unlock_and_ready(accept: *mut ()) {
            // SAFETY: the caller's promise. With `ready` the frame may be gone: it is moved out before. The channel stays
            // until the lock is released, since its receiver has parked.
            unsafe {
                let Accept { lock, offer } = accept.cast::<Accept<'_>>().read();
                lock.unlock();
                offer.ready();
            }
        }

        Parker::with_current(|parker| {
            let ticket = parker.begin();
            // Born claimed (G4).
            parker.claim_sole(ticket, DONE);
            // SAFETY: an offer's message place is one for a grant, and ours until `ready` (W3, W4).
            unsafe { offer.message().cast::<Grant>().write(Grant::Receiver(parker, into)) };
            let wait = Wait { reason: WaitReason::Receive, location, deadline: None };
            let mut accept = Accept { lock: &self.lock, offer };
            // SAFETY: the parker is ours and the ticket its newest. Nobody knows of the wait before the offer is made
            // ready, which the commit does last.
            let outcome = unsafe { park(parker, ticket, wait, unlock_and_ready, (&raw mut accept).cast()) };
            debug_assert!(outcome == DONE || outcome == ABANDONED);
            outcome == DONE
        })
    }

    /// Under the lock. Reserves room, of which there is some.
    fn reserve(&self) {
        if self.cap != UNBOUNDED {
            // Only by forgetting grants without end.
            let Some(reserved) = self.reserved.get().checked_add(1) else { std::process::abort() };
            self.reserved.set(reserved);
            self.note_unusual();
        }
    }

    /// Under the lock. Gives up what [`reserve`](Self::reserve) has reserved.
    fn unreserve(&self) {
        if self.cap != UNBOUNDED {
            self.reserved.set(self.reserved.get() - 1);
            self.note_unusual();
        }
    }
}

impl<T> Chan<T> {
    /// Lets somebody else have the room that was reserved.
    ///
    /// # Safety
    ///
    /// The caller has reserved it.
    unsafe fn return_room(&self) {
        let core = &self.core;
        if core.cap == UNBOUNDED {
            return;
        }
        core.lock.lock();
        core.unreserve();
        // SAFETY: the lock is held, and the buffer, a ring, is ours (C1) and has room. The claimed sender's message is
        // ours until `ready` (W3, W4).
        unsafe {
            match core.senders.claim_oldest() {
                Some(sender) if sender.offers() => Core::grant_room(Self::core_of(NonNull::from(self)), sender),
                Some(sender) => {
                    let len = core.len.load(Ordering::Relaxed);
                    let slot = (*self.buffer.get()).ring.push_slot(core.cap);
                    ptr::copy_nonoverlapping(sender.message().cast::<T>(), slot, 1);
                    core.set_len(len, len + 1);
                    core.unlock_and_tell(Side::Receive);
                    sender.ready();
                }
                None => core.unlock_and_tell(Side::Send),
            }
        }
    }
}
