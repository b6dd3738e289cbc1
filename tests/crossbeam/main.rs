//! crossbeam-channel's own tests, run against `csp::channel`.
//!
//! The modules are the files of crossbeam-channel 0.5.17's `tests` directory (MIT OR Apache-2.0, `LICENSE-MIT` beside
//! this file), but for `golang.rs`. What was changed:
//!
//! - `use crossbeam_channel` is `use csp::channel`;
//! - `std::thread`, `crossbeam_utils::thread::scope` and `#[test]` come from the module above, so that each file is
//!   compiled twice: the tests of [`threads`] run on plain threads, those of [`goroutines`] in goroutines;
//! - `rand` is a newer release, with other names for the same functions;
//! - where the end of a timeout is asserted to be at most so late, there is some [`SLACK`] for a machine with more to do,
//!   and times are [`SLOWER`], so that it takes more for such a machine to confuse what is to happen sooner or later;
//! - in `mpsc.rs`, the hidden macro behind `select!` is `select!` itself.
//!
//! Whatever else was changed is marked with "csp:".

#![allow(clippy::all, unused_imports, dead_code, reason = "the code is crossbeam's")]
#![allow(missing_debug_implementations, unreachable_pub, reason = "as above")]

const SLACK: std::time::Duration = std::time::Duration::from_secs(5);

const SLOWER: u32 = 4;

/// Most of these tests sleep most of the time, minutes in sum: more of them at once than there are CPUs, unless somebody
/// says otherwise.
#[cfg(target_os = "linux")]
mod threads_of_the_harness {
    extern "C" fn set() {
        // SAFETY: the strings end in a zero. This runs before `main`, so nobody else looks at the environment.
        unsafe { libc::setenv(c"RUST_TEST_THREADS".as_ptr(), c"32".as_ptr(), 0) };
    }

    // SAFETY: the linker's list of functions without arguments to be called before `main`.
    #[unsafe(link_section = ".init_array")]
    #[used]
    static SET: extern "C" fn() = set;
}

macro_rules! suite {
    () => {
        #[path = "after.rs"]
        mod after;
        #[path = "array.rs"]
        mod array;
        #[path = "iter.rs"]
        mod iter;
        #[path = "list.rs"]
        mod list;
        #[path = "mpsc.rs"]
        mod mpsc;
        #[path = "never.rs"]
        mod never;
        #[path = "ready.rs"]
        mod ready;
        #[path = "same_channel.rs"]
        mod same_channel;
        #[path = "select.rs"]
        mod select;
        #[path = "select_macro.rs"]
        mod select_macro;
        #[path = "tick.rs"]
        mod tick;
        #[path = "zero.rs"]
        mod zero;
    };
}

#[path = "."]
mod threads {
    suite!();
    // In goroutines there is nothing to it: their thread-locals are not destroyed when they end.
    #[path = "thread_locals.rs"]
    mod thread_locals;

    use core::prelude::v1::test;
    use crossbeam_utils::thread::scope;
    use std::thread;

    /// The harness gives each test's thread 2 MiB.
    fn on_a_large_stack(f: impl FnOnce()) {
        f();
    }
}

#[path = "."]
mod goroutines {
    suite!();

    use csp::test;

    /// As in `std::thread`.
    mod thread {
        pub(super) use csp::{JoinHandle, sleep, spawn, yield_now};
    }

    fn on_a_large_stack(f: impl FnOnce() + Send + 'static) {
        csp::Builder::new().stack_size(2 << 20).spawn(f).unwrap().join().unwrap();
    }

    /// As in `crossbeam_utils::thread`.
    struct Scope<'scope, 'env>(&'scope csp::Scope<'scope, 'env>);

    impl<'scope> Scope<'scope, '_> {
        fn spawn<T: Send + 'scope>(&self, f: impl FnOnce(()) -> T + Send + 'scope) -> csp::ScopedJoinHandle<'scope, T> {
            self.0.spawn(move || f(()))
        }
    }

    /// A goroutine's panic is passed on, where crossbeam's scope returns it.
    fn scope<'env, T>(f: impl for<'scope> FnOnce(Scope<'scope, 'env>) -> T) -> Result<T, ()> {
        Ok(csp::scope(|scope| f(Scope(scope))))
    }
}
