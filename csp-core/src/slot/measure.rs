//! The cost of a switch, for the benchmark.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{Slot, pool};
use crate::context_switch::{self, Commit, Execution};
use crate::{runtime, sched};

struct Partner {
    slot: &'static Slot,
    home: Execution,
    done: AtomicBool,
}

/// Switches from the calling thread to a slot and back `n` times, and returns how long that took; `None` where slots are
/// not switched to.
#[doc(hidden)]
pub fn switch_there_and_back(n: u64) -> Option<Duration> {
    runtime::ensure_started();
    if !context_switch::native() || Slot::current().is_some() {
        return None;
    }
    let mut slots = Vec::new();
    if !pool::take(sched::default_class(), 1, &mut slots) {
        pool::make(sched::default_class(), &mut slots).ok()?;
    }
    let slot = slots.pop()?;
    pool::put(slots.into_iter());

    /// # Safety
    ///
    /// `partner` is a [`Partner`] whose `home` waits for us.
    unsafe fn come_back(partner: *mut ()) {
        let partner = partner.cast::<Partner>();
        // SAFETY: the caller's promise; it reads and writes `done` only while we are suspended.
        unsafe {
            while !(*partner).done.load(Ordering::Relaxed) {
                (*partner).slot.execution.transfer(&(*partner).home, Commit::NONE);
            }
            // For the next one who takes the slot: it waits at its bottom again when it has run that one's commit.
            let next = (*partner).slot.execution.transfer(&(*partner).home, Commit::NONE);
            (next.run)(next.arg);
        }
    }

    let mut partner = Partner { slot, home: Execution::new(), done: AtomicBool::new(false) };
    let at = &raw mut partner;
    // SAFETY: `home` stands for the running execution; the slot is free, and ours.
    let elapsed = unsafe {
        *(*at).home.context.get() = context_switch::Context::new(context_switch::thread_pointer());
        (*at).home.transfer(&slot.execution, Commit { run: come_back, arg: at.cast() });
        let start = Instant::now();
        for _ in 0..n {
            (*at).home.transfer(&slot.execution, Commit::NONE);
        }
        let elapsed = start.elapsed();
        (*at).done.store(true, Ordering::Relaxed);
        (*at).home.transfer(&slot.execution, Commit::NONE);
        elapsed
    };
    pool::put([slot].into_iter());
    Some(elapsed)
}
