//! The channel itself, below its handles.

mod grant;
mod watch;

use std::cell::{Cell, UnsafeCell};
use std::mem::{MaybeUninit, offset_of};
use std::panic::{self, AssertUnwindSafe, Location};
use std::ptr::{self, NonNull};
use std::time::Instant;

use super::buffer::{Block, Buffer, List, Ring, UNBOUNDED};
use super::lock::Lock;
use super::reply::{Received, reply};
use super::waiter::{ABANDONED, CLOSED, Claimed, DONE, Queue, Waiter, Woken};
use crate::primitive::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sched::park::{Parker, TIMED_OUT, Wait, WaitReason, park};
pub(crate) use grant::Grant;
use watch::Watchers;

/// A receiver waits for a message that is larger with a place for it on the heap, in bytes. On its stack there may be
/// no room for one more, and next to copying such a message an allocation does not count.
const LARGE: usize = 16 << 10;

/// A side of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Send,
    Receive,
}

impl Side {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Send => Self::Receive,
            Self::Receive => Self::Send,
        }
    }
}

/// How far an operation came that does not wait.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Done, and the lock is released.
    Done,
    /// The channel is closed (and empty, for a receive), and the lock is released.
    Closed,
    /// It has to wait, and **the lock is still held**.
    Blocked,
}

/// How an operation ended that may have waited.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Done,
    Closed,
    TimedOut,
}

impl Ending {
    /// That of a wait with one waiter; `None` if it is to begin again.
    fn of(outcome: u32) -> Option<Self> {
        Some(match outcome {
            DONE => Self::Done,
            CLOSED => Self::Closed,
            ABANDONED => return None,
            _ => {
                debug_assert_eq!(outcome, TIMED_OUT);
                Self::TimedOut
            }
        })
    }
}

/// What there is to a channel but its messages: all that waiting and selecting have to know.
#[repr(C)]
pub(crate) struct Core {
    pub(crate) lock: Lock,
    pub(super) closed: AtomicBool,
    /// Whether anybody is in `watchers`.
    watched: Cell<bool>,
    /// Whether it is closed, watched, or has reserved places: what a send need not ask for one by one where it is not so.
    unusual: Cell<bool>,
    /// The places in the buffer that are granted to sends whose messages are still to come.
    pub(super) reserved: Cell<u32>,
    pub(super) len: AtomicUsize,
    pub(super) cap: usize,
    pub(super) receivers: Queue,
    pub(super) senders: Queue,
    watchers: Watchers,
    #[cfg(csp_loom)]
    id: usize,
}

impl Core {
    /// What selects lock channels in the order of.
    #[cfg(not(csp_loom))]
    #[inline]
    pub(crate) fn rank(&self) -> usize {
        (&raw const *self).addr()
    }

    /// Addresses may differ from one execution of a model to the next, which Loom takes for the same.
    #[cfg(csp_loom)]
    pub(crate) fn rank(&self) -> usize {
        self.id
    }

    /// Whether a receive would have to wait. Without the lock: it was so at some moment during the call.
    #[inline]
    pub(crate) fn recv_would_block(&self) -> bool {
        // The emptiness first: the channel was open when it was empty if it is still open now (C2). Acquire: pairs with
        // the Release of `len` (or of the queue's end), so that whoever sees the buffer drained after a close sees the
        // close as well. SeqCst: see `set_len`. The buffer may be empty and senders wait, where all of it is reserved.
        let empty = self.len.load(Ordering::SeqCst) == 0 && self.senders.is_empty();
        empty && !self.closed.load(Ordering::SeqCst)
    }

    /// Whether a send would have to wait. Without the lock: it was so at some moment during the call.
    #[inline]
    pub(crate) fn send_would_block(&self) -> bool {
        // The order as in `recv_would_block`.
        let full = self.len.load(Ordering::SeqCst) >= self.cap && (self.cap != 0 || self.receivers.is_empty());
        full && !self.closed.load(Ordering::SeqCst)
    }

    #[inline]
    pub(crate) fn would_block(&self, side: Side) -> bool {
        match side {
            Side::Send => self.send_would_block(),
            Side::Receive => self.recv_would_block(),
        }
    }

    /// As [`would_block`](Self::would_block), to the letter: reserved places are not room, and stale waiters are nobody.
    ///
    /// # Safety
    ///
    /// The caller holds the lock.
    pub(crate) unsafe fn blocks(&self, side: Side) -> bool {
        // SAFETY: the lock is held.
        let nobody_waits = unsafe { !self.queue(side.other()).has_open() };
        let len = self.len.load(Ordering::Relaxed);
        let blocks = match side {
            Side::Send => !self.has_room(len),
            Side::Receive => len == 0,
        };
        blocks && nobody_waits && !self.closed.load(Ordering::Relaxed)
    }

    /// Under the lock. Whether there is room beside `len` messages that is not reserved.
    #[inline(always)]
    pub(super) fn has_room(&self, len: usize) -> bool {
        len + (self.reserved.get() as usize) < self.cap
    }

    #[inline]
    pub(crate) fn queue(&self, side: Side) -> &Queue {
        match side {
            Side::Send => &self.senders,
            Side::Receive => &self.receivers,
        }
    }

    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        // Acquire: pairs with the Release in `close_locked`. SeqCst: see `set_len`.
        self.closed.load(Ordering::SeqCst)
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        // Acquire: pairs with the Release in `set_len`. SeqCst: see there.
        self.len.load(Ordering::SeqCst)
    }

    /// `None`: no bound.
    #[inline]
    pub(crate) fn capacity(&self) -> Option<usize> {
        (self.cap != UNBOUNDED).then_some(self.cap)
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.len() >= self.cap
    }

    /// Under the lock. Changes the number of messages from `old` to `len`.
    #[inline]
    pub(super) fn set_len(&self, old: usize, len: usize) {
        self.set_len_and_tell(len, old == 0 || old == self.cap);
    }

    /// As [`set_len`](Self::set_len), where `reversed` says whether the channel was empty, or full, before.
    #[inline(always)]
    fn set_len_and_tell(&self, len: usize, reversed: bool) {
        // Release: pairs with the Acquire in `len`, `recv_would_block` and `send_would_block`.
        if reversed {
            // No longer empty, or no longer full. SeqCst: pairs with the SeqCst of those who look without the lock. A
            // plain store may become visible after what its thread looks at next; then two who each send to the other
            // and look for the other's message would both find none, and so would one who looks for an idle flag and
            // one who raises it and looks at the channel.
            self.len.swap(len, Ordering::SeqCst);
        } else {
            self.len.store(len, Ordering::Release);
        }
    }

    /// Under the lock. To be called when any of the three has changed.
    pub(super) fn note_unusual(&self) {
        let closed = self.closed.load(Ordering::Relaxed);
        self.unusual.set(closed || self.watched.get() || self.reserved.get() != 0);
    }

    /// How many are queued as senders, and as receivers.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        self.lock.lock();
        // SAFETY: the lock is held until the last line.
        unsafe {
            let waiting = (self.senders.len(), self.receivers.len());
            self.lock.unlock();
            waiting
        }
    }

    /// Closes the channel. Says whether it was open.
    pub(crate) fn close(&self) -> bool {
        let mut woken = Woken::new();
        self.lock.lock();
        // SAFETY: the lock is held; and no longer so at `ready_all`.
        unsafe {
            let was_open = self.close_locked(&mut woken);
            self.lock.unlock();
            woken.ready_all();
            was_open
        }
    }

    /// # Safety
    ///
    /// The lock is held; `woken` is made ready after its release.
    unsafe fn close_locked(&self, woken: &mut Woken) -> bool {
        if self.closed.load(Ordering::Relaxed) {
            return false;
        }
        // Release: pairs with the Acquire of those who look without the lock. SeqCst: see `set_len`.
        self.closed.store(true, Ordering::SeqCst);
        self.note_unusual();
        // SAFETY: the lock is held.
        unsafe {
            self.receivers.claim_all_closed(woken);
            self.senders.claim_all_closed(woken);
            self.claim_watchers(Side::Send, woken);
            self.claim_watchers(Side::Receive, woken);
        }
        true
    }

    /// On a plain thread: releases the lock for a little while, until the operation may go on or a thread is better off
    /// asleep. Says whether it did; then all may have changed. So the threads at the two ends of a buffer work side by
    /// side, instead of handing each message over by a wake-up.
    ///
    /// # Safety
    ///
    /// The caller holds the lock, as it does afterwards.
    #[cfg(not(csp_loom))]
    #[inline(always)]
    unsafe fn linger(&self, side: Side, timed: bool) -> bool {
        let lingers = self.cap != 0 && !Parker::is_goroutine();
        if lingers {
            // SAFETY: the caller's promise.
            unsafe { self.linger_as_thread(side, timed) };
        }
        lingers
    }

    /// # Safety
    ///
    /// As [`linger`](Self::linger).
    #[cfg(not(csp_loom))]
    #[inline(never)]
    unsafe fn linger_as_thread(&self, side: Side, timed: bool) {
        // SAFETY: the caller's promise.
        unsafe { self.lock.unlock() };
        crate::primitive::linger(timed, || !self.would_block(side));
        self.lock.lock();
    }

    #[cfg(csp_loom)]
    unsafe fn linger(&self, _: Side, _: bool) -> bool {
        false
    }

    /// Waits on one side of this channel alone. `None`: a receive is to begin again, since the sender that had claimed it has
    /// given up.
    ///
    /// # Safety
    ///
    /// The caller holds the lock, which this releases; its operation has to wait. `message` is where a message of the
    /// channel's type goes to, or where there is one that the caller gives away; it is not touched until this returns.
    #[inline(always)]
    unsafe fn wait(
        &self,
        side: Side,
        message: *mut (),
        deadline: Option<Instant>,
        location: &'static Location<'static>,
    ) -> Option<Ending> {
        let reason = match side {
            Side::Send => WaitReason::Send,
            Side::Receive => WaitReason::Receive,
        };
        let current = Parker::current();
        let parker = current.parker;
        let ticket = parker.begin();
        let waiter = Waiter::new(parker, ticket, message, 0, deadline.is_none());
        let queue = self.queue(side);
        let wait = Wait { reason, location, deadline };
        // SAFETY: the lock is held. The waiter stays here until it is unlinked: by its claimer, or, where the deadline has
        // ended the wait, below (W2, W5).
        unsafe { queue.push(&waiter) };
        let outcome = if self.watched.get() {
            // SAFETY: as below.
            unsafe { self.park_watched(side, parker, ticket, wait) }
        } else {
            // SAFETY: the parker is ours and the ticket its newest. The commit's one access is to the lock, in a channel
            // that the caller borrows: a plain store, which is the last of it.
            unsafe { park(parker, ticket, wait, unlock, (&raw const self.lock).cast_mut().cast()) }
        };
        if outcome == TIMED_OUT {
            self.lock.lock();
            // SAFETY: the lock is held.
            unsafe {
                if waiter.is_linked() {
                    queue.unlink(&waiter);
                }
                self.lock.unlock();
            }
        }
        waiter.end();
        Ending::of(outcome)
    }
}

/// The commit of a wait on one channel.
///
/// # Safety
///
/// `lock` is a [`Lock`] that is held, and this one's to release.
unsafe fn unlock(lock: *mut ()) {
    // SAFETY: the caller's promise.
    unsafe { (*lock.cast::<Lock>()).unlock() };
}

/// A channel of `T`.
///
/// The buffer's words and the core's but for the watchers share the first cache line; what is rarely used has the second.
#[repr(C, align(64))]
pub(crate) struct Chan<T> {
    pub(super) buffer: UnsafeCell<Buffer<T>>,
    pub(super) core: Core,
    /// A block for the list to come, so that most blocks are not allocated but used again. Or null.
    pub(super) spare: Cell<*mut Block<T>>,
    handles: Handles,
}

#[cfg(all(target_pointer_width = "64", not(csp_loom)))]
const _: () = assert!(offset_of!(Chan<u8>, core) + offset_of!(Core, watchers) == 64 && size_of::<Chan<u8>>() == 128);

struct Handles {
    senders: AtomicUsize,
    receivers: AtomicUsize,
    /// Whether one side has gone for good: the other one frees the channel when it goes.
    one_side_gone: AtomicBool,
}

impl<T> Chan<T> {
    /// A channel with one handle on each side.
    ///
    /// # Panics
    ///
    /// Where `cap` messages exceed what an allocation can be.
    pub(crate) fn bounded(cap: usize) -> NonNull<Self> {
        Self::with_buffer(cap, Buffer { ring: Ring::new(cap) })
    }

    /// A channel with one handle on each side.
    pub(crate) fn unbounded() -> NonNull<Self> {
        Self::with_buffer(UNBOUNDED, Buffer { list: List::new() })
    }

    fn with_buffer(cap: usize, buffer: Buffer<T>) -> NonNull<Self> {
        let chan = Self {
            core: Core {
                lock: Lock::new(),
                closed: AtomicBool::new(false),
                watched: Cell::new(false),
                unusual: Cell::new(false),
                reserved: Cell::new(0),
                len: AtomicUsize::new(0),
                cap,
                receivers: Queue::new(),
                senders: Queue::new(),
                watchers: Watchers::new(),
                #[cfg(csp_loom)]
                id: {
                    static IDS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
                    IDS.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
                },
            },
            buffer: UnsafeCell::new(buffer),
            spare: Cell::new(ptr::null_mut()),
            handles: Handles {
                senders: AtomicUsize::new(1),
                receivers: AtomicUsize::new(1),
                one_side_gone: AtomicBool::new(false),
            },
        };
        NonNull::from(Box::leak(Box::new(chan)))
    }

    #[inline]
    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    /// The core of a channel, for those that have to do with channels of any type.
    ///
    /// # Safety
    ///
    /// `chan` is a channel.
    #[inline]
    pub(crate) unsafe fn core_of(chan: NonNull<Self>) -> *const Core {
        // SAFETY: the caller's promise.
        unsafe { &raw const (*chan.as_ptr()).core }
    }

    /// The way back.
    ///
    /// # Safety
    ///
    /// `core` comes from [`core_of`](Self::core_of), of a channel of this type.
    #[inline]
    pub(crate) unsafe fn of_core(core: *const Core) -> *const Self {
        // SAFETY: the caller's promise.
        unsafe { core.byte_sub(offset_of!(Self, core)).cast() }
    }

    /// Sends `*from` if that needs no wait. It is moved out exactly if the result is [`Progress::Done`].
    ///
    /// # Safety
    ///
    /// The caller holds the lock. `from` is a message that the caller gives away.
    #[inline(always)]
    pub(crate) unsafe fn begin_send(&self, from: *const T) -> Progress {
        let core = &self.core;
        let len = core.len.load(Ordering::Relaxed);
        // SAFETY: the lock is held, so the buffer is ours (C1). It is the list where there is no bound, else the ring. It
        // has room, since nothing is reserved; the slot is new, so it does not overlap `from`.
        unsafe {
            if !core.receivers.is_empty() || core.unusual.get() {
                return self.begin_send_unusually(from);
            }
            if len >= core.cap {
                return Progress::Blocked;
            }
            let buffer = &mut *self.buffer.get();
            let slot = if core.cap == UNBOUNDED {
                if buffer.list.needs_block() {
                    return self.begin_send_unusually(from);
                }
                buffer.list.push_slot()
            } else {
                buffer.ring.push_slot(core.cap)
            };
            ptr::copy_nonoverlapping(from, slot, 1);
            core.set_len_and_tell(len + 1, len == 0);
            core.lock.unlock();
        }
        Progress::Done
    }

    /// As [`begin_send`](Self::begin_send), in every case.
    ///
    /// # Safety
    ///
    /// As there.
    #[inline(never)]
    unsafe fn begin_send_unusually(&self, from: *const T) -> Progress {
        let core = &self.core;
        loop {
            if !core.receivers.is_empty() {
                // SAFETY: the lock is held. The claimed waiter is a receiver's on this channel, so its message place is
                // one for a `T`; it is ours until `ready` (W3, W4). So it can be written after the lock is released.
                unsafe {
                    if let Some(receiver) = self.claim_receiver() {
                        core.lock.unlock();
                        ptr::copy_nonoverlapping(from, receiver.message().cast(), 1);
                        receiver.ready();
                        return Progress::Done;
                    }
                }
            }
            if core.closed.load(Ordering::Relaxed) {
                // SAFETY: the lock is held.
                unsafe { core.lock.unlock() };
                return Progress::Closed;
            }
            let len = core.len.load(Ordering::Relaxed);
            if !core.has_room(len) {
                return Progress::Blocked;
            }
            // SAFETY: the lock is held, so the buffer is ours (C1). It is the list where there is no bound, else the
            // ring. It has room; the slot is new, so it does not overlap `from`.
            unsafe {
                let buffer = &mut *self.buffer.get();
                let slot = if core.cap == UNBOUNDED {
                    if buffer.list.needs_block() && !self.add_block() {
                        continue;
                    }
                    (*self.buffer.get()).list.push_slot()
                } else {
                    buffer.ring.push_slot(core.cap)
                };
                ptr::copy_nonoverlapping(from, slot, 1);
                core.set_len(len, len + 1);
                core.unlock_and_tell(Side::Receive);
            }
            return Progress::Done;
        }
    }

    /// Receives if that needs no wait, but the one for a sender that has been chosen to send and is about to: calls one of
    /// the three.
    ///
    /// - `take` with where the message is, which it moves out: in the buffer, whose lock is held meanwhile, or in the
    ///   frame of a sender. So the message is copied once, to where the caller wants it.
    /// - `closed` where the channel is closed and empty. The lock is released.
    /// - `blocked` where the receive has to wait, with **the lock still held**.
    ///
    /// # Safety
    ///
    /// The caller holds the lock. `take` runs no code of the message type.
    #[inline(always)]
    #[track_caller]
    pub(crate) unsafe fn begin_recv<R>(
        &self,
        take: impl FnOnce(*const T) -> R,
        closed: impl FnOnce() -> R,
        blocked: impl FnOnce() -> R,
    ) -> R {
        // SAFETY: the caller's promise.
        unsafe {
            self.begin_recv_or(take, closed, blocked, |offer, take, closed, blocked| {
                self.accept(offer, take, closed, blocked, Location::caller())
            })
        }
    }

    /// As [`begin_recv`](Self::begin_recv), but calls `offered` with an offer that it has claimed, with the lock still held.
    ///
    /// # Safety
    ///
    /// As [`begin_recv`](Self::begin_recv). `offered` accepts the offer.
    #[inline(always)]
    unsafe fn begin_recv_or<R, Take: FnOnce(*const T) -> R, Closed: FnOnce() -> R, Blocked: FnOnce() -> R>(
        &self,
        take: Take,
        closed: Closed,
        blocked: Blocked,
        offered: impl FnOnce(Claimed, Take, Closed, Blocked) -> R,
    ) -> R {
        let core = &self.core;
        let len = core.len.load(Ordering::Relaxed);
        if len != 0 {
            // SAFETY: the lock is held, so the buffer is ours (C1), and there is a message in it. It is the list where
            // there is no bound, else the ring. What becomes of the slot comes after the message was taken.
            unsafe {
                let buffer = &mut *self.buffer.get();
                if core.cap == UNBOUNDED {
                    let (slot, spent) = buffer.list.pop();
                    let _taken = Finally(|| {
                        // No longer full it cannot be.
                        core.len.store(len - 1, Ordering::Release);
                        if spent.is_null() {
                            core.lock.unlock();
                        } else {
                            self.keep_or_free(spent);
                        }
                    });
                    return take(slot);
                }
                let slot = buffer.ring.pop_slot(core.cap);
                let _taken = Finally(|| {
                    if core.senders.is_empty() {
                        core.set_len(len, len - 1);
                        core.unlock_and_tell(Side::Send);
                    } else {
                        self.refill(len);
                    }
                });
                return take(slot);
            }
        }
        if !core.senders.is_empty() {
            // SAFETY: the lock is held. The claimed waiter is a sender's on this channel, so its message is a `T`,
            // which is ours until `ready` (W3, W4). So it can be taken after the lock is released.
            unsafe {
                if let Some(sender) = self.claim_sender() {
                    if sender.offers() {
                        return offered(sender, take, closed, blocked);
                    }
                    core.lock.unlock();
                    let message = sender.message().cast::<T>();
                    let parker = sender.parker();
                    let _taken = Finally(|| {
                        sender.use_frame();
                        parker.ready();
                    });
                    return take(message);
                }
            }
        }
        if core.closed.load(Ordering::Relaxed) {
            // SAFETY: the lock is held.
            unsafe { core.lock.unlock() };
            return closed();
        }
        blocked()
    }

    /// Receives from an offer, once its owner sends; where the owner gives up, begins the receive again.
    ///
    /// # Safety
    ///
    /// As [`begin_recv`](Self::begin_recv). `offer` was claimed on this channel, and offers.
    #[cold]
    #[inline(never)]
    unsafe fn accept<R>(
        &self,
        offer: Claimed,
        take: impl FnOnce(*const T) -> R,
        closed: impl FnOnce() -> R,
        blocked: impl FnOnce() -> R,
        location: &'static Location<'static>,
    ) -> R {
        // SAFETY: the caller's promise. The place is one for a message.
        unsafe {
            if const { size_of::<T>() > LARGE } {
                // Under the lock, as it cannot be elsewhere: offers of messages so large are rare.
                let mut place = Box::new_uninit();
                self.accept_into(place.as_mut_ptr(), offer, take, closed, blocked, location)
            } else {
                self.accept_small(offer, take, closed, blocked, location)
            }
        }
    }

    /// # Safety
    ///
    /// As [`accept`](Self::accept).
    unsafe fn accept_small<R>(
        &self,
        offer: Claimed,
        take: impl FnOnce(*const T) -> R,
        closed: impl FnOnce() -> R,
        blocked: impl FnOnce() -> R,
        location: &'static Location<'static>,
    ) -> R {
        let mut place = MaybeUninit::uninit();
        // SAFETY: the caller's promise. The place is one for a message.
        unsafe { self.accept_into(place.as_mut_ptr(), offer, take, closed, blocked, location) }
    }

    /// # Safety
    ///
    /// As [`accept`](Self::accept). `place` is one for a message.
    unsafe fn accept_into<R>(
        &self,
        place: *mut T,
        mut offer: Claimed,
        take: impl FnOnce(*const T) -> R,
        closed: impl FnOnce() -> R,
        blocked: impl FnOnce() -> R,
        location: &'static Location<'static>,
    ) -> R {
        let core = &self.core;
        // SAFETY: the lock is held, and again when an offer was given up. The place is written where one was accepted.
        unsafe {
            while !core.accept_offer(offer, place.cast(), location) {
                core.lock.lock();
                let next = if core.len.load(Ordering::Relaxed) == 0 { core.senders.claim_offer() } else { None };
                let Some(next) = next else {
                    // Now it meets an offer only where the sender before that has just run out of time.
                    return self.begin_recv_or(take, closed, blocked, |offer, take, closed, blocked| {
                        self.accept(offer, take, closed, blocked, location)
                    });
                };
                offer = next;
            }
        }
        take(place)
    }

    /// As [`begin_recv`](Self::begin_recv), to `*into`, which is written exactly if the result is [`Progress::Done`].
    ///
    /// # Safety
    ///
    /// The caller holds the lock. `into` is a place for a message.
    #[inline]
    #[track_caller]
    pub(crate) unsafe fn begin_recv_into(&self, into: *mut T) -> Progress {
        let take = |message| {
            // SAFETY: there is a message, which `begin_recv` gives away, and `into` is another place.
            unsafe { ptr::copy_nonoverlapping(message, into, 1) };
            Progress::Done
        };
        // SAFETY: the caller's promise. Moving a message runs no code.
        unsafe { self.begin_recv(take, || Progress::Closed, || Progress::Blocked) }
    }

    /// # Safety
    ///
    /// As [`Queue::claim_oldest`].
    #[inline(always)]
    unsafe fn claim_receiver(&self) -> Option<Claimed> {
        // SAFETY: the caller's promise.
        unsafe { self.core.receivers.claim_oldest() }
    }

    /// # Safety
    ///
    /// As [`Queue::claim_oldest`].
    #[inline(never)]
    unsafe fn claim_sender(&self) -> Option<Claimed> {
        // SAFETY: the caller's promise.
        unsafe { self.core.senders.claim_oldest() }
    }

    /// After a message has been taken from a ring of `len`: moves the message of the sender that has waited longest in
    /// behind the others. Releases the lock.
    ///
    /// # Safety
    ///
    /// The caller holds the lock. The buffer is a ring, and the queue of senders is not empty.
    #[inline(never)]
    unsafe fn refill(&self, len: usize) {
        let core = &self.core;
        // SAFETY: the lock is held, and the buffer is ours. The ring has room for the message that was taken. The
        // claimed sender's message is ours until `ready` (W3, W4).
        unsafe {
            match core.senders.claim_oldest() {
                Some(sender) if sender.offers() => {
                    core.set_len(len, len - 1);
                    Core::grant_room(Self::core_of(NonNull::from(self)), sender);
                }
                Some(sender) => {
                    let slot = (*self.buffer.get()).ring.push_slot(core.cap);
                    ptr::copy_nonoverlapping(sender.message().cast::<T>(), slot, 1);
                    core.lock.unlock();
                    sender.ready();
                }
                None => {
                    core.set_len(len, len - 1);
                    core.unlock_and_tell(Side::Send);
                }
            }
        }
    }

    /// Gives the list a block. Says whether the lock was held throughout; else all may have changed, the list's need
    /// included.
    ///
    /// # Safety
    ///
    /// The caller holds the lock, and the list needs a block.
    #[cold]
    #[inline(never)]
    pub(super) unsafe fn add_block(&self) -> bool {
        let spare = self.spare.replace(ptr::null_mut());
        // SAFETY: the lock is held whenever `spare` and the list are used. Allocation is left to the time without it:
        // the allocator may wait, and whoever waits for this lock polls.
        unsafe {
            if !spare.is_null() {
                (*self.buffer.get()).list.add_block(spare);
                return true;
            }
            self.core.lock.unlock();
            let mut block = Block::new();
            self.core.lock.lock();
            if self.spare.get().is_null() {
                self.spare.set(block);
                block = ptr::null_mut();
            }
            if !block.is_null() {
                self.core.lock.unlock();
                Block::free(block);
                self.core.lock.lock();
            }
        }
        false
    }

    /// Releases the lock, and frees `block` unless it can be kept for later.
    ///
    /// # Safety
    ///
    /// The caller holds the lock. The block holds no message and is the caller's.
    #[cold]
    #[inline(never)]
    unsafe fn keep_or_free(&self, block: *mut Block<T>) {
        let keep = self.spare.get().is_null();
        if keep {
            self.spare.set(block);
        }
        // SAFETY: the caller's promise.
        unsafe {
            self.core.lock.unlock();
            if !keep {
                Block::free(block);
            }
        }
    }

    /// Waits to send `*from`. It is moved out exactly if the result is [`Ending::Done`].
    ///
    /// # Safety
    ///
    /// The caller holds the lock, which this releases; `begin_send` has just been `Blocked`. `from` is a message that
    /// the caller gives away.
    #[inline(never)]
    pub(crate) unsafe fn wait_send(
        &self,
        from: *const T,
        deadline: Option<Instant>,
        location: &'static Location<'static>,
    ) -> Ending {
        // SAFETY: the caller's promise. The lock is held at each call, or was released with the last result.
        unsafe {
            if self.core.linger(Side::Send, deadline.is_some()) {
                match self.begin_send(from) {
                    Progress::Done => return Ending::Done,
                    Progress::Closed => return Ending::Closed,
                    Progress::Blocked => {}
                }
            }
            let ending = self.core.wait(Side::Send, from.cast_mut().cast(), deadline, location);
            ending.expect("whoever claims a sender with a message takes that at once")
        }
    }

    /// Waits to receive to `*into`. It is written exactly if the result is [`Ending::Done`].
    ///
    /// # Safety
    ///
    /// The caller holds the lock, which this releases; `begin_recv` has just called `blocked`. `into` is a place for a
    /// message.
    #[inline(never)]
    pub(crate) unsafe fn wait_recv_into(
        &self,
        into: *mut T,
        deadline: Option<Instant>,
        location: &'static Location<'static>,
    ) -> Ending {
        // SAFETY: the caller's promise.
        unsafe { self.wait_recv_into_here(into, deadline, location) }
    }

    /// As [`wait_recv_into`](Self::wait_recv_into), inlined: see [`park`]. Not into what allocates before and after: the
    /// allocator may be one whose thread-locals the compiler knows (S1).
    ///
    /// # Safety
    ///
    /// As there.
    #[inline(always)]
    unsafe fn wait_recv_into_here(
        &self,
        into: *mut T,
        deadline: Option<Instant>,
        location: &'static Location<'static>,
    ) -> Ending {
        // SAFETY: the caller's promise. The lock is held at each call, or was released with the last result.
        unsafe {
            let mut again = self.core.linger(Side::Receive, deadline.is_some());
            loop {
                if again {
                    match self.begin_recv_into(into) {
                        Progress::Done => return Ending::Done,
                        Progress::Closed => return Ending::Closed,
                        // A deadline that is over by now ends the next wait.
                        Progress::Blocked => {}
                    }
                }
                match self.core.wait(Side::Receive, into.cast(), deadline, location) {
                    Some(ending) => return ending,
                    None => self.core.lock.lock(),
                }
                again = true;
            }
        }
    }

    /// Waits to receive, and gives the answer.
    ///
    /// # Safety
    ///
    /// The caller holds the lock, which this releases; `begin_recv` has just called `blocked`.
    #[inline(never)]
    pub(crate) unsafe fn wait_recv<R: Received<T>>(
        &self,
        deadline: Option<Instant>,
        location: &'static Location<'static>,
    ) -> R {
        // SAFETY: the caller's promise.
        unsafe {
            if const { size_of::<T>() > LARGE } {
                self.wait_recv_large(deadline, location)
            } else {
                self.wait_recv_small(deadline, location)
            }
        }
    }

    /// # Safety
    ///
    /// As [`wait_recv`](Self::wait_recv).
    #[inline]
    unsafe fn wait_recv_small<R: Received<T>>(
        &self,
        deadline: Option<Instant>,
        location: &'static Location<'static>,
    ) -> R {
        let mut place = MaybeUninit::uninit();
        // SAFETY: the caller's promise. The place is not touched until the wait is over; `Done` has written it.
        unsafe {
            match self.wait_recv_into_here(place.as_mut_ptr(), deadline, location) {
                Ending::Done => reply(place.as_ptr()),
                Ending::Closed => R::closed(),
                Ending::TimedOut => R::not_yet(),
            }
        }
    }

    /// As [`wait_recv_small`](Self::wait_recv_small), with the place on the heap.
    ///
    /// # Safety
    ///
    /// As [`wait_recv`](Self::wait_recv).
    unsafe fn wait_recv_large<R: Received<T>>(
        &self,
        deadline: Option<Instant>,
        location: &'static Location<'static>,
    ) -> R {
        // SAFETY: the lock is held. It is not during the allocation, which may wait; so all may have changed. Where it
        // still is in the end, the receive has to wait. The place is not touched until the wait is over; `Done` has
        // written it.
        unsafe {
            self.core.lock.unlock();
            let mut place = Box::new_uninit();
            self.core.lock.lock();
            let wait = || match self.wait_recv_into(place.as_mut_ptr(), deadline, location) {
                Ending::Done => reply(place.as_ptr()),
                Ending::Closed => R::closed(),
                Ending::TimedOut => R::not_yet(),
            };
            self.begin_recv(|message| reply(message), R::closed, wait)
        }
    }

    /// Sends `*from`, and waits for that until `deadline()` at most, which is asked only where it has to wait. The
    /// message is moved out exactly if the result is [`Ending::Done`].
    ///
    /// # Safety
    ///
    /// `from` is a message that the caller gives away.
    pub(crate) unsafe fn send_until(
        &self,
        from: *const T,
        deadline: impl FnOnce() -> Option<Instant>,
        location: &'static Location<'static>,
    ) -> Ending {
        let core = &self.core;
        if !core.send_would_block() {
            core.lock.lock();
            // SAFETY: the lock is held, and held still where it is released.
            unsafe {
                match self.begin_send(from) {
                    Progress::Done => return Ending::Done,
                    Progress::Closed => return Ending::Closed,
                    Progress::Blocked => core.lock.unlock(),
                }
            }
        }
        let deadline = deadline();
        if is_past(deadline) {
            return Ending::TimedOut;
        }
        core.lock.lock();
        // SAFETY: the lock is held; where it still is in the end, the send has to wait.
        unsafe {
            match self.begin_send(from) {
                Progress::Done => Ending::Done,
                Progress::Closed => Ending::Closed,
                Progress::Blocked => self.wait_send(from, deadline, location),
            }
        }
    }

    /// Receives, and waits for that until `deadline()` at most, which is asked only where it has to wait.
    pub(crate) fn recv_until<R: Received<T>>(
        &self,
        deadline: impl FnOnce() -> Option<Instant>,
        location: &'static Location<'static>,
    ) -> R {
        let core = &self.core;
        // SAFETY: the lock is held at each `begin_recv`, and where that leaves it held it is released, or the receive
        // has to wait. A message is given away.
        unsafe {
            let wait = || {
                let deadline = deadline();
                if is_past(deadline) {
                    return R::not_yet();
                }
                core.lock.lock();
                self.begin_recv(|message| reply(message), R::closed, || self.wait_recv(deadline, location))
            };
            if core.recv_would_block() {
                return wait();
            }
            core.lock.lock();
            self.begin_recv(
                |message| reply(message),
                R::closed,
                || {
                    core.lock.unlock();
                    wait()
                },
            )
        }
    }

    /// Counts one more handle of a side.
    pub(crate) fn acquire(&self, side: Side) {
        let count = match side {
            Side::Send => &self.handles.senders,
            Side::Receive => &self.handles.receivers,
        };
        // Relaxed: as for `Arc`, the new handle is made from one that keeps the channel.
        if count.fetch_add(1, Ordering::Relaxed) > isize::MAX as usize {
            // Only by forgetting handles without end.
            std::process::abort();
        }
    }

    /// Counts one handle of a side less. The last one closes the channel, the last one of all frees it.
    ///
    /// # Safety
    ///
    /// The handle is not used again.
    pub(crate) unsafe fn release(chan: NonNull<Self>, side: Side) {
        // SAFETY: the handle keeps the channel until here, and the last one of a side until `FreeLast` is dropped.
        let this = unsafe { chan.as_ref() };
        let count = match side {
            Side::Send => &this.handles.senders,
            Side::Receive => &this.handles.receivers,
        };
        // AcqRel: whatever was done with other handles of this side happens before what the last one does.
        if count.fetch_sub(1, Ordering::AcqRel) == 1 {
            // Also where dropping a message panics.
            let _free = FreeLast(chan);
            match side {
                Side::Send => _ = this.core.close(),
                Side::Receive => this.close_and_discard(),
            }
        }
    }

    /// Closes the channel when nobody can receive any more, and drops what is in the buffer.
    fn close_and_discard(&self) {
        let mut woken = Woken::new();
        self.core.lock.lock();
        // SAFETY: the lock is held for the first four lines. After them nobody uses the buffer but the remains: nothing
        // is sent to a closed channel, and there are no receivers.
        let remains = unsafe {
            self.core.close_locked(&mut woken);
            let len = self.core.len.load(Ordering::Relaxed);
            let buffer = *self.buffer.get();
            self.core.set_len(len, 0);
            if self.core.cap == UNBOUNDED {
                *self.buffer.get() = Buffer { list: List::new() };
            }
            self.core.lock.unlock();
            woken.ready_all();
            Remains { buffer, cap: self.core.cap, len }
        };
        drop(remains);
    }
}

/// Frees the channel if the other side is gone as well.
struct FreeLast<T>(NonNull<Chan<T>>);

impl<T> Drop for FreeLast<T> {
    fn drop(&mut self) {
        // SAFETY: each side does this once, so that the first leaves the channel to the second. AcqRel: what the first
        // did happens before the second frees. The buffer is empty, since the receivers' side is gone (C4).
        unsafe {
            if self.0.as_ref().handles.one_side_gone.swap(true, Ordering::AcqRel) {
                let mut chan = Box::from_raw(self.0.as_ptr());
                debug_assert_eq!(chan.core.len(), 0);
                if chan.core.cap == UNBOUNDED {
                    chan.buffer.get_mut().list.free();
                } else {
                    chan.buffer.get_mut().ring.free(chan.core.cap);
                }
                Block::free(chan.spare.get());
            }
        }
    }
}

pub(super) fn is_past(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| deadline <= crate::primitive::now())
}

/// Does something at the end of the scope, after its value has been made.
struct Finally<F: FnMut()>(F);

impl<F: FnMut()> Drop for Finally<F> {
    #[inline(always)]
    fn drop(&mut self) {
        (self.0)();
    }
}

/// The messages that nobody will receive.
struct Remains<T> {
    buffer: Buffer<T>,
    cap: usize,
    len: usize,
}

impl<T> Remains<T> {
    /// Drops the messages one by one, the oldest first.
    fn discard(&mut self) {
        while self.len != 0 {
            self.len -= 1;
            // SAFETY: there was a message, and it is no longer counted, also where its drop panics. A spent block is
            // freed after the message in it.
            unsafe {
                if self.cap == UNBOUNDED {
                    let (slot, spent) = self.buffer.list.pop();
                    let _spent = FreeBlock(spent);
                    ptr::drop_in_place(slot);
                } else {
                    let slot = self.buffer.ring.pop_slot(self.cap);
                    ptr::drop_in_place(slot);
                }
            }
        }
    }
}

impl<T> Drop for Remains<T> {
    /// Goes on where a message's drop panics, and panics with the first of those in the end. (What is behind may be what
    /// others wait for. crossbeam leaks the rest.)
    fn drop(&mut self) {
        let mut first = None;
        while self.len != 0 {
            if let Err(panic) = panic::catch_unwind(AssertUnwindSafe(|| self.discard())) {
                first.get_or_insert(panic);
            }
        }
        if self.cap == UNBOUNDED {
            // SAFETY: the list is empty, and was taken out of the channel.
            unsafe { self.buffer.list.free() };
        }
        if let Some(panic) = first {
            panic::resume_unwind(panic);
        }
    }
}

struct FreeBlock<T>(*mut Block<T>);

impl<T> Drop for FreeBlock<T> {
    fn drop(&mut self) {
        // SAFETY: the block was taken off its list, and its last message is dropped or forgotten.
        unsafe { Block::free(self.0) };
    }
}
