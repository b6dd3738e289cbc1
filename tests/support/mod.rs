//! What the tests of the runtime share. Each test file is a crate of its own, and uses a part of it.

#![allow(dead_code, unused_imports, reason = "no test file uses all of it")]

mod child;
mod either;
mod traffic;

pub(crate) use child::{Outcome, in_child, program, run_program};
pub(crate) use either::{CALLERS, Caller, PAIRS, Running, let_others_wait};
pub(crate) use traffic::{Traffic, in_traffic, migrate, thread_id};

/// Whether goroutines have stacks of their own here, and so move from one OS thread to another.
pub(crate) fn native() -> bool {
    csp::runtime::backend() == csp::runtime::Backend::Native
}

/// `native` where goroutines are cheap, `threads` where each of them is an OS thread.
pub(crate) fn scaled<T>(on_native: T, on_threads: T) -> T {
    if native() { on_native } else { on_threads }
}
