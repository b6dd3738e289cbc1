//! What ThreadSanitizer is told (`--cfg csp_tsan`; see `scripts/sanitizers.sh`).
//!
//! It takes a slot for the thread that it is, and follows it from worker to worker by itself, since what it knows of a
//! thread is in the thread-locals. Two things it cannot see. A switch orders what was done before it with what is done
//! after it: [`Edge`]. And a slot is used by one goroutine after another: each is a [`Fiber`], which a report can name.
//!
//! An edge orders all that was done on a worker before the switch, the doings of unrelated goroutines included. So races
//! between goroutines that take turns on one worker go unseen; those of goroutines that run at once are found.

use std::ffi::{c_char, c_uint, c_void};
use std::num::NonZeroU64;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

unsafe extern "C" {
    fn __tsan_get_current_fiber() -> *mut c_void;
    fn __tsan_create_fiber(flags: c_uint) -> *mut c_void;
    fn __tsan_destroy_fiber(fiber: *mut c_void);
    fn __tsan_switch_to_fiber(fiber: *mut c_void, flags: c_uint);
    fn __tsan_set_fiber_name(fiber: *mut c_void, name: *const c_char);
}

/// Released by the one who leaves for an execution, acquired by that execution when it goes on.
#[derive(Debug, Default)]
pub(crate) struct Edge(AtomicUsize);

impl Edge {
    /// A store, not a read-modify-write: one has the right to resume the execution, and its order alone counts.
    #[inline(always)]
    pub(crate) fn release(&self) {
        self.0.store(1, Ordering::Release);
    }

    #[inline(always)]
    pub(crate) fn acquire(&self) {
        self.0.load(Ordering::Acquire);
    }
}

/// The sanitizer ends the process at 8,128 threads and fibers. Goroutines beyond these run as their slots.
const MOST_FIBERS: usize = 3000;
static FIBERS: AtomicUsize = AtomicUsize::new(0);

/// A goroutine as the sanitizer knows it: a stack of calls, a clock, a name, and where it was made. What its maker did
/// before happens before what it does.
#[derive(Debug)]
pub(crate) struct Fiber(*mut c_void);

/// A fiber that runs, and the slot as which its thread ran before.
#[derive(Debug)]
pub(crate) struct Running {
    fiber: *mut c_void,
    slot: *mut c_void,
}

impl Fiber {
    pub(crate) fn new(id: NonZeroU64, name: Option<&str>) -> Self {
        if FIBERS.fetch_add(1, Ordering::Relaxed) >= MOST_FIBERS {
            FIBERS.fetch_sub(1, Ordering::Relaxed);
            return Self(ptr::null_mut());
        }
        let mut name = format!("goroutine {id} {}", name.unwrap_or_default()).trim_end().replace('\0', "?");
        name.push('\0');
        // SAFETY: plain calls. The name ends with a zero and is copied.
        unsafe {
            let fiber = __tsan_create_fiber(0);
            __tsan_set_fiber_name(fiber, name.as_ptr().cast());
            Self(fiber)
        }
    }

    /// The caller goes on as this fiber. What was done on the slot before happens before what it does: they share the
    /// thread-locals.
    ///
    /// # Safety
    ///
    /// Called once.
    // Inlined: a function that is entered as one fiber and left as another would upset the stacks of calls of both.
    #[inline(always)]
    pub(crate) unsafe fn begin(&self) -> Running {
        // SAFETY: the fiber is current nowhere else.
        unsafe {
            let running = Running { fiber: self.0, slot: __tsan_get_current_fiber() };
            if !running.fiber.is_null() {
                __tsan_switch_to_fiber(running.fiber, 0);
            }
            running
        }
    }
}

impl Running {
    /// The caller goes on as its slot.
    ///
    /// # Safety
    ///
    /// Called where [`Fiber::begin`] was.
    #[inline(always)]
    pub(crate) unsafe fn end(self) {
        if !self.fiber.is_null() {
            // SAFETY: the fiber is current, and is not used again.
            unsafe {
                __tsan_switch_to_fiber(self.slot, 0);
                __tsan_destroy_fiber(self.fiber);
            }
            FIBERS.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
