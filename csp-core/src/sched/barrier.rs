//! A store-load barrier whose price is paid on one side.
//!
//! Two parties each store a flag and then look at the other's; at least one must see the other. Usually both need a full
//! fence. Here the frequent party calls [`light`], which costs the compiler's good behaviour alone, and the rare one
//! [`heavy`], which makes the kernel run a full fence on every CPU that runs this process (`membarrier`). Where the
//! kernel has no such call, both are full fences.

use crate::primitive::atomic::{Ordering, fence};

#[cfg(all(target_os = "linux", not(csp_loom), not(miri)))]
mod imp {
    use std::sync::atomic::{AtomicBool, Ordering, compiler_fence, fence};

    const MEMBARRIER_CMD_PRIVATE_EXPEDITED: i32 = 1 << 3;
    const MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED: i32 = 1 << 4;

    static ASYMMETRIC: AtomicBool = AtomicBool::new(false);

    pub(super) fn register() {
        // SAFETY: plain system calls.
        let done = unsafe {
            libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0
                && libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0
        };
        ASYMMETRIC.store(done, Ordering::SeqCst);
    }

    #[inline(always)]
    pub(super) fn light() {
        if ASYMMETRIC.load(Ordering::Relaxed) {
            compiler_fence(Ordering::SeqCst);
        } else {
            fence(Ordering::SeqCst);
        }
    }

    pub(super) fn heavy() {
        fence(Ordering::SeqCst);
        if ASYMMETRIC.load(Ordering::Relaxed) {
            // SAFETY: a plain system call.
            let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) };
            if result != 0 {
                // It has worked, and now a filter forbids it: nobody could trust anything that the light side did.
                crate::panic::report("csp: the kernel refuses membarrier, which it allowed before (seccomp?)\n");
                std::process::abort();
            }
        }
    }
}

#[cfg(not(all(target_os = "linux", not(csp_loom), not(miri))))]
mod imp {
    pub(super) fn register() {}

    #[inline(always)]
    pub(super) fn light() {
        super::full();
    }

    pub(super) fn heavy() {
        super::full();
    }
}

/// Asks the kernel for its help. Before it is called, and where that is refused, [`light`] is a full fence.
pub(crate) fn register() {
    imp::register();
}

/// The frequent party's side.
#[inline(always)]
pub(crate) fn light() {
    imp::light();
}

/// The rare party's side: microseconds.
pub(crate) fn heavy() {
    imp::heavy();
}

#[allow(dead_code, reason = "only where the kernel cannot help")]
fn full() {
    fence(Ordering::SeqCst);
}
