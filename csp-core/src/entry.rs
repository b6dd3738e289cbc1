//! What `#[csp::main]` and `#[csp::test]` expand to.

use std::panic::{Location, resume_unwind};
use std::process::{ExitCode, Termination};
use std::sync::{Arc, Mutex};

use crate::sched::worker::Worker;
use crate::sched::{deadlock, os_thread};
use crate::slot::pool;
use crate::spawn::Builder;
use crate::{context_switch, runtime};

/// Runs `f` as the main goroutine and returns what `main` is to return. The process ends with it, as in Go.
#[doc(hidden)]
#[track_caller]
pub fn main<R: Termination>(f: impl FnOnce() -> R + Send + 'static) -> ExitCode {
    let location = Location::caller();
    runtime::ensure_started();
    let worker: &'static Worker = Worker::leak(true);
    let code = Arc::new(Mutex::new(None));
    let result = code.clone();
    // The result of `main` may be of this goroutine alone: it is reported here.
    let run = move || {
        /// When `main` has ended, the process is about to: that everything else is parked is no deadlock.
        struct Ended;
        impl Drop for Ended {
            fn drop(&mut self) {
                deadlock::unwatch();
            }
        }
        let _ended = Ended;
        *result.lock().unwrap_or_else(|e| e.into_inner()) = Some(f().report());
    };
    let mut builder = Builder::new().name("main");
    builder.is_main = true;
    let stackful = context_switch::stackful();
    // Where a goroutine is a thread, the main goroutine is this one.
    let adopted = (!stackful).then(pool::make_adopted);
    builder.slot = adopted;
    if stackful {
        os_thread::set_main_worker(worker);
    }
    // Until it is queued, `main` is a goroutine that nobody sees.
    let coming = deadlock::Coming::new();
    deadlock::watch();
    let at_end = stackful.then(|| os_thread::wake_main(worker));
    // SAFETY: `f` is `Send` and `'static`; what `run` shares is too.
    let handle = unsafe { builder.spawn_unchecked(run, at_end, location) };
    let handle = handle.unwrap_or_else(|error| panic!("the main goroutine cannot start: {error}"));
    drop(coming);
    match adopted {
        Some(slot) => slot.run_adopted(),
        None => os_thread::run_main(worker, || handle.is_finished()),
    }
    match handle.join() {
        Ok(()) => {}
        Err(error) if error.is_exit() => {
            deadlock::main_exited();
            // The others go on, until one of them ends the process or all are parked.
            loop {
                std::thread::park();
            }
        }
        // Reported by the hook; 101 is what Rust's own `main` gives.
        Err(_) => return ExitCode::from(101),
    }
    let code = code.lock().unwrap_or_else(|e| e.into_inner()).take();
    code.unwrap_or(ExitCode::FAILURE)
}

/// Runs the body of a test as a goroutine, and panics as it panicked.
#[doc(hidden)]
#[track_caller]
pub fn test<R: Termination>(name: &'static str, f: impl FnOnce() -> R + Send + 'static) -> ExitCode {
    let code = Arc::new(Mutex::new(None));
    let result = code.clone();
    let run = move || *result.lock().unwrap_or_else(|e| e.into_inner()) = Some(f().report());
    let handle = Builder::new().name(name).spawn(run).unwrap_or_else(|error| panic!("{error}"));
    match handle.join() {
        Ok(()) => {}
        Err(error) if error.is_exit() => panic!("the test called goexit"),
        Err(error) => resume_unwind(error.into_panic()),
    }
    let code = code.lock().unwrap_or_else(|e| e.into_inner()).take();
    code.unwrap_or(ExitCode::FAILURE)
}
