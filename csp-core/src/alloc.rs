//! A global allocator that keeps goroutines from having caches of their own.
//!
//! Most allocators keep a cache for each thread. A goroutine is a thread as far as they can tell, so each one that waits
//! with something in its cache holds that memory: tens of kilobytes with some.
//! [`PerWorker`] lets the allocator see the OS thread that the goroutine runs on instead.
//!
//! ```
//! # use csp_core as csp;
//! use std::alloc::System;
//! use csp::alloc::PerWorker;
//!
//! #[global_allocator]
//! static ALLOCATOR: PerWorker<System> = PerWorker::new(System);
//!
//! let boxed = csp::spawn(|| Box::new(42)).join().unwrap();
//! assert_eq!(*boxed, 42);
//! ```

use std::alloc::{GlobalAlloc, Layout};

/// An allocator that calls `A` with the thread-locals of the OS thread, also in a goroutine that has its own.
///
/// It works as `#[global_allocator]` over any allocator that is one itself: `System`, jemalloc, mimalloc. An allocation may
/// be freed in another goroutine or thread than it was made in, as with `A` alone.
///
/// `A` must not wait and must not use this crate, as is so of every allocator there is. What counts or traces allocations by
/// thread-locals of the caller belongs outside, `Tracing<PerWorker<A>>`: within, it sees the worker's.
///
/// Outside goroutines, in the dense mode, where goroutines are OS threads, and under ThreadSanitizer it calls `A` and does
/// nothing else. Where the thread pointer can be changed by a system call alone (no FSGSBASE) it does nothing else either,
/// since that costs more than it is worth. `scripts/allocators.sh` measures what it saves and what it costs.
#[derive(Clone, Copy, Debug, Default)]
pub struct PerWorker<A>(A);

impl<A> PerWorker<A> {
    /// The adapter over `allocator`.
    pub const fn new(allocator: A) -> Self {
        Self(allocator)
    }
}

/// Calls `f` with the thread-locals of the OS thread.
///
/// # Safety
///
/// `f` does not unwind, wait, or use this crate.
#[inline(always)]
unsafe fn on_worker<R, F: FnOnce() -> R>(f: F) -> R {
    // ThreadSanitizer keeps who runs in thread-locals as well, and is told of switches alone.
    #[cfg(all(csp_native, not(csp_tsan)))]
    if let Some(thread_pointer) = foreign::thread_pointer() {
        // SAFETY: the caller's promise. The thread pointer is that of the kernel thread that runs us.
        return unsafe { foreign::call(thread_pointer, f) };
    }
    f()
}

#[cfg(all(csp_native, not(csp_tsan)))]
mod foreign {
    use std::mem::MaybeUninit;

    use crate::context_switch;
    use crate::slot::Slot;

    /// The thread pointer of the worker that runs the caller, if the caller is a goroutine with another one.
    #[inline(always)]
    pub(super) fn thread_pointer() -> Option<usize> {
        let slot = Slot::current()?;
        if !context_switch::native() || !context_switch::thread_pointer_is_cheap() {
            return None;
        }
        // None: a slot in the making, on its own kernel thread.
        Some(slot.worker_or_none()?.thread_pointer())
    }

    /// # Safety
    ///
    /// `thread_pointer` is that of the kernel thread that runs this. `f` does not unwind, wait, or use this crate.
    #[inline]
    pub(super) unsafe fn call<R, F: FnOnce() -> R>(thread_pointer: usize, f: F) -> R {
        struct Call<F, R> {
            f: Option<F>,
            result: MaybeUninit<R>,
        }

        extern "C" fn run<F: FnOnce() -> R, R>(call: *mut Call<F, R>) {
            // SAFETY: the call is in the frame of the caller, which waits.
            let call = unsafe { &mut *call };
            if let Some(f) = call.f.take() {
                call.result.write(f());
            }
        }

        let mut call = Call { f: Some(f), result: MaybeUninit::uninit() };
        let run: extern "C" fn(*mut Call<F, R>) = run::<F, R>;
        // SAFETY: the caller's promise. `run` takes one pointer, and has written the result when it returns.
        unsafe {
            context_switch::call_with_thread_pointer(thread_pointer, run as usize, (&raw mut call) as usize, 0, 0);
            call.result.assume_init()
        }
    }
}

// SAFETY: all of it is `A`'s doing. Which thread's thread-locals it uses is no part of its contract, but that these do not
// change while it runs: a goroutine changes threads only where it waits, and `A` does not. Allocators neither unwind nor
// wait, nor may they use this crate.
unsafe impl<A: GlobalAlloc> GlobalAlloc for PerWorker<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { on_worker(|| self.0.alloc(layout)) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { on_worker(|| self.0.dealloc(ptr, layout)) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { on_worker(|| self.0.alloc_zeroed(layout)) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { on_worker(|| self.0.realloc(ptr, layout, new_size)) }
    }
}
