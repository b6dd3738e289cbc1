//! Idle processors and sleeping workers.

use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::goroutine::Runnable;
use super::processor::Processor;
use super::sleepers::Sleepers;
use super::worker::Worker;
use super::{
    GLOBAL, GLOBAL_LEN, PROCS, any_work, barrier, give_away_queues, inject_quietly, lower_searching, next_deadline,
    processors, second_deadline, start_searching, sysmon,
};
use crate::panic::report;
use crate::slot::Slot;

struct Idle {
    /// Records of threads that have ended.
    spare: Vec<&'static Worker>,
    /// How many worker threads there are, and may be.
    threads: usize,
    max_threads: usize,
    /// The deadline that the sleeping worker knows of that minds the timers.
    timekeeper: Option<Instant>,
    /// How long one slept last because timers came thick and fast, and until when.
    nap: Duration,
    nap_end: Option<Instant>,
    /// Goroutines for which no slot can be made.
    starved: Vec<Runnable>,
}

/// Where two timers or more are due within so short a time, it is not worth while to sleep and wake up for each.
const THICK: Duration = Duration::from_micros(50);
/// How late timers may come for that.
const LONGEST_NAP: Duration = Duration::from_micros(400);

static IDLE: Mutex<Idle> = Mutex::new(Idle {
    spare: Vec::new(),
    threads: 0,
    max_threads: 10_000,
    timekeeper: None,
    nap: Duration::ZERO,
    nap_end: None,
    starved: Vec::new(),
});
#[cfg(not(csp_loom))]
pub(crate) static SLEEPERS: Sleepers<&'static Worker, &'static Processor> = Sleepers::new();
#[cfg(csp_loom)]
pub(crate) static SLEEPERS: std::sync::LazyLock<Sleepers<&'static Worker, &'static Processor>> =
    std::sync::LazyLock::new(Sleepers::new);

/// See [`spare_processors`].
static SPARE: AtomicUsize = AtomicUsize::new(0);

pub(crate) fn set_max_threads(max: usize) {
    IDLE.lock().max_threads = max;
}

/// How many worker threads there are.
pub(crate) fn threads() -> usize {
    IDLE.lock().threads
}

/// Whether a processor is idle.
#[inline(always)]
pub(crate) fn any_processor() -> bool {
    SLEEPERS.idle() != 0
}

/// How many idle processors are of no use, because as many are at work as there are CPUs, and another one would take its
/// time from them; or because they are packed. If those at work are blocked instead, sysmon wakes one.
#[inline(always)]
pub(crate) fn spare_processors() -> usize {
    SPARE.load(Ordering::Relaxed)
}

/// Whether a worker could be woken to some purpose.
#[inline(always)]
pub(crate) fn worth_waking() -> bool {
    SLEEPERS.idle() > spare_processors()
}

/// Whether every processor is idle.
pub(crate) fn all_processors() -> bool {
    SLEEPERS.idle_in_order() == PROCS.load(Ordering::SeqCst) && processors().all(|p| p.worker().is_none())
}

/// Takes an idle processor.
pub(crate) fn take_processor() -> Option<&'static Processor> {
    if !any_processor() {
        return None;
    }
    let processor = SLEEPERS.take_processor();
    if processor.is_some() {
        sysmon::rouse();
    }
    processor
}

/// Whether there are too many processors for this one to be held or idle; it is marked then. Under the lock of the idle.
fn retire(processor: &&'static Processor) -> bool {
    let retired = processor.index >= PROCS.load(Ordering::Relaxed);
    if retired {
        processor.set_retired(true);
    }
    retired
}

/// Gives up a processor that nobody is to have now.
pub(crate) fn put_processor(processor: &'static Processor) {
    SLEEPERS.put_processor(processor, retire);
}

/// The number of processors has changed from `old` to `new`; below `made` they existed before.
pub(crate) fn change(old: usize, new: usize, made: usize) {
    pack(None);
    SLEEPERS.change(|idle| {
        idle.retain(|processor| !retire(processor));
        for processor in processors().filter(|p| (old..new).contains(&p.index)) {
            // One that was retired, but is still held, is simply kept.
            if processor.index >= made || processor.is_retired() {
                processor.set_retired(false);
                idle.push(processor);
            }
        }
    });
}

/// Lets no more than `limit` processors be at work, if there is a limit; sysmon sees to those that are.
pub(crate) fn pack(limit: Option<usize>) {
    // So that the one who comes later also reads the newer number of processors.
    static CHANGE: Mutex<()> = Mutex::new(());
    let _change = CHANGE.lock();
    let at_work = limit.unwrap_or(usize::MAX).min(super::available_parallelism());
    SPARE.store(PROCS.load(Ordering::SeqCst).saturating_sub(at_work), Ordering::SeqCst);
    // Sysmon, or whoever changes the number of processors, looks at the queues next: see `sleepers`.
    barrier::heavy();
}

/// Gives a processor to a sleeping worker, or a new one. If there can be none, the processor becomes idle (`false`).
pub(crate) fn start_worker(processor: &'static Processor, searching: bool) -> bool {
    if let Some(worker) = SLEEPERS.take_worker() {
        worker.searching.set(searching);
        worker.set_processor(Some(processor));
        if searching && super::is_at_work() {
            worker.placement.part();
        }
        worker.wake();
        sysmon::rouse();
        return true;
    }
    let mut idle = IDLE.lock();
    if idle.threads >= idle.max_threads {
        let max = idle.max_threads;
        drop(idle);
        do_without_thread(processor);
        static TOLD: Once = Once::new();
        TOLD.call_once(|| {
            report(&format!(
                "csp: all {max} worker threads are blocked in system calls, foreign locks or computation, or belong to \
                 goroutines that are locked to them, and no more may be made; goroutines wait until one comes back. Raise \
                 the limit with Runtime::builder().max_threads(n)\n"
            ));
        });
        return false;
    }
    idle.threads += 1;
    let worker = idle.spare.pop();
    drop(idle);
    let worker = worker.unwrap_or_else(|| Worker::leak(false));
    worker.searching.set(searching);
    worker.set_processor(Some(processor));
    sysmon::rouse();
    // A thread inherits the kernel state of the one that creates it: never one that a goroutine had for itself.
    // In the threads backend the goroutine's thread is another than the worker's, and any may have been locked.
    if super::enter().is_some_and(|e| e.is_tainted()) || (!super::stackful() && Slot::current().is_some()) {
        sysmon::create_thread(worker);
        return true;
    }
    create_thread(worker)
}

/// Starts the thread of a worker that holds a processor. If that fails the processor becomes idle.
pub(crate) fn create_thread(worker: &'static Worker) -> bool {
    let thread = std::thread::Builder::new().name("csp-worker".into()).spawn(move || {
        crate::stack::overflow::install_alternate_stack();
        super::run_worker(worker);
        let mut idle = IDLE.lock();
        idle.threads -= 1;
        worker.reset();
        idle.spare.push(worker);
    });
    let Err(error) = thread else { return true };
    let processor = worker.processor().expect("just given");
    worker.set_processor(None);
    // As where there are too many. The caller takes back the right to search.
    worker.searching.set(false);
    let mut idle = IDLE.lock();
    idle.threads -= 1;
    idle.spare.push(worker);
    drop(idle);
    do_without_thread(processor);
    static TOLD: Once = Once::new();
    TOLD.call_once(|| report(&format!("csp: cannot make another worker thread, will go on trying: {error}\n")));
    false
}

/// There is no thread for a processor, and there may be things to run: a goroutine that has a thread of its own gets the
/// processor, else it becomes idle, and sysmon goes on trying.
fn do_without_thread(processor: &'static Processor) {
    // Where sysmon and those who come back find them.
    give_away_queues(processor);
    match take_locked() {
        Some(owner) => owner.bring(processor),
        None => put_processor(processor),
    }
    sysmon::rouse();
}

/// Takes a goroutine that is locked to its thread out of the global queue, and gives the worker of that thread: when it has a
/// processor it runs that goroutine and no other.
fn take_locked() -> Option<&'static Worker> {
    let mut global = GLOBAL.lock();
    let (at, owner) = global.iter().enumerate().find_map(|(at, runnable)| Some((at, runnable.owner()?)))?;
    global.remove(at);
    GLOBAL_LEN.store(global.len(), Ordering::Relaxed);
    Some(owner)
}

/// The caller gives up a processor: to another worker where there is something to run, else to nobody.
pub(crate) fn hand_off(processor: &'static Processor) {
    if processor.index >= PROCS.load(Ordering::Relaxed) {
        give_away_queues(processor);
    } else if processor.has_any() || any_work() {
        start_worker(processor, false);
        return;
    }
    put_processor(processor);
    // Pairs with the light barrier in `notify_work`.
    barrier::heavy();
    if any_work() {
        super::notify_work();
    }
}

/// Sleeps, giving up the processor, until there is something to do; has a processor afterwards.
pub(crate) fn sleep(worker: &'static Worker, processor: &'static Processor) {
    worker.set_processor(None);
    // Once it is listed, it is for the one who wakes it to say whether it searches.
    let searched = worker.searching.replace(false);
    worker.minded_timers.set(false);
    let look = SLEEPERS.lie_down(worker, processor, searched, retire, spare_processors);
    if look && any_work() && take_back(worker) {
        start_searching(worker);
        return;
    }
    mind_timers_and_sleep(worker);
}

/// Stops being idle, if a processor still is and nobody has woken the worker.
fn take_back(worker: &'static Worker) -> bool {
    let Some(processor) = SLEEPERS.take_back(&worker) else { return false };
    worker.set_processor(Some(processor));
    sysmon::rouse();
    true
}

fn mind_timers_and_sleep(worker: &'static Worker) {
    let Some(deadline) = next_deadline() else { return worker.sleep() };
    let now = Instant::now();
    let thick = deadline <= now + THICK && second_deadline().is_some_and(|second| second <= now + THICK);
    let nap = {
        // One of the sleepers minds the timers: the one that knows of the earliest.
        let mut idle = IDLE.lock();
        if idle.timekeeper.is_some_and(|t| t <= deadline) {
            drop(idle);
            return worker.sleep();
        }
        idle.timekeeper = Some(deadline);
        // Those that come while it sleeps are served together.
        thick.then(|| {
            let again = idle.nap_end.is_some_and(|end| now.duration_since(end) < LONGEST_NAP);
            idle.nap = if again { (idle.nap * 2).min(LONGEST_NAP) } else { THICK };
            let end = now + idle.nap;
            idle.nap_end = Some(end);
            end
        })
    };
    let woken = match nap {
        Some(until) => worker.sleep_until(until),
        None => worker.sleep_exactly_until(deadline),
    };
    {
        let mut idle = IDLE.lock();
        if idle.timekeeper == Some(deadline) {
            idle.timekeeper = None;
        }
    }
    if !woken && take_back(worker) {
        return;
    }
    // Whoever wakes it does so for something else.
    worker.minded_timers.set(true);
    // Without an idle processor all others are at work, and look at the timers every 64 picks; sysmon does it too, every few
    // milliseconds at the latest.
    if !woken {
        worker.sleep();
    }
}

/// Whether a sleeping worker minds the timer that is due at `deadline`.
pub(crate) fn minds_timer(deadline: Instant) -> bool {
    IDLE.lock().timekeeper.is_some_and(|t| t <= deadline)
}

/// Whether a worker sleeps for a moment, and serves the timers together that are due by the time it gets up. Those that are due
/// for longer than it may sleep have been missed.
pub(crate) fn naps_over_timers(now: Instant) -> bool {
    let napping = {
        let idle = IDLE.lock();
        idle.timekeeper.is_some() && idle.nap_end.is_some_and(|end| now <= end)
    };
    napping && next_deadline().is_none_or(|deadline| now < deadline + LONGEST_NAP)
}

/// Sleeps until somebody brings a processor, unless one is idle.
pub(crate) fn sleep_without_processor(worker: &'static Worker) {
    lower_searching(worker);
    match SLEEPERS.take_processor_or_lie_down(worker) {
        Some(processor) => {
            worker.set_processor(Some(processor));
            sysmon::rouse();
        }
        None => worker.sleep(),
    }
}

/// Keeps a goroutine for which there is no slot until sysmon tries again.
pub(crate) fn wait_for_slot(runnable: Runnable, error: &std::io::Error) {
    IDLE.lock().starved.push(runnable);
    static TOLD: Once = Once::new();
    TOLD.call_once(|| {
        report(&format!(
            "csp: no stack can be made for another goroutine ({} there are); those that have not started wait until one \
             is free: {error}\n",
            crate::slot::pool::count(),
        ));
    });
}

/// Tries again with the goroutines for which there was no slot. Says how many they are.
pub(crate) fn retry_starved() -> usize {
    let starved = std::mem::take(&mut IDLE.lock().starved);
    let count = starved.len();
    starved.into_iter().for_each(inject_quietly);
    if count != 0 {
        super::notify_work();
    }
    count
}

/// How many goroutines wait for a slot.
pub(crate) fn starved() -> usize {
    IDLE.lock().starved.len()
}
