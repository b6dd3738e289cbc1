//! Receivers that no sender feeds: one message at a time, or one per period.
//!
//! Neither has a thread or a timer of its own. They are notes of when the next message is due; whoever waits for it
//! waits with that as the deadline.

use std::panic::Location;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::sched::park::{Parker, Wait, WaitReason, park};

#[derive(Debug)]
pub(crate) enum Timer {
    /// One message, at `when`.
    At { when: Instant, taken: AtomicBool },
    /// A message every `period`. `next` is when the next one is due; `None` where no clock will ever show it.
    Tick { period: Duration, next: Mutex<Option<Instant>> },
}

impl Timer {
    pub(crate) fn at(when: Instant) -> Self {
        Self::At { when, taken: AtomicBool::new(false) }
    }

    pub(crate) fn tick(first: Instant, period: Duration) -> Self {
        Self::Tick { period, next: Mutex::new(Some(first)) }
    }

    /// When the next message is due, if there will be one.
    pub(crate) fn due(&self) -> Option<Instant> {
        match self {
            // Relaxed: the flag guards nothing but itself.
            Self::At { when, taken } => (!taken.load(Ordering::Relaxed)).then_some(*when),
            Self::Tick { next, .. } => *next.lock(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.due().is_none_or(|due| due > crate::primitive::now())
    }

    /// Takes the message if it is due by `now`.
    pub(crate) fn try_take(&self, now: Instant) -> Option<Instant> {
        match self {
            // Relaxed: the flag guards nothing but itself.
            Self::At { when, taken } => (*when <= now && !taken.swap(true, Ordering::Relaxed)).then_some(*when),
            Self::Tick { period, next } => {
                let mut next = next.lock();
                let due = (*next)?;
                if due > now {
                    return None;
                }
                *next = now.checked_add(*period);
                Some(due)
            }
        }
    }

    /// Waits for the message. `None`: `deadline` came first.
    #[cold]
    pub(crate) fn take(&self, deadline: Option<Instant>, location: &'static Location<'static>) -> Option<Instant> {
        loop {
            let now = crate::primitive::now();
            if let Self::Tick { period, next } = self {
                // Reserve the message now and wait for it then, so that the period does not stretch by the latency of
                // each wake-up.
                let mut next = next.lock();
                if let Some(due) = *next
                    && deadline.is_none_or(|deadline| due <= deadline)
                {
                    *next = due.max(now).checked_add(*period);
                    drop(next);
                    if now < due {
                        pause(Some(due), WaitReason::Receive, location);
                    }
                    return Some(due);
                }
            } else if let Some(message) = self.try_take(now) {
                return Some(message);
            }
            if deadline.is_some_and(|deadline| deadline <= now) {
                return None;
            }
            let until = [self.due(), deadline].into_iter().flatten().min();
            pause(until, if until.is_some() { WaitReason::Receive } else { WaitReason::Never }, location);
        }
    }
}

/// Waits until `until`; for ever, if that is `None`.
pub(crate) fn pause(until: Option<Instant>, reason: WaitReason, location: &'static Location<'static>) {
    unsafe fn nothing(_: *mut ()) {}

    Parker::with_current(|parker| {
        let ticket = parker.begin();
        let wait = Wait { reason, location, deadline: until };
        // SAFETY: the parker is ours and the ticket its newest. The commit does nothing.
        unsafe { park(parker, ticket, wait, nothing, std::ptr::null_mut()) };
    });
}
