//! Thread-locals of libraries that are loaded while goroutines run: each goroutine has its own, with its initial value, whether
//! its stack was there before the library or came after it.

#![cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]

mod support;

use std::cell::Cell;
use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use csp::WaitGroup;
use support::{in_child, own_thread_locals, scaled};

/// The library whose thread-locals begin with `initial`. Built here, unless there is a folder of them, as where there is no C
/// compiler (`scripts/glibc.sh`).
fn build(folder: &Path, initial: usize) -> PathBuf {
    let name = format!("lib{initial}.so");
    if let Some(folder) = std::env::var_os("CSP_TEST_LIBRARIES") {
        return Path::new(&folder).join(name);
    }
    let (source, library) = (folder.join("thread_locals.c"), folder.join(name));
    std::fs::write(&source, include_str!("support/thread_locals.c")).unwrap();
    // What Rust links with.
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", &format!("-DINITIAL={initial}"), "-o"])
        .args([&library, &source])
        .status()
        .unwrap();
    assert!(status.success());
    library
}

#[derive(Clone, Copy)]
struct Library {
    in_block: extern "C" fn() -> *mut i64,
    on_demand: extern "C" fn() -> *mut i64,
}

impl Library {
    fn load(path: &Path) -> Self {
        let path = CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: the library runs nothing when it is loaded; the functions have these types.
        unsafe {
            let library = libc::dlopen(path.as_ptr(), libc::RTLD_NOW);
            assert!(!library.is_null(), "{:?}", std::ffi::CStr::from_ptr(libc::dlerror()));
            let function = |name: &std::ffi::CStr| {
                let function = libc::dlsym(library, name.as_ptr());
                assert!(!function.is_null());
                std::mem::transmute::<*mut libc::c_void, extern "C" fn() -> *mut i64>(function)
            };
            Self { in_block: function(c"the_one_in_block"), on_demand: function(c"the_one_on_demand") }
        }
    }

    /// The caller's two thread-locals are as the library says; writes to them.
    fn check(self, initial: i64, own: i64) {
        for place in [(self.in_block)(), (self.on_demand)()] {
            // SAFETY: the caller's own.
            unsafe {
                assert!([initial, own].contains(&*place), "{} is neither {initial} nor {own}", *place);
                *place = own;
            }
        }
    }
}

#[test]
fn a_library_initialises_the_thread_locals_of_every_goroutine() {
    if !own_thread_locals() {
        return;
    }
    in_child(&[("GOMAXPROCS", "4")], || {
        let count = scaled(500, 50);
        let folder = tempfile::tempdir().unwrap();
        let path = build(folder.path(), 77);
        let (open, gate) = csp::bounded::<Library>(0);
        let waiting = WaitGroup::new();
        let start = |first: i64| {
            let handles = (first..first + count).map(|own| {
                let (gate, waiting) = (gate.clone(), waiting.clone());
                waiting.add(1);
                csp::spawn(move || {
                    waiting.done();
                    let library = gate.recv().unwrap();
                    // A slot that another goroutine had before has what that one left there: none of these has ended.
                    for _ in 0..3 {
                        library.check(77, 1000 + own);
                        csp::yield_now();
                    }
                    // Nobody ends before all have looked.
                    waiting.done();
                    waiting.wait();
                })
            });
            handles.collect::<Vec<_>>()
        };
        // Half of them have their stacks before the library is there.
        let mut all = start(0);
        waiting.wait();
        let library = Library::load(&path);
        all.extend(start(count));
        waiting.wait();
        waiting.add(2 * count as isize);
        (0..2 * count).for_each(|_| open.send(library).unwrap());
        all.into_iter().for_each(|handle| handle.join().unwrap());
    })
    .expect_success();
}

#[test]
fn a_library_loaded_while_stacks_are_made_misses_none() {
    if !own_thread_locals() {
        return;
    }
    in_child(&[("GOMAXPROCS", "4")], || {
        static LOADED: AtomicUsize = AtomicUsize::new(0);
        /// As in `scripts/glibc.sh`.
        const LIBRARIES: usize = 24;

        let folder = tempfile::tempdir().unwrap();
        let paths = (0..LIBRARIES).map(|i| build(folder.path(), 100 + i)).collect::<Vec<_>>();
        let (open, gate) = csp::bounded::<Vec<Library>>(0);
        let loader = thread::spawn(move || {
            let load = |path: &PathBuf| {
                let library = Library::load(path);
                LOADED.fetch_add(1, Ordering::Release);
                library
            };
            paths.iter().map(load).collect::<Vec<_>>()
        });
        // Until the last is loaded, more and more goroutines wait.
        let mut all = Vec::new();
        while LOADED.load(Ordering::Acquire) < LIBRARIES && all.len() < scaled(50_000, 500) {
            let gate = gate.clone();
            all.push(csp::spawn(move || {
                let libraries = gate.recv().unwrap();
                let own = -1;
                for (i, library) in libraries.iter().enumerate() {
                    // SAFETY: the caller's own.
                    let value = unsafe { *(library.in_block)() };
                    // Where the slot was used before it has what was left there.
                    assert!(value == 100 + i as i64 || value == own, "{value} instead of {}", 100 + i);
                    library.check(100 + i as i64, own);
                }
            }));
        }
        let libraries = loader.join().unwrap();
        for _ in 0..all.len() {
            open.send(libraries.clone()).unwrap();
        }
        all.into_iter().for_each(|handle| handle.join().unwrap());
    })
    .expect_success();
}

/// With it, all tests here run with identities that are aligned like this.
#[repr(align(1024))]
struct Aligned(Cell<u64>);

thread_local! {
    static ALIGNED: Aligned = const { Aligned(Cell::new(7)) };
}

#[test]
fn thread_locals_with_a_large_alignment_leave_the_bounds_of_stacks_right() {
    if !support::native() {
        return;
    }
    in_child(&[], || {
        let (open, gate) = csp::bounded::<()>(0);
        let bounds = (0..100).map(|_| {
            let gate = gate.clone();
            csp::spawn(move || {
                _ = gate.recv();
                ALIGNED.with(|aligned| {
                    assert_eq!(std::ptr::from_ref(aligned).addr() % 1024, 0);
                    aligned.0.set(aligned.0.get() + 1);
                });
                let mut attr = std::mem::MaybeUninit::uninit();
                let (mut low, mut size) = (std::ptr::null_mut(), 0);
                // SAFETY: the attributes are initialised first. The last of what is asked, the affinity of a kernel thread,
                // is refused here (README), when all else is there.
                unsafe {
                    libc::pthread_attr_init(attr.as_mut_ptr());
                    libc::pthread_getattr_np(libc::pthread_self(), attr.as_mut_ptr());
                    libc::pthread_attr_getstack(attr.as_ptr(), &mut low, &mut size);
                    libc::pthread_attr_destroy(attr.as_mut_ptr());
                }
                (low as usize, size, std::ptr::from_ref(&low).addr())
            })
        });
        let bounds = bounds.collect::<Vec<_>>();
        while csp::runtime::stats().slots < 100 {
            thread::yield_now();
        }
        drop(open);
        for handle in bounds {
            let (low, size, local) = handle.join().unwrap();
            assert!(low.is_multiple_of(4096) && (low..low + size).contains(&local), "{low:x} + {size:x}, {local:x}");
        }
    })
    .expect_success();
}

/// What stands in the process's list of threads, as a debugger finds it, is what glibc goes through: so these are the tests of
/// its links as well. This one is of the way in which most slots are made, where nothing rules that out.
#[test]
fn slots_are_made_without_kernel_threads() {
    let ruled_out = cfg!(csp_tsan) || cfg!(csp_asan) || std::env::var_os("CSP_NO_PATTERN").is_some();
    if !support::native() || ruled_out {
        return;
    }
    in_child(&[], || {
        let (open, gate) = csp::bounded::<()>(0);
        let all = (0..1000).map(|_| {
            let gate = gate.clone();
            csp::spawn(move || gate.recv().is_err())
        });
        let all = all.collect::<Vec<_>>();
        while csp::runtime::stats().slots < 1000 {
            thread::yield_now();
        }
        drop(open);
        assert!(all.into_iter().all(|handle| handle.join().unwrap()));
        let (slots, without) = (csp::runtime::stats().slots, csp::__private::slots_without_kernel_thread());
        assert_eq!(slots, without);
    })
    .expect_success();
}
