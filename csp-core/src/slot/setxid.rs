//! The signal by which glibc changes the credentials of every thread.
//!
//! Credentials belong to kernel threads. `setuid` and its family send each thread signal 33, whose handler makes the
//! system call, marks the *identity* it runs on as done, and lets the caller go on. On a goroutine's identity the mark
//! goes to the wrong place, and the caller waits for ever. So the handler is replaced by one that puts on the worker's
//! own identity, calls glibc's, and takes it off again.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Slot;
use crate::context_switch::{self, call_with_thread_pointer};

/// What the kernel keeps for a signal; glibc's `sigaction` refuses this one.
#[repr(C)]
struct KernelSigaction {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

const SIGSETXID: i32 = 33;

static GLIBC_HANDLER: AtomicUsize = AtomicUsize::new(0);
/// Puts our handler in front of glibc's, which it installs with the first thread it creates.
pub(crate) fn install() -> io::Result<()> {
    let mut action = KernelSigaction { handler: 0, flags: 0, restorer: 0, mask: 0 };
    let sigaction = |new: *const KernelSigaction, old: *mut KernelSigaction| {
        // SAFETY: both point to a kernel sigaction or are null; 8 is the size of the kernel's signal set.
        let result = unsafe { libc::syscall(libc::SYS_rt_sigaction, SIGSETXID, new, old, 8) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    sigaction(std::ptr::null(), &mut action)?;
    if action.handler == handler as *const () as usize {
        return Ok(());
    }
    if action.handler <= 1 {
        return Err(io::Error::other("glibc has no handler for changes of credentials"));
    }
    GLIBC_HANDLER.store(action.handler, Ordering::Release);
    action.handler = handler as *const () as usize;
    sigaction(&action, std::ptr::null_mut())
}

extern "C" fn handler(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // Acquire: pairs with the Release in `install`.
    let glibc = GLIBC_HANDLER.load(Ordering::Acquire);
    // Where the proof has failed after this was installed, goroutines are kernel threads: each has its own identity on.
    match Slot::current().filter(|_| context_switch::native()).and_then(Slot::worker_or_none) {
        // SAFETY: the slot runs on that worker's kernel thread: the worker is set before the thread pointer becomes the
        // slot's. glibc's handler is async-signal-safe and touches its identity alone. A slot that never had a worker is
        // a husk in the making, on its own kernel thread, or is being proved, at the start; then glibc finds that the thread
        // has not answered, and signals it again.
        Some(worker) => unsafe {
            call_with_thread_pointer(worker.thread_pointer(), glibc, signal as usize, info as usize, context as usize);
        },
        None => {
            // SAFETY: the address that the kernel had for this signal, with the type that goes with SA_SIGINFO.
            let glibc: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) =
                unsafe { std::mem::transmute(glibc) };
            glibc(signal, info, context);
        }
    }
}
