//! Processors: the right to run goroutines, as many as GOMAXPROCS, each with its queues and its slots.

use std::cell::{Cell, UnsafeCell};
use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use super::deque::{CAPACITY, Deque};
use super::goroutine::Runnable;
use super::record::Records;
use super::run_queue::RunQueue;
use super::worker::Worker;
use crate::slot::Slot;
use crate::slot::pool;
use crate::time::timer::Timers;

/// How many slots of the usual size a processor keeps.
const KEPT_SLOTS: usize = 64;
/// How many ids a processor takes at once.
const IDS: u64 = 64;

#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct Processor {
    pub(crate) index: usize,
    /// The worker that holds it; null while it is idle or changing hands. For sysmon and thieves.
    worker: AtomicPtr<Worker>,
    /// Given up because there are too many; neither held nor idle. Written under the lock of the idle ones.
    retired: AtomicBool,
    /// How many times a goroutine was picked. Written by the owner, and by sysmon to [`hurry`](Self::hurry) it; sysmon sees by it
    /// that a goroutine does not come back.
    tick: AtomicU32,
    /// It is to be given up: enough others are at work. Set by sysmon, cleared by the owner.
    surplus: AtomicBool,
    /// The goroutine to run next, the one made ready last: it shares the present one's cache. 0 for none. Written by the
    /// owner, and by a thief that has frozen the owner.
    next: AtomicUsize,
    /// How often a searcher may still be spared for a goroutine in `next`: it ran here soon each time they came.
    next_credit: Cell<u32>,
    next_refill: Cell<u32>,
    /// The count of picks when a searcher was last called for the goroutine in `next`: if it still stands when one comes,
    /// that goroutine has waited for as long as it takes to wake a thread. A hint: any thread.
    next_called_at: AtomicU32,
    /// What a searcher found about the goroutine in `next`: 0 nothing, 1 it had to be stolen, 2 it ran here by itself.
    next_hint: AtomicU32,
    /// How many more may be started before a thief is welcome again: those that one took were over sooner than it takes to
    /// move them. Set by that thief, counted down by the owner, cleared by sysmon.
    crumbs: AtomicU32,
    /// How many that were the last time. Used by thieves, as a hint.
    crumbs_before: AtomicU32,
    /// Goroutines started here, and ended here. Written by the owner.
    started: AtomicU64,
    ended: AtomicU64,
    /// Ids at hand: the next one and the first not ours.
    ids: Cell<(u64, u64)>,
    random: Cell<u32>,
    /// Free slots of the usual class. Used by the owner.
    slots: UnsafeCell<Vec<&'static Slot>>,
    /// Memory for goroutines to be. Used by the owner.
    pub(crate) records: Records,
    /// Goroutines that wait for room in `fresh` to start others, in the order in which they came. Used by the owner.
    spawners: UnsafeCell<VecDeque<&'static Slot>>,
    /// How many they are. Written by the owner.
    spawners_len: AtomicUsize,
    /// The oldest in `fresh` has waited too long. Set by sysmon, cleared by the owner.
    starving: AtomicBool,
    pub(crate) ready: RunQueue,
    pub(crate) fresh: Deque,
    /// The deadlines of those who wait since they ran here.
    pub(crate) timers: Timers,
}

// SAFETY: the `Cell`s, `records`, `slots`, and plain stores to the rest belong to the owner: the worker that holds the processor,
// in runtime code, or whoever took it from one. Changing hands goes through locks.
unsafe impl Sync for Processor {}
// SAFETY: as above.
unsafe impl Send for Processor {}

impl Processor {
    pub(crate) fn leak(index: usize) -> &'static Self {
        Box::leak(Box::new(Self {
            index,
            worker: AtomicPtr::new(std::ptr::null_mut()),
            retired: AtomicBool::new(false),
            tick: AtomicU32::new(0),
            surplus: AtomicBool::new(false),
            next: AtomicUsize::new(0),
            next_credit: Cell::new(0),
            next_refill: Cell::new(0),
            next_called_at: AtomicU32::new(u32::MAX),
            next_hint: AtomicU32::new(0),
            crumbs: AtomicU32::new(0),
            crumbs_before: AtomicU32::new(0),
            started: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            ids: Cell::new((0, 0)),
            random: Cell::new(0x9e37_79b9u32.wrapping_mul(index as u32 + 1) | 1),
            slots: UnsafeCell::new(Vec::with_capacity(KEPT_SLOTS)),
            records: Records::new(),
            spawners: UnsafeCell::new(VecDeque::new()),
            spawners_len: AtomicUsize::new(0),
            starving: AtomicBool::new(false),
            ready: RunQueue::new(),
            fresh: Deque::new(),
            timers: Timers::new(),
        }))
    }

    pub(crate) fn worker(&self) -> Option<&'static Worker> {
        // SAFETY: null or a worker; workers are never freed.
        unsafe { self.worker.load(Ordering::Acquire).as_ref() }
    }

    pub(crate) fn set_worker(&self, worker: Option<&'static Worker>) {
        let worker = worker.map_or(std::ptr::null_mut(), |w| std::ptr::from_ref(w).cast_mut());
        self.worker.store(worker, Ordering::Release);
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    pub(crate) fn set_retired(&self, retired: bool) {
        self.retired.store(retired, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn tick(&self) -> u32 {
        self.tick.load(Ordering::Relaxed)
    }

    /// Counts a goroutine picked, and returns the count. Owner.
    #[inline(always)]
    pub(crate) fn advance(&self) -> u32 {
        let tick = self.tick.load(Ordering::Relaxed).wrapping_add(1);
        self.tick.store(tick, Ordering::Relaxed);
        tick
    }

    /// Has the owner's next pick be one for fairness: puts the count forward to where it is. Done four times, every kind of those
    /// has had its turn, the global queue among them. Returns the count. For sysmon; where the owner counts at the same time it may be
    /// in vain.
    pub(crate) fn hurry(&self) -> u32 {
        let tick = self.tick() | (super::GLOBAL_TICKS / 4 - 1);
        self.tick.store(tick, Ordering::Relaxed);
        tick
    }

    /// See `sched::packing`.
    pub(crate) fn set_surplus(&self, surplus: bool) {
        self.surplus.store(surplus, Ordering::Relaxed);
    }

    /// Whether there are too many processors for this one to be held any longer, or enough others at work.
    #[inline]
    pub(crate) fn is_too_many(&self) -> bool {
        self.index >= super::PROCS.load(Ordering::Relaxed) || self.surplus.load(Ordering::Relaxed)
    }

    /// Puts a goroutine in the *next* place and returns the one that was there. Owner.
    #[inline(always)]
    pub(crate) fn replace_next(&self, runnable: Runnable) -> Option<Runnable> {
        let old = self.next.load(Ordering::Relaxed);
        self.next.store(runnable.into_raw(), Ordering::Relaxed);
        // SAFETY: a word in `next` came from `into_raw`, and is not there any more.
        (old != 0).then(|| unsafe { Runnable::from_raw(old) })
    }

    /// Takes the goroutine in the *next* place. Owner, or a thief that has frozen the owner.
    #[inline(always)]
    pub(crate) fn take_next(&self) -> Option<Runnable> {
        let next = self.next.load(Ordering::Relaxed);
        if next == 0 {
            return None;
        }
        self.next.store(0, Ordering::Relaxed);
        // SAFETY: as in `replace_next`.
        Some(unsafe { Runnable::from_raw(next) })
    }

    pub(crate) fn has_next(&self) -> bool {
        self.next.load(Ordering::Relaxed) != 0
    }

    /// Whether a searcher is to be woken for a goroutine that is alone in `next`. Mostly it runs here soon: as long as
    /// searchers find just that, ever fewer are woken. Owner.
    #[inline(always)]
    pub(crate) fn next_wants_searcher(&self) -> bool {
        let credit = self.next_credit.get();
        if credit == 0 {
            self.next_credit.set(self.next_refill.get());
            return true;
        }
        self.next_credit.set(credit - 1);
        false
    }

    /// A searcher has been called for the goroutine in `next`.
    pub(crate) fn call_for_next(&self) {
        self.next_called_at.store(self.tick(), Ordering::Relaxed);
    }

    /// Whether it has been in the turn `tick`.
    pub(crate) fn called_for_next(&self, tick: u32) -> bool {
        self.next_called_at.load(Ordering::Relaxed) == tick
    }

    /// A searcher reports whether it had to take the one in `next` (`true`), or came for nothing. A hint: any thread.
    pub(crate) fn judge_next(&self, stolen: bool) {
        self.next_hint.store(if stolen { 1 } else { 2 }, Ordering::Relaxed);
    }

    /// Takes in what searchers reported. Owner.
    pub(crate) fn hear_judgement(&self) {
        let hint = &self.next_hint;
        match hint.load(Ordering::Relaxed) {
            0 => return,
            1 => {
                self.next_refill.set(0);
                self.next_credit.set(0);
            }
            _ => {
                let refill = (self.next_refill.get() * 2).clamp(16, 1 << 16);
                self.next_refill.set(refill);
                self.next_credit.set(refill);
            }
        }
        hint.store(0, Ordering::Relaxed);
    }

    /// A thief reports how those in `fresh` that it took were: over too soon to be worth it, or not.
    pub(crate) fn judge_fresh(&self, crumbs: bool) {
        let before = self.crumbs_before.load(Ordering::Relaxed);
        let now = if crumbs { (before * 2).clamp(256, 1 << 12) } else { 0 };
        self.crumbs_before.store(now, Ordering::Relaxed);
        self.crumbs.store(now, Ordering::Relaxed);
    }

    /// Whether a thief is to leave those in `fresh` to the owner.
    pub(crate) fn has_crumbs(&self) -> bool {
        self.crumbs.load(Ordering::Relaxed) != 0
    }

    /// One more is in `fresh`: says whether to keep quiet about it. Owner.
    #[inline(always)]
    pub(crate) fn spend_crumb(&self) -> bool {
        let crumbs = self.crumbs.load(Ordering::Relaxed);
        crumbs != 0 && {
            self.crumbs.store(crumbs - 1, Ordering::Relaxed);
            true
        }
    }

    /// The owner did not get to what is in `fresh`.
    pub(crate) fn offer_crumbs(&self) {
        self.crumbs.store(0, Ordering::Relaxed);
    }

    /// Whether there is anything that others can, and should, take from here without freezing the owner.
    pub(crate) fn has_queued(&self) -> bool {
        self.ready.len() != 0 || (self.fresh.len() != 0 && !self.has_crumbs())
    }

    /// Whether there is anything that whoever holds the processor can run.
    pub(crate) fn has_any(&self) -> bool {
        self.has_next()
            || self.ready.len() != 0
            || self.fresh.len() != 0
            || self.spawners_len.load(Ordering::Relaxed) != 0
    }

    /// Changes `spawners`, and counts them. Owner.
    #[inline(always)]
    fn with_spawners<R>(&self, change: impl FnOnce(&mut VecDeque<&'static Slot>) -> R) -> R {
        // SAFETY: the owner alone uses `spawners`, and `change` does nothing but push or pop.
        let spawners = unsafe { &mut *self.spawners.get() };
        let result = change(spawners);
        self.spawners_len.store(spawners.len(), Ordering::Relaxed);
        result
    }

    /// Lets a goroutine wait for room in `fresh`. Owner.
    pub(crate) fn push_spawner(&self, slot: &'static Slot) {
        self.with_spawners(|spawners| spawners.push_back(slot));
    }

    /// Takes the goroutine that began to wait last, if there is room for `room` in `fresh`. Owner.
    #[inline(always)]
    pub(crate) fn pop_spawner(&self, room: usize) -> Option<&'static Slot> {
        if self.spawners_len.load(Ordering::Relaxed) == 0 || self.fresh.len() + room > CAPACITY {
            return None;
        }
        self.with_spawners(VecDeque::pop_back)
    }

    /// Takes the goroutine that has waited for longest. Owner.
    pub(crate) fn pop_oldest_spawner(&self) -> Option<&'static Slot> {
        self.with_spawners(VecDeque::pop_front)
    }

    /// Has the owner start the oldest in `fresh` soon.
    pub(crate) fn set_starving(&self) {
        self.starving.store(true, Ordering::Relaxed);
    }

    /// Whether the oldest in `fresh` is to be started now. Owner.
    pub(crate) fn take_starving(&self) -> bool {
        self.starving.load(Ordering::Relaxed) && {
            self.starving.store(false, Ordering::Relaxed);
            true
        }
    }

    #[inline(always)]
    pub(crate) fn count_started(&self) {
        self.started.store(self.started.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    #[inline(always)]
    pub(crate) fn count_ended(&self) {
        self.ended.store(self.ended.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// How many have ended here.
    pub(crate) fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    /// Started minus ended, on this processor: may be negative.
    pub(crate) fn balance(&self) -> i64 {
        // Ended first: a goroutine between the two loads is counted rather than forgotten.
        let ended = self.ended.load(Ordering::Acquire);
        self.started.load(Ordering::Acquire) as i64 - ended as i64
    }

    /// A fresh goroutine id. Owner.
    #[inline(always)]
    pub(crate) fn next_id(&self) -> NonZeroU64 {
        let (mut next, mut end) = self.ids.get();
        if next == end {
            next = super::take_ids(IDS);
            end = next + IDS;
        }
        self.ids.set((next + 1, end));
        // SAFETY: `take_ids` begins at 1.
        unsafe { NonZeroU64::new_unchecked(next) }
    }

    /// A number for choosing at random. Owner.
    pub(crate) fn random(&self) -> u32 {
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        self.random.set(x);
        x
    }

    /// A free slot of the usual class that lies ready. Owner.
    #[inline(always)]
    pub(crate) fn take_slot(&self) -> Option<&'static Slot> {
        // SAFETY: the owner alone uses `slots`, and calls nothing that comes back here meanwhile.
        let slots = unsafe { &mut *self.slots.get() };
        match slots.pop() {
            Some(slot) => Some(slot),
            None => {
                pool::take(super::default_class(), KEPT_SLOTS / 2, slots);
                slots.pop()
            }
        }
    }

    /// Puts a free slot of the usual class aside. Owner.
    #[inline(always)]
    pub(crate) fn put_slot(&self, slot: &'static Slot) {
        // SAFETY: as in `take_slot`.
        let slots = unsafe { &mut *self.slots.get() };
        if slots.len() == KEPT_SLOTS {
            // The oldest go: the newest are warm.
            pool::put(slots.drain(..KEPT_SLOTS / 2));
        }
        slots.push(slot);
    }

    /// Gives every free slot back to the pool. Owner.
    pub(crate) fn give_back_slots(&self) {
        // SAFETY: as in `take_slot`.
        pool::put(unsafe { &mut *self.slots.get() }.drain(..));
    }

    /// Makes slots of the usual class and takes one. Owner, on the worker's own stack.
    pub(crate) fn make_slot(&self) -> std::io::Result<&'static Slot> {
        // SAFETY: as in `take_slot`; making slots does not run goroutines.
        let slots = unsafe { &mut *self.slots.get() };
        pool::make(super::default_class(), slots)?;
        Ok(slots.pop().expect("a batch has a slot"))
    }
}
