//! Workers: the OS threads that run goroutines, and how they hold on to a processor or lose it.
//!
//! A worker runs goroutines while it holds a [`Processor`]. A goroutine may compute or block for as long as it likes
//! without telling anybody, so the processor can be taken from the worker behind its back: by sysmon, when the goroutine
//! has not come back for a time slice, and for an instant by a thief that takes from the *next* place.
//!
//! How the two keep out of each other's way stands in [`hold`](super::hold).
//!
//! Runtime code that finds its processor gone does without: it makes goroutines ready through the global queue, and
//! parks through the worker's own stack. The goroutine that lost it queues for another at its next checkpoint.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::goroutine::Runnable;
use super::hold::Hold;
use super::placement::Placement;
use super::processor::Processor;
#[cfg(csp_magazines)]
use crate::alloc::magazine::Magazine;
use crate::context_switch::Execution;
use crate::primitive::Baton;
use crate::slot::Slot;

#[repr(C, align(128))]
pub(crate) struct Worker {
    hold: Hold,
    /// The goroutine's time is up, or its processor gone: it gives way at its next checkpoint.
    preempt: AtomicBool,
    /// The processor held; null for none. Written by the worker, by a taker that has frozen it, and by whoever wakes the worker.
    processor: AtomicPtr<Processor>,
    /// The worker's own stack, and its own thread-locals.
    pub(crate) execution: Execution,
    /// A processor that somebody brings while the worker sleeps, or is about to; null for none.
    brought: AtomicPtr<Processor>,
    /// Where it sleeps while it has no processor.
    sleep: Baton,
    /// On which CPU it does.
    pub(crate) placement: Placement,
    /// The goroutine that alone may use this thread; null for none. Written by that goroutine, while it runs here.
    pub(crate) locked: AtomicPtr<Slot>,
    /// Has had a goroutine locked to it: the state of its kernel thread may differ from that of the others.
    pub(crate) tainted: AtomicBool,
    /// It runs the main goroutine alone: it is the main OS thread.
    pub(crate) reserved: bool,
    /// It came with the right to search.
    pub(crate) searching: Cell<bool>,
    /// How many that had not started it took from which processor, and when.
    pub(crate) loot: Cell<Option<(&'static Processor, u32, Instant)>>,
    /// It minded the timers when it was woken for something else.
    pub(crate) minded_timers: Cell<bool>,
    /// A goroutine that was picked, and can be run from the worker's own stack alone.
    pub(crate) pending: Cell<Option<Runnable>>,
    /// It runs a goroutine without a processor, and is counted among those who do.
    pub(crate) detached: AtomicBool,
    /// The thread ends when it is next on its own stack.
    pub(crate) ends: Cell<bool>,
    thread_pointer: AtomicUsize,
    /// What its goroutines have freed. Used by the goroutine that it runs.
    #[cfg(csp_magazines)]
    pub(crate) magazine: Magazine,
}

// SAFETY: the `Cell`s, `magazine` and `execution` are used by code of the worker's thread alone, on its own stack or on that of
// the goroutine it runs, which is never two at once; or, `searching`, by the one who wakes it, before it does.
unsafe impl Sync for Worker {}
// SAFETY: as above.
unsafe impl Send for Worker {}

/// There is one record of each.
impl PartialEq for Worker {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

/// Runtime code in progress on a worker: while it lives nobody takes the processor away.
pub(crate) struct Entered {
    worker: &'static Worker,
    /// The processor, if the worker still has it.
    pub(crate) processor: Option<&'static Processor>,
    nested: bool,
}

impl Worker {
    pub(crate) fn leak(reserved: bool) -> &'static Self {
        Box::leak(Box::new(Self {
            hold: Hold::new(),
            preempt: AtomicBool::new(false),
            processor: AtomicPtr::new(std::ptr::null_mut()),
            execution: Execution::new(),
            brought: AtomicPtr::new(std::ptr::null_mut()),
            sleep: Baton::default(),
            placement: Placement::new(),
            locked: AtomicPtr::new(std::ptr::null_mut()),
            tainted: AtomicBool::new(false),
            reserved,
            searching: Cell::new(false),
            loot: Cell::new(None),
            minded_timers: Cell::new(false),
            pending: Cell::new(None),
            detached: AtomicBool::new(false),
            ends: Cell::new(false),
            thread_pointer: AtomicUsize::new(0),
            #[cfg(csp_magazines)]
            magazine: Magazine::new(),
        }))
    }

    /// Makes the calling thread this worker's.
    pub(crate) fn adopt_thread(&self) {
        self.placement.adopt_thread();
        #[cfg(csp_native)]
        {
            let thread_pointer = crate::context_switch::thread_pointer();
            self.thread_pointer.store(thread_pointer, Ordering::Relaxed);
            // SAFETY: the worker does not run yet, so nobody else touches its context.
            unsafe { *self.execution.context.get() = crate::context_switch::Context::new(thread_pointer) };
        }
    }

    /// The thread pointer of the worker's own thread.
    #[cfg(csp_native)]
    pub(crate) fn thread_pointer(&self) -> usize {
        self.thread_pointer.load(Ordering::Relaxed)
    }

    #[inline(always)]
    pub(crate) fn enter(&'static self) -> Entered {
        let (nested, held) = self.hold.enter();
        Entered { worker: self, processor: if held { self.processor() } else { None }, nested }
    }

    /// The goroutine's code goes on after a switch to it.
    #[inline(always)]
    pub(crate) fn leave(&self) {
        self.hold.leave();
    }

    /// The processor held. For runtime code, and for others as a hint.
    #[inline(always)]
    pub(crate) fn processor(&self) -> Option<&'static Processor> {
        // SAFETY: null or a processor; processors are never freed.
        unsafe { self.processor.load(Ordering::Relaxed).as_ref() }
    }

    fn holds(&self, processor: &Processor) -> bool {
        self.processor().is_some_and(|p| std::ptr::eq(p, processor))
    }

    /// Takes a processor, or gives up the one held (`None`). For runtime code of the worker itself, and for the one who
    /// wakes it.
    pub(crate) fn set_processor(&'static self, processor: Option<&'static Processor>) {
        match processor {
            Some(processor) => {
                processor.set_worker(Some(self));
                self.processor.store(std::ptr::from_ref(processor).cast_mut(), Ordering::Relaxed);
                self.preempt.store(false, Ordering::Relaxed);
                self.hold.regain();
            }
            None => self.hold.give_up(|| {
                if let Some(processor) = self.processor() {
                    processor.set_worker(None);
                }
                self.processor.store(std::ptr::null_mut(), Ordering::Relaxed);
                self.preempt.store(true, Ordering::Relaxed);
            }),
        }
    }

    /// Runs `f` while no runtime code of this worker can run, if none runs now and it holds `processor`.
    pub(crate) fn while_frozen<R>(&self, processor: &'static Processor, f: impl FnOnce() -> R) -> Option<R> {
        let frozen = self.hold.freeze(|| self.holds(processor))?;
        let result = f();
        self.hold.thaw(frozen);
        Some(result)
    }

    /// Takes the processor away for good, if no runtime code runs. The caller owns it then. `taken` is called before the
    /// worker can notice.
    pub(crate) fn take_processor(&self, processor: &'static Processor, taken: impl FnOnce()) -> bool {
        let Some(frozen) = self.hold.freeze(|| self.holds(processor)) else { return false };
        taken();
        self.processor.store(std::ptr::null_mut(), Ordering::Relaxed);
        self.preempt.store(true, Ordering::Relaxed);
        processor.set_worker(None);
        drop(frozen);
        true
    }

    /// Brings a processor to the worker whose thread alone may run a goroutine, and wakes it. It may still be about to
    /// give its old one away, so the new one waits beside.
    pub(crate) fn bring(&self, processor: &'static Processor) {
        // Release: pairs with the Acquire in `take_brought`.
        self.brought.store(std::ptr::from_ref(processor).cast_mut(), Ordering::Release);
        self.wake();
    }

    /// Takes the processor that was brought, if any.
    pub(crate) fn take_brought(&'static self) {
        // SAFETY: null or a processor; processors are never freed.
        if let Some(processor) = unsafe { self.brought.swap(std::ptr::null_mut(), Ordering::Acquire).as_ref() } {
            self.set_processor(Some(processor));
        }
    }

    /// Asks the goroutine to give way at its next checkpoint.
    pub(crate) fn request_preemption(&self) {
        self.preempt.store(true, Ordering::Relaxed);
    }

    #[inline(always)]
    pub(crate) fn preemption_requested(&self) -> bool {
        self.preempt.load(Ordering::Relaxed)
    }

    /// A new time slice begins.
    #[inline(always)]
    pub(crate) fn clear_preemption(&self) {
        if self.preempt.load(Ordering::Relaxed) {
            self.preempt.store(false, Ordering::Relaxed);
        }
    }

    /// Sleeps until [`wake`](Self::wake), which brings a processor.
    pub(crate) fn sleep(&self) {
        self.placement.remember();
        self.sleep.wait();
        self.placement.settle();
    }

    /// As [`sleep`](Self::sleep), but at most until `deadline`. Says whether somebody woke it.
    pub(crate) fn sleep_until(&self, deadline: Instant) -> bool {
        self.placement.remember();
        let woken = self.sleep.wait_until(deadline);
        if woken {
            self.placement.settle();
        }
        woken
    }

    /// As [`sleep_until`](Self::sleep_until), which may take 100 µs longer: to wake up takes a while, and the kernel lets a timer
    /// be late by its slack. This one gets up so much earlier as it takes most times, and polls for the rest.
    pub(crate) fn sleep_exactly_until(&self, deadline: Instant) -> bool {
        /// How long it takes to wake up, in nanoseconds.
        static DELAY: AtomicU32 = AtomicU32::new(0);
        const LONGEST_DELAY: u32 = 100_000;
        /// Three times out of four it is earlier.
        const LONGER: u32 = 3_000;
        const SHORTER: u32 = 1_000;

        let delay = DELAY.load(Ordering::Relaxed);
        let rise = deadline - Duration::from_nanos(delay.into());
        if Instant::now() < rise {
            // Only here: threads and processes that goroutines start inherit it.
            set_timer_slack(1);
            let woken = self.sleep_until(rise);
            set_timer_slack(0);
            if woken {
                return true;
            }
            let late = rise.elapsed().as_nanos() > delay.into();
            let delay = if late { (delay + LONGER).min(LONGEST_DELAY) } else { delay.saturating_sub(SHORTER) };
            DELAY.store(delay, Ordering::Relaxed);
        } else {
            // Where all timers are as short, what it was once too long for would never be found out.
            DELAY.store(delay.saturating_sub(SHORTER), Ordering::Relaxed);
        }
        let woken = self.sleep.poll_until(deadline);
        if woken {
            self.placement.settle();
        }
        woken
    }

    /// Wakes it.
    pub(crate) fn wake(&self) {
        self.sleep.notify();
    }

    /// Makes the record of a thread that has ended fit for another.
    pub(crate) fn reset(&self) {
        self.tainted.store(false, Ordering::Relaxed);
        self.ends.set(false);
        self.searching.set(false);
        self.loot.set(None);
        self.minded_timers.set(false);
    }

    #[inline]
    pub(crate) fn locked_slot(&self) -> Option<&'static Slot> {
        // SAFETY: null or a slot; slots are never freed.
        unsafe { self.locked.load(Ordering::Relaxed).as_ref() }
    }
}

/// How many nanoseconds late the kernel may wake the calling thread to save wake-ups; 0 for what it was at the start.
fn set_timer_slack(nanoseconds: libc::c_ulong) {
    #[cfg(target_os = "linux")]
    // SAFETY: a plain system call. If it fails, timers are late.
    unsafe {
        libc::prctl(libc::PR_SET_TIMERSLACK, nanoseconds);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = nanoseconds;
}

impl Drop for Entered {
    #[inline(always)]
    fn drop(&mut self) {
        if !self.nested {
            self.worker.leave();
        }
    }
}

impl Entered {
    /// Whether the state of the worker's kernel thread may be somebody's own.
    pub(crate) fn is_tainted(&self) -> bool {
        self.worker.tainted.load(Ordering::Relaxed)
    }

    /// The runtime code goes on past this scope, through a switch.
    #[inline(always)]
    pub(crate) fn stay(self) -> Option<&'static Processor> {
        let processor = self.processor;
        std::mem::forget(self);
        processor
    }
}
