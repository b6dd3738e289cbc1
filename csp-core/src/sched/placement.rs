//! On which CPU a worker wakes up.
//!
//! The kernel wakes a thread where it last ran, unless it knows an idle CPU nearby. In a virtual machine it does not: a CPU
//! on which nothing runs has been put to sleep by the host, and counts as taken. Once two workers have shared a CPU, one of
//! them wakes the other there, behind itself, and goes on computing for milliseconds while the other CPU sleeps.
//!
//! So whoever wakes a worker that last ran on the same CPU forbids it that CPU until it has woken up. After that the kernel
//! keeps the two apart by itself.

use std::cell::Cell;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

/// Where the thread of a worker has been.
#[derive(Debug)]
pub(crate) struct Placement {
    /// The kernel's number of the thread; 0 if there is none.
    thread: AtomicI32,
    /// The CPU on which it fell asleep.
    cpu: AtomicU32,
    /// The CPUs it may use when it has woken up. Written by the one who wakes it, before it does, then used by the worker.
    allowed: Cell<Option<Cpus>>,
}

/// As many CPUs as the kernel's set has where nobody asks for more; where there are more, everything stays as it is.
type Cpus = [u64; 16];

impl Placement {
    pub(crate) const fn new() -> Self {
        Self { thread: AtomicI32::new(0), cpu: AtomicU32::new(u32::MAX), allowed: Cell::new(None) }
    }

    /// The calling thread is the worker's.
    pub(crate) fn adopt_thread(&self) {
        self.thread.store(system::thread(), Ordering::Relaxed);
    }

    /// The worker is about to sleep.
    pub(crate) fn remember(&self) {
        self.cpu.store(system::cpu().unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// The caller, which goes on, wakes the worker in a moment: not on the caller's CPU, if that is where it would be.
    /// Nobody else wakes it.
    pub(crate) fn part(&self) {
        let thread = self.thread.load(Ordering::Relaxed);
        let Some(cpu) = system::cpu().filter(|&cpu| cpu == self.cpu.load(Ordering::Relaxed)) else { return };
        let Some(allowed) = (thread != 0).then(|| system::allowed(thread)).flatten() else { return };
        let mut others = allowed;
        let Some(word) = others.get_mut(cpu as usize / 64) else { return };
        *word &= !(1 << (cpu % 64));
        if others != [0; 16] && system::allow(thread, &others) {
            self.allowed.set(Some(allowed));
        }
    }

    /// The worker has been woken.
    pub(crate) fn settle(&self) {
        if let Some(allowed) = self.allowed.take() {
            system::allow(0, &allowed);
        }
    }
}

/// System calls as such: on the stack of a goroutine the C library takes the thread for another.
#[cfg(all(target_os = "linux", not(miri)))]
mod system {
    use super::Cpus;

    pub(super) fn thread() -> i32 {
        // SAFETY: it has no arguments.
        unsafe { libc::syscall(libc::SYS_gettid) as i32 }
    }

    /// The CPU that runs the caller.
    pub(super) fn cpu() -> Option<u32> {
        let mut cpu = 0u32;
        // SAFETY: the kernel writes one number; null for what is not wanted.
        let result = unsafe { libc::syscall(libc::SYS_getcpu, &raw mut cpu, 0usize, 0usize) };
        (result == 0).then_some(cpu)
    }

    /// The CPUs that a thread may use.
    pub(super) fn allowed(thread: i32) -> Option<Cpus> {
        let mut cpus = [0; 16];
        // SAFETY: the kernel writes no more than the size given.
        let size = unsafe { libc::syscall(libc::SYS_sched_getaffinity, thread, size_of::<Cpus>(), &raw mut cpus) };
        (size > 0).then_some(cpus)
    }

    /// Sets them; 0 stands for the caller.
    pub(super) fn allow(thread: i32, cpus: &Cpus) -> bool {
        // SAFETY: the kernel reads as much as the size says.
        unsafe { libc::syscall(libc::SYS_sched_setaffinity, thread, size_of::<Cpus>(), cpus) == 0 }
    }
}

#[cfg(not(all(target_os = "linux", not(miri))))]
mod system {
    use super::Cpus;

    pub(super) fn thread() -> i32 {
        0
    }

    pub(super) fn cpu() -> Option<u32> {
        None
    }

    pub(super) fn allowed(_: i32) -> Option<Cpus> {
        None
    }

    pub(super) fn allow(_: i32, _: &Cpus) -> bool {
        false
    }
}

#[cfg(all(test, target_os = "linux", not(csp_loom), not(miri)))]
mod tests {
    use super::*;

    /// A thread that sleeps may use every CPU again when it has woken up, and wakes up elsewhere.
    #[test]
    fn the_woken_parts_from_the_waker() {
        let before = system::allowed(0).expect("the system says");
        let placement = Placement::new();
        placement.adopt_thread();
        // Takes the part of both: the kernel moves it away at once.
        placement.remember();
        let cpu = placement.cpu.load(Ordering::Relaxed);
        placement.part();
        let alone = before.iter().map(|word| word.count_ones()).sum::<u32>() == 1;
        let now = system::allowed(0).expect("the system says");
        // Between the two looks the kernel may have moved us by itself.
        if placement.allowed.get().is_some() {
            assert_eq!(now[cpu as usize / 64] & 1 << (cpu % 64), 0);
            assert_ne!(system::cpu(), Some(cpu));
        } else {
            assert_eq!(now, before);
        }
        assert!(!alone || placement.allowed.get().is_none());
        placement.settle();
        assert_eq!(system::allowed(0), Some(before));
    }
}
