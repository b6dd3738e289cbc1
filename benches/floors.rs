//! What the machine itself takes for the parts that csp's operations are made of: below their sum nothing can go.
//!
//! `cargo bench --bench floors`. Prints medians of the rounds:
//!
//! - *instructions*: an uncontended atomic read-modify-write, writing the thread pointer, looking at the SSE control word, in
//!   nanoseconds;
//! - *slot*: the guard and two fresh pages of a stack, asked for in one call each; and beside that what a goroutine takes that
//!   needs a slot of its own (`ratio`). A raw kernel thread that ends at once, made in batches of 64, is what a slot no longer
//!   needs. Microseconds of CPU time, all on one CPU.
//!
//! `--smoke` makes a short run of it.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[path = "workloads/cpu_time.rs"]
mod cpu_time;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod floors {
    use std::arch::asm;
    use std::hint::black_box;
    use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
    use std::time::Instant;

    use super::cpu_time::cpu_time;
    use csp::channel::Receiver;
    use csp::{WaitGroup, go};

    fn median(mut samples: Vec<f64>) -> f64 {
        samples.sort_by(f64::total_cmp);
        samples[samples.len() / 2]
    }

    /// Nanoseconds for each call of `f`, less those of an empty loop.
    fn nanoseconds(n: u64, f: impl Fn()) -> f64 {
        let time = |f: &dyn Fn()| {
            let start = Instant::now();
            for _ in 0..n / 8 {
                for _ in 0..8 {
                    f();
                }
            }
            start.elapsed().as_nanos() as f64 / n as f64
        };
        time(&f) - time(&|| _ = black_box(0))
    }

    fn atomic(n: u64) -> f64 {
        let word = AtomicU64::new(0);
        nanoseconds(n, || _ = word.fetch_add(1, Ordering::AcqRel))
    }

    fn thread_pointer(n: u64) -> f64 {
        // SAFETY: a plain call.
        if unsafe { libc::getauxval(libc::AT_HWCAP2) } & 2 == 0 {
            return f64::NAN;
        }
        // SAFETY: the thread pointer is written as it is. Linux says in AT_HWCAP2 that user code may.
        nanoseconds(n, || unsafe { asm!("mov {0}, fs:[0]", "wrfsbase {0}", out(reg) _, options(nostack)) })
    }

    fn control_word(n: u64) -> f64 {
        let word = AtomicU32::new(0);
        // SAFETY: it is written to our own word.
        nanoseconds(n, || unsafe {
            asm!("stmxcsr [{0}]", "mov {1:e}, [{0}]", in(reg) word.as_ptr(), out(reg) _, options(nostack));
        })
    }

    /// Microseconds of CPU time for each of `n`.
    fn microseconds(n: usize, f: impl FnOnce()) -> f64 {
        let before = cpu_time();
        f();
        (cpu_time() - before).as_nanos() as f64 / 1e3 / n as f64
    }

    /// Kernel threads that do nothing but count themselves and end.
    fn kernel_threads(n: usize) -> f64 {
        const BATCH: usize = 64;
        static ENDED: AtomicU32 = AtomicU32::new(0);

        extern "C" fn end(_: *mut libc::c_void) -> libc::c_int {
            // SAFETY: a count, and system call 60, exit. Nothing of the C library, whose thread this is not, is touched.
            unsafe {
                asm!("lock inc dword ptr [{0}]", "mov eax, 60", "xor edi, edi", "syscall", in(reg) ENDED.as_ptr(),
                     options(noreturn))
            }
        }

        let mut stacks = vec![[0_u128; 32]; BATCH];
        microseconds(n, || {
            for _ in 0..n / BATCH {
                ENDED.store(0, Ordering::Relaxed);
                for stack in &mut stacks {
                    let flags = libc::CLONE_VM
                        | libc::CLONE_FS
                        | libc::CLONE_FILES
                        | libc::CLONE_SIGHAND
                        | libc::CLONE_THREAD
                        | libc::CLONE_SYSVSEM;
                    // SAFETY: the stack is the thread's alone until it has ended, which we wait for.
                    let thread =
                        unsafe { libc::clone(end, stack.as_mut_ptr_range().end.cast(), flags, std::ptr::null_mut()) };
                    assert!(thread > 0, "{}", std::io::Error::last_os_error());
                }
                while ENDED.load(Ordering::Acquire) < BATCH as u32 {
                    std::thread::yield_now();
                }
            }
        })
    }

    /// Stacks: address space, a guard, and two pages.
    fn stacks(n: usize) -> f64 {
        const STRIDE: usize = 256 << 10;
        const GUARD: usize = 16 << 10;
        const GUARD_INSTALL: i32 = 102;
        const POPULATE_WRITE: i32 = 23;

        let size = n * STRIDE;
        let (access, kind) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
        // SAFETY: a new mapping, used and unmapped here.
        unsafe {
            let base = libc::mmap(std::ptr::null_mut(), size, access, kind, -1, 0);
            assert_ne!(base, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
            libc::madvise(base, size, libc::MADV_NOHUGEPAGE);
            let time = microseconds(n, || {
                for stack in (0..n).map(|i| base.cast::<u8>().add(i * STRIDE)) {
                    if libc::madvise(stack.cast(), GUARD, GUARD_INSTALL) != 0 {
                        libc::mprotect(stack.cast(), GUARD, libc::PROT_NONE);
                    }
                    libc::madvise(stack.add(STRIDE - 2 * 4096).cast(), 2 * 4096, POPULATE_WRITE);
                    // Faults, where that was refused.
                    stack.add(STRIDE - 64).write_volatile(1);
                    stack.add(STRIDE - 4096 - 64).write_volatile(1);
                }
            });
            libc::munmap(base, size);
            time
        }
    }

    /// Goroutines that wait, each on a slot that has to be made.
    fn slots(n: usize) -> f64 {
        fn wait(gate: Receiver<()>, arrived: WaitGroup) {
            arrived.done();
            _ = gate.recv();
        }

        let (open, gate) = csp::bounded(0);
        let arrived = WaitGroup::new();
        let time = microseconds(n, || {
            for _ in 0..n {
                arrived.add(1);
                go!(wait(gate.clone(), arrived.clone()));
            }
            arrived.wait();
        });
        // They go on waiting: the next ones need slots of their own.
        std::mem::forget(open);
        time
    }

    pub(super) fn main() {
        let smoke = std::env::args().any(|argument| argument == "--smoke");
        let (rounds, n, threads) = if smoke { (1, 10_000, 128) } else { (9, 20_000_000, 2048) };
        // What it costs to wake another CPU is no part of it.
        // SAFETY: the set is ours; a refusal is told.
        unsafe {
            let mut cpus = std::mem::zeroed::<libc::cpu_set_t>();
            libc::CPU_SET(usize::try_from(libc::sched_getcpu()).unwrap_or(0), &mut cpus);
            assert_eq!(libc::sched_setaffinity(0, size_of_val(&cpus), &cpus), 0);
        }
        let mut samples: [Vec<f64>; 6] = Default::default();
        let parts = [atomic, thread_pointer, control_word];
        let large = [kernel_threads, stacks, slots];
        for _ in 0..rounds {
            for (part, samples) in parts.iter().zip(&mut samples) {
                samples.push(part(n));
            }
            for (part, samples) in large.iter().zip(&mut samples[3..]) {
                samples.push(part(threads));
            }
        }
        let [atomic, pointer, word, kernel, stack, slot] = samples.map(median);
        println!(
            "benchmark=floors case=instructions atomic_ns={atomic:.1} thread_pointer_ns={pointer:.1} control_word_ns={word:.1}"
        );
        println!(
            "benchmark=floors case=slot kernel_thread_us={kernel:.1} stack_us={stack:.1} slot_us={slot:.1} ratio={:.2}",
            slot / stack,
        );
    }
}

fn main() {
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    floors::main();
    #[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
    println!("benchmark=floors: for Linux on x86-64");
}
