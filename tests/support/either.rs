//! The same code in a goroutine and in a plain thread.

use std::panic::resume_unwind;
use std::thread;

/// Who runs something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    Goroutine,
    Thread,
}

/// Both, and every pair of them.
pub(crate) const CALLERS: [Caller; 2] = [Caller::Goroutine, Caller::Thread];
pub(crate) const PAIRS: [[Caller; 2]; 4] = {
    use Caller::{Goroutine, Thread};
    [[Goroutine, Goroutine], [Goroutine, Thread], [Thread, Goroutine], [Thread, Thread]]
};

/// Something that runs, until it is joined.
pub(crate) enum Running<T> {
    Goroutine(csp::JoinHandle<T>),
    Thread(thread::JoinHandle<T>),
}

impl Caller {
    #[track_caller]
    pub(crate) fn run<T: Send + 'static>(self, f: impl FnOnce() -> T + Send + 'static) -> Running<T> {
        match self {
            Caller::Goroutine => Running::Goroutine(csp::spawn(f)),
            Caller::Thread => Running::Thread(thread::spawn(f)),
        }
    }
}

impl<T> Running<T> {
    /// What it returned. Goes on with its panic.
    pub(crate) fn join(self) -> T {
        match self {
            Running::Goroutine(goroutine) => goroutine.join().unwrap_or_else(|error| resume_unwind(error.into_panic())),
            Running::Thread(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
        }
    }
}

/// Lets everybody else run, under `GOMAXPROCS=1`: goroutines that were started before wait when this returns.
pub(crate) fn let_others_wait() {
    (0..100).for_each(|_| csp::yield_now());
}
