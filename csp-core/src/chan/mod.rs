//! Channels: one short lock, a buffer, and two queues of waiters.
//!
//! # The shape
//!
//! It is Go's. A channel is a [lock](lock), a [buffer](buffer) of messages and, for each side, a first-in first-out
//! [queue](waiter) of those who wait. The lock is held for a handful of instructions, during which nothing parks, runs
//! code of the message type, or (but for a thread's very first wait) allocates. An operation that need not wait is one
//! atomic read-modify-write to lock, plain loads and stores on one cache line and the slot, and a plain store to
//! unlock.
//!
//! A message goes straight from one stack to the other wherever somebody waits: a sender that finds a waiting receiver
//! writes to its frame; a receiver that finds a waiting sender reads from its frame, or, where there is a buffer, takes
//! the oldest message and moves the sender's in behind the others. So a channel without capacity is a true rendezvous,
//! a buffer is never overtaken, waiters are served in order, and those who only try cannot starve those who wait.
//!
//! *Rejected*: a lock-free ring (as many atomic operations and a fence per message, two protocols to reconcile with
//! hand-over and with select, and a lock for the waiters all the same); boxed waiters (an allocation per wait, and
//! their reclamation); waking a receiver to let it try again (it may lose the race, and the message visits the buffer
//! for nothing).
//!
//! # Invariants
//!
//! For a channel:
//!
//! - **C1** All but the atomics is read and written under the lock. `len`, `closed` and the ends of the queues are
//!   written under the lock and may be read without it.
//! - **C2** `closed` is set once and never reset. Whoever sets it empties both queues in the same critical section, and
//!   nobody joins a queue of a closed channel.
//! - **C3** If the queue of receivers has a waiter whose wait is open, the buffer is empty and no sender waits. If the
//!   queue of senders has one, the buffer is full, counting the places that are reserved for messages to come (a channel
//!   without capacity is both empty and full).
//! - **C4** Messages are dropped by the one that drops the last receiver, which also closes, and only outside the lock.
//!   A channel is freed by the last of the two sides to have finished that; then its buffer is empty.
//!
//! For a waiter:
//!
//! - **W1** A waiter lives in its owner's frame. All but its links is written before it is linked and constant from
//!   then on.
//! - **W2** It is linked and unlinked under the lock of its channel, and does not leave its frame while it is linked.
//! - **W3** A wait ends once: by the claim on its parker's word. Between the push and the return of `park` the owner
//!   does not touch its message place; the claimer does, and nobody else.
//! - **W4** The owner of a claimed wait cannot resume before the claimer's `ready`. So the waiter and the message place
//!   stay good until then, however long that takes; after it the claimer touches nothing of the owner's.
//! - **W5** A waiter that is linked, or has been unlinked in the current critical section, and whose wait somebody else
//!   ended, is *stale* and still alive: its owner takes the lock once more before it leaves the frame. (It must: it
//!   cannot know otherwise whether it is linked. The one waiter that its owner does not look after is the one by which
//!   it was claimed, and that one was unlinked before.)
//! - **W6** A waiter whose wait has no other waiter and no deadline is claimed by whoever unlinks it, since nobody else
//!   can.
//! - **W7** A sender that waits has its message, unless it is an offer (see [`grant`](raw::Grant)). Until `ready`, whoever
//!   claims a receiver or an offer may take its word back (the outcome "abandoned"), if it has not touched the message
//!   place; then the owner begins its operation again, at the end of the queue.
//!
//! # Who waits where
//!
//! A wait queues its waiter under the lock and parks with the lock held; `park` releases it (its `commit`) after the
//! goroutine has left its stack. So a claimer, which needs the lock, never meets a goroutine that is still running.

pub(crate) mod batch;
pub(crate) mod buffer;
pub(crate) mod error;
pub(crate) mod handle;
pub(crate) mod iter;
pub(crate) mod lock;
pub(crate) mod raw;
pub(crate) mod reply;
pub(crate) mod timer;
pub(crate) mod waiter;

#[cfg(all(test, csp_loom))]
pub(crate) mod loom_tests;
