//! sysmon: the thread that watches the workers. It holds no processor and runs no goroutine.
//!
//! It takes the processor from a worker whose goroutine does not come back, runs timers that nobody else gets to, keeps
//! the coarse clock, creates threads for workers that must not do so themselves, makes slots ahead, gives memory back, and
//! looks for deadlock. When every processor is idle it sleeps too.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::packing::Packing;
use super::processor::Processor;
use super::worker::Worker;
use super::{
    CHANGES, DETACHED, GLOBAL_LEN, all_timers, any_work, deadlock, default_class, detached, idle, next_deadline,
    processors, run_timers_of, wake_searcher,
};
use crate::slot::pool;
use crate::time::timer::{self, Timers};

/// How often it looks.
const PERIOD: Duration = Duration::from_micros(2500);
/// How soon it looks again for a timer.
const SHORTEST_PERIOD: Duration = Duration::from_micros(500);
/// How long a goroutine may run before it is asked to give way; if it does not by the next look, its processor is taken.
const TIME_SLICE: Duration = Duration::from_millis(10);
/// How often goroutines that wait for a stack are tried before nothing but them counts as deadlock.
const STARVED_ROUNDS: u32 = 50;
/// As many goroutines are picked between two looks where they are not worth stealing, or another worker for them; at 400 ns
/// each there are 6,250.
const MANY: u32 = 2000;
const TRIM_PERIOD: Duration = Duration::from_secs(1);
const SWEEP_PERIOD: Duration = Duration::from_millis(100);
/// How long it is to be to the next for each timer that was looked at, which takes 10 to 100 ns, unless it were more than the period
/// below.
const SWEEP_PAUSE: Duration = Duration::from_micros(5);
const LONGEST_SWEEP_PERIOD: Duration = Duration::from_secs(5);

static ASLEEP: AtomicBool = AtomicBool::new(false);
static ROUSED: Condvar = Condvar::new();
static REQUESTS: Mutex<Vec<&'static Worker>> = Mutex::new(Vec::new());
/// Nanoseconds since the start, a look ago at most while anything runs.
static COARSE_NOW: AtomicU64 = AtomicU64::new(0);

/// The time, as far as it is known without asking: nanoseconds since the start.
#[inline(always)]
pub(crate) fn coarse_now() -> u64 {
    COARSE_NOW.load(Ordering::Relaxed)
}

/// Something runs again.
#[inline]
pub(crate) fn rouse() {
    // SeqCst: pairs with the store in `sleep`. Either it sees the processor that was taken before, or we see it asleep.
    if ASLEEP.load(Ordering::SeqCst) {
        rouse_slowly();
    }
}

#[cold]
fn rouse_slowly() {
    let _requests = REQUESTS.lock();
    ASLEEP.store(false, Ordering::SeqCst);
    ROUSED.notify_one();
}

/// Has the thread of a worker created by a thread whose kernel state is nobody's.
pub(crate) fn create_thread(worker: &'static Worker) {
    let mut requests = REQUESTS.lock();
    requests.push(worker);
    ASLEEP.store(false, Ordering::SeqCst);
    ROUSED.notify_one();
}

/// What it remembers of a processor.
struct Seen {
    tick: u32,
    since: Instant,
    asked: bool,
    next: bool,
    /// What was the oldest goroutine that had not started, and since when.
    oldest: (u32, Instant),
}

/// Starts the thread.
pub(crate) fn start() -> std::io::Result<()> {
    std::thread::Builder::new().name("csp-sysmon".into()).spawn(run).map(drop)
}

fn run() {
    let mut seen: Vec<Seen> = Vec::new();
    let mut waits_since = false;
    let mut idle_looks = 0;
    let mut looks = 0u32;
    let mut starved_rounds = 0;
    let mut trimmed = Instant::now();
    let mut swept = trimmed;
    let mut sweep_period = SWEEP_PERIOD;
    let mut untrimmed = true;
    let mut ahead = pool::Ahead::new();
    let mut deadlock = deadlock::Watch::new();
    let mut packer = Packer {
        packing: Packing::new(),
        changes: 0,
        ticks: Vec::new(),
        ended: 0,
        at: Instant::now(),
        picks: Vec::new(),
    };
    loop {
        let now = Instant::now();
        COARSE_NOW.store(timer::since_start(now), Ordering::Relaxed);
        let requests = std::mem::take(&mut *REQUESTS.lock());
        for worker in requests {
            let searching = worker.searching.get();
            if !idle::create_thread(worker) && searching {
                idle::SLEEPERS.stop_searching();
            }
        }
        if !idle::naps_over_timers(now) {
            all_timers().for_each(run_timers_of);
        }
        looks = looks.wrapping_add(1);
        if looks.is_multiple_of(16) && idle::retry_starved() != 0 {
            starved_rounds += 1;
        } else if idle::starved() == 0 {
            starved_rounds = 0;
        }
        let packed = packer.look();
        let waits = GLOBAL_LEN.load(Ordering::Relaxed) != 0;
        let waited = std::mem::replace(&mut waits_since, waits) && waits;
        look(&mut seen, now, packed, waited);
        // On an idle processor's time, and not while a worker waits for its thread.
        if idle::worth_waking() && REQUESTS.lock().is_empty() && ahead.look(default_class()) {
            idle::retry_starved();
        }
        if now.duration_since(trimmed) >= TRIM_PERIOD {
            untrimmed = pool::trim();
            trimmed = now;
        }

        let nothing_runs = idle::all_processors() && DETACHED.load(Ordering::SeqCst) == 0;
        idle_looks = if nothing_runs { idle_looks + 1 } else { 0 };
        untrimmed |= !nothing_runs;
        // Goroutines that wait for a stack may get one yet: they are tried for seconds before that is called deadlock.
        let starved = idle::starved() != 0;
        if idle_looks > 2 && (!starved || starved_rounds > STARVED_ROUNDS) {
            // The deadlines of waits that are over keep nobody from being deadlocked. But to look at all of them takes long.
            let sweep = deadlock::is_watched() && now.duration_since(swept) >= sweep_period;
            if sweep {
                let count: usize = all_timers().map(Timers::sweep).sum();
                swept = now;
                let pause = SWEEP_PAUSE.saturating_mul(count.try_into().unwrap_or(u32::MAX));
                sweep_period = pause.clamp(SWEEP_PERIOD, LONGEST_SWEEP_PERIOD);
            }
            let unswept = (deadlock::is_watched() && !sweep && next_deadline().is_some()).then_some(sweep_period);
            let again = deadlock.look();
            let starved = starved.then_some(PERIOD);
            // What ran last has left stacks, whose memory is still to be given back.
            let trim = untrimmed.then_some(TRIM_PERIOD);
            // Work for which no thread could be made: nobody else tries again.
            let stranded = any_work().then_some(PERIOD);
            sleep([again, unswept, starved, trim, stranded].into_iter().flatten().min());
            idle_looks = 0;
        } else {
            let pause = next_deadline().map_or(PERIOD, |deadline| {
                // Who minds it may be woken for something else.
                let late = if idle::minds_timer(deadline) { SHORTEST_PERIOD } else { Duration::ZERO };
                (deadline.saturating_duration_since(now) + late).clamp(SHORTEST_PERIOD, PERIOD)
            });
            let mut requests = REQUESTS.lock();
            if requests.is_empty() {
                ROUSED.wait_for(&mut requests, pause);
            }
        }
    }
}

/// Sleeps until something runs again or a timer is due, or for `at_most`.
fn sleep(at_most: Option<Duration>) {
    let mut requests = REQUESTS.lock();
    ASLEEP.store(true, Ordering::SeqCst);
    // Pairs with `rouse`.
    if idle::all_processors() && DETACHED.load(Ordering::SeqCst) == 0 && requests.is_empty() {
        // Timers that were armed before the last processor became idle are seen here; later ones come with a `rouse`.
        let deadline = [at_most.map(|d| Instant::now() + d), next_deadline()].into_iter().flatten().min();
        while ASLEEP.load(Ordering::SeqCst) {
            match deadline {
                Some(deadline) => {
                    if ROUSED.wait_until(&mut requests, deadline).timed_out() {
                        break;
                    }
                }
                None => ROUSED.wait(&mut requests),
            }
        }
    }
    ASLEEP.store(false, Ordering::SeqCst);
}

/// Sees to it that no more processors are at work than are of use.
struct Packer {
    packing: Packing,
    /// What [`CHANGES`] was.
    changes: usize,
    /// The processors' counts of picks at the last look, and when that was.
    ticks: Vec<u32>,
    /// How many goroutines had ended then.
    ended: u64,
    at: Instant,
    /// How many each of those that are at work has picked since.
    picks: Vec<u32>,
}

impl Packer {
    /// Says whether there is a limit.
    fn look(&mut self) -> bool {
        let before = self.packing.limit();
        let changes = CHANGES.load(Ordering::Relaxed);
        if changes != self.changes {
            // There is no limit any more.
            (self.packing, self.changes) = (Packing::new(), changes);
        }
        // Side by side: sysmon may lose its CPU anywhere.
        let now = Instant::now();
        self.picks.clear();
        for (index, processor) in processors().enumerate() {
            let tick = processor.tick();
            if index == self.ticks.len() {
                self.ticks.push(tick);
            }
            let before = std::mem::replace(&mut self.ticks[index], tick);
            if processor.worker().is_some() {
                // It may have gone back a little: see `Processor::hurry`.
                let picks = tick.wrapping_sub(before);
                self.picks.push(if picks > u32::MAX / 2 { 0 } else { picks });
            }
        }
        let ended = processors().map(Processor::ended).sum();
        let before_ended = std::mem::replace(&mut self.ended, ended);
        self.packing.look(&self.picks, ended - before_ended, now.duration_since(self.at));
        self.at = now;
        let limit = self.packing.limit();
        if limit != before {
            idle::pack(limit);
        }
        if limit.or(before).is_some() {
            let mut left = limit.unwrap_or(usize::MAX);
            for processor in processors() {
                let works = processor.worker().is_some();
                processor.set_surplus(works && left == 0);
                left = left.saturating_sub(usize::from(works));
            }
        }
        limit.is_some()
    }
}

/// One look at every processor. `waited` says that the global queue was not empty at the last look either.
fn look(seen: &mut Vec<Seen>, now: Instant, packed: bool, waited: bool) {
    let mut slow = false;
    for (index, processor) in processors().enumerate() {
        if index == seen.len() {
            seen.push(Seen { tick: 0, since: now, asked: false, next: false, oldest: (0, now) });
        }
        let seen = &mut seen[index];
        let oldest = processor.fresh.oldest();
        if oldest != seen.oldest.0 || processor.fresh.len() == 0 {
            seen.oldest = (oldest, now);
        }
        if now.duration_since(seen.oldest.1) >= TIME_SLICE {
            processor.set_starving();
        }
        let (tick, worker) = (processor.tick(), processor.worker());
        let few = tick.wrapping_sub(seen.tick) < MANY;
        // So few goroutines were no crumbs.
        if few && processor.has_crumbs() {
            processor.offer_crumbs();
        }
        slow |= few && worker.is_some();
        let Some(worker) = worker.filter(|_| tick == seen.tick) else {
            // Who picks rarely would come to the global queue after a long time.
            let tick = if waited && few { processor.hurry() } else { tick };
            *seen = Seen { tick, since: now, asked: false, next: false, oldest: seen.oldest };
            continue;
        };
        // A goroutine has waited in the next place for a whole period: let a searcher have it.
        let next = processor.has_next();
        if next && seen.next && idle::any_processor() {
            processor.call_for_next();
            wake_searcher();
        }
        seen.next = next;
        if now.duration_since(seen.since) < TIME_SLICE {
            continue;
        }
        if !seen.asked {
            worker.request_preemption();
            seen.asked = true;
        } else if wanted(processor) && take(worker, processor) {
            *seen = Seen { tick, since: now, asked: false, next: false, oldest: seen.oldest };
        }
    }
    // Work for which no thread could be made, or for which nobody was woken because enough were at work: but one of those
    // does not get on, and may be blocked.
    if (idle::worth_waking() || !packed && slow && idle::any_processor()) && any_work() {
        wake_searcher();
    }
}

/// Whether anybody could use the processor.
fn wanted(processor: &Processor) -> bool {
    let others = GLOBAL_LEN.load(Ordering::Relaxed) != 0 || next_deadline().is_some();
    processor.has_any() || (others && !idle::any_processor())
}

/// Takes the processor from a worker that is stuck in its goroutine.
fn take(worker: &'static Worker, processor: &'static Processor) -> bool {
    // Counted while the worker is frozen: before it can notice, and before the processor can seem idle.
    if !worker.take_processor(processor, || detached(worker)) {
        return false;
    }
    idle::hand_off(processor);
    true
}
