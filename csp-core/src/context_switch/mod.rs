//! Leaving one stack for another: all assembly of this crate that moves a thread of execution.
//!
//! A [`Context`] is a suspended execution: its stack pointer, its thread pointer, and the control words of its
//! floating-point units. [`switch`] suspends the caller into one and resumes another, in one step. What the ABI lets a
//! call destroy is not kept; what it wants kept is on the suspended stack.
//!
//! The thread pointer goes with the stack (S1): it names the thread-locals, and a stack keeps one set of them for ever.

#[cfg(csp_native)]
mod x86_64;
#[cfg(csp_native)]
pub(crate) use x86_64::thread_pointer_is_cheap;
#[cfg(csp_native)]
pub(crate) use x86_64::{
    Context, call_with_thread_pointer, has_fsgsbase, leave_kernel_thread, occupant, occupant_offset, set_occupant,
    switch, switch_stack, thread_pointer,
};

#[cfg(not(csp_native))]
mod occupant;
#[cfg(not(csp_native))]
pub(crate) use occupant::{occupant, set_occupant};

mod execution;
pub(crate) mod generated;
pub(crate) use execution::{Execution, backend, native, own_stacks, set_backend, stackful};

/// A step that the one who resumes runs for the one who left, once the latter's stack is no longer in use (S4).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Commit {
    pub(crate) run: unsafe fn(*mut ()),
    pub(crate) arg: *mut (),
}

impl Commit {
    /// Nothing to do.
    pub(crate) const NONE: Self = {
        unsafe fn nothing(_: *mut ()) {}
        Self { run: nothing, arg: std::ptr::null_mut() }
    };
}
