//! On which CPU a worker wakes up.
//!
//! The kernel wakes a thread where it last ran, unless it knows an idle CPU nearby. In a virtual machine it does not: a CPU
//! on which nothing runs has been put to sleep by the host, and counts as taken. Once two workers have shared a CPU, one of
//! them wakes the other there, behind itself, and goes on computing for milliseconds while the other CPU sleeps.
//!
//! So whoever wakes a worker that fell asleep on the same CPU forbids it that CPU for the moment in which it is woken: that
//! is when the kernel chooses. After that the two stay apart by themselves.
//!
//! The kernel remembers the CPUs that were asked for, and applies them to what a container may use later. So this is done only
//! where a thread may use all CPUs of the machine, and undone by asking for all there could be; and it is left where system
//! calls are filtered, since a filter may end the process for this one.

use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering};

/// Where the thread of a worker has been.
#[derive(Debug)]
pub(crate) struct Placement {
    /// The kernel's number of the thread; 0 if there is none.
    thread: AtomicI32,
    /// The CPU on which it fell asleep.
    cpu: AtomicU32,
}

/// As many CPUs as the kernel's set has where nobody asks for more; where there are more, everything stays as it is.
type Cpus = [u64; 16];

const EVERY_CPU: Cpus = [u64::MAX; 16];

impl Placement {
    pub(crate) const fn new() -> Self {
        Self { thread: AtomicI32::new(0), cpu: AtomicU32::new(u32::MAX) }
    }

    /// The calling thread is the worker's.
    pub(crate) fn adopt_thread(&self) {
        self.thread.store(system::thread(), Ordering::Relaxed);
    }

    /// The worker is about to sleep.
    pub(crate) fn remember(&self) {
        self.cpu.store(system::cpu().unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// Wakes the worker, which sleeps, by `wake`: on another CPU than the caller's, if it would be on that.
    pub(crate) fn part(&self, wake: impl FnOnce()) {
        let thread = self.thread.load(Ordering::Relaxed);
        let shared = system::cpu().filter(|&cpu| thread != 0 && cpu == self.cpu.load(Ordering::Relaxed));
        let _elsewhere = shared.and_then(|cpu| Restricted::new(thread, |here| here != cpu));
        wake();
    }
}

/// A thread that may not use every CPU while this lives.
#[derive(Debug)]
pub(crate) struct Restricted {
    thread: i32,
}

impl Restricted {
    /// The calling thread stays on its CPU, and so do those that it creates. `None` where that is not to be had.
    #[cfg(csp_native)]
    pub(crate) fn here() -> Option<Self> {
        let cpu = system::cpu()?;
        Self::new(0, |other| other == cpu)
    }

    /// 0 stands for the caller.
    fn new(thread: i32, wanted: impl Fn(u32) -> bool) -> Option<Self> {
        let allowed = system::allowed(thread)?;
        let mut some = Cpus::default();
        for (index, (to, from)) in some.iter_mut().zip(allowed).enumerate() {
            *to =
                (0..64).filter(|bit| from & 1 << bit != 0 && wanted(index as u32 * 64 + bit)).map(|bit| 1 << bit).sum();
        }
        let all = allowed.iter().map(|word| word.count_ones() as usize).sum::<usize>() == cpus();
        (all && some != allowed && some != [0; 16] && system::allow(thread, &some)).then(|| Self { thread })
    }
}

impl Drop for Restricted {
    fn drop(&mut self) {
        system::allow(self.thread, &EVERY_CPU);
    }
}

/// How many CPUs the machine has; 0 where that is not known.
fn cpus() -> usize {
    static CPUS: AtomicUsize = AtomicUsize::new(usize::MAX);
    match CPUS.load(Ordering::Relaxed) {
        usize::MAX => {
            let cpus = system::cpus();
            CPUS.store(cpus, Ordering::Relaxed);
            cpus
        }
        cpus => cpus,
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

    /// How many CPUs there are.
    pub(super) fn cpus() -> usize {
        // SAFETY: a plain call.
        usize::try_from(unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) }).unwrap_or(0)
    }

    /// The CPUs that a thread may use, if it may be told to use others.
    pub(super) fn allowed(thread: i32) -> Option<Cpus> {
        let mut cpus = [0; 16];
        // SAFETY: plain calls; the kernel writes no more than the size given.
        unsafe {
            let unfiltered = libc::syscall(libc::SYS_prctl, libc::PR_GET_SECCOMP, 0, 0, 0, 0) == 0;
            let known =
                unfiltered && libc::syscall(libc::SYS_sched_getaffinity, thread, size_of::<Cpus>(), &raw mut cpus) > 0;
            known.then_some(cpus)
        }
    }

    /// Sets them.
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

    pub(super) fn cpus() -> usize {
        0
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

    #[test]
    fn the_woken_parts_from_the_waker() {
        let before = system::allowed(0).expect("the system says");
        let count = before.iter().map(|word| word.count_ones() as usize).sum::<usize>();
        let placement = Placement::new();
        placement.adopt_thread();
        // Takes the part of both: the kernel moves it away at once. Before that it may do so by itself.
        for _ in 0..100 {
            placement.remember();
            let cpu = placement.cpu.load(Ordering::Relaxed);
            let mut parted = false;
            placement.part(|| {
                let now = system::allowed(0).expect("the system says");
                parted = now != before;
                assert!(!parted || now[cpu as usize / 64] & 1 << (cpu % 64) == 0 && system::cpu() != Some(cpu));
            });
            assert_eq!(system::allowed(0), Some(before));
            if parted || count == 1 || count != cpus() {
                assert_eq!(parted, count > 1 && count == cpus());
                return;
            }
        }
        panic!("never on the same CPU from one line to the next");
    }

    #[test]
    #[cfg(csp_native)]
    fn a_thread_that_stays_does() {
        let before = system::allowed(0).expect("the system says");
        if let Some(stays) = Restricted::here() {
            let now = system::allowed(0).expect("the system says");
            assert_eq!(now.iter().map(|word| word.count_ones()).sum::<u32>(), 1);
            assert!(system::cpu().is_some_and(|cpu| now[cpu as usize / 64] & 1 << (cpu % 64) != 0));
            drop(stays);
        }
        assert_eq!(system::allowed(0), Some(before));
    }

    /// Whoever was told which CPUs to use is left alone.
    #[test]
    fn what_somebody_has_set_stays() {
        let before = system::allowed(0).expect("the system says");
        let index = before.iter().position(|word| *word != 0).expect("one is allowed");
        let mut one = Cpus::default();
        one[index] = 1 << before[index].trailing_zeros();
        if one == before {
            return;
        }
        assert!(system::allow(0, &one));
        assert!(Restricted::new(0, |_| true).is_none());
        let placement = Placement::new();
        placement.adopt_thread();
        placement.remember();
        placement.part(|| assert_eq!(system::allowed(0), Some(one)));
        assert_eq!(system::allowed(0), Some(one));
    }
}
