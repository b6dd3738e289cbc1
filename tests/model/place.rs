//! Where tasks run.

use std::thread;

use super::program::Place;

/// A task that was started.
pub(crate) enum Running<T> {
    Goroutine(csp::JoinHandle<T>),
    Thread(thread::JoinHandle<T>),
}

impl Place {
    pub(crate) fn run<T: Send + 'static>(
        self,
        name: &str,
        stack_size: usize,
        task: impl FnOnce() -> T + Send + 'static,
    ) -> Running<T> {
        match self {
            Self::Thread => {
                let thread = thread::Builder::new().name(name.to_owned()).stack_size(stack_size);
                Running::Thread(thread.spawn(task).unwrap())
            }
            Self::Goroutine | Self::Locked => {
                let goroutine = csp::Builder::new().name(name).stack_size(stack_size).locked(self == Self::Locked);
                Running::Goroutine(goroutine.spawn(task).unwrap())
            }
        }
    }
}

impl<T> Running<T> {
    pub(crate) fn is_finished(&self) -> bool {
        match self {
            Self::Goroutine(handle) => handle.is_finished(),
            Self::Thread(handle) => handle.is_finished(),
        }
    }

    /// Waits for its end. The error says that it has panicked.
    pub(crate) fn join(self) -> Result<T, String> {
        match self {
            Self::Goroutine(handle) => handle.join().map_err(|error| error.to_string()),
            Self::Thread(handle) => handle.join().map_err(|_| "the thread has panicked".to_owned()),
        }
    }
}
