//! A processor's queue of goroutines that were made ready: first in, first out.
//!
//! One owner pushes at the tail; the owner and thieves take from the head. After Go's `runq`.
//!
//! `head <= tail <= head + CAPACITY`. The owner alone moves `tail`; `head` is moved by compare-and-swap, and with it go
//! the elements passed. A thief copies elements before it owns them; if its compare-and-swap fails it forgets them.

use super::goroutine::Runnable;
use crate::primitive::atomic::{AtomicU32, AtomicUsize, Ordering};

#[cfg(not(csp_loom))]
const CAPACITY: usize = 256;
#[cfg(csp_loom)]
const CAPACITY: usize = 4;

#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct RunQueue {
    head: AtomicU32,
    tail: AtomicU32,
    elements: [AtomicUsize; CAPACITY],
}

impl RunQueue {
    pub(crate) fn new() -> Self {
        Self {
            head: AtomicU32::new(0),
            tail: AtomicU32::new(0),
            elements: std::array::from_fn(|_| AtomicUsize::new(0)),
        }
    }

    fn element(&self, index: u32) -> &AtomicUsize {
        &self.elements[index as usize % CAPACITY]
    }

    /// How many there are, at some moment.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        let head = self.head.load(Ordering::Acquire);
        (self.tail.load(Ordering::Acquire).wrapping_sub(head) as i32).max(0) as usize
    }

    /// Adds one at the tail, or gives it back when the queue is full. Owner.
    #[inline]
    pub(crate) fn push(&self, runnable: Runnable) -> Result<(), Runnable> {
        // Acquire: pairs with the Release of a thief's compare-and-swap: it has read the element we overwrite.
        let head = self.head.load(Ordering::Acquire);
        let tail = self.tail.load(Ordering::Relaxed);
        if tail.wrapping_sub(head) as usize == CAPACITY {
            return Err(runnable);
        }
        self.element(tail).store(runnable.into_raw(), Ordering::Relaxed);
        // Release: pairs with the Acquire loads of `tail` in `steal_into`.
        self.tail.store(tail.wrapping_add(1), Ordering::Release);
        Ok(())
    }

    /// Takes the one at the head. Owner.
    #[inline]
    pub(crate) fn pop(&self) -> Option<Runnable> {
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            if head == self.tail.load(Ordering::Relaxed) {
                return None;
            }
            let raw = self.element(head).load(Ordering::Relaxed);
            // Release: our own `push` may overwrite the element afterwards; thieves that read it late fail their swap.
            match self.head.compare_exchange_weak(head, head.wrapping_add(1), Ordering::AcqRel, Ordering::Acquire) {
                // SAFETY: `raw` came from a runnable that `push` was given, and moving `head` made it ours.
                Ok(_) => return Some(unsafe { Runnable::from_raw(raw) }),
                Err(now) => head = now,
            }
        }
    }

    /// Moves half of the queue, at least one, to the end of `own`, which the caller owns and which has room for half a
    /// queue. Returns the last one moved instead of queueing it.
    pub(crate) fn steal_into(&self, own: &RunQueue) -> Option<Runnable> {
        let own_tail = own.tail.load(Ordering::Relaxed);
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            // Acquire: pairs with the Release in `push`: the elements below `tail` are there.
            let tail = self.tail.load(Ordering::Acquire);
            let len = tail.wrapping_sub(head);
            let count = len - len / 2;
            if count == 0 {
                return None;
            }
            if count as usize > CAPACITY / 2 {
                // `head` is older than `tail`: look again.
                head = self.head.load(Ordering::Acquire);
                continue;
            }
            let room = CAPACITY as u32 - own_tail.wrapping_sub(own.head.load(Ordering::Acquire));
            let count = count.min(room + 1);
            for i in 0..count - 1 {
                let raw = self.element(head.wrapping_add(i)).load(Ordering::Relaxed);
                own.element(own_tail.wrapping_add(i)).store(raw, Ordering::Relaxed);
            }
            let last = self.element(head.wrapping_add(count - 1)).load(Ordering::Relaxed);
            // Release: pairs with the Acquire of `head` in `push`: we have read what may now be overwritten.
            match self.head.compare_exchange(head, head.wrapping_add(count), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    own.tail.store(own_tail.wrapping_add(count - 1), Ordering::Release);
                    // SAFETY: as in `pop`.
                    return Some(unsafe { Runnable::from_raw(last) });
                }
                Err(now) => head = now,
            }
        }
    }
}

#[cfg(all(test, csp_loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    fn runnable(n: usize) -> Runnable {
        // SAFETY: any word but zero is a runnable, as long as nobody runs it.
        unsafe { Runnable::from_raw(n) }
    }

    fn drain(queue: &RunQueue) -> Vec<usize> {
        std::iter::from_fn(|| queue.pop().map(Runnable::into_raw)).collect()
    }

    /// The owner pushes more than fits while a thief takes halves: nothing is lost, nothing doubled, order is kept.
    /// One thief, a capacity of 4; up to four preemptions, of which each of the two operations that overlap can take two.
    #[test]
    fn loom_run_queue_push_pop_steal() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(4);
        model.check(|| {
            let queue = Arc::new(RunQueue::new());
            let theirs = queue.clone();
            queue.push(runnable(1)).unwrap();
            queue.push(runnable(2)).unwrap();
            let thief = thread::spawn(move || {
                let own = RunQueue::new();
                let last = theirs.steal_into(&own).map(Runnable::into_raw);
                let mut got = drain(&own);
                got.extend(last);
                got
            });
            let mut here = Vec::new();
            queue.push(runnable(3)).unwrap();
            here.extend(queue.pop().map(Runnable::into_raw));
            queue.push(runnable(4)).unwrap();
            let overfull = queue.push(runnable(5)).map_err(Runnable::into_raw);
            here.extend(drain(&queue));
            let stolen = thief.join().unwrap();
            here.extend(drain(&queue));
            here.extend(overfull.err());
            assert!(here.is_sorted() && stolen.is_sorted(), "{here:?} {stolen:?}");
            here.extend(stolen);
            here.sort_unstable();
            assert_eq!(here, [1, 2, 3, 4, 5]);
        });
    }

    /// Two thieves and the owner race for the same elements.
    #[test]
    fn loom_run_queue_two_thieves() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let queue = Arc::new(RunQueue::new());
            (1..=3).for_each(|n| queue.push(runnable(n)).unwrap());
            let thieves: Vec<_> = (0..2)
                .map(|_| {
                    let theirs = queue.clone();
                    thread::spawn(move || {
                        let own = RunQueue::new();
                        let last = theirs.steal_into(&own).map(Runnable::into_raw);
                        let mut got = drain(&own);
                        got.extend(last);
                        got
                    })
                })
                .collect();
            let mut all = drain(&queue);
            thieves.into_iter().for_each(|t| all.extend(t.join().unwrap()));
            all.extend(drain(&queue));
            all.sort_unstable();
            assert_eq!(all, [1, 2, 3]);
        });
    }
}
