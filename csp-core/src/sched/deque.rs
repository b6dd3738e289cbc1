//! A processor's goroutines that have not started: last in, first out for their owner, first in, first out for thieves.
//!
//! Newest first keeps recursion depth-first, so that few goroutines are half-way at any time, and each needs a slot only
//! from its start on. The deque of Chase and Lev with a fixed buffer, and indices of 32 bits: see
//! [`run_queue`](super::run_queue) on thieves that are stopped for 2^32 steps.
//!
//! `top <= bottom <= top + CAPACITY` and `top_seen <= top`, but for the moment in which `pop` has reserved the last one. Thieves move `top`; the
//! owner moves `bottom`, and takes part in the race for the last element through `top`.

use super::goroutine::Runnable;
use crate::primitive::atomic::{AtomicU32, AtomicUsize, Ordering};

#[cfg(not(csp_loom))]
pub(crate) const CAPACITY: usize = 256;
#[cfg(csp_loom)]
pub(crate) const CAPACITY: usize = 4;

/// What one party alone writes, on cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Apart<T>(T);

#[derive(Debug)]
pub(crate) struct Deque {
    top: Apart<AtomicU32>,
    bottom: Apart<Bottom>,
    elements: [AtomicUsize; CAPACITY],
}

/// The owner's end.
#[derive(Debug)]
struct Bottom {
    index: AtomicU32,
    /// A `top` of the past: while it shows room, a push need not look at the thieves' cache line. The owner alone uses it.
    top_seen: AtomicU32,
}

impl Deque {
    pub(crate) fn new() -> Self {
        Self {
            top: Apart(AtomicU32::new(0)),
            bottom: Apart(Bottom { index: AtomicU32::new(0), top_seen: AtomicU32::new(0) }),
            elements: std::array::from_fn(|_| AtomicUsize::new(0)),
        }
    }

    fn element(&self, index: u32) -> &AtomicUsize {
        &self.elements[index as usize % CAPACITY]
    }

    /// How many there are, at some moment.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        let top = self.top.0.load(Ordering::Acquire);
        (self.bottom.0.index.load(Ordering::Acquire).wrapping_sub(top) as i32).max(0) as usize
    }

    /// A number that changes whenever the oldest one is taken.
    pub(crate) fn oldest(&self) -> u32 {
        self.top.0.load(Ordering::Relaxed)
    }

    /// Adds one at the bottom, or gives it back when the deque is full. Owner.
    #[inline]
    pub(crate) fn push(&self, runnable: Runnable) -> Result<(), Runnable> {
        let bottom = self.bottom.0.index.load(Ordering::Relaxed);
        let top_seen = &self.bottom.0.top_seen;
        if bottom.wrapping_sub(top_seen.load(Ordering::Relaxed)) as usize >= CAPACITY {
            // Acquire: pairs with the swap of a thief: it has read the element we overwrite.
            let top = self.top.0.load(Ordering::Acquire);
            top_seen.store(top, Ordering::Relaxed);
            if bottom.wrapping_sub(top) as usize >= CAPACITY {
                return Err(runnable);
            }
        }
        self.element(bottom).store(runnable.into_raw(), Ordering::Relaxed);
        // Release: pairs with the load of `bottom` in `steal`.
        self.bottom.0.index.store(bottom.wrapping_add(1), Ordering::Release);
        Ok(())
    }

    /// Takes the newest. Owner.
    #[inline]
    pub(crate) fn pop(&self) -> Option<Runnable> {
        let bottom = self.bottom.0.index.load(Ordering::Relaxed);
        // `top` only grows: what looks empty is.
        if self.top.0.load(Ordering::Relaxed) == bottom {
            return None;
        }
        let bottom = bottom.wrapping_sub(1);
        // SeqCst, with the load that follows: the store-load race with `steal`, which loads `top` before `bottom`. If a
        // thief has not seen our reservation, we see its swap of `top`. An exchange, because it is the cheapest fence.
        self.bottom.0.index.swap(bottom, Ordering::SeqCst);
        #[cfg(csp_loom)]
        crate::primitive::atomic::fence(Ordering::SeqCst);
        let top = self.top.0.load(Ordering::SeqCst);
        let left = bottom.wrapping_sub(top) as i32;
        if left > 0 {
            let raw = self.element(bottom).load(Ordering::Relaxed);
            // SAFETY: `raw` came from `push`; thieves stop above `bottom`.
            return Some(unsafe { Runnable::from_raw(raw) });
        }
        let mut taken = None;
        if left == 0 {
            let raw = self.element(bottom).load(Ordering::Relaxed);
            if self.top.0.compare_exchange(top, top.wrapping_add(1), Ordering::SeqCst, Ordering::Relaxed).is_ok() {
                // SAFETY: as above, and moving `top` made the last one ours.
                taken = Some(unsafe { Runnable::from_raw(raw) });
            }
        }
        self.bottom.0.index.store(bottom.wrapping_add(1), Ordering::Release);
        taken
    }

    /// Takes the oldest. Anybody.
    pub(crate) fn steal(&self) -> Option<Runnable> {
        let mut top = self.top.0.load(Ordering::SeqCst);
        loop {
            #[cfg(csp_loom)]
            crate::primitive::atomic::fence(Ordering::SeqCst);
            // SeqCst: see `pop`. Acquire: pairs with the Release in `push`: the element is there.
            let bottom = self.bottom.0.index.load(Ordering::SeqCst);
            if bottom.wrapping_sub(top) as i32 <= 0 {
                return None;
            }
            let raw = self.element(top).load(Ordering::Relaxed);
            match self.top.0.compare_exchange(top, top.wrapping_add(1), Ordering::SeqCst, Ordering::SeqCst) {
                // SAFETY: `raw` came from `push`, and moving `top` made it ours.
                Ok(_) => return Some(unsafe { Runnable::from_raw(raw) }),
                Err(now) => top = now,
            }
        }
    }
}

#[cfg(all(test, not(csp_loom)))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use super::*;

    fn runnable(n: usize) -> Runnable {
        // SAFETY: any word but zero is a runnable, as long as nobody runs it.
        unsafe { Runnable::from_raw(n) }
    }

    /// An empty deque through which so many have gone already.
    fn starting_at(index: u32) -> Deque {
        let deque = Deque::new();
        deque.top.0.store(index, Ordering::Relaxed);
        deque.bottom.0.index.store(index, Ordering::Relaxed);
        deque
    }

    #[test]
    fn a_deque_whose_indices_wrap_around_is_still_last_in_first_out_for_its_owner() {
        for before in 0..=CAPACITY as u32 + 1 {
            let deque = starting_at(0_u32.wrapping_sub(before));
            (1..=CAPACITY).for_each(|n| deque.push(runnable(n)).unwrap());
            assert_eq!((deque.len(), deque.push(runnable(9999))), (CAPACITY, Err(runnable(9999))));
            (1..=CAPACITY).rev().for_each(|n| assert_eq!(deque.pop(), Some(runnable(n)), "{before} before the wrap"));
            assert_eq!((deque.len(), deque.pop(), deque.steal()), (0, None, None));
            // Up and down across the wrap.
            for n in 1..=10 {
                deque.push(runnable(n)).unwrap();
                assert_eq!((deque.len(), deque.pop(), deque.pop()), (1, Some(runnable(n)), None));
            }
        }
    }

    #[test]
    fn a_deque_whose_indices_wrap_around_is_still_first_in_first_out_for_thieves() {
        for before in 0..=CAPACITY as u32 + 1 {
            let deque = starting_at(0_u32.wrapping_sub(before));
            (1..=CAPACITY).for_each(|n| deque.push(runnable(n)).unwrap());
            for n in 1..=CAPACITY {
                let oldest = deque.oldest();
                assert_eq!(deque.steal(), Some(runnable(n)), "{before} before the wrap");
                assert_ne!(deque.oldest(), oldest);
                deque.push(runnable(CAPACITY + n)).unwrap();
            }
            assert_eq!(deque.pop(), Some(runnable(2 * CAPACITY)));
            (CAPACITY + 1..2 * CAPACITY).for_each(|n| assert_eq!(deque.steal(), Some(runnable(n))));
            assert_eq!((deque.len(), deque.pop(), deque.steal()), (0, None, None));
        }
    }

    /// The owner and a thief at once, over the wrap, again and again down to the last element: nothing is lost or
    /// doubled, and the thief gets the oldest.
    #[test]
    fn nothing_is_lost_to_a_thief_while_indices_wrap_around() {
        const COUNT: usize = if cfg!(miri) { 600 } else { 20_000 };
        // The owner takes back half of what it pushes, or so: the indices move by the thief's share alone.
        let deque = Arc::new(starting_at(u32::MAX));
        let over = Arc::new(AtomicBool::new(false));
        let thief = {
            let (deque, over) = (deque.clone(), over.clone());
            thread::spawn(move || {
                let mut got = Vec::new();
                loop {
                    // Before the look: what was pushed before the end is still found after it.
                    let last_look = over.load(Ordering::Acquire);
                    match deque.steal() {
                        Some(oldest) => got.push(oldest.into_raw()),
                        None if last_look => return got,
                        None => thread::yield_now(),
                    }
                }
            })
        };
        let mut here = Vec::new();
        for n in 1..=COUNT {
            while deque.push(runnable(n)).is_err() {
                here.extend(deque.pop().map(Runnable::into_raw));
            }
            if n % 3 == 0 {
                here.extend(deque.pop().map(Runnable::into_raw));
            }
            if n % 64 == 0 {
                here.extend(std::iter::from_fn(|| deque.pop().map(Runnable::into_raw)));
            }
        }
        over.store(true, Ordering::Release);
        let stolen = thief.join().unwrap();
        assert!(stolen.is_sorted(), "a thief takes the oldest");
        here.extend(stolen);
        here.sort_unstable();
        assert!(here.into_iter().eq(1..=COUNT));
        assert_ne!(deque.oldest(), u32::MAX, "the indices went past the wrap");
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

    /// The owner pops while a thief steals, down to the last one: nothing is lost or doubled. Exhaustive for one thief.
    #[test]
    fn loom_deque_push_pop_steal() {
        loom::model(|| {
            let deque = Arc::new(Deque::new());
            let theirs = deque.clone();
            deque.push(runnable(1)).unwrap();
            deque.push(runnable(2)).unwrap();
            let thief = thread::spawn(move || {
                let mut got = Vec::new();
                got.extend(theirs.steal().map(Runnable::into_raw));
                got.extend(theirs.steal().map(Runnable::into_raw));
                got
            });
            let mut all = Vec::new();
            all.extend(deque.pop().map(Runnable::into_raw));
            deque.push(runnable(3)).unwrap();
            all.extend(deque.pop().map(Runnable::into_raw));
            all.extend(deque.pop().map(Runnable::into_raw));
            let stolen = thief.join().unwrap();
            assert!(stolen.is_sorted(), "a thief takes the oldest: {stolen:?}");
            all.extend(stolen);
            all.extend(deque.pop().map(Runnable::into_raw));
            all.sort_unstable();
            assert_eq!(all, [1, 2, 3]);
        });
    }

    /// Two thieves and the owner race for the last element.
    #[test]
    fn loom_deque_last_element() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let deque = Arc::new(Deque::new());
            deque.push(runnable(1)).unwrap();
            let thieves: Vec<_> = (0..2)
                .map(|_| {
                    let theirs = deque.clone();
                    thread::spawn(move || theirs.steal().is_some() as u32)
                })
                .collect();
            let mut count = deque.pop().is_some() as u32;
            count += thieves.into_iter().map(|t| t.join().unwrap()).sum::<u32>();
            assert_eq!(count, 1);
        });
    }
}
