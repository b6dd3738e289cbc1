//! The proof at start-up that slots can be what they have to be (S5).

use std::io;

use super::{Slot, husk, setxid};
use crate::context_switch::{self, Commit};
use crate::stack;

const ARCH_SHSTK_STATUS: i32 = 0x5005;
const ARCH_SHSTK_SHSTK: u64 = 1;

/// Proves what the native backend relies on, or says what is missing. Called once, before any slot is made.
pub(crate) fn prove() -> io::Result<()> {
    context_switch::has_fsgsbase(std::env::var_os("CSP_NO_FSGSBASE").is_some());
    if std::env::var_os("CSP_NO_GUARD_INSTALL").is_some() {
        stack::force_mprotect_guards();
    }
    let mut shadow_stack = 0u64;
    // SAFETY: the kernel writes one word, or refuses.
    let known = unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SHSTK_STATUS, &raw mut shadow_stack) } == 0;
    if known && shadow_stack & ARCH_SHSTK_SHSTK != 0 {
        return Err(io::Error::other("the process runs with a shadow stack"));
    }
    husk::find_tid_offset()?;
    setxid::install()
}

/// Proves, on a slot that nobody used yet, that it is an identity of its own which can be switched to and back.
///
/// # Safety
///
/// The slot waits for its first commit, and the caller has the only right to it.
pub(crate) unsafe fn prove_slot(slot: &'static Slot) -> io::Result<()> {
    struct Probe {
        slot: &'static Slot,
        home: crate::context_switch::Execution,
        own_errno: usize,
        own_identity: usize,
        verdict: Result<(), &'static str>,
    }

    unsafe fn probe(arg: *mut ()) {
        // SAFETY: the caller below waits in `transfer` until we switch back.
        let probe = unsafe { &mut *arg.cast::<Probe>() };
        // SAFETY: no arguments.
        let errno = unsafe { libc::__errno_location() } as usize;
        probe.verdict = if context_switch::thread_pointer() == probe.own_identity || errno == probe.own_errno {
            Err("a slot does not have thread-locals of its own")
        } else if !Slot::current().is_some_and(|s| std::ptr::eq(s, probe.slot)) {
            Err("a slot does not find its own thread-locals")
        } else if !husk::is_husk_tid(husk::glibc_tid()) {
            Err("a slot does not have a thread id of its own")
        // SAFETY: no arguments.
        } else if unsafe { libc::pthread_self() } as usize != context_switch::thread_pointer() {
            Err("a slot is not the thread that glibc takes it for")
        // SAFETY: one character, which is one.
        } else if unsafe { libc::isalpha(i32::from(b'x')) } == 0 {
            Err("a slot does not know the locale's characters")
        } else {
            Ok(())
        };
        // SAFETY: `home` is suspended in the `transfer` that ran us.
        let next = unsafe { probe.slot.execution.transfer(&probe.home, Commit::NONE) };
        // SAFETY: the commit that came with our next resumption.
        unsafe { (next.run)(next.arg) };
    }

    let mut state = Probe {
        slot,
        home: crate::context_switch::Execution::new(),
        // SAFETY: no arguments.
        own_errno: unsafe { libc::__errno_location() } as usize,
        own_identity: context_switch::thread_pointer(),
        verdict: Ok(()),
    };
    // SAFETY: `home` stands for the running execution; the slot is suspended.
    unsafe {
        *state.home.context.get() = context_switch::Context::new(context_switch::thread_pointer());
        let state = &raw mut state;
        (*state).home.transfer(&slot.execution, Commit { run: probe, arg: state.cast() });
    }
    state.verdict.map_err(io::Error::other)
}
