//! Messages that know where they come from, and count how often they are dropped.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// The most tasks of a program, the keeper included.
pub(crate) const TASKS: usize = 12;
/// The most messages of a task.
pub(crate) const NUMBERS: usize = 256;

/// Which message: its producer, and its number among the producer's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id {
    pub(crate) task: u8,
    pub(crate) number: u16,
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m{}.{}", self.task, self.number)
    }
}

impl Id {
    fn index(self) -> usize {
        usize::from(self.task) * NUMBERS + usize::from(self.number)
    }
}

/// How often each message of a run was dropped. All of it `Relaxed`: it is looked at when the tasks have been joined.
///
/// Static, and messages refer to it by plain numbers: where a broken channel doubles a message or hands over garbage,
/// the test is to say so, not to crash.
struct Ledger {
    run: AtomicU64,
    /// `run << 8 | drops`.
    entries: [AtomicU64; TASKS * NUMBERS],
    faults: AtomicU64,
}

/// Tests run side by side; each has its own.
static LEDGERS: [Ledger; 8] = [const {
    Ledger {
        run: AtomicU64::new(0),
        entries: [const { AtomicU64::new(0) }; TASKS * NUMBERS],
        faults: AtomicU64::new(0),
    }
}; 8];

/// One run of one program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    ledger: u8,
    run: u64,
}

impl Run {
    /// Begins a run of the test that has that ledger alone. What is left of the run before counts as a fault of it.
    pub(crate) fn begin(ledger: u8) -> Self {
        let run = LEDGERS[usize::from(ledger)].run.fetch_add(1, Ordering::Relaxed) + 1;
        LEDGERS[usize::from(ledger)].faults.store(0, Ordering::Relaxed);
        Self { ledger, run }
    }

    pub(crate) fn message<const WORDS: usize>(self, id: Id) -> Message<WORDS> {
        self.ledger().entries[id.index()].store(self.run << 8, Ordering::Relaxed);
        Message { ledger: self.ledger, run: self.run, id, copies: [mix(self.run, id); WORDS] }
    }

    fn ledger(self) -> &'static Ledger {
        &LEDGERS[usize::from(self.ledger)]
    }

    /// How often a message that was made in this run was dropped.
    pub(crate) fn drops(self, id: Id) -> u64 {
        let entry = self.ledger().entries[id.index()].load(Ordering::Relaxed);
        assert_eq!(entry >> 8, self.run, "{id:?} was not made");
        entry & 0xff
    }

    /// How many things were dropped that were no message of this run.
    pub(crate) fn faults(self) -> u64 {
        self.ledger().faults.load(Ordering::Relaxed)
    }
}

/// Of messages that are handed from stack to stack.
pub(crate) const SMALL: usize = 4;
/// Of messages that a receiver waits for with a place on the heap.
pub(crate) const LARGE: usize = 2100;

/// What a task has to have of stack: unoptimised, each of a select's messages has several places in its frame.
pub(crate) const fn stack_size(words: usize) -> usize {
    if words > SMALL { 8 << 20 } else { 200 << 10 }
}

/// Larger than a register, so that it can arrive in parts.
pub(crate) struct Message<const WORDS: usize> {
    ledger: u8,
    run: u64,
    id: Id,
    copies: [u64; WORDS],
}

fn mix(run: u64, id: Id) -> u64 {
    (run << 32 | id.index() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl<const WORDS: usize> Message<WORDS> {
    /// For an arm of a select that takes no part.
    pub(crate) fn blank() -> Self {
        Self { ledger: u8::MAX, run: 0, id: Id { task: 0, number: 0 }, copies: [0; WORDS] }
    }

    fn is_whole(&self, run: u64) -> bool {
        self.copies.iter().all(|&copy| copy == mix(run, self.id))
    }

    /// Which one it is, if it is one of the run's and whole.
    pub(crate) fn id(&self, run: Run) -> Option<Id> {
        ((self.ledger, self.run) == (run.ledger, run.run) && self.is_whole(run.run)).then_some(self.id)
    }
}

impl<const WORDS: usize> fmt::Debug for Message<WORDS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of run {:#x}, {:x?} ..", self.id, self.run, &self.copies[..SMALL])
    }
}

impl<const WORDS: usize> Drop for Message<WORDS> {
    fn drop(&mut self) {
        let Some(ledger) = LEDGERS.get(usize::from(self.ledger)) else { return };
        let run = ledger.run.load(Ordering::Relaxed);
        match ledger.entries.get(self.id.index()) {
            Some(entry) if self.is_whole(run) && entry.load(Ordering::Relaxed) >> 8 == run => {
                entry.fetch_add(1, Ordering::Relaxed);
            }
            _ => _ = ledger.faults.fetch_add(1, Ordering::Relaxed),
        }
    }
}
