//! Stacks of the `generator` crate: the dense mode where there is no switch of our own.
//!
//! A generator can be resumed, and yields to the one who resumed it. So to get from one to another, the running one
//! leaves word who is next, and yields to the worker's own stack, which resumes that one.

use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;
use std::panic::{self, AssertUnwindSafe};
use std::ptr;

use generator::{Generator, Gn, Scope};

use super::Execution;

type Yielding = Scope<'static, 'static, (), ()>;

thread_local! {
    /// Who is next on this thread.
    static NEXT: Cell<*const Execution> = const { Cell::new(ptr::null()) };
}

pub(crate) struct Generated {
    generator: UnsafeCell<Generator<'static, (), ()>>,
    /// What yields, which lies on the generator's own stack. Null before it first runs.
    scope: Cell<*mut Yielding>,
    /// How large its stack is, in bytes.
    size: usize,
}

/// A pointer that goes to the thread that first runs the generator.
struct Sent<T>(T);

// SAFETY: what is sent is a record of this crate, which is never freed and shared by its own rules.
unsafe impl<T> Send for Sent<T> {}

impl<T> Sent<T> {
    fn take(self) -> T {
        self.0
    }
}

impl Generated {
    /// A stack of `size` bytes, on which `run(arg)` is called when it is first resumed, which does not return.
    pub(crate) fn leak(size: usize, run: fn(*const ()), arg: *const ()) -> &'static Self {
        /// Frees the record where there is no stack for it.
        struct Free(*mut MaybeUninit<Generated>);

        impl Drop for Free {
            fn drop(&mut self) {
                // SAFETY: from a box, and nobody else has it where this is dropped.
                drop(unsafe { Box::from_raw(self.0) });
            }
        }

        let place = Free(Box::into_raw(Box::<Self>::new_uninit()));
        let sent = Sent((place.0.cast::<Self>(), arg));
        let generator = Gn::new_scoped_opt(size / size_of::<usize>(), move |mut scope: Scope<'_, 'static, (), ()>| {
            let (this, arg) = sent.take();
            // SAFETY: the record is complete before anybody can resume it. The scope stays here: `run` does not return.
            unsafe { (*this).scope.set((&raw mut scope).cast()) };
            run(arg);
        });
        let record = Self { generator: UnsafeCell::new(generator), scope: Cell::new(ptr::null_mut()), size };
        let place = std::mem::ManuallyDrop::new(place).0;
        // SAFETY: the place is ours, and stays for ever.
        unsafe {
            (*place).write(record);
            &*place.cast::<Self>()
        }
    }

    /// Resumes it, and says who is next when it has left its stack.
    ///
    /// # Safety
    ///
    /// It is suspended, and the caller alone has the right to resume it. The caller is on a thread's own stack.
    pub(crate) unsafe fn resume(&self) -> *const Execution {
        // SAFETY: the caller's promise.
        let resumed = panic::catch_unwind(AssertUnwindSafe(|| unsafe { (*self.generator.get()).resume() }));
        if resumed.is_err() {
            // What the goroutine does cannot come out here: it is the crate's way to say that a stack overflowed.
            eprintln!(
                "fatal error: goroutine stack overflow. Give it more: go!(stack = bytes, ..), or Builder::stack_size"
            );
            std::process::abort();
        }
        NEXT.get()
    }

    /// Leaves its stack for `next`. Returns when somebody resumes it.
    ///
    /// # Safety
    ///
    /// The caller runs on it. `next` is suspended, and the caller alone has the right to resume it.
    pub(crate) unsafe fn hand_over(&self, next: &Execution) {
        // The crate leaves whatever generator runs on top: from within another one, that one would be left instead.
        let (here, top) = ((&raw const next).addr(), self.scope.get().addr());
        if here > top || top - here > self.size {
            eprintln!(
                "fatal error: a goroutine waits on the stack of a generator of its own, which CSP_BACKEND=generator does not \
                 allow"
            );
            std::process::abort();
        }
        NEXT.set(next);
        // SAFETY: set when it first ran; the scope is in the frame below ours. No thread-local of ours is used after it.
        unsafe { (*self.scope.get()).yield_(()) };
    }
}

impl std::fmt::Debug for Generated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Generated")
    }
}
