//! The runtime and the system, when everything happens at once. Each test is a process of its own: what it changes, from
//! the number of processors to the limit of memory, is the process's.

#![cfg(target_os = "linux")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use support::{Traffic, in_child, own_stacks, scaled, thread_id};

#[test]
fn the_number_of_processors_may_change_while_goroutines_lock_their_threads_and_pass_messages() {
    in_child(&[], || {
        const MEMBERS: usize = 8;
        const TOKENS: usize = 3;
        // A ring. A token counts its hops; when it is over, the first member sends it home.
        let links = (0..MEMBERS).map(|_| csp::bounded::<usize>(1)).collect::<Vec<_>>();
        let (homewards, home) = csp::unbounded();
        let hops = Arc::new(AtomicUsize::new(0));
        let over = Arc::new(AtomicBool::new(false));
        let ring = (0..MEMBERS).map(|n| {
            let (input, output) = (links[n].1.clone(), links[(n + 1) % MEMBERS].0.clone());
            let (homewards, hops, over) = (homewards.clone(), hops.clone(), over.clone());
            csp::spawn(move || {
                for i in 0.. {
                    // Each in a way of its own: now and then, nested, all the time, never.
                    let depth = [usize::from(i % 5 == 0), 2 * usize::from(i % 3 == 0), 1, 0][n % 4];
                    (0..depth).for_each(|_| std::mem::forget(csp::lock_os_thread()));
                    let own = thread_id();
                    let Ok(token) = input.recv() else { return };
                    let to = if n == 0 && over.load(Ordering::Acquire) { &homewards } else { &output };
                    to.send(token + 1).unwrap();
                    assert!(depth == 0 || thread_id() == own, "it owns its thread");
                    (0..depth).for_each(|_| csp::unlock_os_thread());
                    hops.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        let ring = ring.collect::<Vec<_>>();
        for (tx, _) in &links[..TOKENS] {
            tx.send(0).unwrap();
        }
        for procs in [1, 2, 8, 2, 1, 8].into_iter().cycle().take(30) {
            csp::runtime::set_max_procs(procs);
            // So many under each number: it is progress that is waited for, not time.
            let until = hops.load(Ordering::Relaxed) + scaled(200, 50);
            while hops.load(Ordering::Relaxed) < until {
                thread::yield_now();
            }
        }
        over.store(true, Ordering::Release);
        let counted = home.iter().take(TOKENS).sum::<usize>();
        links.iter().for_each(|(tx, _)| _ = tx.close());
        ring.into_iter().for_each(|member| member.join().unwrap());
        assert_eq!(hops.load(Ordering::Relaxed), counted);
    })
    .expect_success();
}

/// The native backend is half set up when it turns out that there is no room for a stack, and threads take over.
#[test]
#[cfg(target_env = "gnu")]
fn credentials_change_where_there_is_no_room_for_stacks_of_our_own() {
    if std::env::var_os("CSP_BACKEND").is_some() {
        return; // It is asked for: then there is an error instead.
    }
    in_child(&[], || {
        const RESERVED: usize = 512 << 20;
        // SAFETY: a mapping that nobody uses; and a limit for this process alone, of which an eighth is to be left over.
        unsafe {
            let (access, kind) = (libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
            assert_ne!(libc::mmap(std::ptr::null_mut(), RESERVED, access, kind, -1, 0), libc::MAP_FAILED);
            let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
            let mapped = statm.split(' ').next().unwrap().parse::<u64>().unwrap() * 4096;
            let limit = libc::rlimit { rlim_cur: mapped + mapped / 8, rlim_max: libc::RLIM_INFINITY };
            assert_eq!(libc::setrlimit(libc::RLIMIT_AS, &limit), 0);
        }
        let (open, gate) = csp::bounded::<()>(0);
        let parked = csp::spawn(move || gate.recv());
        assert!(!support::stackful());
        for _ in 0..20 {
            // SAFETY: a plain call, which changes nothing.
            assert_eq!(unsafe { libc::setuid(libc::getuid()) }, 0);
        }
        drop(open);
        assert!(parked.join().unwrap().is_err());
    })
    .expect_success();
}

/// `setuid` and its family send each thread signal 33 and wait until all have answered, one caller at a time.
#[test]
#[cfg(target_env = "gnu")]
fn several_threads_change_credentials_at_once_while_goroutines_run() {
    in_child(&[], || {
        csp::runtime::set_max_procs(4);
        let traffic = Traffic::start();
        let over = Arc::new(AtomicBool::new(false));
        let rounds = Arc::new(AtomicUsize::new(0));
        // Goroutines that park and are made ready, that block, and that own their threads.
        let goroutines = (0..4).map(|n| {
            let (over, rounds) = (over.clone(), rounds.clone());
            let goroutine = csp::Builder::new().locked(n == 3);
            let body = move || {
                let (tx, rx) = csp::bounded(0);
                let echo = csp::spawn(move || rx.iter().sum::<usize>());
                let mut sent = 0;
                while !over.load(Ordering::Acquire) {
                    tx.send(1).unwrap();
                    sent += 1;
                    if sent % 16 == n {
                        csp::blocking(thread::yield_now);
                    }
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
                drop(tx);
                assert_eq!(echo.join().unwrap(), sent);
            };
            goroutine.spawn(body).unwrap()
        });
        let goroutines = goroutines.collect::<Vec<_>>();
        let threads = (0..4).map(|_| {
            let rounds = rounds.clone();
            thread::spawn(move || {
                for _ in 0..20 {
                    // SAFETY: plain calls, which change what is to what is.
                    unsafe {
                        assert_eq!(libc::setuid(libc::getuid()), 0);
                        assert_eq!(libc::setegid(libc::getgid()), 0);
                    }
                    // Nor do the goroutines stop for it.
                    let until = rounds.load(Ordering::Relaxed) + 1;
                    while rounds.load(Ordering::Relaxed) < until {
                        thread::yield_now();
                    }
                }
            })
        });
        let threads = threads.collect::<Vec<_>>();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        over.store(true, Ordering::Release);
        goroutines.into_iter().for_each(|goroutine| goroutine.join().unwrap());
        drop(traffic);
    })
    .expect_success();
}

/// Goroutines that start, park and end in waves, so that slots are made, given up and used again all the time.
struct Tide {
    over: Arc<AtomicBool>,
    spawner: csp::JoinHandle<usize>,
}

impl Tide {
    fn start(wave: usize) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let ends = over.clone();
        let spawner = csp::spawn(move || {
            let mut parked = 0;
            for size in [wave, wave / 2].into_iter().cycle() {
                let (open, gate) = csp::bounded::<()>(0);
                let goroutine = |_| {
                    let gate = gate.clone();
                    csp::spawn(move || gate.recv().unwrap_err())
                };
                let goroutines = (0..size).map(goroutine).collect::<Vec<_>>();
                parked += size;
                drop(open);
                goroutines.into_iter().for_each(|goroutine| _ = goroutine.join().unwrap());
                if ends.load(Ordering::Acquire) {
                    return parked;
                }
            }
            unreachable!("the waves come without end")
        });
        Self { over, spawner }
    }

    /// How many goroutines there were.
    fn end(self) -> usize {
        self.over.store(true, Ordering::Release);
        self.spawner.join().unwrap()
    }
}

#[test]
fn commands_start_while_goroutines_park_by_the_thousand() {
    in_child(&[], || {
        let tide = Tide::start(scaled(4_000, 200));
        let run = |forks: bool, n: i32| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", &format!("echo {n}; exit {}", n % 7)]);
            if forks {
                // SAFETY: it does nothing. That there is something to do makes std use `fork`, not `posix_spawn`.
                unsafe { command.pre_exec(|| Ok(())) };
            }
            let output = command.output().unwrap();
            assert_eq!((output.status.code(), output.stdout), (Some(n % 7), format!("{n}\n").into_bytes()));
        };
        // From goroutines, which are moved meanwhile, from ones that own their threads, and from a plain thread.
        let goroutines = (0..4).map(|n| {
            let body = move || (0..8).for_each(|i| run(i % 2 == 0, 10 * n + i));
            csp::Builder::new().locked(n == 3).spawn(body).unwrap()
        });
        let goroutines = goroutines.collect::<Vec<_>>();
        (0..8).for_each(|i| run(i % 2 == 0, 100 + i));
        goroutines.into_iter().for_each(|goroutine| goroutine.join().unwrap());
        assert!(tide.end() >= scaled(4_000, 200));
    })
    .expect_success();
}

mod when_memory_runs_out {
    use super::*;

    /// Of the process, in bytes.
    fn address_space() -> u64 {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').next().unwrap().parse::<u64>().unwrap() * 4096
    }

    /// Lets the process map so many bytes more.
    fn leave(bytes: u64) {
        let limit = address_space() + bytes;
        let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
        // SAFETY: a plain call.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
    }

    /// Standard error, read by the process itself: what was written to it up to the call of `wait_for`, and on.
    struct OwnErrors {
        pipe: BufReader<std::io::PipeReader>,
        real: std::os::fd::OwnedFd,
    }

    impl OwnErrors {
        fn take() -> Self {
            let (pipe, end) = std::io::pipe().unwrap();
            let real = std::io::stderr().as_fd().try_clone_to_owned().unwrap();
            // SAFETY: both are open.
            assert_eq!(unsafe { libc::dup2(end.as_raw_fd(), libc::STDERR_FILENO) }, libc::STDERR_FILENO);
            Self { pipe: BufReader::new(pipe), real }
        }

        /// Reads until a line has `text` in it.
        fn wait_for(&mut self, text: &str) {
            let mut line = String::new();
            while !line.contains(text) {
                line.clear();
                assert_ne!(self.pipe.read_line(&mut line).unwrap(), 0);
                std::fs::File::from(self.real.try_clone().unwrap()).write_all(line.as_bytes()).unwrap();
            }
        }
    }

    impl Drop for OwnErrors {
        fn drop(&mut self) {
            // SAFETY: both are open.
            unsafe { libc::dup2(self.real.as_raw_fd(), libc::STDERR_FILENO) };
        }
    }

    #[test]
    fn goroutines_wait_for_stacks_that_others_give_back() {
        if !own_stacks() {
            return; // Not about stacks: a limit of memory is one of threads there.
        }
        let outcome = in_child(&[], || {
            const GOROUTINES: usize = 20_000;
            let (open, gate) = csp::bounded::<()>(0);
            let started = Arc::new(AtomicUsize::new(0));
            // The runtime and its threads are there before the limit is.
            csp::runtime::set_max_procs(2);
            (0..100).map(|_| csp::spawn(csp::yield_now)).for_each(|goroutine| goroutine.join().unwrap());
            let mut errors = OwnErrors::take();
            leave(600 << 20);
            let goroutine = |_| {
                let (gate, started) = (gate.clone(), started.clone());
                csp::spawn(move || {
                    assert!(
                        started.fetch_add(1, Ordering::Relaxed) < GOROUTINES - 1 || gate.is_closed(),
                        "all have room"
                    );
                    gate.recv().unwrap_err();
                    // What an allocator does when it is used for the first time in a thread.
                    String::from_utf8(vec![b'x'; 10_000]).unwrap().len()
                })
            };
            let goroutines = (0..GOROUTINES).map(goroutine).collect::<Vec<_>>();
            errors.wait_for("no stack can be made for another goroutine");
            drop(errors);
            // The program itself has room left: to use, and to say what it has to say.
            assert_eq!(vec![1_u8; 8 << 20].iter().map(|&n| usize::from(n)).sum::<usize>(), 8 << 20);
            assert!(started.load(Ordering::Relaxed) > 1_000);
            drop(open);
            let sum = goroutines.into_iter().map(|goroutine| goroutine.join().unwrap()).sum::<usize>();
            assert_eq!((sum, started.load(Ordering::Relaxed)), (GOROUTINES * 10_000, GOROUTINES));
        });
        outcome.expect_success().expect_report(&[
            "csp: no stack can be made for another goroutine (",
            "those that have not started wait until one is free: cannot map",
            "(see ulimit -v, vm.overcommit_memory)\n",
        ]);
    }
}
