//! Time: sleeping, and the timers that end waits.

pub(crate) mod timer;

use std::panic::Location;
use std::time::{Duration, Instant};

use crate::sched::park::{Parker, Wait, WaitReason, checkpoint, park};

/// Parks the calling goroutine for at least `duration`; other goroutines run meanwhile.
///
/// It comes back within a millisecond of that as long as a processor is idle and the machine has a CPU for it: mostly some
/// microseconds late, and up to 0.4 ms where many timers of the program are due within microseconds of each other
/// and are served together.
///
/// On a plain thread it blocks the thread. `std::thread::sleep` in a goroutine would block the goroutine's OS thread for
/// as long, which is correct but costs a thread. As Go's `time.Sleep`.
///
/// ```
/// # use csp_core as csp;
/// use std::time::{Duration, Instant};
///
/// let start = Instant::now();
/// csp::spawn(|| csp::time::sleep(Duration::from_millis(5))).join().unwrap();
/// assert!(start.elapsed() >= Duration::from_millis(5));
/// ```
#[track_caller]
pub fn sleep(duration: Duration) {
    let location = Location::caller();
    checkpoint();
    // A deadline that time does not reach is none.
    let deadline = Instant::now().checked_add(duration);
    Parker::with_current(|parker| {
        let ticket = parker.begin();
        unsafe fn nothing(_: *mut ()) {}
        // SAFETY: our parker and its newest ticket; the timer alone ends the wait, and there is nothing to commit.
        unsafe {
            park(parker, ticket, Wait { reason: WaitReason::Sleep, location, deadline }, nothing, std::ptr::null_mut())
        };
    });
}
