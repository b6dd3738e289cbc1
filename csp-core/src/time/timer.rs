//! The timers that end the waits of goroutines.
//!
//! One heap. An entry names a wait, not a frame: a parker, which is never freed, and the ticket of the wait, which never
//! comes round. A wait that ended otherwise leaves its entry behind; it is dropped when it comes up, or when the heap has
//! doubled since it was last swept. Plain threads mind their own deadlines.

use std::cmp::Ordering as Order;
use std::collections::BinaryHeap;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::sched::park::{Parker, TIMED_OUT, Ticket};

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

struct Heap {
    entries: BinaryHeap<Entry>,
    /// Sweep when there are so many.
    sweep_at: usize,
}

const FIRST_SWEEP: usize = 1024;
const NEVER: u64 = u64::MAX;

static HEAP: Mutex<Heap> = Mutex::new(Heap { entries: BinaryHeap::new(), sweep_at: FIRST_SWEEP });
/// When the earliest timer is due. Written under the lock.
static NEXT: AtomicU64 = AtomicU64::new(NEVER);
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Nanoseconds from the start of the clock to `instant`.
pub(crate) fn since_start(instant: Instant) -> u64 {
    u64::try_from(instant.saturating_duration_since(*START).as_nanos()).unwrap_or(NEVER)
}

/// Ends the wait `ticket` of `parker` at `deadline`, unless it has ended by then.
pub(crate) fn arm(deadline: Instant, parker: &'static Parker, ticket: Ticket) {
    let when = since_start(deadline).min(NEVER - 1);
    let mut heap = HEAP.lock();
    if heap.entries.len() >= heap.sweep_at {
        heap.entries.retain(|e| e.parker.is_open(e.ticket));
        heap.sweep_at = (heap.entries.len() * 2).max(FIRST_SWEEP);
    }
    heap.entries.push(Entry { when, parker, ticket });
    publish_next(&heap);
}

fn publish_next(heap: &Heap) {
    NEXT.store(heap.entries.peek().map_or(NEVER, |e| e.when), Ordering::SeqCst);
}

/// When the earliest timer is due, if there is any.
pub(crate) fn next_deadline() -> Option<Instant> {
    let next = NEXT.load(Ordering::SeqCst);
    (next != NEVER).then(|| *START + Duration::from_nanos(next))
}

/// Ends the waits whose time has come.
#[inline]
pub(crate) fn poll() {
    if NEXT.load(Ordering::Relaxed) != NEVER {
        run_due();
    }
}

#[cold]
fn run_due() {
    loop {
        if since_start(Instant::now()) < NEXT.load(Ordering::Relaxed) {
            return;
        }
        // Whoever holds the lock does the same.
        let Some(mut heap) = HEAP.try_lock() else { return };
        let now = since_start(Instant::now());
        let mut due = [const { None }; 32];
        let mut count = 0;
        while count < due.len() && heap.entries.peek().is_some_and(|e| e.when <= now) {
            due[count] = heap.entries.pop();
            count += 1;
        }
        publish_next(&heap);
        drop(heap);
        for Entry { parker, ticket, .. } in due.into_iter().flatten() {
            if parker.try_claim(ticket, TIMED_OUT) {
                parker.ready();
            }
        }
    }
}
