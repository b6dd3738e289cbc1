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

#[cfg(csp_magazines)]
pub(crate) mod magazine;

#[cfg(not(csp_magazines))]
use std::alloc::{GlobalAlloc, Layout};

/// An allocator that calls `A` with the thread-locals of the OS thread, also in a goroutine that has its own.
///
/// It works as `#[global_allocator]` over any allocator that is one itself: `System`, jemalloc, mimalloc. An allocation may
/// be freed in another goroutine or thread than it was made in, as with `A` alone.
///
/// To change thread-locals takes longer than to allocate. So each worker keeps blocks of up to 512 bytes at hand that
/// goroutines have freed, 32 of a size or 4 KiB at most, and 64 KiB in all; and asks `A` for several at a time.
/// `scripts/allocators.sh` measures what that saves and costs. Of several adapters in a program the first that is used on a
/// worker has that worker's; the others ask `A` each time. So make it a `static`, and one.
///
/// # What `A` has to be
///
/// `A` must not wait and must not use this crate, as is so of every allocator there is. What counts or traces allocations
/// belongs outside, `Tracing<PerWorker<A>>`: within, it sees the worker's thread-locals, and not every allocation. For the same
/// reason an arena that is reset, or resets itself, once all it gave out is freed cannot be `A`: blocks at hand are not freed, and
/// are given out again. In a signal handler that interrupts a goroutine the adapter must not be used, even if `A` may be.
///
/// `A` gets requests of up to 512 bytes with their sizes rounded up to a multiple of 8. Outside goroutines and in the dense
/// mode, where goroutines are OS threads, the adapter calls it and does nothing else; and so, with nothing rounded, under a
/// sanitizer, which is to see each allocation. Where the thread pointer can be changed by a system call alone (no FSGSBASE)
/// that would cost more than it is worth, and the adapter calls `A` from goroutines as if it were not there.
#[derive(Debug, Default)]
pub struct PerWorker<A> {
    inner: A,
    #[cfg(csp_magazines)]
    id: magazine::Id,
}

impl<A> PerWorker<A> {
    /// The adapter over `allocator`.
    pub const fn new(allocator: A) -> Self {
        Self {
            inner: allocator,
            #[cfg(csp_magazines)]
            id: magazine::Id::new(),
        }
    }
}

/// An adapter of its own, over a clone of the allocator.
impl<A: Clone> Clone for PerWorker<A> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone())
    }
}

#[cfg(csp_magazines)]
mod cached {
    use std::alloc::{GlobalAlloc, Layout};
    use std::mem::MaybeUninit;
    use std::ptr;

    use super::PerWorker;
    use super::magazine::{Class, Magazine};
    use crate::context_switch;
    use crate::sched::worker::Worker;
    use crate::slot::Slot;

    /// The worker that runs the caller, if the caller is a goroutine with other thread-locals than the worker's.
    #[inline(always)]
    fn foreign_worker() -> Option<&'static Worker> {
        let slot = Slot::current()?;
        if !context_switch::native() || !context_switch::thread_pointer_is_cheap() {
            return None;
        }
        // None: a slot in the making, on its own kernel thread.
        slot.worker_or_none()
    }

    /// Calls `f` with the thread-locals of the OS thread.
    ///
    /// # Safety
    ///
    /// `f` does not unwind, wait, or use this crate.
    #[inline]
    unsafe fn on_worker<R, F: FnOnce() -> R>(f: F) -> R {
        match foreign_worker() {
            // SAFETY: the caller's promise.
            Some(worker) => unsafe { call(worker, f) },
            None => f(),
        }
    }

    /// # Safety
    ///
    /// `worker` runs the caller. `f` does not unwind, wait, or use this crate.
    #[inline]
    unsafe fn call<R, F: FnOnce() -> R>(worker: &Worker, f: F) -> R {
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
        // SAFETY: the caller's promise; the thread pointer is that of the kernel thread that runs this. `run` takes one
        // pointer, and has written the result when it returns.
        unsafe {
            let at = (&raw mut call) as usize;
            context_switch::call_with_thread_pointer(worker.thread_pointer(), run as usize, at, 0, 0);
            call.result.assume_init()
        }
    }

    impl<A> PerWorker<A> {
        /// What the worker has at hand, unless that is another adapter's.
        #[inline(always)]
        fn magazine<'w>(&self, worker: &'w Worker) -> Option<&'w Magazine> {
            Some(&worker.magazine).filter(|magazine| magazine.belongs_to(&self.id))
        }
    }

    impl<A: GlobalAlloc> PerWorker<A> {
        /// Blocks of a class are `A`'s allocations with the layout of that class, wherever they are made and freed.
        #[inline]
        fn alloc_block(&self, class: Class) -> *mut u8 {
            let Some(worker) = foreign_worker() else {
                // SAFETY: the layout has a size.
                return unsafe { self.inner.alloc(class.layout()) };
            };
            let magazine = self.magazine(worker);
            let at_hand = magazine.map_or(ptr::null_mut(), |magazine| magazine.take(class));
            if at_hand.is_null() { self.alloc_batch(class, worker, magazine) } else { at_hand }
        }

        /// Gets one block, and some for the magazine.
        #[cold]
        #[inline(never)]
        fn alloc_batch(&self, class: Class, worker: &Worker, magazine: Option<&Magazine>) -> *mut u8 {
            let alloc = || {
                // SAFETY: the layout has a size.
                let one = || unsafe { self.inner.alloc(class.layout()) };
                let first = one();
                if let Some(magazine) = magazine
                    && !first.is_null()
                {
                    for _ in 1..class.batch() {
                        let block = one();
                        if block.is_null() {
                            break;
                        }
                        // SAFETY: just allocated, for the magazine, which is ours.
                        if unsafe { magazine.put(class, block) } {
                            break;
                        }
                    }
                }
                first
            };
            // SAFETY: the worker runs us. Allocators neither unwind nor wait, nor may they use this crate.
            unsafe { call(worker, alloc) }
        }

        /// # Safety
        ///
        /// The block is of that class, and nobody's any more.
        #[inline]
        unsafe fn free_block(&self, class: Class, block: *mut u8) {
            let Some(worker) = foreign_worker() else {
                // SAFETY: the caller's promise.
                return unsafe { self.inner.dealloc(block, class.layout()) };
            };
            // SAFETY: the caller's promise; the magazine is ours.
            let too_many = self.magazine(worker).map(|magazine| unsafe { magazine.put(class, block) });
            match too_many {
                Some(false) => {}
                // SAFETY: the caller's promise. Where there is no magazine, the block is still the caller's.
                _ => unsafe { self.free_batch(class, worker, too_many.is_none().then_some(block)) },
            }
        }

        /// Frees `block`, or some from the magazine where that has taken it.
        ///
        /// # Safety
        ///
        /// `worker` runs the caller; the block is of that class, and nobody's any more.
        #[cold]
        #[inline(never)]
        unsafe fn free_batch(&self, class: Class, worker: &Worker, block: Option<*mut u8>) {
            // SAFETY: what is in the magazine is ours, and nobody's any more; the caller's promise about the block.
            let free = |block, class: Class| unsafe { self.inner.dealloc(block, class.layout()) };
            // SAFETY: the worker runs us. Allocators neither unwind nor wait, nor may they use this crate.
            unsafe {
                call(worker, || match block {
                    Some(block) => free(block, class),
                    None => worker.magazine.take_surplus(class, free),
                });
            }
        }
    }

    // SAFETY: all of it is `A`'s doing. Which thread's thread-locals it uses is no part of its contract, but that these do not
    // change while it runs: a goroutine changes threads only where it waits, and `A` does not. Allocators neither unwind nor
    // wait, nor may they use this crate. A small allocation is a block of the class of its layout, which is large enough and
    // aligned, and it is freed as such; blocks in a magazine are this adapter's, and nobody else's.
    unsafe impl<A: GlobalAlloc> GlobalAlloc for PerWorker<A> {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            match Class::of(layout) {
                Some(class) => self.alloc_block(class),
                // SAFETY: the caller's promise.
                None => unsafe { on_worker(|| self.inner.alloc(layout)) },
            }
        }

        unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
            match Class::of(layout) {
                // SAFETY: the caller's promise.
                Some(class) => unsafe { self.free_block(class, ptr) },
                // SAFETY: the caller's promise.
                None => unsafe { on_worker(|| self.inner.dealloc(ptr, layout)) },
            }
        }

        unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
            let Some(class) = Class::of(layout) else {
                // SAFETY: the caller's promise.
                return unsafe { on_worker(|| self.inner.alloc_zeroed(layout)) };
            };
            let block = self.alloc_block(class);
            if !block.is_null() {
                // SAFETY: a block of the class has room for what is in the class.
                unsafe { block.write_bytes(0, layout.size()) };
            }
            block
        }

        unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
            // SAFETY: the caller promises that the size is a layout's.
            let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
            match (Class::of(layout), Class::of(new_layout)) {
                (Some(old), Some(new)) if old == new => ptr,
                // SAFETY: the caller's promise; a block is `A`'s allocation with the layout of its class.
                (Some(old), Some(new)) if foreign_worker().is_none() => unsafe {
                    self.inner.realloc(ptr, old.layout(), new.layout().size())
                },
                // SAFETY: the caller's promise.
                (None, None) => unsafe { on_worker(|| self.inner.realloc(ptr, layout, new_size)) },
                // SAFETY: as `alloc` and `dealloc`; the new allocation has room for as much as is copied, and so had the old.
                _ => unsafe {
                    let new = self.alloc(new_layout);
                    if !new.is_null() {
                        ptr.copy_to_nonoverlapping(new, layout.size().min(new_size));
                        self.dealloc(ptr, layout);
                    }
                    new
                },
            }
        }
    }
}

// SAFETY: `A`'s.
#[cfg(not(csp_magazines))]
unsafe impl<A: GlobalAlloc> GlobalAlloc for PerWorker<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { self.inner.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.inner.dealloc(ptr, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { self.inner.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { self.inner.realloc(ptr, layout, new_size) }
    }
}
