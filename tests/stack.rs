//! Stacks: their sizes, what happens at their end, and the two ways of guarding and switching them.

#![cfg(target_os = "linux")]

mod support;

use std::cell::Cell;
use std::ffi::c_void;
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{ptr, thread};

use csp::Builder;
use csp::runtime::Runtime;
use support::{Outcome, in_child, in_traffic, migrate, own_stacks};

/// Uses `bytes` of stack below the caller, or a frame more. Returns how many calls that took.
fn use_stack(bytes: usize) -> usize {
    #[inline(never)]
    fn down_to(address: usize) -> usize {
        let frame = black_box([1_u8; 256]);
        if frame.as_ptr().addr() <= address {
            return 1;
        }
        // After the call, so that the frame is needed until then.
        down_to(address) + usize::from(black_box(frame)[7])
    }
    let here = 0_u8;
    down_to((&raw const here).addr().saturating_sub(bytes))
}

/// Uses stack within C code: each level is a sort whose comparator sorts.
fn use_stack_in_c(depth: usize) -> usize {
    thread_local! {
        static LEFT: Cell<usize> = const { Cell::new(0) };
    }
    extern "C" fn compare(_: *const c_void, _: *const c_void) -> i32 {
        let left = LEFT.get();
        if left > 0 {
            LEFT.set(left - 1);
            sort();
        }
        0
    }
    fn sort() {
        let mut items = [2_u64, 1];
        // SAFETY: an array of two elements of eight bytes.
        unsafe { libc::qsort(items.as_mut_ptr().cast(), 2, 8, Some(compare)) };
        black_box(items);
    }
    LEFT.set(depth);
    sort();
    depth - LEFT.get()
}

/// Checks the report of a stack overflow in the goroutine 'deep', started in `line` of this file.
#[track_caller]
/// The crate that makes the stacks has a handler of its own for their faults, which tells others about none of them.
fn handled_by_generator() -> bool {
    csp::runtime::backend() == csp::runtime::Backend::Generator
}

fn expect_overflow(outcome: Outcome, line: u32, kib: usize) {
    let outcome = outcome.expect_signal(libc::SIGABRT);
    // Without stacks of our own it is the standard library that reports.
    let place = format!("started at {}:{line}:", file!());
    let size = format!("its stack of {kib} KiB");
    let parts = match own_stacks() {
        true => &["goroutine stack overflow", "goroutine ", " 'deep', ", &place, &size, "stack = ", "stack_size"][..],
        false => &["has overflowed its stack"][..],
    };
    let outcome = outcome.expect_report(parts);
    assert_eq!(outcome.stderr.matches("stack overflow").count(), 1, "{outcome}");
    assert!(!outcome.stdout.contains("reached"), "{outcome}");
}

mod overflow {
    use super::*;

    #[test]
    fn is_reported_with_what_to_do_and_ends_the_process() {
        let line = line!() + 2;
        let outcome = in_child(&[], || {
            let deep = Builder::new().name("deep").spawn(|| use_stack(usize::MAX));
            println!("reached {:?}", deep.unwrap().join());
        });
        expect_overflow(outcome, line, 240);
    }

    #[test]
    fn is_reported_on_a_stack_of_another_size() {
        let line = line!() + 2;
        let outcome = in_child(&[], || {
            let deep = Builder::new().name("deep").stack_size(1 << 20).spawn(|| use_stack(usize::MAX));
            println!("reached {:?}", deep.unwrap().join());
        });
        expect_overflow(outcome, line, 2032);
    }

    #[test]
    fn is_reported_when_it_happens_in_c() {
        let line = line!() + 2;
        let outcome = in_child(&[], || {
            let deep = Builder::new().name("deep").spawn(|| use_stack_in_c(usize::MAX));
            println!("reached {:?}", deep.unwrap().join());
        });
        expect_overflow(outcome, line, 240);
    }

    #[test]
    fn is_reported_after_the_goroutine_has_moved_among_many() {
        if handled_by_generator() {
            return;
        }
        let line = line!() + 3;
        let outcome = in_child(&[], || {
            let _traffic = support::Traffic::start();
            let deep = Builder::new().name("deep").spawn(|| {
                (0..20).for_each(|_| migrate());
                use_stack(usize::MAX)
            });
            println!("reached {:?}", deep.unwrap().join());
        });
        expect_overflow(outcome, line, 240);
    }

    #[test]
    fn is_reported_once_when_several_goroutines_do_it() {
        let line = line!() + 2;
        let outcome = in_child(&[("GOMAXPROCS", "4")], || {
            let deep = |_| Builder::new().name("deep").spawn(|| use_stack(usize::MAX)).unwrap();
            let all = (0..8).map(deep).collect::<Vec<_>>();
            all.into_iter().for_each(|deep| println!("reached {:?}", deep.join()));
        });
        if own_stacks() {
            expect_overflow(outcome, line, 240);
        } else {
            // The standard library reports each.
            outcome.expect_signal(libc::SIGABRT).expect_report(&["has overflowed its stack"]);
        }
    }

    #[test]
    fn of_a_locked_goroutine_is_reported() {
        let line = line!() + 2;
        let outcome = in_child(&[], || {
            let deep = Builder::new().name("deep").locked(true).spawn(|| use_stack(usize::MAX));
            println!("reached {:?}", deep.unwrap().join());
        });
        expect_overflow(outcome, line, 240);
    }

    #[test]
    fn of_a_plain_thread_is_reported_by_the_standard_library() {
        if handled_by_generator() {
            return;
        }
        in_child(&[], || {
            csp::spawn(|| ()).join().unwrap();
            _ = thread::Builder::new().name("plain".into()).spawn(|| use_stack(usize::MAX)).unwrap().join();
        })
        .expect_signal(libc::SIGABRT)
        .expect_report(&["thread 'plain'", "has overflowed its stack"]);
    }
}

mod other_faults {
    use super::*;

    /// A page that cannot be touched.
    fn forbidden_page() -> *mut u8 {
        // SAFETY: a new mapping at a place of the kernel's choice.
        let page = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            libc::mmap(ptr::null_mut(), 4096, libc::PROT_NONE, flags, -1, 0)
        };
        assert_ne!(page, libc::MAP_FAILED);
        page.cast()
    }

    fn install(action: usize, flags: i32) {
        // SAFETY: the handlers below are async-signal-safe, and of the kind that the flags say.
        unsafe {
            let mut new: libc::sigaction = std::mem::zeroed();
            new.sa_sigaction = action;
            new.sa_flags = flags;
            assert_eq!(libc::sigaction(libc::SIGSEGV, &new, ptr::null_mut()), 0);
        }
    }

    #[test]
    fn end_the_process_as_ever() {
        let outcome = in_child(&[], || {
            // SAFETY: not at all; that is the point.
            csp::spawn(|| unsafe { forbidden_page().read_volatile() }).join().unwrap();
        });
        let outcome = outcome.expect_signal(libc::SIGSEGV);
        assert!(!outcome.stderr.contains("overflow"), "{outcome}");
    }

    #[test]
    fn end_the_process_when_the_default_was_in_force() {
        in_child(&[], || {
            install(libc::SIG_DFL, 0);
            // SAFETY: as above.
            csp::spawn(|| unsafe { forbidden_page().read_volatile() }).join().unwrap();
        })
        .expect_signal(libc::SIGSEGV);
    }

    #[test]
    fn reach_a_handler_that_was_there_before() {
        if handled_by_generator() {
            return;
        }
        extern "C" fn handler(_: i32) {
            // SAFETY: async-signal-safe.
            unsafe { libc::_exit(7) };
        }
        in_child(&[], || {
            install(handler as *const () as usize, libc::SA_ONSTACK);
            // SAFETY: as above.
            csp::spawn(|| unsafe { forbidden_page().read_volatile() }).join().unwrap();
        })
        .expect_status(7);
    }

    #[test]
    fn can_be_repaired_by_a_handler_that_was_there_before() {
        if handled_by_generator() {
            return;
        }
        static FAULTS: AtomicUsize = AtomicUsize::new(0);
        extern "C" fn handler(_: i32, info: *mut libc::siginfo_t, _: *mut c_void) {
            FAULTS.fetch_add(1, Ordering::Relaxed);
            // SAFETY: the kernel's own record; the page is the test's.
            unsafe {
                let page = ((*info).si_addr() as usize & !4095) as *mut c_void;
                libc::mprotect(page, 4096, libc::PROT_READ | libc::PROT_WRITE);
            }
        }
        in_child(&[], || {
            install(handler as *const () as usize, libc::SA_ONSTACK | libc::SA_SIGINFO);
            let values = in_traffic(8, |goroutine| {
                migrate();
                let page = forbidden_page();
                // SAFETY: the handler makes the page accessible.
                unsafe {
                    page.write_volatile(goroutine as u8);
                    migrate();
                    page.read_volatile()
                }
            });
            assert_eq!(values, [0, 1, 2, 3, 4, 5, 6, 7]);
            assert_eq!(FAULTS.load(Ordering::Relaxed), 8);
        })
        .expect_success();
    }
}

mod sizes {
    use super::*;

    /// For the frames of the runtime and of the test's own, unoptimised.
    const REST: usize = 4 << 10;

    #[test]
    fn a_goroutine_can_use_what_it_asked_for() {
        for size in [10 << 10, 44 << 10, 100 << 10, 108 << 10, 240 << 10, 1 << 20, 10 << 20, 64 << 20] {
            let deep = Builder::new().stack_size(size).spawn(move || use_stack(size - REST)).unwrap();
            assert!(deep.join().unwrap() > 1);
        }
    }

    /// What lies at the top of a stack is not as large in each.
    #[test]
    fn many_at_once_can_each_use_what_they_asked_for() {
        for size in [36 << 10, 44 << 10, 108 << 10, 236 << 10] {
            let (open, gate) = csp::channel::bounded::<()>(0);
            let (arrived, arrivals) = csp::channel::unbounded();
            let deep = |_| {
                let (gate, arrived) = (gate.clone(), arrived.clone());
                let deep = move || {
                    let used = use_stack(size - REST);
                    arrived.send(()).unwrap();
                    assert!(gate.recv().is_err());
                    used
                };
                Builder::new().stack_size(size).spawn(deep).unwrap()
            };
            let all = (0..40).map(deep).collect::<Vec<_>>();
            // None goes on before all are there, so that each has a stack of its own.
            all.iter().for_each(|_| arrivals.recv().unwrap());
            drop(open);
            assert!(all.into_iter().all(|deep| deep.join().unwrap() > 1));
        }
    }

    #[test]
    fn without_asking_it_can_use_most_of_240_kib() {
        // They hold its thread-locals too.
        assert!(csp::spawn(|| use_stack((228 << 10) - REST)).join().unwrap() > 1);
        assert_eq!(csp::spawn(|| use_stack_in_c(100)).join().unwrap(), 100);
    }

    #[test]
    fn goroutines_of_many_sizes_run_together() {
        let sizes = [64 << 10, 1 << 20, 128 << 10, 4 << 20, 240 << 10];
        let start = |i: usize| {
            let size = sizes[i % sizes.len()];
            let deep = move || {
                csp::yield_now();
                let used = use_stack(size / 2);
                csp::yield_now();
                used
            };
            Builder::new().stack_size(size).spawn(deep).unwrap()
        };
        let all = (0..support::scaled(300, 60)).map(start).collect::<Vec<_>>();
        assert!(all.into_iter().all(|deep| deep.join().unwrap() > 0));
    }

    #[test]
    fn the_runtime_gives_all_goroutines_the_size_that_its_builder_says() {
        in_child(&[], || {
            Runtime::builder().stack_size(16 << 20).start().unwrap();
            let all = (0..10).map(|_| csp::spawn(|| use_stack(15 << 20))).collect::<Vec<_>>();
            assert!(all.into_iter().all(|deep| deep.join().unwrap() > 0));
        })
        .expect_success();
    }

    #[test]
    fn one_that_the_generator_crate_cannot_make_is_refused_at_once() {
        fn limit_stacks() {
            let limit = libc::rlimit { rlim_cur: 8 << 20, rlim_max: 8 << 20 };
            // SAFETY: a plain call.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_STACK, &limit) }, 0);
        }
        in_child(&[("CSP_BACKEND", "generator")], || {
            limit_stacks();
            assert_eq!(csp::spawn(|| 1).join().unwrap(), 1);
            let error = Builder::new().stack_size(64 << 20).spawn(|| ()).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains("ulimit -H -s"), "{error}");
            assert!(Builder::new().stack_size(3 << 20).spawn(|| use_stack(2 << 20)).unwrap().join().unwrap() > 1);
        })
        .expect_success();
        in_child(&[("CSP_BACKEND", "generator")], || {
            limit_stacks();
            let error = Runtime::builder().stack_size(64 << 20).start().unwrap_err();
            assert!(error.to_string().contains("ulimit -H -s"), "{error}");
            // It can be started otherwise.
            assert_eq!(csp::spawn(|| 1).join().unwrap(), 1);
        })
        .expect_success();
    }

    #[test]
    fn a_panic_with_a_backtrace_fits_into_the_smallest() {
        in_child(&[("RUST_BACKTRACE", "1")], || {
            let handle = Builder::new().stack_size(1).spawn(|| panic!("no luck")).unwrap();
            assert!(handle.join().unwrap_err().is_panic());
        })
        .expect_success()
        .expect_report(&["no luck", "stack backtrace"]);
    }
}

/// A bit of everything that a stack has to do with.
fn small_stress() {
    let (tx, rx) = csp::bounded(4);
    let producers = (0..200_u64).map(|i| {
        let tx = tx.clone();
        csp::spawn(move || {
            for n in 0..50 {
                tx.send(i * 50 + n).unwrap();
                if n % 10 == 0 {
                    black_box(use_stack(20 << 10));
                    csp::yield_now();
                }
            }
        })
    });
    let producers = producers.collect::<Vec<_>>();
    drop(tx);
    let sum = csp::spawn(move || rx.iter().sum::<u64>());
    producers.into_iter().for_each(|producer| producer.join().unwrap());
    assert_eq!(sum.join().unwrap(), (0..10_000).sum());
    in_traffic(8, |i| {
        thread_local!(static OWN: Cell<usize> = const { Cell::new(0) });
        OWN.set(i);
        for _ in 0..20 {
            migrate();
            assert!(!support::own_thread_locals() || OWN.get() == i);
        }
    });
}

mod older_machines {
    use super::*;

    /// Each of what an older kernel, processor or libc lacks, and some of it.
    const LACKS: [&[(&str, &str)]; 4] = [
        &[("CSP_NO_GUARD_INSTALL", "1")],
        &[("CSP_NO_FSGSBASE", "1")],
        &[("CSP_NO_PATTERN", "1")],
        &[("CSP_NO_GUARD_INSTALL", "1"), ("CSP_NO_FSGSBASE", "1")],
    ];

    #[test]
    fn run_goroutines() {
        for lacks in LACKS {
            in_child(lacks, small_stress).expect_success();
        }
    }

    #[test]
    fn report_overflow() {
        if handled_by_generator() {
            return;
        }
        for lacks in LACKS {
            let line = line!() + 2;
            let outcome = in_child(lacks, || {
                let deep = Builder::new().name("deep").spawn(|| use_stack(usize::MAX));
                println!("reached {:?}", deep.unwrap().join());
            });
            expect_overflow(outcome, line, 240);
        }
    }

    /// `setuid`'s signal finds its way without the instructions as well.
    #[test]
    fn change_credentials() {
        for lacks in LACKS {
            in_child(lacks, || {
                let _traffic = support::Traffic::start();
                for _ in 0..50 {
                    // SAFETY: a plain call, which changes nothing.
                    assert_eq!(unsafe { libc::setuid(libc::getuid()) }, 0);
                    csp::spawn(|| ()).join().unwrap();
                }
            })
            .expect_success();
        }
    }

    /// What the native backend relies on is not there: here, glibc's handler for changes of credentials.
    #[test]
    #[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
    fn have_a_thread_for_each_goroutine_where_the_proof_fails() {
        if std::env::var_os("CSP_BACKEND").is_some() {
            return; // Whoever has chosen a backend gets that or an error.
        }
        in_child(&[], || {
            const SIGSETXID: i32 = 33;
            let none = [0_usize; 4];
            // SAFETY: the kernel's default for a signal that nobody sends here; 8 is the size of the kernel's signal set.
            let done = unsafe {
                let old = ptr::null_mut::<usize>();
                libc::syscall(libc::SYS_rt_sigaction, SIGSETXID, none.as_ptr(), old, 8)
            };
            assert_eq!(done, 0);
            let reason = csp::runtime::fallback_reason().expect("it has to do without");
            assert!(reason.contains("handler") || reason.contains("shadow stack"), "{reason}");
            assert_eq!(csp::runtime::backend(), csp::runtime::Backend::Threads);
            // More than are made at a time, and at once.
            let (open, gate) = csp::bounded::<()>(0);
            let arrived = csp::WaitGroup::new();
            arrived.add(200);
            let parked = (0..200).map(|n| {
                let (gate, arrived) = (gate.clone(), arrived.clone());
                csp::spawn(move || {
                    arrived.done();
                    gate.recv().unwrap_err();
                    n
                })
            });
            let parked = parked.collect::<Vec<_>>();
            arrived.wait();
            // Long enough for sysmon to look: it makes no slots ahead here.
            csp::time::sleep(std::time::Duration::from_millis(20));
            assert!(csp::runtime::stats().slots < 300);
            drop(open);
            assert_eq!(parked.into_iter().map(|goroutine| goroutine.join().unwrap()).sum::<i32>(), (0..200).sum());
        })
        .expect_success();
    }

    #[test]
    fn guards_without_mappings_are_used_where_the_kernel_has_them() {
        if !own_stacks() {
            return; // Threads have guards of their own.
        }
        let mappings = |env: &[(&str, &str)]| {
            let outcome = in_child(env, || {
                let count = || std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
                let (open, gate) = csp::bounded::<()>(0);
                let before = count();
                let parked = (0..500).map(|_| {
                    let gate = gate.clone();
                    csp::spawn(move || gate.recv().unwrap_err())
                });
                let parked = parked.collect::<Vec<_>>();
                while csp::runtime::stats().slots < 500 {
                    thread::yield_now();
                }
                println!("mappings {}", count() - before);
                drop(open);
                parked.into_iter().for_each(|goroutine| _ = goroutine.join().unwrap());
            });
            let outcome = outcome.expect_success();
            let line = outcome.stdout.lines().find_map(|line| line.strip_prefix("mappings "));
            line.unwrap().parse::<usize>().unwrap()
        };
        assert!(mappings(&[("CSP_NO_GUARD_INSTALL", "1")]) >= 500);
        // SAFETY: advice on a page of our own; Linux before 6.13 does not know it.
        let kernel_has_them = unsafe {
            let page = libc::mmap(
                ptr::null_mut(),
                4096,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            libc::madvise(page, 4096, 102) == 0
        };
        if kernel_has_them {
            assert!(mappings(&[]) < 100);
        }
    }
}
