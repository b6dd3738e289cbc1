//! An execution that can be left and resumed, whatever the backend: a stack that is switched to, or a thread that is
//! handed a baton.
//!
//! | backend     | what is resumed              | thread-locals                   |
//! |-------------|------------------------------|---------------------------------|
//! | `Native`    | a stack, by [`super::switch`] | its own: they come with it      |
//! | `Dense`     | a stack, by [`super::switch_stack`] | those of the thread that runs it |
//! | `Generator` | a stack, by way of the worker's own ([`super::generated`]) | those of the thread that runs it |
//! | `Threads`   | a thread                     | its own                         |
//!
//! Where stacks use the thread-locals of whatever thread runs them, that thread is told at each switch whose stack it is
//! on ([`set_occupant`]).

use std::cell::{Cell, UnsafeCell};
use std::ptr;
use std::sync::atomic::{AtomicU8, Ordering};

use super::generated::Generated;
use super::{Commit, set_occupant};
use crate::primitive::Baton;
use crate::runtime::Backend;

/// The backend of this process, fixed when the runtime starts.
static BACKEND: AtomicU8 = AtomicU8::new(Backend::Threads as u8);

pub(crate) fn set_backend(backend: Backend) {
    BACKEND.store(backend as u8, Ordering::Relaxed);
}

#[inline(always)]
pub(crate) fn backend() -> Backend {
    match BACKEND.load(Ordering::Relaxed) {
        0 => Backend::Native,
        1 => Backend::Threads,
        2 => Backend::Dense,
        _ => Backend::Generator,
    }
}

/// Goroutines run on stacks that are switched to, each with its own thread-locals.
#[inline(always)]
pub(crate) fn native() -> bool {
    cfg!(csp_native) && BACKEND.load(Ordering::Relaxed) == Backend::Native as u8
}

/// Goroutines run on stacks that are switched to, not on threads of their own.
#[inline(always)]
pub(crate) fn stackful() -> bool {
    BACKEND.load(Ordering::Relaxed) != Backend::Threads as u8
}

/// Goroutines run on stacks that this crate has mapped.
pub(crate) fn own_stacks() -> bool {
    matches!(backend(), Backend::Native | Backend::Dense)
}

#[derive(Debug)]
#[repr(C)]
pub(crate) struct Execution {
    #[cfg(csp_native)]
    pub(crate) context: UnsafeCell<super::Context>,
    /// Threads backend: where the thread waits while it is suspended.
    baton: Baton,
    /// What comes with the resumption, where the switch itself does not hand it over.
    mail: UnsafeCell<Commit>,
    /// Generator backend: the stack, or null for a worker's own.
    generated: Cell<*const Generated>,
    /// What [`occupant`](super::occupant) answers on this stack, where thread-locals are shared.
    owner: Cell<*const ()>,
    /// Orders what was done before a switch to this execution with what it does after.
    #[cfg(csp_tsan)]
    pub(crate) edge: crate::tsan::Edge,
}

impl Execution {
    pub(crate) fn new() -> Self {
        Self {
            #[cfg(csp_native)]
            context: UnsafeCell::new(super::Context::new(0)),
            baton: Baton::default(),
            mail: UnsafeCell::new(Commit::NONE),
            generated: Cell::new(ptr::null()),
            owner: Cell::new(ptr::null()),
            #[cfg(csp_tsan)]
            edge: Default::default(),
        }
    }

    /// Says whose stack this is, and for the generator backend what it is. Before the first switch to it.
    pub(crate) fn belongs_to(&self, owner: *const (), generated: *const Generated) {
        self.owner.set(owner);
        self.generated.set(generated);
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
        // SAFETY: the caller's promise.
        unsafe { self.transfer_otherwise(to, commit) }
    }

    /// As [`transfer`](Self::transfer). Not inlined: nothing of the caller's code, and so no address of a thread-local that
    /// the compiler keeps, is on both sides of a switch within one function but what is here.
    ///
    /// # Safety
    ///
    /// As there.
    #[inline(never)]
    unsafe fn transfer_otherwise(&self, to: &Execution, commit: Commit) -> Commit {
        match backend() {
            #[cfg(csp_native)]
            Backend::Dense => {
                #[cfg(csp_tsan)]
                to.edge.release();
                set_occupant(to.owner.get());
                // SAFETY: the caller's promise. No thread-local is used after it: whoever resumes us says who runs.
                let commit = unsafe { super::switch_stack(self.context.get(), to.context.get(), commit) };
                #[cfg(csp_tsan)]
                self.edge.acquire();
                commit
            }
            Backend::Generator => {
                // SAFETY: `to` is suspended, and ours to resume.
                unsafe { to.leave_mail(commit) };
                match ptr::NonNull::new(self.generated.get().cast_mut()) {
                    // SAFETY: its stack runs, and whoever resumes it has the right to.
                    Some(own) => unsafe { own.as_ref().hand_over(to) },
                    None => {
                        // A worker's own stack, or a plain thread's: it resumes one after the other, until it is its turn.
                        let mut next = ptr::from_ref(to);
                        while !ptr::eq(next, self) {
                            // SAFETY: suspended, and handed over to us with the right to resume it; slots are never freed.
                            next = unsafe {
                                set_occupant((*next).owner.get());
                                (*(*next).generated.get()).resume()
                            };
                        }
                        set_occupant(self.owner.get());
                    }
                }
                // SAFETY: whoever resumed us wrote it before, and writes no more.
                unsafe { *self.mail.get() }
            }
            _ => {
                // SAFETY: `to` is suspended: its mail is ours to write until the baton goes over.
                unsafe { to.resume_thread(commit) };
                // SAFETY: we are `self`.
                unsafe { self.wait_for_baton() }
            }
        }
    }

    /// Threads backend: resumes this suspended execution without suspending the caller.
    ///
    /// # Safety
    ///
    /// It is suspended, or about to be, and the caller alone has the right to resume it.
    pub(crate) unsafe fn resume_thread(&self, commit: Commit) {
        // SAFETY: the owner reads its mail only after it got the baton, which follows.
        unsafe { self.leave_mail(commit) };
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
        unsafe { self.take_mail() }
    }

    /// Leaves what comes with the resumption, where the switch does not hand it over.
    ///
    /// # Safety
    ///
    /// It is suspended, or has not begun, and the caller alone has the right to resume it.
    pub(crate) unsafe fn leave_mail(&self, commit: Commit) {
        // SAFETY: the caller's promise: its owner reads it when it is resumed.
        unsafe { *self.mail.get() = commit };
    }

    /// What came with the resumption, where the switch does not hand it over.
    ///
    /// # Safety
    ///
    /// The caller runs on this execution's stack, and was just resumed.
    pub(crate) unsafe fn take_mail(&self) -> Commit {
        // SAFETY: the caller's promise: the one who resumed us wrote it before.
        unsafe { *self.mail.get() }
    }
}
