//! An execution that can be left and resumed, whatever the backend: a stack that is switched to, or a thread that is
//! handed a baton.

use std::cell::{Cell, UnsafeCell};
use std::sync::atomic::{AtomicU8, Ordering};

use super::Commit;
use crate::primitive::Baton;
use crate::runtime::Backend;

/// The backend of this process, fixed when the runtime starts.
static BACKEND: AtomicU8 = AtomicU8::new(Backend::Threads as u8);

pub(crate) fn set_backend(backend: Backend) {
    BACKEND.store(backend as u8, Ordering::Relaxed);
}

/// Goroutines run on stacks that are switched to, not on threads of their own.
#[inline(always)]
pub(crate) fn native() -> bool {
    cfg!(csp_native) && BACKEND.load(Ordering::Relaxed) == Backend::Native as u8
}

#[derive(Debug)]
#[repr(C)]
pub(crate) struct Execution {
    #[cfg(csp_native)]
    pub(crate) context: UnsafeCell<super::Context>,
    /// Threads backend: where the thread waits while it is suspended, and what comes with its resumption.
    baton: Baton,
    mail: UnsafeCell<Commit>,
    /// Orders what was done before a switch to this execution with what it does after.
    #[cfg(csp_tsan)]
    pub(crate) edge: crate::tsan::Edge,
    _not_sync: Cell<()>,
}

impl Execution {
    pub(crate) fn new() -> Self {
        Self {
            #[cfg(csp_native)]
            context: UnsafeCell::new(super::Context::new(0)),
            baton: Baton::default(),
            mail: UnsafeCell::new(Commit::NONE),
            #[cfg(csp_tsan)]
            edge: Default::default(),
            _not_sync: Cell::new(()),
        }
    }

    /// Suspends the running execution, which is `self`, and resumes `to`, which runs `commit` first. Returns the commit
    /// that is ours to run when somebody resumes us.
    ///
    /// # Safety
    ///
    /// `self` is the running execution; `to` is suspended and the caller alone has the right to resume it.
    #[inline(always)]
    pub(crate) unsafe fn transfer(&self, to: &Execution, commit: Commit) -> Commit {
        #[cfg(csp_native)]
        if native() {
            #[cfg(csp_tsan)]
            to.edge.release();
            // SAFETY: the caller's promise.
            let commit = unsafe { super::switch(self.context.get(), to.context.get(), commit) };
            #[cfg(csp_tsan)]
            self.edge.acquire();
            return commit;
        }
        // SAFETY: `to` is suspended: its mail is ours to write until the baton goes over.
        unsafe { to.resume_thread(commit) };
        // SAFETY: we are `self`.
        unsafe { self.wait_for_baton() }
    }

    /// Threads backend: resumes this suspended execution without suspending the caller.
    ///
    /// # Safety
    ///
    /// It is suspended, or about to be, and the caller alone has the right to resume it.
    pub(crate) unsafe fn resume_thread(&self, commit: Commit) {
        // SAFETY: the owner reads its mail only after it got the baton, which follows.
        unsafe { *self.mail.get() = commit };
        self.baton.notify();
    }

    /// Threads backend: suspends the calling thread, whose execution this is.
    ///
    /// # Safety
    ///
    /// The caller is the execution's own thread.
    pub(crate) unsafe fn wait_for_baton(&self) -> Commit {
        self.baton.wait();
        // SAFETY: the one who resumed us wrote it before it handed over the baton, and writes no more.
        unsafe { *self.mail.get() }
    }
}
