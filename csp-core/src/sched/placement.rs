//! On which CPU a worker wakes up.
//!
//! The kernel wakes a thread where it last ran, unless it knows an idle CPU nearby. In a virtual machine it does not: a CPU
//! on which nothing runs has been put to sleep by the host, and counts as taken. Once two workers have shared a CPU, one of
//! them wakes the other there, behind itself, and goes on computing for milliseconds while the other CPU sleeps.
//!
//! So whoever wakes a worker that fell asleep on the same CPU forbids it that CPU, and the first thing that it does when it
//! has woken up is to lift that: before it runs anything that could ask, or pass it on to a new thread. After that the two
//! stay apart by themselves.
//!
//! The kernel remembers the CPUs that were asked for, and applies them to what a container may use later. So this is done only
//! where a thread may use all CPUs of the machine, and undone by asking for all there could be; and it is left for threads
//! whose system calls are filtered, since a filter may end the process for these.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

/// Where the thread of a worker has been.
#[derive(Debug)]
pub(crate) struct Placement {
    /// The kernel's number of the thread; 0 if there is none.
    thread: AtomicI32,
    /// The CPU on which it fell asleep.
    cpu: AtomicU32,
    /// Whoever wakes it has forbidden it that CPU.
    restricted: AtomicBool,
}

/// As many CPUs as the kernel's set has where nobody asks for more; where there are more, everything stays as it is.
type Cpus = [u64; 16];

const EVERY_CPU: Cpus = [u64::MAX; 16];

impl Placement {
    pub(crate) const fn new() -> Self {
        Self { thread: AtomicI32::new(0), cpu: AtomicU32::new(u32::MAX), restricted: AtomicBool::new(false) }
    }

    /// The calling thread is the worker's.
    pub(crate) fn adopt_thread(&self) {
        self.thread.store(system::thread(), Ordering::Relaxed);
    }

    /// The worker is about to sleep.
    pub(crate) fn remember(&self) {
        // Where calls are filtered it is not to be woken so.
        let cpu = system::cpu().filter(|_| system::unfiltered());
        self.cpu.store(cpu.unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// The caller wakes the worker in a moment, and nobody else does: not on the caller's CPU, if it would be on that.
    pub(crate) fn part(&self) {
        let thread = self.thread.load(Ordering::Relaxed);
        let shared = system::cpu().filter(|&cpu| thread != 0 && cpu == self.cpu.load(Ordering::Relaxed));
        if shared.is_some_and(|cpu| restrict(thread, |here| here != cpu)) {
            // Relaxed: the wake-up orders it.
            self.restricted.store(true, Ordering::Relaxed);
        }
    }

    /// The worker has been woken.
    #[inline]
    pub(crate) fn settle(&self) {
        if self.restricted.load(Ordering::Relaxed) {
            self.restricted.store(false, Ordering::Relaxed);
            if system::unfiltered() {
                system::allow(0, &EVERY_CPU);
            }
        }
    }
}

/// Lets a thread use the CPUs that are `wanted` alone, if it may use all of the machine now. 0 stands for the caller.
fn restrict(thread: i32, wanted: impl Fn(u32) -> bool) -> bool {
    let Some(allowed) = system::allowed(thread) else { return false };
    let mut some = Cpus::default();
    for (index, (to, from)) in some.iter_mut().zip(allowed).enumerate() {
        *to = (0..64).filter(|bit| from & 1 << bit != 0 && wanted(index as u32 * 64 + bit)).map(|bit| 1 << bit).sum();
    }
    // Asked last: it takes longest.
    some != allowed && some != [0; 16] && system::online() == Some(allowed) && system::allow(thread, &some)
}

/// The calling thread stays on its CPU while this lives, and so do those that it creates.
#[derive(Debug)]
#[cfg(csp_native)]
pub(crate) struct Stay(());

#[cfg(csp_native)]
impl Stay {
    /// `None` where that is not to be had.
    pub(crate) fn here() -> Option<Self> {
        let cpu = system::cpu()?;
        restrict(0, |other| other == cpu).then(|| Self(()))
    }
}

#[cfg(csp_native)]
impl Drop for Stay {
    fn drop(&mut self) {
        system::allow(0, &EVERY_CPU);
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

    /// The CPUs that the machine has. Read each time, since they may change; without an allocation.
    pub(super) fn online() -> Option<Cpus> {
        let mut text = [0; 512];
        // SAFETY: plain calls on our own memory.
        let length = unsafe {
            let file = libc::open(c"/sys/devices/system/cpu/online".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
            if file < 0 {
                return None;
            }
            let length = libc::read(file, text.as_mut_ptr().cast(), text.len());
            libc::close(file);
            length
        };
        let text = text.get(..usize::try_from(length).ok()?).filter(|text| text.len() < 512)?;
        parse(std::str::from_utf8(text).ok()?)
    }

    /// A list such as `0-3,8,10-11`.
    pub(super) fn parse(list: &str) -> Option<Cpus> {
        let mut cpus = Cpus::default();
        for range in list.trim().split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            for cpu in first.parse::<usize>().ok()?..=last.parse().ok()? {
                *cpus.get_mut(cpu / 64)? |= 1 << (cpu % 64);
            }
        }
        Some(cpus)
    }

    /// The CPUs that a thread may use, if it may be told to use others.
    pub(super) fn allowed(thread: i32) -> Option<Cpus> {
        let mut cpus = [0; 16];
        let size = size_of::<Cpus>();
        // SAFETY: the kernel writes no more than the size given.
        let mut known = || unsafe { libc::syscall(libc::SYS_sched_getaffinity, thread, size, &raw mut cpus) } > 0;
        (unfiltered() && known()).then_some(cpus)
    }

    /// Whether the caller may make any system call.
    pub(super) fn unfiltered() -> bool {
        // SAFETY: it has no other arguments.
        unsafe { libc::syscall(libc::SYS_prctl, libc::PR_GET_SECCOMP, 0, 0, 0, 0) == 0 }
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

    pub(super) fn online() -> Option<Cpus> {
        None
    }

    pub(super) fn allowed(_: i32) -> Option<Cpus> {
        None
    }

    pub(super) fn unfiltered() -> bool {
        false
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
        let possible = before.iter().map(|word| word.count_ones()).sum::<u32>() > 1 && system::online() == Some(before);
        let placement = Placement::new();
        placement.adopt_thread();
        // Takes the part of both: the kernel moves it away at once. Before that it may do so by itself.
        for _ in 0..100 {
            placement.remember();
            let cpu = placement.cpu.load(Ordering::Relaxed);
            placement.part();
            let now = system::allowed(0).expect("the system says");
            let parted = placement.restricted.load(Ordering::Relaxed);
            assert_eq!(parted, now != before);
            assert!(!parted || now[cpu as usize / 64] & 1 << (cpu % 64) == 0 && system::cpu() != Some(cpu));
            placement.settle();
            assert_eq!(system::allowed(0), Some(before));
            if parted || !possible {
                assert_eq!(parted, possible);
                return;
            }
        }
        panic!("never on the same CPU from one line to the next");
    }

    #[test]
    #[cfg(csp_native)]
    fn a_thread_that_stays_does() {
        let before = system::allowed(0).expect("the system says");
        if let Some(stays) = Stay::here() {
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
        assert!(!restrict(0, |_| true));
        let placement = Placement::new();
        placement.adopt_thread();
        placement.remember();
        placement.part();
        assert_eq!(system::allowed(0), Some(one));
        placement.settle();
        assert_eq!(system::allowed(0), Some(one));
    }

    #[test]
    fn lists_of_cpus_are_read() {
        let mut expected = Cpus::default();
        (expected[0], expected[1], expected[15]) = (0xc0f, 1, 1 << 63);
        assert_eq!(system::parse("0-3,10-11,64,1023\n"), Some(expected));
        for wrong in ["", "x", "0-", "1024", "0-3,,4"] {
            assert_eq!(system::parse(wrong), None, "{wrong}");
        }
    }
}
