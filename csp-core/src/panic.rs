//! What happens when a goroutine panics.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

static ABORT: AtomicBool = AtomicBool::new(false);

/// Writes to standard error without its lock, which a parked goroutine may hold.
pub(crate) fn report(text: &str) {
    #[cfg(unix)]
    {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            // SAFETY: the bytes are there.
            let written = unsafe { libc::write(2, rest.as_ptr().cast(), rest.len()) };
            if written <= 0 {
                return;
            }
            rest = &rest[written as usize..];
        }
    }
    #[cfg(not(unix))]
    eprint!("{text}");
}

/// From now on a panic in a goroutine ends the process, as in Go.
pub(crate) fn abort_on_panic(abort: bool) {
    ABORT.store(abort, Ordering::Relaxed);
}

/// Puts a hook in front of the one there is, which says which goroutine the panic that follows is about.
pub(crate) fn install_hook() {
    static INSTALLED: Once = Once::new();
    // The hook cannot be changed by a thread that panics.
    if std::thread::panicking() {
        return;
    }
    INSTALLED.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if let Some(goroutine) = crate::spawn::describe_current() {
                eprintln!("{goroutine}:");
            }
            previous(info);
        }));
    });
}

/// A panic has reached the bottom of a goroutine's stack. The hook has reported it.
pub(crate) fn goroutine_panicked() {
    if ABORT.load(Ordering::Relaxed) {
        eprintln!("csp: a goroutine panicked, and Runtime::builder().abort_on_panic(true) is in force");
        std::process::abort();
    }
}
