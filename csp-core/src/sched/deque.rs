//! A processor's goroutines that have not started: last in, first out for their owner, first in, first out for thieves.
//!
//! Newest first keeps recursion depth-first, so that few goroutines are half-way at any time, and each needs a slot only
//! from its start on. The deque of Chase and Lev with a fixed buffer.
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
