//! A processor's queue of goroutines that were made ready: first in, first out.
//!
//! One owner pushes at the tail; the owner and thieves take from the head. After Go's `runq`.
//!
//! `head <= tail <= head + CAPACITY`. The owner alone moves `tail`; `head` is moved by compare-and-swap, and with it go
//! the elements passed. A thief copies elements before it owns them; if its compare-and-swap fails it forgets them. (The
//! indices have 32 bits: a thief that is stopped between the two for exactly 2^32 pops, a minute's work of nothing else,
//! would take them for unchanged. As in Go.)

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

#[cfg(all(test, not(csp_loom)))]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use super::*;

    fn runnable(n: usize) -> Runnable {
        // SAFETY: any word but zero is a runnable, as long as nobody runs it.
        unsafe { Runnable::from_raw(n) }
    }

    /// An empty queue through which so many have gone already.
    fn starting_at(index: u32) -> RunQueue {
        let queue = RunQueue::new();
        queue.head.store(index, Ordering::Relaxed);
        queue.tail.store(index, Ordering::Relaxed);
        queue
    }

    #[test]
    fn a_queue_whose_indices_wrap_around_is_still_first_in_first_out() {
        for before in 0..=CAPACITY as u32 + 1 {
            let queue = starting_at(0_u32.wrapping_sub(before));
            (1..=CAPACITY).for_each(|n| queue.push(runnable(n)).unwrap());
            assert_eq!((queue.len(), queue.push(runnable(9999))), (CAPACITY, Err(runnable(9999))));
            for n in 1..=CAPACITY {
                assert_eq!(queue.pop(), Some(runnable(n)), "{before} before the wrap");
                queue.push(runnable(CAPACITY + n)).unwrap();
                assert_eq!(queue.len(), CAPACITY);
            }
            (CAPACITY + 1..=2 * CAPACITY).for_each(|n| assert_eq!(queue.pop(), Some(runnable(n))));
            assert_eq!((queue.len(), queue.pop()), (0, None));
        }
    }

    #[test]
    fn half_of_a_queue_is_stolen_also_where_indices_wrap_around() {
        for (theirs, ours) in [(0, 0), (1, 0), (0, 1), (1, 1), (5, 3), (3, 5), (64, 200), (200, 64), (255, 255)] {
            for len in [1, 2, 3, 5, 100, CAPACITY] {
                let victim = starting_at(0_u32.wrapping_sub(theirs));
                let thief = starting_at(0_u32.wrapping_sub(ours));
                (1..=len).for_each(|n| victim.push(runnable(n)).unwrap());
                let half = len - len / 2;
                assert_eq!(victim.steal_into(&thief), Some(runnable(half)));
                assert_eq!((victim.len(), thief.len()), (len / 2, half - 1));
                (1..half).for_each(|n| assert_eq!(thief.pop(), Some(runnable(n))));
                (half + 1..=len).for_each(|n| assert_eq!(victim.pop(), Some(runnable(n))));
                assert_eq!((victim.steal_into(&thief), thief.pop()), (None, None));
            }
        }
    }

    /// The owner and a thief at once, over the wrap of both queues: nothing is lost or doubled, and each sees its own in
    /// order.
    #[test]
    fn nothing_is_lost_to_a_thief_while_indices_wrap_around() {
        const COUNT: usize = if cfg!(miri) { 600 } else { 20_000 };
        let queue = Arc::new(starting_at(0_u32.wrapping_sub(COUNT as u32 / 2)));
        let over = Arc::new(AtomicBool::new(false));
        let thief = {
            let (queue, over) = (queue.clone(), over.clone());
            thread::spawn(move || {
                let own = starting_at(0_u32.wrapping_sub(COUNT as u32 / 8));
                let mut got = Vec::new();
                loop {
                    // Before the look: what was pushed before the end is still found after it.
                    let last_look = over.load(Ordering::Acquire);
                    let Some(last) = queue.steal_into(&own) else {
                        if last_look {
                            return got;
                        }
                        thread::yield_now();
                        continue;
                    };
                    got.extend(std::iter::from_fn(|| own.pop().map(Runnable::into_raw)));
                    got.push(last.into_raw());
                }
            })
        };
        let mut here = Vec::new();
        let mut to_push = (1..=COUNT).collect::<VecDeque<_>>();
        while let Some(n) = to_push.pop_front() {
            if queue.push(runnable(n)).is_err() {
                to_push.push_front(n);
                here.extend(queue.pop().map(Runnable::into_raw));
            } else if n % 7 == 0 {
                here.extend(queue.pop().map(Runnable::into_raw));
            }
        }
        over.store(true, Ordering::Release);
        let stolen = thief.join().unwrap();
        assert!(here.is_sorted() && stolen.is_sorted());
        here.extend(stolen);
        here.sort_unstable();
        assert!(here.into_iter().eq(1..=COUNT));
        assert!(queue.head.load(Ordering::Relaxed) < COUNT as u32, "the indices went past the wrap");
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
