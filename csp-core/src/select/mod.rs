//! Select: wait for several channel operations at once, and carry out one of them.
//!
//! # The protocol
//!
//! 1. *Look.* One pass over the arms without a lock collects those that seem ready. With a `default` and none of them
//!    ready that is all, if there is one channel; of several it takes a look at all of them at once, under their locks,
//!    to say that none was ready. Else one of them is drawn at random, its channel locked and the operation tried; if it fails
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
//!    unlinks all of them and looks at the arms once more: a timer arm may be due. So it does where a claimer has taken
//!    its word back.
//!
//! A send arm may be an *offer*, which gets the right to send and then the message (`chan::raw::grant`): it is chosen,
//! queued and claimed like any other. A select that only waits for an arm to become *ready* queues watchers instead
//! (`chan::raw::watch`), which nobody claims to meet them, and looks again when it is woken.
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
mod dynamic;
mod order;

use std::mem::MaybeUninit;
use std::panic::Location;
use std::time::{Duration, Instant};

pub use arm::{Arm, Granted, Offer, Recv, Send, offer, recv, send};
use arm::{State, Target};
pub use dynamic::{Select, SelectedOperation};
pub use order::Order;
use order::random_below;

use crate::chan::raw::Core;
use crate::chan::timer::pause;
use crate::chan::waiter::{ABANDONED, DONE, SHARED, Waiter, Woken};
use crate::sched::park::{Parker, TIMED_OUT, Wait, WaitReason, checkpoint, park};

/// Waits until one of the arms can be carried out, carries it out and returns its index.
#[inline]
#[track_caller]
pub fn wait<const N: usize>(order: Order, arms: [Arm<'_>; N]) -> usize {
    checkpoint();
    run(order, arms, Limit::Never, Location::caller())
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
    run(order, arms, Limit::Never, Location::caller())
}

/// As [`wait`], but for `timeout` at most; returns `N` where no arm could be carried out by then.
#[inline]
#[track_caller]
pub fn wait_timeout<const N: usize>(order: Order, arms: [Arm<'_>; N], timeout: Duration) -> usize {
    checkpoint();
    run(order, arms, Limit::After(timeout), Location::caller())
}

/// Carries out one of the arms if that needs no wait, and returns its index; else `N`.
#[inline]
pub fn poll<const N: usize>(order: Order, mut arms: [Arm<'_>; N]) -> usize {
    checkpoint();
    loop {
        if !arms.iter().all(Arm::would_block)
            && let Some(chosen) = look_for_poll(order, &mut arms, &mut [0; N])
        {
            return chosen;
        }
        if N <= 1 || all_block(&arms, &mut [std::ptr::null(); N]) {
            return N;
        }
    }
}

/// What [`poll`] does where its one arm was found to have to wait.
#[inline]
pub fn polled_in_vain() -> usize {
    checkpoint();
    1
}

/// Where a pattern has matched without its bindings, and does not with them.
#[cold]
#[track_caller]
pub fn constant_taken_for_binding() -> ! {
    panic!(
        "a lower-case name in a pattern of `select!` is taken for a binding, but names a constant or a unit struct here; write \
         it as a path (`self::name`), or compare in the body"
    )
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
    limit: Limit,
    location: &'static Location<'static>,
) -> usize {
    let mut room = Room {
        ready: &mut [0; N],
        locks: &mut [std::ptr::null(); N],
        waiters: &mut [const { MaybeUninit::uninit() }; N],
    };
    // With so few arms every loop over them is unrolled.
    if const { N <= 4 } {
        select_here(Aim::Operation, order, &mut arms, &mut room, limit, location)
    } else {
        select(Aim::Operation, order, &mut arms, &mut room, limit, location)
    }
}

/// What a select waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Aim {
    /// To carry out one of the operations.
    Operation,
    /// That one of them can be carried out, as it looks.
    Readiness,
}

/// For how long a select waits.
#[derive(Clone, Copy)]
enum Limit {
    Never,
    /// It does not wait.
    Now,
    /// From the first look on, if that finds nothing.
    After(Duration),
    At(Instant),
}

impl Limit {
    /// Beyond the clock is for ever.
    #[inline]
    fn deadline(self) -> Option<Instant> {
        match self {
            Self::Never | Self::Now => None,
            Self::After(timeout) => crate::primitive::now().checked_add(timeout),
            Self::At(deadline) => Some(deadline),
        }
    }
}

/// Each slice is as long as there are arms, or longer.
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
    aim: Aim,
    order: Order,
    arms: &mut [Arm<'_>],
    room: &mut Room<'_>,
    limit: Limit,
    location: &'static Location<'static>,
) -> usize {
    select_here(aim, order, arms, room, limit, location)
}

#[inline(always)]
fn select_here(
    aim: Aim,
    order: Order,
    arms: &mut [Arm<'_>],
    room: &mut Room<'_>,
    limit: Limit,
    location: &'static Location<'static>,
) -> usize {
    let mut deadline = None;
    let mut looked = false;
    loop {
        let found = match aim {
            Aim::Operation => look(order, arms, room.ready),
            Aim::Readiness => look_only(order, arms, room.ready),
        };
        if let Some(chosen) = found {
            return chosen;
        }
        if !looked {
            looked = true;
            deadline = limit.deadline();
        }
        let due = arms.iter().filter_map(|arm| match arm.target {
            Target::Timer(timer) => timer.due(),
            _ => None,
        });
        let until = due.chain(deadline).min();
        let now = until.map(|_| crate::primitive::now());
        if matches!(limit, Limit::Now) || deadline.is_some() && deadline <= now {
            if aim == Aim::Readiness || all_block(arms, room.locks) {
                return arms.len();
            }
            continue;
        }
        if until.is_some() && until <= now {
            continue;
        }
        if let Some(chosen) = block(aim, order, arms, room, until, location) {
            return chosen;
        }
    }
}

/// Step 1: carries out an arm that needs no wait.
#[inline(always)]
fn look(order: Order, arms: &mut [Arm<'_>], ready: &mut [u32]) -> Option<usize> {
    let mut now = None;
    let mut count = 0;
    for (index, arm) in arms.iter().enumerate() {
        let seems_ready = match arm.target {
            Target::Timer(timer) => {
                timer.due().is_some_and(|due| due <= *now.get_or_insert_with(crate::primitive::now))
            }
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

/// As [`look`], out of the way of a poll that finds nothing.
#[inline(never)]
fn look_for_poll(order: Order, arms: &mut [Arm<'_>], ready: &mut [u32]) -> Option<usize> {
    look(order, arms, ready)
}

/// Step 1 of a select that carries nothing out: finds an arm that needs no wait.
fn look_only(order: Order, arms: &[Arm<'_>], ready: &mut [u32]) -> Option<usize> {
    let mut now = None;
    let mut count = 0;
    for (index, arm) in arms.iter().enumerate() {
        let is_ready = match arm.target {
            Target::Nothing => false,
            Target::Timer(timer) => {
                timer.due().is_some_and(|due| due <= *now.get_or_insert_with(crate::primitive::now))
            }
            // SAFETY: the arm's operation keeps the channel. The lock is held in between.
            Target::Channel { core, .. } => unsafe {
                (*core).lock.lock();
                let blocks = arm.blocks();
                (*core).lock.unlock();
                !blocks
            },
        };
        if is_ready {
            ready[count] = index as u32;
            count += 1;
        }
    }
    (count != 0).then(|| ready[draw(order, count)] as usize)
}

/// Whether there was a moment, after a look at each, when every channel's arm would have had to wait. One look after the
/// other does not tell: what was full may be empty by the time the empty one is full.
#[inline(never)]
fn all_block(arms: &[Arm<'_>], locks: &mut [*const Core]) -> bool {
    let (count, locks) = channels(arms, locks);
    if count <= 1 {
        return true;
    }
    // SAFETY: the arms' operations keep the channels; the locks are held in between.
    unsafe {
        locks.iter().for_each(|&core| (*core).lock.lock());
        let all = arms.iter().all(|arm| matches!(arm.target, Target::Timer(_)) || arm.blocks());
        locks.iter().for_each(|&core| (*core).lock.unlock());
        all
    }
}

/// Which of `count` ready arms to take.
#[inline]
fn draw(order: Order, count: usize) -> usize {
    if count == 1 || order == Order::Biased { 0 } else { random_below(count as u32) as usize }
}

/// The numbers from 0 on, in any order.
#[cold]
fn shuffle(order: &mut [u32]) {
    for index in 0..order.len() {
        let other = random_below(index as u32 + 1) as usize;
        order[index] = order[other];
        order[other] = index as u32;
    }
}

/// Steps 2 to 7. `None`: look again; the deadline has ended the wait, or an arm was ready that turned out not to be, or
/// has become so for one who only looks. Inlined: see [`park`].
#[inline(always)]
fn block(
    aim: Aim,
    order: Order,
    arms: &mut [Arm<'_>],
    room: &mut Room<'_>,
    until: Option<Instant>,
    location: &'static Location<'static>,
) -> Option<usize> {
    let Room { ready, locks, waiters } = room;
    debug_assert!(ready.len() >= arms.len() && locks.len() >= arms.len() && waiters.len() >= arms.len());
    // From here on only through this pointer: others have pointers to the waiters as well.
    let waiters = waiters.as_mut_ptr().cast::<Waiter>();
    let (count, locks) = channels(arms, locks);
    if count == 0 {
        let reason = if arms.is_empty() { WaitReason::SelectNoCases } else { WaitReason::Select };
        pause(until, reason, location);
        return None;
    }
    // With one waiter and no deadline nobody competes for the claim (W6).
    let sole = count == 1 && until.is_none();
    // SAFETY: the arms' operations keep the channels.
    locks.iter().for_each(|&core| unsafe { (*core).lock.lock() });

    let mut found = 0;
    for (index, arm) in arms.iter().enumerate() {
        // SAFETY: all the locks are held.
        if matches!(arm.target, Target::Channel { .. }) && !unsafe { arm.blocks() } {
            ready[found] = index as u32;
            found += 1;
        }
    }
    if found != 0 {
        let chosen = ready[draw(order, found)] as usize;
        let Target::Channel { core: kept, .. } = arms[chosen].target else { unreachable!() };
        if aim == Aim::Readiness {
            // SAFETY: all the locks are held.
            locks.iter().for_each(|&core| unsafe { (*core).lock.unlock() });
            return Some(chosen);
        }
        // SAFETY: all the locks are held; all but one are released here, and that one by the operation.
        unsafe {
            locks.iter().filter(|&&core| core != kept).for_each(|&core| (*core).lock.unlock());
            let carried_out = arms[chosen].try_begin_locked();
            fall_out_of_step();
            return carried_out.then_some(chosen);
        }
    }

    // Of several arms on one channel a claimer finds the one first that was queued first.
    let shuffled = order == Order::Random && locks.len() < count;
    if shuffled {
        shuffle(&mut ready[..arms.len()]);
    }
    let outcome = {
        let current = Parker::current();
        let parker = current.parker;
        let ticket = parker.begin();
        let mut woken = Woken::new();
        for position in 0..arms.len() {
            let index = if shuffled { ready[position] as usize } else { position };
            let arm = &arms[index];
            if let Target::Channel { core, side, offers, .. } = arm.target {
                // SAFETY: there is room for a waiter for each arm. The lock is held. The waiter stays in that room, in
                // the caller's frame or its heap, until it is unlinked: by whoever claims or discards it, or below (W2,
                // W5). An arm that only looks is not ready, as was just seen.
                unsafe {
                    let waiter = waiters.add(index);
                    waiter.write(Waiter::new(parker, ticket, arm.message, index as u32, sole).offering(offers));
                    match aim {
                        Aim::Operation => {
                            (*core).queue(side).push(waiter);
                            (*core).claim_watchers(side.other(), &mut woken);
                        }
                        Aim::Readiness => (*core).watch(side, waiter),
                    }
                }
            }
        }
        let held = Held { locks: locks.as_ptr(), len: locks.len(), woken };
        let wait = Wait { reason: WaitReason::Select, location, deadline: until };
        // SAFETY: the parker is ours and the ticket its newest. The commit may run anywhere, and reads the frame only
        // while that must still be there (L1 to L3).
        unsafe { park(parker, ticket, wait, unlock_all, (&raw const held).cast_mut().cast()) }
    };

    let claimed = match outcome {
        TIMED_OUT | ABANDONED => None,
        _ if aim == Aim::Readiness => None,
        _ => Some((outcome - DONE) / 2),
    };
    // The arm that the outcome names, unless it names those that share one.
    let mut chosen = claimed.filter(|&index| index < SHARED).map(|index| index as usize);
    let search = claimed == Some(SHARED);
    for (index, arm) in arms.iter().enumerate() {
        if let Target::Channel { core, side, .. } = arm.target
            && (search || chosen != Some(index))
        {
            // SAFETY: the waiter was written above. Under the lock its links can be looked at, and nobody is in the
            // middle of discarding it (W5).
            unsafe {
                (*core).lock.lock();
                let waiter = waiters.add(index);
                if (*waiter).is_linked() {
                    match aim {
                        Aim::Operation => (*core).queue(side).unlink(waiter),
                        Aim::Readiness => (*core).unwatch(side, waiter),
                    }
                } else if search && (*waiter).was_claimed() {
                    chosen = Some(index);
                }
                (*core).lock.unlock();
            }
        }
        #[cfg(csp_loom)]
        if matches!(arm.target, Target::Channel { .. }) {
            // SAFETY: as above.
            unsafe { (*waiters.add(index)).end() };
        }
    }
    if let Some(chosen) = chosen {
        let done = (outcome - DONE).is_multiple_of(2);
        arms[chosen].settle(if done { State::Done } else { State::Closed });
    }
    chosen
}

/// Another thread came in between our two looks. Two that work side by side may go on like that in step: each time one finds
/// nothing it waits for a lock that the other holds to send, and so never for what the other sends only to those who
/// wait (a channel without a buffer, beside some that have one). A little delay, never twice the same, ends that. Where
/// goroutines share a processor there is no such step.
#[cfg(not(csp_loom))]
#[cold]
fn fall_out_of_step() {
    const MOST: u32 = 64;
    if !Parker::is_goroutine() {
        (0..random_below(MOST)).for_each(|_| std::hint::spin_loop());
    }
}

#[cfg(csp_loom)]
fn fall_out_of_step() {}

/// How many arms have a channel, and the channels in the order of their addresses, each once.
#[inline(always)]
fn channels<'l>(arms: &[Arm<'_>], locks: &'l mut [*const Core]) -> (usize, &'l [*const Core]) {
    let mut count = 0;
    let mut sorted = true;
    for arm in arms {
        if let Target::Channel { core, .. } = arm.target {
            // SAFETY: the arms' operations keep the channels.
            sorted &= count == 0 || unsafe { (*locks[count - 1]).rank() < (*core).rank() };
            locks[count] = core;
            count += 1;
        }
    }
    let locks = &mut locks[..count];
    if sorted {
        return (count, locks);
    }
    // SAFETY: as above.
    let rank = |core: *const Core| unsafe { (*core).rank() };
    if count == 2 {
        locks.swap(0, 1);
    } else {
        locks.sort_unstable_by_key(|&core| rank(core));
    }
    let mut len = 0;
    for index in 0..count {
        if len == 0 || locks[index] != locks[len - 1] {
            locks[len] = locks[index];
            len += 1;
        }
    }
    (count, &locks[..len])
}

/// The locks that a select's commit releases.
struct Held {
    locks: *const *const Core,
    len: usize,
    /// Those who have waited for what the select's waiters have made possible.
    woken: Woken,
}

/// The commit of a select.
///
/// # Safety
///
/// `held` is a [`Held`] with at least one lock, all of them held and this one's to release; L1 holds for its owner.
unsafe fn unlock_all(held: *mut ()) {
    // SAFETY: the first lock is still held here, and the `index`-th one when it is read: so the owner's frame is still
    // there, and so is the channel, which the owner borrows (L3). The unlocks are plain stores, their last access.
    // The woken were claimed by the select, and are alive until they are made ready (W4).
    unsafe {
        let Held { locks, len, woken } = held.cast::<Held>().read();
        for index in 0..len {
            let core = *locks.add(index);
            (*core).lock.unlock();
        }
        woken.ready_all();
    }
}

#[cfg(all(test, csp_loom))]
mod loom_offers;
#[cfg(all(test, csp_loom))]
mod loom_tests;
