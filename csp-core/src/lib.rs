//! The runtime, channels and select of the `csp` crate, which is the one to depend on: see there.

pub mod alloc;
mod chan;
pub mod channel;
mod context_switch;
mod entry;
mod macros;
mod panic;
mod primitive;
pub mod runtime;
mod sched;
mod scope;
mod select;
mod slot;
mod spawn;
mod stack;
pub mod sync;
pub mod time;
#[cfg(csp_tsan)]
mod tsan;

pub use channel::{Receiver, Sender, after, bounded, never, unbounded};
pub use csp_macros::{main, test};
pub use runtime::Runtime;
pub use scope::{Scope, ScopedJoinHandle, scope};
pub use spawn::{
    Builder, Goroutine, GoroutineId, JoinError, JoinHandle, OsThreadGuard, blocking, current, goexit, lock_os_thread,
    num_goroutines, spawn, unlock_os_thread, yield_now,
};
pub use sync::WaitGroup;
pub use time::sleep;

/// What the macros expand to, and what tests have to see.
#[doc(hidden)]
pub mod __private {
    pub use crate::chan::handle::waiting;
    pub use crate::entry::{main, test};
    #[cfg(csp_native)]
    pub use crate::slot::measure::switch_there_and_back;
    #[cfg(csp_native)]
    pub use crate::slot::pattern::slots_without_kernel_thread;
    pub use csp_macros::{go_impl, select_impl, wait_group_impl};
    pub mod select {
        pub use crate::select::{
            Arm, Granted, Offer, Order, Recv, Send, constant_taken_for_binding, no_such_arm, offer, poll,
            polled_in_vain, recv, send, wait, wait_else, wait_timeout,
        };
    }
}
