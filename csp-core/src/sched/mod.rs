//! The scheduler: goroutines on processors, processors on workers.
//!
//! A *goroutine* is ready, running or parked. A *processor* is the right to run one goroutine at a time; there are
//! GOMAXPROCS of them. A *worker* is an OS thread; it runs goroutines while it holds a processor.
//!
//! # Where ready goroutines wait
//!
//! Each processor has a *next* place for the goroutine made ready last, a queue for those made ready before
//! ([`run_queue`]), and a deque for those that have not started ([`deque`]), in this order of preference. There is one
//! global queue, for goroutines made ready by plain threads or preempted. So that nobody starves, every so many picks
//! begin at the other end.
//!
//! # From one goroutine to the next
//!
//! A goroutine that parks picks the next one and switches to it directly ([`leave`]). The *commit* of the one that left
//! runs on the stack of the one that came: it publishes the one that left (S4). A goroutine that ends goes on as the next
//! one if that has not started yet: same slot, no switch. Where there is nothing to run, or something that cannot be done
//! on a goroutine's stack, the switch goes to the worker's own stack ([`run_worker`]), which steals, polls timers, makes
//! slots, and sleeps.
//!
//! # Sleeping and waking
//!
//! Waking an OS thread is expensive, so at most one worker *searches* at a time, and work that appears while there is a
//! searcher wakes nobody: the searcher will find it, and when it has found something it wakes the next. Why no wake-up is
//! lost stands in [`sleepers`].

pub(crate) mod barrier;
pub(crate) mod deadlock;
pub(crate) mod deque;
pub(crate) mod goroutine;
pub(crate) mod hold;
pub(crate) mod idle;
pub(crate) mod os_thread;
pub(crate) mod packing;
pub(crate) mod park;
pub(crate) mod placement;
pub(crate) mod processor;
pub(crate) mod record;
pub(crate) mod run_queue;
pub(crate) mod sleepers;
pub(crate) mod sysmon;
pub(crate) mod worker;

use std::cell::Cell;
use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicI64, AtomicPtr, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::context_switch::{self, Commit, Execution};
use crate::slot::{Slot, pool};
use crate::stack;
use crate::time::timer::{self, Timers};
use goroutine::{Runnable, TaskRef, Work};
use idle::SLEEPERS;
use park::{Parker, Ticket};
use processor::Processor;
use worker::Worker;

/// More processors than this there are not.
pub(crate) const MAX_PROCS: usize = 1024;
/// How many picks there are between two looks at the global queue.
const GLOBAL_TICKS: u32 = 64;
/// How long a searcher looks for work before it sleeps.
const SEARCH_TIME: Duration = Duration::from_micros(15);
/// How long a goroutine must have waited in a *next* place before a thief may take it.
const NEXT_PATIENCE: Duration = Duration::from_micros(6);
/// A goroutine that is over sooner, its way to another processor included, had better stayed where it was started.
const CRUMB: Duration = Duration::from_nanos(400);

static PROCESSORS: [AtomicPtr<Processor>; MAX_PROCS] = [const { AtomicPtr::new(std::ptr::null_mut()) }; MAX_PROCS];
/// How many processors there may be now.
static PROCS: AtomicUsize = AtomicUsize::new(0);
/// How many were ever made: those above `PROCS` may still be held.
static PROCS_MADE: AtomicUsize = AtomicUsize::new(0);
static GLOBAL: Mutex<VecDeque<Runnable>> = Mutex::new(VecDeque::new());
static GLOBAL_LEN: AtomicUsize = AtomicUsize::new(0);
static NEXT_ID: AtomicU64 = AtomicU64::new(1);
/// Goroutines started and not ended, by whoever holds no processor.
static BALANCE: AtomicI64 = AtomicI64::new(0);
/// Workers that run a goroutine without holding a processor.
static DETACHED: AtomicUsize = AtomicUsize::new(0);
/// The timers of goroutines that wait since they ran without a processor.
static STRAY_TIMERS: Timers = Timers::new();
/// How often the number of processors was changed. For sysmon.
static CHANGES: AtomicUsize = AtomicUsize::new(0);
static DEFAULT_CLASS: AtomicU8 = AtomicU8::new(pool::class_of_stride(stack::DEFAULT_STRIDE));

thread_local! {
    /// The worker whose own stack and identity this is. Goroutines find theirs through their slot.
    static WORKER: Cell<Option<&'static Worker>> = const { Cell::new(None) };
}

/// The class of the slots that goroutines get when they ask for nothing else.
pub(crate) fn default_class() -> u8 {
    DEFAULT_CLASS.load(Ordering::Relaxed)
}

pub(crate) fn set_default_class(class: u8) {
    DEFAULT_CLASS.store(class, Ordering::Relaxed);
}

fn take_ids(count: u64) -> u64 {
    NEXT_ID.fetch_add(count, Ordering::Relaxed)
}

fn processors() -> impl Iterator<Item = &'static Processor> {
    let made = PROCS_MADE.load(Ordering::Acquire);
    // SAFETY: entries below the count are processors, which are never freed.
    PROCESSORS[..made].iter().map(|p| unsafe { &*p.load(Ordering::Acquire) })
}

/// The worker that runs the caller, with the caller's runtime code registered.
#[inline]
fn enter() -> Option<worker::Entered> {
    match Slot::current() {
        Some(slot) => Some(slot.worker().enter()),
        None => WORKER.get().map(Worker::enter),
    }
}

/// Whether the caller holds a processor.
fn is_at_work() -> bool {
    enter().is_some_and(|entered| entered.processor.is_some())
}

// --- Starting and ending -------------------------------------------------------------------------------------------

/// An id for a goroutine to be.
#[inline]
pub(crate) fn new_id() -> NonZeroU64 {
    if let Some(entered) = enter()
        && let Some(processor) = entered.processor
    {
        return processor.next_id();
    }
    NonZeroU64::new(take_ids(1)).expect("ids begin at 1")
}

/// Queues a goroutine that has not started.
#[inline]
pub(crate) fn spawn(task: TaskRef) {
    let mut runnable = Runnable::fresh(task);
    if let Some(slot) = Slot::current() {
        loop {
            let entered = slot.worker().enter();
            let Some(processor) = entered.processor else { break };
            match processor.fresh.push(runnable) {
                Ok(()) => {
                    processor.count_started();
                    if !processor.spend_crumb() {
                        notify_work();
                    }
                    return;
                }
                Err(back) => runnable = back,
            }
            if slot.worker().locked_slot().is_some() || slot.worker().reserved {
                break;
            }
            // The deque is full: some of what is in it runs before more is started, and the last to wait goes on first,
            // so that a tree of goroutines stays depth-first.
            drop(entered);
            wait_for_room(slot);
        }
    }
    BALANCE.fetch_add(1, Ordering::Relaxed);
    inject(runnable);
}

/// Waits until some of what is started has run.
#[cold]
fn wait_for_room(slot: &'static Slot) {
    // SAFETY: the commit queues us after we have left.
    unsafe { leave(slot, Commit { run: wait_to_spawn, arg: std::ptr::from_ref(slot).cast_mut().cast() }) };
}

/// How many goroutines there are that have not ended.
pub(crate) fn count() -> usize {
    let local: i64 = processors().map(Processor::balance).sum();
    (local + BALANCE.load(Ordering::Acquire)).max(0) as usize
}

/// The code of every slot: runs one goroutine after another. `commit` came with the first resumption.
pub(crate) fn slot_main(slot: &'static Slot, commit: Commit) {
    let mut commit = commit;
    loop {
        // SAFETY: it came with the switch to us.
        unsafe { (commit.run)(commit.arg) };
        loop {
            // SAFETY: whoever resumed a free slot gave it a task.
            let task = unsafe { TaskRef::from_raw(slot.task()) };
            slot.worker().leave();
            // SAFETY: the runtime runs each task once: it came from a queue.
            unsafe { task.run() };
            // Read again: the goroutine may have moved (S1).
            let worker = slot.worker();
            let processor = worker.enter().stay();
            match processor {
                Some(processor) => processor.count_ended(),
                None => _ = BALANCE.fetch_sub(1, Ordering::Release),
            }
            os_thread::end_locked(slot, worker);
            let Some(Work::Fresh(task)) = pick_for_warm_slot(slot, worker, processor) else { break };
            slot.task.store(task.into_raw(), Ordering::Relaxed);
        }
        let worker = slot.worker();
        let free = Commit { run: free_slot, arg: std::ptr::from_ref(slot).cast_mut().cast() };
        let to = match worker.pending.take().map(Runnable::into_work) {
            Some(Work::Suspended(next)) if may_switch_to(next) => {
                next.set_worker(worker);
                &next.execution
            }
            Some(Work::Suspended(next)) => {
                worker.pending.set(Some(Runnable::suspended(next)));
                &worker.execution
            }
            Some(Work::Fresh(task)) => {
                worker.pending.set(Some(Runnable::fresh(task)));
                &worker.execution
            }
            None => &worker.execution,
        };
        if slot.retired.load(Ordering::Relaxed) {
            // A thread that ends, or goes back to whoever lent it.
            // What its thread-locals do on being destroyed they do as a thread.
            Slot::disown_thread();
            // SAFETY: `to` is suspended, and picking it gave us the right to resume it.
            unsafe { to.resume_thread(Commit::NONE) };
            return;
        }
        // SAFETY: as above. Nothing of the goroutine is left on this stack (S3).
        commit = unsafe { slot.execution.transfer(to, free) };
    }
}

/// What the slot of a goroutine that has ended can run without a switch, if that is what comes next. What comes next but
/// cannot be run so is left in `worker.pending`.
fn pick_for_warm_slot(slot: &Slot, worker: &'static Worker, processor: Option<&'static Processor>) -> Option<Work> {
    let processor = processor?;
    if slot.retired.load(Ordering::Relaxed) || worker.ends.get() || worker.reserved || worker.locked_slot().is_some() {
        return None;
    }
    let work = pick(worker, processor, true, true)?.into_work();
    match work {
        Work::Fresh(task) if task.class == slot.class && !task.locked && task.slot.is_none() => Some(Work::Fresh(task)),
        Work::Fresh(task) => {
            worker.pending.set(Some(Runnable::fresh(task)));
            None
        }
        Work::Suspended(next) => {
            worker.pending.set(Some(Runnable::suspended(next)));
            None
        }
    }
}

/// Commit: a slot is free.
unsafe fn free_slot(slot: *mut ()) {
    // SAFETY: the argument is a slot, whose stack was left for good by the goroutine (S3).
    let slot: &'static Slot = unsafe { &*slot.cast::<Slot>() };
    match slot.worker().processor() {
        Some(processor) if slot.class == default_class() => processor.put_slot(slot),
        _ => pool::put([slot].into_iter()),
    }
}

// --- Parking and making ready --------------------------------------------------------------------------------------

/// Leaves the running goroutine's stack for whatever comes next; `commit` runs after that. Returns when somebody has
/// made the goroutine ready and a worker runs it again.
///
/// # Safety
///
/// `slot` is the caller's. `commit`, or what it publishes, sees to it that the goroutine is made ready exactly once.
#[inline(always)]
pub(crate) unsafe fn leave(slot: &'static Slot, commit: Commit) {
    let worker = slot.worker();
    let processor = worker.enter().stay();
    let to = next_execution(worker, processor);
    // SAFETY: the caller's promise.
    unsafe { leave_for(slot, to, commit) };
}

/// As [`leave`], for `to`. The caller has entered runtime code, and stays in it.
///
/// # Safety
///
/// As there. `to` is what [`next_execution`] has just returned.
#[inline(always)]
unsafe fn leave_for(slot: &'static Slot, to: &'static Execution, commit: Commit) {
    // SAFETY: `slot` runs; `to` is suspended and was given to us by a queue, or is the worker's own stack.
    let theirs = unsafe { slot.execution.transfer(to, commit) };
    // SAFETY: it came with the switch to us.
    unsafe { (theirs.run)(theirs.arg) };
    // Read again: another worker may have resumed us (S1).
    slot.worker().leave();
}

/// Where a goroutine that leaves its stack goes: to the next goroutine, else to the worker's own stack.
#[inline(always)]
fn next_execution(worker: &'static Worker, processor: Option<&'static Processor>) -> &'static Execution {
    let Some(processor) = processor else { return &worker.execution };
    if worker.reserved || worker.locked_slot().is_some() || duties_are_next(processor) {
        return &worker.execution;
    }
    let Some(runnable) = pick(worker, processor, false, false) else { return &worker.execution };
    match runnable.into_work() {
        Work::Suspended(next) if may_switch_to(next) => {
            next.set_worker(worker);
            &next.execution
        }
        Work::Fresh(task) if task.class == default_class() && !task.locked && task.slot.is_none() => {
            match processor.take_slot() {
                Some(slot) => {
                    slot.task.store(task.into_raw(), Ordering::Relaxed);
                    slot.set_worker(worker);
                    &slot.execution
                }
                None => {
                    worker.pending.set(Some(Runnable::fresh(task)));
                    &worker.execution
                }
            }
        }
        Work::Suspended(next) => {
            worker.pending.set(Some(Runnable::suspended(next)));
            &worker.execution
        }
        Work::Fresh(task) => {
            worker.pending.set(Some(Runnable::fresh(task)));
            &worker.execution
        }
    }
}

/// Whether the goroutine may run on any worker's thread, and from a goroutine's stack.
#[inline(always)]
fn may_switch_to(next: &'static Slot) -> bool {
    next.owner().is_none()
}

/// Makes a parked goroutine ready: it runs next here, or where there is room.
#[inline]
pub(crate) fn ready(slot: &'static Slot) {
    let runnable = Runnable::suspended(slot);
    if let Some(entered) = enter()
        && let Some(processor) = entered.processor
    {
        ready_on(processor, runnable);
    } else {
        inject(runnable);
    }
}

#[inline]
fn ready_on(processor: &'static Processor, runnable: Runnable) {
    if let Some(old) = processor.replace_next(runnable) {
        push_ready(processor, old);
        notify_work();
    } else if idle::worth_waking() {
        notify_next(processor);
    }
}

/// There is one goroutine to run after the present one, and an idle processor.
#[cold]
fn notify_next(processor: &'static Processor) {
    processor.hear_judgement();
    if (processor.has_queued() || processor.next_wants_searcher()) && notify_work() {
        processor.call_for_next();
    }
}

/// Queues a ready goroutine behind the others of a processor. Owner.
#[inline]
fn push_ready(processor: &'static Processor, runnable: Runnable) {
    if let Err(runnable) = processor.ready.push(runnable) {
        overflow(processor, runnable);
    }
}

/// The queue is full: half of it goes to the global queue.
#[cold]
fn overflow(processor: &'static Processor, runnable: Runnable) {
    let half = processor.ready.len() / 2;
    let mut global = GLOBAL.lock();
    global.extend((0..half).map_while(|_| processor.ready.pop()));
    global.push_back(runnable);
    GLOBAL_LEN.store(global.len(), Ordering::Relaxed);
}

/// Queues a runnable globally and wakes somebody for it.
pub(crate) fn inject(runnable: Runnable) {
    inject_quietly(runnable);
    notify_work();
}

fn inject_quietly(runnable: Runnable) {
    let mut global = GLOBAL.lock();
    global.push_back(runnable);
    GLOBAL_LEN.store(global.len(), Ordering::Relaxed);
}

/// Commit: the goroutine that left is ready, behind all others of the processor.
unsafe fn requeue(slot: *mut ()) {
    // SAFETY: the argument is a slot that has just been left.
    let slot: &'static Slot = unsafe { &*slot.cast::<Slot>() };
    match slot.worker().processor() {
        // Nobody looks at the global queue while there is something in the processor's own.
        Some(processor) if GLOBAL_LEN.load(Ordering::Relaxed) == 0 || processor.has_any() => {
            push_ready(processor, Runnable::suspended(slot));
            notify_work();
        }
        _ => inject(Runnable::suspended(slot)),
    }
}

/// Commit: the goroutine that left goes on when there is room to start others.
unsafe fn wait_to_spawn(slot: *mut ()) {
    // SAFETY: as in `requeue`.
    let slot: &'static Slot = unsafe { &*slot.cast::<Slot>() };
    match slot.worker().processor() {
        Some(processor) => processor.push_spawner(slot),
        None => inject(Runnable::suspended(slot)),
    }
}

/// Commit: the goroutine that left is ready, behind all others.
unsafe fn requeue_globally(slot: *mut ()) {
    // SAFETY: as in `requeue`.
    inject(Runnable::suspended(unsafe { &*slot.cast::<Slot>() }));
}

/// Lets other goroutines run; the caller goes on after those that are ready now.
#[inline(never)]
pub(crate) fn yield_now() {
    let Some(slot) = Slot::current() else { return std::thread::yield_now() };
    let worker = slot.worker();
    let processor = worker.enter().stay();
    let to = next_execution(worker, processor);
    if std::ptr::eq(to, &worker.execution) && is_alone(worker, processor) {
        return worker.leave();
    }
    let commit = Commit { run: requeue, arg: std::ptr::from_ref(slot).cast_mut().cast() };
    // SAFETY: the commit makes us ready, once.
    unsafe { leave_for(slot, to, commit) };
}

/// Whether the running goroutine would be picked again at once by the worker's own stack. Every so many times the answer is no,
/// so that whatever is done there now and then gets done.
#[cold]
fn is_alone(worker: &'static Worker, processor: Option<&'static Processor>) -> bool {
    let Some(processor) = processor else { return false };
    let pending = worker.pending.take();
    let some = pending.is_some();
    worker.pending.set(pending);
    // Those that do not pick, since they run nothing else, count as if they did.
    let picks = !worker.reserved && worker.locked_slot().is_none();
    let tick = if picks { processor.tick() } else { processor.advance() };
    !some
        && !tick.is_multiple_of(GLOBAL_TICKS)
        && !tick.wrapping_add(1).is_multiple_of(GLOBAL_TICKS)
        && !processor.has_any()
        && !processor.is_too_many()
        && GLOBAL_LEN.load(Ordering::Relaxed) == 0
        && !has_due(&processor.timers)
        && !has_due(&STRAY_TIMERS)
}

/// Gives way if the time slice is over. Every operation that could wait calls this first.
#[inline(always)]
pub(crate) fn checkpoint() {
    if let Some(slot) = Slot::current()
        && slot.worker().preemption_requested()
    {
        give_way(slot);
    }
}

#[cold]
fn give_way(slot: &'static Slot) {
    let worker = slot.worker();
    let entered = worker.enter();
    match entered.processor {
        Some(processor) => {
            worker.clear_preemption();
            let kept = processor.index < PROCS.load(Ordering::Relaxed);
            if kept && !processor.has_any() && GLOBAL_LEN.load(Ordering::Relaxed) == 0 {
                return;
            }
        }
        // Back from where the processor was taken: take an idle one, or queue for one.
        None => {
            if let Some(processor) = idle::take_processor() {
                worker.set_processor(Some(processor));
                attached(worker);
                return;
            }
        }
    }
    drop(entered);
    // SAFETY: the commit makes us ready, once.
    unsafe { leave(slot, Commit { run: requeue_globally, arg: std::ptr::from_ref(slot).cast_mut().cast() }) };
}

/// Runs `f`, which may block the OS thread, while another worker has the processor.
pub(crate) fn blocking<R>(f: impl FnOnce() -> R) -> R {
    let Some(slot) = Slot::current() else { return f() };
    // Within another one the processor is gone already, and it is the outer one that comes back for it.
    if slot.blocking.swap(true, Ordering::Relaxed) {
        return f();
    }
    {
        let worker = slot.worker();
        let entered = worker.enter();
        // Sysmon may have been faster.
        if let Some(processor) = entered.processor {
            detached(worker);
            worker.set_processor(None);
            idle::hand_off(processor);
        }
    }
    // Caught: giving way waits, which nobody does while unwinding. Where thread-locals are shared, so is the count of panics.
    let result = panic::catch_unwind(AssertUnwindSafe(f));
    slot.blocking.store(false, Ordering::Relaxed);
    give_way(slot);
    result.unwrap_or_else(|panic| panic::resume_unwind(panic))
}

/// The worker runs its goroutine on without a processor.
fn detached(worker: &Worker) {
    if !worker.detached.swap(true, Ordering::Relaxed) {
        DETACHED.fetch_add(1, Ordering::SeqCst);
    }
}

/// It does so no longer.
fn attached(worker: &Worker) {
    if worker.detached.swap(false, Ordering::Relaxed) {
        DETACHED.fetch_sub(1, Ordering::SeqCst);
    }
}

// --- Timers --------------------------------------------------------------------------------------------------------

/// Ends the wait `ticket` of `parker` at `deadline`, unless it has ended by then. For commits.
pub(crate) fn arm_timer(deadline: Instant, parker: &'static Parker, ticket: Ticket) {
    let entered = enter();
    let processor = entered.as_ref().and_then(|e| e.processor);
    processor.map_or(&STRAY_TIMERS, |p| &p.timers).arm(deadline, parker, ticket);
}

/// Ends the waits whose time has come.
#[inline]
fn run_timers_of(timers: &Timers) {
    if timers.next() != timer::NEVER {
        timers.run_due();
    }
}

/// Whether a wait's time has come.
#[inline]
fn has_due(timers: &Timers) -> bool {
    timers.next() != timer::NEVER && timers.next() <= timer::since_start(Instant::now())
}

/// All heaps.
fn all_timers() -> impl Iterator<Item = &'static Timers> {
    processors().map(|p| &p.timers).chain([&STRAY_TIMERS])
}

/// When the earliest timer is due, if there is any.
pub(crate) fn next_deadline() -> Option<Instant> {
    timer::instant(all_timers().map(Timers::next).min()?)
}

/// When the one after it is due, if there is any.
fn second_deadline() -> Option<Instant> {
    let (mut first, mut second) = (timer::NEVER, timer::NEVER);
    for when in all_timers().flat_map(|timers| timers.next_two()) {
        if when < first {
            (first, second) = (when, first);
        } else {
            second = second.min(when);
        }
    }
    timer::instant(second)
}

// --- Picking -------------------------------------------------------------------------------------------------------

/// The next goroutine of the processor's own, if there is one. Begins a time slice. Where `duties` are not to be done, the
/// caller may hold the locks of channels: see [`duties_are_next`]. `ended` says that the last one has, instead of waiting.
#[inline(always)]
fn pick(worker: &'static Worker, processor: &'static Processor, duties: bool, ended: bool) -> Option<Runnable> {
    worker.clear_preemption();
    let tick = processor.advance();
    if tick.is_multiple_of(GLOBAL_TICKS / 4)
        && let Some(runnable) = pick_for_fairness(processor, tick, duties)
    {
        return Some(runnable);
    }
    if let Some(runnable) = processor.take_next() {
        return Some(runnable);
    }
    if let Some(runnable) = processor.ready.pop() {
        return Some(runnable);
    }
    // Where those that have started wait instead of ending, each that is started takes a stack, and may wait for what its
    // spawner does next.
    let room = if ended { deque::CAPACITY / 2 } else { 1 };
    if let Some(spawner) = processor.pop_spawner(room) {
        return Some(Runnable::suspended(spawner));
    }
    processor.fresh.pop().or_else(|| processor.pop_spawner(0).map(Runnable::suspended))
}

/// Whether the next pick is to do more than to pick: to run timers, to take from the global queue, to give everything
/// away. That may take long, allocate, and start a thread. A goroutine that leaves its stack leaves it to the worker's own,
/// since it may still hold what its commit is to release: the locks of channels.
#[inline(always)]
fn duties_are_next(processor: &'static Processor) -> bool {
    #[cold]
    fn are_there(processor: &'static Processor, tick: u32) -> bool {
        processor.is_too_many()
            || tick.is_multiple_of(GLOBAL_TICKS)
                && (GLOBAL_LEN.load(Ordering::Relaxed) != 0
                    || processor.timers.next() != timer::NEVER
                    || STRAY_TIMERS.next() != timer::NEVER)
    }
    let tick = processor.tick().wrapping_add(1);
    tick.is_multiple_of(GLOBAL_TICKS / 4) && are_there(processor, tick)
}

/// Those who would wait for ever if the order of preference were always kept.
#[cold]
fn pick_for_fairness(processor: &'static Processor, tick: u32, duties: bool) -> Option<Runnable> {
    if duties && processor.is_too_many() {
        // To be given up: all is passed on.
        give_away_queues(processor);
        return None;
    }
    match tick / (GLOBAL_TICKS / 4) % 4 {
        // They were none a moment ago, or sysmon has just put the count here.
        0 if !duties => None,
        0 => {
            run_timers_of(&processor.timers);
            run_timers_of(&STRAY_TIMERS);
            pick_global(processor)
        }
        1 => processor.ready.pop(),
        // The oldest rarely: each may begin another branch of a tree, with slots of its own.
        2 if processor.take_starving() => processor.fresh.steal(),
        2 => processor.fresh.pop(),
        _ => processor.pop_oldest_spawner().map(Runnable::suspended),
    }
}

/// Takes a share of the global queue: one to run, the others into the processor's queue.
fn pick_global(processor: &'static Processor) -> Option<Runnable> {
    if GLOBAL_LEN.load(Ordering::Relaxed) == 0 {
        return None;
    }
    let mut global = GLOBAL.lock();
    let share = (global.len() / PROCS.load(Ordering::Relaxed).max(1) + 1).min(64);
    let first = global.pop_front();
    for _ in 1..share {
        let Some(runnable) = global.pop_front() else { break };
        if let Err(runnable) = processor.ready.push(runnable) {
            global.push_front(runnable);
            break;
        }
    }
    GLOBAL_LEN.store(global.len(), Ordering::Relaxed);
    first
}

/// Moves everything that is queued at a processor to the global queue. Owner.
fn give_away_queues(processor: &'static Processor) {
    let mut global = GLOBAL.lock();
    global.extend(processor.take_next());
    while let Some(runnable) = processor.ready.pop() {
        global.push_back(runnable);
    }
    while let Some(runnable) = processor.fresh.steal() {
        global.push_back(runnable);
    }
    while let Some(spawner) = processor.pop_spawner(0) {
        global.push_back(Runnable::suspended(spawner));
    }
    GLOBAL_LEN.store(global.len(), Ordering::Relaxed);
    drop(global);
    processor.timers.move_to(&STRAY_TIMERS);
    processor.give_back_slots();
}

// --- Workers -------------------------------------------------------------------------------------------------------

/// The life of a worker on its own stack. It begins with a processor. Returns when the thread is to end.
pub(crate) fn run_worker(worker: &'static Worker) {
    worker.adopt_thread();
    WORKER.set(Some(worker));
    loop {
        let runnable = worker.pending.take().or_else(|| find_runnable(worker));
        if let Some(runnable) = runnable {
            stop_searching(worker);
            execute(worker, runnable);
        }
        attached(worker);
        if worker.ends.get() {
            release_processor(worker);
            WORKER.set(None);
            return;
        }
        while let Some(slot) = worker.locked_slot() {
            // Nothing else may run here. The goroutine comes back when it is ready, with a processor.
            wait_for_processor(worker);
            resume(worker, slot);
            attached(worker);
            if worker.ends.get() {
                release_processor(worker);
                WORKER.set(None);
                return;
            }
        }
    }
}

/// Gives up the processor, if there is one, and sleeps until somebody brings one.
fn wait_for_processor(worker: &'static Worker) {
    if let Some(runnable) = worker.pending.take() {
        inject_quietly(runnable);
    }
    stop_searching(worker);
    release_processor(worker);
    worker.sleep();
    worker.take_brought();
}

fn release_processor(worker: &'static Worker) {
    if let Some(processor) = worker.processor() {
        worker.set_processor(None);
        idle::hand_off(processor);
    }
}

/// Runs a goroutine until the worker is back on its own stack.
fn execute(worker: &'static Worker, runnable: Runnable) {
    match runnable.into_work() {
        Work::Suspended(slot) => match slot.owner() {
            Some(owner) if !std::ptr::eq(owner, worker) => pass_processor(worker, owner),
            _ => resume(worker, slot),
        },
        Work::Fresh(task) => match slot_for(worker, &task) {
            Ok(slot) => {
                if task.locked {
                    os_thread::lock_at_start(slot, worker);
                }
                slot.task.store(task.into_raw(), Ordering::Relaxed);
                resume(worker, slot);
            }
            Err(error) => idle::wait_for_slot(Runnable::fresh(task), &error),
        },
    }
}

fn slot_for(worker: &'static Worker, task: &TaskRef) -> std::io::Result<&'static Slot> {
    if let Some(slot) = task.slot {
        return Ok(slot);
    }
    let processor = worker.processor().filter(|_| task.class == default_class());
    if let Some(processor) = processor {
        return processor.take_slot().map_or_else(|| processor.make_slot(), Ok);
    }
    let mut slots = Vec::new();
    if !pool::take(task.class, 1, &mut slots) {
        pool::make(task.class, &mut slots)?;
    }
    let slot = slots.pop().expect("a batch has a slot");
    pool::put(slots.into_iter());
    Ok(slot)
}

fn resume(worker: &'static Worker, slot: &'static Slot) {
    slot.set_worker(worker);
    // SAFETY: the worker's own stack runs; the slot is suspended, and a queue gave us the right to resume it.
    let commit = unsafe { worker.execution.transfer(&slot.execution, Commit::NONE) };
    // SAFETY: it came with the switch to us.
    unsafe { (commit.run)(commit.arg) };
}

/// Gives the processor to the worker whose thread alone may run a goroutine.
fn pass_processor(worker: &'static Worker, owner: &'static Worker) {
    let processor = worker.processor().expect("a worker that picks holds a processor");
    worker.set_processor(None);
    owner.bring(processor);
}

/// Finds a goroutine to run; sleeps while there is none. `None` when the worker has just got a processor: look again.
fn find_runnable(worker: &'static Worker) -> Option<Runnable> {
    let Some(processor) = worker.processor() else {
        match idle::take_processor() {
            Some(processor) => worker.set_processor(Some(processor)),
            None => idle::sleep_without_processor(worker),
        }
        return None;
    };
    if processor.is_too_many() {
        give_away_queues(processor);
        if processor.index < PROCS.load(Ordering::Relaxed) {
            processor.set_surplus(false);
            idle::sleep(worker, processor);
            return None;
        }
        worker.set_processor(None);
        idle::put_processor(processor);
        if !lower_searching(worker) {
            notify_work();
        }
        return None;
    }
    run_timers_of(&processor.timers);
    run_timers_of(&STRAY_TIMERS);
    if let Some(runnable) = pick(worker, processor, true, false).or_else(|| pick_global(processor)) {
        return Some(runnable);
    }
    // The timers of idle processors: without a search, at the end of which another worker is woken.
    if idle::any_processor() && all_timers().any(has_due) {
        all_timers().for_each(run_timers_of);
        if processor.has_any() {
            return pick(worker, processor, true, false);
        }
    }
    if worker.searching.get() || start_searching(worker) {
        if let Some(runnable) = search(worker, processor) {
            return Some(runnable);
        }
        // Timers of others whose time had come.
        if processor.has_any() {
            return None;
        }
    }
    idle::sleep(worker, processor);
    None
}

fn start_searching(worker: &Worker) -> bool {
    let started = SLEEPERS.start_searching();
    worker.searching.set(started);
    started
}

/// A searcher gives up; says whether it was one. Work that was queued while it searched woke nobody: looks once more.
fn lower_searching(worker: &'static Worker) -> bool {
    let searched = worker.searching.replace(false);
    if searched {
        SLEEPERS.stop_searching();
        // Pairs with the light barrier in `Sleepers::notify`.
        barrier::heavy();
        if any_work() {
            notify_work();
        }
    }
    searched
}

/// The searcher has found something: if there is more, another one is to look for it.
fn stop_searching(worker: &'static Worker) {
    if worker.searching.replace(false) {
        let minded_timers = worker.minded_timers.take();
        // Whoever is woken in its place finds nothing, and minds them.
        let more = || minded_timers || any_work() || processors().any(Processor::has_next);
        if let Some(processor) = SLEEPERS.found(more, idle::spare_processors) {
            start_searcher(processor);
        }
    }
}

/// What a searcher remembers of a victim's *next* place, to tell what waits there from what its owner is about to run.
#[derive(Clone, Copy, Default)]
struct Seen {
    index: usize,
    tick: u32,
    next: bool,
}

/// Looks for something to take from other processors, for a while.
fn search(worker: &Worker, own: &'static Processor) -> Option<Runnable> {
    let procs = PROCS_MADE.load(Ordering::Acquire);
    if procs < 2 {
        return None;
    }
    let start = Instant::now();
    // Where more are at work than there are CPUs, waiting takes its time from them.
    let patient = PROCS.load(Ordering::Relaxed) <= available_parallelism() + SLEEPERS.idle();
    let mut seen = [Seen::default(); 64];
    if let Some((victim, count, since)) = worker.loot.take() {
        victim.judge_fresh(start.duration_since(since) < count * CRUMB);
    }
    let start_of_clock = timer::since_start(start);
    loop {
        let elapsed = start.elapsed();
        let now = start_of_clock + elapsed.as_nanos() as u64;
        let waited = elapsed >= NEXT_PATIENCE;
        let offset = own.random() as usize;
        for i in 0..procs {
            let index = (i + offset) % procs;
            // SAFETY: entries below the count are processors, which are never freed.
            let victim: &'static Processor = unsafe { &*PROCESSORS[index].load(Ordering::Acquire) };
            if std::ptr::eq(victim, own) {
                continue;
            }
            if let Some(runnable) = victim.ready.steal_into(&own.ready) {
                return Some(runnable);
            }
            if !victim.has_crumbs()
                && let Some((runnable, count)) = steal_fresh(victim, own)
            {
                worker.loot.set(Some((victim, count, Instant::now())));
                return Some(runnable);
            }
            if victim.timers.next() <= now {
                victim.timers.run_due();
                if own.has_any() {
                    return None;
                }
            }
            // The next place: theirs, unless they have not come to it for a while.
            let seen = &mut seen[index % 64];
            if seen.index != index {
                *seen = Seen { index, ..Seen::default() };
            }
            if victim.has_next() {
                let tick = victim.tick();
                let called = victim.called_for_next(tick);
                if !called && (!seen.next || seen.tick != tick) {
                    if seen.next {
                        victim.judge_next(false);
                    }
                    (seen.tick, seen.next) = (tick, true);
                } else if (waited || called)
                    && let Some(worker) = victim.worker()
                    && let Some(Some(runnable)) = worker.while_frozen(victim, || victim.take_next())
                {
                    victim.judge_next(true);
                    return Some(runnable);
                }
            } else if std::mem::take(&mut seen.next) {
                victim.judge_next(false);
            }
        }
        if let Some(runnable) = pick_global(own) {
            return Some(runnable);
        }
        if elapsed >= SEARCH_TIME || !patient {
            return None;
        }
        for _ in 0..16 {
            std::hint::spin_loop();
        }
    }
}

/// Takes half of those that have not started at `victim`, the oldest: one to run, the rest into `own`. Says how many.
fn steal_fresh(victim: &'static Processor, own: &'static Processor) -> Option<(Runnable, u32)> {
    let more = victim.fresh.len() / 2;
    let first = victim.fresh.steal()?;
    let mut count = 1;
    for _ in 1..more {
        let Some(runnable) = victim.fresh.steal() else { break };
        count += 1;
        if let Err(runnable) = own.fresh.push(runnable) {
            inject_quietly(runnable);
            break;
        }
    }
    Some((first, count))
}

/// Work was queued where others can take it: wakes a worker if there is an idle processor and nobody searches. Says whether
/// it did.
#[inline(always)]
fn notify_work() -> bool {
    match SLEEPERS.notify(idle::spare_processors()) {
        Some(processor) => {
            start_searcher(processor);
            true
        }
        None => false,
    }
}

/// Has a worker search, if nobody does and there is an idle processor.
fn wake_searcher() {
    if let Some(processor) = SLEEPERS.take_for_search() {
        start_searcher(processor);
    }
}

#[cold]
fn start_searcher(processor: &'static Processor) {
    if !idle::start_worker(processor, true) {
        SLEEPERS.stop_searching();
    }
}

/// Whether there is work that an idle processor could take.
fn any_work() -> bool {
    GLOBAL_LEN.load(Ordering::Relaxed) != 0 || processors().any(Processor::has_queued)
}

/// How many CPUs this process may use.
pub(crate) fn available_parallelism() -> usize {
    static CPUS: AtomicUsize = AtomicUsize::new(0);
    match CPUS.load(Ordering::Relaxed) {
        0 => {
            let cpus = std::thread::available_parallelism().map_or(1, Into::into);
            CPUS.store(cpus, Ordering::Relaxed);
            cpus
        }
        cpus => cpus,
    }
}

/// How many processors there may be.
pub(crate) fn max_procs() -> usize {
    PROCS.load(Ordering::Relaxed)
}

/// Sets how many processors there may be; `procs` lies between 1 and [`MAX_PROCS`]. Returns the number before.
pub(crate) fn set_max_procs(procs: usize) -> usize {
    static CHANGE: Mutex<()> = Mutex::new(());
    let _change = CHANGE.lock();
    let old = PROCS.load(Ordering::Relaxed);
    let made = PROCS_MADE.load(Ordering::Relaxed);
    for (index, place) in PROCESSORS.iter().enumerate().take(procs).skip(made) {
        place.store(std::ptr::from_ref(Processor::leak(index)).cast_mut(), Ordering::Release);
    }
    PROCS_MADE.store(made.max(procs), Ordering::Release);
    PROCS.store(procs, Ordering::SeqCst);
    for processor in processors().take(made) {
        // Those that are too many notice at their next pick.
        if let Some(worker) = processor.worker().filter(|_| processor.index >= procs) {
            worker.request_preemption();
        }
    }
    idle::change(old, procs, made);
    CHANGES.fetch_add(1, Ordering::Relaxed);
    // Whoever lay down meanwhile may have thought that enough were at work: see `sleepers`.
    barrier::heavy();
    if any_work() {
        notify_work();
    }
    for _ in old..procs {
        notify_work();
    }
    old
}

/// Whether goroutines run on stacks that are switched to, not on threads of their own.
pub(crate) fn stackful() -> bool {
    context_switch::stackful()
}
