//! A goroutine is a thread as far as code can tell: whatever belongs to a thread stays with it, on whichever OS thread
//! it goes on.
//!
//! The goroutines of these tests change their OS thread at each `migrate`. Where each of them has an OS thread of its
//! own, they park there.

#![cfg(all(target_os = "linux", target_env = "gnu"))]

mod support;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::io::Write;
use std::panic::{catch_unwind, resume_unwind};
use std::process::Command;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use support::{in_child, in_traffic, migrate, native, stackful, thread_id};

const GOROUTINES: usize = 8;
const ROUNDS: usize = 20;

/// Runs `body` a number of times in each of several goroutines at once, with the goroutine's number and the round's.
#[track_caller]
fn everywhere(body: impl Fn(usize, usize) + Send + Sync + 'static) {
    in_traffic(GOROUTINES, move |goroutine| (0..ROUNDS).for_each(|round| body(goroutine, round)));
}

#[test]
fn goroutines_do_change_their_thread() {
    let counts = in_traffic(GOROUTINES, |_| {
        let mut changes = 0;
        for _ in 0..ROUNDS {
            let before = thread_id();
            migrate();
            changes += usize::from(thread_id() != before);
        }
        changes
    });
    let expected = if stackful() { ROUNDS } else { 0 };
    assert_eq!(counts, [expected; GOROUTINES]);
}

mod rust {
    use super::*;

    thread_local! {
        static PLAIN: Cell<usize> = const { Cell::new(0) };
        static BORROWED: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
        static COUNTED: Rc<Cell<usize>> = Rc::new(Cell::new(0));
    }

    #[test]
    fn a_thread_local_borrowed_across_migrations_stays_the_goroutines_own() {
        everywhere(|goroutine, _| {
            PLAIN.set(goroutine);
            BORROWED.with_borrow_mut(|own| {
                own.push(goroutine);
                migrate();
                assert!(BORROWED.with(|own| own.try_borrow().is_err()));
                migrate();
                assert_eq!(own.pop(), Some(goroutine));
                assert!(own.is_empty());
            });
            assert_eq!(PLAIN.get(), goroutine);
        });
    }

    #[test]
    fn the_address_of_a_thread_local_is_constant() {
        let addresses = in_traffic(GOROUTINES, |_| {
            let address = || PLAIN.with(|own| std::ptr::from_ref(own).addr());
            let first = address();
            for _ in 0..ROUNDS {
                migrate();
                assert_eq!(address(), first);
            }
            // Nobody ends before all have looked: each has a stack of its own.
            first
        });
        assert!(addresses.iter().all(|&address| address != PLAIN.with(|own| std::ptr::from_ref(own).addr())));
    }

    #[test]
    fn an_rc_from_a_thread_local_is_counted_by_one_goroutine_alone() {
        everywhere(|goroutine, _| {
            let own = COUNTED.with(Rc::clone);
            own.set(goroutine);
            migrate();
            let clones = (0..10).map(|_| own.clone()).collect::<Vec<_>>();
            migrate();
            assert_eq!((Rc::strong_count(&own), own.get()), (12, goroutine));
            drop(clones);
            migrate();
            assert_eq!(Rc::strong_count(&own), 2);
            assert!(COUNTED.with(|rc| Rc::ptr_eq(rc, &own)));
        });
    }

    #[test]
    fn thread_current_is_constant_and_nobody_elses() {
        let (arrive, all) = (csp::WaitGroup::new(), GOROUTINES);
        arrive.add(all as isize);
        let mut ids = in_traffic(GOROUTINES, move |_| {
            let (id, name) = (thread::current().id(), thread::current().name().map(str::to_owned));
            // So that all are there at once.
            arrive.done();
            arrive.wait();
            for _ in 0..ROUNDS {
                migrate();
                assert_eq!(thread::current().id(), id);
                assert_eq!(thread::current().name(), name.as_deref());
            }
            id
        });
        ids.push(thread::current().id());
        let distinct = ids.iter().collect::<std::collections::HashSet<_>>();
        assert_eq!(distinct.len(), ids.len());
    }

    #[test]
    fn unpark_wakes_the_goroutine_whose_thread_it_names() {
        everywhere(|_, _| {
            let (me, unparked) = (thread::current(), Arc::new(AtomicBool::new(false)));
            migrate();
            let waker = {
                let unparked = unparked.clone();
                csp::spawn(move || {
                    unparked.store(true, Ordering::Release);
                    me.unpark();
                })
            };
            while !unparked.load(Ordering::Acquire) {
                thread::park();
            }
            waker.join().unwrap();
        });
    }

    #[test]
    fn parking_in_a_drop_while_unwinding_keeps_the_panic_to_its_goroutine() {
        struct Park(Arc<AtomicUsize>);
        impl Drop for Park {
            fn drop(&mut self) {
                assert!(thread::panicking());
                self.0.fetch_add(1, Ordering::Relaxed);
                migrate();
                // Another panic, caught within the first.
                assert!(catch_unwind(|| resume_unwind(Box::new("inner"))).is_err());
                migrate();
                assert!(thread::panicking());
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let unwinding = Arc::new(AtomicUsize::new(0));
        everywhere(move |goroutine, _| {
            assert!(!thread::panicking());
            let payload = catch_unwind(|| {
                let _outer = Park(unwinding.clone());
                let _inner = Park(unwinding.clone());
                migrate();
                resume_unwind(Box::new(goroutine))
            });
            assert_eq!(payload.unwrap_err().downcast_ref(), Some(&goroutine));
            assert!(!thread::panicking());
            migrate();
            assert!(!thread::panicking());
        });
    }

    #[test]
    fn goroutines_that_do_not_panic_do_not_seem_to() {
        // Half of them are always in the middle of unwinding.
        struct Park;
        impl Drop for Park {
            fn drop(&mut self) {
                (0..ROUNDS).for_each(|_| migrate());
                assert!(thread::panicking());
            }
        }
        in_traffic(GOROUTINES, |goroutine| {
            if goroutine % 2 == 0 {
                catch_unwind(|| {
                    let _park = Park;
                    resume_unwind(Box::new(()))
                })
                .unwrap_err();
            } else {
                for _ in 0..ROUNDS {
                    let mutex = Mutex::new(());
                    let guard = mutex.lock();
                    migrate();
                    assert!(!thread::panicking());
                    drop(guard);
                    // A guard dropped while panicking would have poisoned it.
                    assert!(!mutex.is_poisoned());
                }
            }
        });
    }

    #[test]
    fn std_locks_are_held_across_migrations() {
        let (mutex, rwlock) = (Arc::new(Mutex::new(0)), Arc::new(std::sync::RwLock::new(0)));
        let (total, also) = (mutex.clone(), rwlock.clone());
        // One at a time: whoever waits for such a lock takes an OS thread along.
        let (give, take) = csp::bounded(1);
        give.send(()).unwrap();
        everywhere(move |_, _| {
            take.recv().unwrap();
            let (mut a, mut b) = (mutex.lock().unwrap(), rwlock.write().unwrap());
            migrate();
            *a += 1;
            *b += 1;
            drop((a, b));
            give.send(()).unwrap();
            let reading = rwlock.try_read();
            migrate();
            drop(reading);
        });
        assert_eq!((*total.lock().unwrap(), *also.read().unwrap()), (GOROUTINES * ROUNDS, GOROUTINES * ROUNDS));
    }

    #[test]
    fn hash_maps_keep_their_keys() {
        everywhere(|goroutine, _| {
            let mut map = (0..100).map(|i| (i, goroutine)).collect::<HashMap<_, _>>();
            migrate();
            map.extend((100..200).map(|i| (i, goroutine)));
            let other = map.clone();
            migrate();
            assert!((0..200).all(|i| map.get(&i) == Some(&goroutine) && other.contains_key(&i)));
        });
    }

    #[test]
    fn memory_is_allocated_here_and_freed_there() {
        let (tx, rx) = csp::bounded(GOROUTINES);
        everywhere(move |goroutine, round| {
            let sizes = [1, 24, 100, 1_000, 5_000, 200_000];
            let mut blocks = sizes.map(|size| vec![goroutine as u8; size + round]);
            migrate();
            for block in &mut blocks {
                block.extend_from_within(..);
                assert!(block.iter().all(|&byte| byte == goroutine as u8));
            }
            migrate();
            // Freed by another goroutine.
            tx.send(blocks).unwrap();
            migrate();
            let theirs = rx.recv().unwrap();
            assert!(theirs.iter().all(|block| block.iter().all(|&byte| byte == block[0])));
        });
    }

    #[test]
    fn println_writes_whole_lines() {
        let outcome = in_child(&[], || {
            everywhere(|goroutine, round| {
                println!("\nline {goroutine} {round} of {goroutine}");
                migrate();
            });
        });
        expect_lines(&outcome.expect_success().stdout);
    }

    #[test]
    fn stdout_stays_locked_by_the_goroutine_that_locked_it() {
        let outcome = in_child(&[], || {
            // One at a time: whoever waits for the lock takes an OS thread along.
            let (give, take) = csp::bounded(1);
            give.send(()).unwrap();
            everywhere(move |goroutine, round| {
                take.recv().unwrap();
                let mut stdout = std::io::stdout().lock();
                write!(stdout, "\nline {goroutine} ").unwrap();
                migrate();
                // It is recursive: its owner is known by its thread.
                print!("{round} of ");
                migrate();
                writeln!(stdout, "{goroutine}").unwrap();
                drop(stdout);
                give.send(()).unwrap();
            });
        });
        expect_lines(&outcome.expect_success().stdout);
    }

    fn expect_lines(stdout: &str) {
        let mut lines = stdout.lines().filter(|line| line.starts_with("line ")).collect::<Vec<_>>();
        lines.sort();
        let of = |g| (0..ROUNDS).map(move |r| format!("line {g} {r} of {g}"));
        let mut expected = (0..GOROUTINES).flat_map(of).collect::<Vec<_>>();
        expected.sort();
        assert_eq!(lines, expected);
    }

    #[test]
    fn goroutines_start_threads_and_wait_for_them() {
        everywhere(|goroutine, round| {
            migrate();
            PLAIN.set(goroutine);
            let local = [goroutine; 3];
            let sum = thread::scope(|s| {
                let thread = s.spawn(|| {
                    assert_eq!(PLAIN.get(), 0);
                    local.iter().sum::<usize>()
                });
                migrate();
                thread.join().unwrap()
            });
            assert_eq!(sum, 3 * goroutine);
            assert_eq!(thread::spawn(move || round).join().unwrap(), round);
            assert_eq!(PLAIN.get(), goroutine);
        });
    }

    #[test]
    fn commands_run() {
        in_traffic(4, |goroutine| {
            for _ in 0..5 {
                migrate();
                let output = Command::new("echo").arg(goroutine.to_string()).output().unwrap();
                assert_eq!(output.stdout, format!("{goroutine}\n").as_bytes());
                let mut cat = Command::new("cat");
                let mut child =
                    cat.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
                migrate();
                child.stdin.take().unwrap().write_all(b"through a pipe").unwrap();
                migrate();
                assert_eq!(child.wait_with_output().unwrap().stdout, b"through a pipe");
                assert!(!Command::new("false").status().unwrap().success());
            }
        });
    }

    #[test]
    fn host_names_are_resolved() {
        use std::net::ToSocketAddrs;
        in_traffic(4, |_| {
            for _ in 0..5 {
                let addresses = ("localhost", 80).to_socket_addrs().unwrap();
                migrate();
                assert!(addresses.into_iter().any(|address| address.ip().is_loopback()));
                assert!("no-such-host.invalid:80".to_socket_addrs().is_err());
            }
        });
    }

    #[test]
    fn a_backtrace_ends_at_the_entry_of_the_goroutine() {
        #[inline(never)]
        fn recurse(depth: u32) -> String {
            if depth == 0 {
                let backtrace = std::backtrace::Backtrace::force_capture().to_string();
                return std::hint::black_box(backtrace);
            }
            std::hint::black_box(recurse(depth - 1))
        }
        fn frames(backtrace: &str) -> Vec<&str> {
            // "  12: name" and, below it, "at file:line".
            let name =
                |line: &'_ str| line.trim_start().split_once(": ").is_some_and(|(n, _)| n.parse::<u32>().is_ok());
            backtrace.lines().filter(|line| name(line)).collect()
        }
        let here = |backtrace: &str| {
            let frames = frames(backtrace);
            let own = frames.iter().filter(|frame| frame.contains("recurse")).count();
            assert!(own >= 5, "{backtrace}");
            let last = frames.iter().rposition(|frame| frame.contains("slot_main")).unwrap_or(0);
            // The entry, its start routine, and what there is below that for any thread.
            assert!(last != 0 && frames.len() - last <= if stackful() { 6 } else { 40 }, "{backtrace}");
            assert!(frames.len() < 100, "{backtrace}");
            frames[last..].iter().map(|frame| frame.split_once(": ").unwrap().1.to_owned()).collect::<Vec<_>>()
        };
        // The first one on a new stack, and one after a goroutine that was switched to from others.
        let ends = in_traffic(2, move |_| {
            let first = here(&recurse(5));
            migrate();
            assert_eq!(here(&recurse(5)), first);
            first
        });
        assert!(ends.iter().all(|end| *end == ends[0]), "{ends:?}");
    }
}

mod c {
    use super::*;

    #[test]
    fn errno_is_nobody_elses() {
        // A number that no call gives.
        let own = |goroutine| 10_000 + goroutine as i32;
        everywhere(move |goroutine, _| {
            // SAFETY: the address is that of the caller's errno, by whose constancy this test stands.
            let errno = unsafe { libc::__errno_location() };
            for _ in 0..10 {
                // SAFETY: as above.
                unsafe { errno.write(own(goroutine)) };
                csp::yield_now();
                // SAFETY: no arguments.
                assert_eq!(unsafe { libc::__errno_location() }, errno);
                // SAFETY: as above.
                let after = unsafe { errno.read() };
                // The runtime may have made a call that failed, as any function may.
                assert!(after == own(goroutine) || after < 10_000, "{after} is another goroutine's errno");
            }
            let error = std::fs::File::open("/nonexistent").unwrap_err();
            migrate();
            assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
        });
    }

    #[test]
    fn stdio_formats_and_locks() {
        let outcome = in_child(&[], || {
            unsafe extern "C" {
                static stdout: *mut libc::FILE;
                fn flockfile(file: *mut libc::FILE);
                fn ftrylockfile(file: *mut libc::FILE) -> i32;
                fn funlockfile(file: *mut libc::FILE);
            }
            let (give, take) = csp::bounded(1);
            give.send(()).unwrap();
            everywhere(move |goroutine, round| {
                let mut text = [0_u8; 64];
                // SAFETY: the formats go with their arguments, and the buffer with its length.
                unsafe { libc::snprintf(text.as_mut_ptr().cast(), 64, c"%d %.2f".as_ptr(), goroutine as i32, 1.5_f64) };
                migrate();
                let text = CStr::from_bytes_until_nul(&text).unwrap();
                assert_eq!(text.to_str().unwrap(), format!("{goroutine} 1.50"));

                take.recv().unwrap();
                // SAFETY: calls on the standard output of C. The lock is recursive, and its owner is the identity.
                unsafe {
                    flockfile(stdout);
                    libc::printf(c"\nline %d ".as_ptr(), goroutine as i32);
                    migrate();
                    assert_eq!(ftrylockfile(stdout), 0);
                    libc::printf(c"%d\n".as_ptr(), round as i32);
                    funlockfile(stdout);
                    migrate();
                    let by_another = csp::spawn(|| ftrylockfile(stdout)).join().unwrap();
                    assert_ne!(by_another, 0);
                    funlockfile(stdout);
                    libc::fflush(stdout);
                }
                give.send(()).unwrap();
            });
        });
        let stdout = outcome.expect_success().stdout;
        let lines = stdout.lines().filter_map(|line| line.strip_prefix("line ")).collect::<Vec<_>>();
        let whole = |g: usize| (0..ROUNDS).all(|r| lines.contains(&format!("{g} {r}").as_str()));
        assert!(lines.len() == GOROUTINES * ROUNDS && (0..GOROUTINES).all(whole), "{stdout}");
    }

    #[test]
    fn ctype_and_locales_work() {
        everywhere(|goroutine, _| {
            // SAFETY: plain calls; the locale is freed after it was taken out of use.
            unsafe {
                let c = libc::newlocale(libc::LC_ALL_MASK, c"C".as_ptr(), std::ptr::null_mut());
                assert!(!c.is_null());
                let old = if goroutine % 2 == 0 { libc::uselocale(c) } else { libc::uselocale(std::ptr::null_mut()) };
                migrate();
                assert_eq!(libc::toupper(i32::from(b'a')), i32::from(b'A'));
                assert!(libc::isalpha(i32::from(b'q')) != 0 && libc::isdigit(i32::from(b'q')) == 0);
                let now = libc::uselocale(std::ptr::null_mut());
                assert_eq!(now == c, goroutine % 2 == 0);
                migrate();
                libc::uselocale(old);
                libc::freelocale(c);
            }
        });
    }

    #[test]
    fn fork_makes_a_process_that_can_exit() {
        everywhere(|goroutine, _| {
            migrate();
            // SAFETY: the child calls nothing but `_exit`.
            let pid = unsafe {
                let pid = libc::fork();
                if pid == 0 {
                    libc::_exit(goroutine as i32 + 1);
                }
                pid
            };
            assert!(pid > 0);
            migrate();
            assert_eq!(exit_status(pid), goroutine as i32 + 1);
        });
    }

    #[test]
    fn fork_makes_a_process_that_can_exec() {
        in_traffic(4, |goroutine| {
            let script = CString::new(format!("exit {}", goroutine + 3)).unwrap();
            for _ in 0..5 {
                migrate();
                let argv = [c"sh".as_ptr(), c"-c".as_ptr(), script.as_ptr(), std::ptr::null()];
                // SAFETY: the child calls async-signal-safe functions only; the vector ends with null.
                let pid = unsafe {
                    let pid = libc::fork();
                    if pid == 0 {
                        libc::execv(c"/bin/sh".as_ptr(), argv.as_ptr());
                        libc::_exit(127);
                    }
                    pid
                };
                assert!(pid > 0);
                migrate();
                assert_eq!(exit_status(pid), goroutine as i32 + 3);
            }
        });
    }

    /// Waits for a child process.
    fn exit_status(pid: i32) -> i32 {
        let mut status = 0;
        // SAFETY: the status is written to a local.
        while unsafe { libc::waitpid(pid, &mut status, 0) } == -1 {
            assert_eq!(std::io::Error::last_os_error().kind(), std::io::ErrorKind::Interrupted);
        }
        assert!(libc::WIFEXITED(status), "{status:#x}");
        libc::WEXITSTATUS(status)
    }

    #[test]
    fn libraries_are_loaded_and_unloaded() {
        everywhere(|_, _| {
            // SAFETY: the library is glibc's own, the symbol a function of that type.
            unsafe {
                let library = libc::dlopen(c"libm.so.6".as_ptr(), libc::RTLD_NOW);
                assert!(!library.is_null());
                migrate();
                let cosine = libc::dlsym(library, c"cos".as_ptr());
                assert!(!cosine.is_null());
                let cosine: extern "C" fn(f64) -> f64 = std::mem::transmute(cosine);
                migrate();
                assert_eq!(cosine(0.0), 1.0);
                assert_eq!(libc::dlclose(library), 0);
            }
        });
    }

    #[test]
    fn dlerror_is_the_goroutines_own() {
        everywhere(|goroutine, round| {
            let name = CString::new(format!("libno-such-{goroutine}-{round}.so")).unwrap();
            // SAFETY: the message is read before the next call of that family.
            unsafe {
                assert!(libc::dlopen(name.as_ptr(), libc::RTLD_NOW).is_null());
                migrate();
                let error = CStr::from_ptr(libc::dlerror()).to_str().unwrap();
                assert!(error.contains(name.to_str().unwrap()), "{error}");
            }
        });
    }

    #[test]
    fn pthread_self_is_constant_and_knows_its_stack() {
        everywhere(|_, _| {
            // SAFETY: no arguments.
            let before = unsafe { libc::pthread_self() };
            migrate();
            // SAFETY: the attributes are initialised by the call and destroyed after.
            unsafe {
                assert_eq!(libc::pthread_self(), before);
                let mut attributes = std::mem::MaybeUninit::zeroed();
                let result = libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr());
                // After the stack it asks the kernel for the affinity of a thread that a goroutine does not have.
                assert!(result == 0 || native() && result == libc::ESRCH, "{result}");
                let mut attributes = attributes.assume_init();
                let (mut low, mut size) = (std::ptr::null_mut(), 0);
                assert_eq!(libc::pthread_attr_getstack(&attributes, &mut low, &mut size), 0);
                libc::pthread_attr_destroy(&mut attributes);
                let here = (&raw const size).addr();
                assert!((low.addr()..low.addr() + size).contains(&here));
            }
        });
    }

    #[test]
    fn recursive_and_error_checking_mutexes_know_their_owner() {
        struct Shared(Box<std::cell::UnsafeCell<libc::pthread_mutex_t>>);
        // SAFETY: a mutex of C is there to be shared.
        unsafe impl Send for Shared {}
        // SAFETY: as above.
        unsafe impl Sync for Shared {}
        impl Shared {
            fn new(kind: i32) -> Arc<Self> {
                let mutex = Box::new(std::cell::UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER));
                // SAFETY: the attributes are initialised before use; the mutex is at its final place.
                unsafe {
                    let mut attributes = std::mem::MaybeUninit::uninit();
                    libc::pthread_mutexattr_init(attributes.as_mut_ptr());
                    libc::pthread_mutexattr_settype(attributes.as_mut_ptr(), kind);
                    assert_eq!(libc::pthread_mutex_init(mutex.get(), attributes.as_ptr()), 0);
                }
                Arc::new(Self(mutex))
            }
        }
        everywhere(|_, _| {
            for kind in [libc::PTHREAD_MUTEX_RECURSIVE, libc::PTHREAD_MUTEX_ERRORCHECK] {
                let mutex = Shared::new(kind);
                let other = mutex.clone();
                // SAFETY: calls on a mutex that lives.
                unsafe {
                    assert_eq!(libc::pthread_mutex_lock(mutex.0.get()), 0);
                    migrate();
                    let again = libc::pthread_mutex_lock(mutex.0.get());
                    assert_eq!(again, if kind == libc::PTHREAD_MUTEX_RECURSIVE { 0 } else { libc::EDEADLK });
                    let theirs = csp::spawn(move || {
                        let mutex = other.0.get();
                        (libc::pthread_mutex_trylock(mutex), libc::pthread_mutex_unlock(mutex))
                    });
                    assert_eq!(theirs.join().unwrap(), (libc::EBUSY, libc::EPERM));
                    migrate();
                    if kind == libc::PTHREAD_MUTEX_RECURSIVE {
                        assert_eq!(libc::pthread_mutex_unlock(mutex.0.get()), 0);
                    }
                    assert_eq!(libc::pthread_mutex_unlock(mutex.0.get()), 0);
                    assert_eq!(libc::pthread_mutex_unlock(mutex.0.get()), libc::EPERM);
                }
            }
        });
    }

    #[test]
    fn thread_specific_data_is_the_goroutines_own() {
        let mut key = 0;
        // SAFETY: the key is written to a local; no destructor.
        assert_eq!(unsafe { libc::pthread_key_create(&mut key, None) }, 0);
        everywhere(move |goroutine, _| {
            let own = std::ptr::without_provenance::<libc::c_void>(goroutine + 1);
            // SAFETY: the key was made above, and is never deleted.
            unsafe {
                libc::pthread_setspecific(key, own);
                migrate();
                assert_eq!(libc::pthread_getspecific(key).cast_const(), own);
            }
        });
    }

    #[test]
    fn the_rounding_mode_is_the_goroutines_own() {
        const MODES: [i32; 4] = [0, 0x400, 0x800, 0xc00]; // to nearest, down, up, to zero, on x86-64
        unsafe extern "C" {
            fn fegetround() -> i32;
            fn fesetround(mode: i32) -> i32;
        }
        if !cfg!(target_arch = "x86_64") {
            return;
        }
        everywhere(|goroutine, _| {
            let mode = MODES[goroutine % 4];
            // SAFETY: nothing is computed in floating point before the mode is back to what Rust expects.
            unsafe {
                assert_eq!(fegetround(), 0);
                assert_eq!(fesetround(mode), 0);
                migrate();
                let after = fegetround();
                fesetround(0);
                assert_eq!(after, mode);
            }
        });
        // A goroutine that ends does not pass its mode on to the next one on its stack, nor to its worker.
        // SAFETY: no arguments.
        assert_eq!(unsafe { fegetround() }, 0);
    }

    /// `setuid` and its family make each thread change its credentials, and wait until all have.
    #[test]
    fn credentials_change_while_goroutines_run_and_are_made() {
        in_child(&[], || {
            csp::runtime::set_max_procs(4);
            let traffic = support::Traffic::start();
            let stop = Arc::new(AtomicBool::new(false));
            // All the time there are goroutines that run, that block, and that need new slots; the last stay parked.
            let (open, gate) = csp::bounded::<()>(0);
            let makers = (0..4).map(|_| {
                let (stop, gate) = (stop.clone(), gate.clone());
                csp::spawn(move || {
                    let mut parked = Vec::new();
                    let (most, mut changes) = (support::scaled(200, 20), 0);
                    while !stop.load(Ordering::Relaxed) {
                        if parked.len() < most {
                            let gate = gate.clone();
                            parked.push(csp::spawn(move || gate.recv().unwrap_err()));
                        }
                        csp::yield_now();
                        if changes % 256 == 0 {
                            migrate();
                            // From a goroutine as well.
                            // SAFETY: a plain call.
                            assert_eq!(unsafe { libc::setuid(libc::getuid()) }, 0);
                            thread::spawn(|| ()).join().unwrap();
                        }
                        changes += 1;
                    }
                    parked
                })
            });
            let makers = makers.collect::<Vec<_>>();
            // Until there has been time for every interleaving; the count bounds it, not the clock.
            for _ in 0..50 {
                // SAFETY: plain calls, which change nothing: to what is.
                unsafe {
                    let (uid, gid) = (libc::getuid(), libc::getgid());
                    assert_eq!(libc::setuid(uid), 0);
                    assert_eq!(libc::setgid(gid), 0);
                    assert_eq!(libc::seteuid(uid), 0);
                    assert_eq!(libc::setegid(gid), 0);
                    assert_eq!(libc::setreuid(uid, uid), 0);
                    assert_eq!(libc::setregid(gid, gid), 0);
                    assert_eq!(libc::setresuid(uid, uid, uid), 0);
                    assert_eq!(libc::setresgid(gid, gid, gid), 0);
                    if uid == 0 {
                        let mut groups = [0; 256];
                        let count = libc::getgroups(256, groups.as_mut_ptr());
                        assert_eq!(libc::setgroups(count as usize, groups.as_ptr()), 0);
                    }
                }
            }
            stop.store(true, Ordering::Relaxed);
            let parked = makers.into_iter().flat_map(|maker| maker.join().unwrap()).collect::<Vec<_>>();
            drop((traffic, open));
            for goroutine in parked {
                goroutine.join().unwrap();
            }
        })
        .expect_success();
    }

    #[test]
    fn credentials_that_change_change_for_every_goroutine() {
        // SAFETY: no arguments.
        if unsafe { libc::getuid() } != 0 {
            return; // Only root has any others.
        }
        in_child(&[], || {
            let _traffic = support::Traffic::start();
            // SAFETY: root may.
            csp::spawn(|| assert_eq!(unsafe { libc::setresgid(12_345, 12_345, 0) }, 0)).join().unwrap();
            everywhere(|_, _| {
                // The kernel's own answer, for the thread that happens to run this.
                // SAFETY: no arguments.
                assert_eq!(unsafe { libc::syscall(libc::SYS_getgid) }, 12_345);
                migrate();
            });
        })
        .expect_success();
    }
}

mod crates {
    use super::*;

    #[test]
    fn tokios_runtime_context_follows_the_goroutine() {
        everywhere(|_, _| {
            use tokio::runtime::{Builder, Handle};
            assert!(Handle::try_current().is_err());
            let runtime = Builder::new_current_thread().build().unwrap();
            let guard = runtime.enter();
            for _ in 0..3 {
                migrate();
                assert_eq!(Handle::current().id(), runtime.handle().id());
            }
            let inner = Builder::new_current_thread().build().unwrap();
            let inner_guard = inner.enter();
            migrate();
            assert_eq!(Handle::current().id(), inner.handle().id());
            drop(inner_guard);
            migrate();
            assert_eq!(Handle::current().id(), runtime.handle().id());
            drop(guard);
            assert!(Handle::try_current().is_err());
        });
    }

    #[test]
    fn goroutines_block_on_tokio_tasks_and_tasks_park_goroutines() {
        everywhere(|goroutine, _| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let value = runtime.block_on(async move {
                let task = tokio::spawn(async move {
                    migrate();
                    tokio::task::yield_now().await;
                    goroutine
                });
                migrate();
                task.await.unwrap()
            });
            assert_eq!(value, goroutine);
        });
    }

    #[test]
    fn rayon_takes_goroutines_for_threads_outside_its_pool() {
        use rayon::prelude::*;
        in_traffic(4, |goroutine| {
            for _ in 0..5 {
                migrate();
                let sum = (0..1_000_usize).into_par_iter().map(|i| i * goroutine).sum::<usize>();
                assert_eq!(sum, 499_500 * goroutine);
                assert_eq!(rayon::current_thread_index(), None);
                let (a, b) = rayon::join(|| goroutine, || goroutine + 1);
                migrate();
                assert_eq!(a + 1, b);
            }
        });
    }

    #[test]
    fn rayons_workers_start_goroutines_and_wait_for_them() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let goroutine = || csp::spawn(|| csp::current().is_some()).join().unwrap();
        assert_eq!(pool.join(goroutine, goroutine), (true, true));
    }

    #[test]
    fn rands_generator_is_the_goroutines_own() {
        use rand::RngCore;
        everywhere(|_, _| {
            // An `Rc` to a thread-local, not `Send`: its state would tear if two goroutines shared it.
            let mut rng = rand::rng();
            let numbers = (0..50).map(|i| {
                if i % 10 == 0 {
                    migrate();
                }
                rng.next_u64()
            });
            let mut numbers = numbers.collect::<Vec<_>>();
            numbers.sort();
            numbers.dedup();
            assert_eq!(numbers.len(), 50);
        });
    }

    #[test]
    fn a_reentrant_mutex_belongs_to_the_goroutine_that_locked_it() {
        use parking_lot::ReentrantMutex;
        everywhere(|goroutine, _| {
            let mutex = Arc::new(ReentrantMutex::new(Cell::new(0)));
            let first = mutex.lock();
            first.set(goroutine);
            migrate();
            let second = mutex.try_lock().expect("its owner may lock it again");
            assert_eq!(second.get(), goroutine);
            let other = mutex.clone();
            assert!(csp::spawn(move || other.try_lock().is_none()).join().unwrap());
            migrate();
            drop(second);
            migrate();
            assert!(mutex.is_owned_by_current_thread());
            drop(first);
            let other = mutex.clone();
            assert_eq!(csp::spawn(move || other.try_lock().map(|cell| cell.get())).join().unwrap(), Some(goroutine));
        });
    }
}
