//! Select: wait for several channel operations at once, and carry out one of them.
//!
//! # The protocol
//!
//! 1. *Look.* One pass over the arms without a lock collects those that seem ready. With a `default` and none of them
//!    ready that is all. Else one of them is drawn at random, its channel locked and the operation tried; if it fails
//!    after all (somebody was faster), the next is drawn. Drawing from the ready ones is as fair as going through all
//!    arms in a random order, and needs a random number only where there is a choice. (A random *rotation* is not fair:
//!    of arms 0, 1 and 3 being ready out of four, arm 3 gets half.)
//! 2. *Lock.* All channels are locked, each once, in the order of their addresses, so that selects cannot deadlock.
//! 3. *Look again.* If an arm is ready now, the other channels are unlocked and it is carried out.
//! 4. *Queue.* Else a waiter is queued on every channel: no sender or receiver can have slipped by, since all locks are
//!    held. All waiters carry one ticket; their outcomes tell them apart. A select never meets itself: it looks for
//!    partners only while none of its own waiters is queued.
//! 5. *Park.* The commit unlocks all channels after the goroutine has left its stack.
//! 6. Whoever claims the wait carries out the operation of the waiter by which it did, as for any other waiter. Claims
//!    on different channels race on the parker's word alone; nobody but the owner ever holds two locks, so there is no
//!    cycle.
//! 7. The owner unlinks its other waiters, one lock at a time, and is done. Where the deadline ended the wait, it
//!    unlinks all of them and looks at the arms once more: a timer arm may be due.
//!
//! # The unlocking commit (step 5)
//!
//! The array of locks lives in the owner's frame, and with the first unlock the owner may be claimed and resume, while
//! the commit is still walking the array. The frame stays nevertheless, for as long as the commit reads it:
//!
//! - **L1** There is a waiter on every channel in the array. The owner leaves `block` only after it has locked every
//!   channel but that of the waiter by which it was claimed (all of them after a timeout).
//! - **L2** That one channel was unlocked by the commit before the claim, since a claimer holds its lock.
//! - **L3** So while the commit still holds the lock of some channel, the owner has that channel to lock and cannot
//!   have left. The commit reads the array only for a channel that it still holds, and nothing after its last unlock.

mod arm;
mod order;

use std::mem::MaybeUninit;
use std::panic::Location;
use std::time::{Duration, Instant};

pub use arm::{Arm, Recv, Send, recv, send};
use arm::{State, Target};
pub use order::Order;
use order::random_below;

use crate::chan::raw::Core;
use crate::chan::timer::pause;
use crate::chan::waiter::{DONE, Waiter};
use crate::sched::park::{Parker, TIMED_OUT, Wait, WaitReason, checkpoint, park};

/// Waits until one of the arms can be carried out, carries it out and returns its index.
#[inline]
#[track_caller]
pub fn wait<const N: usize>(order: Order, arms: [Arm<'_>; N]) -> usize {
    checkpoint();
    run(order, arms, None, Location::caller())
}

/// As [`wait`]; returns `N` at once where every arm is disabled.
#[inline]
#[track_caller]
pub fn wait_else<const N: usize>(order: Order, arms: [Arm<'_>; N]) -> usize {
    // SAFETY: an arm's state points into its operation, which is borrowed.
    if arms.iter().all(|arm| unsafe { *arm.state } == State::Disabled) {
        return N;
    }
    checkpoint();
    run(order, arms, None, Location::caller())
}

/// As [`wait`], but for `timeout` at most; returns `N` where no arm could be carried out by then.
#[inline]
#[track_caller]
pub fn wait_timeout<const N: usize>(order: Order, arms: [Arm<'_>; N], timeout: Duration) -> usize {
    checkpoint();
    run(order, arms, Some(timeout), Location::caller())
}

/// Carries out one of the arms if that needs no wait, and returns its index; else `N`.
#[inline]
pub fn poll<const N: usize>(order: Order, mut arms: [Arm<'_>; N]) -> usize {
    checkpoint();
    if arms.iter().all(Arm::would_block) {
        return N;
    }
    look(order, &mut arms, &mut [0; N]).unwrap_or(N)
}

/// Where no arm can have been left over.
#[cold]
pub fn no_such_arm() -> ! {
    unreachable!("a select without default ended without an arm")
}

/// Gives a select the room that it needs: nothing is allocated, whatever the number of arms.
#[inline(never)]
fn run<const N: usize>(
    order: Order,
    mut arms: [Arm<'_>; N],
    timeout: Option<Duration>,
    location: &'static Location<'static>,
) -> usize {
    // A waiter's index has to fit into an outcome.
    const { assert!(N < 1 << 14, "too many arms") };
    let mut room = Room {
        ready: &mut [0; N],
        locks: &mut [std::ptr::null(); N],
        waiters: &mut [const { MaybeUninit::uninit() }; N],
    };
    select(order, &mut arms, &mut room, timeout, location)
}

/// Each slice is as long as there are arms.
struct Room<'r> {
    /// Arms that seem ready.
    ready: &'r mut [u32],
    /// The distinct channels in the order of their addresses.
    locks: &'r mut [*const Core],
    /// The waiter of each arm.
    waiters: &'r mut [MaybeUninit<Waiter>],
}

/// Returns the number of arms where the time is over.
fn select(
    order: Order,
    arms: &mut [Arm<'_>],
    room: &mut Room<'_>,
    mut timeout: Option<Duration>,
    location: &'static Location<'static>,
) -> usize {
    let mut deadline = None;
    loop {
        if let Some(chosen) = look(order, arms, room.ready) {
            return chosen;
        }
        if let Some(timeout) = timeout.take() {
            // Beyond the clock is for ever.
            deadline = Instant::now().checked_add(timeout);
        }
        let due = arms.iter().filter_map(|arm| match arm.target {
            Target::Timer(timer) => timer.due(),
            _ => None,
        });
        let until = due.chain(deadline).min();
        if let Some(until) = until {
            let now = Instant::now();
            if deadline.is_some_and(|deadline| deadline <= now) {
                return arms.len();
            }
            if until <= now {
                continue;
            }
        }
        if let Some(chosen) = block(order, arms, room, until, location) {
            return chosen;
        }
    }
}

/// Step 1: carries out an arm that needs no wait.
fn look(order: Order, arms: &mut [Arm<'_>], ready: &mut [u32]) -> Option<usize> {
    let mut now = None;
    let mut count = 0;
    for (index, arm) in arms.iter().enumerate() {
        let seems_ready = match arm.target {
            Target::Timer(timer) => timer.due().is_some_and(|due| due <= *now.get_or_insert_with(Instant::now)),
            _ => !arm.would_block(),
        };
        if seems_ready {
            ready[count] = index as u32;
            count += 1;
        }
    }
    let mut ready = &mut ready[..count];
    while !ready.is_empty() {
        let drawn = draw(order, ready.len());
        let index = ready[drawn] as usize;
        if arms[index].try_begin(&mut now) {
            return Some(index);
        }
        match order {
            Order::Random => {
                let last = ready.len() - 1;
                ready[drawn] = ready[last];
                ready = &mut ready[..last];
            }
            Order::Biased => ready = &mut ready[1..],
        }
    }
    None
}

/// Which of `count` ready arms to take.
#[inline]
fn draw(order: Order, count: usize) -> usize {
    if count == 1 || order == Order::Biased { 0 } else { random_below(count as u32) as usize }
}

/// Steps 2 to 7. `None`: look again; the deadline has ended the wait, or an arm was ready that turned out not to be.
#[inline(never)]
fn block(
    order: Order,
    arms: &mut [Arm<'_>],
    room: &mut Room<'_>,
    until: Option<Instant>,
    location: &'static Location<'static>,
) -> Option<usize> {
    let Room { ready, locks, waiters } = room;
    // From here on only through this pointer: others have pointers to the waiters as well.
    let waiters = waiters.as_mut_ptr().cast::<Waiter>();
    let mut channels = 0;
    for arm in &*arms {
        if let Target::Channel { core, .. } = arm.target {
            locks[channels] = core;
            channels += 1;
        }
    }
    if channels == 0 {
        let reason = if arms.is_empty() { WaitReason::SelectNoCases } else { WaitReason::Select };
        pause(until, reason, location);
        return None;
    }
    // With one waiter and no deadline nobody competes for the claim (W6).
    let sole = channels == 1 && until.is_none();
    let locks = sort_and_dedup(&mut locks[..channels]);
    // SAFETY: the arms' operations keep the channels.
    locks.iter().for_each(|&core| unsafe { (*core).lock.lock() });

    let mut count = 0;
    for (index, arm) in arms.iter().enumerate() {
        if matches!(arm.target, Target::Channel { .. }) && !arm.would_block() {
            ready[count] = index as u32;
            count += 1;
        }
    }
    if count != 0 {
        let chosen = ready[draw(order, count)] as usize;
        let Target::Channel { core: kept, .. } = arms[chosen].target else { unreachable!() };
        // SAFETY: all the locks are held; all but one are released here, and that one by the operation.
        unsafe {
            locks.iter().filter(|&&core| core != kept).for_each(|&core| (*core).lock.unlock());
            return arms[chosen].try_begin_locked().then_some(chosen);
        }
    }

    let outcome = Parker::with_current(|parker| {
        let ticket = parker.begin();
        for (index, arm) in arms.iter().enumerate() {
            if let Target::Channel { core, side, .. } = arm.target {
                // SAFETY: there is room for a waiter for each arm. The lock is held. The waiter stays in `run`'s frame
                // until it is unlinked: by whoever claims or discards it, or below (W2, W5).
                unsafe {
                    let waiter = waiters.add(index);
                    waiter.write(Waiter::new(parker, ticket, arm.message, index as u32, sole));
                    (*core).queue(side).push(waiter);
                }
            }
        }
        let held = Held { locks: locks.as_ptr(), len: locks.len() };
        let wait = Wait { reason: WaitReason::Select, location, deadline: until };
        // SAFETY: the parker is ours and the ticket its newest. The commit may run anywhere, and reads the frame only
        // while that must still be there (L1 to L3).
        unsafe { park(parker, ticket, wait, unlock_all, (&raw const held).cast_mut().cast()) }
    });

    let chosen = (outcome != TIMED_OUT).then(|| ((outcome - DONE) / 2) as usize);
    for (index, arm) in arms.iter().enumerate() {
        if let Target::Channel { core, side, .. } = arm.target
            && chosen != Some(index)
        {
            // SAFETY: the waiter was written above. Under the lock its links can be looked at, and nobody is in the
            // middle of discarding it (W5).
            unsafe {
                (*core).lock.lock();
                let waiter = waiters.add(index);
                if (*waiter).is_linked() {
                    (*core).queue(side).unlink(waiter);
                }
                (*core).lock.unlock();
            }
        }
    }
    if let Some(chosen) = chosen {
        let done = (outcome - DONE).is_multiple_of(2);
        arms[chosen].settle(if done { State::Done } else { State::Closed });
    }
    chosen
}

/// Orders the channels by address, each once.
fn sort_and_dedup(locks: &mut [*const Core]) -> &mut [*const Core] {
    // SAFETY: the arms' operations keep the channels.
    locks.sort_unstable_by_key(|&core| unsafe { (*core).rank() });
    let mut len = 1;
    for index in 1..locks.len() {
        if locks[index] != locks[len - 1] {
            locks[len] = locks[index];
            len += 1;
        }
    }
    &mut locks[..len]
}

/// The locks that a select's commit releases.
struct Held {
    locks: *const *const Core,
    len: usize,
}

/// The commit of a select.
///
/// # Safety
///
/// `held` is a [`Held`] with at least one lock, all of them held and this one's to release; L1 holds for its owner.
unsafe fn unlock_all(held: *mut ()) {
    // SAFETY: the first lock is still held here, and the `index`-th one when it is read: so the owner's frame is still
    // there, and so is the channel, which the owner borrows (L3). The unlocks are plain stores, their last access.
    unsafe {
        let Held { locks, len } = held.cast::<Held>().read();
        for index in 0..len {
            let core = *locks.add(index);
            (*core).lock.unlock();
        }
    }
}

#[cfg(all(test, csp_loom))]
mod loom_tests;
