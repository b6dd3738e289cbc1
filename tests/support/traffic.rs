//! Goroutines that move from thread to thread for certain, not by luck.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The number that the kernel knows the calling OS thread by.
pub(crate) fn thread_id() -> i64 {
    // SAFETY: no arguments.
    unsafe { libc::syscall(libc::SYS_gettid) }
}

/// Goroutines that keep every processor busy, until it is dropped.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    goroutines: Vec<csp::JoinHandle<()>>,
}

impl Traffic {
    pub(crate) fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let goroutine = |_| {
            let stop = stop.clone();
            csp::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    csp::yield_now();
                }
            })
        };
        let goroutines = (0..csp::runtime::max_procs() + 1).map(goroutine).collect();
        Self { stop, goroutines }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for goroutine in self.goroutines.drain(..) {
            goroutine.join().unwrap();
        }
    }
}

/// Runs `body` in `count` goroutines at once, which may [`migrate`], and returns what they return.
#[track_caller]
pub(crate) fn in_traffic<T: Send + 'static>(count: usize, body: impl Fn(usize) -> T + Send + Sync + 'static) -> Vec<T> {
    let _traffic = Traffic::start();
    let body = Arc::new(body);
    let goroutine = |i| {
        let body = body.clone();
        csp::spawn(move || body(i))
    };
    let goroutines = (0..count).map(goroutine).collect::<Vec<_>>();
    let results = goroutines.into_iter().map(csp::JoinHandle::join).collect::<Vec<_>>();
    results.into_iter().map(|result| result.unwrap_or_else(|error| resume_unwind(error.into_panic()))).collect()
}

/// Parks the calling goroutine and goes on in another OS thread. Needs [`Traffic`], or it may take for ever.
///
/// It gives its processor away, finds none idle when it wants one back, and so queues for one. Its thread may get one
/// first, from another goroutine that does the same; two of them in step could keep each other on their threads, so the
/// time that each takes is random.
pub(crate) fn migrate() {
    if !super::stackful() {
        return csp::yield_now();
    }
    let before = thread_id();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let mut random = (before as u64) << 32 ^ u64::from(now.subsec_nanos()) | 1;
    while thread_id() == before {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        csp::blocking(|| (0..random % 8).for_each(|_| std::thread::yield_now()));
        // Where sysmon had taken the processor already, there was none to give away.
        (0..1 + (random >> 8) % 16).for_each(|_| csp::yield_now());
    }
}
