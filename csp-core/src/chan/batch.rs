//! Many messages at once.
//!
//! # What a batch holds the lock for
//!
//! For moving messages between the buffer and memory that was there before, and for claiming waiters. Not for user code,
//! allocation, or messages in the frames of others: an iterator is asked for a chunk of messages before the lock is
//! taken, a vector gets its room before, and what was claimed is handed over, in the order in which it was claimed, after
//! the lock is released. The lock is one to poll for, so a chunk is bounded: a batch that is larger takes it more than
//! once, and others may come between.

use std::fmt;
use std::iter::FusedIterator;
use std::panic::Location;
use std::ptr::NonNull;
use std::{mem, ptr, vec};

use super::buffer::{Block, UNBOUNDED};
use super::error::{RecvError, TryRecvError};
use super::handle::{Receiver, Sender};
use super::raw::{Chan, Core, Ending, Progress, Side};
use super::waiter::{Claims, Woken};
use crate::primitive::atomic::Ordering;
use crate::sched::park::checkpoint;

/// How many messages of that size are moved under one lock: 32 KiB, a few microseconds of copying, but no more than 256
/// hand-overs.
const fn chunk<T>() -> usize {
    match size_of::<T>() {
        _ if cfg!(csp_loom) => 2,
        size @ 129..=32_768 => (32 << 10) / size,
        32_769.. => 1,
        _ => 256,
    }
}

/// What [`send_many`](Sender::send_many) returns when the channel is closed before everything was sent.
///
/// # Examples
///
/// ```
/// # use csp_core as csp;
/// use csp::channel::bounded;
///
/// let (tx, rx) = bounded(2);
/// tx.send_many([1, 2]).unwrap();
/// rx.close();
/// let error = tx.send_many([3, 4, 5]).unwrap_err();
/// assert_eq!(error.sent, 0);
/// assert_eq!(error.unsent.collect::<Vec<_>>(), [3, 4, 5]);
/// ```
pub struct SendManyError<I: Iterator> {
    /// How many messages were sent.
    pub sent: usize,
    /// The others.
    pub unsent: Unsent<I>,
}

/// The messages that [`send_many`](Sender::send_many) did not send, in order: those that it had taken from its iterator,
/// and then the rest of the iterator itself.
///
/// ```
/// # use csp_core as csp;
/// let (tx, rx) = csp::channel::unbounded();
/// drop(rx);
/// let unsent = tx.send_many(0..).unwrap_err().unsent;
/// assert_eq!(unsent.take(3).collect::<Vec<_>>(), [0, 1, 2]);
/// ```
pub struct Unsent<I: Iterator> {
    taken: vec::IntoIter<I::Item>,
    /// Until it has come to its end.
    rest: Option<I>,
}

impl<I: Iterator> Iterator for Unsent<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        let message = self.taken.next();
        if message.is_some() {
            return message;
        }
        let message = self.rest.as_mut()?.next();
        if message.is_none() {
            self.rest = None;
        }
        message
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let taken = self.taken.len();
        let (least, most) = self.rest.as_ref().map_or((0, Some(0)), Iterator::size_hint);
        (taken.saturating_add(least), most.and_then(|most| taken.checked_add(most)))
    }
}

impl<I: Iterator> FusedIterator for Unsent<I> {}

impl<I: Iterator> fmt::Debug for Unsent<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Unsent { .. }")
    }
}

impl<I: Iterator> fmt::Debug for SendManyError<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendManyError").field("sent", &self.sent).finish_non_exhaustive()
    }
}

impl<I: Iterator> fmt::Display for SendManyError<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("sending on a disconnected channel")
    }
}

impl<I: Iterator> std::error::Error for SendManyError<I> {}

impl<T> Sender<T> {
    /// Sends many messages, in order; waits where there is no room for them, or, on a channel without capacity, nobody to
    /// receive them.
    ///
    /// It is [`send`](Self::send) for each, but cheaper: the channel is locked once for as many as there is room for, up
    /// to some hundreds. It is not one step to others: messages of other senders may come between, and what is sent can
    /// be received before the rest is.
    ///
    /// The iterator is asked for messages before they are sent, for as many at once as it says that it has at least (the
    /// lower bound of [`size_hint`](Iterator::size_hint), up to some hundreds). One that does not know, such as another
    /// channel's, is asked for one at a time, so it may wait and holds nothing up. Collect a `filter` or the like into a
    /// `Vec` to send it as a batch. The channel is not locked while the iterator runs, which may use it.
    ///
    /// Beyond crossbeam-channel, which has no batches.
    ///
    /// # Errors
    ///
    /// If the channel is closed, or gets closed during a wait: how many messages were sent, and the others.
    ///
    /// # Panics
    ///
    /// If the iterator does. Then messages that it has given and that were not sent yet are dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// use csp::channel::bounded;
    ///
    /// let (tx, rx) = bounded(4);
    /// let sender = csp::spawn(move || tx.send_many(0..100));
    /// assert!(rx.iter().eq(0..100));
    /// assert!(sender.join().unwrap().is_ok());
    /// ```
    #[track_caller]
    pub fn send_many<I: IntoIterator<Item = T>>(&self, messages: I) -> Result<(), SendManyError<I::IntoIter>> {
        let mut rest = messages.into_iter();
        let mut taken = Vec::new();
        let mut sent = 0;
        loop {
            checkpoint();
            let known = rest.size_hint().0.clamp(1, chunk::<T>());
            let ended = !take(&mut rest, known, &mut taken);
            if taken.is_empty() {
                return Ok(());
            }
            let count = taken.len();
            // SAFETY: the messages are given away, and the first `done` of them moved out; the vector takes the others
            // back, which begin where it has room for them.
            unsafe {
                taken.set_len(0);
                let done = self.chan().send_many(taken.as_ptr(), count, Location::caller());
                sent += done;
                if done == count {
                    if ended {
                        return Ok(());
                    }
                    continue;
                }
                let start = taken.as_mut_ptr();
                ptr::copy(start.add(done), start, count - done);
                taken.set_len(count - done);
            }
            return Err(SendManyError {
                sent,
                unsent: Unsent { taken: taken.into_iter(), rest: (!ended).then_some(rest) },
            });
        }
    }
}

/// Takes `count` messages from an iterator. Says whether there were so many.
fn take<I: Iterator>(from: &mut I, count: usize, into: &mut Vec<I::Item>) -> bool {
    into.reserve(count);
    for _ in 0..count {
        let message = from.next();
        let Some(place) = &message else { return false };
        // `push` would have more places for a large message on the stack.
        // SAFETY: there is room for `count` more. The message is moved there.
        unsafe {
            ptr::copy_nonoverlapping(place, into.as_mut_ptr().add(into.len()), 1);
            mem::forget(message);
            into.set_len(into.len() + 1);
        }
    }
    true
}

impl<T> Receiver<T> {
    /// Receives what is there, `limit` messages at most, and appends it to `into`; waits for a message where there is
    /// none. Returns how many they are: at least one, unless `limit` is 0.
    ///
    /// It is [`recv`](Self::recv) and then [`try_recv`](Self::try_recv) for as long as there is something, but cheaper: the
    /// channel is locked once for up to some hundreds. The messages of waiting senders are there as well, also on a channel
    /// without capacity. What comes meanwhile is left to the next call, so without a limit (`usize::MAX`) the batch still
    /// comes to an end.
    ///
    /// It follows tokio's `recv_many`, but a closed channel is an error. crossbeam-channel has no batches.
    ///
    /// # Errors
    ///
    /// [`RecvError`] when the channel is closed and empty, or gets closed during the wait. `into` is as it was.
    ///
    /// # Panics
    ///
    /// If `into` cannot hold so many messages ("capacity overflow").
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// use csp::channel::{RecvError, unbounded};
    ///
    /// let (tx, rx) = unbounded();
    /// tx.send_many(1..=5).unwrap();
    /// let mut batch = Vec::new();
    /// assert_eq!(rx.recv_many(&mut batch, 3), Ok(3));
    /// assert_eq!(rx.recv_many(&mut batch, usize::MAX), Ok(2));
    /// assert_eq!(batch, [1, 2, 3, 4, 5]);
    /// drop(tx);
    /// assert_eq!(rx.recv_many(&mut batch, 3), Err(RecvError));
    /// ```
    #[track_caller]
    pub fn recv_many(&self, into: &mut Vec<T>, limit: usize) -> Result<usize, RecvError> {
        let location = Location::caller();
        if limit == 0 {
            return Ok(0);
        }
        checkpoint();
        let Some(chan) = self.chan() else {
            return self.append(into, |this| this.receive(location));
        };
        match chan.recv_many(into, limit) {
            Many::Some(count) => return Ok(count),
            Many::Closed => return Err(RecvError),
            Many::Blocked => {}
        }
        // SAFETY: the lock is held, and the receive has to wait. There is room for one message at least; it is written
        // where the ending is `Done`.
        unsafe {
            let place = into.as_mut_ptr().add(into.len());
            match chan.wait_recv_into(place, None, location) {
                Ending::Done => into.set_len(into.len() + 1),
                Ending::Closed | Ending::TimedOut => return Err(RecvError),
            }
        }
        // More may have come by now.
        if limit == 1 || chan.core().recv_would_block() {
            return Ok(1);
        }
        match chan.recv_many(into, limit - 1) {
            Many::Some(count) => Ok(1 + count),
            Many::Closed => Ok(1),
            Many::Blocked => {
                // SAFETY: the lock is held.
                unsafe { chan.core().lock.unlock() };
                Ok(1)
            }
        }
    }

    /// As [`recv_many`](Self::recv_many), but does not wait.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] if there is no message, [`TryRecvError::Disconnected`] if there will never be one. `into`
    /// is as it was.
    ///
    /// # Panics
    ///
    /// If `into` cannot hold so many messages ("capacity overflow").
    ///
    /// # Examples
    ///
    /// ```
    /// # use csp_core as csp;
    /// use csp::channel::{TryRecvError, bounded};
    ///
    /// let (tx, rx) = bounded(8);
    /// let mut batch = vec![0];
    /// assert_eq!(rx.try_recv_many(&mut batch, 10), Err(TryRecvError::Empty));
    /// tx.send_many([1, 2, 3]).unwrap();
    /// assert_eq!(rx.try_recv_many(&mut batch, 10), Ok(3));
    /// assert_eq!(batch, [0, 1, 2, 3]);
    /// ```
    pub fn try_recv_many(&self, into: &mut Vec<T>, limit: usize) -> Result<usize, TryRecvError> {
        if limit == 0 {
            return Ok(0);
        }
        checkpoint();
        let Some(chan) = self.chan() else {
            return self.append(into, Self::try_receive);
        };
        if chan.core().recv_would_block() {
            return Err(TryRecvError::Empty);
        }
        match chan.recv_many(into, limit) {
            Many::Some(count) => Ok(count),
            Many::Closed => Err(TryRecvError::Disconnected),
            Many::Blocked => {
                // SAFETY: the lock is held.
                unsafe { chan.core().lock.unlock() };
                Err(TryRecvError::Empty)
            }
        }
    }
}

impl<T> Receiver<T> {
    /// A batch of one, from a receiver without a channel.
    #[cold]
    fn append<E>(&self, into: &mut Vec<T>, receive: impl FnOnce(&Self) -> Result<T, E>) -> Result<usize, E> {
        // Before the message is taken: it may panic.
        into.reserve(1);
        into.push(receive(self)?);
        Ok(1)
    }
}

/// How far a batch came that does not wait.
#[must_use]
enum Many {
    /// So many messages, more than 0. The lock is released.
    Some(usize),
    /// The channel is closed and empty. The lock is released.
    Closed,
    /// There is nothing, and **the lock is held**.
    Blocked,
}

impl<T> Chan<T> {
    /// Sends as many of the `count` messages at `from` as it can before the channel is closed: all, where it is not.
    /// Waits where it has to. They are moved out; the others are not.
    ///
    /// # Safety
    ///
    /// There are `count` messages at `from` that the caller gives away.
    unsafe fn send_many(&self, from: *const T, count: usize, location: &'static Location<'static>) -> usize {
        let core = &self.core;
        let mut sent = 0;
        core.lock.lock();
        loop {
            // SAFETY: the lock is held until it is released, by `unlock`, `add_block` or `wait_send`. Messages are moved
            // out in order, each once, as `sent` counts them: to claimed receivers, whose places are for a `T` and ours
            // until `ready` (W3, W4); to slots that are new; by the one who ends the wait.
            unsafe {
                let first = sent;
                let mut receivers = Claims::new();
                while sent != count
                    && let Some(receiver) = core.receivers.claim_oldest()
                {
                    receivers.push(receiver);
                    sent += 1;
                }
                let handed = sent;
                let mut watchers = Woken::new();
                if !core.closed.load(Ordering::Relaxed) {
                    sent += self.push_many(from.add(sent), count - sent);
                    if sent != handed {
                        core.claim_watchers(Side::Receive, &mut watchers);
                    }
                }
                let over = sent == count || core.closed.load(Ordering::Relaxed);
                if over || !receivers.is_empty() || !watchers.is_empty() {
                    core.lock.unlock();
                    for index in first..handed {
                        let Some(receiver) = receivers.pop() else { unreachable!("one for each") };
                        ptr::copy_nonoverlapping(from.add(index), receiver.message().cast(), 1);
                        receiver.ready();
                    }
                    watchers.ready_all();
                    if over {
                        return sent;
                    }
                    core.lock.lock();
                } else if core.has_room(core.len.load(Ordering::Relaxed)) {
                    // There is room, but no block for it.
                    _ = self.add_block();
                } else {
                    match self.wait_send(from.add(sent), None, location) {
                        Ending::Done => sent += 1,
                        Ending::Closed | Ending::TimedOut => return sent,
                    }
                    if sent == count {
                        return sent;
                    }
                    core.lock.lock();
                }
            }
        }
    }

    /// Moves as many of the `count` messages at `from` to the buffer as there is room for, and blocks. Says how many.
    ///
    /// # Safety
    ///
    /// The caller holds the lock, the channel is open, and no receiver waits. There are `count` messages at `from` that
    /// the caller gives away.
    unsafe fn push_many(&self, from: *const T, count: usize) -> usize {
        let core = &self.core;
        let len = core.len.load(Ordering::Relaxed);
        // What is reserved is not room.
        let room = core.cap - len - core.reserved.get() as usize;
        let count = count.min(room);
        let mut sent = 0;
        // SAFETY: the lock is held, so the buffer is ours (C1), the ring or the list as the channel has a bound or not. The
        // slots are free.
        unsafe {
            while sent != count {
                let buffer = &mut *self.buffer.get();
                let (slots, run) = if core.cap != UNBOUNDED {
                    buffer.ring.push_slots(core.cap, count - sent)
                } else {
                    if buffer.list.needs_block() {
                        let spare = self.spare.replace(ptr::null_mut());
                        if spare.is_null() {
                            break;
                        }
                        buffer.list.add_block(spare);
                    }
                    buffer.list.push_slots(count - sent)
                };
                ptr::copy_nonoverlapping(from.add(sent), slots, run);
                sent += run;
            }
        }
        if sent != 0 {
            core.set_len(len, len + sent);
        }
        sent
    }

    /// Receives what is there, `limit` messages at most, which is not 0. `into` has room for one more where the result is
    /// [`Many::Blocked`].
    #[track_caller]
    fn recv_many(&self, into: &mut Vec<T>, limit: usize) -> Many {
        let core = &self.core;
        into.reserve(core.len().clamp(1, limit));
        let mut goal = None;
        let mut count = 0;
        core.lock.lock();
        loop {
            // SAFETY: the lock is held.
            let there = || unsafe {
                let len = core.len.load(Ordering::Relaxed).min(limit);
                len + core.senders.count(chunk::<T>().min(limit - len))
            };
            // What comes after the first look is not for this batch, or it might never end.
            let goal = *goal.get_or_insert_with(there);
            let room = into.capacity() - into.len();
            if count < goal && room == 0 {
                // SAFETY: the lock is held; not so during the allocation.
                unsafe { core.lock.unlock() };
                into.reserve(goal - count);
                core.lock.lock();
                continue;
            }
            let wanted = (goal - count).min(room).min(chunk::<T>());
            // SAFETY: the lock is held, and there is so much room.
            let taken = if wanted == 0 { 0 } else { unsafe { self.take_many(into, wanted) } };
            count += taken;
            if taken != 0 {
                if count == goal {
                    return Many::Some(count);
                }
                core.lock.lock();
            } else if count != 0 {
                // Somebody else has got the rest, or it is a sender's that has no message yet.
                // SAFETY: the lock is held.
                unsafe { core.lock.unlock() };
                return Many::Some(count);
            } else {
                // Nothing, or a sender that is about to send.
                // SAFETY: the lock is held. There is room for a message, which is there if it is `Done`.
                unsafe {
                    return match self.begin_recv_into(into.as_mut_ptr().add(into.len())) {
                        Progress::Done => {
                            into.set_len(into.len() + 1);
                            Many::Some(1)
                        }
                        Progress::Closed => Many::Closed,
                        Progress::Blocked => Many::Blocked,
                    };
                }
            }
        }
    }

    /// Appends `wanted` messages, or what there is without a wait, and says how many. Releases the lock unless there are
    /// none.
    ///
    /// # Safety
    ///
    /// The caller holds the lock. `into` has room for `wanted` messages, which is not 0.
    unsafe fn take_many(&self, into: &mut Vec<T>, wanted: usize) -> usize {
        let core = &self.core;
        let old = core.len.load(Ordering::Relaxed);
        let mut senders = Claims::new();
        let mut watchers = Woken::new();
        let mut spent = Spent::new();
        let mut taken = 0;
        // SAFETY: the lock is held until it is released, so the buffer is ours till then (C1). There is room for what is
        // appended, which is moved out of the buffer, or out of the frames of claimed senders, whose messages are a `T`
        // and ours until `ready` (W3, W4).
        unsafe {
            let place = into.as_mut_ptr().add(into.len());
            // The oldest messages, from the buffer.
            while taken != old.min(wanted) {
                let run = old.min(wanted) - taken;
                let buffer = &mut *self.buffer.get();
                let (slots, run) = if core.cap == UNBOUNDED {
                    let (slots, run, block) = buffer.list.pop_slots(run);
                    spent.push(block);
                    (slots, run)
                } else {
                    buffer.ring.pop_slots(core.cap, run)
                };
                ptr::copy_nonoverlapping(slots, place.add(taken), run);
                taken += run;
            }
            // Then those of the senders that have waited longest; one that has none yet keeps its turn.
            let buffered = taken;
            while taken != wanted
                && let Some(sender) = core.senders.claim_message()
            {
                senders.push(sender);
                taken += 1;
            }
            if taken == 0 {
                return 0;
            }
            // Room for the next ones.
            let mut len = old - buffered;
            while core.has_room(len)
                && let Some(sender) = core.senders.claim_oldest()
            {
                if sender.offers() {
                    Core::promise_room(Self::core_of(NonNull::from(self)), &sender);
                } else {
                    // Only where there is a bound does a sender wait.
                    let slot = (*self.buffer.get()).ring.push_slot(core.cap);
                    ptr::copy_nonoverlapping(sender.message().cast::<T>(), slot, 1);
                    len += 1;
                }
                senders.push(sender);
            }
            if len != old {
                core.set_len(old, len);
            }
            if core.has_room(len) {
                core.claim_watchers(Side::Send, &mut watchers);
            }
            spent.keep_one(self);
            core.lock.unlock();
            for index in buffered..taken {
                let Some(sender) = senders.pop() else { unreachable!("one for each") };
                ptr::copy_nonoverlapping(sender.message().cast::<T>(), place.add(index), 1);
                sender.ready();
            }
            into.set_len(into.len() + taken);
            senders.ready_all();
            watchers.ready_all();
        }
        taken
    }
}

/// Blocks that a list needs no more, until the lock is released.
struct Spent<T> {
    newest: *mut Block<T>,
}

impl<T> Spent<T> {
    fn new() -> Self {
        Self { newest: ptr::null_mut() }
    }

    /// # Safety
    ///
    /// `block` is null, or off its list and the caller's. The messages in it are moved out before this is dropped.
    unsafe fn push(&mut self, block: *mut Block<T>) {
        if !block.is_null() {
            // SAFETY: the caller's promise.
            unsafe { (*block).next = self.newest };
            self.newest = block;
        }
    }

    /// Leaves one to the channel, if it has none.
    ///
    /// # Safety
    ///
    /// The caller holds the channel's lock.
    unsafe fn keep_one(&mut self, chan: &Chan<T>) {
        if !self.newest.is_null() && chan.spare.get().is_null() {
            let block = self.newest;
            // SAFETY: it is ours.
            self.newest = unsafe { (*block).next };
            chan.spare.set(block);
        }
    }
}

impl<T> Drop for Spent<T> {
    fn drop(&mut self) {
        while !self.newest.is_null() {
            let block = self.newest;
            // SAFETY: it is ours, off its list, and holds no message.
            unsafe {
                self.newest = (*block).next;
                Block::free(block);
            }
        }
    }
}
