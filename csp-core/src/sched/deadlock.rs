//! Deadlock: every goroutine is parked, and nothing can ever make one ready.
//!
//! Looked for under `#[csp::main]` alone, by sysmon, when every processor has been idle for a while, no goroutine runs
//! without a processor (a blocking call, say), and no timer is armed. Then only a thread that is not ours could make one
//! ready. A thread need not have used this crate yet to do so later: it may hold a sender. So any other thread of the
//! process counts, and while there is one, nothing is reported.

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::park::WaitReason;
use super::{DETACHED, GLOBAL_LEN, idle, next_deadline, sysmon};
use crate::slot::pool;

static WATCHED: AtomicBool = AtomicBool::new(false);
/// The main goroutine has ended by `goexit`.
static MAIN_EXITED: AtomicBool = AtomicBool::new(false);

/// From now on deadlock ends the process: `main` is a goroutine.
pub(crate) fn watch() {
    WATCHED.store(true, Ordering::SeqCst);
}

/// Whether somebody wants to know of a deadlock.
pub(crate) fn is_watched() -> bool {
    WATCHED.load(Ordering::SeqCst)
}

/// While this lives a goroutine is on its way to a queue, and nobody else knows of it.
pub(crate) struct Coming(());

impl Coming {
    pub(crate) fn new() -> Self {
        // It is there, and nobody has it: as one that runs without a processor.
        DETACHED.fetch_add(1, Ordering::SeqCst);
        Self(())
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        DETACHED.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The main goroutine has ended, and the process is about to.
pub(crate) fn unwatch() {
    WATCHED.store(false, Ordering::SeqCst);
}

/// The main goroutine has called `goexit`: the others go on.
pub(crate) fn main_exited() {
    MAIN_EXITED.store(true, Ordering::Relaxed);
    watch();
}

/// What sysmon remembers between two looks.
#[derive(Debug)]
pub(crate) struct Watch {
    pause: Duration,
}

impl Watch {
    pub(crate) fn new() -> Self {
        Self { pause: FIRST_PAUSE }
    }

    /// Every processor is idle: reports deadlock if it is one. Returns when to look again at the latest.
    pub(crate) fn look(&mut self) -> Option<Duration> {
        if !is_watched() || next_deadline().is_some() {
            self.pause = FIRST_PAUSE;
            return None;
        }
        // Threads known: the workers, sysmon, the main thread, and the goroutines' own in the threads backend.
        let ours = idle::threads() + 2 + pool::thread_count();
        if threads() > ours {
            // When one of them ends nobody tells us.
            let pause = self.pause;
            self.pause = (pause * 2).min(Duration::from_secs(1));
            return Some(pause);
        }
        // All of it once more, now that the threads are counted: one that was there before may have done its last deed. First
        // whether a goroutine is on its way, then whether it has arrived.
        if DETACHED.load(Ordering::SeqCst) == 0
            && GLOBAL_LEN.load(Ordering::SeqCst) == 0
            && idle::all_processors()
            && DETACHED.load(Ordering::SeqCst) == 0
            && next_deadline().is_none()
            && is_watched()
        {
            report();
        }
        self.pause = FIRST_PAUSE;
        Some(FIRST_PAUSE)
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// How many threads the process has; where that is not known, too many.
fn threads() -> usize {
    #[cfg(target_os = "linux")]
    if let Ok(tasks) = std::fs::read_dir("/proc/self/task") {
        return tasks.count();
    }
    usize::MAX
}

fn report() -> ! {
    let mut text = String::from("fatal error: all goroutines are asleep - deadlock!\n");
    if MAIN_EXITED.load(Ordering::Relaxed) {
        text.push_str("(the main goroutine has called goexit)\n");
    }
    text.push('\n');
    let now = sysmon::coarse_now();
    let mut lines = Vec::new();
    for slot in pool::all() {
        // SAFETY: null or a task; its goroutine is parked, as all are, so it stays.
        let Some(task) = (unsafe { slot.task().as_ref() }) else { continue };
        let (reason, location, waited) = slot.noted_wait(now);
        let mut line = task.describe();
        let _ = write!(line, ": {}", reason.as_str());
        if let Some(location) = location.filter(|_| reason != WaitReason::None) {
            let _ = write!(line, " at {location}");
        }
        let _ = match waited.as_secs() {
            0 => writeln!(line, ", for {} ms", waited.as_millis()),
            secs @ 1..120 => writeln!(line, ", for {secs} s"),
            secs => writeln!(line, ", for {} minutes", secs / 60),
        };
        lines.push((task.id, line));
    }
    lines.sort();
    lines.into_iter().for_each(|(_, line)| text.push_str(&line));
    if idle::starved() != 0 {
        let _ = writeln!(text, "{} goroutines could not start, because no stack can be made for them", idle::starved());
    }
    crate::panic::report(&text);
    std::process::exit(2)
}
