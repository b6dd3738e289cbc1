//! What the tests of the runtime share. Each test file is a crate of its own, and uses a part of it.

#![allow(dead_code, unused_imports, reason = "no test file uses all of it")]

mod child;
mod either;
mod traffic;

pub(crate) use child::{Outcome, in_child, program, run_program};
pub(crate) use either::{CALLERS, Caller, PAIRS, Running, let_others_wait};
pub(crate) use traffic::{Traffic, in_traffic, migrate, thread_id};

/// Whether goroutines have stacks of their own here, and so move from one OS thread to another.
pub(crate) fn stackful() -> bool {
    csp::runtime::backend() != csp::runtime::Backend::Threads
}

/// Whether goroutines have thread-locals of their own here: all but the dense mode.
pub(crate) fn own_thread_locals() -> bool {
    matches!(csp::runtime::backend(), csp::runtime::Backend::Native | csp::runtime::Backend::Threads)
}

/// Whether goroutines have stacks of their own here, and thread-locals with them.
pub(crate) fn native() -> bool {
    stackful() && own_thread_locals()
}

/// Whether the stacks are those of this crate.
pub(crate) fn own_stacks() -> bool {
    matches!(csp::runtime::backend(), csp::runtime::Backend::Native | csp::runtime::Backend::Dense)
}

/// `on_stacks` where goroutines are cheap, `on_threads` where each of them is an OS thread.
pub(crate) fn scaled<T>(on_stacks: T, on_threads: T) -> T {
    if stackful() { on_stacks } else { on_threads }
}
