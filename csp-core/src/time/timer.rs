//! The timers that end the waits of goroutines.
//!
//! Every processor has a heap, for those who wait there; one more is for goroutines that run without a processor. Whoever
//! holds the processor looks at its heap between two goroutines; a searcher, sysmon and the sleeper that minds the timers
//! look at all of them.
//!
//! An entry names a wait, not a frame: a parker, which is never freed, and the ticket of the wait, which never comes round.
//! A wait that ended otherwise leaves its entry behind; it is dropped when it comes up, or when the heap has doubled since
//! it was last swept. Plain threads mind their own deadlines.

use std::cmp::Ordering as Order;
use std::collections::BinaryHeap;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::sched::park::{Parker, TIMED_OUT, Ticket};

#[derive(Debug)]
struct Entry {
    /// Nanoseconds since the start.
    when: u64,
    parker: &'static Parker,
    ticket: Ticket,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.when == other.when
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Order> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    /// The earliest is the greatest: the heap gives the greatest first.
    fn cmp(&self, other: &Self) -> Order {
        other.when.cmp(&self.when)
    }
}

#[derive(Debug)]
struct Heap {
    entries: BinaryHeap<Entry>,
    /// Sweep when there are so many.
    sweep_at: usize,
}

const FIRST_SWEEP: usize = 1024;
/// The time that does not come.
pub(crate) const NEVER: u64 = u64::MAX;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Nanoseconds from the start of the clock to `instant`.
pub(crate) fn since_start(instant: Instant) -> u64 {
    u64::try_from(instant.saturating_duration_since(*START).as_nanos()).unwrap_or(NEVER)
}

/// The inverse of [`since_start`]; `None` for [`NEVER`].
pub(crate) fn instant(when: u64) -> Option<Instant> {
    (when != NEVER).then(|| *START + Duration::from_nanos(when))
}

/// A heap of timers.
#[derive(Debug)]
pub(crate) struct Timers {
    heap: Mutex<Heap>,
    /// When the earliest is due. Written under the lock.
    next: AtomicU64,
}

impl Timers {
    pub(crate) const fn new() -> Self {
        Self {
            heap: Mutex::new(Heap { entries: BinaryHeap::new(), sweep_at: FIRST_SWEEP }),
            next: AtomicU64::new(NEVER),
        }
    }

    /// When the earliest is due; [`NEVER`] if there is none.
    #[inline(always)]
    pub(crate) fn next(&self) -> u64 {
        // SeqCst: with the stores under the lock: a sleeper that has made its processor idle sees what was armed before.
        self.next.load(Ordering::SeqCst)
    }

    /// When the two earliest are due; [`NEVER`] for what there is not.
    pub(crate) fn next_two(&self) -> [u64; 2] {
        if self.next() == NEVER {
            return [NEVER; 2];
        }
        let heap = self.heap.lock();
        let mut entries = heap.entries.as_slice().iter().map(|e| e.when);
        let first = entries.next().unwrap_or(NEVER);
        // The second is one of the first one's children.
        [first, entries.take(2).min().unwrap_or(NEVER)]
    }

    /// Ends the wait `ticket` of `parker` at `deadline`, unless it has ended by then.
    pub(crate) fn arm(&self, deadline: Instant, parker: &'static Parker, ticket: Ticket) {
        let when = since_start(deadline).min(NEVER - 1);
        let mut heap = self.heap.lock();
        if heap.entries.len() >= heap.sweep_at {
            heap.entries.retain(|e| e.parker.is_open(e.ticket));
            heap.sweep_at = (heap.entries.len() * 2).max(FIRST_SWEEP);
        }
        heap.entries.push(Entry { when, parker, ticket });
        self.publish_next(&heap);
    }

    fn publish_next(&self, heap: &Heap) {
        self.next.store(heap.entries.peek().map_or(NEVER, |e| e.when), Ordering::SeqCst);
    }

    /// Ends the waits whose time has come.
    #[cold]
    pub(crate) fn run_due(&self) {
        loop {
            let now = since_start(Instant::now());
            if now < self.next.load(Ordering::Relaxed) {
                return;
            }
            // Whoever holds the lock does the same, or something short: then these are run at the next look, by whoever makes
            // it.
            let Some(mut heap) = self.heap.try_lock() else { return };
            let mut due = [const { None }; 32];
            let mut count = 0;
            while count < due.len() && heap.entries.peek().is_some_and(|e| e.when <= now) {
                due[count] = heap.entries.pop();
                count += 1;
            }
            self.publish_next(&heap);
            drop(heap);
            for Entry { parker, ticket, .. } in due.into_iter().flatten() {
                if parker.try_claim(ticket, TIMED_OUT) {
                    parker.ready();
                }
            }
        }
    }

    /// Forgets the timers of waits that have ended. Says how many it has looked at.
    pub(crate) fn sweep(&self) -> usize {
        if self.next() == NEVER {
            return 0;
        }
        let mut heap = self.heap.lock();
        let count = heap.entries.len();
        heap.entries.retain(|e| e.parker.is_open(e.ticket));
        self.publish_next(&heap);
        count
    }

    /// Moves all timers to `other`, from which nobody moves any.
    pub(crate) fn move_to(&self, other: &Timers) {
        let mut from = self.heap.lock();
        if from.entries.is_empty() {
            return;
        }
        let mut to = other.heap.lock();
        to.entries.append(&mut from.entries);
        // At no time is there none to be seen.
        other.publish_next(&to);
        self.publish_next(&from);
    }
}

#[cfg(all(test, not(csp_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_two_earliest_are_known() {
        let parker: &'static Parker = Parker::leak();
        let timers = Timers::new();
        assert_eq!(timers.next_two(), [NEVER; 2]);
        let mut armed = Vec::new();
        // In every order that comes of stepping through 7 of them.
        for step in 1..7 {
            for i in 0..7 {
                let when = 1000 + (i * step) % 7 * 10 + step;
                timers.arm(*START + Duration::from_nanos(when), parker, parker.begin());
                armed.push(when);
                armed.sort_unstable();
                let second = armed.get(1).copied().unwrap_or(NEVER);
                assert_eq!((timers.next(), timers.next_two()), (armed[0], [armed[0], second]));
            }
        }
    }
}
